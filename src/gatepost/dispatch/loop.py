"""
The queue runner: reads what is due in the shards that this process owns, hands it to couriers, settles their outcomes.

Arrives: queue rows that are due; their messages.
Leaves: settled results.
Nothing is written at the claim: a set in memory remembers what is in flight, and the lease keeps other processes off. One
owner has all of a site, so the number of connections to it is exact.
Not here: how a batch is delivered (egress), what an outcome means (settle), who owns what (ownership).
Bugs: a message that kills the process is tried again after the restart; nothing counts that yet.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.dispatch.holding import Holding, places_of
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.settling import Settling
from gatepost.domain import route as routes
from gatepost.domain.message import Lane, Source
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Unknown
from gatepost.egress.courier import Batch, BatchRecipient, Courier
from gatepost.mime.compose import date_text
from gatepost.mime.render import render
from gatepost.observe import maillog, metrics
from gatepost.policy.retry import RetrySchedule
from gatepost.settings import Settings
from gatepost.settle import Result, Settled, category_of, decide, expire, kind_of, new_event_id
from gatepost.store import messages, queue, sites, tenants
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.store.errors import KeyLost, SealBroken, StorageUnavailable
from gatepost.store.messages import Material, RecipientFacts
from gatepost.store.queue import Due
from gatepost.tenants.signing import Signing

_IN_MEMORY = 2_000
"""Recipients in memory at most; urgent ones may go above."""
_BYTES_IN_MEMORY = 64 * 1024 * 1024
_PER_SITE = 200
"""Recipients of one site that wait in memory at most, while there is room for everybody."""
_URGENT_EXTRA = 200
_LEAST_INTERVAL_S = 0.002
_BUSY_INTERVAL_S = 0.025
_IDLE_INTERVAL_S = 0.2
_SANDBOX_SLOTS = 50
_MUCH_UNSETTLED = 2_000

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Group:
    """One message's recipients at one site, claimed together."""

    rows: Sequence[Due]
    epoch: int
    material: Material
    addresses: Mapping[Key, RecipientFacts]


@dataclass(slots=True)
class _Site:
    """What is in memory for one site."""

    name: str
    slots: int
    lanes: tuple[deque[_Group], ...] = field(default_factory=lambda: tuple(deque() for _ in Lane))
    active: int = 0
    waiting: int = 0

    def push(self, group: _Group) -> None:
        """Line a group up."""
        self.lanes[group.rows[0].lane].append(group)
        self.waiting += len(group.rows)

    def pop(self) -> _Group | None:
        """Take the next group, the most urgent lane first."""
        return self._take(self.lanes, deque.popleft)

    def pop_last(self) -> _Group | None:
        """Take the group whose turn would come last."""
        return self._take(self.lanes[::-1], deque.pop)

    def _take(self, lanes: Sequence[deque[_Group]], take: Callable[[deque[_Group]], _Group]) -> _Group | None:
        for lane in lanes:
            if lane:
                group = take(lane)
                self.waiting -= len(group.rows)
                return group
        return None


@dataclass(frozen=True, slots=True)
class _Claim:
    """
    What one look at the queue found.

    Attributes:
        in_the_way: Shards and lanes at whose head lies mail of suspended tenants.
    """

    rows: Sequence[Due]
    materials: Mapping[str, Material]
    addresses: Mapping[Key, RecipientFacts]
    paused: frozenset[str]
    suspended: frozenset[str]
    in_the_way: frozenset[tuple[int, int]]
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """
    What a look at the queue needs to know, as it was when it began: it runs on another thread.

    Attributes:
        room: Recipients that fit in memory, those of the urgent lane apart.
        full: Sites that have enough in memory.
    """

    shards: frozenset[int]
    room: int
    counts: Mapping[tuple[int, int], int]
    in_flight: frozenset[Key]
    full: frozenset[str]
    now: Instant


class Dispatcher:
    """One process's queue runner."""

    def __init__(
        self,
        *,
        engine: Engine,
        blobs: Blobs,
        signing: Signing,
        couriers: Mapping[str, Courier],
        settings: Settings,
        clock: Clock,
        ownership: Ownership,
        hostname: str = "localhost",
        chance: random.Random | None = None,
    ) -> None:
        """
        Args:
            couriers: By route: `sandbox`, `mx`, and every relay's name.
            hostname: This gateway, as it calls itself in Received fields.
        """
        self._engine = engine
        self._blobs = blobs
        self._signing = signing
        self._couriers = couriers
        self._settings = settings
        self._clock = clock
        self._ownership = ownership
        self._hostname = hostname
        self._chance = chance or random.Random()  # noqa: S311 - jitter, no secret
        self._schedule = RetrySchedule(waits_s=settings.retry.schedule, jitter=settings.retry.jitter)
        self._holding = Holding(engine, clock, ownership.node_id, settings.retry.max_age_s)
        self._settling = Settling(engine, clock, ownership.node_id, self._on_settled)
        self._sites: dict[str, _Site] = {}
        self._in_flight: dict[Key, tuple[int, int]] = {}
        self._per_lane: Counter[tuple[int, int]] = Counter()
        self._bytes = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._paused: frozenset[str] = frozenset()
        self._woken = asyncio.Event()
        self._wants_more = False
        self._is_stopping = False

    async def step(self) -> float:
        """
        Do what is due now: renew leases, read the queue, start deliveries.

        Returns:
            Seconds after which it wants to be called again, unless `wake` comes first.
        """
        try:
            if self._ownership.is_due():
                await self._ownership.step(self._busy_shards())
            return await self._claim()
        except StorageUnavailable as error:
            maillog.trouble("dispatch is waiting for the database", error=str(error))
            return 1.0

    def wake(self) -> None:
        """Say that there may be something to do."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until woken, but at most so long."""
        if not self._woken.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._woken.clear()

    async def finish(self) -> None:
        """Wait until everything in memory is delivered and settled; for tests and for `stop`."""
        while self._workers or not self._settling.is_idle:
            await asyncio.gather(*self._workers, return_exceptions=True)
            await self._settling.drain()

    async def stop(self, drain_s: float) -> None:
        """Start nothing new, finish what runs, write it down, give the shards back."""
        self._is_stopping = True
        for site in self._sites.values():
            while (group := site.pop()) is not None:
                self._let_go(group)
        try:
            async with asyncio.timeout(drain_s):
                await self.finish()
        except TimeoutError:
            maillog.trouble("deliveries were cut at the stop", recipients=len(self._in_flight))
            for worker in self._workers:
                worker.cancel()
        try:
            async with asyncio.timeout(5):
                await self._ownership.release()
        except (StorageUnavailable, TimeoutError):
            maillog.trouble("the shards could not be given back; their leases will end", node=self._ownership.node_id)

    def _busy_shards(self) -> frozenset[int]:
        return frozenset(shard for (shard, _), count in self._per_lane.items() if count)

    async def _claim(self) -> float:
        if self._is_stopping or not self._settling.is_healthy or len(self._settling) > _MUCH_UNSETTLED:
            return _IDLE_INTERVAL_S
        shards = self._ownership.claimable()
        if not shards:
            return _IDLE_INTERVAL_S
        self._make_room()
        look = _Look(
            shards=frozenset(shards),
            room=_IN_MEMORY - len(self._in_flight) if self._bytes < _BYTES_IN_MEMORY else 0,
            counts=Counter(self._per_lane),
            in_flight=frozenset(self._in_flight),
            full=frozenset(site.name for site in self._sites.values() if site.waiting > self._share() // 2),
            now=self._clock.now(),
        )
        claim = await self._engine.read(lambda conn: _read(conn, look))
        self._paused = claim.paused
        is_released = await self._holding.follow(claim.suspended, self._ownership.epochs)
        is_left_behind = self._line_up(claim, look.now)
        # with rows left behind, the next look comes as soon as there is room for them
        self._wants_more = is_left_behind or claim.is_cut or bool(look.full)
        if claim.in_the_way:
            await self._holding.put_aside(claim.in_the_way, self._ownership.epochs, self._in_flight)
        await self._clock.sleep(_LEAST_INTERVAL_S)
        return _BUSY_INTERVAL_S if claim.rows or claim.in_the_way or is_released else _IDLE_INTERVAL_S

    def _share(self) -> int:
        """Recipients that one site may have waiting in memory: less when many sites want some."""
        return min(_PER_SITE, max(_IN_MEMORY // (len(self._sites) + 1), 20))

    def _make_room(self) -> None:
        """Let go of what waits for slow sites when it takes the room of others; it is still in the queue."""
        if len(self._in_flight) < _IN_MEMORY // 2:
            return
        share = self._share()
        for site in list(self._sites.values()):
            while site.waiting > share and (group := site.pop_last()) is not None:
                self._let_go(group)

    def _line_up(self, claim: _Claim, now: Instant) -> bool:
        """Hand a claim's rows to their sites; return whether some had to be left in the queue."""
        is_left_behind = False
        share = self._share()
        for (_, name), rows in groupby(claim.rows, key=lambda row: (row.message_id, row.site)):
            group = list(rows)
            first = group[0]
            material, epoch = claim.materials.get(first.message_id), self._ownership.epochs.get(first.shard)
            if material is None or epoch is None:
                is_left_behind = True
                continue
            if first.expires_at <= now:
                self._remember(group)
                self._settling.add([self._result(row, epoch, None, now, _address(claim.addresses, row)) for row in group])
                continue
            site = self._site(name, material.route)
            if first.lane != Lane.CODES and site.waiting >= share:
                is_left_behind = True
                continue
            self._remember(group)
            self._bytes += len(material.data)
            site.push(_Group(group, epoch, material, claim.addresses))
            self._start_worker(site)
        return is_left_behind

    def _remember(self, rows: Sequence[Due]) -> None:
        for row in rows:
            self._in_flight[row.message_id, row.n] = (row.shard, row.lane)
            self._per_lane[row.shard, row.lane] += 1
        metrics.in_flight.set(len(self._in_flight))

    def _forget(self, rows: Sequence[Due]) -> None:
        for row in rows:
            if self._in_flight.pop((row.message_id, row.n), None) is not None:
                self._per_lane[row.shard, row.lane] -= 1
        metrics.in_flight.set(len(self._in_flight))

    def _let_go(self, group: _Group) -> None:
        """Forget a group that was not delivered; the next look at the queue finds it again."""
        self._bytes -= len(group.material.data)
        self._forget(group.rows)

    def _site(self, name: str, route: str) -> _Site:
        site = self._sites.get(name)
        if site is None:
            egress = self._settings.egress
            slots = {routes.MX: egress.connections_per_site, routes.SANDBOX: _SANDBOX_SLOTS}.get(route, egress.connections_per_relay)
            site = self._sites[name] = _Site(name, slots)
        return site

    def _start_worker(self, site: _Site) -> None:
        if site.active < site.slots:
            site.active += 1
            worker = asyncio.ensure_future(self._work(site))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, site: _Site) -> None:
        """Deliver a site's groups, one after the other, until none waits: one of its connection slots."""
        try:
            while (group := site.pop()) is not None:
                if self._wants_more and site.waiting <= self._share() // 2:
                    self._wants_more = False
                    self.wake()
                await self._settling.room()
                if self._may_start(site, group):
                    await self._deliver(group)
                else:
                    self._let_go(group)
        finally:
            site.active -= 1
            if not site.active and not site.waiting:
                self._sites.pop(site.name, None)

    def _may_start(self, site: _Site, group: _Group) -> bool:
        row = group.rows[0]
        is_ours = self._ownership.is_safe(row.shard) and self._ownership.epochs.get(row.shard) == group.epoch
        is_held = row.tenant_id in self._holding.suspended
        return is_ours and not is_held and self._settling.is_healthy and site.name not in self._paused and not self._is_stopping

    async def _deliver(self, group: _Group) -> None:
        started = self._clock.now()
        try:
            outcomes = await self._outcomes(group)
        except Exception as error:  # noqa: BLE001 - a fault of ours defers the mail, it never loses it
            maillog.crashed("deliver", error, message_id=group.material.id)
            outcomes = self._refuse_all(group, started, f"internal error: {type(error).__name__}", counts=True)
        now = self._clock.now()
        self._bytes -= len(group.material.data)
        self._settling.add([self._result(row, group.epoch, outcomes[row.n], now, _address(group.addresses, row)) for row in group.rows])

    async def _outcomes(self, group: _Group) -> Mapping[int, Outcome]:
        broken = {row.n: error for row in group.rows if (error := _broken(group, row)) is not None}
        if not broken:
            return await self._outcomes_of_readable(group)
        now, route = self._clock.now(), group.material.route
        outcomes = {n: _unreadable(error, Exchange(route=route, started_at=now, finished_at=now)) for n, error in broken.items()}
        maillog.trouble("stored mail cannot be opened", message_id=group.material.id, error=str(broken[min(broken)]))
        rest = [row for row in group.rows if row.n not in broken]
        return outcomes if not rest else {**outcomes, **await self._outcomes_of_readable(replace(group, rows=rest))}

    async def _outcomes_of_readable(self, group: _Group) -> Mapping[int, Outcome]:
        material = group.material
        courier = self._couriers.get(material.route)
        if courier is None:
            return self._refuse_all(group, self._clock.now(), f"the relay {material.route} is not configured", counts=False)
        try:
            stored = self._blobs.get(material.encoding, material.data)
        except StorageUnavailable as error:
            return self._refuse_all(group, self._clock.now(), str(error), counts=False)
        except SealBroken as error:
            now = self._clock.now()
            maillog.trouble("stored mail cannot be opened", message_id=material.id, recipients=len(group.rows), error=str(error))
            return {row.n: _unreadable(error, Exchange(route=material.route, started_at=now, finished_at=now)) for row in group.rows}
        try:
            signers = self._signing.signers(material.tenant_id, material.from_domain)
        except SealBroken as error:
            return self._refuse_all(group, self._clock.now(), str(error), counts=False)
        content = render(stored, signers, now=self._clock.now(), received=_received(material, self._hostname))
        return await courier.deliver(_batch(group, content))

    def _refuse_all(self, group: _Group, started: Instant, detail: str, *, counts: bool) -> Mapping[int, Outcome]:
        exchange = Exchange(route=group.material.route, started_at=started, finished_at=self._clock.now())
        return {row.n: Deferred(exchange=exchange, category=Category.REMOTE_SYSTEM, detail=detail, counts=counts) for row in group.rows}

    def _result(self, row: Due, epoch: int, outcome: Outcome | None, now: Instant, address: str) -> Result:
        captured = None
        if isinstance(outcome, Delivered) and outcome.captured is not None:
            try:
                captured = self._blobs.put(outcome.captured)
            except StorageUnavailable as error:
                outcome = Deferred(exchange=outcome.exchange, category=Category.REMOTE_SYSTEM, detail=str(error), counts=False)
        decision = expire(row) if outcome is None else decide(row, outcome, self._schedule, now, self._chance.random())
        return Result(
            due=row, epoch=epoch, outcome=outcome, decision=decision, event_id=new_event_id(), at=now, address=address, captured=captured
        )

    def _on_settled(self, result: Result, settled: Settled) -> None:
        if settled.is_fenced:
            metrics.results_fenced.inc()
            maillog.trouble(
                "a result came too late: the shard has another owner",
                message_id=result.due.message_id,
                n=result.due.n,
                shard=result.due.shard,
            )
        else:
            _tell(result)
        self._forget([result.due])


def _read(conn: Connection, look: _Look) -> _Claim:
    paused, suspended = frozenset(sites.paused(conn)), tenants.suspended(conn)
    present = [shard for shard in queue.shards_with_rows(conn) if shard in look.shards]
    rows, is_cut = _rows(conn, look, present, paused, frozenset())
    in_the_way = places_of(rows, suspended)
    if in_the_way:  # only until it is put aside: others' mail must not wait behind it
        rows, is_cut = _rows(conn, look, present, paused, suspended)
    message_ids = list(dict.fromkeys(row.message_id for row in rows))
    materials = messages.materials(conn, message_ids, _BYTES_IN_MEMORY // 2)
    found = messages.addresses(conn, list(materials))
    return _Claim(rows, materials, found, paused, suspended, in_the_way, is_cut)


def _rows(
    conn: Connection, look: _Look, shards: Sequence[int], paused: frozenset[str], suspended: frozenset[str]
) -> tuple[list[Due], bool]:  # fmt: skip
    urgent = _due(conn, look, shards, [Lane.CODES], _URGENT_EXTRA, paused, suspended)
    if look.room <= 0:
        return urgent, True
    others = _due(conn, look, shards, [lane for lane in Lane if lane is not Lane.CODES], look.room, paused | look.full, suspended)
    return urgent + others[: look.room], len(others) >= look.room


def _due(
    conn: Connection, look: _Look, shards: Sequence[int], lanes: Sequence[Lane], room: int, without: frozenset[str],
    suspended: frozenset[str],
) -> list[Due]:  # fmt: skip
    """Read what is due and not in memory yet, each shard and lane its share of the room."""
    share = max(room // max(len(shards) * len(lanes), 1), _PER_SITE // 2)
    wanted = [(shard, int(lane), share + look.counts.get((shard, int(lane)), 0)) for lane in lanes for shard in shards]
    rows = queue.due(conn, wanted, look.now, sorted(without), sorted(suspended))
    return [row for row in rows if (row.message_id, row.n) not in look.in_flight]


def _broken(group: _Group, row: Due) -> SealBroken | None:
    """Tell why a recipient's message or address cannot be opened, if it cannot."""
    fact = group.addresses.get((row.message_id, row.n))
    return group.material.broken or (fact.broken if fact else None)


def _unreadable(error: SealBroken, exchange: Exchange) -> Outcome:
    """Fail what was altered on disk; let wait what only lacks its key, which an operator may bring back."""
    if isinstance(error, KeyLost):
        return Deferred(exchange=exchange, category=Category.REMOTE_SYSTEM, detail=f"this message's key is gone: {error}", counts=False)
    return Failed(exchange=exchange, category=Category.UNDETERMINED, detail=f"the stored message cannot be opened: {error}")


def _address(addresses: Mapping[Key, RecipientFacts], row: Due) -> str:
    fact = addresses.get((row.message_id, row.n))
    return fact.address if fact else ""


def _received(material: Material, hostname: str) -> str:
    """Write the trace field (RFC 5321 §4.4), without the client's address: that is nobody's business further on."""
    protocol = {Source.SMTP.value: "ESMTPA"}.get(material.source, "HTTP")
    return f"Received: by {hostname} (Gatepost) with {protocol} id {material.id};\r\n\t{date_text(material.created_at // 1000)}"


def _batch(group: _Group, content: bytes) -> Batch:
    material, first = group.material, group.rows[0]
    facts = [group.addresses[row.message_id, row.n] for row in group.rows]
    return Batch(
        message_id=material.id,
        route=material.route,
        site=first.site,
        domain=facts[0].address.rpartition("@")[2],
        envelope_from=material.envelope_from,
        recipients=tuple(
            BatchRecipient(n=row.n, address=fact.address, attempt=row.attempt, notify=fact.notify, orcpt=fact.orcpt)
            for row, fact in zip(group.rows, facts, strict=True)
        ),
        content=content,
        is_8bit=material.is_8bit,
        is_smtputf8=material.is_smtputf8,
        ret=material.options.get("ret"),
        envid=material.options.get("envid"),
    )


def _tell(result: Result) -> None:
    """Log and count a settled result."""
    due, outcome, decision = result.due, result.outcome, result.decision
    if decision.due_at is None:
        metrics.recipients_final.labels(decision.status.value).inc()
    if outcome is None:
        maillog.attempted(address=result.address, message_id=due.message_id, n=due.n, status=decision.status.value, site=due.site)
        return
    exchange = outcome.exchange
    route, seconds = exchange.route, (exchange.finished_at - exchange.started_at) / 1000
    metrics.attempts.labels(route, kind_of(outcome), category_of(outcome) or "").inc()
    metrics.attempt_seconds.labels(route).observe(seconds)
    if isinstance(outcome, Delivered):
        metrics.delivery_seconds.labels(route).observe(max(result.at - due.due_at, 0) / 1000)
    if isinstance(outcome, Unknown):
        metrics.possible_duplicates.inc()
    maillog.attempted(
        address=result.address,
        message_id=due.message_id,
        n=due.n,
        attempt=due.attempt,
        status=decision.status.value,
        outcome=kind_of(outcome),
        category=category_of(outcome),
        route=route,
        site=due.site,
        host=exchange.host,
        smtp_code=decision.data.get("smtp_code"),
        enhanced_code=decision.data.get("enhanced_code"),
        duration_ms=exchange.finished_at - exchange.started_at,
    )
