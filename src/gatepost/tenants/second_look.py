"""
Looking into the database: again and again, and at once when something is missed that may have been made a moment ago.

Leaves: one look at a time; after a miss at most one each 50 ms, whatever an attacker guesses. Requests that miss while
somebody looks wait for what is seen.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from gatepost.clock import Clock
from gatepost.store.errors import StorageUnavailable

T = TypeVar("T")

_MISS_INTERVAL_S: Final = 0.05


class SecondLook(Generic[T]):
    """One for each thing that is kept in memory."""

    def __init__(self, clock: Clock, look: Callable[[], Awaitable[T]]) -> None:
        """
        Args:
            look: Reads it anew; what is in memory stays when that fails.
        """
        self._clock = clock
        self._look = look
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")

    async def look(self) -> T:
        """
        Look now.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        async with self._lock:
            self._looked_at = self._clock.monotonic()
            return await self._look()

    async def after_miss(self) -> bool:
        """Look, unless that was done a moment ago; return whether to search again."""
        if self._lock.locked():
            async with self._lock:
                return True
        if self._clock.monotonic() - self._looked_at < _MISS_INTERVAL_S:
            return False
        try:
            await self.look()
        except StorageUnavailable:
            return False
        return True
