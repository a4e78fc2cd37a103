"""
What a report does to a recipient that left our hands: the other half of settling.

Arrives: statements of what became of a recipient, from mail that came back and from relays' hooks, known to be genuine.
Leaves: the recipient in its next state, with event and suppression, in one transaction; once, however often it is said. The
sender of mail that bounced after all is told by mail where a refusal at delivery would have been told: our return path took
the place of theirs, so nobody else tells them.
Standards: RFC 3464 §2.3.3 (what an action means), RFC 5965 (complaints).
Not here: whom to believe (returns), what a delivery attempt does (settle), who is suppressed (suppressing).
Bugs: a statement about a recipient that still waits to be delivered is put off until it does not; see `Told.TOO_EARLY`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.bounce_messages import BounceMessages
from gatepost.clock import Instant
from gatepost.domain.event import Event, EventType
from gatepost.domain.outcome import Category, Exchange, Failed, Reply
from gatepost.domain.recipient import TRANSITIONS, WAITING, Status
from gatepost.domain.route import RoadKind, roads_of
from gatepost.domain.severity import SEVERITY
from gatepost.domain.statement import Said, Statement
from gatepost.domain.stats import BOUNCED_AS, LEFT
from gatepost.observe import maillog, metrics
from gatepost.store import counting, facts, messages, reports, sealing
from gatepost.store.errors import SealBroken
from gatepost.store.queue_row import Due
from gatepost.suppressing import Fact, Suppressing

_EVENT: Final[Mapping[Said, EventType]] = {
    Said.DELIVERED: EventType.DELIVERED,
    Said.DEFERRED: EventType.DEFERRED,
    Said.BOUNCED: EventType.BOUNCED,
    Said.COMPLAINED: EventType.COMPLAINED,
    Said.OPENED: EventType.OPENED,
    Said.CLICKED: EventType.CLICKED,
    Said.UNSUBSCRIBED: EventType.UNSUBSCRIBED,
}
_MOVES: Final = {Said.DELIVERED: Status.DELIVERED, Said.BOUNCED: Status.BOUNCED}


class Told(StrEnum):
    """What became of a statement."""

    DONE = "done"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    """Nobody knows such a recipient: it may be that the delivery is not written down yet."""
    TOO_EARLY = "too_early"
    """The recipient waits for its delivery: what is said will be true once that is written down."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a statement does to a recipient.

    Attributes:
        status: None leaves it as it is.
        is_event: It is a fact worth an event.
    """

    status: Status | None
    is_event: bool


def decide_report(status: Status, said: Said) -> Change | None:
    """
    Decide what a statement does to a recipient; None puts it off. No I/O.

    A bounce ends what was delivered; a delivery never revives what bounced, since the two are told in any order.
    """
    goal = _MOVES.get(said)
    if goal is None:
        if said is Said.DEFERRED:
            return None if status in WAITING else Change(None, is_event=status is Status.SENT)
        return Change(None, is_event=True)
    if status in WAITING:
        return None
    return Change(goal, is_event=True) if goal in TRANSITIONS[status] else Change(None, is_event=False)


def settle_statement(
    conn: Connection, statement: Statement, suppressing: Suppressing, now: Instant, senders: BounceMessages | None = None
) -> Told:  # fmt: skip
    """
    Write down what a statement means; safe to run again after a commit whose outcome is unknown.

    Args:
        now: When it is settled: states and events have this time, since what others say of the time is theirs.
        senders: Tells them by mail; None tells nobody.
    """
    place = reports.find(conn, statement.about)
    row = None if place is None else reports.locked(conn, *place)
    if row is None or row.is_sandbox:
        return Told.UNKNOWN
    change = decide_report(Status(row.status), statement.said)
    if change is None:
        return Told.TOO_EARLY
    if not reports.claim(conn, f"{statement.id}/{row.n}", now):
        return Told.REPEATED
    way = reports.last_way(conn, row.message_id, row.n)
    address = _address(conn, row)
    if change.status is not None:
        messages.update_recipients(conn, [_state(row, statement, change.status, now)])
    if change.is_event:
        _count(conn, row, statement, change, now)
        facts.insert_events(conn, [_event(row, statement, way, now)])
    suppressing.act(conn, _fact(row, statement, way, address, now))
    if senders is not None and change.status is Status.BOUNCED:
        senders.write(conn, [_late(row, statement, way, now)])
    metrics.reports.labels(statement.by, statement.said.value).inc()
    maillog.reported(
        address=address, message_id=row.message_id, n=row.n, said=statement.said.value, by=statement.by,
        category=None if statement.category is None else statement.category.value, rule=statement.rule or None,
        status=(change.status or Status(row.status)).value,
    )  # fmt: skip
    return Told.DONE


def _count(conn: Connection, row: Row[Any], statement: Statement, change: Change, now: Instant) -> None:
    """Count what is said, before its event is written."""
    if statement.said in (Said.OPENED, Said.CLICKED, Said.UNSUBSCRIBED):
        is_first = not facts.has_event(conn, row.message_id, row.n, _EVENT[statement.said])
        counting.count_engagement(
            conn, tenant_id=row.tenant_id, message_id=row.message_id, n=row.n, said=statement.said, at=now, is_first=is_first
        )  # fmt: skip
        return
    names = [statement.said.value]
    if statement.said is Said.BOUNCED:
        names.append(BOUNCED_AS[statement.category or Category.UNDETERMINED])
    if change.status is not None and (before := Status(row.status)) in LEFT:
        names.append(LEFT[before])
    counting.count(conn, [counting.Change(row.message_id, row.n, names)], now)


@dataclass(frozen=True, slots=True)
class _Ended:
    """What a report decided, as senders are told of it."""

    status: Status
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Late:
    """A bounce after delivery, as `bounce_messages.Told` has it."""

    due: Due
    outcome: Failed
    decision: _Ended
    at: Instant
    notify: str | None = None
    source: str = ""


def _late(row: Row[Any], statement: Statement, way: Row[Any] | None, now: Instant) -> _Late:
    category = statement.category or Category.UNDETERMINED
    reply = statement.reply if statement.reply is not None and statement.reply.code else None
    words = "" if statement.reply is None else _words(statement.reply)
    exchange = Exchange(
        route="" if way is None else way.route, started_at=now, finished_at=now,
        host=statement.host or (None if way is None else way.host),
    )  # fmt: skip
    outcome = Failed(exchange=exchange, category=category, detail=words, reply=reply)
    due = Due(0, 0, now, row.message_id, row.n, row.tenant_id, "", row.site, row.attempts, 0, now)
    return _Late(due, outcome, _Ended(Status.BOUNCED, {"detail": words}), now)


def _address(conn: Connection, row: Row[Any]) -> str:
    try:
        place = f"recipient/{row.message_id}/{row.n}"
        address: str = msgspec.msgpack.decode(sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=place))[0]
    except SealBroken as error:
        maillog.trouble("a stored recipient cannot be opened", error=str(error))
        return ""
    return address


def _words(reply: Reply) -> str:
    """Write a reply as it stands in a report, which may have no code."""
    return str(reply) if reply.code else " ".join(part for part in (reply.enhanced, reply.text) if part)


def _state(row: Row[Any], statement: Statement, status: Status, now: Instant) -> dict[str, Any]:
    is_bounce = status is Status.BOUNCED
    return {
        "b_message_id": row.message_id,
        "b_n": row.n,
        "tenant_id": row.tenant_id,
        "status": status.value,
        "reason": (statement.category or Category.UNDETERMINED).value if is_bounce else None,
        "attempts": row.attempts,
        "last_reply": _words(statement.reply) if statement.reply else None,
        "last_host": statement.host or row.last_host,
        "updated_at": now,
        "final_at": now,
    }


def _event(row: Row[Any], statement: Statement, way: Row[Any] | None, now: Instant) -> Event:
    data: dict[str, Any] = {"reported_by": statement.by, **statement.detail}
    if way is not None:
        data |= {"attempt": way.number, "route": way.route, "host": statement.host or way.host}
    if statement.reply is not None:
        reply = statement.reply
        data |= {"smtp_code": reply.code or None, "enhanced_code": reply.enhanced, "response": reply.text}
    if statement.said is Said.BOUNCED:
        category = statement.category or Category.UNDETERMINED
        data |= {"category": category.value, "severity": (statement.stated or SEVERITY[category]).value}
    if statement.rule:
        data["rule"] = statement.rule
    return Event(
        id=ids.new("evt"), type=_EVENT[statement.said], tenant_id=row.tenant_id, at=now, message_id=row.message_id, n=row.n, data=data
    )  # fmt: skip


def _fact(row: Row[Any], statement: Statement, way: Row[Any] | None, address: str, now: Instant) -> Fact:
    road = "" if way is None else way.route
    is_mx = bool(road) and roads_of(road)[0].kind is RoadKind.MX
    return Fact(
        tenant_id=row.tenant_id, message_id=row.message_id, n=row.n, address=address, said=statement.said, category=statement.category,
        severity=statement.stated, at=now, stream=row.stream, site=row.site, road=road,
        source=way.source if way is not None and is_mx else None, is_told_later=True,
        told_by=f"relay:{statement.by}" if statement.about.relay else statement.by,
    )  # fmt: skip
