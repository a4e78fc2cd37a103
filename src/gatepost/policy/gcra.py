"""
Sliding limits: the generic cell rate algorithm as a leaky bucket, which fills with what is taken and drains at the rate.

A limit of 10 a minute lets a burst of 10 through and from then on one every six seconds. All numbers are whole: the level
is counted in items times the window's milliseconds, so that it drains by exactly `amount` a millisecond and nothing is lost
to rounding. The level knows no amount: a limit may be changed and what was taken still counts.
Standards: ITU-T I.371 Annex A (the continuous-state leaky bucket; the same algorithm as virtual scheduling).
Not here: days and months (quota), where levels are kept (tenants.limits, store.quota, net.valkey).
"""

from typing import NamedTuple

from gatepost.clock import MINUTE, Instant


class Level(NamedTuple):
    """
    How full a bucket was at an instant.

    Attributes:
        filled: In items × milliseconds of the window.
    """

    filled: int
    at: Instant


EMPTY = Level(0, 0)


def tolerance_ms(window_ms: int) -> int:
    """Return how far ahead of ours another machine's clock may be; a level from later still is one from before a clock was set back."""
    return max(window_ms, MINUTE)


def filled(level: Level, amount: int, window_ms: int, now: Instant) -> int:
    """Return how full a bucket is now. A clock that goes back a little drains nothing; one that was set back starts anew."""
    elapsed = now - level.at
    if elapsed < 0:
        return level.filled if -elapsed <= tolerance_ms(window_ms) else 0
    return max(0, level.filled - amount * elapsed)


def room(level: Level, amount: int, window_ms: int, now: Instant) -> int:
    """Return how many items fit now."""
    return max(0, (amount * window_ms - filled(level, amount, window_ms, now)) // window_ms)


def taken(level: Level, amount: int, window_ms: int, count: int, now: Instant) -> Level:
    """
    Fill a bucket with items, whether they fit or not.

    Args:
        count: Negative gives back.
    """
    at = level.at if now < level.at <= now + tolerance_ms(window_ms) else now
    return Level(max(0, filled(level, amount, window_ms, now) + count * window_ms), at)


def wait_ms(level: Level, amount: int, window_ms: int, count: int, now: Instant) -> int | None:
    """Return how long until items fit: 0 is now, None is never, since there are more than the bucket holds."""
    if count > amount:
        return None
    excess = filled(level, amount, window_ms, now) + (count - amount) * window_ms
    return 0 if excess <= 0 else -(-excess // amount)
