"""
The suppression list as its owners change it: every change with its event and its entry in the audit log, in one transaction.

The audit log is not sealed: it shows a shortened address, and a keyed hash by which a whole one is found again.
Not here: enforcing it (accept), the SQL (store.suppressions).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor
from gatepost.domain.address import Address
from gatepost.domain.errors import Refused
from gatepost.domain.event import Event, EventType
from gatepost.store import audit, facts, sealing, suppressions
from gatepost.store.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """
    An address to suppress.

    Attributes:
        stream: Only this stream's mail; None is all mail.
        note: For the tenant's own eyes.
        expires_at: None is for good.
    """

    address: Address
    reason: str
    stream: str | None = None
    note: str = ""
    expires_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """How many of the addresses were not suppressed before, and the rows as they are now, in the order asked."""

    new: int
    rows: Sequence[Row[Any]]


_PART = 500
_PAGE = 1_000


class Suppressions:
    """Changes to tenants' suppression lists."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def add(self, tenant_id: str, wanted: Sequence[Suppression], *, by: Actor) -> Added:
        """
        Suppress addresses; one that is suppressed already is renewed.

        Raises:
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        return await self._engine.write(lambda conn: _add(conn, tenant_id, wanted, by, now))

    async def add_in_parts(self, tenant_id: str, wanted: Sequence[Suppression], *, by: Actor) -> int:
        """
        Suppress many addresses, some hundred in a transaction; return how many were not suppressed before.

        Raises:
            StorageUnavailable: Some are suppressed; doing it again completes it.
        """
        new = 0
        for start in range(0, len(wanted), _PART):
            new += (await self.add(tenant_id, wanted[start : start + _PART], by=by)).new
        return new

    async def take_away(self, tenant_id: str, after: str | None, limit: int, *, by: Actor) -> list[Row[Any]]:
        """
        Read the list to be taken away, the newest first; the audit log tells of it.

        Args:
            after: Only those older than this id.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        rows: list[Row[Any]] = []
        while len(rows) < limit:
            most = min(_PAGE, limit - len(rows))
            page = await self._engine.read(partial(suppressions.page, tenant_id=tenant_id, limit=most, after=after))
            rows += page
            if len(page) < most:
                break
            after = page[-1].id
        change = audit.Change(action="suppressions.exported", object_id=tenant_id, tenant_id=tenant_id, after={"rows": len(rows)})
        await self._engine.write(lambda conn: audit.append(conn, by, change, self._clock.now()))
        return rows

    async def lift(self, tenant_id: str, address: Address, stream: str | None = None, *, by: Actor) -> int:
        """
        Let an address get mail again; return how many suppressions were lifted.

        Args:
            stream: Only this stream's suppression; None lifts all.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        return await self._engine.write(lambda conn: _lift(conn, tenant_id, address, stream, by, now))


def _add(conn: Connection, tenant_id: str, wanted: Sequence[Suppression], by: Actor, now: Instant) -> Added:
    rows = [_row(tenant_id, one, now) for one in wanted]
    was = suppressions.get(conn, tenant_id, rows[0]["address"], rows[0]["stream"]) if len(rows) == 1 else None
    new = [row for row in rows if suppressions.put(conn, row)]
    facts.insert_events(conn, [_event(EventType.SUPPRESSION_ADDED, row, now, reason=row["reason"]) for row in new])
    found = [suppressions.get(conn, tenant_id, row["address"], row["stream"]) for row in rows]
    kept = [row for row in found if row is not None]
    if len(kept) == 1:
        action = "suppression.added" if new else "suppression.renewed"
        before = None if was is None else _told(conn, was)
        change = audit.Change(action=action, object_id=kept[0].id, tenant_id=tenant_id, before=before, after=_told(conn, kept[0]))
        audit.append(conn, by, change, now)
    elif kept:
        # one entry for all: the addresses are in the events
        after = {"added": len(new), "renewed": len(wanted) - len(new)}
        audit.append(conn, by, audit.Change(action="suppressions.added", object_id=tenant_id, tenant_id=tenant_id, after=after), now)
    return Added(len(new), kept)


def _lift(conn: Connection, tenant_id: str, address: Address, stream: str | None, by: Actor, now: Instant) -> int:
    gone = suppressions.of_address(conn, tenant_id, address.key, stream)
    count = suppressions.remove(conn, tenant_id, address.key, stream)
    if not count:
        raise Refused("not_found", "this address is not suppressed")
    suppressions.note_lifted(conn, tenant_id, address.key, now)
    row = {"tenant_id": tenant_id, "address": address.key, "stream": stream}
    facts.insert_events(conn, [_event(EventType.SUPPRESSION_REMOVED, row, now)])
    for one in gone:
        audit.append(
            conn, by, audit.Change(action="suppression.removed", object_id=one.id, tenant_id=tenant_id, before=_told(conn, one)), now
        )  # fmt: skip
    return count


def lift_one(conn: Connection, row: Row[Any], by: Actor, now: Instant, *, why: str) -> None:
    """
    Lift one suppression for another reason than a person's wish: what was said of the address before may count again.

    Args:
        row: As `store.suppressions` reads it.
        why: For the audit log.
    """
    if not suppressions.remove_one(conn, row.id):
        return
    told = {"tenant_id": row.tenant_id, "address": row.address, "stream": row.stream}
    facts.insert_events(conn, [_event(EventType.SUPPRESSION_REMOVED, told, now, source=row.source)])
    change = audit.Change(
        action="suppression.removed", object_id=row.id, tenant_id=row.tenant_id, before=_told(conn, row), after={"why": why}
    )  # fmt: skip
    audit.append(conn, by, change, now)


def _told(conn: Connection, row: Row[Any]) -> dict[str, Any]:
    found = {"address": row.address, "address_hash": sealing.keyed_hash(conn, row.address), "stream": row.stream or None}
    # a note may say anything about a person: it is sealed with the address, and stands nowhere else
    return found | {"reason": row.reason, "has_note": bool(row.note), "expires_at": row.expires_at}


def _row(tenant_id: str, wanted: Suppression, now: Instant) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "address": wanted.address.key,
        "stream": wanted.stream or suppressions.EVERY_STREAM,
        "id": ids.new("sup"),
        "reason": wanted.reason,
        "note": wanted.note,
        "created_at": now,
        "expires_at": wanted.expires_at,
    }


def _event(kind: EventType, row: dict[str, Any], now: Instant, **more: str) -> Event:
    data = {"address": row["address"], "stream": row["stream"] or None, **more}
    return Event(id=ids.new("evt"), type=kind, tenant_id=row["tenant_id"], at=now, data=data)
