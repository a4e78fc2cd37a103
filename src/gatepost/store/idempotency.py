"""Idempotency keys: which requests were answered already, and how (IETF draft-ietf-httpapi-idempotency-key-header)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store.schema import idempotency


class Answered(NamedTuple):
    """A request that took effect earlier."""

    request_hash: bytes
    response: str


def find(conn: Connection, keys: Sequence[tuple[str, bytes]], now: Instant) -> dict[tuple[str, bytes], Answered]:
    """
    Look up keys that are still valid.

    Args:
        keys: Tenant and hash of the key.
    """
    if not keys:
        return {}
    columns = idempotency.c
    wanted = sa.tuple_(columns.tenant_id, columns.key_hash).in_(keys)
    statement = sa.select(columns.tenant_id, columns.key_hash, columns.request_hash, columns.response).where(
        wanted, columns.expires_at > now
    )
    return {(tenant, bytes(key)): Answered(bytes(request), response) for tenant, key, request, response in conn.execute(statement)}


def insert(conn: Connection, rows: Sequence[dict[str, Any]], now: Instant) -> None:
    """
    Record answers, in place of expired ones.

    Raises:
        sqlalchemy.exc.IntegrityError: Another transaction recorded one of the keys meanwhile.
    """
    if not rows:
        return
    keys = [(row["tenant_id"], row["key_hash"]) for row in rows]
    conn.execute(
        sa.delete(idempotency).where(sa.tuple_(idempotency.c.tenant_id, idempotency.c.key_hash).in_(keys), idempotency.c.expires_at <= now)
    )
    conn.execute(sa.insert(idempotency), rows)


def purge(conn: Connection, now: Instant) -> int:
    """Forget expired keys; return how many."""
    return conn.execute(sa.delete(idempotency).where(idempotency.c.expires_at <= now)).rowcount
