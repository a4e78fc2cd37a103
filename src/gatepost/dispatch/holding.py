"""
Suspended tenants' mail: put aside, and put back when the tenant is resumed.

Arrives: who is suspended now, and that a look at the queue met mail of theirs.
Leaves: queue rows moved behind all others (store.queue.HELD), so that they cost no look anything, however many they are;
and moved back. Nothing is kept that the database does not hold: a process that takes a shard over looks once whether
something lies aside in it whose tenant is not suspended any more.
Only the owner of a shard moves its rows, under the fence, and never one that is in flight: settling finds a row by its key.
Not here: who is refused at the doors (tenants.directory).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.message import Lane
from gatepost.observe import maillog
from gatepost.store import leases, queue
from gatepost.store.engine import Engine
from gatepost.store.queue import Due

_CHUNK = 2_000
"""Rows moved in one transaction: other writers get their turn between two."""
_CHUNKS_AT_ONCE = 10
"""Transactions in a row, before the process looks after other tenants' mail again."""

Key = tuple[str, int]
Place = tuple[int, int]


class Holding:
    """Moves rows aside and back, for one process."""

    def __init__(self, engine: Engine, clock: Clock, node_id: str, max_age_s: int) -> None:
        """
        Args:
            max_age_s: `retry.max_age_s`: mail whose end of life its sender did not choose gets the time back that it lay aside.
        """
        self._engine = engine
        self._clock = clock
        self._node_id = node_id
        self._max_age_ms = max_age_s * 1000
        self.suspended: frozenset[str] = frozenset()
        self._checked: dict[int, int] = {}

    async def put_aside(self, places: Collection[Place], epochs: Mapping[int, int], in_flight: Mapping[Key, Place]) -> None:
        """
        Move what is due of suspended tenants out of the way; what is left is met again by the next look.

        Args:
            places: Shards and lanes in which some was met.
            in_flight: What is in memory, with its place; it stays where it is.

        Raises:
            StorageUnavailable: Some of it was moved.
        """
        for _ in range(_CHUNKS_AT_ONCE):
            now, busy = self._clock.now(), dict(in_flight)
            wanted = _wanted(places, Counter(busy.values()))
            found = await self._engine.read(lambda conn, now=now, wanted=wanted: queue.due_of(conn, wanted, now, sorted(self.suspended)))  # type: ignore[misc]
            rows = [row for row in found if (row.message_id, row.n) not in busy]
            if not rows:
                return
            moved = await self._engine.write(lambda conn, rows=rows: self._put_aside(conn, rows, epochs))  # type: ignore[misc]
            maillog.lifecycle("held", node=self._node_id, recipients=moved, tenants=len({row.tenant_id for row in rows}))

    async def follow(self, suspended: frozenset[str], epochs: Mapping[int, int]) -> bool:
        """
        Take over who is suspended now; put back what lies aside of tenants that are so no more.

        Returns:
            Whether something may have become due by that.

        Raises:
            StorageUnavailable: The rest is put back the next time.
        """
        if self.suspended - suspended:
            self._checked.clear()
        self.suspended = suspended
        self._checked = {shard: epoch for shard, epoch in self._checked.items() if epochs.get(shard) == epoch}
        unchecked = [shard for shard in epochs if shard not in self._checked]
        if not unchecked:
            return False
        moved, is_all = await self._put_back(unchecked, epochs)
        if is_all:
            self._checked |= {shard: epochs[shard] for shard in unchecked}
        return moved > 0

    async def _put_back(self, shards: Sequence[int], epochs: Mapping[int, int]) -> tuple[int, bool]:
        """Put back what may go on; return how many, and whether that was all."""
        moved = 0
        places = {(shard, int(lane)) for shard in shards for lane in Lane}
        for _ in range(_CHUNKS_AT_ONCE):
            wanted = _wanted(places, Counter())
            found = await self._engine.read(lambda conn, wanted=wanted: queue.held(conn, wanted, sorted(self.suspended)))  # type: ignore[misc]
            places = {(row.shard, row.lane) for row in found}  # the others have none
            if not found:
                return moved, True
            now = self._clock.now()
            count = await self._engine.write(lambda conn, rows=found, now=now: self._put_rows_back(conn, rows, epochs, now))  # type: ignore[misc]
            moved += count
            maillog.lifecycle("released", node=self._node_id, recipients=count, tenants=len({row.tenant_id for row in found}))
        return moved, False

    def _put_aside(self, conn: Connection, rows: Sequence[Due], epochs: Mapping[int, int]) -> int:
        ours = self._ours(conn, rows, epochs)
        queue.put_aside(conn, ours)
        return len(ours)

    def _put_rows_back(self, conn: Connection, rows: Sequence[Due], epochs: Mapping[int, int], now: Instant) -> int:
        ours = self._ours(conn, rows, epochs)
        lasting = queue.lasting(conn, sorted({row.message_id for row in ours}), self._max_age_ms)
        queue.put_back(conn, [(row, row.expires_at + (max(now - row.planned_at, 0) if row.message_id in lasting else 0)) for row in ours])
        return len(ours)

    def _ours(self, conn: Connection, rows: Sequence[Due], epochs: Mapping[int, int]) -> list[Due]:
        """Keep the rows of shards that are still this process's, until the transaction ends."""
        valid = leases.fenced(conn, self._node_id, sorted({row.shard for row in rows}))
        return [row for row in rows if row.shard in valid and valid[row.shard] == epochs.get(row.shard)]


def _wanted(places: Collection[Place], busy: Mapping[Place, int]) -> list[tuple[int, int, int]]:
    """Spread a chunk over places; in each, room for what is there and must stay."""
    share = max(_CHUNK // len(places), 20)
    return [(*place, share + busy.get(place, 0)) for place in sorted(places)]


def places_of(rows: Sequence[Due], suspended: Collection[str]) -> frozenset[Place]:
    """Name the shards and lanes in which rows of suspended tenants lie."""
    return frozenset((row.shard, row.lane) for row in rows if row.tenant_id in suspended)
