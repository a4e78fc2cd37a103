"""
Messages with their bodies and recipients: written once at accept, read by dispatch, the API and the pages.

Senders, subject, metadata, content and addresses are sealed under the key of the message's day; each row is opened where it
is read. One that cannot be opened shows a placeholder in lists, and is told to dispatch apart from the others.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.recipient import Status
from gatepost.domain.stats import Labels
from gatepost.observe import maillog
from gatepost.store import bulk, sealing
from gatepost.store.errors import SealBroken
from gatepost.store.keyring import Keyring
from gatepost.store.listed import as_parameter, is_listed
from gatepost.store.schema import body, message, message_tag, recipient
from gatepost.store.sealing import UNREADABLE, day_of_id

SEALED: Final = ("envelope_from", "from_", "subject", "message_id_header", "metadata", "options")
"""What is sealed in a message's row, in this order."""

_PLAIN = tuple(column.name for column in message.c if column.name != "sealed")
_SHOWN = (*_PLAIN, *SEALED)
_PLAIN_RECIPIENT = tuple(column.name for column in recipient.c if column.name not in {"sealed", "reply_sealed", "address_hash"})
_SHOWN_RECIPIENT = (*_PLAIN_RECIPIENT, "address", "orcpt", "last_reply")
_UNREADABLE_MESSAGE: tuple[Any, ...] = (UNREADABLE, UNREADABLE, UNREADABLE, "", {}, {})

_private: Final = itemgetter(*SEALED)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def insert(
    conn: Connection,
    messages: Sequence[dict[str, Any]],
    bodies: Sequence[dict[str, Any]],
    recipients: Sequence[dict[str, Any]],
) -> None:
    """
    Add messages with their bodies, recipients and tags.

    Args:
        messages: By the tables' columns, with the fields of `SEALED` in the clear.
        bodies: `message_id`, `encoding` and `data`.
        recipients: By the table's columns, with `address`, `address_key` (see `Address.key`) and `orcpt` in the clear; `route`
            may be missing where it is the message's.
    """
    ring = sealing.keyring_of(conn)
    owners = {row["id"]: (row["tenant_id"], day_of_id(row["id"])) for row in messages}
    ring.prepare(conn, owners.values())
    bulk.insert(conn, message, [_sealed_message(conn, ring, row, *owners[row["id"]]) for row in messages])
    bulk.insert(conn, body, [_sealed_body(conn, ring, row, *owners[row["message_id"]]) for row in bodies])
    bulk.insert(conn, recipient, [_sealed_recipient(conn, ring, row, *owners[row["message_id"]]) for row in recipients])
    tags = [{"tenant_id": row["tenant_id"], "tag": tag, "message_id": row["id"]} for row in messages for tag in row["tags"]]
    if tags:
        bulk.insert(conn, message_tag, tags)


def _sealed_message(conn: Connection, ring: Keyring, row: dict[str, Any], tenant_id: str, day: int) -> dict[str, Any]:
    return {**row, "sealed": ring.seal(conn, _encode(_private(row)), tenant_id, f"message/{row['id']}", day)}


def _sealed_body(conn: Connection, ring: Keyring, row: dict[str, Any], tenant_id: str, day: int) -> dict[str, Any]:
    message_id, encoding = row["message_id"], row["encoding"]
    data = ring.seal(conn, row["data"], tenant_id, _place_of_body(message_id, encoding), day)
    return {"message_id": message_id, "encoding": encoding, "data": data}


def _place_of_body(message_id: str, encoding: str) -> str:
    return f"body/{message_id}/{encoding}"


def _sealed_recipient(conn: Connection, ring: Keyring, row: dict[str, Any], tenant_id: str, day: int) -> dict[str, Any]:
    place = f"recipient/{row['message_id']}/{row['n']}"
    return {
        "route": None,
        **row,
        "sealed": ring.seal(conn, _encode((row["address"], row["orcpt"])), tenant_id, place, day),
        "address_hash": ring.hash_text(conn, row["address_key"]),
        "reply_sealed": _sealed_reply(conn, ring, row["last_reply"], tenant_id, place, day),
    }


def _sealed_reply(conn: Connection, ring: Keyring, reply: str | None, tenant_id: str, place: str, day: int) -> bytes | None:
    return None if reply is None else ring.seal(conn, reply.encode(), tenant_id, f"{place}/reply", day)


_CHUNK = 50
"""Messages that one statement loads: as many bodies are in memory at least."""


class Material(NamedTuple):
    """
    What a delivery needs of a message.

    Attributes:
        broken: Why the message cannot be opened; what was sealed is empty then.
        labels: What its numbers are kept by.
    """

    id: str
    tenant_id: str
    created_at: Instant
    source: str
    from_domain: str
    is_8bit: bool
    is_smtputf8: bool
    route: str
    encoding: str
    data: bytes
    envelope_from: str
    options: dict[str, Any]
    broken: SealBroken | None = None
    labels: Labels | None = None


@cache
def _material_of(dialect: str) -> sa.Select[Any]:
    """Make the statement once: making it costs more than running it."""
    return (
        sa.select(
            message.c.id,
            message.c.tenant_id,
            message.c.created_at,
            message.c.source,
            message.c.from_domain,
            message.c.is_8bit,
            message.c.is_smtputf8,
            message.c.route,
            body.c.encoding,
            body.c.data,
            message.c.sealed,
            message.c.stream,
            sa.type_coerce(message.c.tags, sa.Text),
            message.c.scheduled_at,
        )
        .join(body, body.c.message_id == message.c.id)
        .where(is_listed(message.c.id, dialect))
    )


def materials(conn: Connection, message_ids: Sequence[str], max_bytes: int) -> dict[str, Material]:
    """
    Load what deliveries need of some messages.

    Args:
        max_bytes: With so many bytes of bodies loaded, the rest is left out.
    """
    ring, dialect = sealing.keyring_of(conn), conn.dialect.name
    found: dict[str, Material] = {}
    size = 0
    for start in range(0, len(message_ids), _CHUNK):
        listed = as_parameter(message_ids[start : start + _CHUNK], dialect)
        for row in conn.execute(_material_of(dialect), {"listed": listed}):
            found[row[0]] = _material(conn, ring, row)
            size += len(row.data)
        if size >= max_bytes:
            break
    return found


def _material(conn: Connection, ring: Keyring, row: Any) -> Material:
    message_id, tenant_id = row[0], row[1]
    tags = row[12]
    labels = Labels(row[4], row[11], "" if tags == "[]" else tags, "", row[13] or row[2])
    try:
        data = ring.unseal(conn, row[9], tenant_id, _place_of_body(message_id, row[8]))
        opened = _decode(ring.unseal(conn, row[10], tenant_id, f"message/{message_id}"))
    except SealBroken as error:
        return Material._make([*row[:9], b"", "", {}, error, labels])
    return Material._make([*row[:9], data, opened[0], opened[5], None, labels])


def has_recipient(conn: Connection, tenant_id: str, message_ids: Sequence[str], keys: Sequence[str]) -> bool:
    """
    Tell whether a tenant's messages went to one of some addresses.

    Args:
        keys: Of addresses, see `Address.key`.
    """
    hashes = [sealing.keyed_hash(conn, key) for key in keys]
    columns = recipient.c
    wanted = (columns.message_id.in_(message_ids), columns.tenant_id == tenant_id, columns.address_hash.in_(hashes))
    return conn.execute(sa.select(columns.n).where(*wanted).limit(1)).first() is not None


def sources(conn: Connection, message_ids: Sequence[str]) -> dict[str, str]:
    """Return the doors that some messages came by."""
    found: dict[str, str] = {}
    for start in range(0, len(message_ids), 500):
        rows = conn.execute(sa.select(message.c.id, message.c.source).where(message.c.id.in_(message_ids[start : start + 500])))
        found |= {row.id: row.source for row in rows}
    return found


class RecipientFacts(NamedTuple):
    """
    What a delivery needs of a recipient.

    Attributes:
        broken: Why the address cannot be opened; it is empty then.
        route: The roads chosen for it; None is the message's.
    """

    message_id: str
    n: int
    notify: str | None
    address: str
    orcpt: str | None
    broken: SealBroken | None = None
    route: str | None = None


@cache
def _facts_of(dialect: str) -> sa.Select[Any]:
    columns = recipient.c
    statement = sa.select(columns.message_id, columns.n, columns.notify, columns.tenant_id, columns.sealed, columns.route)
    return statement.where(is_listed(columns.message_id, dialect))


def addresses(conn: Connection, message_ids: Sequence[str]) -> dict[tuple[str, int], RecipientFacts]:
    """Load the addresses of some messages' recipients."""
    ring, dialect = sealing.keyring_of(conn), conn.dialect.name
    found: dict[tuple[str, int], RecipientFacts] = {}
    for start in range(0, len(message_ids), _CHUNK):
        listed = as_parameter(message_ids[start : start + _CHUNK], dialect)
        for message_id, n, notify, tenant_id, sealed, route in conn.execute(_facts_of(dialect), {"listed": listed}):
            try:
                address, orcpt = _decode(ring.unseal(conn, sealed, tenant_id, f"recipient/{message_id}/{n}"))
                found[message_id, n] = RecipientFacts(message_id, n, notify, address, orcpt, None, route)
            except SealBroken as error:
                found[message_id, n] = RecipientFacts(message_id, n, notify, "", None, error, route)
    return found


_STATE = ("b_message_id", "b_n", "status", "reason", "attempts", "last_host", "updated_at", "final_at")
_UPDATE_RECIPIENT = (
    sa.update(recipient)
    .where(recipient.c.message_id == sa.bindparam("b_message_id"), recipient.c.n == sa.bindparam("b_n"))
    .values({name: sa.bindparam(name) for name in (*_STATE[2:], "reply_sealed")})
)


_SET_SITE = (
    sa.update(recipient)
    .where(recipient.c.message_id == sa.bindparam("b_message_id"), recipient.c.n == sa.bindparam("b_n"))
    .values(site=sa.bindparam("b_site"))
)


def update_recipients(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Set the state of recipients; each row has `b_message_id`, `b_n`, `tenant_id` and all state columns, `last_reply` in the clear."""
    if rows:
        ring = sealing.keyring_of(conn)
        bulk.execute(conn, _UPDATE_RECIPIENT, [_new_state(conn, ring, row) for row in rows])


def statuses(conn: Connection, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Status]:
    """Return the states of some recipients (message, number), and let nobody else change them in this transaction."""
    columns, found = recipient.c, {}
    for start in range(0, len(keys), _CHUNK):
        statement = sa.select(columns.message_id, columns.n, columns.status).with_for_update()
        chosen = statement.where(sa.tuple_(columns.message_id, columns.n).in_(keys[start : start + _CHUNK]))
        found.update({(message_id, n): Status(status) for message_id, n, status in conn.execute(chosen)})
    return found


def set_sites(conn: Connection, rows: Sequence[tuple[str, int, str]]) -> None:
    """Record that recipients (message, number) belong to other sites now."""
    if rows:
        bulk.execute(conn, _SET_SITE, [{"b_message_id": message_id, "b_n": n, "b_site": site} for message_id, n, site in rows])


def _new_state(conn: Connection, ring: Keyring, row: dict[str, Any]) -> dict[str, Any]:
    message_id = row["b_message_id"]
    place = f"recipient/{message_id}/{row['b_n']}"
    return {**row, "reply_sealed": _sealed_reply(conn, ring, row["last_reply"], row["tenant_id"], place, day_of_id(message_id))}


def get(conn: Connection, tenant_id: str | None, message_id: str) -> Row[Any] | None:
    """
    Return one message's row.

    Args:
        tenant_id: Another tenant's message is None; no tenant is the operator, who sees all.
    """
    statement = sa.select(message).where(message.c.id == message_id)
    if tenant_id is not None:
        statement = statement.where(message.c.tenant_id == tenant_id)
    found = _opened(conn, conn.execute(statement))
    return found[0] if found else None


def by_id(conn: Connection, message_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the rows of some messages."""
    wanted = list(message_ids)
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(wanted), _CHUNK):
        rows = conn.execute(sa.select(message).where(message.c.id.in_(wanted[start : start + _CHUNK])))
        found |= {row.id: row for row in _opened(conn, rows)}
    return found


def addresses_at(conn: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return the addresses of some recipients (message, number), and no others of their messages."""
    wanted, ring, columns = list(keys), sealing.keyring_of(conn), recipient.c
    found: dict[tuple[str, int], str] = {}
    for start in range(0, len(wanted), _CHUNK):
        statement = sa.select(columns.message_id, columns.n, columns.tenant_id, columns.sealed).where(
            sa.tuple_(columns.message_id, columns.n).in_(wanted[start : start + _CHUNK])
        )
        for row in conn.execute(statement):
            found[row.message_id, row.n] = _opened_recipient(conn, ring, row.message_id, row.n, row.tenant_id, row.sealed, None)[0]
    return found


def _opened(conn: Connection, rows: Iterable[Any]) -> list[Row[Any]]:
    """Return messages' rows with what was sealed in them."""
    ring = sealing.keyring_of(conn)
    at = _COLUMNS.index("sealed")
    return sealing.rows(_SHOWN, [(*row[:at], *row[at + 1 :], *_opened_message(conn, ring, row[0], row[1], row[at])) for row in rows])


_COLUMNS = [column.name for column in message.c]


def _opened_message(conn: Connection, ring: Keyring, message_id: str, tenant_id: str, sealed: bytes) -> Sequence[Any]:
    try:
        opened: Sequence[Any] = _decode(ring.unseal(conn, sealed, tenant_id, f"message/{message_id}"))
    except SealBroken as error:
        maillog.trouble("a stored message cannot be opened", error=str(error))
        return _UNREADABLE_MESSAGE
    return opened


def recipients_of(conn: Connection, message_ids: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """Return the recipients of some messages, in order."""
    wanted = list(message_ids)
    found: dict[str, list[Row[Any]]] = {message_id: [] for message_id in wanted}
    columns = [recipient.c[name] for name in _PLAIN_RECIPIENT]
    statement = sa.select(*columns, recipient.c.sealed, recipient.c.reply_sealed).where(recipient.c.message_id.in_(wanted))
    ring, plain = sealing.keyring_of(conn), len(columns)
    rows = conn.execute(statement.order_by(recipient.c.message_id, recipient.c.n))
    opened = [(*row[:plain], *_opened_recipient(conn, ring, row.message_id, row.n, row.tenant_id, *row[plain:])) for row in rows]
    for row in sealing.rows(_SHOWN_RECIPIENT, opened):
        found[row.message_id].append(row)
    return found


def _opened_recipient(
    conn: Connection, ring: Keyring, message_id: str, n: int, tenant_id: str, sealed: bytes, reply: bytes | None
) -> tuple[str, str | None, str | None]:
    place = f"recipient/{message_id}/{n}"
    try:
        address, orcpt = _decode(ring.unseal(conn, sealed, tenant_id, place))
        last_reply = None if reply is None else ring.unseal(conn, reply, tenant_id, f"{place}/reply").decode()
    except SealBroken as error:
        maillog.trouble("a stored recipient cannot be opened", error=str(error))
        return UNREADABLE, None, None
    return address, orcpt, last_reply


def body_of(conn: Connection, message_id: str) -> tuple[str, bytes] | None:
    """
    Return encoding and data of a message's content.

    Raises:
        SealBroken: It cannot be opened.
    """
    statement = sa.select(body.c.encoding, body.c.data, message.c.tenant_id).join(message, message.c.id == body.c.message_id)
    row = conn.execute(statement.where(body.c.message_id == message_id)).one_or_none()
    if row is None:
        return None
    return row.encoding, sealing.unseal(conn, row.data, tenant_id=row.tenant_id, place=_place_of_body(message_id, row.encoding))


TEXT_SEARCH_DEPTH: Final = 5_000
"""A search by text opens so many of the newest messages at most, unless it is told otherwise."""


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
        depth: A search by text opens so many of the newest messages: what is sealed cannot be searched by the database.
        domains: The sender's domains that count; none is every domain.
        streams: The streams that count; none is every stream.
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
    depth: int = TEXT_SEARCH_DEPTH
    domains: Collection[str] = ()
    streams: Collection[str] = ()

    @property
    def is_by_text(self) -> bool:
        """Whether messages must be opened to tell."""
        return bool(self.text or self.sender or self.subject)


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
    if wanted.is_by_text:
        found = _Search(conn, tenant_id, wanted, bounds, is_upwards=is_upwards).first(limit)
        return found[::-1] if is_upwards else found
    narrow = _narrow(conn, tenant_id, wanted)
    if narrow is None:
        statement = _filtered(conn, tenant_id, wanted).where(*(bound(message.c.id) for bound in bounds))
    else:
        # one filter alone: its index gives the page's ids in order, however many messages it matches
        found_id = narrow.selected_columns[0]
        order = found_id if is_upwards else found_id.desc()
        newest = narrow.where(*(bound(found_id) for bound in bounds)).distinct().order_by(order).limit(limit)
        statement = sa.select(message).where(message.c.id.in_(newest))
    rows = _opened(conn, conn.execute(statement.order_by(message.c.id if is_upwards else message.c.id.desc()).limit(limit)))
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


def _narrow(conn: Connection, tenant_id: str | None, wanted: Filter) -> sa.Select[Any] | None:
    """Return the ids that a tenant's one filter, on recipients or on a tag, selects; None when there are more filters, or others."""
    if tenant_id is None or wanted.stream or wanted.domains or wanted.streams:
        return None
    by_recipient = wanted.status is not None or wanted.address_key is not None
    if by_recipient == (wanted.tag is not None):
        return None
    return _having_recipient(conn, tenant_id, wanted) if by_recipient else _tagged(tenant_id, wanted.tag or "")


def _filtered(conn: Connection, tenant_id: str | None, wanted: Filter) -> sa.Select[Any]:
    statement = sa.select(message)
    if tenant_id is not None:
        statement = statement.where(message.c.tenant_id == tenant_id)
    if wanted.stream is not None:
        statement = statement.where(message.c.stream == wanted.stream)
    if wanted.domains:
        statement = statement.where(message.c.from_domain.in_(sorted(wanted.domains)))
    if wanted.streams:
        statement = statement.where(message.c.stream.in_(sorted(wanted.streams)))
    if wanted.tag is not None:
        statement = statement.where(message.c.id.in_(_tagged(tenant_id, wanted.tag)))
    if wanted.status is not None or wanted.address_key is not None:
        statement = statement.where(message.c.id.in_(_having_recipient(conn, tenant_id, wanted)))
    return statement


def _tagged(tenant_id: str | None, tag: str) -> sa.Select[Any]:
    statement = sa.select(message_tag.c.message_id).where(message_tag.c.tag == tag)
    return statement if tenant_id is None else statement.where(message_tag.c.tenant_id == tenant_id)


def _having_recipient(conn: Connection, tenant_id: str | None, wanted: Filter) -> sa.Select[Any]:
    statement = sa.select(recipient.c.message_id)
    if tenant_id is not None:
        statement = statement.where(recipient.c.tenant_id == tenant_id)
    if wanted.status is not None:
        statement = statement.where(recipient.c.status == wanted.status)
    if wanted.address_key is not None:
        statement = statement.where(recipient.c.address_hash == sealing.keyed_hash(conn, wanted.address_key))
    return statement


class _Search:
    """
    A search by text: the newest messages are opened, one page of rows after the other, until enough were found.

    Where the text is a whole address, older messages to that address are found too, by its hash.
    """

    def __init__(self, conn: Connection, tenant_id: str | None, wanted: Filter, bounds: Sequence[Bound], *, is_upwards: bool) -> None:
        self._conn = conn
        self._wanted = wanted
        self._is_upwards = is_upwards
        self._text, self._sender, self._subject = ((part or "").lower() for part in (wanted.text, wanted.sender, wanted.subject))
        newest = sa.select(message.c.id)
        if tenant_id is not None:
            newest = newest.where(message.c.tenant_id == tenant_id)
        # the newest message that is not opened any more
        self._floor: str = conn.execute(newest.order_by(message.c.id.desc()).offset(wanted.depth).limit(1)).scalar() or ""
        self._statement = _filtered(conn, tenant_id, wanted).where(*(bound(message.c.id) for bound in bounds))
        self._older: sa.Select[Any] | None = None
        key = _whole_address(wanted)
        if key is not None and self._floor:
            to_it = _having_recipient(conn, tenant_id, Filter(address_key=key))
            self._older = self._statement.where(message.c.id <= self._floor, message.c.id.in_(to_it))

    def first(self, limit: int) -> list[Row[Any]]:
        """Return the first rows that match, the newest first, or the oldest first when the search goes upwards."""
        parts = [self._among_newest, self._among_older]
        found: list[Row[Any]] = []
        for part in parts[::-1] if self._is_upwards else parts:
            for row in part():
                found.append(row)
                if len(found) == limit:
                    return found
        return found

    def _among_older(self) -> Iterator[Row[Any]]:
        if self._older is not None:
            for rows in self._pages(self._older):
                yield from _opened(self._conn, rows)

    def _among_newest(self) -> Iterator[Row[Any]]:
        for rows in self._pages(self._statement.where(message.c.id > self._floor)):
            opened = _opened(self._conn, rows)
            missing = [row.id for row in opened if self._text and not self._is_in_message(row)]
            to = recipients_of(self._conn, missing) if missing else {}
            yield from (row for row in opened if self._matches(row, to))

    def _pages(self, statement: sa.Select[Any]) -> Iterator[Sequence[Row[Any]]]:
        last: str | None = None
        while True:
            bounded = statement
            if last is not None:
                bounded = bounded.where(message.c.id > last if self._is_upwards else message.c.id < last)
            ordered = bounded.order_by(message.c.id if self._is_upwards else message.c.id.desc()).limit(_SEARCH_CHUNK)
            rows = self._conn.execute(ordered).all()
            yield rows
            if len(rows) < _SEARCH_CHUNK:
                return
            last = rows[-1].id

    def _is_in_message(self, row: Row[Any]) -> bool:
        return self._text in row.subject.lower() or self._text in row.from_.lower()

    def _matches(self, row: Row[Any], to: dict[str, list[Row[Any]]]) -> bool:
        if self._sender not in row.from_.lower() or self._subject not in row.subject.lower():
            return False
        return row.id not in to or any(self._text in one.address.lower() for one in to[row.id])


_SEARCH_CHUNK = 250


def _whole_address(wanted: Filter) -> str | None:
    """Return the key of the address that is searched for, when the text is a whole one and nothing else must be opened."""
    if not wanted.text or wanted.sender or wanted.subject:
        return None
    try:
        return parse_address(wanted.text.strip()).key
    except InvalidAddress:
        return None


def counts_by_status(conn: Connection, tenant_id: str | None) -> dict[str, int]:
    """Count recipients by status."""
    statement = sa.select(recipient.c.status, sa.func.count()).group_by(recipient.c.status)
    if tenant_id is not None:
        statement = statement.where(recipient.c.tenant_id == tenant_id)
    return {status: int(count) for status, count in conn.execute(statement)}


def reschedule(conn: Connection, message_id: str, scheduled_at: Instant, expires_at: Instant) -> None:
    """Set a message's times anew: the one change that a message's row sees."""
    conn.execute(sa.update(message).where(message.c.id == message_id).values(scheduled_at=scheduled_at, expires_at=expires_at))
