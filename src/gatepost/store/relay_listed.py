"""
Which suppressions came from a provider's own list, and when a round last saw them there.

What a person, or our own mail, says of the same address besides makes a suppression ours: it is forgotten here, and stays whatever the
provider's list does. Not here: what follows when an entry is gone (returns.relay_lists.leaving).
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store.schema import relay_listed, suppression

_AT_ONCE: Final = 500


def note(conn: Connection, relay: str, keys: Sequence[tuple[str, str, str, str]], began_at: Instant) -> None:
    """
    Keep that suppressions came from a relay's list.

    Args:
        keys: Tenant, keyed hash of the address, stream, reason.
        began_at: When the round that found them began.
    """
    if not keys:
        return
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    names = ("tenant_id", "address_hash", "stream", "reason")
    statement = insert(relay_listed)
    changes = {"reason": statement.excluded.reason, "seen_at": statement.excluded.seen_at}
    statement = statement.on_conflict_do_update(index_elements=["relay", "tenant_id", "address_hash", "stream"], set_=changes)
    conn.execute(statement, [{"relay": relay, "seen_at": began_at, **dict(zip(names, key, strict=True))} for key in keys])


def see(conn: Connection, relay: str, seen: Sequence[tuple[str, str]], began_at: Instant) -> None:
    """
    Keep that entries are on a relay's list still.

    Args:
        seen: Keyed hash of the address, reason.
    """
    columns = relay_listed.c
    for start in range(0, len(seen), _AT_ONCE):
        some = list(seen[start : start + _AT_ONCE])
        same = sa.and_(columns.relay == relay, sa.tuple_(columns.address_hash, columns.reason).in_(some), columns.seen_at < began_at)
        conn.execute(sa.update(relay_listed).where(same).values(seen_at=began_at))


def keep(conn: Connection, tenant_id: str, address_hash: str, stream: str) -> None:
    """Forget that a suppression came from a list: somebody else says the same by now."""
    columns = relay_listed.c
    same = sa.and_(columns.tenant_id == tenant_id, columns.address_hash == address_hash, columns.stream == stream)
    conn.execute(sa.delete(relay_listed).where(same))


def forget_ended(conn: Connection, relay: str) -> None:
    """Forget what is not suppressed any more, or not for the relay's word."""
    columns = relay_listed.c
    there = sa.exists().where(_is_same(), suppression.c.source == f"relay:{relay}", suppression.c.reason == columns.reason)
    conn.execute(sa.delete(relay_listed).where(columns.relay == relay, ~there))


def purge(conn: Connection) -> None:
    """Forget what is not suppressed any more."""
    conn.execute(sa.delete(relay_listed).where(~sa.exists().where(_is_same())))


def counts(conn: Connection, relay: str, began_at: Instant) -> tuple[int, int]:
    """Count what came from a relay's list, and what of it a round that began then did not see."""
    columns = relay_listed.c
    gone = sa.func.coalesce(sa.func.sum(sa.case((columns.seen_at < began_at, 1), else_=0)), 0)
    row = conn.execute(sa.select(sa.func.count(), gone).where(columns.relay == relay)).one()
    return int(row[0]), int(row[1])


def unseen(conn: Connection, relay: str, began_at: Instant, limit: int) -> list[tuple[str, str, str]]:
    """List what a round did not see: tenant, keyed hash of the address, stream."""
    columns = relay_listed.c
    chosen = sa.select(columns.tenant_id, columns.address_hash, columns.stream)
    chosen = chosen.where(columns.relay == relay, columns.seen_at < began_at).order_by(columns.tenant_id, columns.address_hash)
    return [(row.tenant_id, row.address_hash, row.stream) for row in conn.execute(chosen.limit(limit))]


def _is_same() -> sa.ColumnElement[bool]:
    mine, theirs = relay_listed.c, suppression.c
    return sa.and_(
        theirs.tenant_id == mine.tenant_id, theirs.address_hash == mine.address_hash, theirs.stream == mine.stream
    )  # fmt: skip
