"""
What operators order about sites: nothing for a while, go on, other limits; and how all of it stands.

Arrives: orders. Leaves: rows that the sites' owners follow within a second or two, with their entries in the audit log.
Not here: what owners make of them (dispatch.shaping), pausing a site for everybody by hand (control).
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant, iso
from gatepost.domain.access import Actor
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.flow import FlowState, SiteRule
from gatepost.domain.route import DEFAULT_POOL, DEFAULT_SOURCE, Source
from gatepost.policy.shaping import EVERY, Limits
from gatepost.policy.site_limits import limits_in_force, limits_ordered, pools_of
from gatepost.settings import Settings, SiteLimits
from gatepost.settings.checks import InvalidSettings, check_limits
from gatepost.store import audit, shaping, sites
from gatepost.store.engine import Engine

_SITE = re.compile(r"(?=.{1,255}\Z)(?:[a-z][a-z0-9-]*|[a-z0-9_-]+(?:\.[a-z0-9_-]+)+|relay:[A-Za-z0-9_-]+)")
"""A known system, a domain, a relay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStanding:
    """
    One site as it stands.

    Attributes:
        flows: What is known of each source there, by its owner.
        rules: What operators ordered, for this site or for every one.
        limits: What each source may do when nothing holds back, by its name.
    """

    site: str
    paused_at: Instant | None = None
    flows: list[FlowState] = field(default_factory=list)
    rules: list[SiteRule] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)

    def suspended_until(self, now: Instant) -> Instant | None:
        """Return until when an operator suspended the site for every source; None when nobody did."""
        ends = [rule.suspended_until or 0 for rule in self.rules if not rule.source]
        return max(ends) if ends and max(ends) > now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool with its sources and their weights."""

    name: str
    sources: list[tuple[Source, float]]


class SiteOrders:
    """Orders about sites, for operators."""

    def __init__(self, engine: Engine, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock

    def pools(self) -> list[Pool]:
        """List the pools by name; `default` is always there."""
        found = [Pool(name=name, sources=list(sources)) for name, sources in pools_of(self._settings).items()]
        return sorted(found, key=lambda pool: pool.name)

    async def standings(self, names: list[str] | None = None) -> dict[str, SiteStanding]:
        """
        Return how sites stand: those named, or all that anything is known or ordered of.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: self._standings(conn, names))

    async def standing(self, site: str) -> SiteStanding:
        """
        Return how one site stands.

        Raises:
            Refused: not_found: it cannot be a site's name.
        """
        name = _named(site)
        return (await self.standings([name]))[name]

    async def suspend(self, site: str, source: str, until: Instant | None, note: str, *, by: Actor) -> SiteStanding:
        """
        Send nothing to a site for a while.

        Args:
            site: `*` is every site.
            source: Only from this one; empty is every source.
            until: None is until it is resumed.

        Raises:
            Refused: not_found: it cannot be a site's name; validation_failed: there is no such source.
        """
        ends = until if until is not None else shaping.FOREVER
        shown = None if until is None else iso(until)

        def change(conn: Connection, rule: SiteRule, now: Instant) -> SiteRule:
            after = {"source": source, "until": shown, "note": note}
            audit.append(conn, by, audit.Change(action="site.suspended", object_id=site, tenant_id=None, after=after), now)
            return replace(rule, suspended_until=ends, note=note)

        return await self._change(site, source, change)

    async def resume(self, site: str, source: str, *, by: Actor) -> SiteStanding:
        """
        Let mail go again: what operators suspended or paused, and what the gateway itself suspended after a site's words.

        Args:
            site: `*` is every site: an order about one site stays.
            source: Only what was ordered for this one, and what held back this one; empty is every source.

        Raises:
            Refused: not_found: it cannot be a site's name; validation_failed: there is no such source.
        """

        def change(conn: Connection, rule: SiteRule, now: Instant) -> SiteRule:
            if not source:
                sites.resume(conn, site)
                for other in shaping.rules(conn):
                    if other.site == site and other.source and other.suspended_until is not None:
                        shaping.set_rule(conn, replace(other, suspended_until=None, note="", changed_at=now))
            after = {"source": source}
            audit.append(conn, by, audit.Change(action="site.resumed", object_id=site, tenant_id=None, after=after), now)
            return replace(rule, suspended_until=None, lifted_at=now, note="")

        return await self._change(site, source, change)

    async def limit(self, site: str, source: str, limits: SiteLimits, *, by: Actor) -> SiteStanding:
        """
        Set a site's limits for sources, in place of those that were ordered before; without any, the settings' count again.

        Raises:
            Refused: not_found: it cannot be a site's name; validation_failed: there is no such source, or the limits do not go together.
        """
        try:
            check_limits("limits", limits)
        except InvalidSettings as error:
            raise invalid(Fault("/warm_up", "invalid_warm_up", str(error).partition(": ")[2])) from error
        wanted = {name: value for name in limits.__struct_fields__ if (value := getattr(limits, name)) is not None and value != ""}

        def change(conn: Connection, rule: SiteRule, now: Instant) -> SiteRule:
            before, after = {"source": source, "limits": rule.limits}, {"source": source, "limits": wanted}
            told = audit.Change(action="site.limits_changed", object_id=site, tenant_id=None, before=before, after=after)
            audit.append(conn, by, told, now)
            return replace(rule, limits=wanted)

        return await self._change(site, source, change)

    async def _change(self, site: str, source: str, change: Any) -> SiteStanding:
        if site != EVERY:
            _named(site)
        self._check_source(source)
        now = self._clock.now()

        def work(conn: Connection) -> SiteStanding:
            rule = change(conn, shaping.rule(conn, source, site), now)
            shaping.set_rule(conn, replace(rule, changed_at=now))
            return self._standings(conn, [site])[site]

        return await self._engine.write(work)

    def _check_source(self, source: str) -> None:
        if source and source != DEFAULT_SOURCE.name and source not in self._settings.sources:
            known = ", ".join(sorted({DEFAULT_SOURCE.name, *self._settings.sources}))
            raise invalid(Fault("/source", "unknown_source", f"there is no source {source!r}; there are {known}"))

    def _standings(self, conn: Connection, names: list[str] | None) -> dict[str, SiteStanding]:
        flows, rules, paused = shaping.states(conn, sites=names), shaping.rules(conn), sites.paused(conn)
        ordered = limits_ordered(rules)
        in_force = {rule.site for rule in rules if rule.limits or rule.suspended_until is not None}
        wanted = names if names is not None else sorted({flow.site for flow in flows} | in_force | set(paused))
        return {
            site: SiteStanding(
                site=site,
                paused_at=paused.get(site),
                flows=[flow for flow in flows if flow.site == site],
                rules=[rule for rule in rules if rule.site in {site, EVERY}],
                limits={
                    source.name: limits_in_force(self._settings, ordered, source.name, pool, site)
                    for pool, source in self._sources_of(site)
                },
            )
            for site in wanted
        }

    def _sources_of(self, site: str) -> list[tuple[str, Source]]:
        if site == "sandbox" or site.startswith("relay:"):
            return [(DEFAULT_POOL, DEFAULT_SOURCE)]
        return [(name, source) for name, sources in pools_of(self._settings).items() for source, _ in sources]


def _named(site: str) -> str:
    if not _SITE.fullmatch(site):
        raise Refused("not_found", "there is no such site")
    return site
