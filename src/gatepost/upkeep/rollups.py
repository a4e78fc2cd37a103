"""
Adds up what transactions counted, and removes counts that are old: those by short times first.

Several processes may run this; one of them works. Nothing depends on it for being right: what is not added up yet is read
as it is.
"""

from typing import Final

from gatepost.clock import DAY, HOUR, SECOND, Clock
from gatepost.settings.stats import Stats
from gatepost.store import folding, health
from gatepost.store.engine import Engine
from gatepost.store.folding import BY_SITE, BY_TAG, BY_TEMPLATE, SPANS, Names

_LEASE_MS: Final = 60 * SECOND
_AT_ONCE: Final = 200
_MOST_ROUNDS: Final = 50


class Rollups:
    """The loop's work."""

    def __init__(self, engine: Engine, clock: Clock, settings: Stats, owner: str) -> None:
        """
        Args:
            owner: Name of this process; another one at each start.
        """
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._names = Names({BY_SITE: settings.max_sites, BY_TAG: settings.max_tags, BY_TEMPLATE: settings.max_tags})
        self._day = 0
        self._shorten_at = 0

    async def step(self) -> int:
        """
        Add up what there is; return how many deltas that were.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        is_time = now >= self._shorten_at
        if not is_time and not await self._engine.read(folding.has_deltas):  # an idle gateway writes nothing
            return 0
        if not await self._engine.write(lambda conn: health.hold(conn, "rollups", self._owner, now, now + _LEASE_MS)):
            self._names.forget()
            return 0
        if now // DAY != self._day:
            self._day = now // DAY
            self._names.forget()
        count = await self._fold()
        if is_time:
            self._shorten_at = now + HOUR
            keep = {
                0: (now - self._settings.keep_5m_days * DAY) // SPANS[1] * SPANS[1],
                1: (now - self._settings.keep_hours_days * DAY) // SPANS[2] * SPANS[2],
                2: (now - self._settings.keep_days * DAY) // SPANS[3] * SPANS[3],
                3: (now - self._settings.keep_days * DAY) // SPANS[3] * SPANS[3],
            }
            await self._engine.write(lambda conn: folding.shorten(conn, keep))
        return count

    async def _fold(self) -> int:
        count = 0
        for _ in range(_MOST_ROUNDS):
            try:
                folded = await self._engine.write(lambda conn: folding.fold(conn, self._names, _AT_ONCE))
            except BaseException:
                self._names.forget()  # it may know names that were not written
                raise
            count += folded
            if folded < _AT_ONCE:
                break
        return count
