"""
The seam between queries and databases.

A query is a plain function over a SQLAlchemy Core connection; an engine runs it, in a transaction of its own, on a thread
or a connection that suits the database. `GroupCommit` puts many callers' work into one transaction, because an fsync'd
commit costs as much as a hundred rows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection

from gatepost.store.errors import StorageUnavailable

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """A database."""

    dialect: str

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


class GroupCommit(Generic[Item, Result]):
    """
    Collects items and commits them together.

    When nothing is being committed, an item waits at most `linger_s`; while a commit runs, items gather for the next.
    """

    def __init__(
        self,
        engine: Engine,
        run: Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]],
        *,
        weight: Callable[[Item], int] = lambda _: 1,
        max_weight: int = 200,
        linger_s: float = 0.0,
    ) -> None:
        """
        Args:
            run: Processes a group in one transaction and returns one result per item; an exception among the results
                is raised to that item's caller alone.
            weight: Size of an item, counted against `max_weight`.
        """
        self._engine = engine
        self._run = run
        self._weight = weight
        self._max_weight = max_weight
        self._linger_s = linger_s
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Number of items that wait for the next commit."""
        return len(self._pending)

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """
        Hand an item over; the future ends when it is on disk.

        The future raises what `run` raised or returned for the item, or `StorageUnavailable`.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
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
            while self._pending:
                await self._commit(self._take())
        finally:
            self._task = None

    def _take(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        group = [self._pending.popleft()]
        room = self._max_weight - self._weight(group[0][0])
        while self._pending and (size := self._weight(self._pending[0][0])) <= room:
            room -= size
            group.append(self._pending.popleft())
        return group

    async def _commit(self, group: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        items = [item for item, _ in group]
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


def _answer(group: Sequence[tuple[Item, "asyncio.Future[Result]"]], results: Sequence[Result | Exception]) -> None:
    for (_, future), result in zip(group, results, strict=True):
        if future.done():  # its caller went away
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
