"""
Which roads a recipient's mail may take, in which order: rules, weights, prices, health.

Arrives: what a message is (tenant, stream, sender, tags) and where it goes. Leaves: a route, such as `main,mx`.
Rules are asked in order and the first that matches counts; without one it is the default route. Roads that take nothing at
the moment go to the end of the order, so that new mail does not begin by waiting for them.
Not here: where rules come from (tenants.routing), what happens when a road fails (failover).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gatepost.domain.routing import Choice, Rule, Strategy

_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a road does.

    Attributes:
        is_shut: It takes nothing at the moment.
        score: 0 (everything fails) to 100.
    """

    is_shut: bool = False
    score: int = 100


_FINE = Standing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What rules look at in a message."""

    tenant_id: str
    tenant_name: str
    stream: str
    sender_domain: str
    tags: Sequence[str] = ()


@dataclass(slots=True)
class Table:
    """
    The rules in force, in order.

    Attributes:
        prices: Of 1,000 recipients, by road; a road that is missing costs nothing.
        default: The route of mail that no rule is for.
    """

    rules: Sequence[Rule]
    default: str
    prices: Mapping[str, float] = field(default_factory=dict)
    _known: dict[tuple[str, str, str], Sequence[Rule]] = field(default_factory=dict)

    def named(self, name: str) -> Rule | None:
        """Find a rule by its name."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def routes(
        self, sent: Sent, domains: Sequence[str], system_of: Callable[[str], str | None], standing: Mapping[str, Standing],
        chance: random.Random, default: str | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """
        Choose the route of each recipient's domain.

        Args:
            system_of: Names the mail system that takes a domain, where it is known.
            standing: By road, of those that are not simply fine.
            chance: For weights; all recipients of a message that share a rule share the draw.
            default: The route where no rule is for it; None is the table's.
        """
        candidates = self._candidates(sent)
        drawn: dict[str, str] = {}
        found = {}
        for domain in domains:
            rule = next((one for one in candidates if _takes(one, domain, system_of)), None)
            name = "" if rule is None else rule.name
            if name not in drawn:
                drawn[name] = self.default_route(standing, default) if rule is None else self.route_of(rule, standing, chance)
            found[domain] = drawn[name]
        return found

    def default_route(self, standing: Mapping[str, Standing], default: str | None = None) -> str:
        """Return the default route, with roads that take nothing at its end."""
        route = default or self.default
        return route if not standing else _open_first([road.strip() for road in route.split(",")], standing)

    def route_of(self, rule: Rule, standing: Mapping[str, Standing], chance: random.Random) -> str:
        """Put a rule's roads in order."""
        match rule.strategy:
            case Strategy.ORDERED:
                roads = [one.road for one in rule.choices]
            case Strategy.CHEAPEST:
                roads = sorted((one.road for one in rule.choices), key=lambda road: self.prices.get(road, 0.0))
            case Strategy.WEIGHTED:
                roads = _drawn(rule.choices, standing, chance)
        return _open_first(roads, standing)

    def is_for(self, rule: Rule, sent: Sent) -> bool:
        """Tell whether a rule is for a message, whoever gets it."""
        match = rule.match
        return (
            (not match.tenants or sent.tenant_id in match.tenants or sent.tenant_name in match.tenants)
            and (not match.streams or sent.stream in match.streams)
            and (not match.senders or _is_among(sent.sender_domain, match.senders))
            and (not match.tags or not match.tags.isdisjoint(sent.tags))
        )

    def _candidates(self, sent: Sent) -> Sequence[Rule]:
        if not self.rules:
            return ()
        key = (sent.tenant_id, sent.stream, sent.sender_domain)
        found = None if sent.tags else self._known.get(key)
        if found is None:
            found = [rule for rule in self.rules if rule.is_chosen and self.is_for(rule, sent)]
            if not sent.tags:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = found
        return found


def _takes(rule: Rule, domain: str, system_of: Callable[[str], str | None]) -> bool:
    match = rule.match
    return (not match.recipients or _is_among(domain, match.recipients)) and (not match.sites or system_of(domain) in match.sites)


def _is_among(domain: str, patterns: Sequence[str]) -> bool:
    return any(domain.endswith(one[1:]) if one.startswith("*.") else domain == one for one in patterns)


def _drawn(choices: Sequence[Choice], standing: Mapping[str, Standing], chance: random.Random) -> list[str]:
    """Draw the roads one after the other by their weights, each weight lowered by what its road does badly."""
    left = list(choices)
    roads = []
    while left:
        weights = [one.weight * max(standing.get(one.road, _FINE).score, 1) for one in left]
        chosen = chance.choices(left, weights)[0] if sum(weights) else left[0]
        roads.append(chosen.road)
        left.remove(chosen)
    return roads


def _open_first(roads: Sequence[str], standing: Mapping[str, Standing]) -> str:
    return ",".join(sorted(roads, key=lambda road: standing.get(road, _FINE).is_shut))
