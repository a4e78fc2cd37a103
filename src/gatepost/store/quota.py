"""
What was taken of limits, shared by all processes: one row for each limit of each subject and window.

Takers of slices lock the rows they need in one order, read, decide by `policy.quota`, write: exact on both engines. Caps
per recipient, of which every row is another one, are taken by a single statement that refuses rows which are full.
Not here: whose limits these are (tenants.limits), the counters in memory that slices fill.
Bugs: none known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.policy.gcra import tolerance_ms
from gatepost.policy.quota import EMPTY, Level, Meter, slice_of
from gatepost.store import bulk
from gatepost.store.schema import quota

_AT_ONCE = 300
_KEY = ("subject", "resource", "per", "starts_at")


class Place(NamedTuple):
    """The row of one limit in one window."""

    subject: str
    resource: str
    per: str
    starts_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What a process wants of one limit.

    Attributes:
        need: As much, or nothing of its group.
        extra: As much on top as the end of the limit allows, as a slice.
        returned: What is left of an earlier slice; given back whatever happens to the rest.
    """

    place: Place
    meter: Meter
    need: int
    extra: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a process got.

    Attributes:
        is_granted: The group's needs were all met.
        level: The meter's reading afterwards.
    """

    is_granted: bool
    extra: int
    level: Level


def take(conn: Connection, groups: Sequence[Sequence[Ask]], now: Instant) -> list[list[Answer]]:
    """
    Take of limits for several groups, in order; each group gets all that it needs or nothing.

    Args:
        groups: What different requests need, each of one or more limits.
    """
    meters = {ask.place: ask.meter for group in groups for ask in group}
    before = _locked(conn, meters, now)
    levels = dict(before)
    for group in groups:
        for ask in group:
            if ask.returned:
                levels[ask.place] = ask.meter.taken(levels[ask.place], -ask.returned, now)
    granted = [_needs(group, levels, now) for group in groups]
    extras = [[_extra(ask, levels, now) if is_met else 0 for ask in group] for group, is_met in zip(groups, granted, strict=True)]
    _write(conn, {place: (meters[place], level) for place, level in levels.items() if level != before[place]}, now)
    return [
        [Answer(is_granted=is_met, extra=extra, level=levels[ask.place]) for ask, extra in zip(group, more, strict=True)]
        for group, is_met, more in zip(groups, granted, extras, strict=True)
    ]


def _needs(group: Sequence[Ask], levels: dict[Place, Level], now: Instant) -> bool:
    if any(ask.meter.wait_ms(levels[ask.place], ask.need, now) != 0 for ask in group if ask.need):
        return False
    for ask in group:
        if ask.need:
            levels[ask.place] = ask.meter.taken(levels[ask.place], ask.need, now)
    return True


def _extra(ask: Ask, levels: dict[Place, Level], now: Instant) -> int:
    extra = slice_of(ask.extra, ask.meter.room(levels[ask.place], now)) if ask.extra else 0
    if extra:
        levels[ask.place] = ask.meter.taken(levels[ask.place], extra, now)
    return extra


def _locked(conn: Connection, meters: Mapping[Place, Meter], now: Instant) -> dict[Place, Level]:
    """Read rows so that nobody else takes of them until the transaction ends; on PostgreSQL that makes missing ones."""
    places = sorted(meters)
    if conn.dialect.name != "postgresql":
        return read(conn, places)
    rows = [_row(place, meters[place], EMPTY, now) for place in places]
    return {Place(*found[:4]): Level(*found[4:]) for found in conn.execute(_locking(), rows)}


@cache
def _locking() -> Any:
    statement = postgresql.insert(quota).on_conflict_do_update(index_elements=_KEY, set_={"used": quota.c.used})
    return statement.returning(quota.c.subject, quota.c.resource, quota.c.per, quota.c.starts_at, quota.c.used, quota.c.at)


def read(conn: Connection, places: Sequence[Place]) -> dict[Place, Level]:
    """Read rows; a missing one is empty."""
    columns = quota.c
    found = dict.fromkeys(places, EMPTY)
    for start in range(0, len(places), _AT_ONCE):
        key = sa.tuple_(columns.subject, columns.resource, columns.per, columns.starts_at)
        statement = sa.select(columns.subject, columns.resource, columns.per, columns.starts_at, columns.used, columns.at)
        for row in conn.execute(statement.where(key.in_(places[start : start + _AT_ONCE]))):
            found[Place(*row[:4])] = Level(*row[4:])
    return found


def _write(conn: Connection, levels: Mapping[Place, tuple[Meter, Level]], now: Instant) -> None:
    if levels:
        rows = [_row(place, meter, level, now) for place, (meter, level) in sorted(levels.items())]
        bulk.execute(conn, _writing(conn.dialect.name), rows)


@cache  # making such a statement costs a hundred times what running it does
def _writing(dialect: str) -> Any:
    statement = _insert(dialect)
    new = statement.excluded
    values = {"used": new.used, "at": new["at"], "expires_at": new.expires_at}
    return statement.on_conflict_do_update(index_elements=_KEY, set_=values)


def _row(place: Place, meter: Meter, level: Level, now: Instant) -> dict[str, Any]:
    return {
        "subject": place.subject,
        "resource": place.resource,
        "per": place.per,
        "starts_at": place.starts_at,
        "used": level.filled,
        "at": level.at,
        "expires_at": meter.kept_until(now),
    }


def _insert(dialect: str) -> Any:
    """Return the engine's own INSERT, which knows what to do about a row that is there already."""
    return postgresql.insert(quota) if dialect == "postgresql" else sqlite.insert(quota)


def admit(conn: Connection, meter: Meter, resource: str, wanted: Mapping[str, int], now: Instant) -> dict[str, int]:
    """
    Take of one sliding limit that many subjects have, each for itself; return how many each got.

    Args:
        wanted: How many by subject; one that is full gets fewer, or none.
    """
    subjects = sorted(subject for subject, count in wanted.items() if count > 0)
    if not subjects:
        return {}
    granted = dict.fromkeys(subjects, 0)
    if conn.dialect.name == "postgresql":
        # every row is locked here, in one order: two processes that want the same rows must not wait for each other
        asked = {subject: min(wanted[subject], meter.amount) for subject in subjects}
        rows = [_row(_place(subject, resource, meter), meter, meter.taken(EMPTY, count, now), now) for subject, count in asked.items()]
        granted |= {subject: asked[subject] for (subject,) in conn.execute(_admission(meter), rows)}
        subjects = [subject for subject, count in granted.items() if not count]  # they would overflow: how much is left of each
    levels = _levels(conn, resource, meter, subjects)
    changed = {}
    for subject in subjects:
        level = levels.get(subject, EMPTY)
        granted[subject] = count = min(wanted[subject], meter.room(level, now))
        if count:
            changed[_place(subject, resource, meter)] = (meter, meter.taken(level, count, now))
    _write(conn, changed, now)
    return granted


def _levels(conn: Connection, resource: str, meter: Meter, subjects: Sequence[str]) -> dict[str, Level]:
    wanted: dict[str, Any] = {"resource": resource, "per": meter.per.value}
    if conn.dialect.name == "postgresql":
        statement, wanted["subjects"] = _ON_POSTGRES, list(subjects)
    else:
        statement, wanted["subjects"] = _ON_SQLITE, msgspec.json.encode(subjects).decode()
    return {subject: Level(used, at) for subject, used, at in bulk.read(conn, statement, wanted)}


_OF_SUBJECTS = "SELECT subject, used, at FROM quota WHERE subject {some} AND resource = :resource AND per = :per AND starts_at = 0"
_ON_POSTGRES = sa.text(_OF_SUBJECTS.format(some="= ANY(CAST(:subjects AS text[]))"))
_ON_SQLITE = sa.text(_OF_SUBJECTS.format(some="IN (SELECT value FROM json_each(:subjects))"))
"""Their texts are the same for any number of subjects."""


@cache
def _admission(meter: Meter) -> Any:
    """Make the statement that takes of rows which have room for it and returns those: PostgreSQL's."""
    statement = postgresql.insert(quota)
    new, larger = statement.excluded, sa.func.greatest
    amount, capacity = _constant(meter.amount), _constant(meter.amount * meter.window_ms)
    # as policy.gcra has it: a level from far ahead is one from before a clock was set back
    is_astray = quota.c.at > new["at"] + _constant(tolerance_ms(meter.window_ms))
    drained = sa.case((is_astray, 0), else_=larger(0, quota.c.used - amount * larger(0, new["at"] - quota.c.at)))
    at = sa.case((is_astray, new["at"]), else_=larger(quota.c.at, new["at"]))
    return statement.on_conflict_do_update(
        index_elements=_KEY,
        set_={"used": drained + new.used, "at": at, "expires_at": new.expires_at},
        where=drained + new.used <= capacity,
    ).returning(quota.c.subject)


def _constant(number: int) -> sa.ColumnElement[int]:
    """Write a number into a statement: one that takes many rows has no place for a parameter beside them."""
    return sa.literal_column(str(number), sa.BigInteger)


def give_back(conn: Connection, meter: Meter, resource: str, unused: Mapping[str, int], now: Instant) -> None:
    """Give back what `admit` took and nobody used, in the same transaction."""
    counts = {subject: count for subject, count in unused.items() if count}
    levels = _levels(conn, resource, meter, sorted(counts))
    changed = {_place(subject, resource, meter): (meter, meter.taken(level, -counts[subject], now)) for subject, level in levels.items()}
    _write(conn, changed, now)


def wait_ms(conn: Connection, meter: Meter, resource: str, subjects: Sequence[str], now: Instant) -> dict[str, int]:
    """Return how long each subject has to wait for one more."""
    return {subject: meter.wait_ms(level, 1, now) or 0 for subject, level in _levels(conn, resource, meter, subjects).items()}


def _place(subject: str, resource: str, meter: Meter) -> Place:
    return Place(subject, resource, meter.per.value, 0)


def expired(conn: Connection, after: Place | None, now: Instant, limit: int) -> tuple[list[Place], Place | None]:
    """
    Look at the next rows for those that say nothing any more.

    Args:
        after: Where the last look ended; None begins at the start.
        limit: How many to look at.

    Returns:
        What may be forgotten, and where to go on; None at the end.
    """
    columns = [quota.c[name] for name in _KEY]
    statement = sa.select(*columns, quota.c.expires_at).order_by(*columns).limit(limit)
    if after is not None:
        place = sa.tuple_(*[sa.literal(value, column.type) for value, column in zip(after, columns, strict=True)])
        statement = statement.where(sa.tuple_(*columns) > place)
    rows = conn.execute(statement).all()
    found = [Place(*row[:4]) for row in rows if row.expires_at <= now]
    return found, Place(*rows[-1][:4]) if len(rows) == limit else None


def forget(conn: Connection, places: Sequence[Place], now: Instant) -> None:
    """Remove rows that still say nothing; on PostgreSQL those that somebody has locked are left for the next time."""
    key = sa.tuple_(*[quota.c[name] for name in _KEY])
    for start in range(0, len(places), _AT_ONCE):
        same = sa.and_(key.in_(places[start : start + _AT_ONCE]), quota.c.expires_at <= now)
        if conn.dialect.name == "postgresql":
            free = sa.select(*[quota.c[name] for name in _KEY]).where(same).with_for_update(skip_locked=True)
            same = key.in_(free)
        conn.execute(sa.delete(quota).where(same))
