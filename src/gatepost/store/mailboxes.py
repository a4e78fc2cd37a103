"""
Abuse mailboxes: which of their mail is stored already, and how each of them is doing.

A message of a mailbox is known by mailbox, UIDVALIDITY and UID (RFC 3501 §2.3.1.1). Its row is written together with what came, so that
a mail is stored once, whatever dies when; the mailbox is told afterwards. Where a server gives all UIDs anew, contents tell what was read.
Not here: the mailbox (net.imap), what its mail means (returns).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, Instant
from gatepost.store import inbound, sealing
from gatepost.store.inbound import Arrived
from gatepost.store.schema import mailbox, mailbox_letter

_KEPT_MS: Final = 400 * DAY
LEFT: Final = frozenset({"too_large", "unreadable"})
"""States of messages that stay where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterKey:
    """
    A message of a mailbox.

    Attributes:
        mailbox: A hash of server, user and folder: a mailbox under another name is still the same.
    """

    mailbox: str
    uid_validity: int
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxState:
    """
    How a mailbox is doing.

    Attributes:
        failing_since: Since when it cannot be read.
        failures: In a row.
        detail: What was the matter; empty when all is well.
    """

    name: str
    checked_at: Instant
    due_at: Instant
    failing_since: Instant | None
    failures: int
    detail: str


def known(conn: Connection, box: str, uid_validity: int, uids: Sequence[int]) -> dict[int, tuple[str, bool]]:
    """Return which messages are stored or left already: each with its state, and whether the mailbox was told."""
    columns, found = mailbox_letter.c, {}
    for start in range(0, len(uids), 500):
        chosen = columns.uid.in_(uids[start : start + 500])
        statement = sa.select(columns.uid, columns.state, columns.marked_at)
        statement = statement.where(columns.mailbox == box, columns.uid_validity == uid_validity, chosen)
        found.update({uid: (state, marked_at is not None) for uid, state, marked_at in conn.execute(statement)})
    return found


def store(conn: Connection, key: LetterKey, arrived: Arrived, now: Instant) -> str:
    """Keep a message with what came, once; return `stored`, or `again` where it was kept before."""
    digest = sealing.keyed_hash(conn, f"mailbox/{key.mailbox}/{hashlib.sha256(arrived.body).hexdigest()}")
    same = sa.select(mailbox_letter.c.uid).where(mailbox_letter.c.mailbox == key.mailbox, mailbox_letter.c.digest == digest)
    is_elsewhere = conn.execute(same.where(mailbox_letter.c.uid_validity != key.uid_validity).limit(1)).first() is not None
    if not _put(conn, key, "again" if is_elsewhere else "stored", digest, now) or is_elsewhere:
        return "again"
    inbound.put(conn, arrived, now)
    return "stored"


def leave(conn: Connection, key: LetterKey, state: str, now: Instant) -> bool:
    """
    Note that a message stays where it is; return whether that is new.

    Args:
        state: One of `LEFT`.
    """
    return _put(conn, key, state, "", now)


def mark(conn: Connection, key: LetterKey, now: Instant) -> None:
    """Note that the mailbox was told."""
    columns = mailbox_letter.c
    same = sa.and_(columns.mailbox == key.mailbox, columns.uid_validity == key.uid_validity, columns.uid == key.uid)
    conn.execute(sa.update(mailbox_letter).where(same).values(marked_at=now))


def put_state(conn: Connection, state: MailboxState) -> None:
    """Write down how a mailbox is doing."""
    values = {name: getattr(state, name) for name in MailboxState.__slots__}
    statement = _insert(conn)(mailbox).values(**values)
    changed = {name: value for name, value in values.items() if name != "name"}
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=changed))


def states(conn: Connection) -> dict[str, MailboxState]:
    """Return how the mailboxes are doing that were looked into."""
    return {row["name"]: MailboxState(**row) for row in conn.execute(sa.select(mailbox)).mappings()}


def purge(conn: Connection, now: Instant) -> None:
    """Forget messages of long ago, which no return path speaks for any more."""
    conn.execute(sa.delete(mailbox_letter).where(mailbox_letter.c.stored_at < now - _KEPT_MS))


def _put(conn: Connection, key: LetterKey, state: str, digest: str, now: Instant) -> bool:
    values = {
        "mailbox": key.mailbox, "uid_validity": key.uid_validity, "uid": key.uid, "state": state, "digest": digest, "stored_at": now,
        "marked_at": None,
    }  # fmt: skip
    return bool(conn.execute(_insert(conn)(mailbox_letter).values(**values).on_conflict_do_nothing()).rowcount)


def _insert(conn: Connection) -> Any:
    return postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
