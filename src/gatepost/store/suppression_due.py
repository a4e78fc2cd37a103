"""
Addresses that were suppressed lately: the mail that waits for them is looked for and ended by the owners of its shards.

An address is noted in the transaction that suppresses it, which costs that one row and locks nothing of the queue. It is
looked at until nothing waits for it any more, and once more after `RACE_MS`: mail that was being accepted at the same moment
may not have seen the suppression.
Not here: ending mail (dispatch.ending).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost import ids
from gatepost.clock import DAY, SECOND, Instant
from gatepost.domain.recipient import WAITING
from gatepost.store.queue_row import COLUMNS, Due
from gatepost.store.schema import message, queue, recipient, suppression, suppression_due

RACE_MS: Final = 30 * SECOND
_OLDEST: Final = 60 * DAY
"""Mail that waits is not older: its schedule and its lifetime end before."""

Key = tuple[str, str]
"""Tenant, and keyed hash of the address."""


class Noted(NamedTuple):
    """An address to look at."""

    tenant_id: str
    address_hash: str
    created_at: Instant


class Waiting(NamedTuple):
    """
    A recipient that waits though its address is suppressed.

    Attributes:
        due: Its queue row.
        reason: Why its address is suppressed.
    """

    due: Due
    reason: str
    attempts: int
    last_host: str | None


def note(conn: Connection, tenant_id: str, address_hash: str, now: Instant) -> None:
    """Note that an address is suppressed from now on."""
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(suppression_due).values(tenant_id=tenant_id, address_hash=address_hash, created_at=now, due_at=now)
    changes = {name: getattr(statement.excluded, name) for name in ("created_at", "due_at")}
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "address_hash"], set_=changes))


def due(conn: Connection, now: Instant, limit: int) -> list[Noted]:
    """List the addresses to look at now, those that have waited for longest first."""
    columns = suppression_due.c
    statement = sa.select(columns.tenant_id, columns.address_hash, columns.created_at).where(columns.due_at <= now)
    return [Noted._make(row) for row in conn.execute(statement.order_by(columns.due_at).limit(limit))]


def waiting(conn: Connection, keys: Sequence[Key], now: Instant) -> dict[Key, list[Waiting]]:
    """Find the recipients that wait though their address is suppressed, in all of their tenant's mail or in their message's stream."""
    found: dict[Key, list[Waiting]] = {}
    for start in range(0, len(keys), 250):
        for row in conn.execute(_WAITING, {"keys": list(keys[start : start + 250]), "now": now, "oldest": _oldest(now)}):
            known = found.setdefault((row.tenant_id, row.address_hash), [])
            one = Waiting(Due._make(row[: len(COLUMNS)]), row.reason, row.attempts, row.last_host)
            if all((each.due.message_id, each.due.n) != (one.due.message_id, one.due.n) for each in known[-1:]):
                known.append(one)  # suppressed twice, for its stream and for all
    return found


def _oldest(now: Instant) -> str:
    return ids.lower_bound("msg", max(now - _OLDEST, 0))


_columns = recipient.c
_WAITING = (
    sa.select(*[queue.c[name] for name in COLUMNS], _columns.address_hash, suppression.c.reason, _columns.attempts, _columns.last_host)
    .select_from(recipient)
    .join(queue, sa.and_(queue.c.message_id == _columns.message_id, queue.c.n == _columns.n))
    .join(message, message.c.id == _columns.message_id)
    .join(
        suppression,
        sa.and_(
            suppression.c.tenant_id == _columns.tenant_id,
            suppression.c.address_hash == _columns.address_hash,
            sa.or_(suppression.c.stream == "", suppression.c.stream == message.c.stream),
        ),
    )
    .where(
        sa.tuple_(_columns.tenant_id, _columns.address_hash).in_(sa.bindparam("keys", expanding=True)),
        _columns.message_id >= sa.bindparam("oldest"),
        _columns.status.in_([status.value for status in WAITING]),
        sa.or_(suppression.c.expires_at.is_(None), suppression.c.expires_at > sa.bindparam("now")),
    )
    .order_by(_columns.message_id, _columns.n, suppression.c.stream)
)
"""Made once: making such a statement costs more than running it."""


def look_again(conn: Connection, noted: Sequence[Noted], at: Instant) -> None:
    """Look at addresses again later; those that were noted anew meanwhile are looked at before."""
    _each(conn, sa.update(suppression_due).values(due_at=at), noted)


def finish(conn: Connection, noted: Sequence[Noted]) -> None:
    """Be done with addresses; those that were noted anew meanwhile stay."""
    _each(conn, sa.delete(suppression_due), noted)


def _each(conn: Connection, statement: Any, noted: Sequence[Noted]) -> None:
    columns = suppression_due.c
    same = sa.and_(
        columns.tenant_id == sa.bindparam("b_tenant_id"), columns.address_hash == sa.bindparam("b_address_hash"),
        columns.created_at == sa.bindparam("b_created_at"),
    )  # fmt: skip
    if noted:
        conn.execute(statement.where(same), [{f"b_{name}": value for name, value in one._asdict().items()} for one in sorted(noted)])
