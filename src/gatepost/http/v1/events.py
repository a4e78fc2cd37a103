"""
Everything that happened, in the order of commits: page by page, or as a live stream.

The same facts as webhooks tell, written the same way. A principal sees events of the kinds that its scopes let it look at,
and of the streams and domains that it may use.
Standards: HTML Living Standard §9.2 (server-sent events).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from gatepost import ids
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import EventType
from gatepost.domain.stream import NAME
from gatepost.domain.webhook import EVERY, is_filter
from gatepost.http import auth
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.store import feed, hooks
from gatepost.store.errors import StorageUnavailable
from gatepost.store.feed import START, Place, Wanted
from gatepost.webhooks.payload import payload

MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100
LATEST: Final = "latest"
_POLL_S: Final = 0.5
_HEARTBEAT_S: Final = 10.0
_LIFETIME_S: Final = 600.0
_CHECK_S: Final = 5.0
_MOST_STREAMS: Final = 200
"""Live streams of one process."""
_SCOPES: Final = {
    "message": Scope.MESSAGES_READ, "recipient": Scope.MESSAGES_READ, "relay": Scope.MESSAGES_READ, "domain": Scope.DOMAINS_READ,
    "suppression": Scope.SUPPRESSIONS_READ, "webhook": Scope.WEBHOOKS_READ,
}  # fmt: skip
"""What lets one look at each family of events; one that is not here is looked at by the scope of this endpoint."""


class FeedEvent(Struct, kw_only=True, frozen=True, tag_field="object", tag="event"):
    """Something that happened, as webhooks tell it."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


class FeedPage(Struct, kw_only=True, frozen=True):
    """Events in the order in which they were committed; `next` is the cursor to go on with, also when there were none."""

    data: list[FeedEvent]
    has_more: bool
    next: str | None


async def poll(request: Request) -> Answer:
    """Return the events after a place."""
    query = request.query("after", "types", "stream", "limit")
    wanted, limit, tenant_id = _wanted(request, query), _limit(query), request.caller.tenant_id
    after = query.get("after")

    def read(conn: Connection) -> FeedPage:
        if after == LATEST:
            last = feed.last(conn, tenant_id)
            return FeedPage(data=[], has_more=False, next=last.event_id if last else None)
        place = _place(conn, tenant_id, after)
        events, part = _read(conn, tenant_id, place, wanted, limit)
        return FeedPage(data=events, has_more=part.has_more, next=part.place.event_id or None)

    return as_json(await request.deps.engine.read(read))


async def stream(request: Request) -> Answer:
    """Send events as they are committed."""
    query = request.query("types", "stream")
    wanted, tenant_id, deps = _wanted(request, query), request.caller.tenant_id, request.deps
    last_id = request.header(b"last-event-id") or None
    if last_id is not None:
        place = await deps.engine.read(lambda conn: _place(conn, tenant_id, last_id))
    else:
        place = await deps.engine.read(lambda conn: feed.last(conn, tenant_id) or START)
    if _open.count >= _MOST_STREAMS:
        raise Refused("overloaded", "there are too many live streams", retry_after_s=30)
    return Answer(200, content_type=b"text/event-stream", stream=_lines(request, place, wanted))


class _Open:
    count = 0


_open = _Open()


async def _lines(request: Request, place: Place, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    deps, tenant_id = request.deps, request.caller.tenant_id
    _open.count += 1
    try:
        yield b"retry: 2000\n\n"
        started = spoke = checked = deps.clock.monotonic()
        while (now := deps.clock.monotonic()) - started < _LIFETIME_S:
            if now - checked >= _CHECK_S:
                checked = now
                if not await _may_still(request):
                    return
            try:
                events, part = await deps.engine.read(lambda conn, place=place: _read(conn, tenant_id, place, wanted, _DEFAULT_LIMIT))  # type: ignore[misc]
            except StorageUnavailable:
                return  # the reader comes again, with the id of the last event
            place = part.place
            if events:
                spoke = now
                yield b"".join(
                    b"id: %b\nevent: %b\ndata: %b\n\n" % (one.id.encode(), one.type.encode(), msgspec.json.encode(one)) for one in events
                )
            elif now - spoke >= _HEARTBEAT_S:
                spoke = now
                yield b": quiet\n\n"
            if not part.has_more:
                await asyncio.sleep(_POLL_S)
    finally:
        _open.count -= 1


async def _may_still(request: Request) -> bool:
    """Tell whether the key or token still works: streams do not outlive it."""
    authorization, shown = request.header(b"authorization"), auth.certificate_of(request.scope)
    try:
        principal = await auth.principal_of(request.deps.identity.authenticator, authorization, request.peer, request.id, shown)
    except Refused:
        return False
    return principal.may(Scope.MESSAGES_READ)


def _read(conn: Connection, tenant_id: str, place: Place, wanted: Wanted, limit: int) -> tuple[list[FeedEvent], feed.Part]:
    part = feed.after(conn, tenant_id, place, wanted, limit)
    found = hooks.materials(conn, part.ids) if part.ids else {}
    return [FeedEvent(id=one, **payload(found[one])) for one in part.ids if one in found], part


def _place(conn: Connection, tenant_id: str, after: str | None) -> Place:
    if after is None:
        return START
    place = feed.place_of(conn, tenant_id, after) if ids.is_valid(after, "evt") else None
    if place is None:
        raise invalid(Fault("after", "invalid_cursor", "give the id of an event that was seen, or latest"))
    return place


def _limit(query: dict[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise invalid(Fault("limit", "out_of_range", f"give a number from 1 to {MAX_LIMIT}"))
    return int(text)


def _wanted(request: Request, query: dict[str, str]) -> Wanted:
    """Read what is asked for, within what the caller may see."""
    asked = [one.strip() for one in query["types"].split(",")] if "types" in query else [EVERY]
    faults = [
        Fault("types", "unknown_event", f"{one[:40]!r} is no type of event, no family and not *") for one in asked if not is_filter(one)
    ]
    name = query.get("stream")
    if name is not None and not NAME.fullmatch(name):
        faults.append(Fault("stream", "unknown_stream", "a stream's name has small letters, digits, - and _"))
    if faults:
        raise invalid(*faults)
    principal = request.caller.principal
    types = [
        kind.value
        for kind in EventType
        if principal.may(_SCOPES.get(_family(kind), Scope.MESSAGES_READ))
        and any(one in {EVERY, kind.value, f"{_family(kind)}.*"} for one in asked)
    ]
    streams: Sequence[str] | None = sorted(principal.streams) or None
    if name is not None:
        streams = [name] if streams is None or name in streams else []
    return Wanted(types=types, streams=streams, domains=sorted(principal.domains) or None)


def _family(kind: EventType) -> str:
    return kind.value.partition(".")[0]


_TYPES = Parameter(
    name="types", place="query", description="types of events or families such as `recipient.*`, with commas between them",
    schema={"type": "string", "maxLength": 1000},
)  # fmt: skip
_STREAM = Parameter(
    name="stream", place="query", description="only events of this stream's messages", schema={"type": "string", "maxLength": 40}
)

ENDPOINTS = [
    Endpoint(
        method="GET", path="/v1/events", run=poll, name="pollEvents", scope=Scope.MESSAGES_READ, summary="Read what happened",
        tag="events", answers={200: FeedPage}, codes=("validation_failed",),
        description="In the order of commits, the oldest first. Go on with `after` = `next` of the last answer: no event is ever skipped,"
        " and none comes twice. `after=latest` begins now.",
        parameters=(
            Parameter(
                name="after", place="query", description="id of the last event that was seen; latest is the newest",
                schema={"type": "string", "maxLength": 40},
            ),
            _TYPES, _STREAM,
            Parameter(
                name="limit", place="query", description="events in one answer",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": _DEFAULT_LIMIT},
            ),
        ),
    ),
    Endpoint(
        method="GET", path="/v1/events/stream", run=stream, name="streamEvents", scope=Scope.MESSAGES_READ, summary="Follow what happens",
        tag="events", answers={200: "text/event-stream"}, codes=("validation_failed",),
        description="Server-sent events, from now on, or after the event in the header Last-Event-ID. It ends after ten minutes; clients"
        " of this kind come again by themselves, and miss nothing.",
        parameters=(
            Parameter(name="Last-Event-ID", place="header", description="id of the last event that was seen"), _TYPES, _STREAM,
        ),
    ),
]  # fmt: skip
