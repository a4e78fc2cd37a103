"""
A scanner behind a fuse: a few messages at once, a time for each, and a pause when it fails again and again.

Arrives: a question to a scanner. Leaves: its answer, or None when it has none in time; the operator is told once when it
begins to fail and once when it works again.
States: closed (messages are scanned) -> after three failures in a row open (nobody waits for it) -> after a pause half-open
(one message tries) -> closed, or open again for twice as long.
Not here: whether mail passes without a verdict (screener).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gatepost.clock import Clock
from gatepost.net.rspamd import ScannerFailed
from gatepost.observe import maillog, metrics

T = TypeVar("T")

FAILURES = 3
LONGEST_PAUSE_S = 60.0


class Guard(Generic[T]):
    """Counts one scanner's failures and lets questions through while it works."""

    def __init__(self, name: str, *, timeout_s: float, concurrency: int, pause_s: float, clock: Clock) -> None:
        """
        Start closed.

        Args:
            timeout_s: For one question, waiting for a free place included.
            pause_s: The first pause after `FAILURES` in a row.
        """
        self.name = name
        self._timeout_s = timeout_s
        self._clock = clock
        self._places = asyncio.Semaphore(concurrency)
        self._failures = 0
        self._first_pause_s = pause_s
        self._pause_s = pause_s
        self._open_until = float("-inf")
        self._is_trying = False
        self._is_up = True
        metrics.scanner_up.labels(name).set(1)

    @property
    def is_up(self) -> bool:
        """False from the first failure to the next answer."""
        return self._is_up

    async def ask(self, question: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        """Ask, if the scanner works; None where it gave no answer in time, or is not asked."""
        is_trial = self._failures >= FAILURES
        if is_trial and (self._is_trying or self._clock.monotonic() < self._open_until):
            metrics.scans.labels(self.name, "skipped").inc()
            return None
        self._is_trying = self._is_trying or is_trial
        try:
            return await self._ask(question)
        finally:
            if is_trial:
                self._is_trying = False

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        asked_at = float("inf")
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                asked_at = asyncio.get_running_loop().time()  # the clock of the timeout
                answer = await question()
        except TimeoutError:
            if asyncio.get_running_loop().time() - asked_at < self._timeout_s / 2:  # busy, not broken: others will tell
                metrics.scans.labels(self.name, "busy").inc()
                return None
            self._failed(f"no answer within {self._timeout_s:g} s")
            return None
        except ScannerFailed as error:
            self._failed(str(error))
            return None
        self._worked()
        return (answer,)

    def _failed(self, why: str) -> None:
        metrics.scans.labels(self.name, "failed").inc()
        self._failures += 1
        now = self._clock.monotonic()
        if self._failures >= FAILURES and now >= self._open_until:  # those that were on their way when it opened count once
            self._open_until = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        if self._is_up:
            self._is_up = False
            metrics.scanner_up.labels(self.name).set(0)
            maillog.trouble("a scanner does not answer", scanner=self.name, error=why)

    def _worked(self) -> None:
        metrics.scans.labels(self.name, "answered").inc()
        self._failures = 0
        self._pause_s = self._first_pause_s
        if not self._is_up:
            self._is_up = True
            metrics.scanner_up.labels(self.name).set(1)
            maillog.lifecycle("a scanner answers again", scanner=self.name)
