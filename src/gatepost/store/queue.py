"""
The queue: work still to do, by shard, lane and due time.

Reading what is due takes no lock and writes nothing; only the owner of a shard reads it, and settling deletes a row under
the owner's fence. A reschedule is a delete and an insert. A suspended tenant's rows are put aside: a constant is added to
their due time, so that they lie behind all others and cost a look at the queue nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store import bulk, flows
from gatepost.store.queue_row import HELD, HELD_BY_HAND, Due
from gatepost.store.schema import message, queue

__all__ = ["HELD", "HELD_BY_HAND", "Due"]

_COLUMNS = ", ".join(Due._fields)

_SHARDS = sa.text(
    "WITH RECURSIVE present(shard) AS (SELECT min(shard) FROM queue"
    " UNION ALL SELECT (SELECT min(queue.shard) FROM queue WHERE queue.shard > present.shard) FROM present WHERE present.shard IS NOT NULL)"
    " SELECT shard FROM present WHERE shard IS NOT NULL"
)


def insert(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows; the keys are the fields of `Due`."""
    bulk.insert(conn, queue, [_with_flow(row) for row in rows])


def _with_flow(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "flow": flows.flow_of(row["shard"], row["lane"], row["pool"], row["site"], row["tenant_id"])}


_SAME = sa.and_(
    queue.c.shard == sa.bindparam("b_shard"),
    queue.c.lane == sa.bindparam("b_lane"),
    queue.c.due_at == sa.bindparam("b_due_at"),
    queue.c.message_id == sa.bindparam("b_message_id"),
    queue.c.n == sa.bindparam("b_n"),
)
_DELETE = sa.delete(queue).where(_SAME)
_MOVE = sa.update(queue).where(_SAME).values(due_at=sa.bindparam("b_new_due_at"), expires_at=sa.bindparam("b_expires_at"))


def _key(row: Due) -> dict[str, Any]:
    return {"b_shard": row.shard, "b_lane": row.lane, "b_due_at": row.due_at, "b_message_id": row.message_id, "b_n": row.n}


def delete(conn: Connection, rows: Iterable[Due]) -> None:
    """Remove rows by their whole key; rows that are gone already do not matter."""
    bulk.execute(conn, _DELETE, [_key(row) for row in rows])


def shards_with_rows(conn: Connection) -> list[int]:
    """List the shards that have any row, due or not, by one index seek each."""
    return [shard for (shard,) in conn.execute(_SHARDS)]


def due(
    conn: Connection,
    wanted: Sequence[tuple[int, int, int]],
    now: Instant,
    without_sites: Sequence[str] = (),
    without_tenants: Sequence[str] = (),
) -> list[Due]:
    """
    Read what is due.

    Args:
        wanted: Shard, lane and how many rows at most, for each.
        without_sites: Sites to leave out, because they are paused or have their hands full.
        without_tenants: Tenants to leave out, whose rows are about to be put aside.

    Returns:
        Rows by shard and lane, the longest due first.
    """
    return _read(conn, wanted, (0, now), without_sites, without_tenants)


def due_of(conn: Connection, wanted: Sequence[tuple[int, int, int]], now: Instant, tenant_ids: Sequence[str]) -> list[Due]:
    """Read what is due of some tenants only; arguments as in `due`."""
    return _read(conn, wanted, (0, now), (), tenant_ids, is_only=True)


def held(conn: Connection, wanted: Sequence[tuple[int, int, int]], without_tenants: Sequence[str]) -> list[Due]:
    """Read what was put aside, other than some tenants'; arguments as in `due`."""
    return _read(conn, wanted, (HELD, 2 * HELD), (), without_tenants)


def put_aside(conn: Connection, rows: Sequence[Due]) -> None:
    """Hold rows; ones that are gone or moved already do not matter."""
    move(conn, [(row, row.due_at + HELD, row.expires_at) for row in rows])


def put_back(conn: Connection, rows: Sequence[tuple[Due, Instant]]) -> None:
    """
    Let held rows go on.

    Args:
        rows: Each with its new end of life.
    """
    move(conn, [(row, row.planned_at, expires_at) for row, expires_at in rows])


def move(conn: Connection, moves: Sequence[tuple[Due, Instant, Instant]]) -> None:
    """Give rows another due time and another end; ones that are gone or moved already do not matter."""
    values = [{**_key(row), "b_new_due_at": due_at, "b_expires_at": expires_at} for row, due_at, expires_at in moves]
    if values:
        conn.execute(_MOVE, values)


def _json(texts: Sequence[str]) -> str:
    """Write texts for one parameter: a statement has no place for thousands."""
    return msgspec.json.encode(texts).decode()


def _at_places(*, is_only: bool) -> sa.TextClause:
    """Make PostgreSQL's statement, which reads all places at once."""
    return sa.text(
        f"SELECT {', '.join('q.' + name for name in Due._fields)}"  # noqa: S608 - names are ours
        " FROM unnest(CAST(:shards AS smallint[]), CAST(:lanes AS smallint[]), CAST(:limits AS integer[])) AS w(shard, lane, lim)"
        f" CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM queue WHERE shard = w.shard AND lane = w.lane AND due_at >= :first"
        " AND due_at <= :last AND NOT (site = ANY(CAST(:sites AS text[])))"
        f" AND {'' if is_only else 'NOT '}(tenant_id = ANY(CAST(:tenants AS text[]))) ORDER BY due_at, message_id, n LIMIT w.lim) q"
    )


def _at_place(*, is_only: bool) -> sa.TextClause:
    """Make SQLite's statement, which reads one place."""
    return sa.text(
        f"SELECT {_COLUMNS} FROM queue WHERE shard = :shard AND lane = :lane AND due_at >= :first AND due_at <= :last"  # noqa: S608 - names are ours
        " AND site NOT IN (SELECT value FROM json_each(:sites))"
        f" AND tenant_id {'' if is_only else 'NOT '}IN (SELECT value FROM json_each(:tenants)) ORDER BY due_at, message_id, n LIMIT :limit"
    )


_AT_PLACES = {is_only: _at_places(is_only=is_only) for is_only in (False, True)}
_AT_PLACE = {is_only: _at_place(is_only=is_only) for is_only in (False, True)}


def _read(
    conn: Connection,
    wanted: Sequence[tuple[int, int, int]],
    span: tuple[Instant, Instant],
    without_sites: Sequence[str],
    tenants: Sequence[str],
    *,
    is_only: bool = False,
) -> list[Due]:
    """
    Read rows of places whose due time is in a span.

    Args:
        tenants: Those to leave out, or with `is_only` those to read.
    """
    if conn.dialect.name == "postgresql":
        shards, lanes, limits = (list(column) for column in zip(*wanted, strict=True)) if wanted else ([], [], [])
        all_places = {"shards": shards, "lanes": lanes, "limits": limits}
        values = {"first": span[0], "last": span[1], "sites": list(without_sites), "tenants": list(tenants)}
        return [Due._make(row) for row in conn.execute(_AT_PLACES[is_only], all_places | values)]
    values = {"first": span[0], "last": span[1], "sites": _json(without_sites), "tenants": _json(tenants)}
    places = [{"shard": shard, "lane": lane, "limit": limit} for shard, lane, limit in wanted]
    return [Due._make(row) for place in places for row in conn.execute(_AT_PLACE[is_only], place | values)]


def lasting(conn: Connection, message_ids: Sequence[str], lifetime_ms: int) -> set[str]:
    """Tell which messages live as long as the gateway lets them: their senders chose no end."""
    columns = message.c
    found: set[str] = set()
    for start in range(0, len(message_ids), 500):
        lifetime = columns.expires_at - sa.func.coalesce(columns.scheduled_at, columns.created_at)
        statement = sa.select(columns.id).where(columns.id.in_(message_ids[start : start + 500]), lifetime >= lifetime_ms)
        found.update(conn.execute(statement).scalars())
    return found


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
    if conn.dialect.name == "postgresql":
        values: dict[str, Any] = {"messages": [row.message_id for row in rows], "numbers": [row.n for row in rows]}
        found = conn.execute(_PRESENT_ON_POSTGRES, values)
    else:
        found = conn.execute(_PRESENT_ON_SQLITE, {"keys": msgspec.json.encode([(row.message_id, row.n) for row in rows]).decode()})
    return {(row[0], row[1], row[2]) for row in found.all()}


_PRESENT_ON_SQLITE = sa.text(
    "SELECT q.message_id, q.n, q.attempt FROM json_each(:keys) w CROSS JOIN queue q ON q.message_id = w.value ->> 0 AND q.n = w.value ->> 1"
)
_PRESENT_ON_POSTGRES = sa.text(
    "SELECT q.message_id, q.n, q.attempt FROM unnest(CAST(:messages AS text[]), CAST(:numbers AS integer[])) AS w(message_id, n)"
    " JOIN queue q ON q.message_id = w.message_id AND q.n = w.n FOR UPDATE OF q"
)
"""Their texts are the same for any number of rows."""


def held_by_tenant(conn: Connection) -> dict[str, int]:
    """Count what was put aside."""
    statement = sa.select(queue.c.tenant_id, sa.func.count()).where(queue.c.due_at >= HELD).group_by(queue.c.tenant_id)
    return {tenant_id: int(count) for tenant_id, count in conn.execute(statement)}


def counts_by_site(conn: Connection, now: Instant, tenant_id: str | None = None) -> list[tuple[str, int, int, int, Instant]]:
    """
    Count the queue by site: all of it, or one tenant's.

    Returns:
        Site, rows due, rows that wait for their time, rows tried before, and the earliest due time; fullest first. Rows
        that were put aside wait; where nothing else does, the earliest time is beyond `HELD`.
    """
    is_due = sa.case((queue.c.due_at <= now, 1), else_=0)
    was_tried = sa.case((queue.c.attempt > 1, 1), else_=0)
    statement = (
        sa.select(
            queue.c.site, sa.func.sum(is_due), sa.func.count() - sa.func.sum(is_due), sa.func.sum(was_tried), sa.func.min(queue.c.due_at)
        )
        .where(*_of(tenant_id))
        .group_by(queue.c.site)
        .order_by(sa.func.count().desc())
    )
    return [(site, int(ready), int(later), int(tried), int(first)) for site, ready, later, tried, first in conn.execute(statement)]


def depth(conn: Connection, now: Instant, tenant_id: str | None = None) -> tuple[int, int, Instant | None]:
    """Return the number of rows (of one tenant, or of all), how many are due, and the earliest due time."""
    total = conn.execute(sa.select(sa.func.count()).select_from(queue).where(*_of(tenant_id))).scalar_one()
    ready = conn.execute(sa.select(sa.func.count()).select_from(queue).where(queue.c.due_at <= now, *_of(tenant_id))).scalar_one()
    first = conn.execute(sa.select(sa.func.min(queue.c.due_at)).where(*_of(tenant_id))).scalar_one()
    return int(total), int(ready), first


def _of(tenant_id: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if tenant_id is None else [queue.c.tenant_id == tenant_id]
