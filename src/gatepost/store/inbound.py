"""
Mail and calls that came back: kept before their sender hears that they were taken, worked on afterwards, then forgotten.

Who works on a row claims it for a while; one that is claimed again and again is poison and is put aside. So is what nobody
could read, or what speaks of nobody we know: the newest of each, for a person to look at.
What came is sealed: it may quote people's mail. Not here: what it means (returns).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import MINUTE, Instant
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import inbound

CLAIM_MS = 2 * MINUTE
"""Who claimed a row and is silent for so long has lost it."""
ASIDE = ("quarantined", "unread", "unmatched")
"""What was put aside: it broke us again and again; nobody could read it; it speaks of nobody we know."""
MOST_ASIDE = 500
"""Strangers may write what cannot be read: so many are kept of each kind, the newest."""
_MOST_OPENED = 256 * 1024
"""Longer ones are not opened for a list."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """
    What came.

    Attributes:
        kind: `mail` or `hook`.
        source: The relay whose hook it is; empty for mail.
        details: Of mail: sender, recipients, peer. Of a hook: what its reader needs beside the body.
    """

    kind: str
    source: str = ""
    details: dict[str, Any] = field(default_factory=dict, repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Arrived):
    """
    A row to work on.

    Attributes:
        tries: How often it was put off.
        claims: How often it was claimed since.
    """

    id: str
    received_at: Instant
    tries: int
    claims: int


def put(conn: Connection, one: Arrived, now: Instant) -> str:
    """Keep what came; return its identifier."""
    inbound_id = ids.new("inb")
    sealed = sealing.seal(conn, _encode((one.details, one.body)), tenant_id=sealing.GATEWAY, place=f"inbound/{inbound_id}", at=now)
    row = {
        "id": inbound_id, "kind": one.kind, "source": one.source, "received_at": now, "due_at": now, "tries": 0, "claims": 0,
        "state": "waiting", "detail": "", "sealed": sealed,
    }  # fmt: skip
    conn.execute(sa.insert(inbound), [row])
    return inbound_id


def is_due(conn: Connection, now: Instant) -> bool:
    """Tell whether there is work."""
    return conn.execute(sa.select(inbound.c.id).where(inbound.c.state == "waiting", inbound.c.due_at <= now).limit(1)).first() is not None


def claim(conn: Connection, now: Instant, limit: int) -> list[Claimed]:
    """Take some rows whose turn it is, the oldest first; nobody else gets them for a while."""
    columns = inbound.c
    due = sa.select(columns.id).where(columns.state == "waiting", columns.due_at <= now).order_by(columns.due_at).limit(limit)
    statement = sa.update(inbound).where(columns.id.in_(due.with_for_update(skip_locked=True)))
    statement = statement.values(due_at=now + CLAIM_MS, claims=columns.claims + 1)
    rows = conn.execute(statement.returning(*columns)).all()
    found = [_opened(conn, row) for row in sorted(rows, key=lambda row: row.id)]
    return [one for one in found if one is not None]


def _opened(conn: Connection, row: Any) -> Claimed | None:
    try:
        details, body = msgspec.msgpack.decode(sealing.unseal(conn, row.sealed, tenant_id=sealing.GATEWAY, place=f"inbound/{row.id}"))
    except SealBroken as error:
        maillog.trouble("what came back cannot be opened", id=row.id, error=str(error))
        quarantine(conn, row.id, "it cannot be opened")
        return None
    return Claimed(
        kind=row.kind, source=row.source, details=details, body=body, id=row.id, received_at=row.received_at, tries=row.tries,
        claims=row.claims,
    )  # fmt: skip


def finish(conn: Connection, inbound_ids: Sequence[str]) -> None:
    """Forget what was worked on."""
    conn.execute(sa.delete(inbound).where(inbound.c.id.in_(inbound_ids)))


def put_off(conn: Connection, inbound_id: str, due_at: Instant) -> None:
    """Look at a row again later."""
    values = {"due_at": due_at, "tries": inbound.c.tries + 1, "claims": 0}
    conn.execute(sa.update(inbound).where(inbound.c.id == inbound_id).values(**values))


def quarantine(conn: Connection, inbound_id: str, detail: str) -> None:
    """Put a row aside for people to look at."""
    conn.execute(sa.update(inbound).where(inbound.c.id == inbound_id).values(state="quarantined", detail=detail[:500]))


def set_aside(conn: Connection, inbound_id: str, state: str, detail: str) -> None:
    """
    Keep a row for people to look at, and forget the oldest when there are too many.

    Args:
        state: `unread` or `unmatched`.
    """
    conn.execute(sa.update(inbound).where(inbound.c.id == inbound_id).values(state=state, detail=detail[:500]))
    newest = sa.select(inbound.c.id).where(inbound.c.state == state).order_by(inbound.c.id.desc()).limit(MOST_ASIDE)
    conn.execute(sa.delete(inbound).where(inbound.c.state == state, inbound.c.id.not_in(newest.scalar_subquery())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside(Arrived):
    """
    What was put aside.

    Attributes:
        state: One of `ASIDE`.
        detail: Why, in words.
        is_open: Details and body are there; else it is too long for a list, or cannot be opened.
    """

    id: str
    received_at: Instant
    state: str
    detail: str
    is_open: bool


def aside(
    conn: Connection, limit: int, *, state: str | None = None, after: str | None = None, before: str | None = None
) -> list[Aside]:  # fmt: skip
    """List what was put aside, the newest first."""
    columns = inbound.c
    body = sa.case((sa.func.length(columns.sealed) <= _MOST_OPENED, columns.sealed), else_=None).label("sealed")
    plain = (columns.id, columns.kind, columns.source, columns.received_at, columns.state, columns.detail)
    statement = sa.select(*plain, body).where(columns.state.in_(ASIDE) if state is None else columns.state == state)
    if before is not None:
        return [_aside(conn, row) for row in conn.execute(statement.where(columns.id > before).order_by(columns.id).limit(limit))][::-1]
    if after is not None:
        statement = statement.where(columns.id < after)
    return [_aside(conn, row) for row in conn.execute(statement.order_by(columns.id.desc()).limit(limit))]


def get_aside(conn: Connection, inbound_id: str) -> Aside | None:
    """Return one row that was put aside."""
    row = conn.execute(sa.select(inbound).where(inbound.c.id == inbound_id, inbound.c.state.in_(ASIDE))).one_or_none()
    return None if row is None else _aside(conn, row)


def _aside(conn: Connection, row: Any) -> Aside:
    details, body, is_open = {}, b"", False
    if row.sealed is not None:
        try:
            opened = sealing.unseal(conn, row.sealed, tenant_id=sealing.GATEWAY, place=f"inbound/{row.id}")
            (details, body), is_open = msgspec.msgpack.decode(opened), True
        except SealBroken as error:
            maillog.trouble("what came back cannot be opened", id=row.id, error=str(error))
    return Aside(
        id=row.id, kind=row.kind, source=row.source, received_at=row.received_at, state=row.state, detail=row.detail, details=details,
        body=body, is_open=is_open,
    )  # fmt: skip


def work_again(conn: Connection, inbound_id: str, now: Instant) -> bool:
    """Work on what was put aside once more; return whether it was there."""
    here = sa.and_(inbound.c.id == inbound_id, inbound.c.state.in_(ASIDE))
    values = {"state": "waiting", "due_at": now, "tries": 0, "claims": 0, "detail": ""}
    return bool(conn.execute(sa.update(inbound).where(here).values(**values)).rowcount)


def forget_aside(conn: Connection, inbound_id: str) -> bool:
    """Forget what was put aside; return whether it was there."""
    return bool(conn.execute(sa.delete(inbound).where(inbound.c.id == inbound_id, inbound.c.state.in_(ASIDE))).rowcount)


def counts(conn: Connection) -> dict[str, int]:
    """Count rows by state."""
    return {state: int(number) for state, number in conn.execute(sa.select(inbound.c.state, sa.func.count()).group_by(inbound.c.state))}


def purge(conn: Connection, before: Instant) -> None:
    """Remove what came before an instant and was put aside."""
    conn.execute(sa.delete(inbound).where(inbound.c.state.in_(ASIDE), inbound.c.received_at < before))
