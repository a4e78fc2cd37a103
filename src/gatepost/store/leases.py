"""
Leases: which dispatch process owns which shard, and the fence that keeps a late one from writing.

An epoch counts up whenever a shard changes hands. Settling checks owner and epoch in its own transaction.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store.listed import as_parameter
from gatepost.store.schema import node, shard_lease


def heartbeat(conn: Connection, node_id: str, host: str, pid: int, now: Instant) -> None:
    """Say that a dispatch process lives."""
    if not conn.execute(sa.update(node).where(node.c.id == node_id).values(heartbeat_at=now)).rowcount:
        conn.execute(
            sa.insert(node), [{"id": node_id, "host": host, "pid": pid, "roles": "dispatch", "started_at": now, "heartbeat_at": now}]
        )


def live_nodes(conn: Connection, since: Instant) -> list[str]:
    """List the processes heard of since an instant; forget the others."""
    conn.execute(sa.delete(node).where(node.c.heartbeat_at < since))
    return [node_id for (node_id,) in conn.execute(sa.select(node.c.id).order_by(node.c.id))]


def renew(conn: Connection, owner: str, expires_at: Instant) -> dict[int, int]:
    """Extend all leases of an owner; return epoch by shard."""
    conn.execute(sa.update(shard_lease).where(shard_lease.c.owner == owner).values(expires_at=expires_at))
    return owned(conn, owner)


def owned(conn: Connection, owner: str) -> dict[int, int]:
    """Return epoch by shard of an owner's leases."""
    rows = conn.execute(sa.select(shard_lease.c.shard, shard_lease.c.epoch).where(shard_lease.c.owner == owner))
    return {row.shard: row.epoch for row in rows}


def take(conn: Connection, owner: str, shards: Sequence[int], now: Instant, expires_at: Instant) -> int:
    """Take those of the shards that are free or whose lease ended; return how many ended ones were taken over."""
    lease = shard_lease.c
    is_free = sa.or_(lease.owner.is_(None), lease.expires_at <= now)
    taken_over = conn.execute(
        sa.select(sa.func.count())
        .select_from(shard_lease)
        .where(lease.shard.in_(shards), lease.owner.is_not(None), lease.expires_at <= now)
    ).scalar_one()
    conn.execute(
        sa.update(shard_lease).where(lease.shard.in_(shards), is_free).values(owner=owner, epoch=lease.epoch + 1, expires_at=expires_at)
    )
    return int(taken_over)


def release(conn: Connection, owner: str, shards: Sequence[int] | None = None) -> None:
    """Give leases back: some, or all together with the owner's node row."""
    condition: sa.ColumnElement[bool] = shard_lease.c.owner == owner
    if shards is not None:
        condition = sa.and_(condition, shard_lease.c.shard.in_(shards))
    else:
        conn.execute(sa.delete(node).where(node.c.id == owner))
    conn.execute(sa.update(shard_lease).where(condition).values(owner=None, expires_at=0))


def release_all(conn: Connection) -> None:
    """Give every lease back: only where no dispatch process can be alive."""
    conn.execute(sa.delete(node))
    conn.execute(sa.update(shard_lease).where(shard_lease.c.owner.is_not(None)).values(owner=None, expires_at=0))


def fenced(conn: Connection, owner: str, shards: Sequence[int]) -> dict[int, int]:
    """
    Return the epochs of the shards that the owner still holds, and keep them so until the transaction ends.

    A shard that is missing, or has another epoch than the caller remembers, was taken by somebody else.
    """
    dialect = conn.dialect.name
    found = conn.execute(_FENCED[dialect], {"owner": owner, "shards": as_parameter(shards, dialect)})
    return {shard: epoch for shard, epoch in found.all()}  # noqa: C416 - they are rows


_FENCED = {
    "sqlite": sa.text(
        "SELECT shard, epoch FROM shard_lease WHERE owner = :owner AND shard IN (SELECT value FROM json_each(:shards))"
    ),
    "postgresql": sa.text(
        "SELECT shard, epoch FROM shard_lease WHERE owner = :owner AND shard = ANY(CAST(:shards AS smallint[])) FOR SHARE"
    ),
}  # fmt: skip
"""Each group of results asks: made once."""


def is_any_valid(conn: Connection, now: Instant) -> bool:
    """Tell whether any dispatch process holds a valid lease."""
    return conn.execute(sa.select(shard_lease.c.shard).where(shard_lease.c.expires_at > now).limit(1)).first() is not None
