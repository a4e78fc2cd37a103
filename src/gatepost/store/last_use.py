"""When, and from where, a key or an OAuth client was used last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store.schema import last_use


@dataclass(frozen=True, slots=True)
class LastUse:
    """The last use of a key or client."""

    used_at: Instant
    peer: str


def note(conn: Connection, uses: Mapping[str, LastUse]) -> None:
    """Write uses down, unless a later one stands there already."""
    if not uses:
        return
    # sorted: two processes that write the same rows must not wait for each other
    rows = [{"principal_id": who, "used_at": uses[who].used_at, "peer": uses[who].peer} for who in sorted(uses)]
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(last_use)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["principal_id"], set_={"used_at": new.used_at, "peer": new.peer}, where=last_use.c.used_at < new.used_at
    )
    conn.execute(statement, rows)


def of(conn: Connection, principal_ids: Sequence[str]) -> dict[str, LastUse]:
    """Look up the last use of some; those that were never used are missing."""
    found: dict[str, LastUse] = {}
    for start in range(0, len(principal_ids), 500):
        wanted = principal_ids[start : start + 500]
        for who, used_at, peer in conn.execute(select(last_use).where(last_use.c.principal_id.in_(wanted))):
            found[who] = LastUse(used_at, peer)
    return found
