"""Tenants with their API keys, domains and DKIM keys; and the version number by which other processes see a change."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.access import Limit, Scope
from gatepost.domain.tenant import DEFAULT_TENANT, ApiKey, DkimKey, Domain, DomainStatus, KeyMode, Network, Tenant
from gatepost.store.schema import api_key, config_version, dkim_key, domain, tenant


def version(conn: Connection) -> int:
    """Return the number that every change of configuration counts up."""
    return int(conn.execute(sa.select(config_version.c.version)).scalar_one())


def bump_version(conn: Connection) -> None:
    """Tell other processes, which look every second, that something changed."""
    conn.execute(sa.update(config_version).values(version=config_version.c.version + 1))


def ensure_default(conn: Connection, now: Instant) -> str:
    """Make the default tenant at the first start; return its id."""
    found = by_name(conn, DEFAULT_TENANT)
    if found is not None:
        return found
    tenant_id = ids.new("ten")
    insert_tenant(conn, Tenant(id=tenant_id, name=DEFAULT_TENANT, created_at=now))
    return tenant_id


def insert_tenant(conn: Connection, added: Tenant) -> None:
    """
    Add a tenant.

    Raises:
        sqlalchemy.exc.IntegrityError: There is one with this name already.
    """
    row = {
        "id": added.id, "name": added.name, "created_at": added.created_at, "suspended_at": None, "policy": {}, "price_micros": 0,
        "balance_micros": None,
    }  # fmt: skip
    conn.execute(sa.insert(tenant), [row])
    bump_version(conn)


def set_suspended(conn: Connection, tenant_id: str, suspended_at: Instant | None) -> bool:
    """Suspend or resume a tenant; return whether there is such a tenant."""
    changed = conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(suspended_at=suspended_at)).rowcount
    bump_version(conn)
    return bool(changed)


def all_tenants(conn: Connection) -> list[Tenant]:
    """List tenants, the oldest first."""
    columns = (tenant.c.id, tenant.c.name, tenant.c.created_at, tenant.c.suspended_at)
    return [Tenant(**row) for row in conn.execute(sa.select(*columns).order_by(tenant.c.id)).mappings()]


def find_tenant(conn: Connection, wanted: str) -> Tenant | None:
    """Find a tenant by id or by name."""
    return next((found for found in all_tenants(conn) if wanted in {found.id, found.name}), None)


def by_name(conn: Connection, name: str) -> str | None:
    """Return the id of the tenant with a name."""
    return conn.execute(sa.select(tenant.c.id).where(tenant.c.name == name)).scalar_one_or_none()


def insert_key(conn: Connection, key: ApiKey, secret_hash: bytes) -> None:
    """Store a key's facts and the hash of its secret."""
    row = {
        "id": key.id, "tenant_id": key.tenant_id, "name": key.name, "mode": key.mode.value, "secret_hash": secret_hash, "hint": key.hint,
        "trust_networks": _texts(key.trust_networks), "scopes": _texts(key.scopes), "domains": _texts(key.domains),
        "streams": _texts(key.streams), "networks": _texts(key.networks), "limits": [msgspec.to_builtins(limit) for limit in key.limits],
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": None,
    }  # fmt: skip
    conn.execute(sa.insert(api_key), [row])
    bump_version(conn)


def revoke_key(conn: Connection, tenant_id: str, key_id: str, now: Instant) -> bool:
    """Revoke a key; return whether there is such a key."""
    same = sa.and_(api_key.c.id == key_id, api_key.c.tenant_id == tenant_id)
    if conn.execute(sa.select(api_key.c.id).where(same)).first() is None:
        return False
    conn.execute(sa.update(api_key).where(same, api_key.c.revoked_at.is_(None)).values(revoked_at=now))
    bump_version(conn)
    return True


def keys(conn: Connection, tenant_id: str | None = None) -> list[tuple[ApiKey, bytes]]:
    """List keys, the oldest first, each with the hash of its secret."""
    statement = sa.select(api_key).order_by(api_key.c.id)
    if tenant_id is not None:
        statement = statement.where(api_key.c.tenant_id == tenant_id)
    return [(_key(row), bytes(row.secret_hash)) for row in conn.execute(statement)]


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        mode=KeyMode(row.mode),
        hint=row.hint,
        created_at=row.created_at,
        trust_networks=tuple(_network(text) for text in row.trust_networks),
        revoked_at=row.revoked_at,
        scopes=frozenset(Scope(text) for text in row.scopes),
        domains=frozenset(row.domains),
        streams=frozenset(row.streams),
        networks=tuple(_network(text) for text in row.networks),
        limits=tuple(msgspec.convert(limit, Limit) for limit in row.limits),
        expires_at=row.expires_at,
    )


def _texts(values: Iterable[Any]) -> list[str]:
    return sorted(str(value) for value in values)


def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def insert_domain(conn: Connection, added: Domain) -> None:
    """
    Add a sender's domain.

    Raises:
        sqlalchemy.exc.IntegrityError: The tenant has it already.
    """
    row = {
        "id": added.id, "tenant_id": added.tenant_id, "name": added.name, "status": added.status.value, "is_trusted": added.is_trusted,
        "created_at": added.created_at, "verified_at": added.verified_at,
    }  # fmt: skip
    conn.execute(sa.insert(domain), [row])
    bump_version(conn)


def set_domain_status(conn: Connection, domain_id: str, status: DomainStatus, now: Instant) -> None:
    """Record the result of a verification."""
    values: dict[str, Any] = {"status": status.value}
    if status is DomainStatus.VERIFIED:
        values["verified_at"] = now
    conn.execute(sa.update(domain).where(domain.c.id == domain_id).values(**values))
    bump_version(conn)


def trust_domain(conn: Connection, domain_id: str, now: Instant) -> None:
    """Record that the operator vouches for a domain."""
    conn.execute(
        sa.update(domain).where(domain.c.id == domain_id).values(is_trusted=True, status=DomainStatus.VERIFIED.value, verified_at=now)
    )
    bump_version(conn)


def remove_domain(conn: Connection, domain_id: str) -> None:
    """Remove a domain with its DKIM keys."""
    conn.execute(sa.delete(dkim_key).where(dkim_key.c.domain_id == domain_id))
    conn.execute(sa.delete(domain).where(domain.c.id == domain_id))
    bump_version(conn)


def domains(conn: Connection, tenant_id: str | None = None) -> list[Domain]:
    """List domains by name."""
    statement = sa.select(domain).order_by(domain.c.name)
    if tenant_id is not None:
        statement = statement.where(domain.c.tenant_id == tenant_id)
    return [_domain(row) for row in conn.execute(statement)]


def find_domain(conn: Connection, tenant_id: str, wanted: str) -> Domain | None:
    """Find a tenant's domain by id or by name."""
    statement = sa.select(domain).where(domain.c.tenant_id == tenant_id, sa.or_(domain.c.id == wanted, domain.c.name == wanted))
    row = conn.execute(statement).one_or_none()
    return None if row is None else _domain(row)


def _domain(row: Row[Any]) -> Domain:
    return Domain(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        status=DomainStatus(row.status),
        is_trusted=row.is_trusted,
        created_at=row.created_at,
        verified_at=row.verified_at,
    )


def insert_dkim_keys(conn: Connection, added: Sequence[DkimKey]) -> None:
    """Add signing keys."""
    fields = ("id", "domain_id", "selector", "algorithm", "private_pem", "public", "status", "created_at")
    conn.execute(sa.insert(dkim_key), [{name: getattr(key, name) for name in fields} for key in added])
    bump_version(conn)


def activate_dkim_keys(conn: Connection, key_ids: Sequence[str]) -> None:
    """Let keys sign: their records are published."""
    conn.execute(sa.update(dkim_key).where(dkim_key.c.id.in_(key_ids)).values(status="active"))
    bump_version(conn)


def retire_dkim_keys(conn: Connection, key_ids: Sequence[str]) -> None:
    """Let keys sign no more; their records stay to be published."""
    conn.execute(sa.update(dkim_key).where(dkim_key.c.id.in_(key_ids)).values(status="retired"))
    bump_version(conn)


def dkim_keys(conn: Connection, domain_ids: Sequence[str]) -> list[DkimKey]:
    """List the keys of some domains, the oldest first."""
    statement = sa.select(dkim_key).where(dkim_key.c.domain_id.in_(domain_ids)).order_by(dkim_key.c.id)
    return [DkimKey(**row) for row in conn.execute(statement).mappings()]
