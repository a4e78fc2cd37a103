"""
Suppressions: addresses that a tenant's mail must not go to.

An address stands as a keyed hash, by which it is found, and sealed with the note, for its owner to read.
What is suppressed is noted, in the same transaction, for who ends the mail that waits for it (store.suppression_due).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost import ids
from gatepost.clock import DAY, Instant
from gatepost.observe import maillog
from gatepost.store import bulk, sealing, suppression_due
from gatepost.store.errors import SealBroken
from gatepost.store.schema import suppression, suppression_lift
from gatepost.store.sealing import UNREADABLE, keyed_hash

EVERY_STREAM = ""
_PLAIN = tuple(column.name for column in suppression.c if column.name not in {"address_hash", "sealed"})
_SHOWN = (*_PLAIN, "address", "note")


def matching(conn: Connection, wanted: Sequence[tuple[str, str]], now: Instant) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """
    Find which addresses are suppressed.

    Args:
        wanted: Tenant and address key, see `Address.key`.

    Returns:
        For each suppressed one the streams (empty for every stream) with the reason.
    """
    ring = sealing.keyring_of(conn)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for start in range(0, len(wanted), 500):
        chunk = {(tenant_id, ring.hash_text(conn, address)): address for tenant_id, address in wanted[start : start + 500]}
        for tenant_id, address_hash, stream, reason in bulk.read(conn, *_matching(conn, list(chunk), now)):
            found.setdefault((tenant_id, chunk[tenant_id, address_hash]), []).append((stream, reason))
    return found


_MATCHING = (
    "SELECT s.tenant_id, s.address_hash, s.stream, s.reason FROM {wanted} JOIN suppression s"
    " ON s.tenant_id = {tenant} AND s.address_hash = {hash} WHERE s.expires_at IS NULL OR s.expires_at > :now"
)
_ON_SQLITE = sa.text(_MATCHING.format(wanted="json_each(:wanted) w CROSS", tenant="w.value ->> 0", hash="w.value ->> 1"))
"""CROSS JOIN keeps the order: each pair that is asked for is looked up in the index."""
_ON_POSTGRES = sa.text(
    _MATCHING.format(wanted="unnest(CAST(:tenants AS text[]), CAST(:hashes AS text[])) AS w(t, h)", tenant="w.t", hash="w.h")
)


def _matching(conn: Connection, wanted: Sequence[tuple[str, str]], now: Instant) -> tuple[sa.TextClause, dict[str, Any]]:
    """Return the statement, whose text is the same for any number of addresses, with its values."""
    if conn.dialect.name == "postgresql":
        return _ON_POSTGRES, {"tenants": [one[0] for one in wanted], "hashes": [one[1] for one in wanted], "now": now}
    return _ON_SQLITE, {"wanted": msgspec.json.encode(wanted).decode(), "now": now}


def put(conn: Connection, row: dict[str, Any]) -> bool:
    """
    Add or renew a suppression; return whether it is new.

    Args:
        row: By the table's columns, with `address` (see `Address.key`) and `note` in the clear; `source` may be missing where a
            person says so.
    """
    tenant_id, stream, address_hash = row["tenant_id"], row["stream"], keyed_hash(conn, row["address"])
    private = msgspec.msgpack.encode((row["address"], row["note"]))
    sealed = sealing.seal(conn, private, tenant_id=tenant_id, place=_place(address_hash, stream), at=row["created_at"])
    changes = {"reason": row["reason"], "source": row.get("source", ""), "expires_at": row["expires_at"], "sealed": sealed}
    same = _same(tenant_id, address_hash, stream)
    suppression_due.note(conn, tenant_id, address_hash, row["created_at"])
    if conn.execute(sa.update(suppression).where(same).values(**changes)).rowcount:
        return False
    conn.execute(sa.insert(suppression), [_values(row, address_hash, sealed)])
    return True


def put_found(conn: Connection, row: dict[str, Any]) -> bool:
    """
    Suppress what reports say; return whether the address may have got mail until now.

    A suppression that lasts longer stays as it is. Two processes may do this at once.

    Args:
        row: As for `put`.
    """
    address_hash = keyed_hash(conn, row["address"])
    private = msgspec.msgpack.encode((row["address"], row["note"]))
    place = _place(address_hash, row["stream"])
    sealed = sealing.seal(conn, private, tenant_id=row["tenant_id"], place=place, at=row["created_at"])
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(suppression).values(_values(row, address_hash, sealed))
    new, old = statement.excluded, suppression.c
    lasts_longer = sa.and_(old.expires_at.is_not(None), sa.or_(new.expires_at.is_(None), new.expires_at > old.expires_at))
    changes = {name: getattr(new, name) for name in ("id", "reason", "source", "sealed", "created_at", "expires_at")}
    statement = statement.on_conflict_do_update(index_elements=["tenant_id", "address_hash", "stream"], set_=changes, where=lasts_longer)
    is_changed = conn.execute(statement.returning(old.id)).first() is not None
    if is_changed:
        suppression_due.note(conn, row["tenant_id"], address_hash, row["created_at"])
    return is_changed


def _values(row: dict[str, Any], address_hash: str, sealed: bytes) -> dict[str, Any]:
    plain = {name: row.get(name, "") if name == "source" else row[name] for name in _PLAIN}
    return {**plain, "address_hash": address_hash, "sealed": sealed}


def _same(tenant_id: str, address_hash: str, stream: str | None) -> sa.ColumnElement[bool]:
    columns = suppression.c
    condition = sa.and_(columns.tenant_id == tenant_id, columns.address_hash == address_hash)
    return condition if stream is None else sa.and_(condition, columns.stream == stream)


def _place(address_hash: str, stream: str) -> str:
    return f"suppression/{address_hash}/{stream}"


def _opened(conn: Connection, statement: sa.Select[Any]) -> list[Row[Any]]:
    found = []
    for row in conn.execute(statement):
        try:
            place = _place(row.address_hash, row.stream)
            address, note = msgspec.msgpack.decode(sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=place))
        except SealBroken as error:  # it still suppresses: the hash is enough for that
            maillog.trouble("a stored suppression cannot be opened", error=str(error))
            address, note = UNREADABLE, ""
        found.append((*(getattr(row, name) for name in _PLAIN), address, note))
    return sealing.rows(_SHOWN, found)


def get(conn: Connection, tenant_id: str, address: str, stream: str = EVERY_STREAM) -> Row[Any] | None:
    """Return one suppression."""
    found = _opened(conn, sa.select(suppression).where(_same(tenant_id, keyed_hash(conn, address), stream)))
    return found[0] if found else None


def by_hash(conn: Connection, tenant_id: str, address_hash: str, stream: str) -> Row[Any] | None:
    """Return one suppression by the keyed hash of its address."""
    found = _opened(conn, sa.select(suppression).where(_same(tenant_id, address_hash, stream)))
    return found[0] if found else None


def remove_one(conn: Connection, suppression_id: str) -> bool:
    """Lift one suppression; return whether it was there."""
    return bool(conn.execute(sa.delete(suppression).where(suppression.c.id == suppression_id)).rowcount)


def of_address(conn: Connection, tenant_id: str, address: str, stream: str | None = None) -> list[Row[Any]]:
    """List the suppressions of an address: of all streams, or only one stream's."""
    same = _same(tenant_id, keyed_hash(conn, address), stream)
    return _opened(conn, sa.select(suppression).where(same).order_by(suppression.c.id))


def remove(conn: Connection, tenant_id: str, address: str, stream: str | None = None) -> int:
    """
    Lift suppressions of an address; return how many.

    Args:
        stream: Only this stream's; None lifts all.
    """
    return conn.execute(sa.delete(suppression).where(_same(tenant_id, keyed_hash(conn, address), stream))).rowcount


def page(conn: Connection, tenant_id: str, limit: int, after: str | None = None, before: str | None = None) -> list[Row[Any]]:
    """
    List suppressions, the newest first.

    Args:
        after: Only those older than this id.
        before: Only those newer than this id; the ones next to it.
    """
    statement = sa.select(suppression).where(suppression.c.tenant_id == tenant_id)
    if before is not None:
        rows = _opened(conn, statement.where(suppression.c.id > before).order_by(suppression.c.id).limit(limit))
        return rows[::-1]
    if after is not None:
        statement = statement.where(suppression.c.id < after)
    return _opened(conn, statement.order_by(suppression.c.id.desc()).limit(limit))


def note_lifted(conn: Connection, tenant_id: str, address: str, now: Instant) -> None:
    """Keep that a person lifted an address's suppressions: providers' lists are told, and what they said before counts no more."""
    address_hash = keyed_hash(conn, address)
    sealed = sealing.seal(conn, address.encode(), tenant_id=tenant_id, place=_place_of_lift(address_hash), at=now)
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    changed = {"id": ids.new("sup"), "lifted_at": now, "used_at": now, "sealed": sealed}
    values = {"tenant_id": tenant_id, "address_hash": address_hash, **changed}
    statement = insert(suppression_lift).values(values)
    changes = {name: getattr(statement.excluded, name) for name in changed}
    conn.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "address_hash"], set_=changes))


def lifted_at(conn: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Instant]:
    """
    Return when a person lifted what was suppressed, where one did.

    Args:
        keys: Tenant and keyed hash of the address.
    """
    columns, found = suppression_lift.c, {}
    for start in range(0, len(keys), 250):
        same = sa.tuple_(columns.tenant_id, columns.address_hash).in_(list(keys[start : start + 250]))
        rows = conn.execute(sa.select(columns.tenant_id, columns.address_hash, columns.lifted_at).where(same))
        found.update({(row.tenant_id, row.address_hash): row.lifted_at for row in rows})
    return found


def use_lifts(conn: Connection, keys: Sequence[tuple[str, str]], now: Instant) -> None:
    """
    Note that it counts still that a person lifted these; at most once a day each.

    Args:
        keys: Tenant and keyed hash of the address.
    """
    columns = suppression_lift.c
    for start in range(0, len(keys), 250):
        same = sa.tuple_(columns.tenant_id, columns.address_hash).in_(list(keys[start : start + 250]))
        conn.execute(sa.update(suppression_lift).where(same, columns.used_at < now - DAY).values(used_at=now))


def purge(conn: Connection, ended_before: Instant, used_before: Instant) -> None:
    """Forget suppressions that ended long ago, and liftings that nothing has been held against for long."""
    conn.execute(sa.delete(suppression).where(suppression.c.expires_at < ended_before))
    conn.execute(sa.delete(suppression_lift).where(suppression_lift.c.used_at < used_before))


def lifts_after(conn: Connection, after: str, before: Instant, limit: int) -> list[tuple[str, str, str]]:
    """
    List what was lifted, the oldest first: id, tenant and address; without what cannot be opened.

    Args:
        before: Only what was lifted earlier: transactions that run may still come in between what is newer.
    """
    columns, found = suppression_lift.c, []
    statement = sa.select(suppression_lift).where(columns.id > after, columns.id < ids.lower_bound("sup", before))
    for row in conn.execute(statement.order_by(columns.id).limit(limit)):
        try:
            address = sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=_place_of_lift(row.address_hash)).decode()
        except SealBroken as error:
            maillog.trouble("a lifted suppression cannot be opened", error=str(error))
            address = ""
        found.append((row.id, row.tenant_id, address))
    return found


def added_after(conn: Connection, after: str, before: Instant, limit: int) -> list[Row[Any]]:
    """List the suppressions of all tenants, the oldest first; arguments as for `lifts_after`."""
    columns = suppression.c
    statement = sa.select(suppression).where(columns.id > after, columns.id < ids.lower_bound("sup", before))
    return _opened(conn, statement.order_by(columns.id).limit(limit))


def is_suppressed_anywhere(conn: Connection, tenant_ids: Sequence[str], address: str, now: Instant) -> bool:
    """Tell whether one of some tenants suppresses an address."""
    return bool(matching(conn, [(tenant_id, address) for tenant_id in tenant_ids], now))


def _place_of_lift(address_hash: str) -> str:
    return f"suppression_lift/{address_hash}"
