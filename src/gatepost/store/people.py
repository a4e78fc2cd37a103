"""
People, their roles in tenants, their passkeys, and how OpenID providers know them.

E-mail address, name and TOTP secret are sealed; a person is found by the keyed hash of the address.
"""

import base64
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.domain.access import Role
from gatepost.domain.person import Membership, Passkey, Person
from gatepost.store import sealing
from gatepost.store.schema import membership, passkey, person, person_identity, tenant


class _Private(msgspec.Struct, frozen=True):
    """What is sealed of a person."""

    email: str
    name: str
    totp: str = ""


def email_hash(conn: Connection, email_key: str) -> str:
    """
    Return what stands for an address in the tables.

    Args:
        email_key: `Address.key`, so that one mailbox is one person.
    """
    return sealing.keyed_hash(conn, email_key)


def insert(conn: Connection, added: Person, email_key: str) -> None:
    """
    Add a person.

    Raises:
        sqlalchemy.exc.IntegrityError: There is one with this address already.
    """
    row = {"id": added.id, "email_hash": email_hash(conn, email_key), "is_operator": added.is_operator, "created_at": added.created_at}
    conn.execute(sa.insert(person), [row | _changing(conn, added)])


def update(conn: Connection, changed: Person) -> None:
    """Store a person's present state; address and id stay."""
    conn.execute(sa.update(person).where(person.c.id == changed.id).values(**_changing(conn, changed), is_operator=changed.is_operator))


def _changing(conn: Connection, one: Person) -> dict[str, Any]:
    private = msgspec.json.encode(_Private(email=one.email, name=one.name, totp=one.totp_secret))
    return {
        # always under the key of the person's first day: changes make no more keys
        "sealed": sealing.seal(conn, private, tenant_id=sealing.GATEWAY, place=_place(one.id), at=one.created_at),
        "password_hash": one.password_hash,
        "has_totp": one.has_totp,
        "recovery_hashes": list(one.recovery_hashes),
        "totp_used_at": one.totp_used_at,
        "disabled_at": one.disabled_at,
    }


def _place(person_id: str) -> str:
    return f"person.sealed/{person_id}"


def get(conn: Connection, person_id: str, *, is_locking: bool = False) -> Person | None:
    """
    Return a person.

    Args:
        is_locking: Keep others from changing it until the transaction ends.
    """
    return _one(conn, person.c.id == person_id, is_locking=is_locking)


def by_email(conn: Connection, email_key: str, *, is_locking: bool = False) -> Person | None:
    """Find a person by address."""
    return _one(conn, person.c.email_hash == email_hash(conn, email_key), is_locking=is_locking)


def exist(conn: Connection) -> bool:
    """Tell whether anybody has been set up."""
    return conn.execute(sa.select(person.c.id).limit(1)).first() is not None


def all_people(conn: Connection) -> list[Person]:
    """List everybody, the oldest first."""
    return [_person(conn, row) for row in conn.execute(sa.select(person).order_by(person.c.id))]


def of_tenant(conn: Connection, tenant_id: str) -> list[tuple[Person, Membership]]:
    """List a tenant's people with their memberships, the oldest person first."""
    statement = (
        sa.select(person, membership.c.role, membership.c.created_at.label("since"))
        .join(membership, membership.c.person_id == person.c.id)
        .where(membership.c.tenant_id == tenant_id)
        .order_by(person.c.id)
    )
    return [
        (_person(conn, row), Membership(person_id=row.id, tenant_id=tenant_id, role=Role(row.role), created_at=row.since))
        for row in conn.execute(statement)
    ]


def take_totp_step(conn: Connection, person_id: str, step: int) -> bool:
    """Use up the code of a time step; return False when it, or a later one, was used before (RFC 6238 §5.2)."""
    is_new = sa.or_(person.c.totp_used_at.is_(None), person.c.totp_used_at < step)
    return bool(conn.execute(sa.update(person).where(person.c.id == person_id, is_new).values(totp_used_at=step)).rowcount)


def set_password_hash(conn: Connection, person_id: str, old: str, new: str) -> None:
    """Exchange a password's hash for one with newer parameters, unless it was changed meanwhile."""
    conn.execute(sa.update(person).where(person.c.id == person_id, person.c.password_hash == old).values(password_hash=new))


def roles_of(conn: Connection, person_id: str) -> dict[str, tuple[Role, str]]:
    """Return a person's role and the tenant's name, by tenant, the oldest tenant first."""
    statement = (
        sa.select(membership.c.tenant_id, membership.c.role, tenant.c.name)
        .join(tenant, tenant.c.id == membership.c.tenant_id)
        .where(membership.c.person_id == person_id)
        .order_by(membership.c.tenant_id)
    )
    return {row.tenant_id: (Role(row.role), row.name) for row in conn.execute(statement)}


def role_in(conn: Connection, person_id: str, tenant_id: str) -> Role | None:
    """Return a person's role in a tenant."""
    found = conn.execute(_role(person_id, tenant_id)).scalar_one_or_none()
    return None if found is None else Role(found)


def _role(person_id: str, tenant_id: str) -> sa.Select[tuple[Any]]:
    return sa.select(membership.c.role).where(membership.c.person_id == person_id, membership.c.tenant_id == tenant_id)


def active_owners(conn: Connection, tenant_id: str) -> list[str]:
    """
    List a tenant's owners who can sign in, and keep others from changing that until the transaction ends.

    Two owners who demote each other at the same moment would otherwise leave none.
    """
    owners = sa.select(membership.c.person_id).where(membership.c.tenant_id == tenant_id, membership.c.role == Role.OWNER.value)
    if conn.dialect.name == "postgresql":
        owners = owners.with_for_update()
    found = list(conn.execute(owners).scalars())
    active = sa.select(person.c.id).where(person.c.id.in_(found), person.c.disabled_at.is_(None))
    return list(conn.execute(active).scalars())


def put_membership(conn: Connection, added: Membership) -> None:
    """Give a person a role in a tenant, or another one."""
    same = sa.and_(membership.c.person_id == added.person_id, membership.c.tenant_id == added.tenant_id)
    if conn.execute(sa.update(membership).where(same).values(role=added.role.value)).rowcount:
        return
    row = {"person_id": added.person_id, "tenant_id": added.tenant_id, "role": added.role.value, "created_at": added.created_at}
    conn.execute(sa.insert(membership), [row])


def remove_membership(conn: Connection, person_id: str, tenant_id: str) -> None:
    """Take a person out of a tenant."""
    conn.execute(sa.delete(membership).where(membership.c.person_id == person_id, membership.c.tenant_id == tenant_id))


def person_of_identity(conn: Connection, issuer: str, subject: str) -> str | None:
    """Return whom an OpenID provider means by a subject."""
    same = sa.and_(person_identity.c.issuer == issuer, person_identity.c.subject == subject)
    return conn.execute(sa.select(person_identity.c.person_id).where(same)).scalar_one_or_none()


def insert_identity(conn: Connection, issuer: str, subject: str, person_id: str, now: Instant) -> None:
    """Remember whom an OpenID provider means by a subject."""
    row = {"issuer": issuer, "subject": subject, "person_id": person_id, "created_at": now}
    conn.execute(sa.insert(person_identity), [row])


def issuers_of(conn: Connection, person_id: str) -> list[str]:
    """List the OpenID providers that a person has signed in with."""
    return list(conn.execute(sa.select(person_identity.c.issuer).where(person_identity.c.person_id == person_id)).scalars())


def insert_passkey(conn: Connection, added: Passkey) -> None:
    """
    Add a passkey.

    Raises:
        sqlalchemy.exc.IntegrityError: It is known already.
    """
    fields = ("id", "person_id", "name", "public_key", "sign_count", "created_at", "used_at")
    conn.execute(sa.insert(passkey), [{name: getattr(added, name) for name in fields}])


def passkeys_of(conn: Connection, person_id: str) -> list[Passkey]:
    """List a person's passkeys, the oldest first."""
    statement = sa.select(passkey).where(passkey.c.person_id == person_id).order_by(passkey.c.created_at, passkey.c.id)
    return [_passkey(row) for row in conn.execute(statement)]


def find_passkey(conn: Connection, passkey_id: str, *, is_locking: bool = False) -> Passkey | None:
    """Return a passkey by its credential id."""
    statement = sa.select(passkey).where(passkey.c.id == passkey_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else _passkey(row)


def use_passkey(conn: Connection, passkey_id: str, sign_count: int, now: Instant) -> None:
    """Note that a passkey signed."""
    conn.execute(sa.update(passkey).where(passkey.c.id == passkey_id).values(sign_count=sign_count, used_at=now))


def remove_passkey(conn: Connection, person_id: str, passkey_id: str) -> bool:
    """Forget a passkey; return whether the person had it."""
    return bool(conn.execute(sa.delete(passkey).where(passkey.c.id == passkey_id, passkey.c.person_id == person_id)).rowcount)


def count_passkeys(conn: Connection, person_ids: list[str]) -> dict[str, int]:
    """Count the passkeys of some people; who has none is left out."""
    statement = sa.select(passkey.c.person_id, sa.func.count()).where(passkey.c.person_id.in_(person_ids)).group_by(passkey.c.person_id)
    return {person_id: int(count) for person_id, count in conn.execute(statement)}


def _one(conn: Connection, condition: sa.ColumnElement[bool], *, is_locking: bool) -> Person | None:
    statement = sa.select(person).where(condition)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else _person(conn, row)


def _person(conn: Connection, row: Row[Any]) -> Person:
    opened = sealing.unseal(conn, bytes(row.sealed), tenant_id=sealing.GATEWAY, place=_place(row.id))
    private = msgspec.json.decode(opened, type=_Private)
    return Person(
        id=row.id,
        email=private.email,
        name=private.name,
        is_operator=row.is_operator,
        password_hash=row.password_hash,
        totp_secret=private.totp,
        totp_used_at=row.totp_used_at,
        recovery_hashes=tuple(row.recovery_hashes),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )


def _passkey(row: Row[Any]) -> Passkey:
    return Passkey(
        id=row.id,
        person_id=row.person_id,
        name=row.name,
        public_key=bytes(row.public_key),
        sign_count=int(row.sign_count),
        created_at=row.created_at,
        used_at=row.used_at,
    )


def bytes_of(passkey_id: str) -> bytes:
    """Return a credential id as the authenticator knows it."""
    return base64.urlsafe_b64decode(passkey_id + "=" * (-len(passkey_id) % 4))
