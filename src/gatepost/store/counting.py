"""
Counting what happened, in the transaction in which it happens.

A transaction adds one row that says all it counted (a delta); nobody waits for anybody, and what is rolled back was never
counted. `store.folding` adds deltas to the rollups soon after, and `store.rollups` reads both.
Arrives: counters of `domain.stats`, with where they belong. Leaves: a row of `rollup_delta`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import MINUTE, Instant
from gatepost.domain.route import UNRESOLVED, roads_of
from gatepost.domain.statement import Said
from gatepost.domain.stats import Labels
from gatepost.store import bulk
from gatepost.store.schema import attempt, message, recipient, rollup_delta

FINEST: Final = 5 * MINUTE
"""Numbers are kept by five minutes."""
NOBODY: Final = Labels("", "", "", "", 0)
"""Of a message that is not there any more."""
_CHUNK: Final = 100

_encode = msgspec.msgpack.Encoder().encode


class Key(NamedTuple):
    """
    Where counters belong.

    Attributes:
        source, site: Empty where nobody knows yet.
        at: The beginning of its five minutes.
    """

    tenant_id: str
    domain: str
    stream: str
    road: str
    source: str
    site: str
    tags: str
    template: str
    at: Instant


class Deltas:
    """What one transaction counts."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Key, dict[str, int]] = {}

    def add(self, tenant_id: str, labels: Labels, road: str, source: str, site: str, at: Instant, names: Sequence[str], n: int = 1) -> None:
        """
        Count something.

        Args:
            source: Empty where there is none.
            site: One that is not known yet counts as none.
            at: When it happened.
            names: Of counters: `domain.stats.FIELDS`.
        """
        if site.startswith(UNRESOLVED):
            site = ""
        key = Key(tenant_id, labels[0], labels[1], road, source, site, labels[2], labels[3], at - at % FINEST)
        counts = self._found.get(key)
        if counts is None:
            counts = self._found[key] = {}
        for name in names:
            counts[name] = counts.get(name, 0) + n

    def write(self, conn: Connection) -> None:
        """Write it down; nothing is fine."""
        if self._found:
            data = _encode([(*key, counts) for key, counts in self._found.items()])
            bulk.insert(conn, rollup_delta, [{"id": ids.new("dlt"), "data": data}])


_read_delta = msgspec.msgpack.Decoder(list[tuple[str, str, str, str, str, str, str, str, int, dict[str, int]]]).decode


def opened(data: bytes) -> Iterator[tuple[Key, dict[str, int]]]:
    """Read a delta."""
    for one in _read_delta(data):
        yield Key._make(one[:9]), one[9]


def tags_text(tags: Sequence[str]) -> str:
    """Write tags as they stand in `Labels`."""
    return msgspec.json.encode(tags).decode() if tags else ""


def labels_of(conn: Connection, message_ids: Sequence[str]) -> dict[str, Labels]:
    """Read what the numbers of some messages are kept by."""
    columns, found = message.c, {}
    for start in range(0, len(message_ids), _CHUNK):
        statement = sa.select(
            columns.id, columns.from_domain, columns.stream, columns.tags, columns.scheduled_at, columns.created_at
        ).where(columns.id.in_(message_ids[start : start + _CHUNK]))  # fmt: skip
        for message_id, domain, stream, tags, scheduled_at, created_at in conn.execute(statement):
            found[message_id] = Labels(domain, stream, tags_text(tags), "", scheduled_at or created_at)
    return found


class Change(NamedTuple):
    """What is counted of a recipient."""

    message_id: str
    n: int
    names: Sequence[str]


def count(conn: Connection, changes: Sequence[Change], at: Instant, tenant_id: str | None = None) -> None:
    """
    Count what happened to stored recipients, by the way that they went last.

    It reads what it has to know: for what happens seldom, not for the way of every message. Recipients that are not there
    are not counted.

    Args:
        tenant_id: Another one's recipients are not counted; None is anybody's.
    """
    deltas = Deltas()
    for start in range(0, len(changes), _CHUNK):
        chunk = changes[start : start + _CHUNK]
        labels = labels_of(conn, list({change.message_id for change in chunk}))
        ways = _ways(conn, chunk)
        for message_id, n, names in chunk:
            way = ways.get((message_id, n))
            if way is not None and message_id in labels and tenant_id in (None, way.tenant_id):
                deltas.add(way.tenant_id, labels[message_id], way.road, way.source, way.site, at, names)
    deltas.write(conn)


class _Way(NamedTuple):
    tenant_id: str
    road: str
    source: str
    site: str


def _ways(conn: Connection, changes: Sequence[Change]) -> dict[tuple[str, int], _Way]:
    """Find the last road, source and site of some recipients; the first road of their route, while they went nowhere."""
    columns, found = recipient.c, {}
    statement = (
        sa.select(columns.message_id, columns.n, columns.tenant_id, columns.site, columns.route, message.c.route)
        .join(message, message.c.id == columns.message_id)
        .where(sa.tuple_(columns.message_id, columns.n).in_([(change.message_id, change.n) for change in changes]))
    )
    for message_id, n, tenant_id, site, own, route in conn.execute(statement).all():
        last = conn.execute(_LAST, {"b_message_id": message_id, "b_n": n}).first()
        if last is None:
            found[message_id, n] = _Way(tenant_id, str(roads_of(own or route)[0]), "", "")
        else:
            found[message_id, n] = _Way(tenant_id, last.route, last.source or "", site)
    return found


_LAST = (
    sa.select(attempt.c.route, attempt.c.source)
    .where(attempt.c.message_id == sa.bindparam("b_message_id"), attempt.c.n == sa.bindparam("b_n"))
    .order_by(attempt.c.number.desc())
    .limit(1)
)

_ENGAGED: Final = {Said.OPENED: ("opened", "opens", "machine_opens"), Said.CLICKED: ("clicked", "clicks", "machine_clicks")}


def count_engagement(
    conn: Connection, *, tenant_id: str, message_id: str, n: int, said: Said, at: Instant, is_first: bool, is_machine: bool = False
) -> None:  # fmt: skip
    """
    Count an opening, a click or an unsubscription, in the transaction that writes its event.

    Args:
        tenant_id: Whose message it is; another one's is not counted.
        is_first: The first of its kind by a person, for this recipient.
        is_machine: A scanner or a prefetch: counted apart.

    Raises:
        ValueError: It is said of something else.
    """
    change = engagement_change(message_id, n, said, is_first=is_first, is_machine=is_machine)
    count(conn, [change], at, tenant_id)


def engagement_change(message_id: str, n: int, said: Said, *, is_first: bool, is_machine: bool = False) -> Change:
    """
    Say what is counted of it, for who counts many at once; arguments as for `count_engagement`.

    Raises:
        ValueError: It is said of something else.
    """
    if said is Said.UNSUBSCRIBED:
        return Change(message_id, n, ("unsubscribed",))
    if said not in _ENGAGED:
        raise ValueError(f"{said} is no engagement")
    first, every, machine = _ENGAGED[said]
    return Change(message_id, n, (machine,) if is_machine else ((first, every) if is_first else (every,)))
