"""
What the dispatch loop asks of those who know more: how much a site may get now, and which road is open.

`Shaping` answers for one process's sites; since a site has one owner, what it allows is exact. `Roads` knows the health of
every road and where mail goes when one of them fails. `Systems` finds out which mail system takes a domain.
Their answers are facts that explain shows: a wait has a cause with a stable code, an end, and words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatepost.clock import Instant
from gatepost.domain.outcome import Outcome
from gatepost.domain.route import DEFAULT_SOURCE, Road, Source
from gatepost.store.queue import Due

Place = tuple[str, str]
"""A pool and a site: what has its own budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """
    Not now.

    Attributes:
        until: When to ask again.
        cause: Stable code, such as `site_suspended`, `rate_reached`, `warm_up_cap`, `breaker_open`, `dns_failing`.
        detail: The evidence, in words.
    """

    until: Instant
    cause: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """
    One transaction with a site may begin.

    Attributes:
        source: Where to connect from.
        recipients: At most so many in one transaction; None is as many as there are.
        messages_per_connection: After so many a connection is closed; None is the setting's.
        connections: At most so many connections from the source to the site, idle ones included; None is the setting's.
    """

    place: Place
    source: Source = DEFAULT_SOURCE
    recipients: int | None = None
    messages_per_connection: int | None = None
    connections: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """
    Where a recipient goes on.

    Attributes:
        tried: Roads of its route that failed since its last wait, as bits.
        cause: Why it leaves the road it was on: a stable code.
        is_later: The schedule's wait comes first.
        is_unsure: It may be delivered a second time by this.
    """

    road: Road
    tried: int
    cause: str
    is_later: bool = False
    is_unsure: bool = False


class Breakers(Protocol):
    """Which of several sources works; asked only where a pool has several."""

    def is_source_shut(self, road: Road, source: Source, now: Instant) -> bool:
        """Tell whether a source takes nothing now."""
        ...

    def begins(self, road: Road, source: Source, now: Instant) -> None:
        """Hear that a transaction from a source begins."""
        ...


class Shaping(Protocol):
    """How much the sites of this process may get."""

    def slots(self, place: Place) -> int:
        """Return how many transactions at once make sense, at most: the connections of all its sources together."""
        ...

    def take(self, place: Place, now: Instant) -> Permit | Wait:
        """Ask for one transaction; a permit is given back by `give_back`."""
        ...

    def give_back(self, permit: Permit, outcomes: Sequence[Outcome], now: Instant) -> None:
        """End a transaction and learn from what the site said; no outcomes: it was not begun."""
        ...

    def blocked(self, place: Place, now: Instant) -> Wait | None:
        """Tell whether the site gets nothing at all for now, and why."""
        ...

    async def step(self, epochs: dict[int, int], now: Instant) -> None:
        """
        Load what earlier owners knew of sites in shards that came, write down what is known; called about once a second.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        ...


class Roads(Protocol):
    """Which road is open, and where mail goes when one fails."""

    @property
    def has_choice(self) -> bool:
        """Whether some mail may have more than one road: then mail for sites that take nothing is worth reading."""
        ...

    def blocked(self, road: Road, now: Instant) -> Wait | None:
        """Tell whether a road takes nothing for now (its breaker is open), and why."""
        ...

    def report(self, road: Road, source: Source, outcomes: Sequence[Outcome], now: Instant, site: str = "") -> None:
        """Learn from a transaction with a site."""
        ...

    def after(self, due: Due, route: Sequence[Road], outcome: Outcome | None, now: Instant, blocked_by: str = "") -> Next | None:
        """
        Choose the road after this one; None when there is no better one than waiting for it.

        Args:
            outcome: What the attempt came to; None when the road was blocked and nothing was tried.
            blocked_by: The cause of the wait, then.
        """
        ...

    def patience_s(self, due: Due, route: Sequence[Road], now: Instant) -> float | None:
        """Return how long the road may be silent, because the recipient has another one that is open; None: as long as it likes."""
        ...

    def hanging(self, road: Road, since: Instant, now: Instant) -> Wait | None:
        """
        Judge a road by which nothing has begun or ended for a while, although mail waits; a wait when nothing is to be hoped for.

        Args:
            since: When something last did.
        """
        ...

    async def step(self, now: Instant) -> None:
        """
        Read what other processes know, write down what this one does; called about once a second.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """Nobody knows which mail system takes a domain, because DNS does not answer; ask again after `until`."""

    until: Instant
    detail: str


class Systems(Protocol):
    """Which mail system takes a domain."""

    def known(self, domain: str, now: Instant) -> str | None:
        """Return its site from memory; None when it has to be looked up."""
        ...

    def is_elsewhere(self, domain: str, site: str, now: Instant) -> bool:
        """Tell whether a domain's mail is filed under a site that does not take it any more, as far as memory knows."""
        ...

    async def find(self, domain: str) -> str | Unresolved:
        """
        Find its site out, and remember it for everybody.

        A domain that takes no mail has a site of its own: the courier then tells its recipients so.
        """
        ...
