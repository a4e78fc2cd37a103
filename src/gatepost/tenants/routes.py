"""
Routes that operators make: list, make, change, remove, order; each change with its entry in the audit log.

Those of the settings are listed first and cannot be changed here; they are asked before all others, too.
Not here: which mail a route is for (policy.routing), the SQL (store.routes).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.routing import Choice, Match, Rule, Strategy, parse_choices
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, routes
from gatepost.store.engine import Engine
from gatepost.tenants.routing import faults_of, fixed_rules

MOST: int = 500
"""Routes that operators make at most: all are held in memory."""
MOST_VALUES: int = 1_000
"""Values of one condition at most."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_RESERVED = frozenset({"order", "default"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What a route shall be, as a person writes it.

    Attributes:
        roads: `main:80,second:20`, or the roads themselves.
        match: By condition: tenants, streams, senders, recipients, sites, tags.
    """

    name: str
    roads: str | Sequence[Choice]
    strategy: str = Strategy.ORDERED.value
    match: Mapping[str, Sequence[str]] = field(default_factory=dict)
    may_be_named: bool = False
    is_chosen: bool = True


class Routes:
    """The routes of the gateway, as operators see them."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings

    async def every(self) -> list[Rule]:
        """
        List all routes in the order in which they are asked.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return [*fixed_rules(self._settings), *await self._engine.read(routes.every)]

    async def get(self, id_or_name: str) -> Rule:
        """
        Return a route.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        for rule in await self.every():
            if id_or_name in {rule.id, rule.name}:
                return rule
        raise _missing()

    async def create(self, asked: Asked, by: Actor, *, is_first: bool = False) -> Rule:
        """
        Make a route; it is asked after all others, or first of those that operators made.

        Raises:
            Refused: validation_failed with every fault; conflict when another one has its name.
            StorageUnavailable: Nothing changed.
        """
        made = replace(self._read(asked), id=ids.new("rte"))
        now = self._clock.now()
        try:
            await self._engine.write(lambda conn: _insert(conn, made, by, now, is_first=is_first))
        except IntegrityError:
            raise _taken() from None
        maillog.changed("route_created", route=made.name, by=by.id)
        return made

    async def change(self, id_or_name: str, changes: Mapping[str, Any], by: Actor) -> Rule:
        """
        Change some of a route's fields.

        Args:
            changes: By the fields of `Asked`; conditions that `match` leaves out stay as they are.

        Raises:
            Refused: not_found; conflict when it stands in the settings, or another one has the new name; validation_failed.
            StorageUnavailable: Nothing changed.
        """
        self._refuse_fixed(id_or_name)
        now = self._clock.now()
        try:
            after = await self._engine.write(lambda conn: self._change(conn, id_or_name, changes, by, now))
        except IntegrityError:
            raise _taken() from None
        maillog.changed("route_changed", route=after.name, by=by.id)
        return after

    async def remove(self, id_or_name: str, by: Actor) -> None:
        """
        Remove a route; mail that was accepted keeps its roads.

        Raises:
            Refused: not_found; conflict when it stands in the settings.
            StorageUnavailable: Nothing changed.
        """
        self._refuse_fixed(id_or_name)
        now = self._clock.now()
        gone = await self._engine.write(lambda conn: _remove(conn, id_or_name, by, now))
        maillog.changed("route_removed", route=gone.name, by=by.id)

    async def order(self, ids_or_names: Sequence[str], by: Actor) -> list[Rule]:
        """
        Ask routes in another order.

        Args:
            ids_or_names: Every route that operators made, once.

        Raises:
            Refused: validation_failed when one is missing, unknown or there twice.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        made = await self._engine.write(lambda conn: _order(conn, ids_or_names, by, now))
        maillog.changed("routes_ordered", by=by.id)
        return [*fixed_rules(self._settings), *made]

    def _refuse_fixed(self, id_or_name: str) -> None:
        if id_or_name in self._settings.routes:
            raise Refused("conflict", f"{id_or_name} stands in the settings: change [routes.{id_or_name}] there")

    def _change(self, conn: Connection, id_or_name: str, changes: Mapping[str, Any], by: Actor, now: Instant) -> Rule:
        before = _found(conn, id_or_name)
        match = {name: list(getattr(before.match, name)) for name in _CONDITIONS} | dict(changes.get("match", {}))
        asked = Asked(
            name=changes.get("name", before.name),
            roads=changes.get("roads", before.choices),
            strategy=changes.get("strategy", before.strategy.value),
            match=match,
            may_be_named=changes.get("may_be_named", before.may_be_named),
            is_chosen=changes.get("is_chosen", before.is_chosen),
        )
        after = replace(self._read(asked), id=before.id)
        if after != before:
            routes.update(conn, after)
            _record(conn, by, "route.changed", after.id, told(before), told(after), now)
        return after

    def _read(self, asked: Asked) -> Rule:
        faults: list[Fault] = []
        if not _NAME.fullmatch(asked.name) or asked.name in _RESERVED or asked.name.startswith("rte_"):
            faults.append(Fault("/name", "invalid_name", "a name has letters, digits, - and _, at most 40, and is not order or default"))
        elif asked.name in self._settings.routes:
            faults.append(Fault("/name", "invalid_name", "a route of the settings has this name"))
        choices = _choices(asked.roads, faults)
        match = _match(asked.match, faults)
        if asked.strategy not in set(Strategy):
            faults.append(Fault("/strategy", "out_of_range", f"it is one of {', '.join(Strategy)}"))
        if faults:
            raise invalid(*faults)
        rule = Rule(
            name=asked.name, choices=choices, strategy=Strategy(asked.strategy), match=match,
            may_be_named=asked.may_be_named, is_chosen=asked.is_chosen,
        )  # fmt: skip
        if found := faults_of(rule, self._settings):
            raise invalid(*found)
        return rule


_CONDITIONS = ("tenants", "streams", "senders", "recipients", "sites", "tags")


def told(rule: Rule) -> dict[str, Any]:
    """Return what a route is, for the audit log and for people."""
    return {"name": rule.name, **routes.to_json(rule)}


def _choices(roads: str | Sequence[Choice], faults: list[Fault]) -> tuple[Choice, ...]:
    try:
        found = parse_choices(roads) if isinstance(roads, str) else tuple(roads)
    except ValueError as error:
        faults.append(Fault("/roads", "invalid_roads", str(error)))
        return ()
    if not found or any(not 0 <= one.weight <= 10_000 for one in found):
        faults.append(Fault("/roads", "invalid_roads", "give at least one road, with weights of 0 to 10,000"))
    return found


def _match(match: Mapping[str, Sequence[str]], faults: list[Fault]) -> Match:
    for name, values in match.items():
        if name not in _CONDITIONS:
            faults.append(Fault(f"/match/{name[:100]}", "unknown_field", f"there are the conditions {', '.join(_CONDITIONS)}"))
        elif len(values) > MOST_VALUES or any(not 0 < len(one) <= 255 or not one.isprintable() for one in values):
            faults.append(Fault(f"/match/{name}", "invalid_value", f"give at most {MOST_VALUES} values of 1 to 255 characters"))
    return Match(
        tenants=frozenset(match.get("tenants", ())),
        streams=frozenset(match.get("streams", ())),
        senders=tuple(sorted(_domains("senders", match.get("senders", ()), faults))),
        recipients=tuple(sorted(_domains("recipients", match.get("recipients", ()), faults))),
        sites=frozenset(match.get("sites", ())),
        tags=frozenset(match.get("tags", ())),
    )


def _domains(name: str, values: Iterable[str], faults: list[Fault]) -> set[str]:
    """Bring domains to lower-case A-labels."""
    found = set()
    for value in values:
        star, domain = ("*.", value[2:]) if value.startswith("*.") else ("", value)
        try:
            found.add(star + parse_address(f"x@{domain}").domain)
        except InvalidAddress:
            faults.append(Fault(f"/match/{name}", "invalid_domain", f"{value[:255]!r} is no domain, and no *.domain"))
    return found


def _insert(conn: Connection, made: Rule, by: Actor, now: Instant, *, is_first: bool) -> None:
    every = routes.every(conn)
    if len(every) >= MOST:
        raise Refused("conflict", f"there are {MOST} routes already")
    routes.insert(conn, made, routes.last_position(conn) + 1, now)
    if is_first:
        routes.order(conn, [made.id, *(rule.id for rule in every)])
    _record(conn, by, "route.created", made.id, None, told(made), now)


def _remove(conn: Connection, id_or_name: str, by: Actor, now: Instant) -> Rule:
    before = _found(conn, id_or_name)
    routes.delete(conn, before.id)
    _record(conn, by, "route.removed", before.id, told(before), None, now)
    return before


def _order(conn: Connection, ids_or_names: Sequence[str], by: Actor, now: Instant) -> list[Rule]:
    every = routes.every(conn)
    known = {key: rule for rule in every for key in (rule.id, rule.name)}
    wanted = [known[one] for one in ids_or_names if one in known]
    if len(wanted) != len(ids_or_names) or sorted(rule.id for rule in wanted) != sorted(rule.id for rule in every):
        raise invalid(Fault("/routes", "invalid_value", "name every route that is not in the settings, once"))
    if wanted != every:
        routes.order(conn, [rule.id for rule in wanted])
        before, after = ({"order": [rule.name for rule in rules]} for rules in (every, wanted))
        _record(conn, by, "routes.ordered", "routes", before, after, now)
    return wanted


def _record(
    conn: Connection, by: Actor, action: str, object_id: str, before: dict[str, Any] | None, after: dict[str, Any] | None, now: Instant
) -> None:
    audit.append(conn, by, audit.Change(action=action, object_id=object_id, tenant_id=None, before=before, after=after), now)


def _found(conn: Connection, id_or_name: str) -> Rule:
    found = routes.find(conn, id_or_name, is_locking=True)
    if found is None:
        raise _missing()
    return found


def _missing() -> Refused:
    return Refused("not_found", "there is no such route")


def _taken() -> Refused:
    return Refused("conflict", "there is a route with this name already")
