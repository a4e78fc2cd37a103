"""
Facts of deliveries: attempts, events and captured mail. Inserted once, never changed.

What the other side said, transcripts, events' data and captured mail are sealed under the key of the day in their key.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.domain.event import Event, EventType
from gatepost.observe import maillog
from gatepost.store import bulk, feed, sealing
from gatepost.store.errors import SealBroken
from gatepost.store.keyring import Keyring
from gatepost.store.schema import attempt, capture, event, message
from gatepost.store.sealing import UNREADABLE, day_of_id

_SEALED: Final = ("detail", "reply", "transcript")
"""What is sealed in an attempt's row, in this order."""
_PLAIN = tuple(column.name for column in attempt.c if column.name != "sealed")
_SHOWN = (*_PLAIN, *_SEALED)
_EVENT = tuple(column.name for column in event.c if column.name != "data")

_private: Final = itemgetter(*_SEALED)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def insert_attempts(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """
    Record attempts.

    Args:
        rows: By the table's columns, with `tenant_id`, and `detail`, `reply` and `transcript` in the clear.

    Raises:
        sqlalchemy.exc.IntegrityError: One of them is recorded already.
    """
    if rows:
        ring = sealing.keyring_of(conn)
        ring.prepare(conn, {(row["tenant_id"], day_of_id(row["message_id"])) for row in rows})
        bulk.insert(conn, attempt, [_sealed_attempt(conn, ring, row) for row in rows])


def _sealed_attempt(conn: Connection, ring: Keyring, row: dict[str, Any]) -> dict[str, Any]:
    private, place = _encode(_private(row)), _place(row["message_id"], row["n"], row["number"])
    return {**row, "sealed": ring.seal(conn, private, row["tenant_id"], place, day_of_id(row["message_id"]))}


def _place(message_id: str, n: int, number: int) -> str:
    return f"attempt/{message_id}/{n}/{number}"


def insert_events(conn: Connection, events: Sequence[Event]) -> None:
    """Record events."""
    if events:
        ring = sealing.keyring_of(conn)
        ring.prepare(conn, {(one.tenant_id, day_of_id(one.id)) for one in events})
        rows = [
            {
                "id": one.id,
                "tenant_id": one.tenant_id,
                "type": one.type.value,
                "at": one.at,
                "message_id": one.message_id,
                "n": one.n,
                "data": ring.seal(conn, _encode(one.data), one.tenant_id, f"event/{one.id}", day_of_id(one.id)),
            }
            for one in events
        ]
        bulk.execute(conn, feed.insertion(conn.dialect.name), rows)


def insert_captures(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """
    Keep mail that the sandbox took.

    Args:
        rows: By the table's columns, with `tenant_id`.
    """
    if rows:
        ring = sealing.keyring_of(conn)
        bulk.insert(conn, capture, [_sealed_capture(conn, ring, row) for row in rows])


def _sealed_capture(conn: Connection, ring: Keyring, row: dict[str, Any]) -> dict[str, Any]:
    message_id, n, encoding = row["message_id"], row["n"], row["encoding"]
    place = _place_of_capture(message_id, n, encoding)
    data = ring.seal(conn, row["data"], row["tenant_id"], place, day_of_id(message_id))
    return {"message_id": message_id, "n": n, "at": row["at"], "encoding": encoding, "data": data}


def _place_of_capture(message_id: str, n: int, encoding: str) -> str:
    return f"capture/{message_id}/{n}/{encoding}"


def recorded_attempts(conn: Connection, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Tell which attempts (message, recipient number, attempt number) are recorded."""
    columns = attempt.c
    statement = sa.select(columns.message_id, columns.n, columns.number).where(
        sa.tuple_(columns.message_id, columns.n, columns.number).in_(keys)
    )
    return {(message_id, n, number) for message_id, n, number in conn.execute(statement)}


def attempts_of(conn: Connection, message_id: str, n: int | None = None) -> list[Row[Any]]:
    """List a message's attempts in order of time."""
    columns = [attempt.c[name] for name in _PLAIN]
    statement = sa.select(*columns, attempt.c.sealed).where(attempt.c.message_id == message_id)
    if n is not None:
        statement = statement.where(attempt.c.n == n)
    rows = conn.execute(statement.order_by(attempt.c.started_at, attempt.c.n, attempt.c.number)).all()
    tenant_id = _tenant_of(conn, message_id) if rows else ""
    return sealing.rows(_SHOWN, [(*row[:-1], *_opened_attempt(conn, tenant_id, row)) for row in rows])


def _opened_attempt(conn: Connection, tenant_id: str, row: Any) -> Sequence[Any]:
    place = _place(row.message_id, row.n, row.number)
    try:
        opened: Sequence[Any] = _decode(sealing.unseal(conn, row.sealed, tenant_id=tenant_id, place=place))
    except SealBroken as error:
        maillog.trouble("a stored attempt cannot be opened", error=str(error))
        return UNREADABLE, None, ""
    return opened


def _tenant_of(conn: Connection, message_id: str) -> str:
    return conn.execute(sa.select(message.c.tenant_id).where(message.c.id == message_id)).scalar() or ""


def has_event(conn: Connection, message_id: str, n: int, kind: EventType) -> bool:
    """Tell whether something happened to a recipient before."""
    columns = event.c
    same = sa.select(columns.id).where(columns.message_id == message_id, columns.n == n, columns.type == kind.value)
    return conn.execute(same.limit(1)).first() is not None


def events_of(conn: Connection, message_id: str) -> list[Row[Any]]:
    """List a message's events in order of time."""
    return opened_events(conn, sa.select(event).where(event.c.message_id == message_id).order_by(event.c.id))


def opened_events(conn: Connection, statement: sa.Select[Any]) -> list[Row[Any]]:
    """
    Run a query for events; return their rows with `data` as it was recorded.

    Args:
        statement: Selects the whole table `event`.
    """
    opened = [(*(getattr(row, name) for name in _EVENT), _opened_data(conn, row)) for row in conn.execute(statement)]
    return sealing.rows((*_EVENT, "data"), opened)


def _opened_data(conn: Connection, row: Row[Any]) -> Any:
    try:
        return _decode(sealing.unseal(conn, row.data, tenant_id=row.tenant_id, place=f"event/{row.id}"))
    except SealBroken as error:
        maillog.trouble("a stored event cannot be opened", error=str(error))
        return {"detail": UNREADABLE}


def captured(conn: Connection, message_id: str, n: int | None = None) -> Row[Any] | None:
    """
    Return the captured bytes of a message (of one recipient, or of the first that has any).

    Raises:
        SealBroken: They cannot be opened.
    """
    names = [column.name for column in capture.c]
    statement = sa.select(*capture.c, message.c.tenant_id).join(message, message.c.id == capture.c.message_id)
    statement = statement.where(capture.c.message_id == message_id)
    if n is not None:
        statement = statement.where(capture.c.n == n)
    row = conn.execute(statement.order_by(capture.c.n).limit(1)).one_or_none()
    if row is None:
        return None
    place = _place_of_capture(message_id, row.n, row.encoding)
    data = sealing.unseal(conn, row.data, tenant_id=row.tenant_id, place=place)
    return sealing.rows(names, [tuple(data if name == "data" else getattr(row, name) for name in names)])[0]
