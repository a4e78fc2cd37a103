"""OAuth clients: the rows of `oauth_client`, with the hashes of their secrets."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.domain.tenant import KeyMode, OAuthClient
from gatepost.store import restrictions
from gatepost.store.schema import oauth_client
from gatepost.store.tenants import bump_version


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client with the hashes of its secret and of the one before; None where there is none."""

    client: OAuthClient
    secret_hash: bytes | None
    previous_hash: bytes | None


def insert(conn: Connection, client: OAuthClient, secret_hash: bytes | None) -> None:
    """Store a client's facts and the hash of its secret."""
    row = {
        "id": client.id, "tenant_id": client.tenant_id, "name": client.name, "mode": client.mode.value, "secret_hash": secret_hash,
        "previous_hash": None, "previous_until": None, "jwks": client.jwks, "hint": client.hint, **restrictions.columns_of(client),
        "created_at": client.created_at, "revoked_at": None,
    }  # fmt: skip
    conn.execute(sa.insert(oauth_client), [row])
    bump_version(conn)


def revoke(conn: Connection, client_id: str, now: Instant) -> None:
    """Revoke a client, and with it the tokens that it has."""
    conn.execute(sa.update(oauth_client).where(oauth_client.c.id == client_id, oauth_client.c.revoked_at.is_(None)).values(revoked_at=now))
    bump_version(conn)


def replace_secret(conn: Connection, client_id: str, secret_hash: bytes, hint: str, previous_until: Instant) -> None:
    """Give a client a new secret; the one it had is taken until `previous_until`, an older one no more."""
    values = {"secret_hash": secret_hash, "hint": hint, "previous_hash": oauth_client.c.secret_hash, "previous_until": previous_until}
    conn.execute(sa.update(oauth_client).where(oauth_client.c.id == client_id).values(**values))
    bump_version(conn)


def find(conn: Connection, tenant_id: str, client_id: str) -> OAuthClient | None:
    """Find a tenant's client by id."""
    same = sa.and_(oauth_client.c.id == client_id, oauth_client.c.tenant_id == tenant_id)
    row = conn.execute(sa.select(oauth_client).where(same)).one_or_none()
    return None if row is None else _client(row)


def tenant_of(conn: Connection, client_id: str) -> str | None:
    """Return the id of the tenant that a client belongs to."""
    return conn.execute(sa.select(oauth_client.c.tenant_id).where(oauth_client.c.id == client_id)).scalar_one_or_none()


def of_tenant(conn: Connection, tenant_id: str) -> list[OAuthClient]:
    """List a tenant's clients, revoked ones too, the oldest first."""
    statement = sa.select(oauth_client).where(oauth_client.c.tenant_id == tenant_id).order_by(oauth_client.c.id)
    return [_client(row) for row in conn.execute(statement)]


def valid(conn: Connection) -> list[StoredClient]:
    """List the clients of all tenants that are not revoked."""
    statement = sa.select(oauth_client).where(oauth_client.c.revoked_at.is_(None)).order_by(oauth_client.c.id)
    return [StoredClient(_client(row), _bytes(row.secret_hash), _bytes(row.previous_hash)) for row in conn.execute(statement)]


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _client(row: Row[Any]) -> OAuthClient:
    return OAuthClient(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        mode=KeyMode(row.mode),
        hint=row.hint,
        created_at=row.created_at,
        jwks=row.jwks,
        revoked_at=row.revoked_at,
        previous_until=row.previous_until,
        **restrictions.fields_of(row),
    )
