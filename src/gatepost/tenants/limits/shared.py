"""
What all processes share of limits: slices of rows in the database, and, where there is one, a Valkey server.

Arrives: needs of several counters. Leaves: all of them held, or `Full` and nothing taken.
While the server is away the database counts sliding limits, too: never is anything unlimited. What it gave out before that
is not known there, so an outage may let one more burst through; each process still keeps to the limit by itself.
Not here: who has which limits (limits), the transaction (store.quota).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.net.valkey import Need, Valkey, ValkeyAway
from gatepost.observe import maillog
from gatepost.policy.quota import Level
from gatepost.store import quota
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.quota import Answer, Ask, Place
from gatepost.tenants.limits.counters import Counter

Part = tuple[Counter, int]
"""A counter with what is needed of it."""

_TRY_AGAIN_S = 1.0
_LOOKED_AT_ONCE = 1000


class Full(Exception):  # noqa: N818
    """A limit has not enough."""

    def __init__(self, counter: Counter, need: int, wait_ms: int | None) -> None:
        super().__init__(str(counter))
        self.counter = counter
        self.need = need
        self.wait_ms = wait_ms


@dataclass(frozen=True, slots=True)
class Held:
    """What was taken of one counter."""

    counter: Counter
    count: int
    starts_at: Instant
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    asks: Sequence[Ask]
    now: Instant


class Shared:
    """Takes of what all processes share."""

    def __init__(self, engine: Engine, clock: Clock, valkey: Valkey | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._valkey = valkey
        self._is_away = False
        self._tried_at = float("-inf")
        self._looked_at: Place | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: GroupCommit[_Request, list[Answer]] = GroupCommit(engine, _take)

    async def take(self, parts: Sequence[Part], now: Instant) -> list[Held]:
        """
        Hold all parts or none.

        Raises:
            Full: One limit has not enough.
            StorageUnavailable: The database was needed and cannot be used now.
        """
        remote = await self._take_remote([part for part in parts if part[0].meter.is_sliding], now)
        held = list(remote)
        try:
            asked = []
            for counter, need in [part for part in parts if not (remote and part[0].meter.is_sliding)]:
                if counter.draw(need, now):
                    held.append(Held(counter, need, counter.starts_at))
                else:
                    asked.append((counter, need))
            if asked:
                held += await self._ask(asked, now)
        except BaseException:
            self.put_back(held)
            raise
        return held

    async def _take_remote(self, parts: Sequence[Part], now: Instant) -> list[Held]:
        if self._valkey is None or self._is_away or not parts:
            return []
        try:
            reading = await self._valkey.take([_need(counter, need) for counter, need in parts], now)
        except ValkeyAway as error:
            self._lost(error)
            return []
        for (counter, _), level in zip(parts, reading.levels, strict=True):
            counter.seen(_level(counter, level), now)
        if reading.full is not None:
            counter, need = parts[reading.full]
            raise Full(counter, need, counter.meter.wait_ms(counter.shared or Level(0, now), need, now) or 1)
        return [Held(counter, need, 0, is_remote=True) for counter, need in parts]

    async def _ask(self, parts: Sequence[Part], now: Instant) -> list[Held]:
        asked = [(counter, *counter.ask(need, now)) for counter, need in parts]
        future = self._requests.submit(_Request([ask for _, ask, _ in asked], now))
        try:
            answers = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: self._abandoned(asked, done))
            raise
        except BaseException:
            for counter, ask, own in asked:
                counter.answered(ask, None, own, now)
            raise
        now = self._clock.now()
        for (counter, ask, own), answer in zip(asked, answers, strict=True):
            counter.answered(ask, answer, own, now)
        if not answers[0].is_granted:
            raise _fullest(asked, answers, now)
        return [Held(counter, ask.need + own, ask.place.starts_at) for counter, ask, own in asked]

    def _abandoned(self, asked: Sequence[tuple[Counter, Ask, int]], done: "asyncio.Future[list[Answer]]") -> None:
        """Keep for others what a request got that is not there any more."""
        answers: Sequence[Answer | None] = [None] * len(asked)
        if not done.cancelled() and done.exception() is None:
            answers = done.result()
        now = self._clock.now()
        for (counter, ask, own), answer in zip(asked, answers, strict=True):
            counter.answered(ask, answer, own, now)
            if answer is not None and answer.is_granted:
                counter.put_back(ask.need + own, ask.place.starts_at)

    def put_back(self, held: Iterable[Held]) -> None:
        """Give back what was held: to the slice at hand, or to the server."""
        remote = []
        for one in held:
            if one.is_remote:
                remote.append(_need(one.counter, -one.count))
            else:
                one.counter.put_back(one.count, one.starts_at)
        if remote and self._valkey is not None and not self._is_away:
            task = asyncio.create_task(self._return_remote(remote))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _return_remote(self, needs: Sequence[Need]) -> None:
        assert self._valkey is not None
        try:
            await self._valkey.take(needs, self._clock.now())
        except ValkeyAway as error:
            self._lost(error)

    async def give_back(self, counters: Iterable[Counter], *, is_closing: bool = False) -> None:
        """
        Give back what is left of slices whose lease is over.

        Raises:
            StorageUnavailable: The database cannot be used now; what was left is lost until its window ends.
        """
        now = self._clock.now()
        left = [(counter, ask) for counter in counters if (ask := counter.leftover(now, is_closing=is_closing)) is not None]
        if left:
            answers = await self._requests.submit(_Request([ask for _, ask in left], now))
            for (counter, ask), answer in zip(left, answers, strict=True):
                if ask.place.starts_at == counter.starts_at:
                    counter.seen(answer.level, now)

    async def read(self, counters: Sequence[Counter], now: Instant) -> dict[Counter, Level]:
        """
        Read what all share, without taking.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        found: dict[Counter, Level] = {}
        sliding = [counter for counter in counters if counter.meter.is_sliding]
        if self._valkey is not None and not self._is_away and sliding:
            try:
                reading = await self._valkey.take([_need(counter, 0) for counter in sliding], now)
                found = {counter: _level(counter, level) for counter, level in zip(sliding, reading.levels, strict=True)}
            except ValkeyAway as error:
                self._lost(error)
        rest = {counter: counter.place(now) for counter in counters if counter not in found}
        if rest:
            levels = await self._engine.read(lambda conn: quota.read(conn, list(rest.values())))
            found |= {counter: levels[place] for counter, place in rest.items()}
        return found

    async def look_for_valkey(self) -> None:
        """See whether a server that was away is back."""
        now_s = self._clock.monotonic()
        if self._valkey is None or not self._is_away or now_s - self._tried_at < _TRY_AGAIN_S:
            return
        self._tried_at = now_s
        try:
            await self._valkey.take([Need("gatepost:probe", 1, 1000, 0)], self._clock.now())
        except ValkeyAway:
            return
        self._is_away = False
        maillog.lifecycle("valkey counts limits again")

    async def purge(self) -> None:
        """
        Look at the next rows, and forget those of windows that are over.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now, after = self._clock.now(), self._looked_at
        found, self._looked_at = await self._engine.read(lambda conn: quota.expired(conn, after, now, _LOOKED_AT_ONCE))
        if found:
            await self._engine.write(lambda conn: quota.forget(conn, found, now))

    async def close(self) -> None:
        """Finish what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._requests.drain()
        if self._valkey is not None:
            await self._valkey.close()

    def _lost(self, error: ValkeyAway) -> None:
        if not self._is_away:
            self._is_away = True
            self._tried_at = self._clock.monotonic()
            maillog.trouble("valkey is away: the database counts limits, within one slice", error=str(error))


def _take(conn: Connection, requests: Sequence[_Request]) -> list[list[Answer] | Exception]:
    now = max(request.now for request in requests)
    return list(quota.take(conn, [request.asks for request in requests], now))


def _fullest(asked: Sequence[tuple[Counter, Ask, int]], answers: Sequence[Answer], now: Instant) -> Full:
    """Find the limit that keeps a request waiting longest."""
    waits = [
        (counter, ask.need + own, counter.meter.wait_ms(answer.level, ask.need, now))
        for (counter, ask, own), answer in zip(asked, answers, strict=True)
    ]
    never = [one for one in waits if one[2] is None]
    return Full(*(never[0] if never else max(waits, key=lambda one: one[2] or 0)))


def _need(counter: Counter, count: int) -> Need:
    key = f"gatepost:{counter.subject}:{counter.limit.resource}:{counter.limit.per}"
    return Need(key, counter.meter.amount, counter.meter.window_ms, count)


def _level(counter: Counter, level: tuple[float, Instant]) -> Level:
    return Level(int(level[0] * counter.meter.window_ms), level[1])
