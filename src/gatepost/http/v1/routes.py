"""Routes, for operators: which mail takes which roads. The work is done in tenants.routes."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gatepost.domain.access import Scope
from gatepost.domain.routing import Choice, Rule
from gatepost.http import decode
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body
from gatepost.tenants.routes import MOST_VALUES, Asked, Routes

_SMALL = 1024 * 1024
_TAG = "routes"
_Values = Annotated[list[str], Meta(max_length=MOST_VALUES)]
_StrategyText = Literal["ordered", "weighted", "cheapest"]


class RoadBody(Body):
    """A road of a route."""

    road: Annotated[str, Meta(min_length=1, max_length=100, description="mx, mx:POOL, sandbox or a relay's name")]
    weight: Annotated[int, Meta(ge=0, le=10_000, description="its share where roads are weighted")] = 1


class MatchBody(Body):
    """Whom a route is for; what is left out stays as it is, and an empty list matches everything."""

    tenants: Annotated[_Values | UnsetType, Meta(description="ids or names")] = UNSET
    streams: Annotated[_Values | UnsetType, Meta(description="streams")] = UNSET
    senders: Annotated[_Values | UnsetType, Meta(description="senders' domains; *.acme.example is every domain below")] = UNSET
    recipients: Annotated[_Values | UnsetType, Meta(description="recipients' domains, in the same way")] = UNSET
    sites: Annotated[_Values | UnsetType, Meta(description="mail systems that take the recipients' domains, once known")] = UNSET
    tags: Annotated[_Values | UnsetType, Meta(description="messages with one of them")] = UNSET


_Roads = Annotated[str, Meta(min_length=1, max_length=2000, description="such as main,mx; with weights main:80,second:20")] | list[RoadBody]
_Name = Annotated[str, Meta(min_length=1, max_length=40, description="letters, digits, - and _")]


class RouteBody(Body):
    """A route to make."""

    name: _Name
    roads: _Roads
    strategy: _StrategyText = "ordered"
    match: MatchBody | None = None
    may_be_named: Annotated[bool, Meta(description="messages that it matches may ask for it by its name")] = False
    is_chosen: Annotated[bool, Meta(description="false: only messages that ask for it take it")] = True
    is_first: Annotated[bool, Meta(description="ask it before the others, not after them")] = False


class RouteChangesBody(Body):
    """What to change of a route; what is left out stays as it is."""

    name: _Name | UnsetType = UNSET
    roads: _Roads | UnsetType = UNSET
    strategy: _StrategyText | UnsetType = UNSET
    match: MatchBody | UnsetType = UNSET
    may_be_named: bool | UnsetType = UNSET
    is_chosen: bool | UnsetType = UNSET


class OrderBody(Body):
    """The order in which routes are asked."""

    routes: Annotated[list[str], Meta(max_length=500, description="ids or names of all routes that are not in the settings")]


class RoadAnswer(Struct, kw_only=True, frozen=True):
    """A road with its weight."""

    road: str
    weight: int


class MatchAnswer(Struct, kw_only=True, frozen=True):
    """Whom a route is for; an empty list matches everything."""

    tenants: list[str]
    streams: list[str]
    senders: list[str]
    recipients: list[str]
    sites: list[str]
    tags: list[str]


class RouteAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="route"):
    """A route; one of the settings has no id and cannot be changed here."""

    id: str | None
    name: str
    roads: list[RoadAnswer]
    strategy: str
    match: MatchAnswer
    may_be_named: bool
    is_chosen: bool
    is_fixed: bool


class RoutesAnswer(Struct, kw_only=True, frozen=True):
    """Routes in the order in which they are asked, and the roads of mail that none of them is for."""

    data: list[RouteAnswer]
    default: str


async def list_(request: Request) -> Answer:
    """List routes."""
    request.query()
    return _all(request, await _routes(request).every())


async def make(request: Request) -> Answer:
    """Make a route."""
    body = decode.read_json(await decode.read_body(request, _SMALL), RouteBody)
    asked = Asked(
        name=body.name, roads=_roads(body.roads), strategy=body.strategy, match={} if body.match is None else _given(body.match),
        may_be_named=body.may_be_named, is_chosen=body.is_chosen,
    )  # fmt: skip
    made = await _routes(request).create(asked, request.caller.actor, is_first=body.is_first)
    await _follow(request)
    return as_json(_written(made), 201, [(b"location", f"/v1/routes/{made.id}".encode())])


async def get(request: Request) -> Answer:
    """Return a route."""
    return as_json(_written(await _routes(request).get(_named(request))))


async def change(request: Request) -> Answer:
    """Change a route."""
    body = decode.read_json(await decode.read_body(request, _SMALL), RouteChangesBody)
    changes = _given(body)
    if isinstance(body.match, MatchBody):
        changes["match"] = _given(body.match)
    if not isinstance(body.roads, UnsetType):
        changes["roads"] = _roads(body.roads)
    changed = await _routes(request).change(_named(request), changes, request.caller.actor)
    await _follow(request)
    return as_json(_written(changed))


async def remove(request: Request) -> Answer:
    """Remove a route."""
    await _routes(request).remove(_named(request), request.caller.actor)
    await _follow(request)
    return NO_CONTENT


async def order(request: Request) -> Answer:
    """Ask routes in another order."""
    body = decode.read_json(await decode.read_body(request, _SMALL), OrderBody)
    ordered = await _routes(request).order(body.routes, request.caller.actor)
    await _follow(request)
    return _all(request, ordered)


def _routes(request: Request) -> Routes:
    return Routes(request.deps.engine, request.deps.clock, request.deps.settings)


def _named(request: Request) -> str:
    return str(request.params["route"])


async def _follow(request: Request) -> None:
    """Let the change count at once in this process; the others see it within a second."""
    if request.deps.routing is not None:
        await request.deps.routing.refresh()


def _roads(roads: str | list[RoadBody]) -> str | list[Choice]:
    return roads if isinstance(roads, str) else [Choice(one.road, one.weight) for one in roads]


def _given(body: Body) -> dict[str, Any]:
    return {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}


def _all(request: Request, rules: list[Rule]) -> Answer:
    return as_json(RoutesAnswer(data=[_written(rule) for rule in rules], default=request.deps.settings.egress.default_route))


def _written(rule: Rule) -> RouteAnswer:
    match = rule.match
    return RouteAnswer(
        id=rule.id or None,
        name=rule.name,
        roads=[RoadAnswer(road=one.road, weight=one.weight) for one in rule.choices],
        strategy=rule.strategy.value,
        match=MatchAnswer(
            tenants=sorted(match.tenants), streams=sorted(match.streams), senders=list(match.senders), recipients=list(match.recipients),
            sites=sorted(match.sites), tags=sorted(match.tags),
        ),
        may_be_named=rule.may_be_named,
        is_chosen=rule.is_chosen,
        is_fixed=rule.is_fixed,
    )  # fmt: skip


_NAMED = Parameter(name="route", place="path", description="the route's id or name", is_required=True)
_ONE = "/v1/routes/{route:str}"
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")

ENDPOINTS = [
    Endpoint(
        method="GET", path="/v1/routes", run=list_, name="listRoutes", scope=Scope.OPERATOR, summary="List routes", tag=_TAG,
        description="The first route that matches a recipient is taken.", answers={200: RoutesAnswer}, codes=("validation_failed",),
    ),
    Endpoint(
        method="POST", path="/v1/routes", run=make, name="makeRoute", scope=Scope.OPERATOR, summary="Make a route", tag=_TAG,
        body=RouteBody, answers={201: RouteAnswer}, answer_headers={"Location": "the route's path"}, codes=("conflict", *_BODY_CODES),
    ),
    Endpoint(
        method="POST", path="/v1/routes/order", run=order, name="orderRoutes", scope=Scope.OPERATOR,
        summary="Ask routes in another order", tag=_TAG, body=OrderBody, answers={200: RoutesAnswer}, codes=_BODY_CODES,
    ),
    Endpoint(
        method="GET", path=_ONE, run=get, name="getRoute", scope=Scope.OPERATOR, summary="Read a route", tag=_TAG,
        answers={200: RouteAnswer}, parameters=(_NAMED,), codes=("not_found",),
    ),
    Endpoint(
        method="PATCH", path=_ONE, run=change, name="changeRoute", scope=Scope.OPERATOR, summary="Change a route", tag=_TAG,
        description="Mail that was accepted keeps its roads.", body=RouteChangesBody, answers={200: RouteAnswer}, parameters=(_NAMED,),
        codes=("not_found", "conflict", *_BODY_CODES),
    ),
    Endpoint(
        method="DELETE", path=_ONE, run=remove, name="removeRoute", scope=Scope.OPERATOR, summary="Remove a route", tag=_TAG,
        answers={204: None}, parameters=(_NAMED,), codes=("not_found", "conflict"),
    ),
]  # fmt: skip
