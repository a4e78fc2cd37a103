"""
The only module that reads the clock or sleeps.

Leaves: instants (`Instant`, whole milliseconds since the Unix epoch, UTC) and their ISO 8601 form.
Why integers: one 8-byte column type on both databases, exact comparison, no time-zone bugs, and the same
resolution as the time inside a UUIDv7. Names of instants end in `_at`, of durations in `_s` or `_ms`.
"""

import asyncio
import datetime as dt
import time
from typing import Protocol

Instant = int
"""Milliseconds since the Unix epoch, UTC."""

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """Time as an argument: loops and doors receive one, tests pass a fake."""

    def now(self) -> Instant:
        """Return the wall-clock instant."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; returns early only by cancellation."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        """Return the wall-clock instant."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on the running event loop."""
        await asyncio.sleep(seconds)


def iso(at: Instant) -> str:
    """
    Write an instant as ISO 8601 in UTC with milliseconds, such as `2026-11-24T02:00:00.123Z`.

    Raises:
        OverflowError: The year is outside 1–9999.
    """
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> Instant:
    """
    Read an ISO 8601 date-time that names its offset (RFC 3339 §5.6).

    Raises:
        ValueError: The text is no date-time, or has no offset: a local time would be a guess.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no offset; add Z for UTC")
    return int(moment.timestamp() * 1000)
