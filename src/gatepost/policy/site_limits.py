"""
Whose word counts about a site: the data that is shipped, the settings, operators.

Arrives: settings, orders. Leaves: the sources of a pool; the limits of a source at a site.
Not here: what the limits mean (shaping), where orders are kept (store.shaping).
"""

from collections.abc import Mapping, Sequence

import msgspec

from gatepost.domain.flow import SiteRule
from gatepost.domain.route import DEFAULT_POOL, DEFAULT_SOURCE, RoadKind, Source, road_at
from gatepost.observe import maillog
from gatepost.policy.shaping import KNOWN, Limits, limits_of
from gatepost.settings import Settings, SiteLimits

Layer = Mapping[str, SiteLimits]
"""What one voice says, by site."""

_SANDBOX_SLOTS = 50

ALONE: Sequence[tuple[Source, float]] = ((DEFAULT_SOURCE, 1.0),)
"""The sources of a pool that the settings do not name."""


def pools_of(settings: Settings) -> dict[str, Sequence[tuple[Source, float]]]:
    """Return each pool's sources with their weights; one that rests is left out."""
    found: dict[str, Sequence[tuple[Source, float]]] = {DEFAULT_POOL: ALONE}
    for name, pool in settings.pools.items():
        members = [(source_of(settings, one), float(pool.weights.get(one, 1))) for one in pool.sources]
        found[name] = [(source, weight) for source, weight in members if weight]
    return found


def source_of(settings: Settings, name: str) -> Source:
    """Return a source of the settings."""
    one = settings.sources[name]
    return Source(name=name, address=one.address, hostname=one.hostname, proxy=one.proxy)


def limits_ordered(rules: Sequence[SiteRule]) -> dict[str, dict[str, SiteLimits]]:
    """Return the limits that operators ordered, by source (empty is every one) and site."""
    found: dict[str, dict[str, SiteLimits]] = {}
    for rule in rules:
        if rule.limits:
            try:
                found.setdefault(rule.source, {})[rule.site] = msgspec.convert(rule.limits, SiteLimits)
            except msgspec.ValidationError as error:  # written by another release
                maillog.trouble("limits of a site cannot be read", site=rule.site, error=str(error))
    return found


def limits_in_force(settings: Settings, ordered: Mapping[str, Layer], source: str, pool: str, site: str) -> Limits:
    """
    Return what a source may do at a site when nothing holds back.

    Args:
        ordered: What operators ordered: `limits_ordered`.
    """
    egress = settings.egress
    chosen = [
        settings.shaping,
        settings.pools[pool].shaping if pool in settings.pools else {},
        settings.sources[source].shaping if source in settings.sources else {},
        ordered.get("", {}),
        ordered.get(source, {}),
    ]
    match road_at(pool, site).kind:
        case RoadKind.SANDBOX:
            return Limits(connections=_SANDBOX_SLOTS)
        case RoadKind.RELAY:  # `*` means recipients' systems
            named = [{site: layer[site]} for layer in chosen if site in layer]
            return limits_of(site, named, connections=egress.connections_per_relay, messages_per_connection=None)
        case RoadKind.MX:
            return limits_of(site, [KNOWN, *chosen], connections=egress.connections_per_site, messages_per_connection=None)
