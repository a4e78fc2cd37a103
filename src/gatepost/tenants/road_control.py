"""
A person's word about a road: switch it off, and on again; recorded in the audit log.

A road that is off gets no mail: what is on it takes the next one of its route, or waits. Switched on, it is tried at once,
whatever its breaker had found.
Not here: breakers (policy.health), who heeds this (dispatch.roads, tenants.routing).
"""

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor
from gatepost.domain.errors import Refused
from gatepost.domain.route import SANDBOX
from gatepost.observe import maillog
from gatepost.settings import InvalidSettings, Settings
from gatepost.settings.checks import check_route
from gatepost.store import audit, roads
from gatepost.store.engine import Engine
from gatepost.store.roads import RoadView


class RoadControl:
    """The switches of all roads: relays, and `mx` with its pools."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings

    async def disable(self, road: str, note: str, by: Actor) -> RoadView:
        """
        Switch a road off.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        self._check(road)
        now = self._clock.now()
        view = await self._engine.write(lambda conn: _disable(conn, road, note, by, now))
        maillog.changed("relay_disabled", road=road, by=by.id)
        return view

    async def enable(self, road: str, by: Actor) -> RoadView:
        """
        Switch a road on, and let it be tried at once.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        self._check(road)
        now = self._clock.now()
        view = await self._engine.write(lambda conn: _enable(conn, road, by, now))
        maillog.changed("relay_enabled", road=road, by=by.id)
        return view

    async def view(self, road: str) -> RoadView:
        """
        Return what is known of a road.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        self._check(road)
        now = self._clock.now()
        return await self._engine.read(lambda conn: roads.view(conn, road, now))

    def _check(self, road: str) -> None:
        try:
            check_route("road", road, self._settings)
        except InvalidSettings:
            raise Refused("not_found", "there is no such relay") from None
        if road == SANDBOX or "," in road:
            raise Refused("not_found", "there is no such relay")


def _disable(conn: Connection, road: str, note: str, by: Actor, now: Instant) -> RoadView:
    was_on = roads.disable(conn, road, now, note)
    if was_on:
        change = audit.Change(action="relay.disabled", object_id=road, tenant_id=None, after={"note": note})
        audit.append(conn, by, change, now)
    return roads.view(conn, road, now)


def _enable(conn: Connection, road: str, by: Actor, now: Instant) -> RoadView:
    before = roads.view(conn, road, now)
    was_off = roads.enable(conn, road)
    roads.close_breaker(conn, road, now)
    if was_off or before.state == "open":
        told = {"state": before.state, "reason": before.reason}
        audit.append(conn, by, audit.Change(action="relay.enabled", object_id=road, tenant_id=None, before=told), now)
    return roads.view(conn, road, now)
