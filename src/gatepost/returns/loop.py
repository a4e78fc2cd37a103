"""
The feedback loop: works on what came back, row by row, until nothing waits.

Arrives: rows of store.inbound. Leaves: statements settled; rows forgotten, put off, or put aside.
A statement may overtake the delivery that it is about: it is looked at again, for a day. What breaks us three times is
poison: it is put aside, and the others go on; a row that ends the process counts as well, since it is claimed before.
What nobody can read, and what speaks of nobody we know, is put aside as well (aside).
Not here: reading (letters, hooks), what a statement does (reported).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from gatepost.bounce_messages import BounceMessages
from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Clock, Instant
from gatepost.domain.statement import Statement
from gatepost.observe import maillog, metrics
from gatepost.reported import Told, settle_statement
from gatepost.returns.aside import PutAside
from gatepost.store import inbound
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.inbound import Claimed
from gatepost.suppressing import Suppressing

_WAITS_MS: Final = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY)
_MOST_CLAIMS: Final = 3
_AT_ONCE: Final = 5
_GROUP: Final = 50
_LATER: Final = frozenset({Told.TOO_EARLY, Told.UNKNOWN})

Reader = Callable[[Claimed], Awaitable[Sequence[Statement]]]
"""Reads a row; raises whatever it likes."""


class FeedbackLoop:
    """Works on what came back, for one process of several."""

    def __init__(
        self, engine: Engine, clock: Clock, suppressing: Suppressing, readers: Mapping[str, Reader], senders: BounceMessages | None = None
    ) -> None:  # fmt: skip
        """
        Args:
            readers: By the kind of row.
            senders: Tells them by mail of what bounced after delivery; None tells nobody.
        """
        self._senders = senders
        self._engine = engine
        self._clock = clock
        self._suppressing = suppressing
        self._readers = readers

    async def step(self) -> None:
        """
        Work until nothing is due.

        Raises:
            StorageUnavailable: What was claimed comes again.
        """
        while True:
            now = self._clock.now()
            if not await self._engine.read(partial(inbound.is_due, now=now)):
                return
            rows = await self._engine.write(partial(inbound.claim, now=now, limit=_AT_ONCE))
            for row in rows:
                await self._work(row)

    async def _work(self, row: Claimed) -> None:
        if row.claims > _MOST_CLAIMS:
            await self._put_aside(row, f"it was begun {_MOST_CLAIMS} times and never ended")
            return
        try:
            statements = await self._readers[row.kind](row)
            told = await self._settle(statements)
        except StorageUnavailable:
            raise
        except PutAside as found:
            await self._set_aside(row, found.state, str(found))
            return
        except Exception as error:  # noqa: BLE001 - strangers write what comes here; one that breaks us must not stop the others
            maillog.crashed("returned", error, id=row.id, source=row.source or None)
            if row.claims >= _MOST_CLAIMS:
                await self._put_aside(row, type(error).__name__)
            return  # claimed, it comes again after a while
        await self._end(row, statements, told)

    async def _settle(self, statements: Sequence[Statement]) -> list[Told]:
        told: list[Told] = []
        for start in range(0, len(statements), _GROUP):
            group, now = statements[start : start + _GROUP], self._clock.now()
            told += await self._engine.write(partial(self._settle_group, group=group, now=now))
        return told

    def _settle_group(self, conn: Connection, group: Sequence[Statement], now: Instant) -> list[Told]:
        return [settle_statement(conn, statement, self._suppressing, now, self._senders) for statement in group]

    async def _end(self, row: Claimed, statements: Sequence[Statement], told: Sequence[Told]) -> None:
        # mail speaks by our token: its message is there, or gone for good
        later = _LATER if row.kind == "hook" else {Told.TOO_EARLY}
        rest = [statement for statement, one in zip(statements, told, strict=True) if one in later]
        if rest and row.tries < len(_WAITS_MS):
            due_at = self._clock.now() + _WAITS_MS[row.tries]
            await self._engine.write(lambda conn: inbound.put_off(conn, row.id, due_at))
            return
        for statement, one in zip(statements, told, strict=True):
            if one in _LATER:
                metrics.reports.labels(statement.by, one.value).inc()
        if rest or Told.UNKNOWN in told:
            maillog.returned(kind="unknown", source=row.source or None, id=row.id, statements=len(statements))
            await self._set_aside(row, "unmatched", "it speaks of mail that nobody here knows, or knows no more")
            return
        await self._engine.write(lambda conn: inbound.finish(conn, [row.id]))

    async def _set_aside(self, row: Claimed, state: str, detail: str) -> None:
        await self._engine.write(lambda conn: inbound.set_aside(conn, row.id, state, detail))

    async def _put_aside(self, row: Claimed, detail: str) -> None:
        maillog.trouble("what came back was put aside", id=row.id, source=row.source or None, detail=detail)
        await self._engine.write(lambda conn: inbound.quarantine(conn, row.id, detail))
