"""
Deliverability of a tenant's domains: measured now, and read back day by day with the reason of each change.

Arrives: a tenant, a domain. Leaves: scores made of counts, of the domain's health and of placement tests.
Not here: the rules (policy.deliverability), writing days down (upkeep.scores).
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Clock, Instant
from gatepost.domain.errors import Refused
from gatepost.domain.placement import PlacementCounts
from gatepost.domain.stats import Counts, Dimension
from gatepost.domain.tenant import Domain
from gatepost.policy import deliverability
from gatepost.policy.deliverability import Change, Direction, Score, Standing
from gatepost.policy.quota import day_of
from gatepost.settings import Settings
from gatepost.store import placement, rollups, scores, tenants
from gatepost.store.engine import Engine
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import canonical_name

MOST_DAYS: Final = 400
_LIVE: Final = ("live",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """
    A day's score.

    Attributes:
        day: `2026-11-24`, UTC.
        changes: Why it is not the day's before that has one.
    """

    day: str
    score: int | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A domain with its score as of now."""

    domain: Domain
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """
    A domain's score as of now, and how it came to it.

    Attributes:
        days: The oldest first; the last one is today, as of now.
    """

    domain: Domain
    at: Instant
    score: Score
    direction: Direction
    days: tuple[Day, ...]


class Deliverability:
    """Scores of all tenants' domains."""

    def __init__(self, engine: Engine, clock: Clock, health: DomainHealth, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._health = health
        self._window = settings.deliverability.window_days * DAY
        self._is_placement_measured = bool(settings.seeds)

    async def measure(self, tenant_id: str, names: frozenset[str] | None = None) -> list[Measured]:
        """
        Judge a tenant's domains as of now, by name.

        Args:
            names: Only these; None is all.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        views = await self._health.overview(tenant_id, names)
        wanted, now = [one.domain.name for one in views], self._clock.now()
        if not wanted:
            return []
        counts, placed = await self._engine.read(lambda conn: self._facts(conn, tenant_id, wanted, now))
        return [
            Measured(
                domain=one.domain,
                score=deliverability.evaluate(
                    counts.get(one.domain.name, Counts()), Standing(score=one.score, next_step=one.next_step), placed.get(one.domain.name)
                ),
            )
            for one in views
        ]  # fmt: skip

    async def trend(self, tenant_id: str, id_or_name: str, days: int) -> Trend:
        """
        Judge one domain as of now, and return its days with the reason of each change.

        Args:
            days: Today included.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        domain = await self._engine.read(lambda conn: _domain(conn, tenant_id, id_or_name))
        measured = await self.measure(tenant_id, frozenset({domain.name}))
        if not measured:
            raise Refused("not_found", f"there is no domain {id_or_name}")
        now, score = self._clock.now(), measured[0].score
        today, since = day_of(now), day_of(now - days * DAY)  # one day more, to compare the first one with
        rows = await self._engine.read(lambda conn: scores.of_domain(conn, domain.id, since))
        past = [(row.day, row.score) for row in rows if row.day < today]
        told = _explained([*past, (today, score)])[-days:]
        return Trend(
            domain=domain, at=now, score=score, days=told, direction=deliverability.direction_of([one.score for one in told]),
        )  # fmt: skip

    def _facts(
        self, conn: Connection, tenant_id: str, names: list[str], now: Instant
    ) -> tuple[dict[str, Counts], dict[str, PlacementCounts]]:  # fmt: skip
        start, end = now - self._window, now + rollups.FINEST
        where = {Dimension.DOMAIN.value: names, rollups.MODE: _LIVE}
        rows = rollups.read(conn, tenant=tenant_id, start=start, end=end, group_by=(Dimension.DOMAIN,), where=where, has_waits=False)
        placed = {}
        if self._is_placement_measured:
            placed = {name: placement.summary(conn, tenant_id, [name], start, end).total for name in names}
        return {row.key[0]: row.counts for row in rows}, placed


def _explained(days: list[tuple[str, Score]]) -> tuple[Day, ...]:
    told = []
    for n, (day, score) in enumerate(days):
        changes = deliverability.compare(days[n - 1][1], score) if n else ()
        told.append(Day(day=day, score=score.score, changes=changes))
    return tuple(told)


def _domain(conn: Connection, tenant_id: str, id_or_name: str) -> Domain:
    wanted = id_or_name if ids.is_valid(id_or_name, "dom") else canonical_name(id_or_name)
    found = tenants.find_domain(conn, tenant_id, wanted)
    if found is None:
        raise Refused("not_found", f"there is no domain {wanted}")
    return found
