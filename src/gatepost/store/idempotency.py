"""
Idempotency keys: which requests were answered already, and how (IETF draft-ietf-httpapi-idempotency-key-header).

A key may be a word that can be guessed, and the hash of a request would let one try out codes: the key stands as a keyed
hash, the request's hash is sealed with the answer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store import sealing
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

    Raises:
        SealBroken: An answer was altered.
    """
    if not keys:
        return {}
    columns = idempotency.c
    asked = {_hidden(conn, key): key for key in keys}
    wanted = sa.tuple_(columns.tenant_id, columns.key_hash).in_(list(asked))
    statement = sa.select(columns.tenant_id, columns.key_hash, columns.sealed).where(wanted, columns.expires_at > now)
    found = {}
    for tenant_id, key_hash, sealed in conn.execute(statement):
        opened = sealing.unseal(conn, sealed, tenant_id=tenant_id, place=_place(key_hash))
        found[asked[tenant_id, bytes(key_hash)]] = Answered(*msgspec.msgpack.decode(opened))
    return found


def _hidden(conn: Connection, key: tuple[str, bytes]) -> tuple[str, bytes]:
    return key[0], sealing.keyring_of(conn).hash(conn, key[1])


def _place(key_hash: bytes) -> str:
    return f"idempotency/{bytes(key_hash).hex()}"


def insert(conn: Connection, rows: Sequence[dict[str, Any]], now: Instant) -> None:
    """
    Record answers, in place of expired ones.

    Args:
        rows: `tenant_id`, `key_hash`, `request_hash` (SHA-256 both), `response` and `expires_at`.

    Raises:
        sqlalchemy.exc.IntegrityError: Another transaction recorded one of the keys meanwhile.
    """
    if not rows:
        return
    keys = [_hidden(conn, (row["tenant_id"], row["key_hash"])) for row in rows]
    conn.execute(
        sa.delete(idempotency).where(sa.tuple_(idempotency.c.tenant_id, idempotency.c.key_hash).in_(keys), idempotency.c.expires_at <= now)
    )
    conn.execute(sa.insert(idempotency), [_sealed(conn, row, key[1], now) for row, key in zip(rows, keys, strict=True)])


def _sealed(conn: Connection, row: dict[str, Any], key_hash: bytes, now: Instant) -> dict[str, Any]:
    tenant_id, answered = row["tenant_id"], msgspec.msgpack.encode((row["request_hash"], row["response"]))
    sealed = sealing.seal(conn, answered, tenant_id=tenant_id, place=_place(key_hash), at=now)
    return {"tenant_id": tenant_id, "key_hash": key_hash, "sealed": sealed, "expires_at": row["expires_at"]}


def purge(conn: Connection, now: Instant) -> int:
    """Forget expired keys; return how many."""
    return conn.execute(sa.delete(idempotency).where(idempotency.c.expires_at <= now)).rowcount
