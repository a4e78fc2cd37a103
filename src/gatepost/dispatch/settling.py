"""
The way of results into the database: collected for some milliseconds, written in one transaction, kept until they are.

While the database is away results wait here, and `is_healthy` tells the dispatch loop to start nothing new: what was
delivered and is not recorded would be delivered again after a crash.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from gatepost.bounce_messages import BounceMessages
from gatepost.clock import Clock
from gatepost.observe import maillog
from gatepost.settle import Result, Settled, settle
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.suppressing import Suppressing

_GROUP = 200
_MOST_UNSETTLED = 50
"""Results on their way at once, beyond which no delivery begins: a crash repeats these and what is on the network."""
_LINGER_S = 0.002
_PAUSE_S = 0.5


class Settling:
    """Results on their way."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        owner: str,
        on_settled: Callable[[Sequence[Result], Sequence[Settled]], None],
        reports: BounceMessages | None = None,
        suppressing: Suppressing | None = None,
    ) -> None:
        """
        Args:
            on_settled: Called for results once they are on disk, or refused by the fence.
            reports: Tells senders by mail; None tells nobody.
            suppressing: Keeps the suppression list; None suppresses nobody.
        """
        self._reports = reports
        self._suppressing = suppressing
        self._engine = engine
        self._clock = clock
        self._owner = owner
        self._on_settled = on_settled
        self._pending: deque[Result] = deque()
        self._unsettled = 0
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_healthy = True

    def __len__(self) -> int:
        """Number of results that wait to be written."""
        return len(self._pending)

    @property
    def is_idle(self) -> bool:
        """Whether everything is on disk: a group that is being written is not."""
        return self._task is None

    def add(self, results: Sequence[Result]) -> None:
        """Hand results over; never blocks, never fails."""
        self._pending.extend(results)
        self._unsettled += len(results)
        if self._task is None:
            self._task = asyncio.ensure_future(self._write_until_empty())

    async def room(self) -> None:
        """Wait until few enough results are on their way for a delivery to begin; or until the database is away."""
        while self._unsettled >= _MOST_UNSETTLED and self.is_healthy:
            self._progress.clear()
            await self._progress.wait()

    async def drain(self) -> None:
        """Wait until everything is on disk; for ever, if the database stays away."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _write_until_empty(self) -> None:
        try:
            while self._pending:
                if len(self._pending) < _GROUP:
                    await asyncio.sleep(_LINGER_S)
                await self._write_group()
        finally:
            self._task = None

    async def _write_group(self) -> None:
        group = [self._pending.popleft() for _ in range(min(_GROUP, len(self._pending)))]
        try:
            await self._write(group)
        except StorageUnavailable as error:
            if self.is_healthy:
                maillog.trouble("settling is waiting for the database", error=str(error), results=len(group) + len(self._pending))
            self.is_healthy = False
            self._progress.set()
            self._pending.extendleft(reversed(group))
            await self._clock.sleep(_PAUSE_S)
        else:
            if not self.is_healthy:
                maillog.lifecycle("settling works again", results=len(self._pending))
            self.is_healthy = True
            self._unsettled -= len(group)
            self._progress.set()

    async def _write(self, group: list[Result]) -> None:
        try:
            settled = await self._engine.write(lambda conn: settle(conn, group, self._owner, self._reports, self._suppressing))
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one result that cannot be written must not hold up the others
            if len(group) > 1:
                for result in group:
                    await self._write([result])
                return
            # kept in flight on purpose: read again it would be sent again, and fail here again
            maillog.crashed("settle", error, message_id=group[0].due.message_id, n=group[0].due.n)
            return
        self._on_settled(group, settled)
