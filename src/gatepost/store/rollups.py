"""
Reading numbers: sums over any span, divided by what is asked for, exact to the last commit.

A span is cut into the longest rows that fit (weeks in the middle, days, hours and five minutes at the edges), so a year costs
little more than a day. Deltas that are not folded yet are read in the same statement: one snapshot, nothing twice.
Arrives: tenant, span, grouping, conditions. Leaves: `Counted` values, ordered by time and key.
Not here: writing (store.counting), adding up (store.folding).
"""

import datetime as dt
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import HOUR, Instant
from gatepost.domain.route import SANDBOX
from gatepost.domain.stats import BOUNCED, FIELDS, WAITED, Counted, Counts, Dimension, Step, of_values
from gatepost.store import folding
from gatepost.store.counting import FINEST, count_engagement, opened
from gatepost.store.folding import BY_SITE, BY_TAG, BY_TEMPLATE, PLAIN, SHORT, SPANS, Place

__all__ = ["FINEST", "MODE", "MOST_STEPS", "count_engagement", "read"]

MODE: Final = "mode"
"""A condition beside the dimensions: `live` or `sandbox`."""
MOST_STEPS: Final = 1_000

_CUBES: Final = {Dimension.SITE: BY_SITE, Dimension.TAG: BY_TAG, Dimension.TEMPLATE: BY_TEMPLATE}
_LONG: Final = {Dimension.DOMAIN, Dimension.STREAM, Dimension.RELAY, Dimension.SOURCE}
"""What short cubes do not have."""
_COLUMN: Final = {
    Dimension.TENANT: "tenant_id", Dimension.DOMAIN: "domain", Dimension.STREAM: "stream", Dimension.RELAY: "road",
    Dimension.SOURCE: "source", Dimension.SITE: "label", Dimension.TAG: "label", Dimension.TEMPLATE: "label",
}  # fmt: skip


class Segment(NamedTuple):
    """A part of a span that whole rows of one length make up."""

    step: int
    span: int
    cube: int
    first: Instant
    last: Instant
    """Behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    tenant: str | None
    cube: int
    columns: tuple[str, ...]
    where: tuple[tuple[str, tuple[str, ...]], ...]
    edges: tuple[Instant, ...]
    names: tuple[str, ...]


def read(
    conn: Connection,
    *,
    tenant: str | None,
    start: Instant,
    end: Instant,
    group_by: Sequence[Dimension | str] = (),
    where: Mapping[str, Collection[str]] | None = None,
    step: Step | None = None,
    zone: str = "UTC",
    has_bounces: bool = True,
    has_waits: bool = True,
) -> list[Counted]:
    """
    Sum up a span.

    Args:
        tenant: Whose; None is everybody's.
        start: Counts from here on; rounded down to five minutes, as `end` is. Where short rows are gone, to the hour or day.
        end: Counts to before here.
        group_by: Nothing gives one sum, even where there is nothing to sum up.
        where: The values that count, by dimension; `mode` is `live` or `sandbox`.
        step: Divides time, too; steps without anything are left out.
        zone: Whose days, weeks and months; a name of IANA's list.
        has_bounces: Divides bounces by category; it is quicker without.
        has_waits: Sums up how long deliveries took; it is quicker without.

    Raises:
        ValueError: Tags and templates go with tenants, domains and streams only; or there are too many steps.
        zoneinfo.ZoneInfoNotFoundError: There is no such zone.
    """
    by = tuple(Dimension(one) for one in group_by)
    conditions = {name: tuple(sorted(values)) for name, values in (where or {}).items()}
    cube = _cube_of({*by, *(Dimension(name) for name in conditions if name != MODE)})
    edges = edges_of(start, end, step, zone)
    wanted = _Wanted(
        tenant=tenant,
        cube=cube,
        columns=tuple(_COLUMN[one] for one in by),
        where=tuple(sorted((MODE if name == MODE else _COLUMN[Dimension(name)], values) for name, values in conditions.items())),
        edges=tuple(edges),
        names=tuple(
            name for name in FIELDS if (has_bounces or not name.startswith(BOUNCED)) and (has_waits or not name.startswith(WAITED))
        ),
    )  # fmt: skip
    segments = _segments(edges, folding.since(conn), cube, is_short=not {*by, *(conditions.keys() - {MODE})} & _LONG)
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in _rows(conn, wanted, segments):
        mine = sums.get(row[0])
        if mine is None:
            sums[row[0]] = list(row[1])
        else:
            for n, value in enumerate(row[1]):
                mine[n] += value
    if not by and step is None and not sums:
        sums[(0,)] = [0] * len(wanted.names)
    return [
        Counted(key=place[1:], at=None if step is None else edges[place[0]], counts=_counts(wanted.names, values))
        for place, values in sorted(sums.items())
    ]


def _counts(names: Sequence[str], values: Sequence[int]) -> Counts:
    if len(names) == len(FIELDS):
        return of_values(values)
    found = dict(zip(names, values, strict=True))
    return of_values(found.get(name, 0) for name in FIELDS)


def _cube_of(used: set[Dimension]) -> int:
    labels = used & _CUBES.keys()
    if len(labels) > 1 or (labels and labels <= {Dimension.TAG, Dimension.TEMPLATE} and used & {Dimension.RELAY, Dimension.SOURCE}):
        raise ValueError("tags and templates go with tenants, domains and streams only, one of them at a time")
    return _CUBES[labels.pop()] if labels else PLAIN


def edges_of(start: Instant, end: Instant, step: Step | None, zone: str) -> list[Instant]:
    """
    Return where the steps of a span begin, and where the last one ends.

    The first and the last step are cut at the span's ends.

    Raises:
        ValueError: There are too many.
    """
    first, last = start - start % FINEST, end - end % FINEST
    if step is None or last <= first:
        return [first, max(last, first)]
    found = [first]
    for edge in _steps(first, last, step, ZoneInfo(zone)):
        if len(found) > MOST_STEPS:
            raise ValueError(f"these are more than {MOST_STEPS} steps: take longer steps, or a shorter time")
        found.append(edge)
    return [*found, last]


def _steps(first: Instant, last: Instant, step: Step, zone: ZoneInfo) -> Iterator[Instant]:
    """List the beginnings of steps between two instants."""
    if step in (Step.FIVE_MINUTES, Step.HOUR):
        length = FINEST if step is Step.FIVE_MINUTES else HOUR
        offset = _offset(first, zone)  # zones with half hours begin their hours there
        yield from range(first + length - (first + offset) % length, last, length)
        return
    day = dt.datetime.fromtimestamp(first / 1000, zone).date()
    while True:
        if step is Step.DAY:
            day += dt.timedelta(days=1)
        elif step is Step.WEEK:
            day += dt.timedelta(days=7 - day.weekday())
        else:
            day = (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        edge = int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)
        edge -= edge % FINEST
        if edge >= last:
            return
        if edge > first:
            yield edge


def _offset(at: Instant, zone: ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(at / 1000, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() * 1000)


def _segments(edges: Sequence[Instant], since: Mapping[int, Instant], cube: int, *, is_short: bool) -> list[Segment]:
    found: list[Segment] = []
    for step, (first, last) in enumerate(pairwise(edges)):
        for span, begin, end in _cut(_kept(first, since), _kept(last, since), len(SPANS) - 1):
            found.append(Segment(step, span, cube + SHORT if is_short else cube, begin, end))
    return found


def _kept(edge: Instant, since: Mapping[int, Instant]) -> Instant:
    """Move an edge to where rows begin that are still kept."""
    for span in range(len(SPANS) - 1):
        if edge < since.get(span, 0):
            edge -= edge % SPANS[span + 1]
    return edge


def _cut(first: Instant, last: Instant, span: int) -> Iterator[tuple[int, Instant, Instant]]:
    """Cut a step into rows, the longest in the middle: spans with their ends."""
    if first >= last:
        return
    length = SPANS[span]
    inner_first, inner_last = -(-first // length) * length, last // length * length
    if span == 0:
        yield span, first, last
    elif inner_first < inner_last:
        yield from _cut(first, inner_first, span - 1)
        yield span, inner_first, inner_last
        yield from _cut(inner_last, last, span - 1)
    else:
        yield from _cut(first, last, span - 1)


def _rows(conn: Connection, wanted: _Wanted, segments: Sequence[Segment]) -> Iterator[tuple[tuple[Any, ...], Sequence[int]]]:
    """Yield sums with step and key; a key may come several times."""
    depth = 1 + len(wanted.columns)
    where = tuple(name for name, _ in wanted.where)
    statement = _statement(conn.dialect.name, wanted.tenant is None, wanted.columns, where, wanted.names)
    values: dict[str, Any] = {f"w{n}": _texts(conn, wanted_values) for n, (_, wanted_values) in enumerate(wanted.where)}
    if wanted.tenant is not None:
        values["tenant"] = wanted.tenant
    for row in conn.execute(statement, values | _places(conn, segments)):
        if row[-1] is not None:
            yield from _of_delta(row[-1], wanted)
        else:
            yield tuple(row[:depth]), [value or 0 for value in row[depth:-1]]


def _places(conn: Connection, segments: Sequence[Segment]) -> dict[str, Any]:
    if conn.dialect.name == "postgresql":
        columns = zip(*segments, strict=True) if segments else ((), (), (), (), ())
        return dict(zip(("steps", "spans", "cubes", "firsts", "lasts"), (list(column) for column in columns), strict=True))
    return {"segments": msgspec.json.encode(segments).decode()}


def _texts(conn: Connection, values: Sequence[str]) -> Any:
    return list(values) if conn.dialect.name == "postgresql" else msgspec.json.encode(values).decode()


@lru_cache(maxsize=200)
def _statement(
    dialect: str, is_everybody: bool, columns: tuple[str, ...], where: tuple[str, ...], counters: tuple[str, ...]  # noqa: FBT001
) -> sa.TextClause:  # fmt: skip
    is_postgres = dialect == "postgresql"
    among = "= ANY(CAST(:{} AS text[]))" if is_postgres else "IN (SELECT value FROM json_each(:{}))"
    conditions = "".join(f" AND {_MODE_OF_ROAD if name == MODE else f'r.{name}'} {among.format(f'w{n}')}" for n, name in enumerate(where))
    sums = ", ".join(f"sum(r.{name})" for name in counters)
    keys = "".join(f", r.{name}" for name in columns)
    groups = ", ".join(f"r.{name}" for name in columns)
    tenants = "(SELECT id FROM tenant)" if is_everybody else f"(SELECT {'CAST(:tenant AS text)' if is_postgres else ':tenant'} AS id)"
    inside = f"r.cube = w.cube AND r.span = w.span AND r.tenant_id = t.id AND r.at >= w.first AND r.at < w.last{conditions}"
    pending = f"SELECT 0{', NULL' * (len(columns) + len(counters))}, data FROM rollup_delta"  # noqa: S608 - no input
    if is_postgres:
        outer = "".join(f", q.{name}" for name in columns)
        numbers = ", ".join(f"q.f{n}" for n in range(len(counters)))
        named = ", ".join(f"sum(r.{name}) AS f{n}" for n, name in enumerate(counters))
        inner = ", ".join(f"r.{name}" for name in columns)
        group = f" GROUP BY {groups}" if groups else " HAVING count(*) > 0"
        return sa.text(
            f"SELECT w.step{outer}, {numbers}, CAST(NULL AS bytea) AS data"  # noqa: S608 - names are ours
            f" FROM {tenants} t CROSS JOIN unnest(CAST(:steps AS integer[]), CAST(:spans AS smallint[]), CAST(:cubes AS smallint[]),"
            " CAST(:firsts AS bigint[]),"
            f" CAST(:lasts AS bigint[])) AS w(step, span, cube, first, last)"
            f" CROSS JOIN LATERAL (SELECT {inner}{', ' if inner else ''}{named} FROM rollup r WHERE {inside}{group}) q"
            f" UNION ALL {pending}"
        )
    return sa.text(
        f"SELECT w.step{keys}, {sums}, NULL AS data FROM {tenants} t CROSS JOIN"  # noqa: S608 - names are ours
        " (SELECT json_extract(value, '$[0]') AS step, json_extract(value, '$[1]') AS span, json_extract(value, '$[2]') AS cube,"
        " json_extract(value, '$[3]') AS first, json_extract(value, '$[4]') AS last FROM json_each(:segments)) w CROSS JOIN rollup r"
        f" WHERE {inside} GROUP BY w.step{keys} UNION ALL {pending}"
    )


_MODE_OF_ROAD: Final = f"CASE WHEN r.road = '{SANDBOX}' THEN 'sandbox' ELSE 'live' END"


def _of_delta(data: bytes, wanted: _Wanted) -> Iterator[tuple[tuple[Any, ...], Sequence[int]]]:
    for key, counts in opened(data):
        if not wanted.edges[0] <= key.at < wanted.edges[-1] or wanted.tenant not in (None, key.tenant_id):
            continue
        step = bisect_right(wanted.edges, key.at) - 1
        for place in folding.places_of(key, lambda _cube, _tenant, _at, label: label):
            if place.cube == wanted.cube and place.span == 0 and _matches(place, wanted):
                yield (step, *(getattr(place, name) for name in wanted.columns)), [counts.get(name, 0) for name in wanted.names]


def _matches(place: Place, wanted: _Wanted) -> bool:
    mode = SANDBOX if place.road == SANDBOX else "live"
    return all((mode if name == MODE else getattr(place, name)) in values for name, values in wanted.where)
