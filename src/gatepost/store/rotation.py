"""
Rotation: a new master key takes over.

Data stays as it is: only the data keys are wrapped anew, some hundred bytes for each tenant and day. First the key of hashes,
whose master is the one in force: from then on no process wraps by the old key. Then the others, in as many transactions as
one likes; whatever stops it, it goes on where it was.
Not here: where the master keys are kept (master_key), who asks for it (cli.secrets).
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.store import sealing
from gatepost.store.errors import KeyLost
from gatepost.store.keyring import IN_FORCE, SEARCH, Name
from gatepost.store.master_key import MasterKey
from gatepost.store.schema import data_key


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    Which master keys wrap what.

    Attributes:
        in_force: Wraps new data keys.
        counts: Data keys by the name of the master key that wraps them.
    """

    in_force: str
    counts: dict[str, int]

    @property
    def left(self) -> int:
        """Data keys that an older master key wraps."""
        return sum(count for master_id, count in self.counts.items() if master_id != self.in_force)


def state(conn: Connection) -> State:
    """Count the data keys by master key."""
    counts = sa.select(data_key.c.master_id, sa.func.count()).group_by(data_key.c.master_id)
    return State(in_force=conn.execute(IN_FORCE).scalar_one(), counts={name: int(count) for name, count in conn.execute(counts)})


_UPDATE = (
    sa.update(data_key)
    .where(data_key.c.tenant_id == sa.bindparam("b_tenant_id"), data_key.c.day == sa.bindparam("b_day"))
    .values(wrapped=sa.bindparam("wrapped"), master_id=sa.bindparam("master_id"))
)


def take_over(conn: Connection, master: MasterKey) -> str | None:
    """
    Let a master key wrap all new data keys; return the one that did before, None when it is this one already.

    Transactions that are making a data key right now end first; those after them use the new key.

    Raises:
        MasterKeyRefused: The master key in force is not known.
    """
    statement = IN_FORCE.with_for_update() if conn.dialect.name == "postgresql" else IN_FORCE
    before: str = conn.execute(statement).scalar_one()
    if before == master.id:
        return None
    conn.execute(_UPDATE, [sealing.keyring_of(conn).rewrap(conn, ("", SEARCH), master)])
    return before


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """
    What one transaction of a rotation did.

    Attributes:
        last: Where the next one begins; None when there is nothing left.
        damaged: Data keys that no master key opens: what they sealed is lost, with or without a rotation.
    """

    count: int
    damaged: tuple[Name, ...]
    last: Name | None


FIRST: Name = ("", "")


def rewrap(conn: Connection, master: MasterKey, after: Name = FIRST, limit: int = 500) -> Rewrapped:
    """
    Wrap some of the data keys that other master keys wrap by this one.

    Args:
        after: Tenant and day to begin behind.

    Raises:
        MasterKeyRefused: A master key that wraps some is not known.
    """
    ring = sealing.keyring_of(conn)
    names = _left(conn, master, after, limit)
    rows, damaged = [], []
    for name in names:
        try:
            rows.append(ring.rewrap(conn, name, master))
        except KeyLost:
            damaged.append(name)
    if rows:
        conn.execute(_UPDATE, rows)
    return Rewrapped(count=len(rows), damaged=tuple(damaged), last=names[-1] if names else None)


def is_unfinished(conn: Connection, master: MasterKey) -> bool:
    """
    Tell whether other master keys wrap any data key that can be wrapped anew; damaged ones stay under theirs for ever.

    Raises:
        MasterKeyRefused: A master key that wraps some is not known.
    """
    ring, after = sealing.keyring_of(conn), FIRST
    while names := _left(conn, master, after, 500):
        for name in names:
            try:
                ring.rewrap(conn, name, master)
            except KeyLost:
                continue
            return True
        after = names[-1]
    return False


def _left(conn: Connection, master: MasterKey, after: Name, limit: int) -> list[Name]:
    """List some of the data keys that other master keys wrap, in order."""
    columns = data_key.c
    is_left = sa.and_(columns.master_id != master.id, sa.tuple_(columns.tenant_id, columns.day) > after)
    statement = sa.select(columns.tenant_id, columns.day).where(is_left).order_by(columns.tenant_id, columns.day).limit(limit)
    return [(row.tenant_id, row.day) for row in conn.execute(statement)]
