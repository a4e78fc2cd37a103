"""
A tenant's streams: listed, made, changed and deleted by API and command line.

Arrives: how a kind of mail shall be treated. Leaves: the stream, stored with its entry in the audit log; other processes
follow within a second, as they follow all configuration. What was accepted before keeps what it was accepted with.
Not here: what a stream means (domain.stream), what it does to a message (accept).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Clock
from gatepost.domain.access import Actor
from gatepost.domain.engagement import NOTHING, Tracking
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Lane
from gatepost.domain.route import SANDBOX
from gatepost.domain.stream import DEFAULTS, NAME, Stream, read_window, window_as_dict
from gatepost.observe import maillog
from gatepost.settings import InvalidSettings, Settings
from gatepost.settings.checks import check_route
from gatepost.store import audit, routes, streams
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory

LANES = {lane.name.lower(): lane for lane in Lane}
_MOST = 100
_LONGEST_S = 30 * 86400


class Streams:
    """The streams of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, directory: Directory | None = None) -> None:
        """
        Args:
            directory: Refreshed after a change, so that it counts at once in this process.
        """
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._directory = directory

    async def list(self, tenant_id: str) -> list[Stream]:
        """
        List a tenant's streams: the default ones first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        own = await self._engine.read(lambda conn: streams.of_tenant(conn, tenant_id))
        return list({**DEFAULTS, **own}.values())

    async def get(self, tenant_id: str, name: str) -> Stream:
        """
        Return a stream.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: _found(conn, tenant_id, name))

    async def create(self, tenant_id: str, name: str, values: Mapping[str, Any], *, by: Actor, is_operator: bool = False) -> Stream:
        """
        Make a stream.

        Args:
            values: `lane` (a lane's name), and if wanted `ttl_s`, `retry`, `route`, `window`, `tracking` and `unsubscribe`.
            is_operator: May name roads and every route.

        Raises:
            Refused: validation_failed with the places; conflict when there is one of this name.
            StorageUnavailable: The database cannot be used now.
        """
        if not NAME.fullmatch(name):
            raise invalid(Fault("/name", "invalid_name", "a stream's name is 1 to 40 small letters, digits, - and _, a letter first"))
        made = await self._engine.write(lambda conn: self._create(conn, tenant_id, name, values, by, is_operator=is_operator))
        return await self._told("stream_made", tenant_id, made, by)

    async def change(self, tenant_id: str, name: str, values: Mapping[str, Any], *, by: Actor, is_operator: bool = False) -> Stream:
        """
        Change a stream; what is not among the values stays, None goes back to the lane's.

        Raises:
            Refused: not_found; validation_failed with the places, such as another lane for a default stream.
            StorageUnavailable: The database cannot be used now.
        """
        made = await self._engine.write(lambda conn: self._change(conn, tenant_id, name, values, by, is_operator=is_operator))
        return await self._told("stream_changed", tenant_id, made, by)

    async def delete(self, tenant_id: str, name: str, *, by: Actor) -> None:
        """
        Delete a stream of which no mail waits; a default one is as it was at first again.

        Raises:
            Refused: not_found; conflict while mail of it waits.
            StorageUnavailable: The database cannot be used now.
        """
        await self._engine.write(lambda conn: self._delete(conn, tenant_id, name, by))
        if self._directory is not None:
            await self._directory.refresh()
        maillog.changed("stream_deleted", tenant_id=tenant_id, by=by.id, stream=name)

    async def _told(self, what: str, tenant_id: str, made: Stream, by: Actor) -> Stream:
        if self._directory is not None:
            await self._directory.refresh()
        maillog.changed(what, tenant_id=tenant_id, by=by.id, stream=made.name)
        return made

    def _create(self, conn: Connection, tenant_id: str, name: str, values: Mapping[str, Any], by: Actor, *, is_operator: bool) -> Stream:
        own = streams.of_tenant(conn, tenant_id)
        if name in own or name in DEFAULTS:
            raise Refused("conflict", f"there is a stream {name} already")
        if len(own) >= _MOST:
            raise Refused("conflict", f"a tenant has at most {_MOST} streams of its own")
        made = self._read(conn, Stream(name=name, lane=Lane.TRANSACTIONAL), values, is_operator=is_operator)
        self._write(conn, tenant_id, made, None, by)
        return made

    def _change(self, conn: Connection, tenant_id: str, name: str, values: Mapping[str, Any], by: Actor, *, is_operator: bool) -> Stream:
        before = _found(conn, tenant_id, name)
        made = self._read(conn, before, values, is_operator=is_operator)
        if name in DEFAULTS and made.lane is not before.lane:
            raise invalid(Fault("/lane", "conflicting", f"the stream {name} is there for the lane {before.lane.name.lower()}"))
        if made != before:
            self._write(conn, tenant_id, made, before, by)
        return made

    def _delete(self, conn: Connection, tenant_id: str, name: str, by: Actor) -> None:
        before = _found(conn, tenant_id, name)
        if name not in DEFAULTS and streams.is_used(conn, tenant_id, name):
            raise Refused("conflict", f"mail of the stream {name} still waits")
        streams.delete(conn, tenant_id, name)
        change = Change(action="stream.deleted", object_id=name, tenant_id=tenant_id, before=as_dict(before))
        audit.append(conn, by, change, self._clock.now())

    def _write(self, conn: Connection, tenant_id: str, made: Stream, before: Stream | None, by: Actor) -> None:
        now = self._clock.now()
        streams.write(conn, tenant_id, made, now)
        action = "stream.created" if before is None else "stream.changed"
        was = None if before is None else as_dict(before)
        audit.append(conn, by, Change(action=action, object_id=made.name, tenant_id=tenant_id, before=was, after=as_dict(made)), now)

    def _read(self, conn: Connection, before: Stream, values: Mapping[str, Any], *, is_operator: bool) -> Stream:
        """Read values; what they do not name stays as it was."""
        faults: list[Fault] = []
        changes: dict[str, Any] = {}
        for name, value in values.items():
            try:
                changes[name] = self._value(conn, name, value, is_operator=is_operator)
            except ValueError as error:
                faults.append(Fault(f"/{name[:40]}", "invalid_value", str(error)))
        if faults:
            raise invalid(*faults)
        return _with_tracking(before, changes)

    def _value(self, conn: Connection, name: str, value: Any, *, is_operator: bool) -> Any:
        match name:
            case "lane":
                if value not in LANES:
                    raise ValueError(f"the lanes are {', '.join(LANES)}")
                return LANES[value]
            case "ttl_s":
                if value is not None and not (isinstance(value, int) and 1 <= value <= _LONGEST_S):
                    raise ValueError(f"from 1 to {_LONGEST_S} seconds")
                return value
            case "retry":
                if value is not None and value not in self._settings.retry.classes:
                    raise ValueError(f"the classes of retry.classes are {', '.join(self._settings.retry.classes)}")
                return value
            case "route":
                return None if value is None else read_route(conn, self._settings, value, is_operator=is_operator)
            case "window":
                return None if value is None else read_window(value)
            case "tracking":
                return read_tracking_options(value)
            case "unsubscribe":
                if value not in (None, True, False):
                    raise ValueError("true or false")
                return bool(value)
            case _:
                raise ValueError("a stream has lane, ttl_s, retry, route, window, tracking and unsubscribe")


def _with_tracking(before: Stream, changes: dict[str, Any]) -> Stream:
    """
    Apply changes; what is tracked stands in one value.

    Raises:
        Refused: validation_failed, where codes would be tracked.
    """
    watching: Tracking = changes.pop("tracking", before.tracking)
    unsubscribe: bool = changes.pop("unsubscribe", before.tracking.unsubscribe)
    made = replace(before, **changes, tracking=replace(watching, unsubscribe=unsubscribe))
    if made.lane is Lane.CODES and made.tracking:
        place = "/tracking" if made.tracking.is_watching else "/unsubscribe"
        raise invalid(Fault(place, "conflicting", "codes are not tracked, and nobody unsubscribes from them"))
    return made


def read_tracking_options(value: Any) -> Tracking:
    """
    Read what a stream tracks from JSON; null is nothing.

    Raises:
        ValueError: In words, what is wrong.
    """
    if value is None:
        return NOTHING
    names = ("opens", "clicks", "text")
    if not isinstance(value, dict) or not set(value) <= set(names) or not all(isinstance(one, bool) for one in value.values()):
        raise ValueError('what is tracked is {"opens": true, "clicks": true, "text": false}')
    if value.get("text") and not value.get("clicks"):
        raise ValueError("links of the text are tracked where clicks are")
    return Tracking(**value)


def read_route(conn: Connection, settings: Settings, route: str, *, is_operator: bool) -> str:
    """
    Read a route that somebody names: one that may be asked for, or the sandbox; an operator also names roads.

    Raises:
        ValueError: In words, what is wrong.
    """
    if route == SANDBOX:
        return route
    by_name = {name: one.may_be_named for name, one in settings.routes.items()}
    by_name |= {rule.name: rule.may_be_named for rule in routes.every(conn)}
    if by_name.get(route) or (is_operator and route in by_name):
        return route
    if not is_operator:
        raise ValueError("there is no route of this name that may be asked for")
    try:
        check_route("route", route, settings)
    except InvalidSettings as error:
        raise ValueError(str(error).removeprefix("route: ")) from error
    return ",".join(road.strip() for road in route.split(","))


def as_dict(stream: Stream) -> dict[str, Any]:
    """Write a stream as answers and the audit log show it."""
    return {
        "name": stream.name,
        "lane": stream.lane.name.lower(),
        "ttl_s": stream.ttl_s,
        "retry": stream.retry,
        "route": stream.route,
        "window": window_as_dict(stream.window) if stream.window else None,
        "tracking": {name: getattr(stream.tracking, name) for name in ("opens", "clicks", "text")},
        "unsubscribe": stream.tracking.unsubscribe,
        "is_default": stream.name in DEFAULTS,
    }


def _found(conn: Connection, tenant_id: str, name: str) -> Stream:
    found = {**DEFAULTS, **streams.of_tenant(conn, tenant_id)}.get(name)
    if found is None:
        raise Refused("not_found", "there is no such stream")
    return found
