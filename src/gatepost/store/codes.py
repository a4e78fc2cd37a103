"""
One-time codes that were sent to the same person moments ago: found by the hash of the address, cancelled when a newer one comes.

Not here: when a code supersedes another (accept.superseding).
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.message import Lane
from gatepost.domain.recipient import Status
from gatepost.store import bulk, queue, sealing
from gatepost.store.schema import message, recipient
from gatepost.store.schema import queue as queue_table

Person = tuple[str, str]
"""A tenant and the key of an address, see `Address.key`."""


class Earlier(NamedTuple):
    """
    A recipient of an earlier code.

    Attributes:
        site: Where it was sent to last, or will be.
    """

    message_id: str
    n: int
    tenant_id: str
    from_domain: str
    site: str
    status: str
    attempts: int


def earlier(conn: Connection, people: Collection[Person], since: Instant) -> dict[Person, list[Earlier]]:
    """Return the codes that were accepted for some people since an instant, the oldest first."""
    by_hash = {(tenant_id, sealing.keyed_hash(conn, key)): (tenant_id, key) for tenant_id, key in people}
    columns = recipient.c
    statement = (
        sa.select(
            columns.message_id, columns.n, columns.tenant_id, message.c.from_domain, columns.site, columns.status, columns.attempts,
            columns.address_hash,
        )
        .join(message, message.c.id == columns.message_id)
        .where(
            sa.tuple_(columns.tenant_id, columns.address_hash).in_(list(by_hash)),
            columns.message_id >= ids.lower_bound("msg", since),
            message.c.id >= ids.lower_bound("msg", since),
            message.c.created_at >= since,
            message.c.lane == int(Lane.CODES),
        )
        .order_by(columns.message_id)
    )  # fmt: skip
    found: dict[Person, list[Earlier]] = {}
    for *values, address_hash in conn.execute(statement):
        one = Earlier._make(values)
        found.setdefault(by_hash[one.tenant_id, address_hash], []).append(one)
    return found


def cancel(conn: Connection, codes: Iterable[Earlier], now: Instant) -> list[Earlier]:
    """Cancel those that still wait, and take them out of the queue; return them."""
    wanted = {(one.message_id, one.n): one for one in codes}
    if not wanted:
        return []
    columns = [queue_table.c[name] for name in queue.Due._fields]
    key = sa.tuple_(queue_table.c.message_id, queue_table.c.n)
    statement = sa.select(*columns).where(key.in_(sorted(wanted))).order_by(queue_table.c.message_id, queue_table.c.n)
    if conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    rows = [queue.Due._make(row) for row in conn.execute(statement)]
    queue.delete(conn, rows)
    bulk.execute(conn, _CANCEL, [_cancelled(row.message_id, row.n, now) for row in rows])
    return [wanted[row.message_id, row.n] for row in rows]


_CANCEL = (
    sa.update(recipient)
    .where(recipient.c.message_id == sa.bindparam("b_message_id"), recipient.c.n == sa.bindparam("b_n"))
    .values({name: sa.bindparam(name) for name in ("status", "reason", "updated_at", "final_at")})
)


def _cancelled(message_id: str, n: int, now: Instant) -> dict[str, Any]:
    status = Status.CANCELLED.value
    return {"b_message_id": message_id, "b_n": n, "status": status, "reason": "superseded", "updated_at": now, "final_at": now}
