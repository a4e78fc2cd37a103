"""
Daily reports on TLS, to the domains that ask for them.

Arrives: results of sessions, counted by those who deliver. Leaves: rows by day; once the day is over, one report for each domain: by mail
through Gatepost itself, signed, or by HTTPS.
A report is claimed in the database before it is sent, and its mail has an idempotency key: whichever process sends it, and however
often one dies while sending, a domain gets one mail. Reports are spread over some hours, each domain always at the same moment.
Mail with reports goes out even where TLS fails, since that may be what it tells of (RFC 8460 §3, RFC 8689 §4.2.2).
Standards: RFC 8460. Not here: what is counted (egress.smtp.tls_results), the report's form (wire.tls_report), the SQL (store.tls_reports).
Bugs: an HTTPS receiver may get a report twice when the process dies between its answer and the note of it; the report's id is the same.
"""

import asyncio
import base64
import datetime as dt
import gzip
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from gatepost.clock import DAY, MINUTE, Clock, Instant
from gatepost.domain.access import KeyMode, Principal, PrincipalKind
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, RawSubmission
from gatepost.domain.tenant import Caller
from gatepost.mime.compose import date_text
from gatepost.net.dns import AddressAnswer, Addresses, MxAnswer, NoAddresses, Resolver, ResolverFailed, TextResolver, Texts
from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest
from gatepost.observe import maillog
from gatepost.policy.quota import day_of
from gatepost.settings import TlsReports as Options
from gatepost.store import tls_reports
from gatepost.store.engine import Engine
from gatepost.store.tls_reports import Claim
from gatepost.tenants.directory import Directory
from gatepost.wire.tls_report import Reporter, build_report, file_name, find_places, mail_address, report_id

STEP_S: Final = 60.0
"""How often a process looks for reports to send."""
_CLAIM: Final = 20 * MINUTE
"""A report that was not sent in this time is free again: its process died, or it could not be sent yet."""
_TRIES: Final = 24
_AT_ONCE: Final = 100
_LOOK_BACK: Final = 2 * DAY
_RESULTS_KEPT: Final = 8 * DAY
_REPORTS_KEPT: Final = 60 * DAY
_TIMEOUT_S: Final = 30.0
_MAX_ANSWER: Final = 64 * 1024

Submit = Callable[[Caller, RawSubmission, str], Awaitable[None]]
"""Accepts a finished message under an idempotency key; raises `Refused`."""

IsAllowed = Callable[[str], bool]
"""Whether an IP address may be connected to."""


class ReportResolver(Resolver, TextResolver, Protocol):
    """Answers about those who want reports."""


def is_public(address: str) -> bool:
    """Tell whether an address is on the public internet: a stranger's record must not lead us into our own network."""
    return ipaddress.ip_address(address).is_global


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A resolver that leaves out addresses which must not be connected to, so that no second answer can lead there either."""

    resolver: Resolver
    is_allowed: IsAllowed

    async def mx(self, domain: str) -> MxAnswer:
        """Ask as usual."""
        return await self.resolver.mx(domain)

    async def addresses(self, host: str) -> AddressAnswer:
        """Ask, and leave out what must not be."""
        answer = await self.resolver.addresses(host)
        if not isinstance(answer, Addresses):
            return answer
        allowed = tuple(one for one in answer.addresses if self.is_allowed(one))
        return Addresses(allowed) if allowed else NoAddresses()


@dataclass(frozen=True, slots=True)
class _Report:
    """One report, ready to be sent."""

    claim: Claim
    identifier: str
    file_name: str
    packed: bytes


class TlsReports:
    """Sends reports; one in each door process, and each report is sent by one of them."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        options: Options,
        directory: Directory,
        resolver: ReportResolver,
        submit: Submit,
        owner: str,
        is_allowed: IsAllowed = is_public,
        ca_file: str = "",
    ) -> None:
        """
        Set up without asking anything.

        Args:
            owner: Name of this process, new for every start.
            is_allowed: Which addresses reports may be posted to.
            ca_file: As for `HttpClient`.

        Raises:
            ValueError: `tls_reports.sender` is no address.
        """
        try:
            self._sender = parse_address(options.sender)
        except InvalidAddress as error:
            raise ValueError(f"tls_reports.sender: {error}") from error
        self._engine = engine
        self._clock = clock
        self._options = options
        self._directory = directory
        self._texts: TextResolver = resolver
        self._submit = submit
        self._owner = owner
        allowed = _Allowed(resolver, is_allowed)
        self._http = HttpClient(timeout_s=_TIMEOUT_S, max_bytes=_MAX_ANSWER, ca_file=ca_file, resolver=allowed)

    async def step(self) -> int:
        """
        Send the reports whose time has come, as far as no other process does; return how many were claimed.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        before = now - _CLAIM
        today, since = day_of(now), day_of(now - _LOOK_BACK)
        waiting = await self._engine.read(lambda conn: tls_reports.waiting(conn, today, since, before, 10 * _AT_ONCE))
        due = [one for one in waiting if self._due_at(*one) <= now][:_AT_ONCE]
        claimed = 0
        for day, domain in due:
            claim = await self._claim(day, domain, now, before)
            if claim is not None:
                claimed += 1
                await self._send(claim)
        return claimed

    async def forget(self) -> None:
        """
        Drop what is too old to be of use.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        results, reports = day_of(now - _RESULTS_KEPT), day_of(now - _REPORTS_KEPT)
        await self._engine.write(lambda conn: tls_reports.forget(conn, results, reports))

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    async def _claim(self, day: str, domain: str, now: Instant, before: Instant) -> Claim | None:
        return await self._engine.write(lambda conn: tls_reports.claim(conn, day, domain, self._owner, now, before))

    def _due_at(self, day: str, domain: str) -> Instant:
        spread = self._options.spread_s * 1000
        chance = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:4], "big") % spread if spread else 0
        return _midnight(day) + DAY + chance

    async def _send(self, claim: Claim) -> None:
        answer = await self._texts.txt(f"_smtp._tls.{claim.domain}")
        if isinstance(answer, ResolverFailed):
            await self._finish(claim, [], [answer.detail])
            return
        places = find_places(answer.texts) if isinstance(answer, Texts) else ()
        if not places:
            await self._note(claim, "unwanted", [], "")
            return
        report = await self._build(claim)
        results = await asyncio.gather(*[self._deliver(report, place) for place in places])
        sent = [place for place, trouble in zip(places, results, strict=True) if trouble is None]
        await self._finish(claim, sent, [trouble for trouble in results if trouble is not None])

    async def _finish(self, claim: Claim, sent: Sequence[str], troubles: Sequence[str]) -> None:
        detail = "; ".join(troubles)[:1_000]
        if sent:
            await self._note(claim, "sent", sent, detail)
        elif claim.tries >= _TRIES:
            maillog.trouble("a TLS report could not be sent", domain=claim.domain, day=claim.day, error=detail)
            await self._note(claim, "failed", [], detail)
        else:  # it stays claimed, and is free again when the claim is over
            await self._note(claim, tls_reports.CLAIMED, [], detail)

    async def _note(self, claim: Claim, state: str, sent: Sequence[str], detail: str) -> None:
        await self._engine.write(lambda conn: tls_reports.finish(conn, claim, self._owner, state, sent, detail))

    async def _build(self, claim: Claim) -> _Report:
        counted = await self._engine.read(lambda conn: tls_reports.of(conn, claim.day, claim.domain))
        sender = self._sender
        reporter = Reporter(organization=self._options.organization or sender.domain, contact=self._options.contact or str(sender))
        identifier = report_id(claim.day, claim.domain, sender.domain)
        packed = gzip.compress(build_report(reporter, claim.day, claim.domain, identifier, counted), mtime=0)
        return _Report(claim, identifier, file_name(claim.day, claim.domain, sender.domain, _midnight(claim.day) // 1000), packed)

    async def _deliver(self, report: _Report, place: str) -> str | None:
        """Send a report to one place; return what went wrong."""
        address = mail_address(place)
        return await (self._post(report, place) if address is None else self._mail(report, address))

    async def _post(self, report: _Report, url: str) -> str | None:
        host = _host_of(url)
        if host is None:
            return f"{url[:200]} is not asked: reports go to names on the public internet"
        request = HttpRequest(method="POST", url=url, headers={"Content-Type": "application/tlsrpt+gzip"}, body=report.packed)
        try:
            answer = await self._http.ask(request)
        except HttpFault as error:
            return str(error)
        return None if answer.status // 100 == 2 else f"{host} answered {answer.status}"

    async def _mail(self, report: _Report, text: str) -> str | None:
        try:
            receiver = parse_address(text)
        except InvalidAddress as error:
            return f"{text[:200]}: {error}"
        tenant = self._directory.tenant_named(self._options.tenant)
        if tenant is None:
            return f"tls_reports.tenant: there is no tenant {self._options.tenant}"
        if not self._directory.signing_keys(tenant.id, self._sender.domain):
            return f"{self._sender.domain} has no active DKIM key, and reports must be signed"
        principal = Principal(id="tls_reports", kind=PrincipalKind.LOCAL, tenant_id=tenant.id, name="TLS reports", mode=KeyMode.LIVE)
        caller = Caller(principal=principal, peer="", request_id=f"tls-report {report.identifier}")
        submission = RawSubmission(
            envelope_from=self._sender,
            recipients=(EnvelopeRecipient(address=receiver),),
            content=_message(report, self._sender, receiver, self._clock.now()),
        )
        try:
            await self._submit(caller, submission, f"tls-report/{report.identifier}/{receiver}"[:255])
        except Refused as error:
            return f"the mail to {receiver.domain} was not accepted: {error.code}"
        return None


def _message(report: _Report, sender: Address, receiver: Address, now: Instant) -> bytes:
    """Write the mail that carries a report (RFC 8460 §5.3)."""
    domain, boundary = report.claim.domain, "report-" + hashlib.sha256(report.identifier.encode()).hexdigest()[:24]
    packed = base64.encodebytes(report.packed).decode().replace("\n", "\r\n")
    lines = [
        f"From: <{sender}>",
        f"To: <{receiver}>",
        f"Date: {date_text(now // 1000)}",
        f"Subject: Report Domain: {domain}",
        f" Submitter: {sender.domain}",
        f" Report-ID: <{report.identifier}>",
        f"Message-ID: <{hashlib.sha256(f'{report.identifier} {receiver}'.encode()).hexdigest()[:32]}@{sender.domain}>",
        f"TLS-Report-Domain: {domain}",
        f"TLS-Report-Submitter: {sender.domain}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt"; boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is a report about TLS in mail to {domain} on {report.claim.day} (RFC 8460).",
        "",
        f"--{boundary}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{report.file_name}"',
        "",
        f"{packed}--{boundary}--",
        "",
    ]
    return "\r\n".join(lines).encode()


def _host_of(url: str) -> str | None:
    """Return the name that an https URL leads to; None where it is none, or an IP address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme != "https" or "." not in host or ":" in host or host.replace(".", "").isdigit() or parts.username is not None:
        return None
    return host


def _midnight(day: str) -> Instant:
    year, month, date = map(int, day.split("-"))
    return int(dt.datetime(year, month, date, tzinfo=dt.UTC).timestamp()) * 1000
