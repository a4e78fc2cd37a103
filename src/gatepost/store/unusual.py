"""Unusual changes: opened once, seen again and again, closed once. Of one place and metric at most one is open."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.domain.unusual import UnusualChange
from gatepost.store.schema import unusual_change

_REPORT: Final = ("expected", "seen", "part", "whole", "detail", "advice")
_PLAIN: Final = ("id", "tenant_id", "metric", "scope", "name", "span", "opened_at", "seen_at", "closed_at")


def open_change(conn: Connection, found: UnusualChange) -> bool:
    """Write a new change down; return False when there is an open one of its place and metric."""
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    values = {name: getattr(found, name) for name in _PLAIN} | {"report": _report(found)}
    return bool(conn.execute(insert(unusual_change).values(**values).on_conflict_do_nothing()).rowcount)


def see(conn: Connection, changed: UnusualChange) -> None:
    """Note that an open change was seen again, and its worst numbers."""
    same = sa.and_(unusual_change.c.id == changed.id, unusual_change.c.closed_at.is_(None))
    conn.execute(sa.update(unusual_change).where(same).values(seen_at=changed.seen_at, report=_report(changed)))


def close_change(conn: Connection, change_id: str, now: Instant) -> bool:
    """Note that a change is over; return False when that was noted before."""
    same = sa.and_(unusual_change.c.id == change_id, unusual_change.c.closed_at.is_(None))
    return bool(conn.execute(sa.update(unusual_change).where(same).values(closed_at=now)).rowcount)


def still_open(conn: Connection, tenant_id: str | None = None) -> list[UnusualChange]:
    """
    List what lasts, the oldest first.

    Args:
        tenant_id: Whose; None is everybody's.
    """
    statement = sa.select(unusual_change).where(unusual_change.c.closed_at.is_(None)).order_by(unusual_change.c.id)
    if tenant_id is not None:
        statement = statement.where(unusual_change.c.tenant_id == tenant_id)
    return [_read(row) for row in conn.execute(statement).mappings()]


def page(
    conn: Connection, tenant_id: str, limit: int, *, after: str | None = None, before: str | None = None, is_open: bool | None = None,
    scopes: Sequence[tuple[str, Collection[str]]] | None = None,
) -> list[UnusualChange]:  # fmt: skip
    """
    List a tenant's changes, the newest first.

    Args:
        is_open: Only those that last, or only those that are over; None is all.
        scopes: Only those of these kinds of places, with their names; None is all.
    """
    columns = unusual_change.c
    statement = sa.select(unusual_change).where(columns.tenant_id == tenant_id)
    if scopes is not None:
        seen = (sa.and_(columns.scope == scope, columns.name.in_(sorted(names))) for scope, names in scopes)
        statement = statement.where(sa.or_(sa.false(), *seen))
    if is_open is not None:
        statement = statement.where(columns.closed_at.is_(None) if is_open else columns.closed_at.is_not(None))
    if before is not None:
        rows = conn.execute(statement.where(columns.id > before).order_by(columns.id).limit(limit)).mappings().all()
        return [_read(row) for row in reversed(rows)]
    if after is not None:
        statement = statement.where(columns.id < after)
    return [_read(row) for row in conn.execute(statement.order_by(columns.id.desc()).limit(limit)).mappings()]


def within(conn: Connection, tenant_id: str, start: Instant, end: Instant) -> list[UnusualChange]:
    """List a tenant's changes that lasted at some time of a span, the oldest first."""
    columns = unusual_change.c
    lasted = sa.and_(columns.opened_at < end, sa.or_(columns.closed_at.is_(None), columns.closed_at >= start))
    statement = sa.select(unusual_change).where(columns.tenant_id == tenant_id, lasted).order_by(columns.id)
    return [_read(row) for row in conn.execute(statement).mappings()]


def purge(conn: Connection, before: Instant) -> None:
    """Forget what was over before an instant."""
    conn.execute(sa.delete(unusual_change).where(unusual_change.c.closed_at < before))


def _report(one: UnusualChange) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _REPORT}


def _read(row: Any) -> UnusualChange:
    return UnusualChange(**{name: row[name] for name in _PLAIN}, **row["report"])
