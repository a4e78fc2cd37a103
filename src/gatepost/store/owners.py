"""Whose an object is, by its identifier alone: asked after a 404, so that the log can tell a slip from a reach into another tenant."""

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.store.schema import (
    api_key,
    domain,
    membership,
    message,
    oauth_client,
    placement_test,
    report_subscription,
    suppression,
    webhook,
)

_TABLES = {
    "msg": message, "dom": domain, "key": api_key, "oac": oauth_client, "sup": suppression, "whk": webhook, "plc": placement_test,
    "rps": report_subscription,
}  # fmt: skip


def owners_of(conn: Connection, identity: str) -> frozenset[str]:
    """Return the tenants that an object belongs to: one, several for a person, none when there is no such thing."""
    prefix = identity.partition("_")[0]
    if not ids.is_valid(identity, prefix):
        return frozenset()
    if prefix == "rcp":
        try:
            identity, prefix = ids.recipient_of(identity)[0], "msg"
        except ValueError:
            return frozenset()
    if prefix == "per":
        return frozenset(conn.execute(sa.select(membership.c.tenant_id).where(membership.c.person_id == identity)).scalars())
    table = _TABLES.get(prefix)
    if table is None:
        return frozenset()
    return frozenset(conn.execute(sa.select(table.c.tenant_id).where(table.c.id == identity)).scalars())
