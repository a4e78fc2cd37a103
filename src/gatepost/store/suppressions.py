"""Suppressions: addresses that a tenant's mail must not go to."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.store.schema import suppression

EVERY_STREAM = ""


def matching(conn: Connection, wanted: Sequence[tuple[str, str]], now: Instant) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """
    Find which addresses are suppressed.

    Args:
        wanted: Tenant and address key, see `Address.key`.

    Returns:
        For each suppressed one the streams (empty for every stream) with the reason.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    columns = suppression.c
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        is_valid = sa.or_(columns.expires_at.is_(None), columns.expires_at > now)
        statement = sa.select(columns.tenant_id, columns.address, columns.stream, columns.reason).where(
            sa.tuple_(columns.tenant_id, columns.address).in_(chunk), is_valid
        )
        for tenant_id, address, stream, reason in conn.execute(statement):
            found.setdefault((tenant_id, address), []).append((stream, reason))
    return found


def put(conn: Connection, row: dict[str, Any]) -> bool:
    """Add or renew a suppression; return whether it is new."""
    columns = suppression.c
    same = sa.and_(columns.tenant_id == row["tenant_id"], columns.address == row["address"], columns.stream == row["stream"])
    changes = {name: row[name] for name in ("reason", "note", "expires_at")}
    if conn.execute(sa.update(suppression).where(same).values(**changes)).rowcount:
        return False
    conn.execute(sa.insert(suppression), [row])
    return True


def get(conn: Connection, tenant_id: str, address: str, stream: str = EVERY_STREAM) -> Row[Any] | None:
    """Return one suppression."""
    columns = suppression.c
    return conn.execute(
        sa.select(suppression).where(columns.tenant_id == tenant_id, columns.address == address, columns.stream == stream)
    ).one_or_none()


def remove(conn: Connection, tenant_id: str, address: str, stream: str | None = None) -> int:
    """
    Lift suppressions of an address; return how many.

    Args:
        stream: Only this stream's; None lifts all.
    """
    condition = sa.and_(suppression.c.tenant_id == tenant_id, suppression.c.address == address)
    if stream is not None:
        condition = sa.and_(condition, suppression.c.stream == stream)
    return conn.execute(sa.delete(suppression).where(condition)).rowcount


def page(conn: Connection, tenant_id: str, limit: int, after: str | None = None, before: str | None = None) -> list[Row[Any]]:
    """
    List suppressions, the newest first.

    Args:
        after: Only those older than this id.
        before: Only those newer than this id; the ones next to it.
    """
    statement = sa.select(suppression).where(suppression.c.tenant_id == tenant_id)
    if before is not None:
        rows = conn.execute(statement.where(suppression.c.id > before).order_by(suppression.c.id).limit(limit)).all()
        return list(reversed(rows))
    if after is not None:
        statement = statement.where(suppression.c.id < after)
    return list(conn.execute(statement.order_by(suppression.c.id.desc()).limit(limit)).all())
