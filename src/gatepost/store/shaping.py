"""
Shaping as it is kept: what owners know of each source at each site, what operators ordered, what warming up used.

A site's owner writes its flows' states every few seconds, and the next owner reads them; doors read them to explain. Nobody else
writes them, so nothing is locked. What a server said may name people, and is sealed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, Instant
from gatepost.domain.flow import FlowState, SiteRule
from gatepost.store import bulk, sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import flow_state, site_rule, warm_up_count

FOREVER = 253_402_300_799_000
"""A suspension without an end: the last second of the year 9999."""
_KEPT_MS = 7 * DAY
_KEPT_DAYS = 60

_OWN_COLUMNS = frozenset({"source", "site", "pool", "saved_at", "signal_text"})


def states(conn: Connection, *, sites: Sequence[str] | None = None) -> list[FlowState]:
    """
    Return what is known of sources at sites, by site and source; others than those written down have nothing to tell.

    Args:
        sites: Only of these.
    """
    statement = sa.select(flow_state).order_by(flow_state.c.site, flow_state.c.source)
    if sites is not None:
        statement = statement.where(flow_state.c.site.in_(sites))
    return [_state(conn, row) for row in conn.execute(statement)]


def of_shards(conn: Connection, shards: Sequence[int]) -> list[FlowState]:
    """Return what earlier owners knew of the sites in some shards."""
    return [_state(conn, row) for row in conn.execute(sa.select(flow_state).where(flow_state.c.shard.in_(shards)))]


def _state(conn: Connection, row: Row[Any]) -> FlowState:
    text = ""
    if row.signal_sealed is not None:
        try:
            place = _place(row.source, row.site)
            text = sealing.unseal(conn, bytes(row.signal_sealed), tenant_id=sealing.GATEWAY, place=place).decode()
        except SealBroken:
            text = sealing.UNREADABLE
    own = {"source": row.source, "site": row.site, "pool": row.pool, "saved_at": row.saved_at, "signal_text": text}
    return msgspec.convert({**row.data, **own}, FlowState)


def _place(source: str, site: str) -> str:
    return f"flow_state.signal_sealed/{source}/{site}"


def save(conn: Connection, found: Sequence[tuple[int, FlowState]]) -> None:
    """
    Write states down, in place of what was known.

    Args:
        found: Each with its shard.
    """
    bulk.execute(conn, _SAVE[conn.dialect.name], [_row(conn, shard, one) for shard, one in found])


def _row(conn: Connection, shard: int, one: FlowState) -> dict[str, Any]:
    sealed = None
    if one.signal_text:
        place = _place(one.source, one.site)
        sealed = sealing.seal(conn, one.signal_text.encode(), tenant_id=sealing.GATEWAY, place=place, at=one.signal_at)
    data = {name: value for name, value in msgspec.to_builtins(one).items() if name not in _OWN_COLUMNS}
    return {
        "source": one.source, "site": one.site, "pool": one.pool, "shard": shard, "saved_at": one.saved_at, "data": data,
        "signal_sealed": sealed,
    }  # fmt: skip


def _upsert(dialect: str, table: sa.Table, keys: Sequence[str]) -> Any:
    insert: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    new = insert.excluded
    changed = {column.name: getattr(new, column.name) for column in table.columns if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=changed)


_SAVE = {name: _upsert(name, flow_state, ("source", "site")) for name in ("sqlite", "postgresql")}
_COUNT = {name: _upsert(name, warm_up_count, ("source", "site", "day")) for name in ("sqlite", "postgresql")}


def tidy(conn: Connection, now: Instant) -> None:
    """Remove what nobody wrote for a week, and counts of two months ago."""
    conn.execute(sa.delete(flow_state).where(flow_state.c.saved_at < now - _KEPT_MS))
    conn.execute(sa.delete(warm_up_count).where(warm_up_count.c.day < now // DAY - _KEPT_DAYS))


def rules(conn: Connection) -> list[SiteRule]:
    """Return all that operators ordered."""
    return [_rule(row) for row in conn.execute(sa.select(site_rule).order_by(site_rule.c.site, site_rule.c.source))]


def rule(conn: Connection, source: str, site: str) -> SiteRule:
    """Return what an operator ordered for a source at a site; where that is nothing, an empty order."""
    condition = sa.and_(site_rule.c.source == source, site_rule.c.site == site)
    row = conn.execute(sa.select(site_rule).where(condition)).one_or_none()
    return SiteRule(source=source, site=site) if row is None else _rule(row)


def _rule(row: Row[Any]) -> SiteRule:
    return SiteRule(
        source=row.source,
        site=row.site,
        limits=row.limits,
        suspended_until=row.suspended_until,
        lifted_at=row.lifted_at,
        note=row.note,
        changed_at=row.changed_at,
    )


def set_rule(conn: Connection, one: SiteRule) -> None:
    """Write an order down, in place of the one before."""
    values = {
        "limits": one.limits, "suspended_until": one.suspended_until, "lifted_at": one.lifted_at, "note": one.note,
        "changed_at": one.changed_at,
    }  # fmt: skip
    condition = sa.and_(site_rule.c.source == one.source, site_rule.c.site == one.site)
    if not conn.execute(sa.update(site_rule).where(condition).values(**values)).rowcount:
        conn.execute(sa.insert(site_rule), [{"source": one.source, "site": one.site, **values}])


def used(conn: Connection, keys: Sequence[tuple[str, str]], day: int) -> dict[tuple[str, str], int]:
    """
    Return how many messages were counted on a day.

    Args:
        keys: Sources and sites.
        day: Days since 1970-01-01.
    """
    wanted = set(keys)
    columns = warm_up_count.c
    sources = sorted({source for source, _ in keys})
    statement = sa.select(columns.source, columns.site, columns.used).where(columns.day == day, columns.source.in_(sources))
    return {(row.source, row.site): row.used for row in conn.execute(statement) if (row.source, row.site) in wanted}


def count(conn: Connection, counts: Mapping[tuple[str, str], int], day: int) -> None:
    """Write down how many messages of a day are counted: before they are sent."""
    rows = [{"source": source, "site": site, "day": day, "used": number} for (source, site), number in counts.items()]
    bulk.execute(conn, _COUNT[conn.dialect.name], rows)


def uncount(conn: Connection, unused: Mapping[tuple[str, str], tuple[int, int]], day: int) -> None:
    """
    Give back what was counted and not sent, unless somebody counted on meanwhile.

    Args:
        unused: What stands there, and what shall.
    """
    columns = warm_up_count.c
    for (source, site), (counted, sent) in unused.items():
        same = sa.and_(columns.source == source, columns.site == site, columns.day == day, columns.used == counted)
        conn.execute(sa.update(warm_up_count).where(same).values(used=sent))
