"""
Which mail system takes a domain, as some process found out: shared by all, kept over restarts.

Of two answers the newer one counts, whoever writes first; a failure counts only where there is no answer, or one that is too old.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, Instant
from gatepost.store import bulk
from gatepost.store.schema import mail_system

STALE = DAY
"""How long after its end an answer still counts while DNS fails."""
_KEPT = 30 * DAY
_CHUNK = 500


class KnownSystem(NamedTuple):
    """
    What is known of a domain.

    Attributes:
        site: None while nobody could find out.
        asked_at: When DNS gave the answer.
        expires_at: When to ask again.
        failing_since: Since when DNS has not answered; None while it does.
        detail: What it said instead.
    """

    domain: str
    site: str | None
    asked_at: Instant
    expires_at: Instant
    failing_since: Instant | None = None
    detail: str = ""


_COLUMNS = [mail_system.c[name] for name in KnownSystem._fields]


def find(conn: Connection, domains: Sequence[str]) -> dict[str, KnownSystem]:
    """Return what is known of some domains."""
    found: dict[str, KnownSystem] = {}
    for start in range(0, len(domains), _CHUNK):
        rows = conn.execute(sa.select(*_COLUMNS).where(mail_system.c.domain.in_(domains[start : start + _CHUNK])))
        found |= {row.domain: KnownSystem._make(row) for row in rows}
    return found


@cache
def _upsert(dialect: str) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(mail_system)
    new = statement.excluded
    is_answer = new.site.is_not(None)
    changed = {
        "site": new.site,
        "asked_at": new.asked_at,
        "expires_at": new.expires_at,
        "failing_since": sa.case((is_answer, sa.null()), else_=sa.func.coalesce(mail_system.c.failing_since, new.failing_since)),
        "detail": new.detail,
    }
    stale_since = mail_system.c.expires_at + sa.literal_column(str(STALE))
    is_worth_less = sa.or_(mail_system.c.site.is_(None), stale_since < new.asked_at)
    is_better = sa.and_(new.asked_at > mail_system.c.asked_at, sa.or_(is_answer, is_worth_less))
    return statement.on_conflict_do_update(index_elements=[mail_system.c.domain], set_=changed, where=is_better)


def record(conn: Connection, systems: Sequence[KnownSystem]) -> None:
    """Write answers and failures down."""
    # in one order, so that two processes do not wait for each other
    newest = sorted({one.domain: one for one in systems}.values())
    bulk.execute(conn, _upsert(conn.dialect.name), [one._asdict() for one in newest])


def failing(conn: Connection, domains: Sequence[str]) -> dict[str, KnownSystem]:
    """Return the domains among some about which DNS does not answer."""
    return {domain: one for domain, one in find(conn, domains).items() if one.site is None and one.failing_since is not None}


def purge(conn: Connection, now: Instant) -> None:
    """Forget domains that got no mail for a month."""
    conn.execute(sa.delete(mail_system).where(mail_system.c.expires_at < now - _KEPT))
