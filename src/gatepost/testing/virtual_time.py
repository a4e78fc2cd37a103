"""
An event loop whose time passes only when nothing else is to be done: hours of waiting in moments, and real sockets work.

However busy the machine is, work takes no time here: what a test measures by the loop's time are the waits that the code chose.
Not for what counts time by another clock: give it `LoopClock`.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from gatepost.clock import Instant

T = TypeVar("T")
_GRACE_S = 0.001
"""How long, in real time, threads and the kernel have before time passes."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting it lets time pass."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0) or super().select(min(timeout, _GRACE_S))
        if not events:
            self.passed += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; its time begins at 0."""

    def __init__(self) -> None:
        """Start at 0."""
        self._waits = _Selector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Return the seconds that were waited for."""
        return self._waits.passed


class LoopClock:
    """The time of the loop that it is made on, as a clock; other threads may read it."""

    def __init__(self, start: Instant) -> None:
        """Set the instant of the loop's start."""
        self._start = start
        self._loop = asyncio.get_running_loop()

    def now(self) -> Instant:
        """Return the instant."""
        return self._start + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
