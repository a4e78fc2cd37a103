"""What people decided about sites: paused ones get no mail until they are resumed."""

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store.schema import site_state


def pause(conn: Connection, site: str, now: Instant, note: str = "") -> None:
    """Stop deliveries to a site."""
    values = {"paused_at": now, "note": note}
    if not conn.execute(sa.update(site_state).where(site_state.c.site == site).values(**values)).rowcount:
        conn.execute(sa.insert(site_state), [{"site": site, **values}])


def resume(conn: Connection, site: str) -> bool:
    """Start deliveries to a site again; return whether it was paused."""
    paused = sa.and_(site_state.c.site == site, site_state.c.paused_at.is_not(None))
    return bool(conn.execute(sa.update(site_state).where(paused).values(paused_at=None, note="")).rowcount)


def paused(conn: Connection) -> dict[str, Instant]:
    """Return since when each paused site is paused."""
    rows = conn.execute(sa.select(site_state.c.site, site_state.c.paused_at).where(site_state.c.paused_at.is_not(None)))
    return {row.site: row.paused_at for row in rows}
