"""Messages with their bodies and recipients: written once at accept, read by dispatch, the API and the pages."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.store.schema import body, message, message_tag, recipient


def insert(
    conn: Connection,
    messages: Sequence[dict[str, Any]],
    bodies: Sequence[dict[str, Any]],
    recipients: Sequence[dict[str, Any]],
) -> None:
    """Add messages with their bodies, recipients and tags; the keys are the tables' columns."""
    conn.execute(sa.insert(message), messages)
    conn.execute(sa.insert(body), bodies)
    conn.execute(sa.insert(recipient), recipients)
    tags = [{"tenant_id": row["tenant_id"], "tag": tag, "message_id": row["id"]} for row in messages for tag in row["tags"]]
    if tags:
        conn.execute(sa.insert(message_tag), tags)


_CHUNK = 50
"""Messages that one statement loads: as many bodies are in memory at least."""


class Material(NamedTuple):
    """What a delivery needs of a message."""

    id: str
    tenant_id: str
    created_at: Instant
    source: str
    envelope_from: str
    from_domain: str
    is_8bit: bool
    is_smtputf8: bool
    route: str
    options: dict[str, Any]
    encoding: str
    data: bytes


_MATERIAL = (
    sa.select(
        message.c.id,
        message.c.tenant_id,
        message.c.created_at,
        message.c.source,
        message.c.envelope_from,
        message.c.from_domain,
        message.c.is_8bit,
        message.c.is_smtputf8,
        message.c.route,
        message.c.options,
        body.c.encoding,
        body.c.data,
    )
    .join(body, body.c.message_id == message.c.id)
    .where(message.c.id.in_(sa.bindparam("ids", expanding=True)))
)


def materials(conn: Connection, message_ids: Sequence[str], max_bytes: int) -> dict[str, Material]:
    """
    Load what deliveries need of some messages.

    Args:
        max_bytes: With so many bytes of bodies loaded, the rest is left out.
    """
    found: dict[str, Material] = {}
    size = 0
    for start in range(0, len(message_ids), _CHUNK):
        for row in conn.execute(_MATERIAL, {"ids": list(message_ids[start : start + _CHUNK])}):
            found[row[0]] = Material._make(row)
            size += len(row.data)
        if size >= max_bytes:
            break
    return found


class RecipientFacts(NamedTuple):
    """What a delivery needs of a recipient."""

    message_id: str
    n: int
    address: str
    notify: str | None
    orcpt: str | None


def addresses(conn: Connection, message_ids: Sequence[str]) -> dict[tuple[str, int], RecipientFacts]:
    """Load the addresses of some messages' recipients."""
    columns = recipient.c
    found: dict[tuple[str, int], RecipientFacts] = {}
    for start in range(0, len(message_ids), _CHUNK):
        chunk = list(message_ids[start : start + _CHUNK])
        statement = sa.select(columns.message_id, columns.n, columns.address, columns.notify, columns.orcpt).where(
            columns.message_id.in_(chunk)
        )
        for row in conn.execute(statement):
            found[row[0], row[1]] = RecipientFacts._make(row)
    return found


_UPDATE_RECIPIENT = (
    sa.update(recipient)
    .where(recipient.c.message_id == sa.bindparam("b_message_id"), recipient.c.n == sa.bindparam("b_n"))
    .values({name: sa.bindparam(name) for name in ("status", "reason", "attempts", "last_reply", "last_host", "updated_at", "final_at")})
)


def update_recipients(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Set the state of recipients; each row has `b_message_id`, `b_n` and all state columns."""
    if rows:
        conn.execute(_UPDATE_RECIPIENT, rows)


def get(conn: Connection, tenant_id: str | None, message_id: str) -> Row[Any] | None:
    """
    Return one message's row.

    Args:
        tenant_id: Another tenant's message is None; no tenant is the operator, who sees all.
    """
    statement = sa.select(message).where(message.c.id == message_id)
    if tenant_id is not None:
        statement = statement.where(message.c.tenant_id == tenant_id)
    return conn.execute(statement).one_or_none()


def recipients_of(conn: Connection, message_ids: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """Return the recipients of some messages, in order."""
    wanted = list(message_ids)
    found: dict[str, list[Row[Any]]] = {message_id: [] for message_id in wanted}
    statement = sa.select(recipient).where(recipient.c.message_id.in_(wanted)).order_by(recipient.c.message_id, recipient.c.n)
    for row in conn.execute(statement):
        found[row.message_id].append(row)
    return found


def body_of(conn: Connection, message_id: str) -> tuple[str, bytes] | None:
    """Return encoding and data of a message's content."""
    row = conn.execute(sa.select(body.c.encoding, body.c.data).where(body.c.message_id == message_id)).one_or_none()
    return None if row is None else (row.encoding, bytes(row.data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which messages to list.

    Attributes:
        address_key: Exact, see `Address.key`.
        text: Part of the subject, of the From header or of an address.
        sender: Part of the From header.
        subject: Part of the subject.
        since: Not before this instant.
        until: Before this instant.
    """

    status: str | None = None
    tag: str | None = None
    address_key: str | None = None
    stream: str | None = None
    text: str | None = None
    sender: str | None = None
    subject: str | None = None
    since: Instant | None = None
    until: Instant | None = None


TEXT_SEARCH_DEPTH = 50_000
"""A search by text looks at so many of the newest messages: without a bound it would read them all."""


def page(
    conn: Connection, tenant_id: str | None, wanted: Filter, limit: int, after: str | None = None, before: str | None = None
) -> list[Row[Any]]:
    """
    List messages, the newest first.

    Args:
        after: Only those older than this id.
        before: Only those newer than this id, the ones next to it.
    """
    is_upwards = before is not None
    bounds = _bounds(wanted, after, before)
    narrow = _narrow(tenant_id, wanted)
    if narrow is None:
        statement = _filtered(tenant_id, wanted).where(*(bound(message.c.id) for bound in bounds))
    else:
        # one filter alone: its index gives the page's ids in order, however many messages it matches
        found = narrow.selected_columns[0]
        newest = narrow.where(*(bound(found) for bound in bounds)).distinct().order_by(found if is_upwards else found.desc()).limit(limit)
        statement = sa.select(message).where(message.c.id.in_(newest))
    rows = list(conn.execute(statement.order_by(message.c.id if is_upwards else message.c.id.desc()).limit(limit)).all())
    return rows[::-1] if is_upwards else rows


Bound = Callable[[sa.ColumnElement[str]], sa.ColumnElement[bool]]


def _bounds(wanted: Filter, after: str | None, before: str | None) -> list[Bound]:
    """Turn cursors and times into bounds on a column of message ids: an id holds its time."""
    lower = ids.lower_bound("msg", wanted.since) if wanted.since is not None else None
    upper = ids.lower_bound("msg", wanted.until) if wanted.until is not None else None
    bounds: list[Bound] = []
    if lower is not None:
        bounds.append(lambda column: column >= lower)
    if upper is not None:
        bounds.append(lambda column: column < upper)
    if before is not None:
        bounds.append(lambda column: column > before)
    elif after is not None:
        bounds.append(lambda column: column < after)
    return bounds


def _narrow(tenant_id: str | None, wanted: Filter) -> sa.Select[Any] | None:
    """Return the ids that a tenant's one filter, on recipients or on a tag, selects; None when there are more filters, or others."""
    if tenant_id is None or wanted.stream or wanted.text or wanted.sender or wanted.subject:
        return None
    by_recipient = wanted.status is not None or wanted.address_key is not None
    if by_recipient == (wanted.tag is not None):
        return None
    return _having_recipient(tenant_id, wanted) if by_recipient else _tagged(tenant_id, wanted.tag or "")


def _filtered(tenant_id: str | None, wanted: Filter) -> sa.Select[Any]:
    statement = sa.select(message)
    if tenant_id is not None:
        statement = statement.where(message.c.tenant_id == tenant_id)
    if wanted.stream is not None:
        statement = statement.where(message.c.stream == wanted.stream)
    if wanted.tag is not None:
        statement = statement.where(message.c.id.in_(_tagged(tenant_id, wanted.tag)))
    if wanted.status is not None or wanted.address_key is not None:
        statement = statement.where(message.c.id.in_(_having_recipient(tenant_id, wanted)))
    if wanted.text or wanted.sender or wanted.subject:
        statement = statement.where(_containing(tenant_id, wanted))
    return statement


def _tagged(tenant_id: str | None, tag: str) -> sa.Select[Any]:
    statement = sa.select(message_tag.c.message_id).where(message_tag.c.tag == tag)
    return statement if tenant_id is None else statement.where(message_tag.c.tenant_id == tenant_id)


def _having_recipient(tenant_id: str | None, wanted: Filter) -> sa.Select[Any]:
    statement = sa.select(recipient.c.message_id)
    if tenant_id is not None:
        statement = statement.where(recipient.c.tenant_id == tenant_id)
    if wanted.status is not None:
        statement = statement.where(recipient.c.status == wanted.status)
    if wanted.address_key is not None:
        statement = statement.where(recipient.c.address_key == wanted.address_key)
    return statement


def _containing(tenant_id: str | None, wanted: Filter) -> sa.ColumnElement[bool]:
    newest = sa.select(message.c.id)
    if tenant_id is not None:
        newest = newest.where(message.c.tenant_id == tenant_id)
    # the oldest message that a search still looks at
    floor = newest.order_by(message.c.id.desc()).offset(TEXT_SEARCH_DEPTH).limit(1).scalar_subquery()
    conditions = [message.c.id > sa.func.coalesce(floor, "")]
    if wanted.text:
        same = recipient.c.message_id == message.c.id
        inside = sa.select(recipient.c.message_id).where(same, _has_part(recipient.c.address_key, wanted.text)).exists()
        conditions.append(sa.or_(_has_part(message.c.subject, wanted.text), _has_part(message.c.from_, wanted.text), inside))
    if wanted.sender:
        conditions.append(_has_part(message.c.from_, wanted.sender))
    if wanted.subject:
        conditions.append(_has_part(message.c.subject, wanted.subject))
    return sa.and_(*conditions)


def _has_part(column: sa.Column[str], text: str) -> sa.ColumnElement[bool]:
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").lower() + "%"
    return sa.func.lower(column).like(pattern, escape="\\")


def counts_by_status(conn: Connection, tenant_id: str | None) -> dict[str, int]:
    """Count recipients by status."""
    statement = sa.select(recipient.c.status, sa.func.count()).group_by(recipient.c.status)
    if tenant_id is not None:
        statement = statement.where(recipient.c.tenant_id == tenant_id)
    return {status: int(count) for status, count in conn.execute(statement)}


def reschedule(conn: Connection, message_id: str, scheduled_at: Instant, expires_at: Instant) -> None:
    """Set a message's times anew: the one change that a message's row sees."""
    conn.execute(sa.update(message).where(message.c.id == message_id).values(scheduled_at=scheduled_at, expires_at=expires_at))
