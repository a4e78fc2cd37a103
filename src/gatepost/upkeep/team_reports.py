"""
Sends reports to senders' teams by mail, through Gatepost itself: daily digests, the weekly report.

Arrives: the clock, subscriptions. Leaves: mail in the queue like anybody's, from `reports.sender`; rows that say what became of each.
A report is claimed in the database before it is sent, and its mail has an idempotency key: whichever process sends it, and however often
one dies while sending, it goes out once. A claim is given up before the key is forgotten: rather no report than two.
After a time without a running gateway only the newest period is told of.
Not here: who gets which (tenants.team_reports), when (policy.report_periods), what it says (policy.team_letters) and how it looks
(mime.team_letter).
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gatepost.clock import HOUR, MINUTE, Clock, Instant
from gatepost.domain.access import GATEWAY, ROLE_SCOPES, KeyMode, Principal, PrincipalKind, Scope, widened
from gatepost.domain.address import Address, InvalidAddress, Mailbox, parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import Steering, Submission
from gatepost.domain.team_report import ReportSubscription, TeamLetter
from gatepost.domain.tenant import Caller, Tenant
from gatepost.mime.team_letter import as_html, as_text
from gatepost.observe import maillog, metrics
from gatepost.policy.report_periods import Period, latest, next_due
from gatepost.policy.team_letters import write
from gatepost.settings import Reports as Options
from gatepost.store import people, team_reports, tenants
from gatepost.store.engine import Engine
from gatepost.store.team_reports import Claim
from gatepost.tenants.directory import Directory
from gatepost.tenants.team_reports import end_for_lack_of_right, unsubscribe_path
from gatepost.upkeep import report_facts

STEP_S: Final = 30.0
"""How often a process looks for reports to send."""
TAG: Final = "gatepost-report"
_CLAIM: Final = 10 * MINUTE
"""A report that was not sent in this time is free again: its process died, or it could not be sent yet."""
_GIVE_UP: Final = 12 * HOUR
"""Idempotency keys are kept for 24 hours: until then a second try cannot become a second mail."""
_AT_ONCE: Final = 50

Submit = Callable[[Caller, Submission, str], Awaitable[str]]
"""Accepts a message under an idempotency key, returns its id; raises `Refused`."""


@dataclass(frozen=True, slots=True)
class _Due:
    one: ReportSubscription
    claim: Claim
    period: Period


class TeamReportSending:
    """The loop's work; one in each door process, and each report is sent by one of them."""

    def __init__(
        self, *, engine: Engine, clock: Clock, options: Options, directory: Directory, submit: Submit, owner: str, pages: str = ""
    ) -> None:  # fmt: skip
        """
        Set up without asking anything.

        Args:
            owner: Name of this process, new for every start.
            pages: Address of the gateway's pages as people outside know it; without one mail has no link in it.

        Raises:
            ValueError: `reports.sender` is no address.
        """
        try:
            self._sender: Address = parse_address(options.sender)
        except InvalidAddress as error:
            raise ValueError(f"reports.sender: {error}") from error
        self._engine = engine
        self._clock = clock
        self._options = options
        self._directory = directory
        self._submit = submit
        self._owner = owner
        self._pages = pages.rstrip("/")

    async def step(self) -> int:
        """
        Send the reports whose time has come, as far as no other process does; return how many were claimed.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        claimed = 0
        for one in await self._engine.read(lambda conn: team_reports.due(conn, now, _AT_ONCE)):
            due = await self._claim(one, now)
            if due is not None:
                claimed += 1
                await self._send(due)
        for subscription_id, period in await self._engine.read(lambda conn: team_reports.abandoned(conn, now - _CLAIM, _AT_ONCE)):
            due = await self._take_over(subscription_id, period, now)
            if due is not None:
                claimed += 1
                await self._send(due)
        return claimed

    async def _claim(self, one: ReportSubscription, now: Instant) -> _Due | None:
        period, following = latest(one, now), next_due(one, now)

        def work(conn: Connection) -> Claim | None:
            if one.person_id is not None and not _may_still_read(conn, one):
                end_for_lack_of_right(conn, one, now, GATEWAY)
                return None
            # due before it was asked for: whoever subscribes on Tuesday gets no report of the week before
            if period.end <= one.told_until or period.due_at <= one.created_at:
                team_reports.pass_over(conn, one, following)
                return None
            return team_reports.claim(conn, one, period.name, self._owner, now=now, next_at=following, until=period.end)

        claim = await self._engine.write(work)
        return None if claim is None else _Due(one, claim, period)

    async def _take_over(self, subscription_id: str, name: str, now: Instant) -> _Due | None:
        claim = await self._engine.write(
            lambda conn: team_reports.claim_again(conn, subscription_id, name, self._owner, now, now - _CLAIM)
        )  # fmt: skip
        if claim is None:
            return None
        one = await self._engine.read(lambda conn: team_reports.get(conn, subscription_id))
        period = None if one is None else latest(one, now)
        if one is None or one.ended_at is not None or period is None or period.name != name or now - claim.first_at >= _GIVE_UP:
            await self._finish(claim, one, "failed", None, "it could not be sent in time")
            return None
        return _Due(one, claim, period)

    async def _send(self, due: _Due) -> None:
        one = due.one
        try:
            found = await self._engine.read(lambda conn: self._written(conn, due))
            if found is None:
                await self._finish(due.claim, one, "empty", None, "there was nothing to tell")
                return
            letter, path = found
            message_id = await self._mail(due, letter, path)
        except InvalidAddress as error:
            await self._finish(due.claim, one, "failed", None, str(error))
            return
        except Refused as refusal:
            # it stays claimed, and is tried again when the claim is over
            await self._note(due.claim, f"{refusal.code}: {refusal.detail}")
            return
        except Exception as error:
            maillog.crashed("team report", error, subscription_id=one.id)
            raise
        await self._finish(due.claim, one, "sent", message_id, "")

    def _written(self, conn: Connection, due: _Due) -> tuple[TeamLetter, str] | None:
        tenant = tenants.find_tenant(conn, due.one.tenant_id)
        if tenant is None or tenant.suspended_at is not None:
            return None
        letter = write(report_facts.read(conn, due.one, tenant, due.period))
        return None if letter is None else (letter, unsubscribe_path(conn, due.one.id))

    async def _mail(self, due: _Due, letter: TeamLetter, path: str) -> str:
        tenant = self._sending_tenant()
        receiver = Mailbox(parse_address(due.one.address))
        unsubscribe = f"{self._pages}{path}" if self._pages else ""
        headers = [("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")]
        if unsubscribe:
            headers += [("List-Unsubscribe", f"<{unsubscribe}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")]
        submission = Submission(
            sender=Mailbox(self._sender, self._options.sender_name), to=(receiver,), subject=letter.subject,
            text=as_text(letter, pages=self._pages, unsubscribe=unsubscribe),
            html=as_html(letter, pages=self._pages, unsubscribe=unsubscribe), headers=tuple(headers),
            steering=Steering(stream=self._options.stream, tags=(TAG,), metadata={"report": due.one.kind.value, "period": due.period.name}),
        )  # fmt: skip
        principal = Principal(id="reports", kind=PrincipalKind.LOCAL, tenant_id=tenant.id, name="reports", mode=KeyMode.LIVE)
        caller = Caller(principal=principal, peer="", request_id=f"report {due.one.id}")
        return await self._submit(caller, submission, f"report/{due.one.id}/{due.period.name}")

    def _sending_tenant(self) -> Tenant:
        tenant = self._directory.tenant_named(self._options.tenant)
        if tenant is None:
            raise Refused("not_found", f"reports.tenant: there is no tenant {self._options.tenant}")
        return tenant

    async def _note(self, claim: Claim, detail: str) -> None:
        maillog.trouble("a report could not be sent yet", subscription_id=claim.subscription_id, period=claim.period, error=detail)
        await self._engine.write(lambda conn: team_reports.finish(conn, claim, self._owner, team_reports.CLAIMED, None, detail[:1_000]))

    async def _finish(self, claim: Claim, one: ReportSubscription | None, state: str, message_id: str | None, detail: str) -> None:
        is_ours = await self._engine.write(lambda conn: team_reports.finish(conn, claim, self._owner, state, message_id, detail))
        if is_ours and one is not None:
            metrics.team_reports.labels(one.kind.value, state).inc()
        if is_ours and state == "failed":
            maillog.trouble("a report was not sent", subscription_id=claim.subscription_id, period=claim.period, error=detail)


def key_hash(key: str) -> bytes:
    """Return what stands for the request of an idempotency key: the key alone, for numbers may have moved when it is written again."""
    return hashlib.sha256(key.encode()).digest()


def _may_still_read(conn: Connection, one: ReportSubscription) -> bool:
    """Tell whether the person whose report it is may still look at the tenant's numbers."""
    assert one.person_id is not None
    person = people.get(conn, one.person_id)
    role = people.role_in(conn, one.person_id, one.tenant_id)
    return person is not None and person.disabled_at is None and role is not None and Scope.STATS_READ in widened(ROLE_SCOPES[role])
