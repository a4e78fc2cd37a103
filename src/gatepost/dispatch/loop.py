"""
The queue runner: reads what is due in the shards that this process owns, hands it to couriers, settles their outcomes.

Arrives: queue rows that are due; their messages; what doors have just stored and hand over.
Leaves: settled results.
Nothing is written at the claim: a set in memory remembers what is in flight, and the lease keeps other processes off. One
owner has all of a site, so what shaping allows there is exact.
Not here: what is read (claiming, backlog), whose turn it is (waiting), one delivery (delivering), how much a site gets (shaping), which
road is open (roads), which system takes a domain (resolving), what an outcome means (settle), who owns what (ownership).
Bugs: a message that kills the process is tried again after the restart; nothing counts that yet.
"""

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace

from gatepost.bounce_messages import BounceMessages
from gatepost.clock import Clock, Instant
from gatepost.dispatch.acting import Acting
from gatepost.dispatch.backlog import Backlog
from gatepost.dispatch.claiming import Claim, Claiming
from gatepost.dispatch.delivering import Delivering, expired, opens_at, tell, told_off
from gatepost.dispatch.ending import Ending
from gatepost.dispatch.holding import Holding
from gatepost.dispatch.memory import Memory
from gatepost.dispatch.moving import Move, Moving
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.ports import Permit, Place, Roads, Shaping, Systems, Unresolved, Wait
from gatepost.dispatch.settling import Settling
from gatepost.dispatch.standard import FixedSlots, OneRoad, OwnSystems
from gatepost.dispatch.waiting import Group, Key, Site, address_of, route_of
from gatepost.domain.message import Lane
from gatepost.domain.route import UNRESOLVED, RoadKind, road_at
from gatepost.egress.courier import Courier
from gatepost.observe import maillog, metrics
from gatepost.policy.failover import OVERFLOWING, TURNING_OFF
from gatepost.settings import Settings
from gatepost.settle import Result, Settled, domain_of
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.handover import LATEST_S, unpacked
from gatepost.store.queue import Due
from gatepost.suppressing import Suppressing
from gatepost.tenants.signing import Signing
from gatepost.wire.return_path import ReturnPaths
from gatepost.wire.tracking_token import TrackingUrls

_LEAST_INTERVAL_S = 0.002
_BUSY_INTERVAL_S = 0.025
_IDLE_INTERVAL_S = 0.2
_STEP_S = 1.0
"""How often those who know more of sites and roads read and write what they keep."""
_MUCH_UNSETTLED = 2_000
_MOST_UNRESOLVED = 500
"""Recipients at most whose mail systems are being looked up."""
_LONG_WAIT_MS = 5_000
_REST_MS = 1_000
"""How long a site is left alone after many of its recipients had no road that is open."""
_NEXT_LOT_MS = 100
"""Between lots that are put off because their road takes nothing: it must not keep the database from its work."""


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
        shaping: Shaping | None = None,
        roads: Roads | None = None,
        systems: Systems | None = None,
        reports: BounceMessages | None = None,
        suppressing: Suppressing | None = None,
        return_paths: ReturnPaths | None = None,
        tracking: TrackingUrls | None = None,
    ) -> None:
        """
        Args:
            couriers: By road: `sandbox`, `mx`, and every relay's name.
            hostname: This gateway, as it calls itself in Received fields.
            shaping: How much sites get; None is a fixed number of connections.
            roads: Where mail goes when a road fails; None: it waits.
            systems: Which mail system takes a domain; None: each its own.
            reports: Tells senders by mail; None tells nobody.
            suppressing: Keeps the suppression list; None suppresses nobody.
            return_paths: What mail comes back to; None leaves it to the senders.
            tracking: What links lead to in mail that is tracked; None tracks nothing.
        """
        self._engine = engine
        self._clock = clock
        self._ownership = ownership
        self._holding = Holding(engine, clock, ownership.node_id, settings.retry.max_age_s)
        self._settling = Settling(engine, clock, ownership.node_id, self._on_settled, reports, suppressing)
        self._moving = Moving(engine, clock, ownership.node_id, self._on_moved)
        self._memory = Memory(clock)
        self._backlog = Backlog()
        self._claiming = Claiming(engine, clock, self._memory, self._backlog, self._is_open)
        self._shaping: Shaping = shaping or FixedSlots(settings.egress)
        self._roads: Roads = roads or OneRoad()
        self._systems: Systems = systems or OwnSystems()
        self._acting = Acting(
            engine, clock, ownership.node_id, settings.retry.max_age_s, self._memory, self._free, self._follow,
            lambda domain: self._systems.known(domain, clock.now()),
        )  # fmt: skip
        self._ending = Ending(engine, clock, ownership.node_id, self._memory, self._let_go, reports)
        self._delivering = Delivering(
            blobs=blobs, signing=signing, couriers=couriers, settings=settings, clock=clock, hostname=hostname,
            chance=chance or random.Random(), shaping=self._shaping, roads=self._roads,  # noqa: S311 - jitter, no secret
            return_paths=return_paths, tracking=tracking,
        )  # fmt: skip
        self._next_step = float("-inf")
        self._workers: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._unresolved = 0
        self._is_stopping = False
        self._has_actions = self._has_acted = False
        self._takes_from = float("-inf")
        self._resting: dict[Place, Instant] = {}

    async def step(self) -> float:
        """
        Do what is due now: renew leases, read the queue, start deliveries.

        Returns:
            Seconds after which it wants to be called again, unless `wake` comes first.
        """
        try:
            if self._ownership.is_due():
                await self._ownership.step(self._memory.busy_shards())
            if self._clock.monotonic() >= self._next_step:
                self._next_step = self._clock.monotonic() + _STEP_S
                await self._shaping.step(self._ownership.epochs, self._clock.now())
                await self._roads.step(self._clock.now())
                self._backlog.feed_all()
                self._memory.turn_over()
                self._leave_hanging()
                self._resting = {place: until for place, until in self._resting.items() if until > self._clock.now()}
                self._expire_waiting()
                await self._ending.step(self._ownership.epochs)
                await self._act()
            elif self._has_actions:
                await self._act()
            return await self._claim()
        except StorageUnavailable as error:
            maillog.trouble("dispatch is waiting for the database", error=str(error))
            return 1.0

    async def _act(self) -> None:
        self._takes_from = float("inf")
        self._has_acted = False
        try:
            self._has_actions = await self._acting.step(self._ownership.epochs)
        finally:
            # what was on its way to us meanwhile may be held, elsewhere or cancelled by now
            self._takes_from = self._clock.monotonic() + LATEST_S if self._has_acted else float("-inf")

    def take_in(self, data: bytes) -> None:
        """Begin with what was just stored and is handed over (store.handover); what cannot begin is read from the queue."""
        now = self._clock.monotonic()
        messages = unpacked(data, now) if now >= self._takes_from else None
        shards = self._ownership.claimable()
        if messages is None or not shards or not self._may_claim():
            self.wake()
            return
        claim = self._claiming.take(messages, shards)
        try:
            self._line_up(claim, self._clock.now())
        except Exception as error:  # noqa: BLE001 - it stays in the queue
            maillog.crashed("take_in", error)
            self._claiming.leave(claim.rows)
        if self._backlog.is_hungry and self._memory.room:
            self.wake()

    def _may_claim(self) -> bool:
        return not self._is_stopping and self._settling.is_healthy and len(self._settling) <= _MUCH_UNSETTLED

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
        while self._workers or not self._settling.is_idle or not self._moving.is_idle:
            await asyncio.gather(*self._workers, return_exceptions=True)
            await self._settling.drain()
            await self._moving.drain()

    async def stop(self, drain_s: float) -> None:
        """Start nothing new, finish what runs, write it down, give the shards back."""
        self._is_stopping = True
        for site in self._memory.sites.values():
            while (group := site.pop()) is not None:
                self._let_go(group)
        try:
            async with asyncio.timeout(drain_s):
                await self.finish()
        except TimeoutError:
            maillog.trouble("deliveries were cut at the stop", recipients=len(self._memory.in_flight))
            for worker in self._workers:
                worker.cancel()
        try:
            async with asyncio.timeout(5):
                await self._ownership.release()
        except (StorageUnavailable, TimeoutError):
            maillog.trouble("the shards could not be given back; their leases will end", node=self._ownership.node_id)

    async def _claim(self) -> float:
        if not self._may_claim():
            return _IDLE_INTERVAL_S
        shards = self._ownership.claimable()
        if not shards:
            return _IDLE_INTERVAL_S
        self._make_room()
        claim = await self._claiming.look(self._ownership.epochs, shards)
        is_released = await self._holding.follow(claim.suspended, self._ownership.epochs)
        self._line_up(claim, self._clock.now())
        if claim.in_the_way:
            await self._holding.put_aside(claim.in_the_way, self._ownership.epochs, self._memory.in_flight)
        if claim.in_the_way or is_released:
            self._claiming.rescan()
        await self._clock.sleep(_LEAST_INTERVAL_S)
        if claim.is_cut or (claim.rows and self._backlog.is_hungry and self._memory.room):
            return 0.0
        return _BUSY_INTERVAL_S if claim.rows or claim.in_the_way or is_released else _IDLE_INTERVAL_S

    def _is_open(self, place: Place) -> bool:
        """Tell whether a site gets something for now: it may be read into memory."""
        if place[1].startswith(UNRESOLVED):
            return self._unresolved < _MOST_UNRESOLVED
        if self._resting and self._resting.get(place, 0) > self._clock.now():
            return False
        if place[1] in self._claiming.paused:
            return False
        wait = self._shaping.blocked(place, self._clock.now())
        return wait is None or (self._roads.has_choice and wait.cause in OVERFLOWING)

    def _make_room(self) -> None:
        """Let go of what waits for slow sites when it takes the room of others; it is still in the queue."""
        if not self._memory.is_half_full:
            return
        share = self._memory.share
        for site in list(self._memory.sites.values()):
            while site.waiting > share and (group := site.pop_last()) is not None:
                self._let_go(group)

    def _line_up(self, claim: Claim, now: Instant) -> None:
        """Hand a claim's recipients to their sites."""
        for row in claim.expired:
            self._expire(row, self._ownership.epochs.get(row.shard), claim, now)
        groups: dict[tuple[str, str, str, str], list[Due]] = {}
        for row in claim.rows:
            groups.setdefault(_together(claim, row, now), []).append(row)
        for rows in groups.values():
            first = rows[0]
            material, epoch = claim.materials.get(first.message_id), self._ownership.epochs.get(first.shard)
            is_unresolved = first.site.startswith(UNRESOLVED)
            if epoch is None:
                self._claiming.leave(rows)
            elif is_unresolved and (first.expires_at > now or (first.message_id, first.n) not in claim.addresses):
                self._start(self._resolve(rows, epoch, first.site.removeprefix(UNRESOLVED)))
            elif first.expires_at <= now and (is_unresolved or material is not None):
                for row in rows:
                    self._expire(row, epoch, claim, now)
            elif material is None:
                self._claiming.leave(rows)
            elif self._is_elsewhere(claim, first, now):
                self._start(self._resolve(rows, epoch, domain_of(address_of(claim.addresses, first))))
            else:
                self._start_worker(self._memory.push(Group(rows, epoch, material, claim.addresses)), first.lane)

    def _expire(self, row: Due, epoch: int | None, claim: Claim, now: Instant) -> None:
        if epoch is None:
            self._claiming.leave([row])
        else:
            self._settling.add([expired(row, epoch, now, address_of(claim.addresses, row))])

    def _expire_waiting(self) -> None:
        """End what waits in memory for too long."""
        now = self._clock.now()
        for site in list(self._memory.sites.values()):
            for group in site.take_expired(now):
                self._end(group, now)
            self._memory.drop_if_empty(site)

    def _end(self, group: Group, now: Instant) -> None:
        self._memory.bytes -= len(group.material.data)
        self._settling.add([expired(row, group.epoch, now, address_of(group.addresses, row)) for row in group.rows])

    def _let_go(self, group: Group) -> None:
        """Forget a group that was not delivered; it is still in the queue, and known to be."""
        self._memory.bytes -= len(group.material.data)
        self._claiming.leave(group.rows)

    def _free(self, groups: Sequence[Group], keys: frozenset[Key]) -> None:
        """Take recipients out of flight that an action is about to change; let go of what only travels with them."""
        self._claiming.forget_kept()
        self._has_acted = True
        for group in groups:
            self._memory.bytes -= len(group.material.data)
            self._memory.forget([row for row in group.rows if (row.message_id, row.n) in keys])
            self._claiming.leave([row for row in group.rows if (row.message_id, row.n) not in keys])

    def _start(self, work: Coroutine[None, None, None]) -> None:
        worker = asyncio.ensure_future(work)
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    def _leave_hanging(self) -> None:
        """Send on by other roads what waits behind deliveries that all hang: their road is shut then, and this takes no place of it."""
        now = self._clock.now()
        for site in list(self._memory.sites.values()) if self._roads.has_choice else ():
            if site.is_busy and (wait := self._roads.hanging(road_at(*site.place), site.moved_at, now)) is not None:
                stuck: list[Group] = []
                while (group := site.pop()) is not None:
                    stuck += self._turn_off(group, wait)
                self._keep(site, stuck, wait)

    def _start_worker(self, site: Site, lane: int) -> None:
        if site.timer is None and site.active < self._slots(site, for_codes=lane == Lane.CODES):
            site.active += 1
            self._start(self._work(site))

    def _slots(self, site: Site, *, for_codes: bool) -> int:
        """Tell how many may work at once: where codes are expected, one less for all others, so that a code need not wait."""
        slots = self._shaping.slots(site.place)
        return slots - 1 if not for_codes and slots > 1 and self._memory.expects_codes(site.place) else slots

    def _is_elsewhere(self, claim: Claim, row: Due, now: Instant) -> bool:
        """Tell whether another mail system takes the recipient's domain by now."""
        is_mx = road_at(row.pool, row.site).kind is RoadKind.MX
        return is_mx and self._systems.is_elsewhere(domain_of(address_of(claim.addresses, row)), row.site, now)

    async def _resolve(self, rows: Sequence[Due], epoch: int, domain: str) -> None:
        """File rows under the site that takes their domain; where DNS does not answer they wait, and no attempt is counted."""
        self._unresolved += len(rows)
        try:
            # who would move mail that is filed asks everybody, or two processes would move it to and fro
            known = self._systems.known(domain, self._clock.now()) if rows[0].site.startswith(UNRESOLVED) else None
            found = known or await self._systems.find(domain)
        finally:
            self._unresolved -= len(rows)
        if found == rows[0].site:
            self._claiming.leave(rows)
        elif isinstance(found, Unresolved):
            self._moving.add([_moved(row, epoch, site=row.site, due_at=min(found.until, row.expires_at)) for row in rows])
        else:
            # due now, and not earlier: the owner of its new shard looks only for what is new
            now = self._clock.now()
            self._moving.add([_moved(row, epoch, site=found, due_at=now) for row in rows])

    async def _work(self, site: Site) -> None:
        """Deliver a site's groups, one after the other, until none waits: one of its connection slots."""
        stuck: list[Group] = []
        wait: Wait | None = None
        try:
            while (group := await self._next(site)) is not None:
                if not self._may_start(site, group):
                    self._let_go(group)
                    continue
                if (opens := opens_at(group, self._clock.now())) > self._clock.now():
                    self._put_off(group, opens)
                    continue
                permit = self._ask(site)
                if isinstance(permit, Wait):
                    if permit.cause not in TURNING_OFF:
                        site.push_back(group)
                        wait = permit
                        break
                    wait = permit
                    stuck += self._turn_off(group, permit)
                    continue
                if permit.recipients is not None and len(group.rows) > permit.recipients:
                    group = self._split(site, group, permit.recipients)
                site.begin(self._clock.now())
                try:
                    results = await self._delivering.deliver(group, permit)
                finally:
                    site.end(self._clock.now())
                self._memory.bytes -= len(group.material.data)
                self._settling.add(results)
            if wait is not None:
                self._wait_for(site, self._keep(site, stuck, wait))
        finally:
            site.active -= 1
            self._memory.drop_if_empty(site)

    async def _next(self, site: Site) -> Group | None:
        """Take the group whose turn it is, when there is room for its result; have more read when few are left."""
        if site.waiting:
            await self._settling.room()
        group = site.pop(only_codes=site.active > self._slots(site, for_codes=False))
        if self._memory.wants(site.place) > 0 and self._backlog.feed(site.place):
            self.wake()
        return group

    def _split(self, site: Site, group: Group, most: int) -> Group:
        """Take as many recipients as one transaction may have; the others' turn comes next."""
        site.push_back(replace(group, rows=group.rows[most:]))
        self._memory.bytes += len(group.material.data)
        return replace(group, rows=group.rows[:most])

    def _ask(self, site: Site) -> Permit | Wait:
        """Ask whether a transaction with a site may begin: its road must be open, and the site have room."""
        now = self._clock.now()
        return self._roads.blocked(road_at(*site.place), now) or self._shaping.take(site.place, now)

    def _wait_for(self, site: Site, wait: Wait) -> None:
        """Start the site's work again when its wait is over."""
        if site.timer is None:
            seconds = max(wait.until - self._clock.now(), 1) / 1000
            site.timer = asyncio.get_running_loop().call_later(min(seconds, _STEP_S), self._go_on, site)

    def _go_on(self, site: Site) -> None:
        site.timer = None
        for _ in range(min(site.waiting, self._shaping.slots(site.place) - site.active)):
            self._start_worker(site, Lane.CODES if site.waiting_in(Lane.CODES) else Lane.BULK)
        self._memory.drop_if_empty(site)

    def _turn_off(self, group: Group, wait: Wait) -> list[Group]:
        """Send a group on by other roads, as its own takes nothing; return what has no other one, as a group or none."""
        now = self._clock.now()
        moves, left = [], []
        for row in group.rows:
            found = self._roads.after(row, route_of(group, row), None, now, wait.cause)
            if found is None:
                left.append(row)
                continue
            road, domain = found.road, domain_of(address_of(group.addresses, row))
            site_name = road.site_of(domain, self._systems.known(domain, now))
            moves.append(Move(due=row, epoch=group.epoch, pool=road.pool, site=site_name, due_at=now, tried=found.tried))
            told_off(row, road, found.cause, is_unsure=found.is_unsure)
        self._moving.add(moves)
        if not left:
            self._memory.bytes -= len(group.material.data)
            return []
        return [replace(group, rows=left)]

    def _keep(self, site: Site, groups: Sequence[Group], wait: Wait) -> Wait:
        """
        Keep groups that no road takes now; return until when.

        In memory, where they see at once when a road opens; but not when more lies behind them and the wait is long: some of
        that may have a second road.
        """
        now = self._clock.now()
        is_road = wait.cause not in OVERFLOWING
        is_long = is_road and wait.until > now + _LONG_WAIT_MS and self._backlog.has(site.place)
        if is_long:  # most of what lies behind them is stuck, too: reading on shall not cost the others anything
            self._resting[site.place] = now + _REST_MS
        for group in reversed(groups):
            if self._is_stopping:
                self._let_go(group)
            elif group.rows[0].expires_at <= now:
                self._end(group, now)
            elif is_long:
                self._put_off(group, wait.until)
            else:
                site.push_back(group)
        return replace(wait, until=now + _NEXT_LOT_MS) if is_long and groups else wait

    def _put_off(self, group: Group, until: Instant) -> None:
        """Let a group wait in the queue until another time, or until its end."""
        self._memory.bytes -= len(group.material.data)
        until = min(until, group.rows[0].expires_at)
        self._moving.add([_moved(row, group.epoch, site=row.site, due_at=until) for row in group.rows])

    def _may_start(self, site: Site, group: Group) -> bool:
        row = group.rows[0]
        is_ours = self._ownership.is_safe(row.shard) and self._ownership.epochs.get(row.shard) == group.epoch
        is_held = row.tenant_id in self._holding.suspended
        return is_ours and not is_held and self._settling.is_healthy and site.name not in self._claiming.paused and not self._is_stopping

    def _on_settled(self, results: Sequence[Result], settled: Sequence[Settled]) -> None:
        written = [result for result, one in zip(results, settled, strict=True) if not one.is_fenced]
        if len(written) < len(results):
            self._tell_fenced([result.due for result, one in zip(results, settled, strict=True) if one.is_fenced])
        tell(written)
        self._memory.forget([result.due for result in results])
        for result in written:
            due, decision = result.due, result.decision
            if decision.due_at is not None:
                road = decision.road
                place = (due.pool, due.site) if road is None else (road.pool, road.site_of(domain_of(result.address)))
                self._follow(due, place, decision.due_at)

    def _tell_fenced(self, rows: Sequence[Due]) -> None:
        for row in rows:
            metrics.results_fenced.inc()
            maillog.trouble("a result came too late: the shard has another owner", message_id=row.message_id, n=row.n, shard=row.shard)

    def _on_moved(self, moves: Sequence[Move]) -> None:
        self._memory.forget([one.due for one in moves])
        for one in moves:
            self._follow(one.due, (one.pool, one.site), one.due_at)

    def _follow(self, due: Due, place: Place, due_at: Instant) -> None:
        """See a row at its new place at once, when it is due and ours; the cursors would come later, or are past it already."""
        if due_at <= self._clock.now() and self._claiming.meet(due, place, due_at):
            self.wake()


def _moved(row: Due, epoch: int, *, site: str, due_at: Instant) -> Move:
    return Move(due=row, epoch=epoch, pool=row.pool, site=site, due_at=due_at, tried=row.tried)


def _together(claim: Claim, row: Due, now: Instant) -> tuple[str, str, str, str]:
    """Name what rows must share to be delivered at once: one message, one place, and on the way to MX hosts one domain."""
    if row.site.startswith(UNRESOLVED):  # they are looked up at once; what has ended is not
        return (row.message_id if row.expires_at <= now else ""), row.pool, row.site, ""
    is_mx = road_at(row.pool, row.site).kind is RoadKind.MX
    return row.message_id, row.pool, row.site, domain_of(address_of(claim.addresses, row)) if is_mx else ""
