"""
The seam between queries and databases.

A query is a plain function over a SQLAlchemy Core connection; an engine runs it, in a transaction of its own, on a thread
or a connection that suits the database. `GroupCommit` puts many callers' work into one transaction, because an fsync'd
commit costs as much as a hundred rows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from gatepost.store.errors import StorageUnavailable
from gatepost.store.keyring import Keyring

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

_A_FEW: Final = 3
_BUSY_LINGER_S: Final = 0.0015
_WEIGHT_OF_THE_LAST: Final = 0.2
_LONG_COMMIT_S: Final = 0.05
"""A group that takes longer is too large: who is urgent waits for the commit that runs."""
_LEAST_SHARE: Final = 0.1


class Engine(Protocol):
    """A database."""

    dialect: str
    keyring: Keyring

    async def write(self, work: Callable[[Connection], T]) -> T:
        """
        Run `work` in a transaction; return when it is committed and on disk.

        Raises:
            StorageUnavailable: The database cannot be used now; the commit may or may not have happened.
        """
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """
        Run `work`, which only reads.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        ...

    async def close(self) -> None:
        """Finish what is running and close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    since: float


class GroupCommit(Generic[Item, Result]):
    """
    Collects items and commits them together, the most urgent ones first.

    When nothing is being committed, an item waits at most `linger_s`; while a commit runs, items gather for the next, and
    under load a moment longer: a commit costs much the same for ten as for twenty. An item waits for those of its own
    urgency and of the more urgent, and for the commit that runs; never for the others.

    Attributes:
        commit_s: Time of a commit, averaged over the last ones; it fades while there are none.
    """

    def __init__(
        self,
        engine: Engine,
        run: Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]],
        *,
        weight: Callable[[Item], int] = lambda _: 1,
        max_weight: int = 200,
        linger_s: float = 0.0,
        urgency: Callable[[Item], int] = lambda _: 0,
        urgencies: int = 1,
    ) -> None:
        """
        Args:
            run: Processes a group in one transaction and returns one result per item; an exception among the results
                is raised to that item's caller alone.
            weight: Size of an item, counted against `max_weight`.
            urgency: From 0, the most urgent, to `urgencies` - 1.
        """
        self._engine = engine
        self._run = run
        self._weight = weight
        self._max_weight = self._room = max_weight
        self._linger_s = linger_s
        self._urgency = urgency
        self._pending: list[deque[_Waiting[Item, Result]]] = [deque() for _ in range(urgencies)]
        self._task: asyncio.Task[None] | None = None
        self._started_at: float | None = None
        self._ended_at = 0.0
        self._commit_s = 0.0

    def __len__(self) -> int:
        """Number of items that wait for the next commit."""
        return sum(map(len, self._pending))

    @property
    def commit_s(self) -> float:
        """Average time of a commit; a commit that still runs counts for what it has taken so far."""
        now = asyncio.get_running_loop().time()
        if self._started_at is not None:
            return max(self._commit_s, now - self._started_at)
        return self._commit_s * float(0.5 ** (now - self._ended_at))

    def oldest_s(self, urgency: int = 0) -> float:
        """Return how long the longest waiting item of an urgency has waited for its commit to begin; 0 when none waits."""
        waiting = self._pending[urgency]
        return asyncio.get_running_loop().time() - waiting[0].since if waiting else 0.0

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """
        Hand an item over; the future ends when it is on disk.

        The future raises what `run` raised or returned for the item, or `StorageUnavailable`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._pending[self._urgency(item)].append(_Waiting(item, future, loop.time()))
        if self._task is None:
            self._task = asyncio.ensure_future(self._commit_until_empty())
        return future

    async def drain(self) -> None:
        """Wait until everything handed over so far is committed or refused."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _commit_until_empty(self) -> None:
        try:
            if self._linger_s:
                await asyncio.sleep(self._linger_s)
            while group := self._take():
                await self._commit_timed(group)
                # many clients wait for each answer before they go on: those of this group come back just too late for the next one
                if self._linger_s and len(group) > _A_FEW and len(self) < len(group):
                    await asyncio.sleep(_BUSY_LINGER_S)
        finally:
            self._task = None

    def _take(self) -> "list[_Waiting[Item, Result]]":
        """Take the next group out: the most urgent first, in order, as many as fit; the first one always does."""
        group: list[_Waiting[Item, Result]] = []
        room = self._room
        for lane in self._pending:
            while lane and ((size := self._weight(lane[0].item)) <= room or not group):
                room -= size
                group.append(lane.popleft())
        return group

    async def _commit_timed(self, group: "list[_Waiting[Item, Result]]") -> None:
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        try:
            await self._commit(group)
        finally:
            self._ended_at = loop.time()
            self._learn(self._ended_at - self._started_at)
            self._started_at = None

    def _learn(self, took_s: float) -> None:
        """Keep commits short: groups shrink while they take too long, and grow again."""
        self._commit_s += _WEIGHT_OF_THE_LAST * (took_s - self._commit_s)
        if took_s > _LONG_COMMIT_S:
            self._room = max(int(self._room * max(_LONG_COMMIT_S / took_s, 0.5)), int(self._max_weight * _LEAST_SHARE), 1)
        else:
            self._room = min(self._room + 1 + self._max_weight // 20, self._max_weight)

    async def _commit(self, group: "list[_Waiting[Item, Result]]") -> None:
        items = [waiting.item for waiting in group]
        try:
            results = await self._engine.write(lambda conn: self._run(conn, items))
        except StorageUnavailable as error:
            _answer(group, [error] * len(group))
        except Exception as error:  # noqa: BLE001 - one bad item must not take the others with it
            if len(group) == 1:
                _answer(group, [error])
            else:
                for single in group:
                    await self._commit([single])
        else:
            _answer(group, results)


def _answer(group: Sequence[_Waiting[Any, Result]], results: Sequence[Result | Exception]) -> None:
    for waiting, result in zip(group, results, strict=True):
        future = waiting.future
        if future.done():  # its caller went away
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
