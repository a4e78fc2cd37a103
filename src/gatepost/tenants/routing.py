"""
Which roads mail takes, at the moment it is accepted: rules of the settings and of operators, and the health of roads.

Arrives: who sends, and a message. Leaves: a route for each recipient's domain; or a refusal of what was asked for.
Rules and health are held in memory and followed once a second, so a message costs a few comparisons. Test keys always go to
the sandbox. A message may ask for a route by its name, if the route may be named; for roads only if an operator sends it.
Not here: the choice itself (policy.routing), making rules (tenants.routes), failover (dispatch.roads).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.access import PrincipalKind, Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.message import Draft
from gatepost.domain.route import SANDBOX
from gatepost.domain.routing import Match, Rule, Strategy, parse_choices
from gatepost.domain.tenant import Caller
from gatepost.policy.routing import Sent, Standing, Table
from gatepost.settings import InvalidSettings, Settings
from gatepost.settings.checks import check_route
from gatepost.store import roads, routes, tenants
from gatepost.store.engine import Engine
from gatepost.store.roads import RoadView
from gatepost.tenants.directory import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """
    The routes of one message.

    Attributes:
        route: The message's own; it stands for every recipient that has no other. `sandbox` only if all of it stays there.
        others: By recipient's domain, where it is another one.
    """

    route: str
    others: Mapping[str, str] = field(default_factory=dict)


class Routing:
    """Chooses routes for one process."""

    def __init__(
        self, engine: Engine, directory: Directory, settings: Settings, clock: Clock, *,
        system_of: Callable[[str], str | None] = lambda _: None, chance: random.Random | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            system_of: Names the mail system that takes a domain, where it is known without asking anybody.
            chance: For weights.
        """
        self._engine = engine
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._system_of = system_of
        self._chance = chance or random.Random()  # noqa: S311 - shares of mail, no secret
        self._version = -1
        self._table = Table(fixed_rules(settings), settings.egress.default_route, prices_of(settings))
        self._standing: Mapping[str, Standing] = {}

    async def refresh(self) -> None:
        """
        Follow rules and roads; called about once a second.

        Raises:
            StorageUnavailable: What was known before stays in force.
        """
        now = self._clock.now()
        version, made, views = await self._engine.read(lambda conn: self._read(conn, now))
        if made is not None:
            self._table = Table([*fixed_rules(self._settings), *made], self._settings.egress.default_route, prices_of(self._settings))
            self._version = version
        self._standing = {
            road: Standing(is_shut=view.is_shut(now), score=view.score)
            for road, view in views.items()
            if view.is_shut(now) or view.score < 100
        }

    def choose(self, caller: Caller, draft: Draft, default: str | None = None) -> Chosen:
        """
        Choose the routes of a message.

        Args:
            default: A route's name or roads for mail that no rule is for; None is `egress.default_route`.

        Raises:
            Refused: validation_failed: it asks for a route that it may not name.
        """
        if caller.is_test:
            return Chosen(route=SANDBOX)
        asked = draft.steering.route
        if asked is None and default is None and not self._table.rules:
            return Chosen(route=self._table.default_route(self._standing))
        tenant = self._directory.tenant(caller.tenant_id)
        sent = Sent(
            tenant_id=caller.tenant_id, tenant_name="" if tenant is None else tenant.name, stream=draft.steering.stream,
            sender_domain=draft.header_from.address.domain, tags=draft.steering.tags,
        )  # fmt: skip
        if asked is not None:
            return Chosen(route=self._asked(asked, caller, sent))
        domains = list(dict.fromkeys(recipient.address.domain for recipient in draft.recipients))
        found = self._table.routes(sent, domains, self._system_of, self._standing, self._chance, self._named(default))
        route = next((one for one in found.values() if one != SANDBOX), SANDBOX)
        return Chosen(route=route, others={domain: one for domain, one in found.items() if one != route})

    def _named(self, default: str | None) -> str | None:
        """Return the roads of a route that a stream names."""
        if default is None:
            return None
        rule = self._table.named(default)
        if rule is not None:
            return self._table.route_of(rule, self._standing, self._chance)
        try:
            check_route("route", default, self._settings)
        except InvalidSettings:  # the route that it named is gone
            return None
        return default

    def _asked(self, asked: str, caller: Caller, sent: Sent) -> str:
        if asked == SANDBOX:  # that is always safe
            return SANDBOX
        is_operator = caller.principal.may(Scope.OPERATOR) or caller.principal.kind is PrincipalKind.LOCAL
        rule = self._table.named(asked)
        if rule is not None and (is_operator or (rule.may_be_named and self._table.is_for(rule, sent))):
            return self._table.route_of(rule, self._standing, self._chance)
        if not is_operator:
            raise invalid(Fault("/route", "unknown_route", "there is no route of this name that this key may ask for"))
        try:
            check_route("route", asked, self._settings)
        except InvalidSettings as error:
            raise invalid(Fault("/route", "unknown_route", str(error))) from error
        return ",".join(road.strip() for road in asked.split(","))

    def _read(self, conn: Connection, now: Instant) -> tuple[int, list[Rule] | None, dict[str, RoadView]]:
        version = tenants.version(conn)
        made = routes.every(conn) if version != self._version else None
        if made is not None:
            made = [rule for rule in made if not faults_of(rule, self._settings)]  # a relay may be gone from the settings
        return version, made, roads.views(conn, now)


def fixed_rules(settings: Settings) -> list[Rule]:
    """Return the rules of the settings, in their order; they are asked before all others."""
    return [
        Rule(
            name=name,
            choices=parse_choices(one.roads),
            strategy=Strategy(one.strategy),
            match=Match(
                tenants=frozenset(one.tenants), streams=frozenset(one.streams), senders=tuple(map(str.lower, one.senders)),
                recipients=tuple(map(str.lower, one.recipients)), sites=frozenset(one.sites), tags=frozenset(one.tags),
            ),
            may_be_named=one.may_be_named,
            is_chosen=one.is_chosen,
        )
        for name, one in settings.routes.items()
    ]  # fmt: skip


def prices_of(settings: Settings) -> dict[str, float]:
    """Return what 1,000 recipients cost by each relay."""
    return {name: relay.price_per_1000 for name, relay in settings.relays.items()}


def faults_of(rule: Rule, settings: Settings) -> Sequence[Fault]:
    """Say what keeps a rule from being one: roads that do not exist, a name that is a road's."""
    if rule.name in {"sandbox", "mx", *settings.relays}:
        return [Fault("/name", "invalid_name", "it is the name of a road")]
    try:
        check_route("roads", ",".join(one.road for one in rule.choices), settings)
    except InvalidSettings as error:
        return [Fault("/roads", "unknown_road", str(error).removeprefix("roads: "))]
    return []
