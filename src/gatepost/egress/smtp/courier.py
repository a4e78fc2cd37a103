"""
The SMTP courier: takes a batch to a smarthost, or straight to the recipients' mail hosts.

Arrives: a batch. Leaves: an outcome per recipient, whatever happens on the way.
A kept connection that turns out dead before any content was sent is replaced without a trace in the attempt's count;
a host that cannot be reached, greets with a refusal or says 421 is passed over for the next one.
Standards: RFC 5321 §5.1 (hosts in order), RFC 7505 (null MX), RFC 3207, RFC 7435 (opportunistic TLS falls back to none).
A connection is kept with what it has shown (`Proof`): a message that asks for more never travels over one that was opened for less.
Not here: opening one connection (opening), what TLS has to fulfil (tls_policy), the dialogue (wire.smtp_client), the order of hosts
(plan), rendering and signing (mime), retries (policy.retry).
Bugs: how many recipients go into one transaction is the caller's choice; a server that takes fewer says 452 to the rest.
"""

import asyncio
import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gatepost.clock import Clock, Instant
from gatepost.domain.outcome import Category, Deferred, Exchange, Failed, Outcome, Reply
from gatepost.domain.route import Source
from gatepost.egress.courier import Batch, Probe
from gatepost.egress.smtp.opening import Opener, Target
from gatepost.egress.smtp.outcomes import outcome_of
from gatepost.egress.smtp.plan import MAX_ADDRESSES, Hosts, RelayTarget, Undeliverable, Unresolved, parse_relay, plan_mx
from gatepost.egress.smtp.pool import Pool
from gatepost.egress.smtp.probe import ProbeFacts, probe_batch, probe_of
from gatepost.egress.smtp.session import Session, timeouts
from gatepost.egress.smtp.tls_check import TLS_FAULTS
from gatepost.egress.smtp.tls_policy import (
    NO_POLICY,
    DomainPolicy,
    HostPolicy,
    HostRefused,
    TlsPolicies,
    bare_policy,
    required,
)
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.egress.smtp.tokens import TokenFailed, Tokens, parse_oauth
from gatepost.net.dial import Dialer
from gatepost.net.dns import Addresses, NoAddresses, NoDomain, Resolver, ResolverFailed
from gatepost.net.tls import ClientTls
from gatepost.settings import Relay, Settings
from gatepost.wire.smtp_client import SmtpClient, TlsLevel
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict
from gatepost.wire.smtp_transcript import shortened

_NEARLY = 0.95
"""Timers may fire a moment before their time."""


@dataclass(slots=True)
class _Attempt:
    """What is known so far of one delivery: kept apart from the courier, which works on many at once."""

    batch: Batch
    started_at: Instant
    notes: list[str] = field(default_factory=list)
    session: Session | None = None
    verdicts: list[Verdict | None] = field(default_factory=list)
    refusals: list[Reply] = field(default_factory=list)
    domain: DomainPolicy = NO_POLICY
    policy: str | None = None
    unmet: list[str] = field(default_factory=list)
    unresolved: str = ""
    is_resolver_failure: bool = False
    is_out_of_reach: bool = False
    ends_at: float | None = None
    """Until then another connection may be tried, by the loop's clock; None: as long as there are hosts."""

    def refuse(self, verdict: Verdict) -> None:
        """Keep a verdict for everyone; a temporary one is not replaced by a permanent one of the next host."""
        self.note_refusal(verdict)
        known = self.verdicts[0] if self.verdicts else None
        if known is None or not _is_permanent(verdict) or _is_permanent(known):
            self.verdicts = [verdict] * len(self.batch.recipients)

    def note_refusal(self, verdict: Verdict | None) -> None:
        """Keep what a host said that another may take the place of: it still tells how much the site wants."""
        if verdict is not None and verdict.reply is not None and not _is_permanent(verdict):
            self.refusals.append(verdict.reply)

    @property
    def passed_over(self) -> tuple[Reply, ...]:
        """The refusals that are not the outcome's own words."""
        if not self.refusals:
            return ()
        final = [verdict.reply for verdict in self.verdicts if verdict is not None]
        return tuple(reply for reply in self.refusals if not any(reply is one for one in final))

    def note_dialogue(self, session: Session) -> None:
        """Keep a session's part of the transcript, before another host is tried."""
        self.notes.append(f"# {session.host} {session.peer or ''}\n{session.client.transcript}")

    @property
    def is_over(self) -> bool:
        """True when it has taken so long that the next road comes before the next connection."""
        return self.ends_at is not None and bool(self.verdicts) and asyncio.get_running_loop().time() >= self.ends_at

    @property
    def transcript(self) -> str:
        """All dialogues of the attempt."""
        own = [] if self.session is None else [str(self.session.client.transcript)]
        return shortened("\n".join(self.notes + own)) if self.notes else own[0] if own else ""


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
        policies: TlsPolicies | None = None,
        results: TlsResults | None = None,
        secret: str = "",
    ) -> None:
        """
        Set up without connecting.

        Args:
            route: `mx`, or the relay's name.
            relay: The smarthost; None sends straight to MX hosts.
            hostname: Our name in EHLO.
            tls: Contexts to use instead of the courier's own.
            policies: What domains ask of TLS; None heeds only what messages ask for.
            results: Where the results of TLS sessions are counted; None counts none.
            secret: The relay's password, where it does not stand in its URL.

        Raises:
            InvalidSettings: The relay's URL is not valid.
            ValueError: The host name cannot be an EHLO name.
        """
        egress = settings.egress
        SmtpClient(hostname=hostname)  # refuses a name that must not reach the wire
        self._route = route
        self._relay: RelayTarget | None = None if relay is None else parse_relay(route, relay.url, secret)
        self._tokens = None if self._relay is None or relay is None else _tokens(route, relay, self._relay, clock)
        self._egress = egress
        self._resolver = resolver
        self._clock = clock
        self._policies = None if relay is not None else policies
        self._opener = Opener(
            egress=egress, dialer=dialer, tls=tls or ClientTls(), clock=clock, hostname=hostname,
            timeouts_s=timeouts(egress.timeout_scale), results=results or TlsResults(clock, is_on=False),
        )  # fmt: skip
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
        if batch.patience_s is not None:
            attempt.ends_at = asyncio.get_running_loop().time() + batch.patience_s * _NEARLY
        try:
            return await self._deliver(attempt)
        except Exception as error:  # noqa: BLE001 - a courier is total: a fault of ours must not lose a recipient
            exchange = self._exchange(attempt)
            detail = f"internal error: {type(error).__name__}"
            outcome = Deferred(exchange=exchange, category=Category.UNDETERMINED, detail=detail, counts=False)
            return {recipient.n: outcome for recipient in batch.recipients}

    async def probe(self) -> Probe:
        """Connect, encrypt and authenticate; sends no mail. Total. Straight to MX hosts there is nobody in particular to ask."""
        if self._relay is None:
            return Probe(is_reachable=True, is_authenticated=None, latency_ms=0, detail="recipients' own hosts are not asked")
        attempt, started = _Attempt(probe_batch(self._route), self._clock.now()), self._clock.monotonic()
        try:
            failed = await self._have_token()
            session = None if failed else await self._open_any(attempt, self._relay.host)
            detail = "" if failed is None else str(failed)
        except Exception as error:  # noqa: BLE001 - as for deliver
            failed, session, detail = None, None, f"internal error: {type(error).__name__}"
        facts = ProbeFacts(attempt.verdicts[0] if attempt.verdicts else None, session, self._relay.credentials is not None, detail)
        found = probe_of(facts, failed, self._relay.host, round((self._clock.monotonic() - started) * 1000))
        if session is not None:
            session.quit()
        return found

    async def _open_any(self, attempt: _Attempt, host: str) -> Session | None:
        """Open a session with any of a smarthost's addresses."""
        policy = await self._host_policy(attempt, host)
        if isinstance(policy, HostRefused):
            return None
        for address in await self._addresses(attempt, host):
            if (session := await self._open(attempt, self._target(attempt, host, address, policy))) is not None:
                return session
        return None

    async def close(self) -> None:
        """Close idle connections politely."""
        await self._pool.close()

    async def _deliver(self, attempt: _Attempt) -> Mapping[int, Outcome]:
        batch = attempt.batch
        place = (batch.source.name, batch.site)
        domain = attempt.domain = await self._domain(batch)
        fits = None if domain.asks_nothing(batch) else lambda session: domain.is_met(session.proof, batch)
        session = await self._pool.acquire(place, batch.connections, fits)
        kept: Session | None = None
        try:
            if session is not None:
                attempt.policy = domain.name_for(session.proof, batch)
                if await self._try(attempt, session):
                    kept = session
                    return self._outcomes(attempt)
            refused = await self._connect_and_try(attempt)
            kept = attempt.session
            return self._outcomes(attempt) if refused is None else dict.fromkeys([r.n for r in attempt.batch.recipients], refused)
        finally:
            if kept is None and attempt.session is not None:
                attempt.session.abort("given up")
            self._pool.release(place, kept, batch.messages_per_connection)

    async def _domain(self, batch: Batch) -> DomainPolicy:
        """Say what the recipients' domain asks of TLS; on a message for a domain that is known it costs next to nothing."""
        if self._policies is None:
            return NO_POLICY
        return self._policies.known(batch.domain) or await self._policies.learn(batch.domain)

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
            attempt.note_refusal(verdicts[0])
            attempt.note_dialogue(session)
            return False
        attempt.verdicts = verdicts
        return True

    async def _connect_and_try(self, attempt: _Attempt) -> Outcome | None:
        """Go through the hosts until one took the batch or refused it; an outcome where there is no host to go to."""
        if attempt.is_over:
            return None
        if self._relay is not None:
            if (refused := await self._have_token()) is not None:
                exchange = self._exchange(attempt)
                category = Category.AUTH_FAILURE if refused.is_refused else Category.NETWORK
                return Deferred(exchange=exchange, category=category, detail=str(refused), counts=False)
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
                if await self._try_hosts(attempt, names):
                    return None
                return self._nowhere(attempt, plan)

    async def _try_hosts(self, attempt: _Attempt, names: tuple[str, ...]) -> bool:
        """Try hosts in their order; where none fulfils the policy, look whether there is a new one (RFC 8461 §5.1)."""
        for name in names:
            if await self._try_host(attempt, name):
                return True
        before = attempt.domain
        if not attempt.unmet or not before.is_enforced or self._policies is None:
            return False
        attempt.domain = await self._policies.learn(before.domain, is_fresh=True)
        if attempt.domain.sts is None or before.sts is None or attempt.domain.sts.policy == before.sts.policy:
            return False
        attempt.unmet, attempt.verdicts = [], []
        for name in names:
            if await self._try_host(attempt, name):
                return True
        return False

    def _nowhere(self, attempt: _Attempt, plan: Hosts) -> Outcome | None:
        """Decide what it means that no host could be spoken to."""
        exchange, domain = self._exchange(attempt), attempt.batch.domain
        if attempt.unmet and not any(verdict is not None and verdict.reply is not None for verdict in attempt.verdicts):
            detail = f"{attempt.domain.unmet(attempt.policy, domain)}: {attempt.unmet[0]}"
            return Deferred(exchange=exchange, category=Category.NETWORK, detail=detail)
        if attempt.verdicts:
            return None
        if attempt.is_resolver_failure:
            detail = attempt.unresolved or "DNS did not answer for any mail host"
            return Deferred(exchange=exchange, category=Category.NETWORK, detail=detail, counts=False)
        if attempt.is_out_of_reach:
            detail = f"no mail host of {domain} has an address that can be reached from {attempt.batch.source.address}"
            return Deferred(exchange=exchange, category=Category.NETWORK, detail=detail)
        if plan.is_implicit:
            return Failed(
                exchange=exchange, category=Category.INVALID_DOMAIN, detail=f"5.4.4 {domain} has neither a mail host nor an address"
            )
        # The domain names hosts that have no address: mostly a mistake that its owner soon repairs.
        return Deferred(exchange=exchange, category=Category.INVALID_DOMAIN, detail=f"4.4.4 no mail host of {domain} has an address")

    async def _try_host(self, attempt: _Attempt, host: str) -> bool:
        """Try a host's addresses; False when the next host should be tried."""
        policy = await self._host_policy(attempt, host)
        attempt.policy = policy.name
        if isinstance(policy, HostRefused):
            attempt.notes.append(f"# {host}: {policy.detail}")
            if policy.is_resolver_failure:
                attempt.is_resolver_failure, attempt.unresolved = True, policy.detail
            else:
                attempt.unmet.append(policy.detail)
            return False
        for address in await self._addresses(attempt, host):
            if attempt.is_over:
                return False
            target = self._target(attempt, host, address, policy)
            session = await self._open(attempt, target)
            if session is not None and await self._try(attempt, session):
                return True
        return False

    async def _addresses(self, attempt: _Attempt, host: str) -> tuple[str, ...]:
        if self._relay is not None and "." not in host and ":" not in host:
            return (host,)  # localhost, or a name of the local network: the system knows it, DNS may not
        answer = await self._resolver.addresses(host)
        if isinstance(answer, Addresses):
            if usable := _reachable(answer.addresses, attempt.batch.source):
                return usable[:MAX_ADDRESSES]
            attempt.notes.append(f"# {host}: no address that can be reached from {attempt.batch.source.address}")
            attempt.is_out_of_reach = True
            return ()
        if self._relay is not None:
            return (host,)  # the system's own lookup also reads the hosts file
        if isinstance(answer, ResolverFailed):
            attempt.is_resolver_failure = True
            attempt.notes.append(f"# {host}: {answer.detail}")
        elif isinstance(answer, NoAddresses | NoDomain):
            attempt.notes.append(f"# {host}: no address")
        return ()

    async def _host_policy(self, attempt: _Attempt, host: str) -> HostPolicy | HostRefused:
        if self._policies is not None:
            return await self._policies.for_host(attempt.domain, host, attempt.batch)
        policy = bare_policy(host)
        if attempt.batch.requires_tls or (self._relay is not None and self._relay.tls is TlsLevel.MUST):
            return required(policy)
        return replace(policy, level=self._relay.tls) if self._relay is not None else policy

    async def _have_token(self) -> TokenFailed | None:
        """Get a fresh access token for the next connection, where the relay wants one; why there is none, if so."""
        if self._tokens is not None and self._relay is not None:
            try:
                self._relay = replace(self._relay, credentials=await self._tokens.credentials())
            except TokenFailed as failed:
                return failed
        return None

    def _target(self, attempt: _Attempt, host: str, address: str, policy: HostPolicy) -> Target:
        relay = self._relay
        if relay is None:
            is_secure = attempt.domain.is_secure
            return Target(host=host, address=address, port=self._egress.mx_port, policy=policy, is_secure_domain=is_secure)
        return Target(
            host=host, address=address, port=relay.port, policy=policy, is_implicit_tls=relay.is_implicit_tls, credentials=relay.credentials
        )

    async def _open(self, attempt: _Attempt, target: Target) -> Session | None:
        """Open a session that is ready for mail; where TLS is optional and fails, a second one without it."""
        policy, is_first = target.policy, True
        may_be_plain = not target.is_implicit_tls and target.credentials is None
        for level, check in policy.tries if may_be_plain else policy.tries[:1]:
            session, verdict = await self._opener.open(attempt.batch, target, level, check, is_counted=is_first)
            attempt.session = session
            if verdict is None:
                return session
            attempt.refuse(verdict)
            attempt.note_dialogue(session)
            if verdict.stage is Stage.AUTH and self._tokens is not None:
                self._tokens.forget()
            if verdict.fault in TLS_FAULTS and policy.level is TlsLevel.MUST and self._relay is None:
                attempt.unmet.append(f"{target}: {verdict.detail}" if target.host not in verdict.detail else verdict.detail)
            if verdict.fault is not Fault.TLS_FAILED or attempt.is_over:
                break
            is_first = False
        return None

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
            tls_policy=attempt.policy,
            source=attempt.batch.source.name if self._relay is None else None,
            takes_dsn=session is not None and "DSN" in session.client.extensions,
            passed_over=attempt.passed_over,
        )


def _reachable(addresses: tuple[str, ...], source: Source) -> tuple[str, ...]:
    """Leave out addresses of the other version of IP than the local address to connect from; a proxy has its own."""
    if not source.address or source.proxy:
        return addresses
    version = ipaddress.ip_address(source.address).version
    return tuple(one for one in addresses if ipaddress.ip_address(one).version == version)


def _is_permanent(verdict: Verdict) -> bool:
    return verdict.fault is Fault.NO_REQUIRETLS or (verdict.reply is not None and verdict.reply.code // 100 == 5)


def _tokens(route: str, relay: Relay, target: RelayTarget, clock: Clock) -> Tokens | None:
    plan = parse_oauth(route, relay.oauth, "" if target.credentials is None else target.credentials.user, target.host)
    return None if plan is None else Tokens(plan, clock)
