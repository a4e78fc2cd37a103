"""Facts of deliveries: attempts, events and captured mail. Inserted once, never changed."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.domain.event import Event
from gatepost.store.schema import attempt, capture, event


def insert_attempts(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """
    Record attempts.

    Raises:
        sqlalchemy.exc.IntegrityError: One of them is recorded already.
    """
    if rows:
        conn.execute(sa.insert(attempt), rows)


def insert_events(conn: Connection, events: Sequence[Event]) -> None:
    """Record events."""
    if events:
        rows = [
            {
                "id": one.id,
                "tenant_id": one.tenant_id,
                "type": one.type.value,
                "at": one.at,
                "message_id": one.message_id,
                "n": one.n,
                "data": one.data,
            }
            for one in events
        ]
        conn.execute(sa.insert(event), rows)


def insert_captures(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keep mail that the sandbox took."""
    if rows:
        conn.execute(sa.insert(capture), rows)


def recorded_attempts(conn: Connection, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Tell which attempts (message, recipient number, attempt number) are recorded."""
    columns = attempt.c
    statement = sa.select(columns.message_id, columns.n, columns.number).where(
        sa.tuple_(columns.message_id, columns.n, columns.number).in_(keys)
    )
    return {(message_id, n, number) for message_id, n, number in conn.execute(statement)}


def attempts_of(conn: Connection, message_id: str, n: int | None = None) -> list[Row[Any]]:
    """List a message's attempts in order of time."""
    statement = sa.select(attempt).where(attempt.c.message_id == message_id)
    if n is not None:
        statement = statement.where(attempt.c.n == n)
    return list(conn.execute(statement.order_by(attempt.c.started_at, attempt.c.n, attempt.c.number)).all())


def events_of(conn: Connection, message_id: str) -> list[Row[Any]]:
    """List a message's events in order of time."""
    return list(conn.execute(sa.select(event).where(event.c.message_id == message_id).order_by(event.c.id)).all())


def captured(conn: Connection, message_id: str, n: int | None = None) -> Row[Any] | None:
    """Return the captured bytes of a message (of one recipient, or of the first that has any)."""
    statement = sa.select(capture).where(capture.c.message_id == message_id)
    if n is not None:
        statement = statement.where(capture.c.n == n)
    return conn.execute(statement.order_by(capture.c.n).limit(1)).one_or_none()
