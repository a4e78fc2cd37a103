"""
What waits in memory for one site: groups of recipients by lane and tenant, and whose turn is next.

A group is one message's recipients of one domain at one site: one transaction with the other side. Codes go first. The other
lanes share what is left by weight, so that none of them starves; inside a lane tenants take turns by deficit round robin
(Shreedhar and Varghese 1995), so that a tenant's turn comes soon, however much of others' mail waits.
Not here: what is read from the queue (claiming), how many connections a site gets (ports.Shaping).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gatepost.clock import Instant
from gatepost.dispatch.ports import Place
from gatepost.domain.message import Lane
from gatepost.domain.route import Road, roads_of
from gatepost.store.messages import Material, RecipientFacts
from gatepost.store.queue import Due

Key = tuple[str, int]

QUANTUM: Final = 10
"""Recipients that a tenant may send before the next one's turn."""
_WEIGHTS: Final = {Lane.CODES: 0, Lane.TRANSACTIONAL: 4, Lane.BULK: 1}
"""Shares of the lanes that wait for each other; codes wait for nobody."""


@dataclass(frozen=True, slots=True)
class Group:
    """One message's recipients of one domain at one site, claimed together."""

    rows: Sequence[Due]
    epoch: int
    material: Material
    addresses: Mapping[Key, RecipientFacts]

    @property
    def lane(self) -> int:
        """Its lane."""
        return self.rows[0].lane

    @property
    def tenant_id(self) -> str:
        """Whose it is."""
        return self.rows[0].tenant_id


@dataclass(slots=True)
class _Line:
    """One tenant's groups in a lane."""

    groups: deque[Group] = field(default_factory=deque)
    waiting: int = 0
    credit: int = QUANTUM


@dataclass(slots=True)
class Site:
    """
    What is in memory for one site.

    Attributes:
        active: Workers that deliver its groups: connections, more or less.
        waiting: Recipients in line.
        delivering: Deliveries under way.
        moved_at: When a delivery last began or ended.
        timer: Runs while the site gets nothing.
    """

    place: Place
    active: int = 0
    waiting: int = 0
    delivering: int = 0
    moved_at: Instant = 0
    timer: asyncio.TimerHandle | None = None
    _lanes: tuple[dict[str, _Line], ...] = field(default_factory=lambda: tuple({} for _ in Lane))
    _credits: list[int] = field(default_factory=lambda: [0 for _ in Lane])

    @property
    def name(self) -> str:
        """The site's name, without its pool."""
        return self.place[1]

    @property
    def is_busy(self) -> bool:
        """True when mail waits, and each of its workers has a delivery under way, rather than waiting for something of ours."""
        return self.waiting > 0 and self.delivering > 0 and self.delivering == self.active

    def begin(self, now: Instant) -> None:
        """Note that a delivery begins."""
        self.delivering += 1
        self.moved_at = now

    def end(self, now: Instant) -> None:
        """Note that a delivery ended."""
        self.delivering -= 1
        self.moved_at = now

    def waiting_of(self, lane: int, tenant_id: str) -> int:
        """Count a tenant's recipients in line."""
        line = self._lanes[lane].get(tenant_id)
        return line.waiting if line else 0

    def waiting_in(self, lane: int) -> int:
        """Count a lane's recipients in line."""
        return sum(line.waiting for line in self._lanes[lane].values())

    def push(self, group: Group) -> None:
        """Line a group up behind its tenant's others."""
        line = self._lanes[group.lane].setdefault(group.tenant_id, _Line())
        line.groups.append(group)
        self._count(line, len(group.rows))

    def push_back(self, group: Group) -> None:
        """Put a group back to where it was taken from."""
        lines, size = self._lanes[group.lane], len(group.rows)
        line = lines.get(group.tenant_id)
        if line is None:
            line = _Line(credit=0)
            self._lanes[group.lane].update({group.tenant_id: line, **{name: lines.pop(name) for name in list(lines)}})
        line.groups.appendleft(group)
        line.credit += size
        self._credits[group.lane] += size
        self._count(line, size)

    def pop(self, *, only_codes: bool = False) -> Group | None:
        """
        Take the group whose turn it is.

        Args:
            only_codes: Take nothing else.
        """
        lane = self._lane_in_turn(only_codes=only_codes)
        if lane is None:
            return None
        lines = self._lanes[lane]
        while (line := lines[tenant_id := next(iter(lines))]).credit <= 0:
            line.credit += QUANTUM
            lines[tenant_id] = lines.pop(tenant_id)
        group = line.groups.popleft()
        line.credit -= len(group.rows)
        self._credits[lane] -= len(group.rows)
        self._taken(lines, tenant_id, group)
        return group

    def pop_last(self) -> Group | None:
        """Take a group of those whose turn would come last: the least urgent lane's longest line."""
        for lines in reversed(self._lanes):
            if lines:
                tenant_id = max(lines, key=lambda name: lines[name].waiting)
                group = lines[tenant_id].groups.pop()
                self._taken(lines, tenant_id, group)
                return group
        return None

    def recipients(self) -> list[Key]:
        """List the recipients in line."""
        groups = (group for lines in self._lanes for line in lines.values() for group in line.groups)
        return [(row.message_id, row.n) for group in groups for row in group.rows]

    def take_expired(self, now: Instant) -> list[Group]:
        """Take out what is too late."""
        return self._take(lambda group: group.rows[0].expires_at <= now)

    def take_any(self, keys: Collection[Key]) -> list[Group]:
        """Take out the groups that have one of some recipients."""
        return self._take(lambda group: any((row.message_id, row.n) in keys for row in group.rows))

    def _take(self, is_wanted: Callable[[Group], bool]) -> list[Group]:
        taken = []
        for lines in self._lanes:
            for tenant_id, line in list(lines.items()):
                for group in [group for group in line.groups if is_wanted(group)]:
                    line.groups.remove(group)
                    self._taken(lines, tenant_id, group)
                    taken.append(group)
        return taken

    def _lane_in_turn(self, *, only_codes: bool) -> int | None:
        if self._lanes[Lane.CODES]:
            return Lane.CODES
        lanes = [] if only_codes else [lane for lane in Lane if self._lanes[lane]]
        if len(lanes) < 2:
            return lanes[0] if lanes else None
        while True:
            for lane in lanes:
                if self._credits[lane] > 0:
                    return lane
            for lane in lanes:
                # what a lane sent while no other waited is not held against it
                self._credits[lane] = max(self._credits[lane], -_WEIGHTS[lane] * QUANTUM) + _WEIGHTS[lane] * QUANTUM

    def _count(self, line: _Line, recipients: int) -> None:
        line.waiting += recipients
        self.waiting += recipients

    def _taken(self, lines: dict[str, _Line], tenant_id: str, group: Group) -> None:
        self._count(lines[tenant_id], -len(group.rows))
        if not lines[tenant_id].groups:
            del lines[tenant_id]


def route_of(group: Group, row: Due) -> tuple[Road, ...]:
    """Return the roads that a recipient may take: its own, or its message's."""
    fact = group.addresses.get((row.message_id, row.n))
    return roads_of((fact.route if fact else None) or group.material.route)


def address_of(addresses: Mapping[Key, RecipientFacts], row: Due) -> str:
    """Return a row's address; empty where it is not known."""
    fact = addresses.get((row.message_id, row.n))
    return fact.address if fact else ""
