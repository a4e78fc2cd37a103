"""What tenants changed of the gateway's policy on content and recipients."""

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.store import tenants
from gatepost.store.schema import tenant


def every(conn: Connection) -> dict[str, dict[str, str]]:
    """Return the values of all tenants that have some, by the tenant's id."""
    rows = conn.execute(sa.select(tenant.c.id, tenant.c.policy))
    return {row.id: row.policy for row in rows if row.policy}


def read(conn: Connection, tenant_id: str, *, is_locking: bool = False) -> dict[str, str] | None:
    """
    Return one tenant's values; None where there is no such tenant.

    Args:
        is_locking: Nobody else changes them until the transaction ends.
    """
    statement = sa.select(tenant.c.policy).where(tenant.c.id == tenant_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else dict(row.policy)


def write(conn: Connection, tenant_id: str, values: dict[str, str]) -> None:
    """Replace one tenant's values."""
    conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(policy=values))
    tenants.bump_version(conn)
