"""Tenants with their domains and DKIM keys; and the version number by which other processes see a change of configuration."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import DEFAULT_TENANT, DkimKey, Domain, DomainStatus, Tenant
from gatepost.observe import maillog
from gatepost.store import audit, sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import config_version, dkim_key, domain, domain_health, tenant


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
    # the log's first entry: a store without any was emptied
    made = audit.Change(action="tenant.created", object_id=tenant_id, tenant_id=tenant_id, after={"name": DEFAULT_TENANT})
    audit.append(conn, GATEWAY, made, now)
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
    """Suspend or resume a tenant; return whether it was not so before."""
    was_so = tenant.c.suspended_at.is_not(None) if suspended_at is not None else tenant.c.suspended_at.is_(None)
    changed = conn.execute(sa.update(tenant).where(tenant.c.id == tenant_id, sa.not_(was_so)).values(suspended_at=suspended_at)).rowcount
    bump_version(conn)
    return bool(changed)


_FACTS = (tenant.c.id, tenant.c.name, tenant.c.created_at, tenant.c.suspended_at)


def all_tenants(conn: Connection) -> list[Tenant]:
    """List tenants, the oldest first."""
    return [Tenant(**row) for row in conn.execute(sa.select(*_FACTS).order_by(tenant.c.id)).mappings()]


def suspended(conn: Connection) -> frozenset[str]:
    """Return the ids of the tenants whose mail is held; by one look into an index, for every look at the queue asks."""
    return frozenset(conn.execute(sa.select(tenant.c.id).where(tenant.c.suspended_at > 0)).scalars())


def find_tenant(conn: Connection, wanted: str) -> Tenant | None:
    """Find a tenant by id or by name."""
    for column in (tenant.c.id, tenant.c.name):
        row = conn.execute(sa.select(*_FACTS).where(column == wanted)).mappings().one_or_none()
        if row is not None:
            return Tenant(**row)
    return None


def named(conn: Connection, wanted: str) -> Tenant:
    """
    Return a tenant by id or by name.

    Raises:
        Refused: not_found.
    """
    found = find_tenant(conn, wanted)
    if found is None:
        raise Refused("not_found", f"there is no tenant {wanted[:80]}")
    return found


def by_name(conn: Connection, name: str) -> str | None:
    """Return the id of the tenant with a name."""
    return conn.execute(sa.select(tenant.c.id).where(tenant.c.name == name)).scalar_one_or_none()


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
    """Remove a domain with its DKIM keys, and what is known of its health."""
    conn.execute(sa.delete(dkim_key).where(dkim_key.c.domain_id == domain_id))
    conn.execute(sa.delete(domain_health).where(domain_health.c.domain_id == domain_id))
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


def domains_named(conn: Connection, name: str, *, is_locking: bool = False) -> list[Domain]:
    """
    List every tenant's domain of one name.

    Args:
        is_locking: Keep them from other writers until the transaction ends (SQLite has one writer anyway).
    """
    statement = sa.select(domain).where(domain.c.name == name).order_by(domain.c.id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    return [_domain(row) for row in conn.execute(statement)]


def selectors_of(conn: Connection, name: str) -> list[str]:
    """List the selectors that are in use for a domain's name, whosever keys they are."""
    joined = dkim_key.join(domain, domain.c.id == dkim_key.c.domain_id)
    return list(conn.execute(sa.select(dkim_key.c.selector).select_from(joined).where(domain.c.name == name)).scalars())


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
    owners = _owners(conn, [key.domain_id for key in added])
    rows = []
    for key in added:
        private = key.private_pem.encode()
        sealed = sealing.seal(conn, private, tenant_id=owners[key.domain_id], place=f"dkim_key/{key.id}", at=key.created_at)
        rows.append({**{name: getattr(key, name) for name in _DKIM}, "private_sealed": sealed})
    conn.execute(sa.insert(dkim_key), rows)
    bump_version(conn)


_DKIM = ("id", "domain_id", "selector", "algorithm", "public", "status", "created_at")


def _owners(conn: Connection, domain_ids: Sequence[str]) -> dict[str, str]:
    """Map domains to their tenants."""
    return {row.id: row.tenant_id for row in conn.execute(sa.select(domain.c.id, domain.c.tenant_id).where(domain.c.id.in_(domain_ids)))}


def activate_dkim_keys(conn: Connection, key_ids: Sequence[str]) -> None:
    """Let keys sign: their records are published."""
    conn.execute(sa.update(dkim_key).where(dkim_key.c.id.in_(key_ids)).values(status="active"))
    bump_version(conn)


def retire_dkim_keys(conn: Connection, key_ids: Sequence[str]) -> None:
    """Let keys sign no more; their records stay to be published."""
    conn.execute(sa.update(dkim_key).where(dkim_key.c.id.in_(key_ids)).values(status="retired"))
    bump_version(conn)


def dkim_keys(conn: Connection, domain_ids: Sequence[str]) -> list[DkimKey]:
    """List the keys of some domains, the oldest first; one that cannot be opened has an empty `private_pem`."""
    joined = sa.select(dkim_key, domain.c.tenant_id).join(domain, domain.c.id == dkim_key.c.domain_id)
    statement = joined.where(dkim_key.c.domain_id.in_(domain_ids)).order_by(dkim_key.c.id)
    return [_dkim_key(conn, row) for row in conn.execute(statement)]


def _dkim_key(conn: Connection, row: Row[Any]) -> DkimKey:
    try:
        private = sealing.unseal(conn, row.private_sealed, tenant_id=row.tenant_id, place=f"dkim_key/{row.id}").decode()
    except SealBroken as error:  # one domain's mail waits for it, all others' goes on
        maillog.trouble("a DKIM key cannot be opened", error=str(error), domain_id=row.domain_id)
        private = ""
    return DkimKey(**{name: getattr(row, name) for name in _DKIM}, private_pem=private)
