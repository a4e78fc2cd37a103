"""
What recipients do with tracked mail becomes facts: opened, clicked, unsubscribed, each with who it was and whether it is the first time.

Arrives: visits to pixels and links, and unsubscriptions, known to be about a recipient of ours by their token.
Leaves: counts, an event and the numbers of statistics, in one transaction. `_write` is the one place where such an event is
written, and where whoever else counts them is told.
A person's first opening is the first of those whom `tracking.counted` names; prefetches and scanners have counts of their own.
Not here: what a token is (wire.tracking_token), who somebody is (policy.visitors), the suppression (suppressing).
Bugs: after 100 events of a kind for one recipient the rest is counted and not told one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.address import parse_address
from gatepost.domain.engagement import Visitor
from gatepost.domain.event import Event, EventType
from gatepost.domain.statement import Said
from gatepost.observe import maillog, metrics
from gatepost.policy.suppressing import UNSUBSCRIBED
from gatepost.policy.visitors import Visit, VisitorRules
from gatepost.store import counting, engagement, facts, suppressions
from gatepost.store.engagement import Holder, Whose
from gatepost.suppressing import Fact, Suppressing

_EVENT: Final = {Said.OPENED: EventType.OPENED, Said.CLICKED: EventType.CLICKED, Said.UNSUBSCRIBED: EventType.UNSUBSCRIBED}
_MOST_EVENTS: Final = 100
_COUNTED: Final = "counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    Somebody asked for a pixel or a link.

    Attributes:
        link: What stands for the link, as hex; empty for a pixel.
        target: Where it led to.
    """

    message_id: str
    n: int
    visit: Visit
    at: Instant
    link: str = ""
    target: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engaged:
    """
    One thing that a recipient did.

    Attributes:
        is_counted: Whether numbers that are about people include it.
        is_first: The first of its kind for this recipient: by a person, where it is counted, else by this class.
        is_told: It is an event of its own, and not only counted.
    """

    tenant_id: str
    message_id: str
    n: int
    said: Said
    visitor: Visitor
    at: Instant
    is_counted: bool
    is_first: bool
    is_told: bool = True
    detail: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Whom numbers about people include, and how people are told from machines."""

    rules: VisitorRules
    counted: frozenset[Visitor] = frozenset({Visitor.HUMAN})


def record(conn: Connection, seen: Sequence[Seen], how: Counting) -> list[Engaged | None]:
    """
    Write down visits of many recipients; None for those that are about nobody any more.

    Rows are touched in the order of recipients, so that processes that write at once wait for each other and never in a circle.
    """
    known = engagement.whose(conn, list({(one.message_id, one.n) for one in seen}))
    answers: list[Engaged | None] = [None] * len(seen)
    for at in sorted(range(len(seen)), key=lambda at: (seen[at].message_id, seen[at].n, seen[at].visit.said.value, seen[at].link)):
        whose = known.get((seen[at].message_id, seen[at].n))
        if whose is not None:
            answers[at] = _record_one(conn, seen[at], whose, how)
    _write(conn, [one for one in answers if one is not None])
    return answers


def _record_one(conn: Connection, seen: Seen, whose: Whose, how: Counting) -> Engaged:
    said, kind = seen.visit.said, seen.visit.said.value
    since = None if whose.delivered_at is None else seen.at - whose.delivered_at
    just_now = 0
    if said is Said.CLICKED:
        just_now = engagement.links_since(conn, seen.message_id, seen.n, kind, seen.at - how.rules.burst_ms, seen.link)
    visitor, rule = how.rules.classify(seen.visit, since, just_now)
    is_counted = visitor in how.counted
    who = _COUNTED if is_counted else visitor.value
    total = engagement.add(conn, seen.message_id, seen.n, kind, who, "", seen.at)
    detail: dict[str, Any] = {"rule": rule} if rule else {}
    if seen.link:
        times = engagement.add(conn, seen.message_id, seen.n, kind, who, seen.link, seen.at)
        detail |= {"url": seen.target, "link": seen.link, "is_first_of_link": times == 1}
    return Engaged(
        tenant_id=whose.tenant_id, message_id=seen.message_id, n=seen.n, said=said, visitor=visitor, at=seen.at, is_counted=is_counted,
        is_first=total == 1, is_told=total <= _MOST_EVENTS, detail=detail,
    )  # fmt: skip


def _write(conn: Connection, done: Sequence[Engaged]) -> None:
    """Write the events of what recipients did, and count it: everything that counts such events is called here."""
    facts.insert_events(conn, [_event(one) for one in done if one.is_told])
    changes = [
        counting.engagement_change(one.message_id, one.n, one.said, is_first=one.is_first, is_machine=not one.is_counted) for one in done
    ]
    if done:
        counting.count(conn, changes, max(one.at for one in done))
    for one in done:
        metrics.engagements.labels(one.said.value, one.visitor.value).inc()
        maillog.engaged(
            message_id=one.message_id, n=one.n, said=one.said.value, visitor=one.visitor.value, is_first=one.is_first,
            rule=one.detail.get("rule"),
        )  # fmt: skip


def _event(done: Engaged) -> Event:
    data = {"class": done.visitor.value, "is_counted": done.is_counted, "is_first": done.is_first, **done.detail}
    return Event(
        id=ids.new("evt"), type=_EVENT[done.said], tenant_id=done.tenant_id, at=done.at, message_id=done.message_id, n=done.n, data=data
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """
    What one recipient may decide about one stream.

    Attributes:
        address: For the reader's eyes only.
        sender: The From header of the mail that led here.
        is_suppressed: Whether no more mail of the stream comes: because of this, or of anything else.
        is_unsubscribed: Whether that is what the recipient asked for.
    """

    address: str = field(repr=False)
    sender: str = field(repr=False)
    stream: str
    is_suppressed: bool
    is_unsubscribed: bool


def preference(conn: Connection, message_id: str, n: int, now: Instant) -> Preference | None:
    """Read what a recipient has decided; None when nobody knows the recipient any more."""
    holder = engagement.holder(conn, message_id, n)
    return None if holder is None else _preference(conn, holder, now)


def unsubscribe(conn: Connection, message_id: str, n: int, suppressing: Suppressing, now: Instant, *, by: str) -> Preference | None:
    """
    Send no more mail of the message's stream to a recipient; doing it again changes nothing.

    Args:
        by: How it was asked for: `one_click` or `page`.

    Returns:
        None when nobody knows the recipient any more.
    """
    holder = engagement.holder(conn, message_id, n, is_locking=True)
    if holder is None:
        return None
    if not _preference(conn, holder, now).is_unsubscribed:
        fact = Fact(
            tenant_id=holder.tenant_id, message_id=message_id, n=n, address=holder.address, said=Said.UNSUBSCRIBED, category=None, at=now,
            stream=holder.stream, site=holder.site,
        )  # fmt: skip
        suppressing.act(conn, fact)
        total = engagement.add(conn, message_id, n, Said.UNSUBSCRIBED.value, _COUNTED, "", now)
        done = Engaged(
            tenant_id=holder.tenant_id, message_id=message_id, n=n, said=Said.UNSUBSCRIBED, visitor=Visitor.HUMAN, at=now, is_counted=True,
            is_first=total == 1, is_told=total <= _MOST_EVENTS, detail={"by": by},
        )  # fmt: skip
        _write(conn, [done])
    return _preference(conn, holder, now)


def resubscribe(conn: Connection, message_id: str, n: int, now: Instant) -> Preference | None:
    """Take back what a recipient asked for, and nothing that was suppressed for another reason."""
    holder = engagement.holder(conn, message_id, n, is_locking=True)
    if holder is None:
        return None
    key = _key(holder)
    if _preference(conn, holder, now).is_unsubscribed and suppressions.remove(conn, holder.tenant_id, key, holder.stream):
        suppressions.note_lifted(conn, holder.tenant_id, key, now)
        data = {"address": key, "stream": holder.stream, "by": "recipient"}
        event = Event(id=ids.new("evt"), type=EventType.SUPPRESSION_REMOVED, tenant_id=holder.tenant_id, at=now, data=data)
        facts.insert_events(conn, [event])
    return _preference(conn, holder, now)


def _key(holder: Holder) -> str:
    return parse_address(holder.address).key


def _preference(conn: Connection, holder: Holder, now: Instant) -> Preference:
    who = (holder.tenant_id, _key(holder))
    why = [
        (stream, reason)
        for stream, reason in suppressions.matching(conn, [who], now).get(who, [])
        if stream in {suppressions.EVERY_STREAM, holder.stream}
    ]
    return Preference(
        address=holder.address, sender=holder.sender, stream=holder.stream, is_suppressed=bool(why),
        is_unsubscribed=(holder.stream, UNSUBSCRIBED) in why,
    )  # fmt: skip
