"""
What signs access tokens, and which ones are not taken any more.

`token_key` holds signing keys, the private part sealed; `spent_token` the ids of tokens that were revoked and of what is
taken once (assertions, tickets of a sign-in), until they would have ended anyway.
Not here: when a key is exchanged, how a token looks (tenants.tokens).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store import sealing
from gatepost.store.schema import config_version, spent_token, token_key

REVOKED = "tok_"
"""How the id of every access token begins; ids of what is taken once begin otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """
    A signing key's public part.

    Attributes:
        public_jwk: RFC 7517.
        expires_at: From then on nothing verifies with it.
    """

    id: str
    algorithm: str
    public_jwk: Mapping[str, Any]
    created_at: Instant
    expires_at: Instant


def keys(conn: Connection, now: Instant) -> list[TokenKey]:
    """List the keys that verify tokens now, the newest first."""
    columns = (token_key.c.id, token_key.c.algorithm, token_key.c.public_jwk, token_key.c.created_at, token_key.c.expires_at)
    statement = sa.select(*columns).where(token_key.c.expires_at > now).order_by(token_key.c.created_at.desc(), token_key.c.id.desc())
    return [TokenKey(**row) for row in conn.execute(statement).mappings()]


def add_key_if_due(conn: Connection, key: TokenKey, private: bytes, due_before: Instant) -> bool:
    """
    Add a signing key, unless another process just did; return whether it was added.

    Args:
        private: Sealed before it is stored.
        due_before: A new key is due when the newest one was made by then.
    """
    _wait_for_others(conn)
    newest = conn.execute(sa.select(sa.func.max(token_key.c.created_at))).scalar_one()
    if newest is not None and newest > due_before:
        return False
    row = {
        "id": key.id, "algorithm": key.algorithm, "public_jwk": key.public_jwk, "created_at": key.created_at,
        "expires_at": key.expires_at,
        "private_sealed": sealing.seal(conn, private, tenant_id=sealing.GATEWAY, place=_place(key.id), at=key.created_at),
    }  # fmt: skip
    conn.execute(sa.insert(token_key), [row])
    return True


def private_of(conn: Connection, key_id: str) -> bytes | None:
    """
    Return a key's private part.

    Raises:
        SealBroken: It cannot be opened.
    """
    sealed = conn.execute(sa.select(token_key.c.private_sealed).where(token_key.c.id == key_id)).scalar_one_or_none()
    return None if sealed is None else sealing.unseal(conn, bytes(sealed), tenant_id=sealing.GATEWAY, place=_place(key_id))


def revoked(conn: Connection, now: Instant) -> frozenset[str]:
    """Return the ids of the access tokens that were revoked and would not have ended yet."""
    columns = spent_token.c
    # "`" follows "_" in ASCII: the primary key finds the range
    statement = sa.select(columns.jti).where(columns.jti >= REVOKED, columns.jti < "tok`", columns.expires_at > now)
    return frozenset(conn.execute(statement).scalars())


def spend(conn: Connection, jti: str, expires_at: Instant) -> bool:
    """Remember that an id is not taken any more; return False when it was spent before: of two at the same moment one wins."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    added = insert(spent_token).values(jti=jti, expires_at=expires_at).on_conflict_do_nothing()
    return bool(conn.execute(added).rowcount)


def purge(conn: Connection, now: Instant) -> None:
    """Forget keys and ids that nobody can use any more."""
    conn.execute(sa.delete(spent_token).where(spent_token.c.expires_at <= now))
    conn.execute(sa.delete(token_key).where(token_key.c.expires_at <= now))


def _place(key_id: str) -> str:
    return f"token_key.private_sealed/{key_id}"


def _wait_for_others(conn: Connection) -> None:
    """Let one process at a time decide; on SQLite there is one writer anyway."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(config_version.c.id).with_for_update())
