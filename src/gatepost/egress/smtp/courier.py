"""
The SMTP courier: takes a batch to a smarthost, or straight to the recipients' mail hosts.

Arrives: a batch. Leaves: an outcome per recipient, whatever happens on the way.
A kept connection that turns out dead before any content was sent is replaced without a trace in the attempt's count;
a host that cannot be reached, greets with a refusal or says 421 is passed over for the next one.
Standards: RFC 5321 §5.1 (hosts in order), RFC 7505 (null MX), RFC 3207, RFC 7435 (opportunistic TLS falls back to none).
Not here: the dialogue (wire.smtp_client), the order of hosts (plan), rendering and signing (mime), retries (policy.retry).
Bugs: a message to one domain with hundreds of recipients is one transaction; servers that take fewer say 452 to the rest.
"""

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatepost.clock import Clock, Instant
from gatepost.domain.outcome import Category, Deferred, Exchange, Failed, Outcome
from gatepost.egress.courier import Batch
from gatepost.egress.smtp.outcomes import outcome_of
from gatepost.egress.smtp.plan import MAX_ADDRESSES, Hosts, RelayTarget, Undeliverable, Unresolved, parse_relay, plan_mx
from gatepost.egress.smtp.pool import Pool
from gatepost.egress.smtp.session import Session, remember_tls, timeouts
from gatepost.net.dial import Dialer
from gatepost.net.dns import Addresses, NoAddresses, NoDomain, Resolver, ResolverFailed
from gatepost.net.tls import ClientTls, ResumingContext
from gatepost.settings import Relay, Settings
from gatepost.wire.smtp_client import Credentials, Phase, SmtpClient, TlsLevel
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict
from gatepost.wire.smtp_transcript import shortened


@dataclass(slots=True)
class _Attempt:
    """What is known so far of one delivery: kept apart from the courier, which works on many at once."""

    batch: Batch
    started_at: Instant
    notes: list[str] = field(default_factory=list)
    session: Session | None = None
    verdicts: list[Verdict | None] = field(default_factory=list)
    is_resolver_failure: bool = False

    def refuse(self, verdict: Verdict) -> None:
        """Keep a verdict for everyone; a temporary one is not replaced by a permanent one of the next host."""
        known = self.verdicts[0] if self.verdicts else None
        if known is None or not _is_permanent(verdict) or _is_permanent(known):
            self.verdicts = [verdict] * len(self.batch.recipients)

    def note_dialogue(self, session: Session) -> None:
        """Keep a session's part of the transcript, before another host is tried."""
        self.notes.append(f"# {session.host} {session.peer or ''}\n{session.client.transcript}")

    @property
    def transcript(self) -> str:
        """All dialogues of the attempt."""
        own = [] if self.session is None else [str(self.session.client.transcript)]
        return shortened("\n".join(self.notes + own)) if self.notes else own[0] if own else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """One address of one host, and how to speak there."""

    host: str
    address: str
    port: int
    tls: TlsLevel
    is_implicit_tls: bool = False
    credentials: Credentials | None = None


class SmtpCourier:
    """Delivery over SMTP on one route."""

    def __init__(
        self,
        *,
        route: str,
        settings: Settings,
        relay: Relay | None,
        resolver: Resolver,
        dialer: Dialer,
        clock: Clock,
        hostname: str,
        tls: ClientTls | None = None,
    ) -> None:
        """
        Set up without connecting.

        Args:
            route: `mx`, or the relay's name.
            relay: The smarthost; None sends straight to MX hosts.
            hostname: Our name in EHLO.
            tls: Contexts to use instead of the courier's own.

        Raises:
            InvalidSettings: The relay's URL is not valid.
            ValueError: The host name cannot be an EHLO name.
        """
        egress = settings.egress
        SmtpClient(hostname=hostname)  # refuses a name that must not reach the wire
        self._route = route
        self._relay: RelayTarget | None = None if relay is None else parse_relay(route, relay.url)
        self._egress = egress
        self._resolver = resolver
        self._dialer = dialer
        self._clock = clock
        self._hostname = hostname
        self._tls = tls or ClientTls()
        self._timeouts_s = timeouts(egress.timeout_scale)
        self._pool = Pool(
            connections_per_site=egress.connections_per_site if relay is None else egress.connections_per_relay,
            messages_per_connection=egress.messages_per_connection,
            idle_s=egress.idle_connection_s,
        )

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """
        Deliver a batch; one outcome per recipient number. Total.

        Raises:
            asyncio.CancelledError: The caller was cancelled; the connection is cut.
        """
        attempt = _Attempt(batch, self._clock.now())
        try:
            return await self._deliver(attempt)
        except Exception as error:  # noqa: BLE001 - a courier is total: a fault of ours must not lose a recipient
            exchange = self._exchange(attempt)
            detail = f"internal error: {type(error).__name__}"
            outcome = Deferred(exchange=exchange, category=Category.UNDETERMINED, detail=detail, counts=False)
            return {recipient.n: outcome for recipient in batch.recipients}

    async def close(self) -> None:
        """Close idle connections politely."""
        await self._pool.close()

    async def _deliver(self, attempt: _Attempt) -> Mapping[int, Outcome]:
        site = attempt.batch.site
        session = await self._pool.acquire(site)
        kept: Session | None = None
        try:
            if session is not None and await self._try(attempt, session):
                kept = session
                return self._outcomes(attempt)
            refused = await self._connect_and_try(attempt)
            kept = attempt.session
            return self._outcomes(attempt) if refused is None else dict.fromkeys([r.n for r in attempt.batch.recipients], refused)
        finally:
            if kept is None and attempt.session is not None:
                attempt.session.abort("given up")
            self._pool.release(site, kept)

    async def _try(self, attempt: _Attempt, session: Session) -> bool:
        """Send on an open session; False when another connection should be tried instead."""
        attempt.session = session
        try:
            await session.transact(attempt.batch)
        except asyncio.CancelledError:
            session.abort("cancelled")
            raise
        verdicts = session.client.verdicts
        if any(verdict is not None and verdict.is_dead_connection for verdict in verdicts):
            attempt.verdicts = verdicts
            attempt.note_dialogue(session)
            return False
        attempt.verdicts = verdicts
        return True

    async def _connect_and_try(self, attempt: _Attempt) -> Outcome | None:
        """Go through the hosts until one took the batch or refused it; an outcome where there is no host to go to."""
        if self._relay is not None:
            await self._try_host(attempt, self._relay.host)
            return None
        domain = attempt.batch.domain
        plan = plan_mx(domain, await self._resolver.mx(domain), random.shuffle)
        match plan:
            case Undeliverable(category=category, detail=detail):
                return Failed(exchange=self._exchange(attempt), category=category, detail=detail)
            case Unresolved(detail=detail):
                return Deferred(
                    exchange=self._exchange(attempt), category=Category.NETWORK, detail=f"DNS did not answer: {detail}", counts=False
                )
            case Hosts(names=names):
                for name in names:
                    if await self._try_host(attempt, name):
                        return None
                return self._nowhere(attempt, plan)

    def _nowhere(self, attempt: _Attempt, plan: Hosts) -> Outcome | None:
        """Decide what it means that no host could be spoken to."""
        if attempt.verdicts:
            return None
        exchange, domain = self._exchange(attempt), attempt.batch.domain
        if attempt.is_resolver_failure:
            return Deferred(exchange=exchange, category=Category.NETWORK, detail="DNS did not answer for any mail host", counts=False)
        if plan.is_implicit:
            return Failed(
                exchange=exchange, category=Category.INVALID_DOMAIN, detail=f"5.4.4 {domain} has neither a mail host nor an address"
            )
        # The domain names hosts that have no address: mostly a mistake that its owner soon repairs.
        return Deferred(exchange=exchange, category=Category.INVALID_DOMAIN, detail=f"4.4.4 no mail host of {domain} has an address")

    async def _try_host(self, attempt: _Attempt, host: str) -> bool:
        """Try a host's addresses; False when the next host should be tried."""
        for address in await self._addresses(attempt, host):
            target = self._target(host, address)
            session = await self._open(attempt, target)
            if session is not None and await self._try(attempt, session):
                return True
        return False

    async def _addresses(self, attempt: _Attempt, host: str) -> tuple[str, ...]:
        if self._relay is not None and "." not in host and ":" not in host:
            return (host,)  # localhost, or a name of the local network: the system knows it, DNS may not
        answer = await self._resolver.addresses(host)
        if isinstance(answer, Addresses):
            return answer.addresses[:MAX_ADDRESSES]
        if self._relay is not None:
            return (host,)  # the system's own lookup also reads the hosts file
        if isinstance(answer, ResolverFailed):
            attempt.is_resolver_failure = True
            attempt.notes.append(f"# {host}: {answer.detail}")
        elif isinstance(answer, NoAddresses | NoDomain):
            attempt.notes.append(f"# {host}: no address")
        return ()

    def _target(self, host: str, address: str) -> _Target:
        relay = self._relay
        if relay is None:
            return _Target(host=host, address=address, port=self._egress.mx_port, tls=TlsLevel.MAY)
        return _Target(
            host=host, address=address, port=relay.port, tls=relay.tls, is_implicit_tls=relay.is_implicit_tls, credentials=relay.credentials
        )

    async def _open(self, attempt: _Attempt, target: _Target) -> Session | None:
        """Open a session that is ready for mail; where TLS is optional and fails, a second one without it."""
        session = await self._open_once(attempt, target, target.tls)
        refusal = attempt.verdicts[0] if session is None and attempt.verdicts else None
        may_be_plain = target.tls is TlsLevel.MAY and not target.is_implicit_tls and target.credentials is None
        if refusal is not None and refusal.fault is Fault.TLS_FAILED and may_be_plain:
            return await self._open_once(attempt, target, TlsLevel.NEVER)
        return session

    async def _open_once(self, attempt: _Attempt, target: _Target, level: TlsLevel) -> Session | None:
        client = SmtpClient(hostname=self._hostname, tls=level, credentials=target.credentials, is_encrypted=target.is_implicit_tls)
        scale = self._egress.timeout_scale
        session = Session(client=client, host=target.host, site=attempt.batch.site, timeouts_s=self._timeouts_s, data_block_s=180 * scale)
        attempt.session = session
        context = self._context(target.tls)
        try:
            await self._dial(session, target, context if target.is_implicit_tls else None)
            await session.progress()
            if client.phase is Phase.HANDSHAKE:
                await self._encrypt(session, target, context)
        except OSError as error:
            fault = _fault_of(error, client.stage)
            detail = f"{target.host} ({target.address}) port {target.port}: {_reason(error, fault)}"
            if client.phase is Phase.CLOSED:  # uvloop reports the end of the connection first
                client.transcript.note(detail)
            session.abort(detail)
            attempt.refuse(Verdict(stage=client.stage, fault=fault, detail=detail))
            attempt.note_dialogue(session)
            return None
        except asyncio.CancelledError:
            session.abort("cancelled")
            raise
        if client.phase is Phase.READY:
            remember_tls(session, context)
            return session
        attempt.refuse(client.refusal or Verdict(stage=client.stage, fault=Fault.LOST, detail="the connection was closed"))
        attempt.note_dialogue(session)
        return None

    async def _dial(self, session: Session, target: _Target, tls: ssl.SSLContext | None) -> None:
        session.client.stage = Stage.CONNECT
        await self._dialer.connect(
            lambda: session,
            target.address,
            target.port,
            timeout_s=self._egress.connect_timeout_s,
            tls=tls,
            server_hostname=target.host if tls else None,
        )

    async def _encrypt(self, session: Session, target: _Target, context: ssl.SSLContext) -> None:
        if session.transport is None or session.transport.is_closing():
            raise ConnectionResetError("the connection was closed before the TLS handshake")
        timeout_s = self._timeouts_s[Stage.TLS]
        transport = await self._dialer.start_tls(session, session.transport, context, server_hostname=target.host, timeout_s=timeout_s)
        await session.encrypted(transport)

    def _context(self, level: TlsLevel) -> ResumingContext:
        return self._tls.verified if level is TlsLevel.MUST else self._tls.opportunistic

    def _outcomes(self, attempt: _Attempt) -> dict[int, Outcome]:
        exchange = self._exchange(attempt)
        is_relay = self._relay is not None
        found: dict[int, Outcome] = {}
        last: Verdict | None = None
        outcome: Outcome | None = None
        for recipient, verdict in zip(attempt.batch.recipients, attempt.verdicts, strict=True):
            if verdict is None:
                raise RuntimeError("a recipient without a verdict")
            if verdict is not last or outcome is None:
                outcome, last = outcome_of(verdict, exchange, is_relay=is_relay), verdict
            found[recipient.n] = outcome
        return found

    def _exchange(self, attempt: _Attempt) -> Exchange:
        session = attempt.session
        return Exchange(
            route=self._route,
            started_at=attempt.started_at,
            finished_at=self._clock.now(),
            host=None if session is None else session.host,
            peer=None if session is None else session.peer,
            tls=None if session is None else session.tls,
            transcript=attempt.transcript,
        )


def _is_permanent(verdict: Verdict) -> bool:
    return verdict.reply is not None and verdict.reply.code // 100 == 5


def _fault_of(error: OSError, stage: Stage) -> Fault:
    if isinstance(error, socket.gaierror):
        return Fault.UNRESOLVED
    return Fault.TLS_FAILED if isinstance(error, ssl.SSLError) or stage is Stage.TLS else Fault.LOST


def _reason(error: OSError, fault: Fault) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed, the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'no common ground'}"
    if isinstance(error, socket.gaierror):
        words = "the name is not known"
    elif isinstance(error, TimeoutError):
        words = "timed out"
    else:
        words = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return f"TLS failed: {words}" if fault is Fault.TLS_FAILED else words
