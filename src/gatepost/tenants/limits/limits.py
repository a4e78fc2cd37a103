"""
Who may send how much: limits of keys, tenants and senders' domains, and the terms of what is decided in the commit.

Arrives: who asks, and what their request would use. Leaves: a reservation, which may be cancelled, or a refusal that names
the limit and says when to come back. Nothing is reserved of one limit when another has not enough.
Not here: caps per recipient and balances (accept: they are taken where messages are stored), the doors' headers.
Bugs: a sliding limit shared by processes is kept within one slice; one that is asked of a Valkey server, exactly.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from gatepost.clock import SECOND, Clock, Instant
from gatepost.domain.access import Limit, Principal, Resource, parse_limit
from gatepost.domain.allowance import FREE, Terms, Unused, Wanted
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.message import Lane
from gatepost.domain.tenant import Caller
from gatepost.net.valkey import Valkey
from gatepost.observe import maillog, metrics
from gatepost.settings import Settings
from gatepost.store import limits as stored
from gatepost.store import tenants
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.limits.counters import Counter, Kind, Shown
from gatepost.tenants.limits.shared import Full, Held, Part, Shared

_SENT = (Resource.MESSAGES, Resource.RECIPIENTS, Resource.BYTES)
MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """One version of what operators set."""

    version: int = -1
    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    terms: Mapping[str, Terms] = field(default_factory=dict)


class Limits:
    """The limits of a door process; see accept.ports for what accept asks of it."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, valkey: Valkey | None = None) -> None:
        """
        Args:
            valkey: Counts sliding limits; None lets the database.
        """
        rates = settings.rates
        self._engine = engine
        self._clock = clock
        self._shared = Shared(engine, clock, valkey)
        self._defaults = {
            Kind.KEY: _parsed(rates.per_key), Kind.TENANT: _parsed(rates.per_tenant), Kind.DOMAIN: _parsed(rates.per_domain)
        }  # fmt: skip
        caps = {
            Lane.CODES: rates.codes_per_recipient,
            Lane.TRANSACTIONAL: rates.transactional_per_recipient,
            Lane.BULK: rates.bulk_per_recipient,
        }
        relays = {name: round(relay.price_per_1000 * MICROS) for name, relay in settings.relays.items()}
        self._usual = Terms(per_recipient={int(lane): cap for lane, cap in caps.items() if cap}, relay_micros=relays)
        self._snapshot = _Snapshot()
        self._counters: dict[tuple[str, Resource, str], Counter] = {}
        self._merged: dict[tuple[Kind, tuple[Limit, ...]], tuple[Limit, ...]] = {}
        self._loading = asyncio.Lock()

    async def refresh(self) -> bool:
        """
        Load what operators set, if it changed; return whether it did.

        Raises:
            StorageUnavailable: The database cannot be used now; what was loaded last stays.
        """
        async with self._loading:
            if await self._engine.read(tenants.version) == self._snapshot.version:
                return False
            version, limits, accounts = await self._engine.read(_load)
            terms = {tenant_id: self._terms_of(account) for tenant_id, account in accounts.items()}
            self._snapshot = _Snapshot(version=version, limits=limits, terms=terms)
            return True

    async def _be_loaded(self) -> None:
        """Load before the first request: until then nobody would have a limit."""
        if self._snapshot.version < 0:
            try:
                await self.refresh()
            except StorageUnavailable as error:
                raise _unavailable() from error

    def terms(self, caller: Caller) -> Terms:
        """Return on which terms a caller's mail is taken; a test key's costs nothing and reaches nobody."""
        return FREE if caller.is_test else self._snapshot.terms.get(caller.tenant_id, self._usual)

    async def count_request(self, caller: Caller) -> None:
        """
        Count one request of any kind.

        Raises:
            Refused: rate_limited or quota_exceeded, with Retry-After; storage_unavailable.
        """
        await self._be_loaded()
        parts = [(counter, 1) for counter in self._of(caller.principal, (Resource.REQUESTS,))]
        if parts:
            await self._take(caller, parts)

    async def reserve(self, caller: Caller, wanted: Sequence[Wanted]) -> "Reservation":
        """
        Take what messages need of every limit that concerns them, or nothing.

        Raises:
            Refused: rate_limited or quota_exceeded, with Retry-After where waiting helps; storage_unavailable.
        """
        await self._be_loaded()
        counters = self._of(caller.principal, _SENT)
        if not counters and not self._defaults[Kind.DOMAIN]:
            return Reservation(self._shared, self._clock, [])
        amounts = {resource: sum(_amount(one, resource) for one in wanted) for resource in _SENT}
        parts = [(counter, amounts[counter.limit.resource]) for counter in counters]
        parts += self._of_domains(wanted)
        return Reservation(self._shared, self._clock, await self._take(caller, [part for part in parts if part[1]]))

    def shown(self, caller: Caller, *, is_sending: bool) -> list[Shown]:
        """
        Say what is left of a caller's limits, as far as this process knows without asking.

        Args:
            is_sending: What is sent, too; else only requests.
        """
        resources = (Resource.REQUESTS, *_SENT) if is_sending else (Resource.REQUESTS,)
        now = self._clock.now()
        counters = self._of(caller.principal, resources)
        return [counter.shown(now) for counter in counters if counter.shared is not None or counter.meter.is_sliding]

    async def remaining(self, caller: Caller, domains: Iterable[str]) -> list[Shown]:
        """
        Say what is left of a caller's limits for all processes together.

        Args:
            domains: Senders' domains to show as well.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        counters = self._of(caller.principal, tuple(Resource))
        counters += [self._counter(Kind.DOMAIN, _domain(name), limit) for name in domains for limit in self._defaults[Kind.DOMAIN]]
        now = self._clock.now()
        levels = await self._shared.read(counters, now) if counters else {}
        return [counter.shown(now, levels[counter]) for counter in counters]

    async def step(self) -> None:
        """
        Give back slices that were not used, forget what is over, look for a server that was away.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        await self._shared.look_for_valkey()
        await self._shared.give_back(self._counters.values())
        now = self._clock.now()
        for key in [key for key, counter in self._counters.items() if counter.is_idle(now)]:
            del self._counters[key]
        await self._shared.purge()

    async def close(self) -> None:
        """Give back every slice."""
        try:
            await self._shared.give_back(self._counters.values(), is_closing=True)
        except StorageUnavailable as error:
            maillog.trouble("slices of limits could not be given back", error=str(error))
        await self._shared.close()

    def _terms_of(self, account: stored.Account) -> Terms:
        return Terms(
            per_recipient=self._usual.per_recipient,
            relay_micros=self._usual.relay_micros,
            price_micros=account.price_micros,
            is_prepaid=account.balance_micros is not None,
        )

    def _of(self, principal: Principal, resources: Sequence[Resource]) -> list[Counter]:
        """Return the counters that a principal's use of resources is counted in."""
        own = self._with_defaults(Kind.KEY, principal.limits)
        tenants_ = self._with_defaults(Kind.TENANT, self._snapshot.limits.get(principal.tenant_id, ()))
        if not own and not tenants_:
            return []
        found = [self._counter(Kind.KEY, principal.id, limit) for limit in own if limit.resource in resources]
        return found + [self._counter(Kind.TENANT, principal.tenant_id, limit) for limit in tenants_ if limit.resource in resources]

    def _of_domains(self, wanted: Sequence[Wanted]) -> list[Part]:
        limits = self._defaults[Kind.DOMAIN]
        if not limits:
            return []
        sums: dict[str, dict[Resource, int]] = {}
        for one in wanted:
            of = sums.setdefault(one.domain, dict.fromkeys(_SENT, 0))
            for resource in _SENT:
                of[resource] += _amount(one, resource)
        return [(self._counter(Kind.DOMAIN, _domain(name), limit), of[limit.resource]) for name, of in sums.items() for limit in limits]

    def _with_defaults(self, kind: Kind, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Add the defaults for which there is no limit of its own; of two for the same window the smaller counts."""
        key = (kind, limits)
        found = self._merged.get(key)
        if found is None:
            by_window = {(limit.resource, limit.per): limit for limit in self._defaults[kind]}
            for limit in sorted(limits, key=lambda one: -one.amount):
                by_window[limit.resource, limit.per] = limit
            if len(self._merged) > 10_000:
                self._merged.clear()
            found = self._merged[key] = tuple(by_window.values())
        return found

    def _counter(self, kind: Kind, subject: str, limit: Limit) -> Counter:
        key = (subject, limit.resource, limit.per)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = Counter(kind, subject, limit)
            counter.used_at = self._clock.now()
        elif counter.limit.amount != limit.amount:
            counter.change(limit)
        return counter

    async def _take(self, caller: Caller, parts: Sequence[Part]) -> list[Held]:
        now = self._clock.now()
        try:
            return await self._take_all(parts, now)
        except Full as full:
            self._tell(caller, full.counter, now)
            raise _refusal(full) from None
        except StorageUnavailable as error:
            raise _unavailable() from error

    async def _take_all(self, parts: Sequence[Part], now: Instant) -> list[Held]:
        for counter, need in parts:
            if (wait := counter.wait_ms(need, now)) != 0:
                raise Full(counter, need, wait)
        for counter, need in parts:
            counter.count(need, now)
        try:
            return await self._shared.take(parts, now)
        except BaseException:
            for counter, need in parts:
                counter.count(-need, now)
            raise

    def _tell(self, caller: Caller, counter: Counter, now: Instant) -> None:
        limit = counter.limit
        metrics.limit_hits.labels(counter.kind.value, limit.resource.value, limit.per.value).inc()
        if not 0 <= now - counter.told_at < SECOND:  # a line a second says it all
            counter.told_at = now
            maillog.security(
                "limit_reached", limit=str(counter), subject=counter.subject, tenant_id=caller.tenant_id, key_id=caller.principal.id,
                peer=caller.peer, request_id=caller.request_id,
            )  # fmt: skip


class Reservation:
    """What was taken for one request; see accept.ports."""

    __slots__ = ("_clock", "_held", "_shared")

    def __init__(self, shared: Shared, clock: Clock, held: Sequence[Held]) -> None:
        self._shared = shared
        self._clock = clock
        self._held = held

    async def cancel(self) -> None:
        """Give all of it back; a second time does nothing."""
        held, self._held = self._held, []
        self._return(held)

    async def give_back(self, unused: Sequence[Unused]) -> None:
        """Give back what turned out not to be needed."""
        kept, returned = [], []
        for held in self._held:
            counter = held.counter
            concerned = [one for one in unused if counter.kind is not Kind.DOMAIN or counter.subject == _domain(one.domain)]
            count = min(held.count, sum(_amount(one, counter.limit.resource) for one in concerned))
            kept.append(replace(held, count=held.count - count))
            returned.append(replace(held, count=count))
        self._held = kept
        self._return(returned)

    def _return(self, held: Sequence[Held]) -> None:
        now, returned = self._clock.now(), [one for one in held if one.count]
        for one in returned:
            one.counter.count(-one.count, now)
        self._shared.put_back(returned)


def _amount(one: Wanted | Unused, resource: Resource) -> int:
    if resource is Resource.BYTES:
        return one.size_bytes
    if isinstance(one, Wanted):
        return len(one.recipients) if resource is Resource.RECIPIENTS else 1
    return one.recipients if resource is Resource.RECIPIENTS else one.messages


def _load(conn: Connection) -> tuple[int, dict[str, tuple[Limit, ...]], dict[str, stored.Account]]:
    return tenants.version(conn), stored.all_limits(conn), stored.accounts(conn)


def _parsed(texts: Sequence[str]) -> tuple[Limit, ...]:
    return tuple(parse_limit(text) for text in texts)


def _domain(name: str) -> str:
    return f"domain:{name}"


def _unavailable() -> Refused:
    return Refused("storage_unavailable", "limits cannot be counted now", retry_after_s=5)


def _refusal(full: Full) -> Refused:
    counter = full.counter
    code = "rate_limited" if counter.meter.is_sliding else "quota_exceeded"
    if full.wait_ms is None:
        detail = f"{counter} never allows the {full.need} {counter.limit.resource} of this request at once"
        return Refused(code, detail, (Fault("", "limit_too_small", detail),))
    detail = f"{counter} is used up"
    return Refused(code, detail, (Fault("", "limit_reached", detail),), retry_after_s=max(1, -(-full.wait_ms // 1000)))
