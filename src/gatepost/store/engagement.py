"""
What recipients do with tracked mail: how often, who it was, and where a message's links lead.

Counts are kept for each recipient, so processes that count at once wait for each other only where one person clicks twice.
Not here: events (facts), who somebody is (policy.visitors).
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost import ids
from gatepost.clock import DAY, Instant
from gatepost.observe import maillog
from gatepost.store import messages, sealing
from gatepost.store.schema import engagement, message, message_links, recipient
from gatepost.store.sealing import day_of_id

_CHUNK = 100


def put_links(conn: Connection, rows: Iterable[tuple[str, str, Sequence[str], Instant]]) -> None:
    """
    Keep where links lead, in the transaction that accepts their messages.

    Args:
        rows: Tenant, message, targets, and until when they are needed.
    """
    ring = sealing.keyring_of(conn)
    values = []
    for tenant_id, message_id, targets, ends_at in rows:
        private, place = msgspec.msgpack.encode(list(targets)), f"message_links/{message_id}"
        sealed = ring.seal(conn, private, tenant_id, place, day_of_id(message_id))
        values.append({"message_id": message_id, "tenant_id": tenant_id, "ends_at": ends_at, "sealed": sealed})
    if values:
        conn.execute(sa.insert(message_links), values)


def links_of(conn: Connection, message_id: str) -> list[str]:
    """
    Return where a message's links lead; empty when nobody knows any more.

    Raises:
        SealBroken: They cannot be opened.
    """
    row = conn.execute(sa.select(message_links).where(message_links.c.message_id == message_id)).one_or_none()
    if row is None:
        return []
    opened = sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=f"message_links/{message_id}")
    return msgspec.msgpack.decode(opened, type=list[str])


class Whose(NamedTuple):
    """
    What is known of a recipient.

    Attributes:
        delivered_at: When the next system had the mail; None while that is not written down.
    """

    tenant_id: str
    delivered_at: Instant | None
    stream: str


def whose(conn: Connection, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Whose]:
    """Find some recipients (message, number)."""
    columns, found = recipient.c, {}
    for start in range(0, len(keys), _CHUNK):
        statement = sa.select(columns.message_id, columns.n, columns.tenant_id, columns.final_at, message.c.stream)
        statement = statement.join(message, message.c.id == columns.message_id)
        for row in conn.execute(statement.where(sa.tuple_(columns.message_id, columns.n).in_(keys[start : start + _CHUNK]))):
            found[row.message_id, row.n] = Whose(row.tenant_id, row.final_at, row.stream)
    return found


class Holder(NamedTuple):
    """
    A recipient who decides about mail.

    Attributes:
        sender: The From header of the mail that led here.
    """

    tenant_id: str
    message_id: str
    n: int
    stream: str
    site: str
    address: str
    sender: str


def holder(conn: Connection, message_id: str, n: int, *, is_locking: bool = False) -> Holder | None:
    """
    Find a recipient with its address; None when nobody knows it any more, or it cannot be opened.

    Args:
        is_locking: Let nobody else decide for it in this transaction.
    """
    columns = recipient.c
    statement = sa.select(columns.tenant_id, columns.site, columns.sealed).where(columns.message_id == message_id, columns.n == n)
    row = conn.execute(statement.with_for_update() if is_locking else statement).one_or_none()
    mail = None if row is None else messages.get(conn, row.tenant_id, message_id)
    if row is None or mail is None:
        return None
    try:
        opened = sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=f"recipient/{message_id}/{n}")
    except sealing.SealBroken as error:
        maillog.trouble("a stored recipient cannot be opened", error=str(error))
        return None
    return Holder(row.tenant_id, message_id, n, mail.stream, row.site, str(msgspec.msgpack.decode(opened)[0]), mail.from_)


def add(conn: Connection, message_id: str, n: int, kind: str, visitor: str, link: str, at: Instant) -> int:
    """Count something once more; return how often it was, this time included. Who does the same at once waits for this transaction."""
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    columns = engagement.c
    values = {"message_id": message_id, "n": n, "kind": kind, "visitor": visitor, "link": link, "first_at": at, "last_at": at, "total": 1}
    statement = insert(engagement).values(values).on_conflict_do_update(
        index_elements=["message_id", "n", "kind", "visitor", "link"], set_={"total": columns.total + 1, "last_at": at}
    )  # fmt: skip
    return int(conn.execute(statement.returning(columns.total)).scalar_one())


def links_since(conn: Connection, message_id: str, n: int, kind: str, since: Instant, besides: str) -> int:
    """Count the other links that a recipient followed since then."""
    columns = engagement.c
    statement = sa.select(sa.func.count(sa.distinct(columns.link))).where(
        columns.message_id == message_id, columns.n == n, columns.kind == kind, columns.last_at >= since, columns.link.not_in(("", besides))
    )
    return int(conn.execute(statement).scalar_one())


class Counted(NamedTuple):
    """How often something was done by one recipient."""

    n: int
    kind: str
    visitor: str
    link: str
    first_at: Instant
    last_at: Instant
    total: int


def of_message(conn: Connection, message_id: str) -> list[Counted]:
    """List what a message's recipients did."""
    columns = [engagement.c[name] for name in Counted._fields]
    statement = sa.select(*columns).where(engagement.c.message_id == message_id)
    return [Counted(*row) for row in conn.execute(statement.order_by(engagement.c.n, engagement.c.first_at, engagement.c.link))]


def purge(conn: Connection, now: Instant, keep_days: int) -> None:
    """
    Remove links that no token leads to any more, and counts of messages that none speaks of.

    Args:
        keep_days: How long tokens of a message may be good: until then what its recipients do is first or again by these counts.
    """
    conn.execute(sa.delete(message_links).where(message_links.c.ends_at < now))
    conn.execute(sa.delete(engagement).where(engagement.c.message_id < ids.lower_bound("msg", now - keep_days * DAY)))
