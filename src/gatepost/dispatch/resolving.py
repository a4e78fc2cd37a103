"""
Which mail system takes a domain: looked up once, remembered by everybody.

Arrives: domains; DNS's answers about them. Leaves: sites. In memory for the domains that are used (`SystemMap`), in a table for
all processes and over restarts. An answer is good for its TTL, but for an hour at least and a day at most; while a new one is
looked up the old one counts, and while DNS fails for a day more.
A look-up keeps nobody waiting for long: who waits for a slow one is told to come back, while it goes on. No attempt is counted
for any of that. Door processes ask no DNS here: they follow the table (`Following`).
Not here: the questions to DNS (net.dns), which system a host belongs to (policy.sites), filing mail (loop, moving).
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Clock, Instant, iso
from gatepost.dispatch.ports import Unresolved
from gatepost.net.dns import MxHosts, Resolver, ResolverFailed
from gatepost.observe import maillog, metrics
from gatepost.policy.sites import Sites
from gatepost.store import systems
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.errors import StorageUnavailable
from gatepost.store.systems import KnownSystem

_REMEMBERED: Final = 50_000
_LEAST_TTL: Final = HOUR
_MOST_TTL: Final = DAY
_LOOK_UPS: Final = 1_000
"""Look-ups at once; their questions to DNS are bounded by net.dns."""
_PATIENCE_S: Final = 2.0
_SOON: Final = 5 * SECOND
_LONGEST_WAIT: Final = 5 * MINUTE
_READ_GROUP: Final = 500
_READ_LINGER_S: Final = 0.002
_WRITE_LINGER_S: Final = 0.005
_WANTED: Final = 2_000


class _Entry(NamedTuple):
    site: str
    asked_at: Instant
    expires_at: Instant


class SystemMap:
    """
    Sites by domain, the most recently used ones: two generations, of which the older one is forgotten when the younger is full.

    Looking something up is one or two dictionary look-ups; keeping an exact order of use would cost as much again each time.
    """

    def __init__(self, size: int = _REMEMBERED) -> None:
        """Start empty."""
        self._half = max(size // 2, 1)
        self._young: dict[str, _Entry] = {}
        self._old: dict[str, _Entry] = {}

    def __len__(self) -> int:
        """Number of domains, those that are in both generations twice."""
        return len(self._young) + len(self._old)

    def get(self, domain: str) -> _Entry | None:
        """Return what is known of a domain."""
        entry = self._young.get(domain)
        if entry is None and (entry := self._old.get(domain)) is not None:
            self._keep(domain, entry)
        return entry

    def learn(self, system: KnownSystem) -> None:
        """Take an answer in, unless a newer one is known."""
        known = self.get(system.domain)
        if system.site is not None and (known is None or known.asked_at <= system.asked_at):
            self._keep(system.domain, _Entry(system.site, system.asked_at, system.expires_at))

    def _keep(self, domain: str, entry: _Entry) -> None:
        if len(self._young) >= self._half and domain not in self._young:
            self._old, self._young = self._young, {}
        self._young[domain] = entry


class Following:
    """The sites of domains as a door needs them: from memory at once, and from the table a moment later."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Start knowing nothing; domains are read when they are first wanted."""
        self._engine = engine
        self._clock = clock
        self._map = SystemMap()
        self._wanted: dict[str, None] = {}

    def system_of(self, domain: str) -> str | None:
        """Return a domain's site from memory; None when it is not known here yet."""
        entry = self._map.get(domain)
        if (entry is None or entry.expires_at <= self._clock.now()) and len(self._wanted) < _WANTED:
            self._wanted[domain] = None
        return None if entry is None else entry.site

    async def step(self) -> None:
        """
        Read what was wanted since the last time; called about once a second.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        if not self._wanted:
            return
        wanted = list(self._wanted)
        found = await self._engine.read(lambda conn: systems.find(conn, wanted))
        for domain in wanted:
            self._wanted.pop(domain, None)
        for system in found.values():
            self._map.learn(system)


class _Reads:
    """Reads from the table, many domains at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: dict[str, asyncio.Future[KnownSystem | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, domain: str) -> KnownSystem | None:
        """Return what the table knows of a domain; None also while the database is away."""
        future = self._pending.get(domain)
        if future is None:
            future = self._pending[domain] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.ensure_future(self._read_until_empty())
        return await asyncio.shield(future)

    async def _read_until_empty(self) -> None:
        try:
            await asyncio.sleep(_READ_LINGER_S)
            while self._pending:
                group = dict(list(self._pending.items())[:_READ_GROUP])
                for domain in group:
                    del self._pending[domain]
                found = await self._read(list(group))
                for domain, future in group.items():
                    if not future.done():
                        future.set_result(found.get(domain))
        finally:
            self._task = None

    async def _read(self, domains: list[str]) -> dict[str, KnownSystem]:
        try:
            return await self._engine.read(lambda conn: systems.find(conn, domains))
        except StorageUnavailable:
            return {}


def _write(conn: Connection, found: Sequence[KnownSystem]) -> list[Exception | None]:
    systems.record(conn, found)
    return [None] * len(found)


class Resolving:
    """Finds mail systems out, for one dispatch process."""

    def __init__(self, engine: Engine, resolver: Resolver, sites: Sites, clock: Clock) -> None:
        """Start knowing nothing."""
        self._resolver = resolver
        self._sites = sites
        self._clock = clock
        self._map = SystemMap()
        self._reads = _Reads(engine)
        self._writes: GroupCommit[KnownSystem, None] = GroupCommit(engine, _write, max_weight=_READ_GROUP, linger_s=_WRITE_LINGER_S)
        self._looking: dict[str, asyncio.Task[str | Unresolved]] = {}
        self._failing: dict[str, tuple[Instant, Unresolved]] = {}

    def known(self, domain: str, now: Instant) -> str | None:
        """Return a domain's site from memory; None when it has to be looked up. An old answer counts while a new one is looked up."""
        entry = self._map.get(domain)
        if entry is None:
            return None
        if entry.expires_at <= now:
            self._look_up(domain)
        return entry.site

    def is_elsewhere(self, domain: str, site: str, now: Instant) -> bool:
        """Tell whether a domain's mail is filed under a site that does not take it any more, as far as is known here."""
        entry = self._map.get(domain)
        if entry is None or entry.expires_at <= now:
            self._look_up(domain)
        return entry is not None and entry.site != site

    async def find(self, domain: str) -> str | Unresolved:
        """Find a domain's site out, and remember it for everybody; nobody is kept waiting for more than two seconds."""
        now = self._clock.now()
        failing = self._failing.get(domain)
        if failing is not None and failing[1].until > now:
            return failing[1]
        looking = self._look_up(domain)
        if looking is None:
            return Unresolved(until=now + _SOON, detail="many other domains are being looked up")
        await asyncio.wait([looking], timeout=_PATIENCE_S)
        if not looking.done():
            return Unresolved(until=self._clock.now() + _SOON, detail=f"DNS has not answered about {domain} yet")
        return looking.result()

    async def close(self) -> None:
        """Stop looking."""
        for task in self._looking.values():
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)

    def _look_up(self, domain: str) -> "asyncio.Task[str | Unresolved] | None":
        """Begin a look-up, or join the one that runs; None when there are too many."""
        looking = self._looking.get(domain)
        if looking is None and len(self._looking) < _LOOK_UPS:
            looking = self._looking[domain] = asyncio.ensure_future(self._look(domain))
            looking.add_done_callback(lambda _: self._looking.pop(domain, None))
        return looking

    async def _look(self, domain: str) -> str | Unresolved:
        try:
            return await self._found(domain)
        except Exception as error:  # noqa: BLE001 - a fault of ours delays mail, it never stops the others'
            maillog.crashed("resolve", error)
            return Unresolved(until=self._clock.now() + _SOON, detail=f"internal error: {type(error).__name__}")

    async def _found(self, domain: str) -> str | Unresolved:
        stored = await self._reads.find(domain)
        if stored is not None:
            self._map.learn(stored)
        entry, now = self._map.get(domain), self._clock.now()
        if entry is not None and entry.expires_at > now:
            self._failing.pop(domain, None)
            return entry.site
        answer = await self._resolver.mx(domain)
        now = self._clock.now()
        if isinstance(answer, ResolverFailed):
            metrics.look_ups.labels("failed").inc()
            return await self._failed(domain, entry, stored, answer.detail, now)
        metrics.look_ups.labels("found").inc()
        self._failing.pop(domain, None)
        hosts, ttl_s = (answer.hosts, answer.ttl_s) if isinstance(answer, MxHosts) else ((), 0.0)
        ttl = min(max(int(ttl_s * 1000), _LEAST_TTL), _MOST_TTL)
        site = self._sites.of_domain(domain, hosts)
        await self._remember(KnownSystem(domain=domain, site=site, asked_at=now, expires_at=now + ttl))
        return site

    async def _failed(
        self, domain: str, entry: _Entry | None, stored: KnownSystem | None, detail: str, now: Instant
    ) -> str | Unresolved:  # fmt: skip
        if entry is not None and entry.expires_at + systems.STALE > now:
            return entry.site
        if domain in self._failing:
            since = self._failing[domain][0]
        else:
            since = (stored.failing_since if stored is not None else None) or now
            self._failing[domain] = since, Unresolved(until=now, detail="")
        wait = min(max((now - since) // 4, 2 * _SOON), _LONGEST_WAIT)
        unresolved = Unresolved(until=now + wait, detail=f"DNS has been failing for {domain} since {iso(since)}: {detail}")
        if len(self._failing) > _REMEMBERED:
            self._failing.clear()
        self._failing[domain] = since, unresolved
        await self._remember(KnownSystem(domain=domain, site=None, asked_at=now, expires_at=now + wait, failing_since=since, detail=detail))
        return unresolved

    async def _remember(self, system: KnownSystem) -> None:
        """Write an answer down before it is used: mail that is filed by it must not be filed back by an older one."""
        self._map.learn(system)
        try:
            await self._writes.submit(system)
        except StorageUnavailable as error:
            maillog.trouble("mail systems are not written down: waiting for the database", error=str(error))
