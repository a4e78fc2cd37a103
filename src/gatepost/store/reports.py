"""
What comes back afterwards: whom it is about, that it counts once, and what is counted first.

Not here: what it does to a recipient (reported), the list (store.suppressions).
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, HOUR, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.statement import About
from gatepost.store import sealing
from gatepost.store.schema import attempt, message, recipient, report_seen, tally

_KEPT_MS = 45 * DAY


def _insert(conn: Connection, table: sa.Table) -> Any:
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def claim(conn: Connection, report_id: str, now: Instant) -> bool:
    """Tell whether a report is new; from now on it is not. Who claims the same at once waits for this transaction."""
    statement = _insert(conn, report_seen).values(id=report_id, at=now).on_conflict_do_nothing()
    return bool(conn.execute(statement).rowcount)


def count(conn: Connection, subject: str, item: str, now: Instant, since: Instant) -> int:
    """Count an item once; return how many different ones a subject has since then."""
    columns = tally.c
    changed = _insert(conn, tally).values(subject=subject, item=item, at=now)
    conn.execute(changed.on_conflict_do_update(index_elements=["subject", "item"], set_={"at": changed.excluded.at}))
    statement = sa.select(sa.func.count()).where(columns.subject == subject, columns.at > since)
    return int(conn.execute(statement).scalar_one())


def forget(conn: Connection, subject: str) -> None:
    """Begin to count anew."""
    conn.execute(sa.delete(tally).where(tally.c.subject == subject))


def purge(conn: Connection, now: Instant) -> None:
    """Remove what is too old to matter."""
    conn.execute(sa.delete(report_seen).where(report_seen.c.at < now - _KEPT_MS))
    conn.execute(sa.delete(tally).where(tally.c.at < now - _KEPT_MS))


_STATE = (
    recipient.c.message_id, recipient.c.n, recipient.c.tenant_id, recipient.c.status, recipient.c.reason, recipient.c.attempts,
    recipient.c.last_host, recipient.c.site, recipient.c.address_hash, recipient.c.sealed, message.c.stream, message.c.is_sandbox,
    message.c.tags,
)  # fmt: skip


def locked(conn: Connection, message_id: str, n: int) -> Row[Any] | None:
    """Return a recipient with its message's stream, and let nobody else change it in this transaction; `sealed` is not opened."""
    statement = sa.select(*_STATE).join(message, message.c.id == recipient.c.message_id)
    statement = statement.where(recipient.c.message_id == message_id, recipient.c.n == n)
    found: Row[Any] | None = conn.execute(statement.with_for_update(of=recipient)).one_or_none()  # type: ignore[assignment]
    return found


def find(conn: Connection, about: About) -> tuple[str, int] | None:
    """
    Find the recipient that is meant: message and number; None while there is none.

    Nothing is guessed: an address must be one that the message went to, unless the number is known, or there is only one.
    """
    if about.message_id:
        return _among(conn, about.message_id, about)
    for provider_id in about.provider_ids:
        statement = sa.select(attempt.c.message_id, attempt.c.n).where(attempt.c.provider_id == provider_id)
        if about.relay:
            statement = statement.where(attempt.c.route == about.relay)
        places = {(row.message_id, row.n) for row in conn.execute(statement.limit(1_000))}
        if len(places) == 1:
            return places.pop()
        found = {place for message_id in {one for one, _ in places} if (place := _among(conn, message_id, about)) is not None}
        if len(found & places) == 1:
            return (found & places).pop()
    return None


def _among(conn: Connection, message_id: str, about: About) -> tuple[str, int] | None:
    columns = recipient.c
    if about.n is not None:
        same = sa.select(columns.n).where(columns.message_id == message_id, columns.n == about.n)
        return (message_id, about.n) if conn.execute(same).first() is not None else None
    if about.address:
        try:
            key = parse_address(about.address).key
        except InvalidAddress:
            return None
        same = sa.select(columns.n).where(columns.message_id == message_id, columns.address_hash == sealing.keyed_hash(conn, key))
        found = conn.execute(same.limit(1)).first()
        return None if found is None else (message_id, found[0])
    only = conn.execute(sa.select(columns.n).where(columns.message_id == message_id).limit(2)).all()
    return (message_id, only[0][0]) if len(only) == 1 else None


def last_way(conn: Connection, message_id: str, n: int) -> Row[Any] | None:
    """Return route and source of a recipient's last attempt."""
    columns = attempt.c
    statement = sa.select(columns.route, columns.source, columns.host, columns.number)
    same = statement.where(columns.message_id == message_id, columns.n == n)
    found: Row[Any] | None = conn.execute(same.order_by(columns.number.desc()).limit(1)).one_or_none()  # type: ignore[assignment]
    return found


def hour_of(now: Instant) -> int:
    """Return the hour of an instant: what is told once an hour has it in its name."""
    return now // HOUR
