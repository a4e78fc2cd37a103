"""Streams that tenants made, and what they changed of the default ones."""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.engagement import read_tracking, tracking_as_dict
from gatepost.domain.message import Lane
from gatepost.domain.stream import Stream, read_window, window_as_dict
from gatepost.store import tenants
from gatepost.store.schema import message, queue, stream


def every(conn: Connection) -> dict[str, dict[str, Stream]]:
    """Return the streams by tenant and name; default ones only where they were changed."""
    found: dict[str, dict[str, Stream]] = defaultdict(dict)
    for row in conn.execute(sa.select(stream).order_by(stream.c.tenant_id, stream.c.name)):
        found[row.tenant_id][row.name] = _read(row)
    return dict(found)


def of_tenant(conn: Connection, tenant_id: str) -> dict[str, Stream]:
    """Return a tenant's streams by name, as `every` does."""
    rows = conn.execute(sa.select(stream).where(stream.c.tenant_id == tenant_id).order_by(stream.c.name))
    return {row.name: _read(row) for row in rows}


def write(conn: Connection, tenant_id: str, made: Stream, now: Instant) -> None:
    """Make a stream, or change it."""
    values = {
        "lane": int(made.lane), "ttl_s": made.ttl_s, "retry": made.retry, "route": made.route,
        "window": window_as_dict(made.window) if made.window else None, "tracking": tracking_as_dict(made.tracking) or None,
        "changed_at": now,
    }  # fmt: skip
    here = sa.and_(stream.c.tenant_id == tenant_id, stream.c.name == made.name)
    if not conn.execute(sa.update(stream).where(here).values(**values)).rowcount:
        conn.execute(sa.insert(stream), [{"tenant_id": tenant_id, "name": made.name, "created_at": now, **values}])
    tenants.bump_version(conn)


def delete(conn: Connection, tenant_id: str, name: str) -> bool:
    """Remove a stream; return whether it was there."""
    removed = conn.execute(sa.delete(stream).where(stream.c.tenant_id == tenant_id, stream.c.name == name)).rowcount
    tenants.bump_version(conn)
    return bool(removed)


def is_used(conn: Connection, tenant_id: str, name: str) -> bool:
    """Tell whether mail of a stream still waits."""
    waits = sa.select(sa.literal(1)).select_from(queue).where(queue.c.message_id == message.c.id)
    statement = sa.select(message.c.id).where(message.c.tenant_id == tenant_id, message.c.stream == name, waits.exists()).limit(1)
    return conn.execute(statement).first() is not None


def _read(row: Any) -> Stream:
    window = read_window(row.window) if row.window else None
    return Stream(
        name=row.name, lane=Lane(row.lane), ttl_s=row.ttl_s, retry=row.retry, route=row.route, window=window,
        tracking=read_tracking(row.tracking),
    )  # fmt: skip
