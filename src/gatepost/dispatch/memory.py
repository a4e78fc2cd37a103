"""
What a dispatch process has in memory: recipients in flight, the sites they wait for, and how much more fits.

A recipient is in flight from its claim until its result is on disk; nobody else may touch its queue row meanwhile.
Not here: what lies in the queue beyond that (backlog).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gatepost.clock import Clock
from gatepost.dispatch.ports import Place
from gatepost.dispatch.waiting import QUANTUM, Group, Key, Site
from gatepost.domain.message import Lane
from gatepost.observe import metrics
from gatepost.store.queue import Due

_IN_MEMORY: Final = 2_000
"""Recipients in memory at most; urgent ones may go above."""
_URGENT_EXTRA: Final = 200
BYTES_IN_MEMORY: Final = 64 * 1024 * 1024
_PER_SITE: Final = 200
"""Recipients of one site that wait in memory at most, while there is room for everybody."""
_LEAST_PER_SITE: Final = 20
_CODES_EXPECTED_S: Final = 600.0


class Memory:
    """One process's recipients in flight."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sites: dict[Place, Site] = {}
        self.in_flight: dict[Key, tuple[int, int]] = {}
        self.left: set[Key] = set()
        """Recipients that were in flight when the look at the queue began that runs now: it may have read them before they were settled."""
        self._gone: set[Key] = set()
        self._gone_before: set[Key] = set()
        self.bytes = 0
        self._per_shard: Counter[int] = Counter()
        self._codes_until: dict[Place, float] = {}

    @property
    def room(self) -> int:
        """Recipients that fit, urgent ones apart."""
        return max(_IN_MEMORY - len(self.in_flight), 0) if self.bytes < BYTES_IN_MEMORY else 0

    @property
    def share(self) -> int:
        """Recipients that one site may have waiting in memory: less when many sites want some."""
        return min(_PER_SITE, max(_IN_MEMORY // (len(self.sites) + 1), _LEAST_PER_SITE))

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to look who takes others' room."""
        return len(self.in_flight) >= _IN_MEMORY // 2

    def busy_shards(self) -> frozenset[int]:
        """Name the shards of which something is in flight."""
        return frozenset(shard for shard, count in self._per_shard.items() if count)

    def site(self, place: Place) -> Site:
        """Return a site's place in memory, made when it has none."""
        site = self.sites.get(place)
        if site is None:
            site = self.sites[place] = Site(place)
        return site

    def wants(self, place: Place) -> int:
        """Tell how many more of its recipients a site may have waiting; 0 while it has enough."""
        site, share = self.sites.get(place), self.share
        if site is None:
            return share
        return share - site.waiting if site.waiting <= share // 2 else 0

    def fits(self, row: Due, before: int) -> bool:
        """
        Tell whether a recipient may come into memory: each tenant may have a few, however full its site is.

        Args:
            before: Recipients of the same flow that come with it, before it.
        """
        site = self.sites.get((row.pool, row.site))
        if row.lane == Lane.CODES:
            there = before + (site.waiting_in(Lane.CODES) if site else 0)
            return len(self.in_flight) + before < _IN_MEMORY + _URGENT_EXTRA and there < _PER_SITE
        if self.room <= before:
            return False
        return before < self.share if site is None else self._fits(site, row, before)

    def _fits(self, site: Site, row: Due, before: int) -> bool:
        return site.waiting + before < self.share or site.waiting_of(row.lane, row.tenant_id) + before < QUANTUM

    def remember(self, rows: Sequence[Due]) -> None:
        """Take recipients in flight."""
        for row in rows:
            self.in_flight[row.message_id, row.n] = (row.shard, row.lane)
            self._per_shard[row.shard] += 1
        metrics.in_flight.set(len(self.in_flight))

    def forget(self, rows: Sequence[Due]) -> None:
        """Recipients are in flight no more."""
        for row in rows:
            key = (row.message_id, row.n)
            self.left.add(key)
            self._gone.add(key)
            if self.in_flight.pop(key, None) is not None:
                self._per_shard[row.shard] -= 1
        metrics.in_flight.set(len(self.in_flight))

    def knows(self, row: Due) -> bool:
        """Tell whether a row that was just read is, or was during the reading, in flight: then it may be gone from the queue by now."""
        key = (row.message_id, row.n)
        return key in self.in_flight or key in self.left

    def is_new(self, row: Due) -> bool:
        """Tell whether a row that is handed over was not in flight, now or in the last second: it may come after it was read."""
        key = (row.message_id, row.n)
        return key not in self.in_flight and key not in self._gone and key not in self._gone_before

    def turn_over(self) -> None:
        """Forget what left before the last call; to be called every second, or less often."""
        self._gone_before, self._gone = self._gone, set()

    def push(self, group: Group) -> Site:
        """Line a group up; its recipients are in flight already."""
        row = group.rows[0]
        site = self.site((row.pool, row.site))
        site.push(group)
        self.bytes += len(group.material.data)
        if row.lane == Lane.CODES:
            self._codes_until[site.place] = self._clock.monotonic() + _CODES_EXPECTED_S
        return site

    def expects_codes(self, place: Place) -> bool:
        """Tell whether a site had a code lately: then a connection is kept free for the next one."""
        until = self._codes_until.get(place)
        if until is None:
            return False
        if until > self._clock.monotonic():
            return True
        del self._codes_until[place]
        return False

    def drop_if_empty(self, site: Site) -> None:
        """Forget a site for which nothing waits and nobody works."""
        if not site.active and not site.waiting:
            if site.timer is not None:
                site.timer.cancel()
                site.timer = None
            self.sites.pop(site.place, None)
