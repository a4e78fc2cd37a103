"""
How often somebody may ask, by who it is, in this process's memory.

Bugs: counters are per process and are forgotten at a restart; who was quiet longest is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from gatepost.clock import MINUTE, Instant
from gatepost.policy import gcra

_MOST: Final = 20_000


class Pace:
    """So many a minute for each."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._levels: OrderedDict[Hashable, gcra.Level] = OrderedDict()

    def take(self, who: Hashable, now: Instant) -> int:
        """Take one; return 0, or how many milliseconds to wait for it."""
        level = self._levels.pop(who, gcra.EMPTY)
        wait = gcra.wait_ms(level, self._per_minute, MINUTE, 1, now) or 0
        self._levels[who] = level if wait else gcra.taken(level, self._per_minute, MINUTE, 1, now)
        if len(self._levels) > _MOST:
            self._levels.popitem(last=False)
        return wait
