"""
Which roads are open, and where mail goes when one fails, for one dispatch process.

Arrives: what each transaction came to; what other processes and people wrote down of roads.
Leaves: waits with a cause, next roads; rows of store.roads and the events `relay.unhealthy` and `relay.recovered`.
A relay's site has one owner, so its owner's view of it is exact; the others adopt what it wrote. A road to MX hosts is
watched by source and machine.
Not here: what a failure means (policy.failover), when a breaker opens (policy.health), the order at accept (policy.routing).
A road to MX hosts is shut only when all of its sources are; shaping, which chooses the source, asks about each. What the watch's probes
found (store.health) opens the breaker of a relay that nobody's mail tries.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant, iso
from gatepost.dispatch.ports import Next, Wait
from gatepost.domain.event import Event, EventType
from gatepost.domain.outcome import Category, Outcome
from gatepost.domain.route import Road, RoadKind, Source, road_at, roads_of, shard_of
from gatepost.domain.tenant import DEFAULT_TENANT
from gatepost.egress.courier import Courier
from gatepost.observe import maillog, metrics
from gatepost.policy.failover import Rules, plan
from gatepost.policy.health import BreakerRules, Health, State, sign_of
from gatepost.settings import Routing, Settings
from gatepost.store import facts, roads, routes, tenants
from gatepost.store import health as probes
from gatepost.store.engine import Engine
from gatepost.store.health import RelayRow
from gatepost.store.queue import Due
from gatepost.store.roads import Disabled, RoadRow

Key = tuple[str, str]
"""A road and its source; a relay's source is empty."""

_WRITE_EVERY_MS: Final = 5_000
_OFF_MS: Final = 15_000
"""How long mail is put off whose road a person switched off, before it is looked at again."""
_FRESH_LOOK_MS: Final = 180_000
"""What the watch saw longer ago says nothing about now."""
_TIMES_USUAL: Final = 3
"""A relay hangs when it takes so many times what it usually does."""
_STATES: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


@dataclass(slots=True)
class _Known:
    """What this process holds of a road."""

    health: Health
    is_changed: bool = False
    is_used: bool = False
    told: State = State.CLOSED
    """What the last event said of it."""
    probe: "asyncio.Task[None] | None" = field(default=None, repr=False)
    probed: Instant = 0
    """Since when it was half open at its last probe: one is enough."""
    looked_at: Instant = 0
    """When the watch's probe was made that was heeded last."""


class WatchedRoads:
    """Implements `ports.Roads`."""

    def __init__(
        self, engine: Engine, settings: Settings, clock: Clock, couriers: Mapping[str, Courier], *, machine: str,
        owns: Callable[[int], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        """
        Args:
            couriers: By road, as the dispatcher has them; a road without one takes nothing.
            machine: This machine's name.
            owns: Tells whether a shard is this process's.
        """
        self._engine = engine
        self._clock = clock
        self._couriers = couriers
        self._machine = machine
        self._owns = owns
        routing = settings.routing
        self._silence_s = routing.silence_s
        self._rules = Rules(patience=routing.patience, unsure_attempts=routing.unsure_attempts)
        fixed = [settings.egress.default_route, *(one.roads for one in settings.routes.values())]
        self._has_fixed_choice = any("," in route for route in fixed)
        self.has_choice = self._has_fixed_choice
        """Whether some mail may have more than one road."""
        self._breakers = {kind: _breaker(routing, kind) for kind in (RoadKind.RELAY, RoadKind.MX)}
        self._known: dict[Key, _Known] = {}
        self._off: Mapping[str, Disabled] = {}
        self._written_at: Instant = 0

    def blocked(self, road: Road, now: Instant) -> Wait | None:
        """Tell whether a road takes nothing for now, and why; a half open one takes one transaction at a time."""
        wait = self._closed_by_hand(road, now)
        if wait is not None or road.kind is RoadKind.SANDBOX:
            return wait
        found = self._of(road)
        if not found or (found[0].health.may_start(now) if len(found) == 1 else any(not known.health.is_shut(now) for known in found)):
            return None  # of several sources shaping begins the trial of the one that it takes
        health = min((known.health for known in found), key=lambda one: one.wait_until(now))
        what = "being tried by one message" if health.state is State.HALF_OPEN else f"open since {iso(health.since)}"
        return Wait(until=health.wait_until(now), cause="breaker_open", detail=f"{road}: {what}; {health.reason}")

    def report(self, road: Road, source: Source, outcomes: Sequence[Outcome], now: Instant, site: str = "") -> None:
        """Learn from a transaction with a site."""
        found = sign_of(outcomes, road.kind) if road.kind is not RoadKind.SANDBOX else None
        if found is None:
            return
        known = self._at(road, source.name if road.kind is RoadKind.MX else "")
        known.is_used = True
        sign, cause = found
        latency_ms = max(one.exchange.finished_at - one.exchange.started_at for one in outcomes)
        if known.health.record(sign, now, cause=cause, latency_ms=latency_ms, site=site):
            self._changed(str(road), known)

    def is_source_shut(self, road: Road, source: Source, now: Instant) -> bool:
        """Tell whether one of several sources of a road takes nothing now; asking changes nothing."""
        known = self._known.get((str(road), source.name))
        return known is not None and known.health.is_shut(now)

    def begins(self, road: Road, source: Source, now: Instant) -> None:
        """Hear that a transaction from a source begins: where its breaker is half open, that is its trial."""
        known = self._known.get((str(road), source.name))
        if known is not None:
            known.health.may_start(now)

    def complained(self, road: str, now: Instant, count: int = 1) -> None:
        """Count complaints of recipients about mail that went by a road: they lower its score."""
        known = self._at(roads_of(road)[0], "")
        known.is_used = True
        known.health.complain(now, count)

    def after(self, due: Due, route: Sequence[Road], outcome: Outcome | None, now: Instant, blocked_by: str = "") -> Next | None:
        """Choose the road after this one; None when there is no better one than waiting for it."""
        if len(route) < 2:
            return None
        road = road_at(due.pool, due.site)
        at = next((n for n, one in enumerate(route) if one == road), None)
        if at is None:  # somebody moved it off its route: there it stays
            return None
        found = plan(
            route, at, due.tried, due.retries, outcome, is_shut=lambda one: self.is_shut(one, now), rules=self._rules,
            blocked_by=blocked_by or "blocked",
        )  # fmt: skip
        if found is None:
            return None
        return Next(road=route[found.at], tried=found.tried, cause=found.cause, is_later=found.is_later, is_unsure=found.is_unsure)

    def patience_s(self, due: Due, route: Sequence[Road], now: Instant) -> float | None:
        """Return how long a relay may be silent, because the recipient has another road that is open and was not tried in this round."""
        if not self._silence_s or len(route) < 2:
            return None
        road = road_at(due.pool, due.site)
        others = (one for n, one in enumerate(route) if one != road and not due.tried >> n & 1)
        return self._silence_s if road.kind is RoadKind.RELAY and any(not self.is_shut(one, now) for one in others) else None

    def hanging(self, road: Road, since: Instant, now: Instant) -> Wait | None:
        """Open the breaker of a relay to which everything hangs for much longer than it usually takes."""
        if not self._silence_s or road.kind is not RoadKind.RELAY:
            return None
        known = self._at(road, "")
        usual_ms = known.health.counts(now)["latency_ms"]
        if now < since + max(self._silence_s * 1000, _TIMES_USUAL * usual_ms):
            return None
        if known.health.hangs(now, f"{Category.NETWORK.value}: no delivery has come to an end for {(now - since) // 1000} s"):
            known.is_used = True
            self._changed(str(road), known)
        return Wait(until=known.health.wait_until(now), cause="breaker_open", detail=f"{road}: {known.health.reason}")

    def is_shut(self, road: Road, now: Instant) -> bool:
        """Tell whether a road takes nothing now; asking changes nothing."""
        if self._closed_by_hand(road, now) is not None:
            return True
        found = self._of(road)
        return bool(found) and all(known.health.is_shut(now) for known in found)

    async def step(self, now: Instant) -> None:
        """
        Read what other processes know, write down what this one does, and try roads that were shut long enough.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        off, rows, made, looks = await self._engine.read(
            lambda conn: (roads.disabled(conn), roads.rows(conn), routes.has_any(conn), probes.relays(conn))
        )
        self._off = off
        self.has_choice = self._has_fixed_choice or made
        for row in rows:
            self._adopt(row)
        for look in looks.values():
            self._doubt(look, now)
        for (road, _), known in self._known.items():
            if known.health.tick(now):
                self._changed(road, known)
            self._show(road, known, now)
        await self._write(now)
        self._probe_shut(now)

    async def close(self) -> None:
        """Stop probing."""
        probes = [known.probe for known in self._known.values() if known.probe is not None]
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def _closed_by_hand(self, road: Road, now: Instant) -> Wait | None:
        off = self._off.get(str(road))
        if off is not None:
            detail = f"{road}: switched off since {iso(off.disabled_at)}" + (f"; {off.note}" if off.note else "")
            return Wait(until=now + _OFF_MS, cause="road_disabled", detail=detail)
        if road.courier not in self._couriers:
            return Wait(until=now + _OFF_MS, cause="relay_missing", detail=f"{road}: there is no such relay in the settings")
        return None

    def _of(self, road: Road) -> list[_Known]:
        name = str(road)
        if road.kind is RoadKind.RELAY:
            known = self._known.get((name, ""))
            return [] if known is None else [known]
        return [known for (one, _), known in self._known.items() if one == name]

    def _at(self, road: Road, source: str) -> _Known:
        key = (str(road), source)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(Health(self._breakers[road.kind]))
        return known

    def _adopt(self, row: RoadRow) -> None:
        """Take over a row that is newer than what is known here."""
        if row.machine not in {"", self._machine}:
            return
        key = (row.road, row.source)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(Health(self._breakers[RoadKind.MX if row.source else RoadKind.RELAY]))
        if row.since <= known.health.since or known.is_changed:
            return
        state = State(row.state)
        known.health.adopt(state, row.since, row.reason, row.retry_at, row.openings)
        known.told = State.CLOSED if state is State.CLOSED else State.OPEN

    def _doubt(self, look: RelayRow, now: Instant) -> None:
        """Heed a second probe in a row that did not reach a relay of ours."""
        road = roads_of(look.relay)[0]
        is_twice = look.failing_since is not None and look.failing_since < look.checked_at
        is_away = (look.report.get("probe") or {}).get("is_reachable") is False
        if look.is_ok or not (is_twice and is_away) or look.checked_at < now - _FRESH_LOOK_MS or road.courier not in self._couriers:
            return
        known = self._at(road, "")
        if known.looked_at >= look.checked_at or not self._owns(shard_of(road.pool, road.site_of(""))):
            return
        known.looked_at = look.checked_at
        known.is_used = True
        if known.health.doubt(now, f"{Category.NETWORK.value}: probes do not reach it"):
            self._changed(look.relay, known)

    def _changed(self, road: str, known: _Known) -> None:
        known.is_changed = True
        health = known.health
        maillog.trouble("a road changed its state", road=road, state=health.state.value, reason=health.reason, retry_at=health.retry_at)

    def _show(self, road: str, known: _Known, now: Instant) -> None:
        if known.is_used:
            metrics.road_state.labels(road).set(3 if road in self._off else _STATES[known.health.state])
            metrics.road_score.labels(road).set(known.health.score(now))

    async def _write(self, now: Instant) -> None:
        is_time = now >= self._written_at + _WRITE_EVERY_MS
        dirty = [(key, known) for key, known in self._known.items() if known.is_changed or (is_time and known.is_used)]
        if is_time:
            self._written_at = now
        if not dirty:
            return
        rows = [self._row(key, known, now) for key, known in dirty]
        events = [event for key, known in dirty if (event := _event(key, known, now)) is not None]
        await self._engine.write(lambda conn: _write(conn, rows, events))
        for _, known in dirty:
            known.is_changed = known.is_used = False
            known.told = State.CLOSED if known.health.state is State.CLOSED else State.OPEN

    def _row(self, key: Key, known: _Known, now: Instant) -> dict[str, Any]:
        road, source = key
        return {"road": road, "source": source, "machine": self._machine if source else "", **known.health.saved(now), "updated_at": now}

    def _probe_shut(self, now: Instant) -> None:
        """Ask relays that are half open, or whose time has come, whether they would take mail: nobody's mail has to find it out."""
        for (name, source), known in self._known.items():
            road = roads_of(name)[0]
            courier = self._couriers.get(road.courier)
            is_ours = not source and courier is not None and self._owns(shard_of(road.pool, road.site_of("")))
            is_new = known.health.state is State.HALF_OPEN and known.probed != known.health.since and known.probe is None
            if is_ours and is_new and courier is not None and name not in self._off:
                known.probed = known.health.since
                known.probe = asyncio.ensure_future(self._probe(name, known, courier))

    async def _probe(self, road: str, known: _Known, courier: Courier) -> None:
        since = known.health.since
        try:
            found = await courier.probe()
        except Exception as error:  # noqa: BLE001 - couriers are total; if one is not, mail will tell
            maillog.crashed("probe", error, road=road)
            return
        finally:
            known.probe = None
        health, now = known.health, self._clock.now()
        cause = "" if found.is_reachable else "network: a probe failed"
        if health.since == since and health.probed(now, is_good=found.is_good, cause=cause):
            self._changed(road, known)


def _breaker(settings: Routing, kind: RoadKind) -> BreakerRules:
    return BreakerRules(
        failures=settings.breaker_failures,
        share=settings.breaker_share,
        least=settings.breaker_least,
        window_ms=settings.breaker_window_s * 1000,
        open_ms=round(settings.breaker_open_s * 1000),
        longest_ms=round(settings.breaker_longest_s * 1000),
        sites=settings.mx_sites if kind is RoadKind.MX else 0,
    )


def _event(key: Key, known: _Known, now: Instant) -> Event | None:
    """Tell of a road that stopped working, or works again; half open is neither."""
    health = known.health
    if health.state is State.HALF_OPEN or health.state is known.told:
        return None
    is_open = health.state is State.OPEN
    data: dict[str, Any] = {"relay": key[0], "state": health.state.value, "score": health.score(now)}
    data |= {"source": key[1]} if key[1] else {}
    data |= {"reason": health.reason, "retry_at": health.retry_at} if is_open else {}
    kind = EventType.RELAY_UNHEALTHY if is_open else EventType.RELAY_RECOVERED
    return Event(id=ids.new("evt"), type=kind, tenant_id="", at=now, data=data)


def _write(conn: Connection, rows: Sequence[dict[str, Any]], events: Sequence[Event]) -> None:
    roads.write(conn, rows)
    if events and (operator := tenants.by_name(conn, DEFAULT_TENANT)) is not None:
        facts.insert_events(conn, [replace(event, tenant_id=operator) for event in events])
