"""
Queue rows that change their place: to the site that takes their domain, to another road, to another time.

Arrives: rows that this process holds in memory, each with its new place.
Leaves: the rows there, moved in one transaction under the fence. No attempt is counted and no event written: nothing
happened to the mail. Rows that are gone meanwhile (cancelled) are passed over.
Not here: why they move (resolving, roads, shaping).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.route import shard_of
from gatepost.observe import maillog
from gatepost.store import leases, messages, queue
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.queue import Due

_GROUP = 500
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """
    One row's new place.

    Attributes:
        epoch: The shard's epoch when the row was claimed: the fence.
    """

    due: Due
    epoch: int
    pool: str
    site: str
    due_at: Instant
    tried: int = 0


class Moving:
    """Moves rows, for one process."""

    def __init__(self, engine: Engine, clock: Clock, owner: str, on_moved: Callable[[Sequence[Move]], None]) -> None:
        """
        Args:
            on_moved: Called with moves that are done, or were not this process's to do any more.
        """
        self._engine = engine
        self._clock = clock
        self._owner = owner
        self._on_moved = on_moved
        self._pending: deque[Move] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything is on disk."""
        return self._task is None

    def add(self, moves: Sequence[Move]) -> None:
        """Hand moves over; never blocks, never fails."""
        self._pending.extend(moves)
        if self._task is None and self._pending:
            self._task = asyncio.ensure_future(self._write_until_empty())

    async def drain(self) -> None:
        """Wait until everything is on disk; for ever, if the database stays away."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _write_until_empty(self) -> None:
        try:
            while self._pending:
                group = [self._pending.popleft() for _ in range(min(_GROUP, len(self._pending)))]
                try:
                    await self._engine.write(lambda conn, group=group: move(conn, group, self._owner))  # type: ignore[misc]
                except StorageUnavailable as error:
                    maillog.trouble("moving queue rows is waiting for the database", error=str(error), rows=len(group))
                    self._pending.extendleft(reversed(group))
                    await self._clock.sleep(_PAUSE_S)
                else:
                    self._on_moved(group)
        finally:
            self._task = None


def move(conn: Connection, moves: Sequence[Move], owner: str) -> int:
    """
    Move rows to their new places; safe to run again.

    Args:
        owner: This process, as it stands in the leases.

    Returns:
        How many were moved.
    """
    epochs = leases.fenced(conn, owner, sorted({one.due.shard for one in moves}))
    mine = [one for one in moves if epochs.get(one.due.shard) == one.epoch]
    waiting = queue.present(conn, [one.due for one in mine])
    there = [one for one in mine if (one.due.message_id, one.due.n, one.due.attempt) in waiting]
    queue.delete(conn, [one.due for one in there])
    queue.insert(conn, [_row(one) for one in there])
    messages.set_sites(conn, [(one.due.message_id, one.due.n, one.site) for one in there if one.site != one.due.site])
    return len(there)


def _row(one: Move) -> dict[str, object]:
    shard = shard_of(one.pool, one.site)
    return {**one.due._asdict(), "shard": shard, "pool": one.pool, "site": one.site, "due_at": one.due_at, "tried": one.tried}
