"""
API keys and OAuth clients: the rows of `api_key` and `oauth_client`, which differ in one column, with the hashes of their secrets.

Every change counts up the version number by which other processes see it.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Table

from gatepost.clock import Instant
from gatepost.domain.access import KeyMode
from gatepost.domain.tenant import ApiKey, Credential, OAuthClient
from gatepost.store import restrictions
from gatepost.store.schema import api_key, oauth_client
from gatepost.store.tenants import bump_version

C = TypeVar("C", bound=Credential)

_TABLES: dict[type[Credential], Table] = {ApiKey: api_key, OAuthClient: oauth_client}
_PLAIN = ("id", "tenant_id", "name", "hint", "created_at", "revoked_at", "previous_until")


@dataclass(frozen=True, slots=True)
class Stored(Generic[C]):
    """A credential with the hashes of its secret and of the one before; None where there is none."""

    credential: C
    secret_hash: bytes | None
    previous_hash: bytes | None


def insert(conn: Connection, one: Credential, secret_hash: bytes | None) -> None:
    """Store a credential's facts and the hash of its secret."""
    row = {name: getattr(one, name) for name in _PLAIN}
    row |= {"mode": one.mode.value, "secret_hash": secret_hash, "previous_hash": None, **_own_columns(one), **restrictions.columns_of(one)}
    conn.execute(sa.insert(_TABLES[type(one)]), [row])
    bump_version(conn)


def update(conn: Connection, one: Credential) -> None:
    """Store a credential's name and restrictions anew."""
    _change(conn, one, {"name": one.name, **restrictions.columns_of(one)})


def replace_secret(conn: Connection, one: Credential, secret_hash: bytes) -> None:
    """Give a credential, as it is from now on, a new secret; the one it had is taken until `previous_until`, an older one no more."""
    had = _TABLES[type(one)].c.secret_hash
    values = {"secret_hash": secret_hash, "hint": one.hint, "previous_hash": had, "previous_until": one.previous_until}
    _change(conn, one, values)


def revoke(conn: Connection, one: Credential, now: Instant) -> None:
    """Revoke a credential; a client's tokens end with it."""
    _change(conn, one, {"revoked_at": now})


def find(conn: Connection, kind: type[C], tenant_id: str, identity: str, *, is_locking: bool = False) -> C | None:
    """
    Find a tenant's credential by id.

    Args:
        is_locking: Keep it from other writers until the transaction ends (SQLite has one writer anyway).
    """
    table = _TABLES[kind]
    statement = sa.select(table).where(table.c.id == identity, table.c.tenant_id == tenant_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else _read(kind, row)


def tenant_of(conn: Connection, kind: type[Credential], identity: str) -> str | None:
    """Return the id of the tenant that a credential belongs to."""
    table = _TABLES[kind]
    return conn.execute(sa.select(table.c.tenant_id).where(table.c.id == identity)).scalar_one_or_none()


def of_tenant(conn: Connection, kind: type[C], tenant_id: str) -> list[C]:
    """List a tenant's credentials, revoked ones too, the oldest first."""
    table = _TABLES[kind]
    return [_read(kind, row) for row in conn.execute(sa.select(table).where(table.c.tenant_id == tenant_id).order_by(table.c.id))]


def valid(conn: Connection, kind: type[C]) -> list[Stored[C]]:
    """List the credentials of all tenants that are not revoked."""
    table = _TABLES[kind]
    rows = conn.execute(sa.select(table).where(table.c.revoked_at.is_(None)).order_by(table.c.id))
    return [Stored(_read(kind, row), _bytes(row.secret_hash), _bytes(row.previous_hash)) for row in rows]


def _change(conn: Connection, one: Credential, values: dict[str, Any]) -> None:
    table = _TABLES[type(one)]
    conn.execute(sa.update(table).where(table.c.id == one.id).values(**values))
    bump_version(conn)


def _own_columns(one: Credential) -> dict[str, Any]:
    """Write the column that only this kind has."""
    if isinstance(one, ApiKey):
        return {"trust_networks": restrictions.texts(one.trust_networks)}
    return {"jwks": one.jwks} if isinstance(one, OAuthClient) else {}


def _read(kind: type[C], row: Row[Any]) -> C:
    fields = {name: getattr(row, name) for name in _PLAIN}
    own = {"trust_networks": restrictions.networks_of(row.trust_networks)} if kind is ApiKey else {"jwks": row.jwks}
    return kind(**fields, mode=KeyMode(row.mode), **own, **restrictions.fields_of(row))


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
