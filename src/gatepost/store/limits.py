"""Limits, prices and balances of tenants: what an operator sets."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.access import Limit, Per, Resource
from gatepost.store.schema import balance_entry, tenant, tenant_limit
from gatepost.store.tenants import bump_version


class Account(NamedTuple):
    """
    What a tenant pays.

    Attributes:
        price_micros: Of 1,000 recipients, in millionths of the gateway's currency.
        balance_micros: What it has paid in advance; None: it is not prepaid.
    """

    price_micros: int
    balance_micros: int | None


class BalanceEntry(NamedTuple):
    """Something added to a balance, or taken off it by hand."""

    id: str
    tenant_id: str
    at: Instant
    micros: int
    note: str
    actor_id: str


def lock(conn: Connection, tenant_id: str) -> None:
    """Keep others from changing a tenant's limits and account until the transaction ends (SQLite has one writer anyway)."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(tenant.c.id).where(tenant.c.id == tenant_id).with_for_update(key_share=True))


def all_limits(conn: Connection) -> dict[str, tuple[Limit, ...]]:
    """Return the limits of every tenant that has some."""
    found: dict[str, list[Limit]] = {}
    order = (tenant_limit.c.tenant_id, tenant_limit.c.resource, tenant_limit.c.per)
    for row in conn.execute(sa.select(tenant_limit).order_by(*order)):
        found.setdefault(row.tenant_id, []).append(_limit(row))
    return {tenant_id: tuple(limits) for tenant_id, limits in found.items()}


def _limit(row: Row[Any]) -> Limit:
    return Limit(resource=Resource(row.resource), amount=row.amount, per=Per(row.per))


def limits_of(conn: Connection, tenant_id: str) -> tuple[Limit, ...]:
    """Return a tenant's limits."""
    rows = conn.execute(sa.select(tenant_limit).where(tenant_limit.c.tenant_id == tenant_id))
    found = [_limit(row) for row in rows]
    return tuple(sorted(found, key=lambda limit: (list(Resource).index(limit.resource), list(Per).index(limit.per))))


def put_limits(conn: Connection, tenant_id: str, wanted: Iterable[Limit]) -> None:
    """Set a tenant's limits, in place of all that it had; lock it first."""
    conn.execute(sa.delete(tenant_limit).where(tenant_limit.c.tenant_id == tenant_id))
    rows = [{"tenant_id": tenant_id, "resource": limit.resource.value, "per": limit.per.value, "amount": limit.amount} for limit in wanted]
    if rows:
        conn.execute(sa.insert(tenant_limit), rows)
    bump_version(conn)


def accounts(conn: Connection) -> dict[str, Account]:
    """Return the accounts of the tenants that pay or have paid."""
    columns = tenant.c
    statement = sa.select(columns.id, columns.price_micros, columns.balance_micros)
    rows = conn.execute(statement.where(sa.or_(columns.price_micros != 0, columns.balance_micros.is_not(None))))
    return {tenant_id: Account(price, balance) for tenant_id, price, balance in rows}


def account(conn: Connection, tenant_id: str) -> Account:
    """
    Return a tenant's account.

    Raises:
        sqlalchemy.exc.NoResultFound: There is no such tenant.
    """
    statement = sa.select(tenant.c.price_micros, tenant.c.balance_micros).where(tenant.c.id == tenant_id)
    return Account(*conn.execute(statement).one())


def set_price(conn: Connection, tenant_id: str, price_micros: int) -> None:
    """Set what 1,000 recipients cost a tenant."""
    conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(price_micros=price_micros))
    bump_version(conn)


def add_to_balance(conn: Connection, tenant_id: str, micros: int, note: str, actor_id: str, now: Instant) -> None:
    """Add to a balance, or take off it; the first time makes the tenant prepaid."""
    balance = sa.func.coalesce(tenant.c.balance_micros, 0) + micros
    conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(balance_micros=balance))
    entry = {"id": ids.new("bal"), "tenant_id": tenant_id, "at": now, "micros": micros, "note": note, "actor_id": actor_id}
    conn.execute(sa.insert(balance_entry), [entry])
    bump_version(conn)


def end_prepaid(conn: Connection, tenant_id: str) -> None:
    """Let a tenant send without a balance; what was left of it is forgotten."""
    conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(balance_micros=None))
    bump_version(conn)


def entries(conn: Connection, tenant_id: str, limit: int) -> list[BalanceEntry]:
    """List what was added to a balance, the newest first."""
    statement = sa.select(balance_entry).where(balance_entry.c.tenant_id == tenant_id).order_by(balance_entry.c.id.desc()).limit(limit)
    return [BalanceEntry(*row) for row in conn.execute(statement)]


def locked_balances(conn: Connection, tenant_ids: Iterable[str]) -> dict[str, int]:
    """Read balances so that nobody else takes of them until the transaction ends; a tenant that is not prepaid has none."""
    statement = sa.select(tenant.c.id, tenant.c.balance_micros).where(tenant.c.id.in_(sorted(tenant_ids))).order_by(tenant.c.id)
    if conn.dialect.name == "postgresql":
        statement = statement.with_for_update(key_share=True)
    return {tenant_id: balance for tenant_id, balance in conn.execute(statement) if balance is not None}


def take_of_balances(conn: Connection, spent: Mapping[str, int]) -> None:
    """Take off balances what was spent; they are locked."""
    for tenant_id, micros in sorted(spent.items()):
        if micros:
            changed = sa.update(tenant).where(tenant.c.id == tenant_id, tenant.c.balance_micros.is_not(None))
            conn.execute(changed.values(balance_micros=tenant.c.balance_micros - micros))
