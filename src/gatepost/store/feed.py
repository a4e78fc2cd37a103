"""
Events in the order in which they were committed, so that who reads on from a place never misses one.

An event's id is older than its commit, and commits overtake each other; a reader that remembers the greatest id would skip
what is committed late. So each event has a place, `feed`. On SQLite, where writers queue, it counts up within a tenant. On
PostgreSQL it is the number of its transaction, and only events are read whose transactions were all begun before the
oldest one that still runs: what may still be committed lies behind every place that was given out.
Not here: inserting events (facts), who is told of them (hooks).
A dump that was restored into another server has numbers of the old one, which `renumber` puts before all of the new one.
Bugs: on PostgreSQL a transaction that writes for long, also in another database of the server, holds the feed up as long.
"""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.store.schema import event, message, tenant, webhook_state


class Place(NamedTuple):
    """A place in the feed: that of an event, or one before or behind all of a transaction."""

    feed: int
    event_id: str


START: Final = Place(-(2**62), "")
_XID: Final = "pg_current_xact_id()::text::bigint"
_OLDEST: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_LAST: Final = "~"
"""Behind every id."""


class Wanted(NamedTuple):
    """
    Which events are read; None picks all.

    Attributes:
        streams: Events of messages in these, and no others.
        domains: Events of messages whose sender's domain is one of these, and no others.
    """

    types: Collection[str] | None = None
    streams: Collection[str] | None = None
    domains: Collection[str] | None = None


class Part(NamedTuple):
    """
    A part of the feed.

    Attributes:
        ids: Of the events, in order.
        place: Where to go on.
    """

    ids: Sequence[str]
    place: Place
    has_more: bool


@cache
def insertion(dialect: str) -> Any:
    """Return the statement that inserts an event at its place; its parameters are the other columns."""
    names = [column.name for column in event.c if column.name != "feed"]
    values: dict[str, Any] = {name: sa.bindparam(name, type_=event.c[name].type) for name in names}
    if dialect == "postgresql":
        values["feed"] = sa.literal_column(_XID)
    else:
        other = event.alias("other")
        mine = other.c.tenant_id == sa.bindparam("tenant_id", type_=event.c.tenant_id.type)
        # its numbers are no parameters, which each row would have to give
        following: Any = sa.literal_column("coalesce(max(other.feed), 0) + 1")
        values["feed"] = sa.select(following).select_from(other).where(mine).scalar_subquery()
    return sa.insert(event).values(values)


def end(conn: Connection, tenant_id: str) -> Place:
    """Return the place behind everything that is committed and behind which all that is not yet will stand."""
    if conn.dialect.name == "postgresql":
        return Place(int(conn.execute(sa.text(f"SELECT {_OLDEST}")).scalar_one()) - 1, _LAST)
    return last(conn, tenant_id) or START


def last(conn: Connection, tenant_id: str) -> Place | None:
    """Return the place of a tenant's last event that can be read."""
    return _last(conn, tenant_id, visible(conn))


def _last(conn: Connection, tenant_id: str, seen: Sequence[Any]) -> Place | None:
    columns = event.c
    statement = sa.select(columns.feed, columns.id).where(columns.tenant_id == tenant_id, *seen)
    row = conn.execute(statement.order_by(columns.feed.desc(), columns.id.desc()).limit(1)).one_or_none()
    return None if row is None else Place(row.feed, row.id)


def place_of(conn: Connection, tenant_id: str, event_id: str) -> Place | None:
    """Return the place of an event; None when the tenant has no such event."""
    statement = sa.select(event.c.feed).where(event.c.id == event_id, event.c.tenant_id == tenant_id)
    found = conn.execute(statement).scalar_one_or_none()
    return None if found is None else Place(found, event_id)


def after(conn: Connection, tenant_id: str, place: Place, wanted: Wanted, limit: int) -> Part:
    """Read on from a place: events' ids in the order of commits."""
    columns = event.c
    upto = _last(conn, tenant_id, visible(conn))  # first: what is committed meanwhile is of the next part
    if upto is None or upto <= place:
        return Part((), place, has_more=False)
    statement = sa.select(columns.feed, columns.id).where(columns.tenant_id == tenant_id, behind(place), sa.not_(behind(upto)))
    if wanted.types is not None:
        statement = statement.where(columns.type.in_(wanted.types))
    if wanted.streams is not None or wanted.domains is not None:
        statement = statement.join(message, message.c.id == columns.message_id)
        if wanted.streams is not None:
            statement = statement.where(message.c.stream.in_(wanted.streams))
        if wanted.domains is not None:
            statement = statement.where(message.c.from_domain.in_(wanted.domains))
    rows = conn.execute(statement.order_by(columns.feed, columns.id).limit(limit + 1)).all()
    has_more, rows = len(rows) > limit, rows[:limit]
    return Part([row.id for row in rows], Place(rows[-1].feed, rows[-1].id) if has_more else upto, has_more=has_more)


def renumber(conn: Connection) -> int:
    """
    Move events whose transactions this server never had before all others, in their order, and webhooks' places with them.

    To be called at the start of a process. On a database that was restored from a dump, new events would otherwise stand
    before old ones, and whoever reads on would wait for them in vain. Returns the number of events that were moved.
    """
    if conn.dialect.name != "postgresql":
        return 0
    ahead: Any = sa.literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    greatest = sa.select(event.c.feed).where(event.c.tenant_id == tenant.c.id).order_by(event.c.feed.desc()).limit(1)
    found = conn.execute(sa.select(sa.func.max(greatest.correlate(tenant).scalar_subquery()), ahead).select_from(tenant)).one()
    if found[0] is None or found[0] <= found[1]:
        return 0
    conn.execute(sa.text("SELECT pg_advisory_xact_lock(7355609)"))
    conn.execute(sa.text("SET LOCAL statement_timeout = 0"))
    moved = conn.execute(sa.update(event).where(event.c.feed > ahead).values(feed=event.c.feed - found[0])).rowcount
    conn.execute(sa.update(webhook_state).where(webhook_state.c.feed > ahead).values(feed=webhook_state.c.feed - found[0]))
    return moved


def behind(place: Place) -> Any:
    """Write the condition that an event stands behind a place."""
    return sa.tuple_(event.c.feed, event.c.id) > _row(place)


def _row(place: Place) -> Any:
    return sa.tuple_(sa.literal(place.feed, sa.BigInteger), sa.literal(place.event_id, event.c.id.type))


def visible(conn: Connection) -> Sequence[Any]:
    """Return the conditions under which an event may be read: nothing before it can still be committed."""
    return [event.c.feed < sa.literal_column(_OLDEST)] if conn.dialect.name == "postgresql" else []
