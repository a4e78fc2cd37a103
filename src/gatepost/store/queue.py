"""
The queue: work still to do, by shard, lane and due time.

Reading what is due takes no lock and writes nothing; only the owner of a shard reads it, and settling deletes a row under
the owner's fence. A reschedule is a delete and an insert.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store.schema import queue


class Due(NamedTuple):
    """A queue row."""

    shard: int
    lane: int
    due_at: Instant
    message_id: str
    n: int
    tenant_id: str
    pool: str
    site: str
    attempt: int
    retries: int
    expires_at: Instant


_COLUMNS = ", ".join(Due._fields)

_SHARDS = sa.text(
    "WITH RECURSIVE present(shard) AS (SELECT min(shard) FROM queue"
    " UNION ALL SELECT (SELECT min(queue.shard) FROM queue WHERE queue.shard > present.shard) FROM present WHERE present.shard IS NOT NULL)"
    " SELECT shard FROM present WHERE shard IS NOT NULL"
)


def insert(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows; the keys are the fields of `Due`."""
    if rows:
        conn.execute(sa.insert(queue), rows)


_DELETE = sa.delete(queue).where(
    queue.c.shard == sa.bindparam("b_shard"),
    queue.c.lane == sa.bindparam("b_lane"),
    queue.c.due_at == sa.bindparam("b_due_at"),
    queue.c.message_id == sa.bindparam("b_message_id"),
    queue.c.n == sa.bindparam("b_n"),
)


def delete(conn: Connection, rows: Iterable[Due]) -> None:
    """Remove rows by their whole key; rows that are gone already do not matter."""
    keys = [
        {"b_shard": row.shard, "b_lane": row.lane, "b_due_at": row.due_at, "b_message_id": row.message_id, "b_n": row.n} for row in rows
    ]
    if keys:
        conn.execute(_DELETE, keys)


def shards_with_rows(conn: Connection) -> list[int]:
    """List the shards that have any row, due or not, by one index seek each."""
    return [shard for (shard,) in conn.execute(_SHARDS)]


def due(conn: Connection, wanted: Sequence[tuple[int, int, int]], now: Instant, without_sites: Sequence[str] = ()) -> list[Due]:
    """
    Read what is due.

    Args:
        wanted: Shard, lane and how many rows at most, for each.
        without_sites: Sites to leave out, because they are paused or have their hands full.

    Returns:
        Rows by shard and lane, the longest due first.
    """
    if conn.dialect.name == "postgresql":
        return _due_lateral(conn, wanted, now, without_sites)
    return [row for one in wanted for row in _due_one(conn, *one, now, without_sites)]


def _due_one(conn: Connection, shard: int, lane: int, limit: int, now: Instant, without_sites: Sequence[str]) -> list[Due]:
    names = [f"s{i}" for i in range(len(without_sites))]
    without = f" AND site NOT IN ({', '.join(':' + name for name in names)})" if names else ""
    statement = sa.text(
        f"SELECT {_COLUMNS} FROM queue WHERE shard = :shard AND lane = :lane AND due_at <= :now{without}"  # noqa: S608 - names are ours
        " ORDER BY due_at, message_id, n LIMIT :limit"
    )
    values = {"shard": shard, "lane": lane, "now": now, "limit": limit, **dict(zip(names, without_sites, strict=True))}
    return [Due._make(row) for row in conn.execute(statement, values)]


_LATERAL = sa.text(
    f"SELECT {', '.join('q.' + name for name in Due._fields)}"  # noqa: S608 - names are ours
    " FROM unnest(CAST(:shards AS smallint[]), CAST(:lanes AS smallint[]), CAST(:limits AS integer[])) AS w(shard, lane, lim)"
    f" CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM queue WHERE shard = w.shard AND lane = w.lane AND due_at <= :now"
    " AND NOT (site = ANY(CAST(:without AS text[]))) ORDER BY due_at, message_id, n LIMIT w.lim) q"
)


def _due_lateral(conn: Connection, wanted: Sequence[tuple[int, int, int]], now: Instant, without_sites: Sequence[str]) -> list[Due]:
    if not wanted:
        return []
    shards, lanes, limits = (list(column) for column in zip(*wanted, strict=True))
    values = {"shards": shards, "lanes": lanes, "limits": limits, "now": now, "without": list(without_sites)}
    return [Due._make(row) for row in conn.execute(_LATERAL, values)]


def of_message(conn: Connection, message_id: str, *, is_locking: bool = False) -> list[Due]:
    """
    List a message's queue rows.

    Args:
        is_locking: Keep them from other writers until the transaction ends (SQLite has one writer anyway).
    """
    statement = sa.select(*[queue.c[name] for name in Due._fields]).where(queue.c.message_id == message_id).order_by(queue.c.n)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    return [Due._make(row) for row in conn.execute(statement)]


def present(conn: Connection, rows: Sequence[Due]) -> set[tuple[str, int, int]]:
    """
    Tell which rows are still there with the attempt they had, and keep them so until the transaction ends.

    Returns:
        Message, recipient number and attempt number.
    """
    found: set[tuple[str, int, int]] = set()
    for start in range(0, len(rows), 250):
        keys = [(row.message_id, row.n) for row in rows[start : start + 250]]
        statement = sa.select(queue.c.message_id, queue.c.n, queue.c.attempt).where(sa.tuple_(queue.c.message_id, queue.c.n).in_(keys))
        if conn.dialect.name == "postgresql":
            statement = statement.with_for_update()
        found |= {(message_id, n, attempt) for message_id, n, attempt in conn.execute(statement)}
    return found


def counts_by_site(conn: Connection, now: Instant) -> list[tuple[str, int, int, int, Instant]]:
    """
    Count the whole queue by site.

    Returns:
        Site, rows due, rows that wait for their time, rows tried before, and the earliest due time; fullest first.
    """
    is_due = sa.case((queue.c.due_at <= now, 1), else_=0)
    was_tried = sa.case((queue.c.attempt > 1, 1), else_=0)
    statement = (
        sa.select(
            queue.c.site, sa.func.sum(is_due), sa.func.count() - sa.func.sum(is_due), sa.func.sum(was_tried), sa.func.min(queue.c.due_at)
        )
        .group_by(queue.c.site)
        .order_by(sa.func.count().desc())
    )
    return [(site, int(ready), int(later), int(tried), int(first)) for site, ready, later, tried, first in conn.execute(statement)]


def depth(conn: Connection, now: Instant) -> tuple[int, int, Instant | None]:
    """Return the number of rows, how many are due, and the earliest due time."""
    total = conn.execute(sa.select(sa.func.count()).select_from(queue)).scalar_one()
    ready = conn.execute(sa.select(sa.func.count()).select_from(queue).where(queue.c.due_at <= now)).scalar_one()
    first = conn.execute(sa.select(sa.func.min(queue.c.due_at))).scalar_one()
    return int(total), int(ready), first
