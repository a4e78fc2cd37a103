"""
Sessions of the pages, and links that are used once. Only hashes of their secrets are stored.

A session that is revoked is deleted; every page request reads its session here, so that takes effect at once everywhere.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.domain.access import Role
from gatepost.domain.person import OneTimeLink, Purpose, Session, SessionState
from gatepost.store import sealing
from gatepost.store.schema import one_time_link, session

_MAX_SESSIONS = 50
"""Sessions of one person; the one that was idle longest makes room."""


def insert(conn: Connection, added: Session, token_hash: bytes) -> None:
    """Store a new session; sessions that are over go."""
    conn.execute(sa.delete(session).where(session.c.expires_at <= added.created_at))
    by_use = sa.select(session.c.id).where(session.c.person_id == added.person_id).order_by(session.c.seen_at.desc())
    if surplus := list(conn.execute(by_use.offset(_MAX_SESSIONS - 1).limit(_MAX_SESSIONS)).scalars()):
        conn.execute(sa.delete(session).where(session.c.id.in_(surplus)))
    row = {
        "id": added.id, "token_hash": token_hash, "person_id": added.person_id, "tenant_id": added.tenant_id, "state": added.state.value,
        "peer": added.peer, "agent": added.agent, "created_at": added.created_at, "proved_at": added.proved_at, "seen_at": added.seen_at,
        "expires_at": added.expires_at,
    }  # fmt: skip
    conn.execute(sa.insert(session), [row])


def by_token(conn: Connection, token_hash: bytes) -> Session | None:
    """Find a session by the hash of its secret."""
    row = conn.execute(sa.select(session).where(session.c.token_hash == token_hash)).one_or_none()
    return None if row is None else _session(row)


def of_person(conn: Connection, person_id: str, now: Instant) -> list[Session]:
    """List a person's sessions that are not over, the last used first."""
    statement = sa.select(session).where(session.c.person_id == person_id, session.c.expires_at > now).order_by(session.c.seen_at.desc())
    return [_session(row) for row in conn.execute(statement)]


def touch(conn: Connection, session_id: str, now: Instant) -> None:
    """Note that a session was used."""
    conn.execute(sa.update(session).where(session.c.id == session_id).values(seen_at=now))


def prove(conn: Connection, session_id: str, now: Instant) -> None:
    """Note that the password was shown again."""
    conn.execute(sa.update(session).where(session.c.id == session_id).values(proved_at=now))


def choose_tenant(conn: Connection, session_id: str, tenant_id: str | None) -> None:
    """Let a session look at another tenant."""
    conn.execute(sa.update(session).where(session.c.id == session_id).values(tenant_id=tenant_id))


def delete(conn: Connection, session_id: str, person_id: str) -> bool:
    """End a session; return whether the person had it."""
    return bool(conn.execute(sa.delete(session).where(session.c.id == session_id, session.c.person_id == person_id)).rowcount)


def delete_of_person(conn: Connection, person_id: str, *, but: str | None = None) -> int:
    """End all sessions of a person, or all but one; return how many."""
    statement = sa.delete(session).where(session.c.person_id == person_id)
    if but is not None:
        statement = statement.where(session.c.id != but)
    return int(conn.execute(statement).rowcount)


class _ForWhom(msgspec.Struct, frozen=True):
    """What is sealed of a link."""

    email: str = ""
    is_operator: bool = False


def insert_link(conn: Connection, added: OneTimeLink, token_hash: bytes, email_hash: str | None) -> None:
    """Store a one-time link; links that were over for a day go."""
    conn.execute(sa.delete(one_time_link).where(one_time_link.c.expires_at <= added.created_at - 86_400_000))
    private = msgspec.json.encode(_ForWhom(email=added.email, is_operator=added.is_operator))
    row = {
        "id": added.id, "token_hash": token_hash, "purpose": added.purpose.value, "email_hash": email_hash, "person_id": added.person_id,
        "tenant_id": added.tenant_id, "role": added.role.value if added.role else None, "created_at": added.created_at,
        "sealed": sealing.seal(conn, private, tenant_id=sealing.GATEWAY, place=_place(added.id), at=added.created_at),
        "expires_at": added.expires_at, "used_at": None,
    }  # fmt: skip
    conn.execute(sa.insert(one_time_link), [row])


def link_by_token(conn: Connection, token_hash: bytes, purpose: Purpose, now: Instant) -> OneTimeLink | None:
    """Find a link that can still be used."""
    row = conn.execute(sa.select(one_time_link).where(one_time_link.c.token_hash == token_hash, *_usable(purpose, now))).one_or_none()
    return None if row is None else _link(conn, row)


def open_links(
    conn: Connection, purpose: Purpose, now: Instant, *, tenant_id: str | None = None, email_hash: str | None = None
) -> list[OneTimeLink]:
    """List links that can still be used, the oldest first: of a tenant, for an address, or all."""
    statement = sa.select(one_time_link).where(*_usable(purpose, now)).order_by(one_time_link.c.id)
    if tenant_id is not None:
        statement = statement.where(one_time_link.c.tenant_id == tenant_id)
    if email_hash is not None:
        statement = statement.where(one_time_link.c.email_hash == email_hash)
    return [_link(conn, row) for row in conn.execute(statement)]


def use_link(conn: Connection, link_id: str, now: Instant) -> bool:
    """Use a link up; return False when it was used or is over: of two at the same moment one wins."""
    usable = sa.and_(one_time_link.c.id == link_id, one_time_link.c.used_at.is_(None), one_time_link.c.expires_at > now)
    return bool(conn.execute(sa.update(one_time_link).where(usable).values(used_at=now)).rowcount)


def withdraw_links(conn: Connection, purpose: Purpose, *, email_hash: str, tenant_id: str | None) -> None:
    """Make earlier links of the same kind worthless."""
    same_tenant = one_time_link.c.tenant_id.is_(None) if tenant_id is None else one_time_link.c.tenant_id == tenant_id
    conn.execute(
        sa.delete(one_time_link).where(one_time_link.c.purpose == purpose.value, one_time_link.c.email_hash == email_hash, same_tenant)
    )


def withdraw_link(conn: Connection, tenant_id: str, link_id: str) -> OneTimeLink | None:
    """Make a tenant's invitation worthless; return it."""
    same = sa.and_(one_time_link.c.id == link_id, one_time_link.c.tenant_id == tenant_id, one_time_link.c.used_at.is_(None))
    row = conn.execute(sa.select(one_time_link).where(same)).one_or_none()
    if row is None:
        return None
    conn.execute(sa.delete(one_time_link).where(one_time_link.c.id == link_id))
    return _link(conn, row)


def _usable(purpose: Purpose, now: Instant) -> tuple[sa.ColumnElement[bool], ...]:
    return (one_time_link.c.purpose == purpose.value, one_time_link.c.used_at.is_(None), one_time_link.c.expires_at > now)


def _place(link_id: str) -> str:
    return f"one_time_link.sealed/{link_id}"


def _link(conn: Connection, row: Row[Any]) -> OneTimeLink:
    opened = sealing.unseal(conn, bytes(row.sealed), tenant_id=sealing.GATEWAY, place=_place(row.id))
    private = msgspec.json.decode(opened, type=_ForWhom)
    return OneTimeLink(
        id=row.id,
        purpose=Purpose(row.purpose),
        email=private.email,
        is_operator=private.is_operator,
        person_id=row.person_id,
        tenant_id=row.tenant_id,
        role=Role(row.role) if row.role else None,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _session(row: Row[Any]) -> Session:
    return Session(
        id=row.id,
        person_id=row.person_id,
        tenant_id=row.tenant_id,
        state=SessionState(row.state),
        peer=row.peer,
        agent=row.agent,
        created_at=row.created_at,
        proved_at=row.proved_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
    )
