"""
One delivery: a group of recipients is rendered, handed to the courier of its road, and its outcomes become results.

Arrives: a group and a permit. Leaves: a result for each recipient, whatever happens.
Not here: when it is its turn (loop), what an outcome means (settle), how the courier goes (egress).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from gatepost.clock import Clock, Instant
from gatepost.dispatch.ports import Permit, Roads, Shaping
from gatepost.dispatch.tracked import TrackedMessage, take_apart
from gatepost.dispatch.waiting import Group, address_of, route_of
from gatepost.domain.message import Lane, Source
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Unknown
from gatepost.domain.recipient import Status
from gatepost.domain.route import Road, RoadKind, road_at
from gatepost.domain.stream import read_window
from gatepost.egress.courier import Batch, BatchRecipient, Courier
from gatepost.mime.compose import date_text
from gatepost.mime.render import render
from gatepost.observe import maillog, metrics
from gatepost.policy.retry import RetrySchedule
from gatepost.settings import Settings
from gatepost.settle import Decision, Result, category_of, decide, domain_of, expire, kind_of, new_event_id, onward
from gatepost.store.blobs import Blobs
from gatepost.store.errors import KeyLost, SealBroken, StorageUnavailable
from gatepost.store.messages import Material
from gatepost.store.queue import Due
from gatepost.tenants.signing import Signing
from gatepost.wire.dkim import Signer
from gatepost.wire.return_path import ReturnPaths
from gatepost.wire.tracking_token import TrackingUrls


class Delivering:
    """What deliveries of one process share."""

    def __init__(
        self, *, blobs: Blobs, signing: Signing, couriers: Mapping[str, Courier], settings: Settings, clock: Clock, hostname: str,
        chance: random.Random, shaping: Shaping, roads: Roads, return_paths: ReturnPaths | None = None,
        tracking: TrackingUrls | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            return_paths: What mail comes back to; None leaves it to the senders.
            tracking: What links lead to in mail that is tracked; None tracks nothing.
        """
        self._blobs = blobs
        self._signing = signing
        self._couriers = couriers
        self._clock = clock
        self._hostname = hostname
        self._chance = chance
        self._shaping = shaping
        self._roads = roads
        self._return_paths = return_paths
        self._tracking = tracking
        self._returning_relays = frozenset(name for name, relay in settings.relays.items() if relay.return_paths)
        self._schedule = RetrySchedule(waits_s=settings.retry.schedule, jitter=settings.retry.jitter)
        self._schedules = {
            name: RetrySchedule(waits_s=waits, jitter=settings.retry.jitter) for name, waits in settings.retry.classes.items()
        }

    async def deliver(self, group: Group, permit: Permit) -> list[Result]:
        """Deliver a group; never fails."""
        started = self._clock.now()
        outcomes: Mapping[int, Outcome] = {}
        try:
            outcomes = await self._outcomes(group, permit)
        except Exception as error:  # noqa: BLE001 - a fault of ours defers the mail, it never loses it
            maillog.crashed("deliver", error, message_id=group.material.id)
            outcomes = self._refuse_all(group, started, f"internal error: {type(error).__name__}", counts=True)
        finally:
            self._shaping.give_back(permit, list(outcomes.values()), self._clock.now())
        now = self._clock.now()
        self._roads.report(road_at(*permit.place), permit.source, list(outcomes.values()), now, permit.place[1])
        return [self._result(row, group, outcomes[row.n], now) for row in group.rows]

    async def _outcomes(self, group: Group, permit: Permit) -> Mapping[int, Outcome]:
        broken = {row.n: error for row in group.rows if (error := _broken(group, row)) is not None}
        if not broken:
            return await self._outcomes_of_readable(group, permit)
        now, route = self._clock.now(), str(road_at(*permit.place))
        outcomes = {n: _unreadable(error, Exchange(route=route, started_at=now, finished_at=now)) for n, error in broken.items()}
        maillog.trouble("stored mail cannot be opened", message_id=group.material.id, error=str(broken[min(broken)]))
        rest = [row for row in group.rows if row.n not in broken]
        return outcomes if not rest else {**outcomes, **await self._outcomes_of_readable(replace(group, rows=rest), permit)}

    async def _outcomes_of_readable(self, group: Group, permit: Permit) -> Mapping[int, Outcome]:
        material, road = group.material, road_at(*permit.place)
        courier = self._couriers.get(road.courier)
        if courier is None:
            return self._refuse_all(group, self._clock.now(), f"the relay {road} is not configured", counts=False)
        try:
            stored = self._blobs.get(material.encoding, material.data)
        except StorageUnavailable as error:
            return self._refuse_all(group, self._clock.now(), str(error), counts=False)
        except SealBroken as error:
            now = self._clock.now()
            maillog.trouble("stored mail cannot be opened", message_id=material.id, recipients=len(group.rows), error=str(error))
            return {row.n: _unreadable(error, Exchange(route=str(road), started_at=now, finished_at=now)) for row in group.rows}
        try:
            signers = self._signers(material)
        except SealBroken as error:
            return self._refuse_all(group, self._clock.now(), str(error), counts=False)
        if self._tracking is not None and "track" in material.options:
            tracked = take_apart(self._tracking, material, stored, road)
            if tracked is not None:
                return await self._deliver_tracked(tracked, group, permit, courier, signers)
        content = render(stored, signers, now=self._clock.now(), received=_received(material, self._hostname))
        if self._return_paths is None or not material.envelope_from or not self._comes_back(road):
            return await courier.deliver(_batch(group, content, permit, road, self._patience_s(group)))
        outcomes: dict[int, Outcome] = {}
        for row in group.rows:  # one by one: each has a return path of its own
            one = replace(group, rows=[row])
            batch = _batch(one, content, permit, road, self._patience_s(one))
            path = self._return_paths.address_for(material.id, row.n, material.from_domain, self._clock.now())
            outcomes |= await courier.deliver(msgspec.structs.replace(batch, envelope_from=path))
        return outcomes

    async def _deliver_tracked(
        self, tracked: TrackedMessage, group: Group, permit: Permit, courier: Courier, signers: Sequence[Signer]
    ) -> Mapping[int, Outcome]:
        """Deliver to one recipient after the other: each has links, and a signature, of its own."""
        material, road = group.material, road_at(*permit.place)
        received, outcomes = _received(material, self._hostname), dict[int, Outcome]()
        for row in group.rows:
            now = self._clock.now()
            content = render(tracked.content_for(row.n, now), signers, now=now, received=received)
            one = replace(group, rows=[row])
            batch = _batch(one, content, permit, road, self._patience_s(one))
            if self._return_paths is not None and material.envelope_from and self._comes_back(road):
                path = self._return_paths.address_for(material.id, row.n, material.from_domain, now)
                batch = msgspec.structs.replace(batch, envelope_from=path)
            outcomes |= await courier.deliver(batch)
        return outcomes

    def _patience_s(self, group: Group) -> float | None:
        """Say how long the road may be silent: as long as it likes, unless every recipient has another one."""
        if not self._roads.has_choice:
            return None
        now = self._clock.now()
        found = [self._roads.patience_s(row, route_of(group, row), now) for row in group.rows]
        return None if None in found else found[0]

    def _comes_back(self, road: Road) -> bool:
        """Tell whether a road takes return paths of ours; not every relay does."""
        return road.kind is RoadKind.MX or (road.kind is RoadKind.RELAY and road.name in self._returning_relays)

    def _signers(self, material: Material) -> Sequence[Signer]:
        """Find who signs: the tenant's domain; our own for our own reports."""
        if material.source == Source.DSN.value:
            return self._signing.gateway_signers(material.from_domain)
        return self._signing.signers(material.tenant_id, material.from_domain)

    def _refuse_all(self, group: Group, started: Instant, detail: str, *, counts: bool) -> Mapping[int, Outcome]:
        row = group.rows[0]
        exchange = Exchange(route=str(road_at(row.pool, row.site)), started_at=started, finished_at=self._clock.now())
        return {row.n: Deferred(exchange=exchange, category=Category.REMOTE_SYSTEM, detail=detail, counts=counts) for row in group.rows}

    def _schedule_of(self, group: Group) -> RetrySchedule:
        """Return the schedule that the message was accepted with; the usual one, where its class is not there any more."""
        name = group.material.options.get("retry")
        return self._schedules.get(name, self._schedule) if name else self._schedule

    def _result(self, row: Due, group: Group, outcome: Outcome, now: Instant) -> Result:
        captured = None
        if isinstance(outcome, Delivered) and outcome.captured is not None:
            try:
                captured = self._blobs.put(outcome.captured)
            except StorageUnavailable as error:
                outcome = Deferred(exchange=outcome.exchange, category=Category.REMOTE_SYSTEM, detail=str(error), counts=False)
        decision = _in_window(self._decide(row, group, outcome, now), group, row)
        return Result(
            due=row, epoch=group.epoch, outcome=outcome, decision=decision, event_id=new_event_id(), at=now,
            address=address_of(group.addresses, row), captured=captured, notify=_notify(group, row), source=group.material.source,
            labels=group.material.labels,
        )  # fmt: skip

    def _decide(self, row: Due, group: Group, outcome: Outcome, now: Instant) -> Decision:
        """Decide what becomes of a recipient, and by which road it goes on."""
        decision = decide(row, outcome, self._schedule_of(group), now, self._chance.random())
        route = route_of(group, row)
        if len(route) < 2 or isinstance(outcome, Delivered) or decision.status is Status.EXPIRED:
            return decision
        found = self._roads.after(row, route, outcome, now)
        if found is None:
            return decision
        if isinstance(outcome, Failed):  # what one road says for ever is for now while there are others
            put_off = Deferred(exchange=outcome.exchange, category=outcome.category, detail=outcome.detail, reply=outcome.reply)
            decision = decide(row, put_off, self._schedule_of(group), now, self._chance.random())
            if decision.due_at is None:
                return decision
        when = None if found.is_later else now
        return onward(row, decision, found.road, tried=found.tried, cause=found.cause, now=when, is_unsure=found.is_unsure)


def opens_at(group: Group, at: Instant) -> Instant:
    """Return when a group may leave: at once, or at the next hour that its stream sends at."""
    window = group.material.options.get("window")
    return read_window(window).next_at(at) if window else at


def _in_window(decision: Decision, group: Group, row: Due) -> Decision:
    """Move the next attempt into the hours that the stream sends at."""
    if decision.due_at is None or (due_at := opens_at(group, decision.due_at)) == decision.due_at:
        return decision
    due_at = min(due_at, max(row.expires_at, decision.due_at))
    return msgspec.structs.replace(decision, due_at=due_at, data=decision.data | {"next_attempt_at": due_at})


def _notify(group: Group, row: Due) -> str | None:
    fact = group.addresses.get((row.message_id, row.n))
    return fact.notify if fact else None


def _broken(group: Group, row: Due) -> SealBroken | None:
    """Tell why a recipient's message or address cannot be opened, if it cannot."""
    fact = group.addresses.get((row.message_id, row.n))
    return group.material.broken or (fact.broken if fact else None)


def _unreadable(error: SealBroken, exchange: Exchange) -> Outcome:
    """Fail what was altered on disk; let wait what only lacks its key, which an operator may bring back."""
    if isinstance(error, KeyLost):
        return Deferred(exchange=exchange, category=Category.REMOTE_SYSTEM, detail=f"this message's key is gone: {error}", counts=False)
    return Failed(exchange=exchange, category=Category.UNDETERMINED, detail=f"the stored message cannot be opened: {error}")


def _received(material: Material, hostname: str) -> str:
    """Write the trace field (RFC 5321 §4.4), without the client's address: that is nobody's business further on."""
    protocol = {Source.SMTP.value: " with ESMTPA", Source.DSN.value: ""}.get(material.source, " with HTTP")
    return f"Received: by {hostname} (Gatepost){protocol} id {material.id};\r\n\t{date_text(material.created_at // 1000)}"


def expired(row: Due, epoch: int, now: Instant, address: str) -> Result:
    """Make the result of a recipient whose time was over before its turn."""
    return Result(due=row, epoch=epoch, outcome=None, decision=expire(row), event_id=new_event_id(), at=now, address=address)


def _batch(group: Group, content: bytes, permit: Permit, road: Road, patience_s: float | None) -> Batch:
    material, first = group.material, group.rows[0]
    facts = [group.addresses[row.message_id, row.n] for row in group.rows]
    return Batch(
        message_id=material.id,
        route=str(road),
        site=first.site,
        domain=domain_of(facts[0].address),
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
        source=permit.source,
        messages_per_connection=permit.messages_per_connection,
        connections=permit.connections,
        requires_tls=bool(material.options.get("require_tls")),
        needs_requiretls=bool(material.options.get("requiretls")),
        ignores_tls_policy=bool(material.options.get("tls_optional")),
        lane=Lane(first.lane),
        expires_at=first.expires_at,
        patience_s=patience_s,
    )


def told_off(due: Due, road: Road, cause: str, *, is_unsure: bool = False) -> None:
    """Log and count that a recipient goes on by another road."""
    left = str(road_at(due.pool, due.site))
    metrics.failovers.labels(left, cause).inc()
    if is_unsure:
        metrics.possible_duplicates.inc()
    maillog.failed_over(message_id=due.message_id, n=due.n, road=left, next_road=str(road), cause=cause, attempt=due.attempt)


def tell(results: Sequence[Result]) -> None:
    """Log and count settled results; most of a group's are counted alike, and so at once."""
    ends: Counter[tuple[str, str, str]] = Counter()
    took: dict[str, list[float]] = {}
    waited: dict[str, list[float]] = {}
    for result in results:
        outcome = result.outcome
        if outcome is None:
            continue
        exchange = outcome.exchange
        route = exchange.route
        ends[route, kind_of(outcome), category_of(outcome) or ""] += 1
        took.setdefault(route, []).append((exchange.finished_at - exchange.started_at) / 1000)
        if isinstance(outcome, Delivered):
            waited.setdefault(route, []).append(max(result.at - result.due.due_at, 0) / 1000)
        elif isinstance(outcome, Unknown):
            metrics.possible_duplicates.inc()
        if result.decision.road is not None:
            data = result.decision.data
            told_off(result.due, result.decision.road, data["cause"], is_unsure=bool(data.get("possible_duplicate")))
    for status, count in Counter(one.decision.status for one in results if one.decision.due_at is None).items():
        metrics.recipients_final.labels(status.value).inc(count)
    for labels, count in ends.items():
        metrics.attempts.labels(*labels).inc(count)
    for route, seconds in took.items():
        metrics.attempt_seconds.labels(route).observe_all(seconds)
    for route, seconds in waited.items():
        metrics.delivery_seconds.labels(route).observe_all(seconds)
    maillog.attempted([_line(result) for result in results])


def _line(result: Result) -> dict[str, Any]:
    """Say what the log says of a result."""
    due, outcome, decision = result.due, result.outcome, result.decision
    line = {"address": result.address, "message_id": due.message_id, "n": due.n}
    if outcome is None:
        return line | {"status": decision.status.value, "site": due.site}
    exchange = outcome.exchange
    return line | {
        "attempt": due.attempt,
        "status": decision.status.value,
        "outcome": kind_of(outcome),
        "category": category_of(outcome),
        "route": exchange.route,
        "site": due.site,
        "host": exchange.host,
        "smtp_code": decision.data.get("smtp_code"),
        "enhanced_code": decision.data.get("enhanced_code"),
        "duration_ms": exchange.finished_at - exchange.started_at,
    }
