"""
One limit and what was taken of it: sliding for seconds, minutes and hours, the calendar's days and months in UTC.

Arrives: a limit, the meter's reading, a count, the time. Leaves: the next reading, or how long to wait.
A reading of a calendar window is a plain count and belongs to the window that it started in; that of a sliding one is a
level (gcra).
Not here: whose limit it is and where its meter is kept (tenants.limits, store.quota).
"""

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Instant
from gatepost.domain.access import Limit, Per
from gatepost.policy import gcra
from gatepost.policy.gcra import EMPTY, Level

__all__ = ["EMPTY", "Level", "Meter", "day_of", "slice_of", "window_of"]

MAX_AMOUNT = 10**12
"""A larger limit counts as this one: a level must fit in 64 bits."""

_SLIDING_MS = {Per.SECOND: SECOND, Per.MINUTE: MINUTE, Per.HOUR: HOUR}
_KEPT = DAY
"""How long a calendar window's count is kept after its end: other machines' clocks may still be in it."""

_SMALLEST_SHARE = 16


@lru_cache(maxsize=64)
def _calendar(per: Per, day: int) -> tuple[Instant, Instant]:
    if per is Per.DAY:
        return day * DAY, (day + 1) * DAY
    first = dt.datetime.fromtimestamp(day * DAY / 1000, dt.UTC).replace(day=1)
    following = (first + dt.timedelta(days=32)).replace(day=1)
    return int(first.timestamp()) * 1000, int(following.timestamp()) * 1000


def window_of(per: Per, now: Instant) -> tuple[Instant, Instant]:
    """Return the start and the end of the calendar window that an instant is in; for sliding windows two zeros."""
    return (0, 0) if per in _SLIDING_MS else _calendar(per, now // DAY)


def day_of(now: Instant) -> str:
    """Write the UTC day of an instant, such as `2026-11-24`."""
    return _day_text(now // DAY)


@lru_cache(maxsize=8)
def _day_text(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def slice_of(wanted: int, left: int) -> int:
    """
    Say how many may be taken ahead of need: less and less towards the end, then nothing.

    What one process holds another cannot use, so near the end of a limit each takes only what it needs at once.
    """
    return max(0, min(wanted, left // _SMALLEST_SHARE))


@dataclass(frozen=True, slots=True)
class Meter:
    """
    How a limit counts.

    Attributes:
        window_ms: Of a sliding window; 0 for the calendar's.
    """

    per: Per
    amount: int
    window_ms: int

    @classmethod
    def of(cls, limit: Limit) -> Self:
        """Make the meter of a limit."""
        return cls(limit.per, min(limit.amount, MAX_AMOUNT), _SLIDING_MS.get(limit.per, 0))

    @property
    def is_sliding(self) -> bool:
        """True for seconds, minutes and hours."""
        return self.window_ms > 0

    def starts_at(self, now: Instant) -> Instant:
        """Return when the window began that a count belongs to; 0 where it slides."""
        return 0 if self.window_ms else _calendar(self.per, now // DAY)[0]

    def length_s(self, now: Instant) -> int:
        """Return the window's length in seconds."""
        if self.window_ms:
            return self.window_ms // 1000
        start, end = _calendar(self.per, now // DAY)
        return (end - start) // 1000

    def room(self, level: Level, now: Instant) -> int:
        """Return how many more fit now."""
        if self.window_ms:
            return gcra.room(level, self.amount, self.window_ms, now)
        return max(0, self.amount - level.filled)

    def taken(self, level: Level, count: int, now: Instant) -> Level:
        """
        Count.

        Args:
            count: Negative gives back.
        """
        if self.window_ms:
            return gcra.taken(level, self.amount, self.window_ms, count, now)
        return Level(max(0, level.filled + count), now)

    def wait_ms(self, level: Level, count: int, now: Instant) -> int | None:
        """Return how long until so many fit: 0 is now, None is never."""
        if self.window_ms:
            return gcra.wait_ms(level, self.amount, self.window_ms, count, now)
        if count > self.amount:
            return None
        return 0 if level.filled + count <= self.amount else _calendar(self.per, now // DAY)[1] - now

    def resets_at(self, level: Level, now: Instant) -> Instant:
        """Return when the whole amount is there again."""
        if not self.window_ms:
            return _calendar(self.per, now // DAY)[1]
        full = gcra.filled(level, self.amount, self.window_ms, now)
        return now + (-(-full // self.amount) if self.amount else self.window_ms)

    def kept_until(self, now: Instant) -> Instant:
        """
        Return when a reading that was taken now says nothing any more.

        Rounded to hours: the column is indexed, and a row whose indexed columns stay the same is cheaper to update.
        """
        if self.window_ms:
            return (now // HOUR + 2) * HOUR
        return _calendar(self.per, now // DAY)[1] + _KEPT
