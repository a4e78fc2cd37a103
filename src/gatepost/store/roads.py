"""
What is known of roads: breaker, health, and what people switched off. Read by doors, explain and pages once a second or less.

A relay has one row, written by the process that owns its site; the road to MX hosts has one for each of its sources on each
machine, since a network that is down is one machine's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store import bulk
from gatepost.store.schema import road_override, road_state

FRESH_MS = 120_000
"""What a machine wrote longer ago counts no more, where another machine knows better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadRow:
    """
    One row.

    Attributes:
        source: Empty for a relay, as `machine` is.
        state: `closed`, `open` or `half_open`.
        reason: Why it is not closed: a category, and more words.
        retry_at: When a message or a probe tries it again.
        counts: Of the last window: attempts, failures, deferrals, complaints, latency_ms.
    """

    road: str
    source: str = ""
    machine: str = ""
    state: str
    since: Instant
    reason: str
    retry_at: Instant | None
    openings: int
    score: int
    counts: dict[str, int]
    updated_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Disabled:
    """A road that a person switched off."""

    road: str
    disabled_at: Instant
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadView:
    """
    One road, summed up for people and doors.

    Attributes:
        state: `disabled` when a person switched it off; else `open`, `half_open` or `closed`. A road to MX hosts is open when
            all of its sources are, everywhere.
        since: Since when; None where nothing was ever seen of it.
        reason: A category or what the person said; empty for a closed one.
        retry_at: When an open one is tried again.
        score: 0 to 100; of several sources the best one's.
    """

    road: str
    state: str
    since: Instant | None = None
    reason: str = ""
    retry_at: Instant | None = None
    score: int = 100
    rows: Sequence[RoadRow] = field(default_factory=tuple)

    def is_shut(self, now: Instant) -> bool:
        """Tell whether it takes nothing now."""
        return self.state == "disabled" or (self.state == "open" and (self.retry_at is None or now < self.retry_at))


def rows(conn: Connection) -> list[RoadRow]:
    """Return every row."""
    found = conn.execute(sa.select(road_state).order_by(road_state.c.road, road_state.c.source, road_state.c.machine))
    return [RoadRow(**row._mapping) for row in found]  # noqa: SLF001 - its public name in SQLAlchemy


def disabled(conn: Connection) -> dict[str, Disabled]:
    """Return what people switched off, by road."""
    return {row.road: Disabled(road=row.road, disabled_at=row.disabled_at, note=row.note) for row in conn.execute(sa.select(road_override))}


def views(conn: Connection, now: Instant) -> dict[str, RoadView]:
    """Return what is known of every road of which anything is known."""
    off = disabled(conn)
    by_road: dict[str, list[RoadRow]] = {road: [] for road in off}
    for row in rows(conn):
        by_road.setdefault(row.road, []).append(row)
    return {road: _view(road, found, off.get(road), now) for road, found in by_road.items()}


def view(conn: Connection, road: str, now: Instant) -> RoadView:
    """Return what is known of one road; a closed one where nothing is."""
    return views(conn, now).get(road) or RoadView(road=road, state="closed")


_WORST_FIRST = {"closed": 0, "half_open": 1, "open": 2}


def _view(road: str, found: Sequence[RoadRow], off: Disabled | None, now: Instant) -> RoadView:
    fresh = [row for row in found if row.updated_at > now - FRESH_MS or (row.state == "open" and (row.retry_at or 0) > now)] or list(found)
    best = min(fresh, key=lambda row: (_WORST_FIRST[row.state], row.retry_at or 0, -row.score), default=None)
    if off is not None:
        return RoadView(
            road=road,
            state="disabled",
            since=off.disabled_at,
            reason=off.note,
            score=100 if best is None else best.score,
            rows=tuple(found),
        )
    if best is None:
        return RoadView(road=road, state="closed")
    return RoadView(
        road=road,
        state=best.state,
        since=best.since or None,
        reason=best.reason,
        retry_at=best.retry_at,
        score=best.score,
        rows=tuple(found),
    )


def write(conn: Connection, states: Sequence[dict[str, Any]]) -> None:
    """
    Write rows down.

    Args:
        states: By the table's columns.
    """
    bulk.execute(conn, _written(conn.dialect.name), sorted(states, key=lambda one: (one["road"], one["source"], one["machine"])))


@cache
def _written(dialect: str) -> Any:
    statement: Any = postgresql.insert(road_state) if dialect == "postgresql" else sqlite.insert(road_state)
    key = ("road", "source", "machine")
    new = {column.name: statement.excluded[column.name] for column in road_state.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=new)


def disable(conn: Connection, road: str, now: Instant, note: str) -> bool:
    """Switch a road off; return whether it was on."""
    if conn.execute(sa.update(road_override).where(road_override.c.road == road).values(note=note)).rowcount:
        return False
    conn.execute(sa.insert(road_override), [{"road": road, "disabled_at": now, "note": note}])
    return True


def enable(conn: Connection, road: str) -> bool:
    """Switch a road on again; return whether it was off."""
    return bool(conn.execute(sa.delete(road_override).where(road_override.c.road == road)).rowcount)


def close_breaker(conn: Connection, road: str, now: Instant) -> None:
    """Let a road be tried at once, whatever its breaker says: a person knows better."""
    is_shut = sa.and_(road_state.c.road == road, road_state.c.state == "open")
    conn.execute(sa.update(road_state).where(is_shut).values(state="half_open", since=now, retry_at=None, updated_at=now))
