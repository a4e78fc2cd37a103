"""
What a delivery attempt does to a recipient.

Arrives: claimed recipients and the couriers' outcomes for them.
Leaves: the recipients in their next states, committed with attempts, events and queue rows in one transaction that first
checks that this process still owns the shards.
Standards: RFC 5321 §4.5.4.1 (retry), RFC 3463 (status codes), RFC 1047 (duplicates).
Not here: choosing the category (policy.classify), the SQL (store).
Bugs: none known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from gatepost import ids
from gatepost.bounce_messages import BounceMessages
from gatepost.clock import Instant
from gatepost.domain.event import Event, EventType
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Reply, Unknown
from gatepost.domain.recipient import TRANSITIONS, WAITING, IllegalTransition, Status
from gatepost.domain.route import SANDBOX, Road, RoadKind, road_at, shard_of
from gatepost.domain.severity import SEVERITY
from gatepost.domain.statement import Said
from gatepost.domain.stats import BOUNCED, LEFT, Labels, waited
from gatepost.policy.retry import RetrySchedule
from gatepost.store import counting, facts, leases, messages, queue
from gatepost.store.blobs import Stored
from gatepost.store.queue import Due
from gatepost.suppressing import Fact, Suppressing

_NOT_OUR_TURN_S = 60
"""Wait after an attempt that failed on our side of the wire and so uses up no retry."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What a recipient becomes.

    Attributes:
        due_at: When to try again; None when there is nothing more to do.
        retries: Attempts so far that used up the schedule.
    """

    status: Status
    reason: str | None
    event: EventType
    data: dict[str, Any]
    due_at: Instant | None = None
    retries: int = 0
    road: Road | None = None
    """The road that it goes on by; None is the one it was on."""
    tried: int = 0


def decide(due: Due, outcome: Outcome, schedule: RetrySchedule, now: Instant, chance: float) -> Decision:
    """
    Decide what a recipient becomes after one delivery attempt.

    The only place where the result of an attempt turns into a state. No I/O. A deferral past the recipient's end is an
    expiry with its event, never a silent drop: RFC 5321 §4.5.4.1 asks that the sender be told.

    Args:
        now: End of the attempt.
        chance: A random number in [0, 1), for the schedule's jitter.
    """
    match outcome:
        case Delivered():
            status, event = (Status.DELIVERED, EventType.DELIVERED) if outcome.final else (Status.SENT, EventType.SENT)
            return Decision(status=status, reason=None, event=event, data=_data(due, outcome.exchange, outcome.reply), retries=due.retries)
        case Failed():
            data = _data(due, outcome.exchange, outcome.reply, outcome.category, outcome.detail)
            if outcome.severity is not None:
                data["severity"] = outcome.severity.value
            return Decision(status=Status.BOUNCED, reason=outcome.category.value, event=EventType.BOUNCED, data=data, retries=due.retries)
        case Deferred():
            data = _data(due, outcome.exchange, outcome.reply, outcome.category, outcome.detail)
            return _defer(due, outcome.category, data, schedule, now, chance, counts=outcome.counts, retry_at=outcome.retry_at)
        case Unknown():
            data = _data(due, outcome.exchange, None, Category.NETWORK, outcome.detail) | {"possible_duplicate": True}
            return _defer(due, Category.NETWORK, data, schedule, now, chance, counts=True)
        case _:
            assert_never(outcome)


def _defer(
    due: Due, category: Category, data: dict[str, Any], schedule: RetrySchedule, now: Instant, chance: float, *, counts: bool,
    retry_at: Instant | None = None,
) -> Decision:  # fmt: skip
    if now >= due.expires_at:
        return Decision(status=Status.EXPIRED, reason=Category.EXPIRED.value, event=EventType.EXPIRED, data=data, retries=due.retries)
    retries = due.retries + 1 if counts else due.retries
    # our own trouble has one short wait, however long the schedule has become
    waits = schedule if counts else RetrySchedule(waits_s=(min(_NOT_OUR_TURN_S, *schedule.waits_s),), jitter=schedule.jitter)
    due_at = waits.next_at(retries, now, due.expires_at, chance)
    if retry_at is not None:  # who names a time is not asked before; our own limits also not needlessly later
        due_at = min(max(due_at if counts else now + 100, retry_at), max(due.expires_at, now))
    return Decision(
        status=Status.DEFERRED,
        reason=category.value,
        event=EventType.DEFERRED,
        data=data | {"next_attempt_at": due_at},
        due_at=due_at,
        retries=retries,
    )


def expire(due: Due) -> Decision:
    """Decide what a recipient becomes whose end came before its turn."""
    data = {"attempt": due.attempt - 1, "detail": "the message's time was over before it could be delivered"}
    return Decision(status=Status.EXPIRED, reason=Category.EXPIRED.value, event=EventType.EXPIRED, data=data, retries=due.retries)


def _data(due: Due, exchange: Exchange, reply: Reply | None, category: Category | None = None, detail: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"attempt": due.attempt, "route": exchange.route, "host": exchange.host}
    if reply is not None:
        data |= {"smtp_code": reply.code, "enhanced_code": reply.enhanced, "response": str(reply)}
    if category is not None:
        data |= {"category": category.value, "severity": SEVERITY[category].value}
    if detail:
        data["detail"] = detail
    return data


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    One attempt's end, on its way to the database.

    Attributes:
        epoch: The shard's epoch when the row was claimed: the fence.
        outcome: None for a recipient that expired before any attempt.
        captured: What the sandbox kept, already compressed.
    """

    due: Due
    epoch: int
    outcome: Outcome | None
    decision: Decision
    event_id: str
    at: Instant
    address: str = ""
    captured: Stored | None = None
    notify: str | None = None
    """RFC 3461 NOTIFY."""
    source: str = ""
    """The door that the message came by; empty where it is not known here."""
    labels: Labels | None = None
    """What the message's numbers are kept by; None where it is not known here."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a result: `is_fenced` means another process owns the shard and nothing was written."""

    is_fenced: bool


_WRITTEN: Final = Settled(is_fenced=False)
_FENCED: Final = Settled(is_fenced=True)


def settle(
    conn: Connection, results: Sequence[Result], owner: str, reports: BounceMessages | None = None, suppressing: Suppressing | None = None
) -> list[Settled]:  # fmt: skip
    """
    Write a group of results; safe to run again after a commit whose outcome is unknown.

    Args:
        owner: This process, as it stands in the leases.
        reports: Tells senders by mail; None tells nobody.
        suppressing: Keeps the suppression list; None suppresses nobody.
    """
    epochs = leases.fenced(conn, owner, sorted({result.due.shard for result in results}))
    mine = [result for result in results if epochs.get(result.due.shard) == result.epoch]
    waiting = queue.present(conn, [result.due for result in mine])
    gone = [result for result in mine if _key(result) not in waiting]
    # a row that is gone was cancelled meanwhile, or this very group was committed before
    recorded = facts.recorded_attempts(conn, [_key(result) for result in gone]) if gone else set()
    fresh = [result for result in mine if _key(result) not in recorded]
    left = messages.statuses(conn, [(one.due.message_id, one.due.n) for one in fresh if _key(one) not in waiting]) if gone else {}
    writings = [_final(result, is_cancelled=_key(result) not in waiting) for result in fresh]
    _write(conn, writings, reports, suppressing)
    _count(conn, writings, left)
    _end_retries(conn, writings, left)
    return [_WRITTEN if epochs.get(result.due.shard) == result.epoch else _FENCED for result in results]


def _key(result: Result) -> tuple[str, int, int]:
    return result.due.message_id, result.due.n, result.due.attempt


@dataclass(frozen=True, slots=True)
class _Writing:
    result: Result
    changes_state: bool
    reschedules: bool


def _final(result: Result, *, is_cancelled: bool) -> _Writing:
    """A recipient that was cancelled while its delivery ran stays cancelled, unless it was delivered after all."""
    if not is_cancelled:
        return _Writing(result, changes_state=True, reschedules=result.decision.due_at is not None)
    return _Writing(result, changes_state=result.decision.status in {Status.SENT, Status.DELIVERED}, reschedules=False)


def _write(conn: Connection, writings: Sequence[_Writing], reports: BounceMessages | None, suppressing: Suppressing | None) -> None:
    if not writings:
        return
    results = [writing.result for writing in writings]
    changed = [writing.result for writing in writings if writing.changes_state]
    queue.delete(conn, [result.due for result in results])
    queue.insert(conn, [_rescheduled(writing.result) for writing in writings if writing.reschedules])
    messages.update_recipients(conn, [_state(result) for result in changed])
    messages.set_sites(conn, [moved for writing in writings if writing.reschedules and (moved := _moved(writing.result)) is not None])
    facts.insert_attempts(conn, [_attempt(result, result.outcome) for result in results if result.outcome is not None])
    facts.insert_events(conn, [_event(result) for result in changed])
    facts.insert_captures(conn, [_capture(result, result.captured) for result in results if result.captured is not None])
    if reports is not None:
        reports.write(conn, changed)
    if suppressing is not None:
        bounces = [(result, result.outcome) for result in changed if isinstance(result.outcome, Failed)]
        for result, outcome in sorted(bounces, key=lambda one: one[0].address):  # in one order everywhere: no two block each other
            if result.decision.status is Status.BOUNCED and outcome.exchange.route != SANDBOX:
                suppressing.act(conn, _fact(result, outcome))


def _count(conn: Connection, writings: Sequence[_Writing], left: Mapping[tuple[str, int], Status]) -> None:
    """
    Count what became of recipients.

    Args:
        left: The states of those that did not wait any more, and are something else now.
    """
    missing = list({writing.result.due.message_id for writing in writings if writing.result.labels is None})
    looked_up = counting.labels_of(conn, missing) if missing else {}
    deltas = counting.Deltas()
    for writing in writings:
        result = writing.result
        due, outcome = result.due, result.outcome
        labels = result.labels or looked_up.get(due.message_id, counting.NOBODY)
        names = _counters(writing, labels)
        before = left.get((due.message_id, due.n)) if left and writing.changes_state else None
        if before is not None and before in LEFT:
            names.append(LEFT[before])
        if names and outcome is not None:
            exchange = outcome.exchange
            deltas.add(due.tenant_id, labels, exchange.route, exchange.source or "", due.site, result.at, names)
        elif names:
            deltas.add(due.tenant_id, labels, str(road_at(due.pool, due.site)), "", due.site, result.at, names)
    deltas.write(conn)


def _counters(writing: _Writing, labels: Labels) -> list[str]:
    """Name what an attempt's end is counted as."""
    result = writing.result
    is_first = result.due.attempt == 1 and result.outcome is not None
    names = ["attempted"] if is_first else []
    if not writing.changes_state:
        return names
    status = result.decision.status
    if status is Status.BOUNCED:
        return [*names, "bounced", f"{BOUNCED}{result.decision.reason}"]
    names.append(status.value)
    if status is Status.DEFERRED:
        if is_first:
            names.append("deferred_first")
    elif status not in {Status.EXPIRED, Status.SUPPRESSED}:
        names.append(waited(result.at - labels.began_at))
    return names


def _end_retries(conn: Connection, writings: Sequence[_Writing], left: Mapping[tuple[str, int], Status]) -> None:
    """Take out of the queue what was cancelled, then asked for again, and was delivered by the delivery that ran all the while."""
    for writing in writings if left else ():
        due = writing.result.due
        if writing.changes_state and left.get((due.message_id, due.n)) in WAITING:
            queue.delete(conn, [row for row in queue.of_message(conn, due.message_id, is_locking=True) if row.n == due.n])


def _fact(result: Result, outcome: Failed) -> Fact:
    due, exchange = result.due, outcome.exchange
    is_mx = road_at(due.pool, due.site).kind is RoadKind.MX
    return Fact(
        tenant_id=due.tenant_id, message_id=due.message_id, n=due.n, address=result.address, said=Said.BOUNCED, category=outcome.category,
        severity=outcome.severity, at=result.at, site=due.site, road=exchange.route, source=exchange.source if is_mx else None,
    )  # fmt: skip


def _rescheduled(result: Result) -> dict[str, Any]:
    due, decision = result.due, result.decision
    row = {**due._asdict(), "due_at": decision.due_at, "attempt": due.attempt + 1, "retries": decision.retries, "tried": decision.tried}
    if decision.road is not None:
        pool, site = decision.road.pool, decision.road.site_of(domain_of(result.address))
        row |= {"pool": pool, "site": site, "shard": shard_of(pool, site)}
    return row


def _moved(result: Result) -> tuple[str, int, str] | None:
    """Name the site that a recipient belongs to now, when it goes on by another road."""
    road = result.decision.road
    return None if road is None else (result.due.message_id, result.due.n, road.site_of(domain_of(result.address)))


def onward(
    due: Due, decision: Decision, road: Road, *, tried: int, cause: str, now: Instant | None = None, is_unsure: bool = False
) -> Decision:
    """
    Send a recipient that waits on by another road, or by the same one with what is known of its route.

    Args:
        decision: A deferral.
        now: It goes on at once, and this attempt uses up nothing of the schedule; None leaves it the schedule's wait.
        is_unsure: It may be delivered twice by this, and the event says so.
    """
    moved = None if road == road_at(due.pool, due.site) else road
    told: dict[str, Any] = {"next_road": str(road), "cause": cause} | ({"possible_duplicate": True} if is_unsure else {})
    if now is None:
        return replace(decision, road=moved, tried=tried, data=decision.data | told)
    return replace(decision, road=moved, tried=tried, due_at=now, retries=due.retries, data=decision.data | told | {"next_attempt_at": now})


def domain_of(address: str) -> str:
    """Return the domain of an address as it stands in the store."""
    return address.rpartition("@")[2]


def _state(result: Result) -> dict[str, Any]:
    due, decision, outcome = result.due, result.decision, result.outcome
    if decision.status not in TRANSITIONS[Status.QUEUED]:
        raise IllegalTransition(decision.status)
    reply = None if outcome is None else _reply_of(outcome)
    return {
        "b_message_id": due.message_id,
        "b_n": due.n,
        "tenant_id": due.tenant_id,
        "status": decision.status.value,
        "reason": decision.reason,
        "attempts": due.attempt - (outcome is None),
        "last_reply": (str(reply) if reply else decision.data.get("detail")),
        "last_host": None if outcome is None else outcome.exchange.host,
        "updated_at": result.at,
        "final_at": result.at if decision.due_at is None else None,
    }


def _attempt(result: Result, outcome: Outcome) -> dict[str, Any]:
    due, exchange, reply = result.due, outcome.exchange, _reply_of(outcome)
    return {
        "message_id": due.message_id,
        "n": due.n,
        "tenant_id": due.tenant_id,
        "number": due.attempt,
        "outcome": kind_of(outcome),
        "category": category_of(outcome),
        "detail": None if isinstance(outcome, Delivered) else outcome.detail,
        "code": reply.code if reply else None,
        "enhanced": reply.enhanced if reply else None,
        "reply": reply.text if reply else None,
        "route": exchange.route,
        "source": exchange.source,
        "host": exchange.host,
        "peer": exchange.peer,
        "tls": exchange.tls,
        "tls_policy": exchange.tls_policy,
        "provider_id": exchange.provider_id,
        "started_at": exchange.started_at,
        "finished_at": exchange.finished_at,
        "transcript": exchange.transcript,
    }


def _event(result: Result) -> Event:
    return Event(
        id=result.event_id,
        type=result.decision.event,
        tenant_id=result.due.tenant_id,
        at=result.at,
        message_id=result.due.message_id,
        n=result.due.n,
        data=result.decision.data,
    )


def _capture(result: Result, stored: Stored) -> dict[str, Any]:
    due = result.due
    return {
        "message_id": due.message_id, "n": due.n, "tenant_id": due.tenant_id, "at": result.at, "encoding": stored[0], "data": stored[1],
    }  # fmt: skip


def _reply_of(outcome: Outcome) -> Reply | None:
    return None if isinstance(outcome, Unknown) else outcome.reply


def kind_of(outcome: Outcome) -> str:
    """Name an outcome as it stands in the database."""
    match outcome:
        case Delivered():
            return "delivered"
        case Deferred():
            return "deferred"
        case Failed():
            return "failed"
        case Unknown():
            return "unknown"
        case _:
            assert_never(outcome)


def category_of(outcome: Outcome) -> str | None:
    """Name an outcome's category; None for a delivery."""
    match outcome:
        case Delivered():
            return None
        case Unknown():
            return Category.NETWORK.value
        case _:
            return outcome.category.value


def new_event_id() -> str:
    """Make the id of a result's event, once: a group that is committed again writes the same event."""
    return ids.new("evt")
