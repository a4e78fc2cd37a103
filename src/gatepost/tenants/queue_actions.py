"""
Asking for an action on mail that waits: hold, release, reroute, cancel, for all that a filter matches.

Arrives: what, which mail, who wants it. Leaves: the action, stored with its entry in the audit log; or how many recipients it
would reach. The owners of the queue's shards do it, chunk by chunk, also after a restart (dispatch.acting).
Not here: one message (control), a site from now on (pausing).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock
from gatepost.domain.access import Actor
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.queue_action import Filter, Kind, QueueAction
from gatepost.domain.route import SANDBOX
from gatepost.domain.routing import parse_choices
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, queue_actions, routes
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.streams import read_route

_MOST_OPENED = 20_000
"""Rows whose recipients are opened for a count."""
_MOST_UNFINISHED = 100


class QueueActions:
    """Actions on the queue: asked for, and followed."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings

    async def ask(
        self, tenant_id: str | None, kind: Kind, wanted: Filter, *, by: Actor, route: str | None = None, note: str = "",
        is_operator: bool = False,
    ) -> QueueAction:  # fmt: skip
        """
        Ask for an action; it begins within a second or two.

        Args:
            tenant_id: Whose mail; None is everybody's.
            route: A route's name or roads; for a reroute.
            is_operator: May name roads and every route.

        Raises:
            Refused: validation_failed with the places; conflict when too many are being done.
            StorageUnavailable: The database cannot be used now.
        """
        action = self._action(tenant_id, kind, wanted, by, note, route)
        return await self._engine.write(lambda conn: self._insert(conn, action, by, is_operator=is_operator))

    async def count(self, tenant_id: str | None, kind: Kind, wanted: Filter, *, by: Actor) -> tuple[int, bool]:
        """
        Count what an action would reach now.

        Returns:
            Recipients, and whether the number is exact.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        action = self._action(tenant_id, kind, wanted, by, "", None)
        return await self._engine.read(lambda conn: queue_actions.count(conn, action, _MOST_OPENED))

    async def list(self, tenant_id: str | None) -> list[QueueAction]:
        """
        List the newest actions.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: queue_actions.latest(conn, tenant_id))

    async def get(self, tenant_id: str | None, action_id: str) -> QueueAction:
        """
        Return an action with its progress.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        found = await self._engine.read(lambda conn: queue_actions.latest(conn, tenant_id, action_id=action_id))
        if not found:
            raise Refused("not_found", "there is no such action")
        return found[0]

    def _action(self, tenant_id: str | None, kind: Kind, wanted: Filter, by: Actor, note: str, route: str | None) -> QueueAction:
        return QueueAction(
            id=ids.new("qac"), tenant_id=tenant_id, kind=kind, filter=wanted, route=route, note=note, actor_id=by.id, actor_name=by.name,
            created_at=self._clock.now(),
        )  # fmt: skip

    def _insert(self, conn: Connection, action: QueueAction, by: Actor, *, is_operator: bool) -> QueueAction:
        if (action.kind is Kind.REROUTE) != (action.route is not None):
            raise invalid(Fault("/route", "required", "a reroute needs the new route, and nothing else takes one"))
        if action.route is not None:
            action = replace(action, route=self._roads(conn, action.route, is_operator=is_operator))
        if len(queue_actions.unfinished(conn)) >= _MOST_UNFINISHED:
            raise Refused("conflict", f"{_MOST_UNFINISHED} actions are being done already; wait for one to end")
        queue_actions.insert(conn, action)
        change = Change(action=f"queue.{action.kind.value}", object_id=action.id, tenant_id=action.tenant_id, after=as_told(action))
        audit.append(conn, by, change, action.created_at)
        maillog.changed("queue_action", action=action.kind.value, id=action.id, tenant_id=action.tenant_id, by=by.id)
        return action

    def _roads(self, conn: Connection, route: str, *, is_operator: bool) -> str:
        """Return the roads that a name stands for, in their order."""
        if route == SANDBOX:
            raise invalid(Fault("/route", "invalid_route", "mail that was meant to leave is not captured; hold or cancel it"))
        try:
            found = read_route(conn, self._settings, route, is_operator=is_operator)
        except ValueError as error:
            raise invalid(Fault("/route", "unknown_route", str(error))) from error
        if found in self._settings.routes:
            return ",".join(one.road for one in parse_choices(self._settings.routes[found].roads))
        made = next((rule for rule in routes.every(conn) if rule.name == found), None)
        return found if made is None else ",".join(one.road for one in made.choices)


def as_told(action: QueueAction) -> Mapping[str, Any]:
    """Write what an action is, for answers and for the audit log."""
    return {"filter": action.filter.as_dict()} | {name: value for name in ("route", "note") if (value := getattr(action, name))}
