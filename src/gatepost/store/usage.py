"""What was accepted, by tenant, day, route and node: counted in the transaction that accepts it, so it is never off by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.store import bulk
from gatepost.store.schema import usage


class Where(NamedTuple):
    """The row that usage is counted in."""

    tenant_id: str
    day: str
    route: str
    node: str


@dataclass(slots=True)
class Used:
    """Amounts of one row; recipients are those that mail was queued for."""

    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    cost_micros: int = 0


_AMOUNTS = ("messages", "recipients", "bytes", "cost_micros")


def count(conn: Connection, used: Mapping[Where, Used]) -> None:
    """Add to the rows of usage."""
    if not used:
        return
    rows = [
        {**where._asdict(), "messages": one.messages, "recipients": one.recipients, "bytes": one.bytes, "cost_micros": one.cost_micros}
        for where, one in sorted(used.items(), key=lambda item: item[0])
    ]
    bulk.execute(conn, _adding(conn.dialect.name), rows)


@cache  # making such a statement costs a hundred times what running it does
def _adding(dialect: str) -> Any:
    statement: Any = postgresql.insert(usage) if dialect == "postgresql" else sqlite.insert(usage)
    more = {name: usage.c[name] + statement.excluded[name] for name in _AMOUNTS}
    return statement.on_conflict_do_update(index_elements=list(Where._fields), set_=more)


def by_day(conn: Connection, first: str, last: str, tenant_id: str | None = None) -> list[Row[Any]]:
    """
    Sum up usage by day, tenant and route, in this order.

    Args:
        first: The first day, such as `2026-11-01`.
        last: The last day; it counts.
        tenant_id: Whose; None is everybody's.
    """
    key = (usage.c.day, usage.c.tenant_id, usage.c.route)
    sums = [sa.cast(sa.func.sum(usage.c[name]), sa.BigInteger).label(name) for name in _AMOUNTS]
    statement = sa.select(*key, *sums).where(usage.c.day >= first, usage.c.day <= last).group_by(*key).order_by(*key)
    if tenant_id is not None:
        statement = statement.where(usage.c.tenant_id == tenant_id)
    return list(conn.execute(statement).all())
