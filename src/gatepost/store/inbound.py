"""
Mail and calls that came back: kept before their sender hears that they were taken, worked on afterwards, then forgotten.

Who works on a row claims it for a while; one that is claimed again and again is poison and is put aside.
What came is sealed: it may quote people's mail. Not here: what it means (returns).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, MINUTE, Instant
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import inbound

CLAIM_MS = 2 * MINUTE
"""Who claimed a row and is silent for so long has lost it."""
_KEPT_MS = 30 * DAY

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


def counts(conn: Connection) -> dict[str, int]:
    """Count rows by state."""
    return {state: int(number) for state, number in conn.execute(sa.select(inbound.c.state, sa.func.count()).group_by(inbound.c.state))}


def purge(conn: Connection, now: Instant) -> None:
    """Remove what was put aside long ago."""
    conn.execute(sa.delete(inbound).where(inbound.c.state == "quarantined", inbound.c.received_at < now - _KEPT_MS))
