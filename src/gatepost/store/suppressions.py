"""
Suppressions: addresses that a tenant's mail must not go to.

An address stands as a keyed hash, by which it is found, and sealed with the note, for its owner to read.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import suppression
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
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for start in range(0, len(wanted), 500):
        chunk = {(tenant_id, keyed_hash(conn, address)): address for tenant_id, address in wanted[start : start + 500]}
        for tenant_id, address_hash, stream, reason in conn.execute(_MATCHING, {"wanted": list(chunk), "now": now}):
            found.setdefault((tenant_id, chunk[tenant_id, address_hash]), []).append((stream, reason))
    return found


_MATCHING = sa.select(suppression.c.tenant_id, suppression.c.address_hash, suppression.c.stream, suppression.c.reason).where(
    sa.tuple_(suppression.c.tenant_id, suppression.c.address_hash).in_(sa.bindparam("wanted", expanding=True)),
    sa.or_(suppression.c.expires_at.is_(None), suppression.c.expires_at > sa.bindparam("now")),
)
"""Made once: making such a statement costs more than running it."""


def put(conn: Connection, row: dict[str, Any]) -> bool:
    """
    Add or renew a suppression; return whether it is new.

    Args:
        row: By the table's columns, with `address` (see `Address.key`) and `note` in the clear.
    """
    tenant_id, stream, address_hash = row["tenant_id"], row["stream"], keyed_hash(conn, row["address"])
    private = msgspec.msgpack.encode((row["address"], row["note"]))
    sealed = sealing.seal(conn, private, tenant_id=tenant_id, place=_place(address_hash, stream), at=row["created_at"])
    changes = {"reason": row["reason"], "expires_at": row["expires_at"], "sealed": sealed}
    same = _same(tenant_id, address_hash, stream)
    if conn.execute(sa.update(suppression).where(same).values(**changes)).rowcount:
        return False
    conn.execute(sa.insert(suppression), [{**{name: row[name] for name in _PLAIN}, "address_hash": address_hash, "sealed": sealed}])
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
    statement = insert(suppression).values({**{name: row[name] for name in _PLAIN}, "address_hash": address_hash, "sealed": sealed})
    new, old = statement.excluded, suppression.c
    lasts_longer = sa.and_(old.expires_at.is_not(None), sa.or_(new.expires_at.is_(None), new.expires_at > old.expires_at))
    changes = {name: getattr(new, name) for name in ("id", "reason", "sealed", "created_at", "expires_at")}
    statement = statement.on_conflict_do_update(index_elements=["tenant_id", "address_hash", "stream"], set_=changes, where=lasts_longer)
    return conn.execute(statement.returning(old.id)).first() is not None


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
