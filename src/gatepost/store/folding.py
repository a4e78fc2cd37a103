"""
Adding deltas to the rollups: five minutes, hours, days and weeks at once, so that each of them is whole at any time.

A delta is taken away in the transaction that adds it, so it is added once, whoever does it. What is divided by site, tag or
template stands in cubes of its own; how many names a tenant may have in a day is bounded, and what is beyond stands together
under `OTHER`.
Arrives: deltas of `store.counting`. Leaves: rows of `rollup`. One process does it at a time (upkeep.rollups); two would only
count a few names beyond the bound.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, HOUR, Instant
from gatepost.domain.route import SANDBOX
from gatepost.domain.stats import FIELDS
from gatepost.store import bulk
from gatepost.store.counting import FINEST, Key, opened
from gatepost.store.schema import rollup, rollup_delta, rollup_kept, tenant

SPANS: Final = (FINEST, HOUR, DAY, 7 * DAY)
"""Lengths of rows; a row's `span` is the place here. They begin at the epoch: a day is UTC's, a week no calendar's."""
PLAIN, BY_SITE, BY_TAG, BY_TEMPLATE = range(4)
"""Cubes. Those by tag and template keep no way, only whether it was the sandbox."""
SHORT: Final = 4
"""Added to a cube: the same without domain, stream and way. Most questions need no more."""
OTHER: Final = "*"
"""The label of what had no room for a name of its own."""
_LONGEST_LABEL: Final = 200

_tags_of = msgspec.json.Decoder(list[str]).decode


class Place(NamedTuple):
    """A row of the rollups."""

    cube: int
    span: int
    tenant_id: str
    at: Instant
    domain: str
    stream: str
    road: str
    source: str
    label: str


@dataclass(slots=True)
class Names:
    """
    The names that have a row of their own, by cube, tenant and day; what one process remembers of the rollups.

    Attributes:
        bounds: How many a tenant may have in a day, by cube.
    """

    bounds: dict[int, int] = field(default_factory=lambda: {BY_SITE: 500, BY_TAG: 200, BY_TEMPLATE: 200})
    _known: dict[tuple[int, str, Instant], set[str]] = field(default_factory=dict)

    def name_of(self, conn: Connection, cube: int, tenant_id: str, at: Instant, label: str) -> str:
        """Return the label that a name is counted under."""
        label = label[:_LONGEST_LABEL]
        if cube == PLAIN or not label:
            return label
        place = (cube, tenant_id, at - at % DAY)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = _known_names(conn, place)
        if label not in known:
            if len(known) >= self.bounds[cube]:
                return OTHER
            known.add(label)
        return label

    def forget(self) -> None:
        """Read them again: a transaction failed, or it is another day."""
        self._known.clear()


def _known_names(conn: Connection, place: tuple[int, str, Instant]) -> set[str]:
    columns = rollup.c
    statement = sa.select(columns.label).distinct()
    same = (columns.cube == place[0], columns.span == SPANS.index(DAY), columns.tenant_id == place[1], columns.at == place[2])
    return set(conn.execute(statement.where(*same)).scalars()) - {"", OTHER}


def fold(conn: Connection, names: Names, most: int = 200) -> int:
    """
    Add the oldest deltas to the rollups; return how many there were.

    Args:
        most: Deltas at once: the writers of mail wait for it on SQLite.
    """
    found = conn.execute(_TAKE[conn.dialect.name], {"most": most}).scalars().all()
    sums: dict[Place, dict[str, int]] = defaultdict(dict)
    for data in found:
        for key, counts in opened(data):
            for place in places_of(key, lambda *where: names.name_of(conn, *where)):
                row = sums[place]
                for name, n in counts.items():
                    row[name] = row.get(name, 0) + n
    add(conn, sums)
    return len(found)


def places_of(key: Key, name_of: Callable[[int, str, Instant, str], str]) -> Iterator[Place]:
    """List the rows that a key counts in."""
    tenant, sandbox = key.tenant_id, SANDBOX if key.road == SANDBOX else ""
    labels = [(PLAIN, key.road, key.source, ""), (BY_SITE, key.road, key.source, key.site)]
    if key.tags:
        labels += [(BY_TAG, sandbox, "", tag) for tag in _tags_of(key.tags)]
    if key.template:
        labels.append((BY_TEMPLATE, sandbox, "", key.template))
    for cube, road, source, label in labels:
        name = name_of(cube, tenant, key.at, label)
        for span, length in enumerate(SPANS):
            at = key.at - key.at % length
            yield Place(cube, span, tenant, at, key.domain, key.stream, road, source, name)
            yield Place(cube + SHORT, span, tenant, at, "", "", sandbox, "", name)


def add(conn: Connection, sums: dict[Place, dict[str, int]]) -> None:
    """Add sums to rows."""
    rows = [dict.fromkeys(FIELDS) | place._asdict() | counts for place, counts in sorted(sums.items())]
    bulk.execute(conn, _adding(conn.dialect.name), rows)


@cache
def _adding(dialect: str) -> Any:
    statement: Any = postgresql.insert(rollup) if dialect == "postgresql" else sqlite.insert(rollup)
    new = statement.excluded
    zero: Any = sa.literal_column("0")
    sums = {name: sa.func.coalesce(rollup.c[name], zero) + new[name] for name in FIELDS}
    more = {name: sa.case((new[name].is_(None), rollup.c[name]), else_=one) for name, one in sums.items()}
    return statement.on_conflict_do_update(index_elements=list(Place._fields), set_=more)


_OLDEST = "SELECT id FROM rollup_delta ORDER BY id LIMIT :most"
_TAKE: Final = {
    "sqlite": sa.text(f"DELETE FROM rollup_delta WHERE id IN ({_OLDEST}) RETURNING data"),  # noqa: S608 - no input
    "postgresql": sa.text(f"DELETE FROM rollup_delta WHERE id IN ({_OLDEST} FOR UPDATE SKIP LOCKED) RETURNING data"),  # noqa: S608
}


def has_deltas(conn: Connection) -> bool:
    """Tell whether there is something to fold."""
    return conn.execute(sa.select(rollup_delta.c.id).limit(1)).first() is not None


def since(conn: Connection) -> dict[int, Instant]:
    """Tell since when there are rows, by span; spans that were never shortened are not in it."""
    return {row.span: row.since for row in conn.execute(sa.select(rollup_kept))}


def shorten(conn: Connection, keep: dict[int, Instant]) -> int:
    """
    Remove old rows; return how many.

    First it is said that they are gone, at the next call they are: who reads meanwhile misses nothing.

    Args:
        keep: By span, from when on rows stay: where a row of the next longer span begins.
    """
    told = since(conn)
    removed = 0
    for span, at in keep.items():
        if span in told:
            old = (rollup.c.span == span, rollup.c.at < told[span])
            removed += conn.execute(sa.delete(rollup).where(_IN_CUBES, _OF_TENANTS, *old)).rowcount
            conn.execute(sa.update(rollup_kept).where(rollup_kept.c.span == span).values(since=max(at, told[span])))
        else:
            conn.execute(sa.insert(rollup_kept).values(span=span, since=at))
    return removed


_OF_TENANTS: Final = rollup.c.tenant_id.in_(sa.select(tenant.c.id))
"""Always so; it makes an index useful."""
_IN_CUBES: Final = rollup.c.cube.in_([cube + short for cube in (PLAIN, BY_SITE, BY_TAG, BY_TEMPLATE) for short in (0, SHORT)])
