"""
What is known of the things that are looked after: domains, source addresses, relays; and who looks after them.

Reports are JSON that the watchers write and pages read; what queries ask for has columns of its own.
Not here: the looking (tenants.domain_health, watch), what follows from it for a route (whoever chooses one reads `relays`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store import bulk
from gatepost.store.schema import domain, domain_health, relay_health, relay_minute, source_health, watch_lease


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRow:
    """
    A domain's health.

    Attributes:
        state: `ok`, `broken`, or `unknown` when DNS did not answer.
        failing_since: Since when it is broken.
    """

    domain_id: str
    tenant_id: str
    checked_at: Instant
    due_at: Instant
    state: str
    failing_since: Instant | None
    report: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRow:
    """
    A relay's last probe.

    Attributes:
        failing_since: Since when its probes fail.
    """

    relay: str
    checked_at: Instant
    is_ok: bool
    failing_since: Instant | None
    report: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What one node counted at a relay in one minute (since the epoch)."""

    relay: str
    minute: int
    attempts: int
    failed: int
    slow: int


def hold(conn: Connection, task: str, owner: str, now: Instant, until: Instant) -> bool:
    """Take a task, or keep it; False when another process has it."""
    is_free = sa.or_(watch_lease.c.owner == owner, watch_lease.c.expires_at <= now)
    values = {"owner": owner, "expires_at": until}
    if conn.execute(sa.update(watch_lease).where(watch_lease.c.task == task, is_free).values(**values)).rowcount:
        return True
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    return bool(conn.execute(insert(watch_lease).values(task=task, **values).on_conflict_do_nothing()).rowcount)


def let_go(conn: Connection, owner: str) -> None:
    """Give all tasks of a process back."""
    conn.execute(sa.delete(watch_lease).where(watch_lease.c.owner == owner))


def due_domains(conn: Connection, now: Instant, limit: int) -> list[tuple[str, str]]:
    """List domains that should be looked at, as (tenant id, domain id): first those that nobody ever looked at."""
    joined = domain.outerjoin(domain_health, domain_health.c.domain_id == domain.c.id)
    new = sa.select(domain.c.tenant_id, domain.c.id).select_from(joined).where(domain_health.c.domain_id.is_(None)).limit(limit)
    found = [(row.tenant_id, row.id) for row in conn.execute(new)]
    old = (
        sa.select(domain_health.c.tenant_id, domain_health.c.domain_id)
        .where(domain_health.c.due_at <= now)
        .order_by(domain_health.c.due_at)
        .limit(limit - len(found))
    )
    return found if len(found) >= limit else [*found, *((row.tenant_id, row.domain_id) for row in conn.execute(old))]


def domain_row(conn: Connection, domain_id: str, *, is_locking: bool = False) -> DomainRow | None:
    """
    Return what is known of a domain; None when nobody looked yet.

    Args:
        is_locking: Keep it from other writers until the transaction ends (SQLite has one writer anyway).
    """
    statement = sa.select(domain_health).where(domain_health.c.domain_id == domain_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).mappings().one_or_none()
    return None if row is None else DomainRow(**row)


def tenant_rows(conn: Connection, tenant_id: str) -> dict[str, DomainRow]:
    """Return what is known of a tenant's domains, by their ids."""
    rows = conn.execute(sa.select(domain_health).where(domain_health.c.tenant_id == tenant_id)).mappings()
    return {row["domain_id"]: DomainRow(**row) for row in rows}


def domain_states(conn: Connection) -> dict[str, int]:
    """Count the domains that were looked at, by state."""
    rows = conn.execute(sa.select(domain_health.c.state, sa.func.count()).group_by(domain_health.c.state).order_by(domain_health.c.state))
    return {state: int(count) for state, count in rows}


def broken_domains(conn: Connection) -> list[DomainRow]:
    """List what is known of every domain that is broken."""
    return [DomainRow(**row) for row in conn.execute(sa.select(domain_health).where(domain_health.c.state == "broken")).mappings()]


def failing_domains(conn: Connection) -> list[str]:
    """List ids of the domains that broke and are not well again, those that are so for longest first."""
    columns = domain_health.c
    statement = sa.select(columns.domain_id).where(columns.failing_since.is_not(None)).order_by(columns.failing_since, columns.domain_id)
    return list(conn.execute(statement).scalars())


def put_domain(conn: Connection, row: DomainRow) -> None:
    """Write down what was found at a domain; nothing where it is gone by now."""
    if conn.execute(sa.select(domain.c.id).where(domain.c.id == row.domain_id)).first() is not None:
        _put(conn, domain_health, _values(row))


def put_source(conn: Connection, address: str, checked_at: Instant, report: Mapping[str, Any]) -> None:
    """Write down what was found at a source address."""
    _put(conn, source_health, {"address": address, "checked_at": checked_at, "report": dict(report)})


def sources(conn: Connection) -> dict[str, tuple[Instant, Mapping[str, Any]]]:
    """Return what is known of source addresses."""
    return {row.address: (row.checked_at, row.report) for row in conn.execute(sa.select(source_health).order_by(source_health.c.address))}


def forget_sources(conn: Connection, kept: Sequence[str]) -> None:
    """Forget the addresses that mail does not leave from any more."""
    conn.execute(sa.delete(source_health).where(source_health.c.address.not_in(kept)))


def put_relay(conn: Connection, row: RelayRow) -> None:
    """Write down the last probe of a relay."""
    _put(conn, relay_health, _values(row))


def relays(conn: Connection) -> dict[str, RelayRow]:
    """Return the last probe of each relay."""
    return {row["relay"]: RelayRow(**row) for row in conn.execute(sa.select(relay_health)).mappings()}


def forget_relays(conn: Connection, kept: Sequence[str]) -> None:
    """Forget the relays that are not configured any more."""
    conn.execute(sa.delete(relay_health).where(relay_health.c.relay.not_in(kept)))


def count_minutes(conn: Connection, node: str, minutes: Sequence[Minute]) -> None:
    """Add what a node counted."""
    bulk.execute(conn, _counting(conn.dialect.name), [{**_values(one), "node": node} for one in minutes])


def minutes(conn: Connection, since: int, relay: str | None = None) -> list[Minute]:
    """
    Return what was counted at relays, all nodes together, the oldest first.

    Args:
        since: The first minute, since the epoch.
        relay: One relay; None is all.
    """
    columns = relay_minute.c
    sums = [sa.cast(sa.func.sum(columns[name]), sa.BigInteger).label(name) for name in ("attempts", "failed", "slow")]
    statement = sa.select(columns.relay, columns.minute, *sums).where(columns.minute >= since).group_by(columns.relay, columns.minute)
    if relay is not None:
        statement = statement.where(columns.relay == relay)
    return [Minute(**row) for row in conn.execute(statement.order_by(columns.minute, columns.relay)).mappings()]


def purge_minutes(conn: Connection, before: int) -> None:
    """Forget minutes that no objective looks at any more."""
    conn.execute(sa.delete(relay_minute).where(relay_minute.c.minute < before))


def _values(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}


def _put(conn: Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    key = [column.name for column in table.primary_key.columns]
    statement = insert(table).values(**values)
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_={name: values[name] for name in values if name not in key}))


@cache
def _counting(dialect: str) -> Any:
    statement: Any = postgresql.insert(relay_minute) if dialect == "postgresql" else sqlite.insert(relay_minute)
    more = {name: relay_minute.c[name] + statement.excluded[name] for name in ("attempts", "failed", "slow")}
    return statement.on_conflict_do_update(index_elements=["relay", "minute", "node"], set_=more)
