"""
Providers' own suppression lists: how far each is read and told, and who mailed an address by a relay.

The cursor in a provider's list may name an address: it is sealed.
Not here: our own list (suppressions), what an entry means (policy.list_entries).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.relay_list import ListState
from gatepost.domain.route import RoadKind, roads_of
from gatepost.policy.list_entries import Mailed
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import attempt, message, recipient, relay_list, tenant, usage

_PAIRS: Final = 500
_FEW: Final = 100
_LOOKED_AT: Final = 200
"""Newest messages to an address among which the one that went by a relay is looked for."""

Key = tuple[str, str]
"""Tenant, and keyed hash of the address."""


EMPTY: Final = ListState()
"""Of a list that nobody looked at yet."""


class Stored(NamedTuple):
    """A relay's list."""

    relay: str
    due_at: Instant
    state: ListState
    cursor: str


def get(conn: Connection, relay: str) -> Stored:
    """Return how far a relay's list is; from the beginning where nobody knows."""
    row = conn.execute(sa.select(relay_list).where(relay_list.c.relay == relay)).one_or_none()
    return Stored(relay, 0, ListState(), "") if row is None else _stored(conn, row)


def due(conn: Connection) -> dict[str, Instant]:
    """Return when each relay's list is due."""
    return {row.relay: row.due_at for row in conn.execute(sa.select(relay_list.c.relay, relay_list.c.due_at))}


def every(conn: Connection) -> list[Stored]:
    """Return all lists that were looked at, by relay."""
    return [_stored(conn, row) for row in conn.execute(sa.select(relay_list).order_by(relay_list.c.relay))]


def hasten(conn: Connection, relay: str, now: Instant) -> None:
    """Let a relay's list be due now; one that nobody looked at yet is so anyway."""
    conn.execute(sa.update(relay_list).where(relay_list.c.relay == relay, relay_list.c.due_at > now).values(due_at=now))


def put(conn: Connection, relay: str, state: ListState, cursor: str, due_at: Instant, now: Instant) -> None:
    """Write down how far a relay's list is."""
    sealed = sealing.seal(conn, cursor.encode(), tenant_id=sealing.GATEWAY, place=_place(relay), at=now)
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    values = {"relay": relay, "due_at": due_at, "state": msgspec.to_builtins(state), "cursor_sealed": sealed}
    statement = insert(relay_list).values(values)
    changes = {name: getattr(statement.excluded, name) for name in values if name != "relay"}
    conn.execute(statement.on_conflict_do_update(index_elements=["relay"], set_=changes))


def _stored(conn: Connection, row: Any) -> Stored:
    try:
        cursor = sealing.unseal(conn, bytes(row.cursor_sealed), tenant_id=sealing.GATEWAY, place=_place(row.relay)).decode()
    except SealBroken:
        cursor = ""  # this part of the list is read again
    return Stored(row.relay, row.due_at, msgspec.convert(row.state, ListState), cursor)


def _place(relay: str) -> str:
    return f"relay_list.cursor_sealed/{relay}"


def users(conn: Connection, relay: str) -> list[str]:
    """
    List the tenants whose mail may have gone by a relay.

    All, while they are few; else those that mail was accepted for with the relay in its route.
    """
    everybody = [tenant_id for (tenant_id,) in conn.execute(sa.select(tenant.c.id).order_by(tenant.c.id).limit(_FEW + 1))]
    if len(everybody) <= _FEW:
        return everybody
    columns = usage.c
    found = conn.execute(sa.select(columns.tenant_id, columns.route).distinct())
    return sorted({row.tenant_id for row in found if any(one.kind is RoadKind.RELAY and one.name == relay for one in roads_of(row.route))})


def mailed(
    conn: Connection, relay: str, tenant_ids: Sequence[str], until_by_hash: Mapping[str, Instant]
) -> dict[str, list[Mailed]]:  # fmt: skip
    """
    Find who mailed some addresses by a relay that took it: each tenant's last mail.

    Args:
        until_by_hash: Keyed hashes of the addresses, each with the time until when mail counts.
    """
    pairs = [(tenant_id, address_hash) for address_hash in until_by_hash for tenant_id in tenant_ids]
    found: dict[str, list[Mailed]] = {}
    for start in range(0, len(pairs), _PAIRS):
        for tenant_id, address_hash in conn.execute(_KNOWN, {"pairs": pairs[start : start + _PAIRS]}):
            until = ids.lower_bound("msg", until_by_hash[address_hash])
            named = {"tenant": tenant_id, "hash": address_hash, "until": until, "relay": relay}
            row = conn.execute(_LAST, named).first()
            if row is not None:
                one = Mailed(tenant_id=tenant_id, at=ids.time_of(row.id), stream=row.stream, from_domain=row.from_domain)
                found.setdefault(address_hash, []).append(one)
    return found


_KNOWN = (
    sa.select(recipient.c.tenant_id, recipient.c.address_hash)
    .distinct()
    .where(sa.tuple_(recipient.c.tenant_id, recipient.c.address_hash).in_(sa.bindparam("pairs", expanding=True)))
)
_newest = (
    sa.select(recipient.c.message_id, recipient.c.n)
    .where(
        recipient.c.tenant_id == sa.bindparam("tenant"), recipient.c.address_hash == sa.bindparam("hash"),
        recipient.c.message_id < sa.bindparam("until"),
    )
    .order_by(recipient.c.message_id.desc())
    .limit(_LOOKED_AT)
    .subquery()
)  # fmt: skip
_LAST = (
    sa.select(message.c.id, message.c.stream, message.c.from_domain)
    .select_from(_newest)
    .join(attempt, sa.and_(attempt.c.message_id == _newest.c.message_id, attempt.c.n == _newest.c.n))
    .join(message, message.c.id == _newest.c.message_id)
    .where(attempt.c.route == sa.bindparam("relay"), attempt.c.outcome == "delivered")
    .order_by(message.c.id.desc())
    .limit(1)
)
"""Made once: making such statements costs more than running them."""
