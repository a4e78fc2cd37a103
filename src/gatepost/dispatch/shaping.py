"""
How much the sites of this process get: its answers to the dispatch loop (`ports.Shaping`).

Arrives: the settings, what operators ordered, what earlier owners knew; transactions. Leaves: permits and waits; states on disk.
A site of a pool has one owner, and a source stands in one pool: so what is counted here in memory is exact. About once a second
orders are read, warm-up messages counted up on disk before they may go, and every few seconds states written down.
Not here: what one source may do at one site (flow), the data and the rules (policy.shaping).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Instant
from gatepost.dispatch.flow import STARTING, Flow
from gatepost.dispatch.ports import Breakers, Permit, Place, Wait
from gatepost.domain.flow import FlowState, SiteRule
from gatepost.domain.outcome import Outcome
from gatepost.domain.route import SANDBOX, RoadKind, Source, road_at, shard_of
from gatepost.observe import maillog
from gatepost.policy.shaping import EVERY, Limits
from gatepost.policy.site_limits import ALONE, Layer, limits_in_force, limits_ordered, pools_of
from gatepost.settings import Settings
from gatepost.store import shaping as stored
from gatepost.store.engine import Engine

_SAVE_MS = 3 * SECOND
_BUSIEST = 200
"""States of flows that nothing holds back are written down, too, for so many of them."""
_IDLE_MS = 10 * MINUTE
_MANY = 2_000
"""With more places than that, those that hold nothing worth knowing are let go of soon."""
_SOON_IDLE_MS = 5 * SECOND
_SWEEP_MS = 5 * SECOND
_WORTH_MS = 2 * SECOND
"""A shorter closure is not worth taking mail out of memory."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Gate:
    """A place with the flows of its pool's sources."""

    place: Place
    shard: int
    flows: list[Flow]
    only: Flow | None
    turn: float = 0.0
    used_at: Instant = 0


@dataclass(frozen=True, slots=True)
class _News:
    """What one look at the database found."""

    states: list[FlowState]
    rules: list[SiteRule]
    used: dict[Key, int] = field(default_factory=dict)


class SiteShaping:
    """What the sites of one process get."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._pools = pools_of(settings)
        self._gates: dict[Place, _Gate] = {}
        self._lively: dict[Place, _Gate] = {}
        """Those whose flows change by themselves: all others stay as they are until they are used."""
        self._swept_at: Instant = 0
        self._flows: dict[Key, Flow] = {}
        self._epochs: dict[int, int] = {}
        self._inherited: dict[Key, FlowState] = {}
        self._rules: list[SiteRule] = []
        self._ordered: Mapping[str, Layer] = {}
        self._stepped_at: Instant = 0
        self._saved_at: Instant = 0
        self._tidied_at: Instant = 0
        self._breakers: Breakers | None = None

    def heed(self, breakers: Breakers) -> None:
        """Choose no source from now on that does not work, while another one of its pool does."""
        self._breakers = breakers

    # What the loop asks.

    def slots(self, place: Place) -> int:
        """Return how many transactions at once make sense."""
        gate = self._gates.get(place) or self._open(place, self._stepped_at)
        if gate is None:
            return 1
        return gate.only.slots() if gate.only is not None else sum(flow.slots() for flow in gate.flows)

    def take(self, place: Place, now: Instant) -> Permit | Wait:
        """Ask for one transaction."""
        gate = self._gates.get(place)
        if gate is None and (gate := self._open(place, now)) is None:
            return Wait(until=now + 100, cause=STARTING, detail="what is known of the site is being read")
        if gate.used_at <= self._stepped_at:
            self._lively[place] = gate
        gate.used_at = now
        only = gate.only
        return only.take(now) if only is not None else _take_one(gate, now, self._breakers)

    def give_back(self, permit: Permit, outcomes: Sequence[Outcome], now: Instant) -> None:
        """End a transaction."""
        flow = self._flows.get((permit.source.name, permit.place[1]))
        if flow is not None:
            was_urgent = flow.is_urgent
            flow.end(outcomes, now)
            if flow.is_urgent and not was_urgent and (closed := flow.closed(now)) is not None:
                maillog.trouble("a site is held back", site=flow.site, source=flow.source.name, cause=closed.cause, until=closed.until)

    def blocked(self, place: Place, now: Instant) -> Wait | None:
        """Tell whether the site gets nothing at all for a while, and why."""
        gate = self._gates.get(place) or self._open(place, now)
        if gate is None:
            return None
        first: Wait | None = None
        for flow in gate.flows:
            wait = flow.closed(now)
            if wait is None or wait.until - now < _WORTH_MS:
                return None
            if first is None or wait.until < first.until:
                first = wait
        return first

    async def step(self, epochs: dict[int, int], now: Instant) -> None:
        """
        Read what earlier owners knew and operators ordered; count warm-up messages; write states down.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        fresh = [shard for shard, epoch in epochs.items() if self._epochs.get(shard) != epoch]
        uncounted = [key for key, flow in self._flows.items() if flow.limits.warm_up is not None and now >= flow.counted_until]
        news = await self._engine.read(lambda conn: _look(conn, fresh, uncounted, now // DAY))
        self._follow(epochs, news, now)
        for key in uncounted:
            self._flows[key].start_day(now, news.used.get(key, 0))
        self._tick(now)
        await self._write(now, is_last=False)

    async def close(self, now: Instant) -> None:
        """
        Write down what is known, before the process ends.

        Raises:
            StorageUnavailable: It is not written.
        """
        await self._write(now, is_last=True)

    # Inner matters.

    def _open(self, place: Place, now: Instant) -> _Gate | None:
        """Make a place's gate; None while its shard's states are not read yet."""
        pool, site = place
        road, shard = road_at(pool, site), shard_of(pool, site)
        if shard not in self._epochs and road.kind is not RoadKind.SANDBOX:
            return None
        sources = self._pools.get(pool, ALONE) if road.kind is RoadKind.MX else ALONE
        flows = [self._flow(source, weight, pool, site, now) for source, weight in sources]
        gate = self._gates[place] = self._lively[place] = _Gate(place, shard, flows, flows[0] if len(flows) == 1 else None, used_at=now)
        return gate

    def _flow(self, source: Source, weight: float, pool: str, site: str, now: Instant) -> Flow:
        key = (source.name, site)
        if (known := self._flows.get(key)) is not None:
            return known  # one of its transactions was still under way
        flow = self._flows[key] = Flow(source, pool, site, self._limits(source.name, pool, site), weight)
        if (state := self._inherited.pop(key, None)) is not None:
            flow.take_over(state, now)
        self._order(flow)
        return flow

    def _limits(self, source: str, pool: str, site: str) -> Limits:
        return limits_in_force(self._settings, self._ordered, source, pool, site)

    def _order(self, flow: Flow) -> None:
        """Tell a flow what operators ordered for it."""
        until, lifted_at, note = 0, 0, ""
        is_mx = road_at(flow.pool, flow.site).kind is RoadKind.MX
        for rule in self._rules:
            if rule.source in {"", flow.source.name} and (rule.site == flow.site or (rule.site == EVERY and is_mx)):
                lifted_at = max(lifted_at, rule.lifted_at)
                if (rule.suspended_until or 0) > until:
                    until, note = rule.suspended_until or 0, rule.note
        flow.order(until, lifted_at, note)

    def _follow(self, epochs: dict[int, int], news: _News, now: Instant) -> None:
        """Let go of shards that went, begin with those that came."""
        changed = {shard for shard in self._epochs.keys() | epochs.keys() if self._epochs.get(shard) != epochs.get(shard)}
        if changed:
            for place, gate in list(self._gates.items()):
                if gate.shard in changed and not any(flow.in_use for flow in gate.flows) and place[1] != SANDBOX:
                    self._drop(gate)
            self._inherited = {key: one for key, one in self._inherited.items() if shard_of(one.pool, one.site) not in changed}
            self._inherited |= {(one.source, one.site): one for one in news.states}
            self._epochs = dict(epochs)
        if news.rules != self._rules:
            self._rules = news.rules
            self._ordered = limits_ordered(news.rules)
            for flow in self._flows.values():
                flow.set_limits(self._limits(flow.source.name, flow.pool, flow.site))
                self._order(flow)
            self._lively |= self._gates

    def _drop(self, gate: _Gate) -> None:
        del self._gates[gate.place]
        self._lively.pop(gate.place, None)
        for flow in gate.flows:
            self._flows.pop((flow.source.name, flow.site), None)

    def _tick(self, now: Instant) -> None:
        seconds = max(now - self._stepped_at, 1) / SECOND if self._stepped_at else 1.0
        self._stepped_at = now
        for place, gate in list(self._lively.items()):
            is_still = True
            for flow in gate.flows:
                flow.tick(now, seconds)
                is_still = is_still and flow.is_still
            if is_still:
                del self._lively[place]
        if now - self._swept_at >= _SWEEP_MS:
            self._swept_at = now
            self._sweep(now)

    def _sweep(self, now: Instant) -> None:
        """Let go of places that are not used, and of those that went to other processes."""
        is_many = len(self._gates) > _MANY
        for gate in list(self._gates.values()):
            is_foreign = gate.shard not in self._epochs and gate.place[1] != SANDBOX
            idle_ms = now - gate.used_at
            if not is_foreign and idle_ms <= (_SOON_IDLE_MS if is_many else _IDLE_MS):
                continue
            if any(flow.in_use for flow in gate.flows):
                continue
            is_idle = idle_ms > _IDLE_MS or all(flow.is_plain for flow in gate.flows)
            if is_foreign or (is_idle and not any(flow.is_worth_keeping for flow in gate.flows)):
                self._drop(gate)

    async def _write(self, now: Instant, *, is_last: bool) -> None:
        is_due = is_last or now - self._saved_at >= _SAVE_MS
        kept = self._to_keep(is_due=is_due)
        counts = {} if is_last else self._to_count()
        unused = self._unused(now) if is_last else {}
        is_tidying = now - self._tidied_at > HOUR
        if kept or counts or unused or is_tidying:
            found = [(shard_of(flow.pool, flow.site), flow.state(now)) for flow in kept]
            urgent = [flow for flow in kept if flow.is_urgent]
            for flow in urgent:
                flow.is_urgent = False
            try:
                await self._engine.write(lambda conn: _put(conn, found, counts, unused, now, is_tidying=is_tidying))
            except BaseException:
                for flow in urgent:
                    flow.is_urgent = True
                raise
        for key, number in counts.items():
            self._flows[key].granted = number
        if is_due:
            self._saved_at = now
        if is_tidying:
            self._tidied_at = now

    def _to_keep(self, *, is_due: bool) -> list[Flow]:
        mine = [flow for gate in self._gates.values() if gate.shard in self._epochs for flow in gate.flows]
        if not is_due:
            return [flow for flow in mine if flow.is_urgent]
        kept = [flow for flow in mine if flow.is_urgent or flow.is_worth_keeping]
        others = [flow for flow in mine if flow.rate and not (flow.is_urgent or flow.is_worth_keeping)]
        others.sort(key=lambda flow: flow.rate, reverse=True)
        return kept + others[:_BUSIEST]

    def _unused(self, now: Instant) -> dict[Key, tuple[int, int]]:
        """Return what was counted ahead and not sent: what stands on disk, and what was used of it."""
        counted = [(key, flow) for key, flow in self._flows.items() if flow.cap is not None and flow.counted_until > now]
        return {key: (flow.granted, flow.used) for key, flow in counted if flow.granted > flow.used and not flow.in_use}

    def _to_count(self) -> dict[Key, int]:
        return {key: number for key, flow in self._flows.items() if (number := flow.wanted()) is not None}


def _take_one(gate: _Gate, now: Instant, breakers: Breakers | None) -> Permit | Wait:
    """Take from the source whose turn it is among those that may and work: shares by weight, and a rest is not saved up."""
    first: Wait | None = None
    flows = gate.flows
    if breakers is not None:
        road = road_at(*gate.place)
        flows = [flow for flow in flows if not breakers.is_source_shut(road, flow.source, now)] or flows
    for flow in sorted(flows, key=_turn):
        taken = flow.take(now)
        if isinstance(taken, Permit):
            if breakers is not None:
                breakers.begins(road, flow.source, now)
            start = max(flow.turn, gate.turn)
            gate.turn = start
            flow.turn = start + 1 / flow.weight
            return taken
        if first is None or taken.until < first.until:
            first = taken
    assert first is not None
    return first


def _turn(flow: Flow) -> float:
    return flow.turn


def _look(conn: Connection, shards: Sequence[int], uncounted: Sequence[Key], day: int) -> _News:
    return _News(
        states=stored.of_shards(conn, shards) if shards else [],
        rules=stored.rules(conn),
        used=stored.used(conn, uncounted, day) if uncounted else {},
    )


def _put(
    conn: Connection,
    kept: Sequence[tuple[int, FlowState]],
    counts: Mapping[Key, int],
    unused: Mapping[Key, tuple[int, int]],
    now: Instant,
    *,
    is_tidying: bool,
) -> None:
    if is_tidying:
        stored.tidy(conn, now)
    stored.save(conn, kept)
    stored.count(conn, counts, now // DAY)
    stored.uncount(conn, unused, now // DAY)
