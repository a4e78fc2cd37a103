"""
When to try again.

Arrives: how often it was tried, when it must be over.
Leaves: the next instant, or none.
Standards: RFC 5321 §4.5.4.1 asks for waits of at least 30 minutes in the long run; the first ones are shorter here,
because most refusals for now (greylisting, a full connection table) pass within minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gatepost.clock import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """
    Waits after attempt 1, 2, …; the last one repeats.

    Attributes:
        waits_s: Seconds.
        jitter: Largest share by which a wait is lengthened or shortened.
    """

    waits_s: Sequence[int]
    jitter: float

    def next_at(self, retries: int, now: Instant, expires_at: Instant, chance: float) -> Instant:
        """
        Return when to try again, never after `expires_at`: at that instant the recipient expires.

        Args:
            retries: Attempts that were made and count, this one included; from 1.
            chance: A random number in [0, 1).
        """
        wait_s = self.waits_s[min(max(retries, 1), len(self.waits_s)) - 1]
        factor = 1 + self.jitter * (2 * chance - 1)
        return min(now + max(int(wait_s * 1000 * factor), 100), max(expires_at, now))
