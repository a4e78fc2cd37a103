"""
The queue by flow: one tenant's mail for one site in one lane.

Every queue row names its flow by a number, whose order is that of shards and lanes. So a flow is read from its oldest row
on, however many rows of others lie between; all flows that have something due are found by one step in an index for each
of them, however many rows they have; and what is new is read from a point in time on.
Not here: whose turn it is (dispatch).
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store.queue_row import COLUMNS, HELD_BY_HAND, Due
from gatepost.store.schema import queue

_SHARD_BIT = 56
_LANE_BIT = 54
_HASH = (1 << _LANE_BIT) - 1


class Head(NamedTuple):
    """A flow that has something due, and since when."""

    flow: int
    due_at: Instant
    pool: str
    site: str
    tenant_id: str


class Place(NamedTuple):
    """A shard and a lane, to be read from an instant on."""

    shard: int
    lane: int
    since: Instant


class Wanted(NamedTuple):
    """A flow to be read from an instant on, so many rows at most."""

    flow: int
    since: Instant
    limit: int


@lru_cache(maxsize=10_000)
@lru_cache(maxsize=10_000)
def flow_of(shard: int, lane: int, pool: str, site: str, tenant_id: str) -> int:
    """Number a flow. The same on every machine and in every release: rows in the queue rely on it."""
    digest = hashlib.blake2b(f"{pool}\0{site}\0{tenant_id}".encode(), digest_size=8).digest()
    return shard << _SHARD_BIT | lane << _LANE_BIT | int.from_bytes(digest, "big") & _HASH


def of_row(row: Due) -> int:
    """Number a row's flow."""
    return flow_of(row.shard, row.lane, row.pool, row.site, row.tenant_id)


def shard_of(flow: int) -> int:
    """Return the shard in which a flow lies."""
    return flow >> _SHARD_BIT


def lane_of(flow: int) -> int:
    """Return the lane in which a flow lies."""
    return flow >> _LANE_BIT & 3


_NAMES = ", ".join(COLUMNS)
_NAMES_OF_Q = ", ".join(f"q.{name}" for name in COLUMNS)

_SINCE_POSTGRES = sa.text(
    f"SELECT {_NAMES_OF_Q}"  # noqa: S608 - names are ours
    " FROM unnest(CAST(:shards AS smallint[]), CAST(:lanes AS smallint[]), CAST(:since AS bigint[]))"
    " WITH ORDINALITY AS w(shard, lane, since, at)"
    f" CROSS JOIN LATERAL (SELECT {_NAMES} FROM queue WHERE shard = w.shard AND lane = w.lane AND due_at >= w.since AND due_at <= :now"
    " AND NOT (flow = ANY(CAST(:known AS bigint[]))) ORDER BY due_at, message_id, n LIMIT :most) q ORDER BY w.at LIMIT :most"
)
_SINCE_SQLITE = sa.text(
    f"SELECT {_NAMES_OF_Q}"  # noqa: S608 - names are ours
    " FROM json_each(:places) AS w CROSS JOIN queue AS q"
    " WHERE q.shard = json_extract(w.value, '$[0]') AND q.lane = json_extract(w.value, '$[1]')"
    " AND q.due_at >= json_extract(w.value, '$[2]') AND q.due_at <= :now"
    " AND q.flow NOT IN (SELECT value FROM json_each(:known)) LIMIT :most"
)


def since(conn: Connection, places: Sequence[Place], now: Instant, most: int, known: Sequence[int] = ()) -> list[Due]:
    """
    Read what became due in some places.

    Args:
        known: Flows to leave out.
        most: Rows at most: with so many, the last row's place may have more, and the places after it were not read.

    Returns:
        Rows in the order of the places, the longest due first.
    """
    if not places:
        return []
    if conn.dialect.name == "postgresql":
        shards, lanes, instants = (list(column) for column in zip(*places, strict=True))
        values = {"shards": shards, "lanes": lanes, "since": instants, "now": now, "most": most, "known": list(known)}
        rows = conn.execute(_SINCE_POSTGRES, values)
    else:
        rows = conn.execute(_SINCE_SQLITE, {"places": _json(places), "now": now, "most": most, "known": _json(known)})
    return [Due._make(row) for row in rows]


def ahead(conn: Connection, row: Due, most: int) -> int:
    """Count the rows of a row's flow that are due before it, to a bound."""
    inner = sa.select(sa.literal(1)).where(queue.c.flow == of_row(row), queue.c.due_at < row.due_at).limit(most).subquery()
    return int(conn.execute(sa.select(sa.func.count()).select_from(inner)).scalar_one())


_OF_POSTGRES = sa.text(
    f"SELECT w.flow, {_NAMES_OF_Q}"  # noqa: S608 - names are ours
    " FROM unnest(CAST(:flows AS bigint[]), CAST(:since AS bigint[]), CAST(:limits AS integer[])) AS w(flow, since, lim)"
    f" CROSS JOIN LATERAL (SELECT {_NAMES} FROM queue WHERE flow = w.flow AND due_at >= w.since AND due_at <= :now"
    " ORDER BY due_at LIMIT w.lim) q"
)
_OF_SQLITE = f"SELECT {_NAMES} FROM queue WHERE flow = ? AND due_at >= ? AND due_at <= ? ORDER BY due_at LIMIT ?"  # noqa: S608


def of_flows(conn: Connection, wanted: Sequence[Wanted], now: Instant) -> dict[int, list[Due]]:
    """Read what is due of some flows, the longest due first."""
    found: dict[int, list[Due]] = {one.flow: [] for one in wanted}
    if conn.dialect.name == "postgresql":
        flows, instants, limits = (list(column) for column in zip(*wanted, strict=True)) if wanted else ([], [], [])
        for flow, *row in conn.execute(_OF_POSTGRES, {"flows": flows, "since": instants, "limits": limits, "now": now}):
            found[flow].append(Due._make(row))
    else:
        for one in wanted:
            rows = conn.exec_driver_sql(_OF_SQLITE, (one.flow, one.since, now, one.limit))
            found[one.flow] = [Due._make(row) for row in rows]
    return found


_NEXT_FLOWS = (
    " SELECT (SELECT min(queue.flow) FROM queue WHERE queue.flow >= (w.shard << 56) AND queue.flow < ((w.shard + 1) << 56)) FROM w"
    " UNION ALL SELECT (SELECT min(queue.flow) FROM queue WHERE queue.flow > f.flow AND queue.flow < (((f.flow >> 56) + 1) << 56))"
    " FROM f WHERE f.flow IS NOT NULL"
)
_HEADS_POSTGRES = sa.text(
    f"WITH RECURSIVE w(shard) AS (SELECT unnest(CAST(:shards AS bigint[]))), f(flow) AS ({_NEXT_FLOWS})"  # noqa: S608 - texts are ours
    " SELECT f.flow, q.due_at, q.pool, q.site, q.tenant_id FROM f CROSS JOIN LATERAL"
    " (SELECT due_at, pool, site, tenant_id FROM queue WHERE queue.flow = f.flow ORDER BY due_at LIMIT 1) q"
    " WHERE f.flow IS NOT NULL AND q.due_at <= :now"
)
_HEADS_SQLITE = sa.text(
    f"WITH RECURSIVE w(shard) AS (SELECT value FROM json_each(:shards)), f(flow) AS ({_NEXT_FLOWS}) SELECT f.flow,"  # noqa: S608
    " (SELECT json_array(due_at, pool, site, tenant_id) FROM queue WHERE queue.flow = f.flow ORDER BY due_at LIMIT 1)"
    " FROM f WHERE f.flow IS NOT NULL AND (SELECT min(due_at) FROM queue WHERE queue.flow = f.flow) <= :now"
)


def heads(conn: Connection, shards: Sequence[int], now: Instant) -> list[Head]:
    """List the flows of some shards that have something due, by steps in an index: it costs what there are flows, not rows."""
    if not shards:
        return []
    if conn.dialect.name == "postgresql":
        return [Head._make(row) for row in conn.execute(_HEADS_POSTGRES, {"shards": list(shards), "now": now})]
    found = conn.execute(_HEADS_SQLITE, {"shards": _json(shards), "now": now})
    return [Head(flow, *msgspec.json.decode(head)) for flow, head in found]


_DAY = 86_400_000
_EXPIRED_POSTGRES = sa.text(
    f"SELECT {_NAMES_OF_Q} FROM unnest(CAST(:shards AS smallint[])) AS w(shard)"  # noqa: S608 - names are ours
    f" CROSS JOIN LATERAL (SELECT {_NAMES} FROM queue WHERE shard = w.shard AND expires_at <= :now"
    f" AND expires_at < due_at + {_DAY} AND due_at < {HELD_BY_HAND} AND due_at <= :now LIMIT :most) q LIMIT :most"
)
_EXPIRED_SQLITE = sa.text(
    f"SELECT {_NAMES_OF_Q} FROM json_each(:shards) AS w CROSS JOIN queue AS q INDEXED BY ix_queue_shard_expires_at"  # noqa: S608 - names are ours
    f" WHERE q.shard = w.value AND q.expires_at <= :now AND q.expires_at < q.due_at + {_DAY} AND q.due_at < {HELD_BY_HAND}"
    " AND q.due_at <= :now LIMIT :most"
)
_OLD_POSTGRES = sa.text(
    f"SELECT {_NAMES_OF_Q} FROM unnest(CAST(:shards AS smallint[])) AS w(shard) CROSS JOIN generate_series(0, 2) AS l(lane)"  # noqa: S608
    f" CROSS JOIN LATERAL (SELECT {_NAMES} FROM queue WHERE shard = w.shard AND lane = l.lane AND due_at <= :old AND expires_at <= :now"
    " LIMIT :most) q LIMIT :most"
)
_OLD_SQLITE = sa.text(
    f"SELECT {_NAMES_OF_Q} FROM json_each(:shards) AS w CROSS JOIN json_each('[0,1,2]') AS l CROSS JOIN queue AS q"  # noqa: S608
    " WHERE q.shard = w.value AND q.lane = l.value AND q.due_at <= :old AND q.expires_at <= :now LIMIT :most"
)


def expired(conn: Connection, shards: Sequence[int], now: Instant, most: int) -> list[Due]:
    """
    Read rows whose end has come while they wait for something else than their time; held ones do not end.

    Those that waited more than a day are read by `expired_late`: an index of the others alone is small.
    """
    return _expired(conn, _EXPIRED_POSTGRES, _EXPIRED_SQLITE, shards, {"now": now, "most": most})


def expired_late(conn: Connection, shards: Sequence[int], now: Instant, most: int) -> list[Due]:
    """Read rows whose end has come and that have been due for a day or longer."""
    return _expired(conn, _OLD_POSTGRES, _OLD_SQLITE, shards, {"now": now, "old": now - _DAY, "most": most})


def _expired(
    conn: Connection, postgres: sa.TextClause, sqlite: sa.TextClause, shards: Sequence[int], values: Mapping[str, Any]
) -> list[Due]:  # fmt: skip
    is_postgres = conn.dialect.name == "postgresql"
    found = conn.execute(postgres if is_postgres else sqlite, {**values, "shards": list(shards) if is_postgres else _json(shards)})
    return [Due._make(row) for row in found]


def _json(value: object) -> str:
    """Write values for one parameter: a statement has no place for thousands."""
    return msgspec.json.encode(value).decode()
