"""
The audit log: who changed what, append-only, each entry's hash covering the one before.

An entry is written in the transaction of the change that it tells of, so that neither exists without the other. Its hash
is an HMAC-SHA-256 over the hash before and all of its fields, under a key that only the master key opens: who has the
database alone can neither alter an entry nor make a new chain. The head holds the number of entries and a MAC of the last
one, so that a cut tail is seen, too.

Bugs: who puts back a whole older copy of the database, head included, is found out only against a head that was noted
elsewhere (`gatepost audit verify --expect`).
"""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.access import Actor
from gatepost.domain.masking import masked, masked_text
from gatepost.store import sealing
from gatepost.store.schema import audit, audit_head, tenant

_HEAD = 1
_START = bytes(32)
"""The hash before the first entry, and the head of a log that has none."""
_CHUNK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One change, as it is told.

    Attributes:
        action: What was done, `noun.verb` in the past: `key.created`, `domain.removed`, `messages.exported`.
        object_id: What it was done to.
        tenant_id: Whose it is; None for what belongs to the gateway itself.
        before: What it was, as far as it changed; None for what is new. Secrets are masked here, whoever forgot to.
        after: What it is now. None for what is gone.
    """

    action: str
    object_id: str
    tenant_id: str | None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def append(conn: Connection, actor: Actor, change: Change, now: Instant) -> None:
    """
    Add an entry to the log, in the transaction of the change itself.

    Best the last step of its transaction: from here on other changes wait until it ends.
    """
    seq, last = _locked_head(conn)
    row: dict[str, Any] = {
        "seq": seq + 1,
        "id": ids.new("aud"),
        "at": now,
        "tenant_id": change.tenant_id,
        "actor_kind": actor.kind.value,
        "actor_id": masked_text(actor.id),
        "actor_name": masked_text(actor.name),
        "peer": masked_text(actor.peer),
        "request_id": masked_text(actor.request_id),
        "action": change.action,
        "object_id": masked_text(change.object_id),
        "before": None if change.before is None else masked(change.before),
        "after": None if change.after is None else masked(change.after),
    }
    key = _key(conn)
    row["hash"] = _entry_hash(key, last, {**row, "before": _json(row["before"]), "after": _json(row["after"])})
    conn.execute(sa.insert(audit), [row])
    head = {"seq": seq + 1, "hash": _head_hash(key, seq + 1, row["hash"])}
    conn.execute(sa.update(audit_head).where(audit_head.c.id == _HEAD).values(**head))


def _locked_head(conn: Connection) -> tuple[int, bytes]:
    """Return number and hash of the last entry, safe from other writers until the transaction ends."""
    statement = sa.select(audit_head.c.seq).where(audit_head.c.id == _HEAD)
    if conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    seq = conn.execute(statement).scalar_one_or_none()
    if seq is None:  # somebody took the head away; the log goes on, and `verify` tells
        seq = conn.execute(sa.select(sa.func.coalesce(sa.func.max(audit.c.seq), 0))).scalar_one()
    last = conn.execute(sa.select(audit.c.hash).where(audit.c.seq == seq)).scalar_one_or_none()
    return int(seq), bytes(last) if last is not None else _START


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What a check of the whole log found.

    Attributes:
        entries: How many were checked, in order, and found whole.
        head: MAC of the last entry, as 64 hexadecimal digits: noted elsewhere, it proves later that nothing was cut.
        bad_seq: Number of the first entry that is not what it was.
        problem: What is wrong with it; None when the log is whole.
    """

    entries: int
    head: str
    bad_seq: int | None = None
    problem: str | None = None


def verify(conn: Connection, expected: tuple[int, str] | None = None) -> Verdict:
    """
    Check the whole log, in bounded memory.

    Args:
        expected: Number and head of an earlier check: the log must still hold that entry.
    """
    key = _key(conn)
    seq, last, proven = 0, _START, None
    while True:
        for row in _rows_after(conn, seq):
            fields: Any = row._mapping  # noqa: SLF001 - public, says SQLAlchemy
            if row.seq != seq + 1:
                return Verdict(seq, _head_hash(key, seq, last).hex(), seq + 1, "an entry was removed")
            if not hmac.compare_digest(_entry_hash(key, last, fields), bytes(row.hash)):
                problem = "the entry was altered, or the one before it was exchanged"
                return Verdict(seq, _head_hash(key, seq, last).hex(), seq + 1, problem)
            seq, last = int(row.seq), bytes(row.hash)
            if expected is not None and seq == expected[0]:
                proven = _head_hash(key, seq, last).hex()
        head: Any = conn.execute(sa.select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == _HEAD)).one_or_none()
        if head is None or head.seq <= seq or not _has(conn, seq + 1):
            break  # else entries were added meanwhile
    found = Verdict(seq, _head_hash(key, seq, last).hex())
    wrong = _wrong_with_head(conn, key, head, seq, last)
    if wrong is None and expected is not None and (proven is None or not hmac.compare_digest(proven, expected[1].lower())):
        return Verdict(seq, found.head, min(expected[0], seq + 1), "the log does not hold the entry that was noted: it was cut or put back")
    return found if wrong is None else Verdict(seq, found.head, seq + 1, wrong)


def _wrong_with_head(conn: Connection, key: bytes, head: Row[Any] | None, seq: int, last: bytes) -> str | None:
    if head is None:
        return "the head was removed"
    if head.seq > seq:
        return f"entries were removed at the end: the head counts {head.seq}"
    if head.seq < seq:
        return f"the head was altered: it counts {head.seq}"
    if seq == 0:
        # the first tenant is made together with the first entry
        is_new = conn.execute(sa.select(tenant.c.id).limit(1)).first() is None
        return None if is_new else "every entry was removed"
    return None if hmac.compare_digest(_head_hash(key, seq, last), bytes(head.hash)) else "the head was altered"


def _has(conn: Connection, seq: int) -> bool:
    return conn.execute(sa.select(audit.c.seq).where(audit.c.seq == seq)).first() is not None


def _rows_after(conn: Connection, seq: int) -> Iterator[Row[Any]]:
    """Read entries in order, some at a time, `before` and `after` as the texts that are stored."""
    texts = {name: sa.type_coerce(audit.c[name], sa.Text).label(name) for name in ("before", "after")}
    columns = [texts.get(column.name, column) for column in audit.c]
    while True:
        rows = conn.execute(sa.select(*columns).where(audit.c.seq > seq).order_by(audit.c.seq).limit(_CHUNK)).all()
        yield from rows
        if len(rows) < _CHUNK:
            return
        seq = int(rows[-1].seq)


_FIELDS = tuple(column.name for column in audit.c if column.name != "hash")
_encode = msgspec.json.Encoder().encode


def _entry_hash(key: bytes, last: bytes, row: Mapping[str, Any]) -> bytes:
    """Compute an entry's hash; JSON says where one field ends and the next begins."""
    return hmac.digest(key, b"entry\0" + last + _encode([row[name] for name in _FIELDS]), "sha256")


def _head_hash(key: bytes, seq: int, last: bytes) -> bytes:
    return hmac.digest(key, b"head\0%d\0" % seq + last, "sha256")


def _json(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()


def _key(conn: Connection) -> bytes:
    """Derive the key of the chain; no address has this form, so its hash stands in no column."""
    return sealing.keyed_hash(conn, "\0the audit log").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    Which entries to list.

    Attributes:
        tenant_id: Whose; None for all.
        is_gateway: Only what belongs to no tenant, instead.
        action: One action, or all of a noun: `domain.`.
        since: Not before this instant.
        until: Before this instant.
    """

    tenant_id: str | None = None
    is_gateway: bool = False
    action: str | None = None
    actor_id: str | None = None
    object_id: str | None = None
    since: Instant | None = None
    until: Instant | None = None


def page(conn: Connection, wanted: Wanted, limit: int, after: str | None = None, before: str | None = None) -> list[Row[Any]]:
    """
    List entries, the newest first.

    Args:
        after: Only those older than this id.
        before: Only those newer than this id; the ones next to it.
    """
    columns = audit.c
    statement = sa.select(audit).where(*_conditions(wanted))
    if before is not None:
        newer = statement.where(columns.seq > _seq_of(before)).order_by(columns.seq).limit(limit)
        return list(reversed(conn.execute(newer).all()))
    if after is not None:
        statement = statement.where(columns.seq < _seq_of(after))
    return list(conn.execute(statement.order_by(columns.seq.desc()).limit(limit)).all())


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    columns = audit.c
    found: list[sa.ColumnElement[bool]] = []
    if wanted.is_gateway:
        found.append(columns.tenant_id.is_(None))
    elif wanted.tenant_id is not None:
        found.append(columns.tenant_id == wanted.tenant_id)
    if wanted.action is not None:
        is_noun = wanted.action.endswith(".")
        found.append(columns.action.startswith(wanted.action, autoescape=True) if is_noun else columns.action == wanted.action)
    for column, value in ((columns.actor_id, wanted.actor_id), (columns.object_id, wanted.object_id)):
        if value is not None:
            found.append(column == value)
    if wanted.since is not None:
        found.append(columns.at >= wanted.since)
    if wanted.until is not None:
        found.append(columns.at < wanted.until)
    return found


def _seq_of(entry_id: str) -> sa.ScalarSelect[Any]:
    return sa.select(audit.c.seq).where(audit.c.id == entry_id).scalar_subquery()


def newest(conn: Connection, action: str) -> Row[Any] | None:
    """Return the gateway's newest entry of an action."""
    return next(iter(page(conn, Wanted(is_gateway=True, action=action), 1)), None)
