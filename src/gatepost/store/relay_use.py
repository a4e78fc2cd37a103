"""
How much each relay was used, by hour, day or month (UTC): what its quota allowed, and what was sent.

Not here: whether there is room (egress.pacing).
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.store.schema import relay_use


def take(conn: Connection, relay: str, span: str, wanted: int, limit: int) -> int:
    """Write down recipients of a quota as taken; return how many there were, at most `wanted`."""
    _have_row(conn, relay, span)
    row = (relay_use.c.relay == relay) & (relay_use.c.span == span)
    taken = conn.execute(sa.select(relay_use.c.taken).where(row).with_for_update()).scalar_one()
    granted = max(0, min(wanted, limit - int(taken)))
    if granted:
        conn.execute(sa.update(relay_use).where(row).values(taken=relay_use.c.taken + granted))
    return granted


def count(conn: Connection, sent: Mapping[tuple[str, str], int]) -> None:
    """Add what was sent, by relay and day."""
    for (relay, day), recipients in sorted(sent.items()):
        _have_row(conn, relay, day)
        row = (relay_use.c.relay == relay) & (relay_use.c.span == day)
        conn.execute(sa.update(relay_use).where(row).values(used=relay_use.c.used + recipients))


def used(conn: Connection, day: str) -> dict[str, int]:
    """Return what each relay sent on a day, such as `2026-11-24`."""
    rows = conn.execute(sa.select(relay_use.c.relay, relay_use.c.used).where(relay_use.c.span == day))
    return {str(row.relay): int(row.used) for row in rows}


def taken(conn: Connection, spans: Mapping[str, str]) -> dict[str, int]:
    """Return what is taken of relays' quotas, each in the span that it has now."""
    if not spans:
        return {}
    rows = conn.execute(sa.select(relay_use).where(relay_use.c.relay.in_(sorted(spans))))
    return {str(row.relay): int(row.taken) for row in rows if spans[row.relay] == row.span}


def forget(conn: Connection, before_day: str) -> int:
    """Delete what is older than a day; return how many rows."""
    # months sort before their days, and hours after them: all begin with the same ten or seven characters
    return int(conn.execute(sa.delete(relay_use).where(relay_use.c.span < before_day)).rowcount)


def _have_row(conn: Connection, relay: str, span: str) -> None:
    statement: Any = postgresql.insert(relay_use) if conn.dialect.name == "postgresql" else sqlite.insert(relay_use)
    conn.execute(statement.values(relay=relay, span=span, taken=0, used=0).on_conflict_do_nothing())
