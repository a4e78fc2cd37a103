"""The simplest answers to the dispatch loop's questions: so many connections to each site, one road, a domain is its own mail system."""

from collections import Counter
from collections.abc import Sequence

from gatepost.clock import Instant
from gatepost.dispatch.ports import Next, Permit, Place, Unresolved, Wait
from gatepost.domain.outcome import Outcome
from gatepost.domain.route import Road, RoadKind, Source, road_at
from gatepost.settings import Egress
from gatepost.store.queue import Due

_SANDBOX_SLOTS = 50


class FixedSlots:
    """Shaping by a fixed number of connections to each site."""

    def __init__(self, egress: Egress) -> None:
        self._slots = {
            RoadKind.MX: egress.connections_per_site,
            RoadKind.RELAY: egress.connections_per_relay,
            RoadKind.SANDBOX: _SANDBOX_SLOTS,
        }
        self._taken: Counter[Place] = Counter()

    def slots(self, place: Place) -> int:
        """Return the number of connections."""
        return self._slots[road_at(*place).kind]

    def take(self, place: Place, now: Instant) -> Permit | Wait:
        """Permit it, while a connection is free."""
        if self._taken[place] >= self.slots(place):
            return Wait(until=now + 1_000, cause="slots_in_use", detail=f"all {self.slots(place)} connections are in use")
        self._taken[place] += 1
        return Permit(place=place)

    def give_back(self, permit: Permit, outcomes: Sequence[Outcome], now: Instant) -> None:
        """Free the connection."""
        self._taken[permit.place] -= 1
        if not self._taken[permit.place]:
            del self._taken[permit.place]

    def blocked(self, place: Place, now: Instant) -> Wait | None:
        """Block nothing."""
        return None

    async def step(self, epochs: dict[int, int], now: Instant) -> None:
        """Keep nothing."""


class OneRoad:
    """No failover: mail waits for its first road."""

    has_choice = False

    def blocked(self, road: Road, now: Instant) -> Wait | None:
        """Block nothing."""
        return None

    def report(self, road: Road, source: Source, outcomes: Sequence[Outcome], now: Instant, site: str = "") -> None:
        """Learn nothing."""

    def after(self, due: Due, route: Sequence[Road], outcome: Outcome | None, now: Instant, blocked_by: str = "") -> Next | None:
        """Stay."""
        return None

    def patience_s(self, due: Due, route: Sequence[Road], now: Instant) -> float | None:
        """Have all the time."""
        return None

    def hanging(self, road: Road, since: Instant, now: Instant) -> Wait | None:
        """Have all the time."""
        return None

    async def step(self, now: Instant) -> None:
        """Keep nothing."""


class OwnSystems:
    """Every domain is a mail system of its own."""

    def known(self, domain: str, now: Instant) -> str | None:
        """Return the domain."""
        return domain

    def is_elsewhere(self, domain: str, site: str, now: Instant) -> bool:
        """Leave mail where it is."""
        return False

    async def find(self, domain: str) -> str | Unresolved:
        """Return the domain."""
        return domain
