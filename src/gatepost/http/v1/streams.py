"""A tenant's streams: list, make, change, delete. The work is done in tenants.streams."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from gatepost.domain.access import PrincipalKind, Scope
from gatepost.domain.stream import DAYS, Stream
from gatepost.http import decode
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body
from gatepost.tenants.streams import Streams, as_dict

_SMALL = 64 * 1024
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"


class WindowBody(Body):
    """Hours at which mail may leave."""

    opens: Annotated[str, Meta(pattern=_TIME, examples=["08:00"])]
    closes: Annotated[str, Meta(pattern=_TIME, description="where it is not later than the opening, on the next day", examples=["20:00"])]
    days: Annotated[list[str], Meta(min_length=1, max_length=7, description=f"of {', '.join(DAYS)}; every day if not given")] | None = None
    zone: Annotated[str, Meta(min_length=1, max_length=60, description="IANA time zone", examples=["Europe/Berlin"])] = "UTC"


class StreamTrackingBody(Body):
    """What is found out about readers."""

    opens: Annotated[bool, Meta(description="a pixel at the end of the HTML")] = False
    clicks: Annotated[bool, Meta(description="links of the HTML lead over the gateway")] = False
    text: Annotated[bool, Meta(description="links of the plain text too")] = False


class StreamChangeBody(Body):
    """What to change of a stream; what is left out stays, and null goes back to what the lane gives."""

    lane: Annotated[str, Meta(pattern="^(codes|transactional|bulk)$", description="codes, transactional or bulk")] | UnsetType = UNSET
    ttl_s: Annotated[int, Meta(ge=1, le=2_592_000, description="seconds after which its mail is worth nothing")] | UnsetType | None = UNSET
    retry: Annotated[str, Meta(max_length=100, description="name of a schedule of `retry.classes`")] | UnsetType | None = UNSET
    route: Annotated[str, Meta(min_length=1, max_length=200, description="a route that may be asked for")] | UnsetType | None = UNSET
    window: WindowBody | UnsetType | None = UNSET
    tracking: StreamTrackingBody | UnsetType | None = UNSET
    unsubscribe: Annotated[bool, Meta(description="one-click unsubscription (RFC 8058) in all of its mail")] | UnsetType | None = UNSET


class StreamBody(StreamChangeBody, kw_only=True):
    """A new stream."""

    name: Annotated[str, Meta(min_length=1, max_length=40, examples=["newsletter"])]


class WindowAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="window"):
    """Hours at which mail may leave."""

    days: list[str]
    opens: str
    closes: str
    zone: str


class TrackingAnswer(Struct, kw_only=True, frozen=True):
    """What is found out about readers."""

    opens: bool
    clicks: bool
    text: bool


class StreamAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="stream"):
    """A stream."""

    name: str
    lane: str
    ttl_s: int | None
    retry: str | None
    route: str | None
    window: WindowAnswer | None
    tracking: TrackingAnswer
    unsubscribe: bool
    is_default: bool


class StreamList(Struct, kw_only=True, frozen=True, tag_field="object", tag="list"):
    """All streams of a tenant."""

    data: list[StreamAnswer]


async def list_streams(request: Request) -> Answer:
    """List the streams."""
    found = await _streams(request).list(request.caller.tenant_id)
    return as_json(StreamList(data=[_written(one) for one in found]))


async def make(request: Request) -> Answer:
    """Make a stream."""
    body = decode.read_json(await decode.read_body(request, _SMALL), StreamBody)
    caller = request.caller
    made = await _streams(request).create(caller.tenant_id, body.name, _values(body), by=caller.actor, is_operator=_is_operator(request))
    return as_json(_written(made), 201)


async def get(request: Request) -> Answer:
    """Return a stream."""
    return as_json(_written(await _streams(request).get(request.caller.tenant_id, request.params["name"])))


async def change(request: Request) -> Answer:
    """Change a stream."""
    body = decode.read_json(await decode.read_body(request, _SMALL), StreamChangeBody)
    caller, name = request.caller, request.params["name"]
    changed = await _streams(request).change(caller.tenant_id, name, _values(body), by=caller.actor, is_operator=_is_operator(request))
    return as_json(_written(changed))


async def delete(request: Request) -> Answer:
    """Delete a stream."""
    await _streams(request).delete(request.caller.tenant_id, request.params["name"], by=request.caller.actor)
    return NO_CONTENT


def _streams(request: Request) -> Streams:
    deps = request.deps
    return Streams(deps.engine, deps.clock, deps.settings, deps.directory)


def _is_operator(request: Request) -> bool:
    who = request.caller.principal
    return who.may(Scope.OPERATOR) or who.kind is PrincipalKind.LOCAL


def _values(body: StreamChangeBody) -> dict[str, Any]:
    values = {name: value for name in ("lane", "ttl_s", "retry", "route", "unsubscribe") if (value := getattr(body, name)) is not UNSET}
    if body.window is None:
        values["window"] = None
    elif not isinstance(body.window, UnsetType):
        window = body.window
        values["window"] = {"days": window.days, "from": window.opens, "until": window.closes, "zone": window.zone}
    tracking = body.tracking
    if not isinstance(tracking, UnsetType):
        values["tracking"] = None if tracking is None else {"opens": tracking.opens, "clicks": tracking.clicks, "text": tracking.text}
    return values


def _written(stream: Stream) -> StreamAnswer:
    shown = as_dict(stream)
    window = shown.pop("window")
    if window is not None:
        window = WindowAnswer(days=window["days"], opens=window["from"], closes=window["until"], zone=window["zone"])
    tracking = TrackingAnswer(**shown.pop("tracking"))
    return StreamAnswer(**shown, window=window, tracking=tracking)


_NAME = Parameter(name="name", place="path", description="the stream", is_required=True, schema={"type": "string", "maxLength": 40})
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_ONE = "/v1/streams/{name:str}"

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/streams",
        run=list_streams,
        name="listStreams",
        scope=Scope.POLICIES_READ,
        summary="List the streams",
        tag="streams",
        description="A stream says in which lane its mail goes, how long it is worth something, how it is retried, by which route it "
        "leaves and at what hours. `codes`, `transactional` and `bulk` are always there.",
        answers={200: StreamList},
    ),
    Endpoint(
        method="POST",
        path="/v1/streams",
        run=make,
        name="makeStream",
        scope=Scope.POLICIES_WRITE,
        summary="Make a stream",
        tag="streams",
        body=StreamBody,
        answers={201: StreamAnswer},
        codes=(*_BODY_CODES, "conflict"),
    ),
    Endpoint(
        method="GET",
        path=_ONE,
        run=get,
        name="getStream",
        scope=Scope.POLICIES_READ,
        summary="Read a stream",
        tag="streams",
        parameters=(_NAME,),
        answers={200: StreamAnswer},
        codes=("not_found",),
    ),
    Endpoint(
        method="PATCH",
        path=_ONE,
        run=change,
        name="changeStream",
        scope=Scope.POLICIES_WRITE,
        summary="Change a stream",
        tag="streams",
        description="Counts for mail that is accepted from then on. The default streams keep their lanes.",
        parameters=(_NAME,),
        body=StreamChangeBody,
        answers={200: StreamAnswer},
        codes=(*_BODY_CODES, "not_found"),
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        run=delete,
        name="deleteStream",
        scope=Scope.POLICIES_WRITE,
        summary="Delete a stream of which no mail waits",
        tag="streams",
        description="A default stream is then as it was at first.",
        parameters=(_NAME,),
        answers={204: None},
        codes=("not_found", "conflict"),
    ),
]
