"""A clock that stands still until it is told to move."""

import asyncio
import heapq
import itertools

from gatepost.clock import Instant

START: Instant = 1_764_000_000_000


class FakeClock:
    """Time as a test wants it; sleepers wake in order when time passes them."""

    def __init__(self, start: Instant = START) -> None:
        self._now = start
        self._sleepers: list[tuple[Instant, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> Instant:
        """Return the instant that was set."""
        return self._now

    def monotonic(self) -> float:
        """Return the same in seconds."""
        return self._now / 1000

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock is advanced so far."""
        if seconds <= 0.01:  # polite pauses are no waits
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + int(seconds * 1000), next(self._numbers), future))
        await future

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += int(seconds * 1000)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
