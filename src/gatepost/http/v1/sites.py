"""
Recipients' mail systems, for the operator: what waits for each, what each source may do there, why it does not; orders about them.

Not here: the orders themselves (tenants.site_orders), causes in words (explain).
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.flow import FlowState, SiteRule
from gatepost.explain.queued import SiteView, site_views
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, Run, as_json
from gatepost.http.v1.bodies import Body, Moment
from gatepost.http.v1.submission import moment_of
from gatepost.http.v1.writing import time
from gatepost.policy.shaping import Limits
from gatepost.settings import SiteLimits
from gatepost.store.shaping import FOREVER
from gatepost.tenants.site_orders import SiteOrders, SiteStanding

_SMALL = 64 * 1024
_MOST = 1000
_USUAL = 200
_Source = Annotated[str, Meta(max_length=40, description="only this source; empty is every one")]
_Note = Annotated[str, Meta(max_length=200, description="why, for whoever finds it")]


class SiteSuspendBody(Body):
    """For how long nothing goes; without an end, until it is resumed."""

    source: _Source = ""
    until: Moment | None = None
    seconds: Annotated[int, Meta(ge=1, le=366 * 86400, description="or for so long")] | None = None
    note: _Note = ""


class SiteResumeBody(Body):
    """What goes on."""

    source: _Source = ""


class SiteLimitsBody(Body):
    """All limits that are ordered from now on; what is null is as the settings and the data that is shipped have it."""

    source: _Source = ""
    connections: Annotated[int, Meta(ge=1, le=1000, description="connections at once, idle ones included")] | None = None
    messages_per_connection: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    messages_per_second: Annotated[float, Meta(ge=0, le=100_000, description="0 is no limit")] | None = None
    burst: Annotated[int, Meta(ge=1, le=100_000, description="messages that may go at once after a pause")] | None = None
    recipients_per_transaction: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    warm_up_from: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", description="first day (UTC) of warming up")] | None = None
    warm_up: (
        Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=400, description="messages on each day; afterwards there is no cap")]
        | None
    ) = None


class SignalAnswer(Struct, kw_only=True, frozen=True):
    """The last reply of the site that asked for less."""

    id: str
    text: str
    at: str


class WarmUpAnswer(Struct, kw_only=True, frozen=True):
    """Messages of today; `cap` is null when the plan is over."""

    cap: int | None
    used: int


class SiteSourceAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="site_source"):
    """
    A source at a site. `width` and `pace` are what back-off leaves of connections and rate, 1 is all of it; `cause` is why mail waits.

    `updated_at` is when its owner wrote it; null while nothing was sent and nothing is known.
    """

    source: str
    pool: str
    connections: int
    connections_limit: int
    in_use: int
    messages_per_connection: int | None
    messages_per_second: float
    rate_limit: float | None
    burst: int
    recipients_per_transaction: int | None
    width: float
    pace: float
    cause: str
    detail: str
    suspended_until: str | None
    signal: SignalAnswer | None
    warm_up: WarmUpAnswer | None
    updated_at: str | None


class SiteOrderAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="site_order"):
    """What an operator ordered; `source` is empty for every source, `site` is `*` for every site. A year of 9999 is no end."""

    source: str
    site: str
    limits: dict[str, Any]
    suspended_until: str | None
    note: str
    changed_at: str


class SiteAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="site"):
    """A mail system: what waits for it, why, and what sources may do there."""

    site: str
    due: int
    waiting: int
    tried: int
    next_at: str | None
    cause: str
    sentence: str
    paused_since: str | None
    sources: list[SiteSourceAnswer]
    orders: list[SiteOrderAnswer]


class SitesAnswer(Struct, kw_only=True, frozen=True):
    """Sites, the fullest first."""

    data: list[SiteAnswer]
    has_more: bool


class PoolSourceAnswer(Struct, kw_only=True, frozen=True):
    """A source of a pool; empty texts are what the system chooses."""

    name: str
    address: str
    hostname: str
    proxy: str
    weight: float


class PoolAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="pool"):
    """A pool of sources, and the road that leads to it."""

    name: str
    road: str
    sources: list[PoolSourceAnswer]


class PoolsAnswer(Struct, kw_only=True, frozen=True):
    """Pools by name."""

    data: list[PoolAnswer]


async def list_sites(request: Request) -> Answer:
    """List the sites that have mail, or that anything is known of."""
    query = request.query("limit")
    limit = _limit(query.get("limit"))
    deps = request.deps
    now = deps.clock.now()
    standings = await _orders(request).standings()
    views = {view.site: view for view in await deps.engine.read(lambda conn: site_views(conn, None, now))}
    names = sorted(views, key=lambda name: -(views[name].due + views[name].later)) + [one for one in standings if one not in views]
    shown = names[:limit]
    missing = [name for name in shown if name not in standings]
    if missing:
        standings |= await _orders(request).standings(missing)
    written = [_site(standings[name], views.get(name)) for name in shown]
    return as_json(SitesAnswer(data=written, has_more=len(names) > limit))


async def get_site(request: Request) -> Answer:
    """Return one site."""
    request.query()
    return await _answer(request, await _orders(request).standing(_name(request)))


async def suspend(request: Request) -> Answer:
    """Send nothing to a site for a while."""
    body = decode.read_json(await decode.read_body(request, _SMALL), SiteSuspendBody)
    now = request.deps.clock.now()
    until = moment_of(body.until, "/until") if body.until is not None else None
    if until is not None and body.seconds is not None:
        raise invalid(Fault("/seconds", "conflicting", "give either until or seconds"))
    if body.seconds is not None:
        until = now + body.seconds * 1000
    if until is not None and until <= now:
        raise invalid(Fault("/until", "in_the_past", "the end is over already"))
    found = await _orders(request).suspend(_name(request), body.source, until, body.note, by=request.caller.actor)
    return await _answer(request, found)


async def resume(request: Request) -> Answer:
    """Let mail go to a site again."""
    body = decode.read_json(await decode.read_body(request, _SMALL), SiteResumeBody)
    return await _answer(request, await _orders(request).resume(_name(request), body.source, by=request.caller.actor))


async def put_limits(request: Request) -> Answer:
    """Set a site's limits, in place of those that were ordered before."""
    body = decode.read_json(await decode.read_body(request, _SMALL), SiteLimitsBody)
    values = {name: value for name in SiteLimits.__struct_fields__ if (value := getattr(body, name)) is not None}
    found = await _orders(request).limit(_name(request), body.source, SiteLimits(**values), by=request.caller.actor)
    return await _answer(request, found)


async def list_pools(request: Request) -> Answer:
    """List the pools of sources."""
    request.query()
    data = [
        PoolAnswer(
            name=pool.name,
            road="mx" if pool.name == "default" else f"mx:{pool.name}",
            sources=[
                PoolSourceAnswer(
                    name=source.name, address=source.address, hostname=source.hostname, proxy=_without_password(source.proxy), weight=weight
                )
                for source, weight in pool.sources
            ],
        )
        for pool in _orders(request).pools()
    ]
    return as_json(PoolsAnswer(data=data))


def _limit(text: str | None) -> int:
    if text is None:
        return _USUAL
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise invalid(Fault("limit", "out_of_range", f"give a number from 1 to {_MOST}"))
    return int(text)


def _without_password(proxy: str) -> str:
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else ""


def _orders(request: Request) -> SiteOrders:
    return SiteOrders(request.deps.engine, request.deps.settings, request.deps.clock)


def _name(request: Request) -> str:
    return str(request.params["site"])


async def _answer(request: Request, standing: SiteStanding) -> Answer:
    now = request.deps.clock.now()
    views = await request.deps.engine.read(lambda conn: site_views(conn, None, now))
    return as_json(_site(standing, next((view for view in views if view.site == standing.site), None)))


def _site(standing: SiteStanding, view: SiteView | None) -> SiteAnswer:
    view = view or SiteView(site=standing.site, paused_at=standing.paused_at)
    flows = {flow.source: flow for flow in standing.flows}
    return SiteAnswer(
        site=standing.site,
        due=view.due,
        waiting=view.later,
        tried=view.tried,
        next_at=time(view.first_due_at),
        cause=view.cause,
        sentence=view.sentence,
        paused_since=time(standing.paused_at),
        sources=[_source(name, limits, flows.get(name)) for name, limits in standing.limits.items()],
        orders=[_order(rule) for rule in standing.rules if rule.limits or rule.suspended_until is not None],
    )


def _source(name: str, limits: Limits, flow: FlowState | None) -> SiteSourceAnswer:
    known = flow or FlowState(
        source=name, site="", pool="", connections=limits.connections, connections_limit=limits.connections,
        rate_limit=limits.messages_per_second or None,
    )  # fmt: skip
    ends = max(known.suspended_until, known.ordered_until)
    return SiteSourceAnswer(
        source=name,
        pool=known.pool,
        connections=known.connections,
        connections_limit=limits.connections,
        in_use=known.in_use,
        messages_per_connection=limits.messages_per_connection,
        messages_per_second=known.rate,
        rate_limit=known.rate_limit,
        burst=limits.burst,
        recipients_per_transaction=limits.recipients_per_transaction,
        width=known.width,
        pace=known.pace,
        cause=known.cause,
        detail=known.detail,
        suspended_until=iso(ends) if ends else None,
        signal=SignalAnswer(id=known.signal_id, text=known.signal_text, at=iso(known.signal_at)) if known.signal_id else None,
        warm_up=WarmUpAnswer(cap=known.warm_up_cap, used=known.warm_up_used) if limits.warm_up is not None else None,
        updated_at=iso(known.saved_at) if flow else None,
    )


def _order(rule: SiteRule) -> SiteOrderAnswer:
    ends = rule.suspended_until
    return SiteOrderAnswer(
        source=rule.source,
        site=rule.site,
        limits=rule.limits,
        suspended_until=None if ends is None else iso(min(ends, FOREVER)),
        note=rule.note,
        changed_at=iso(rule.changed_at),
    )


_SITE = Parameter(
    name="site",
    place="path",
    description="the site's name, such as google, example.net or relay:main; * is every site of recipients",
    is_required=True,
    schema={"type": "string", "pattern": r"^(\*|[a-z][a-z0-9-]*|[a-z0-9_-]+(\.[a-z0-9_-]+)+|relay:[A-Za-z0-9_-]+)$"},
)
_ONE = "/v1/sites/{site:str}"
_BAD = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type", "not_found")


def _change(method: str, path: str, run: Run, name: str, summary: str, body: type, description: str = "") -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        run=run,
        name=name,
        scope=Scope.OPERATOR,
        summary=summary,
        tag="sites",
        description=description,
        body=body,
        answers={200: SiteAnswer},
        parameters=(_SITE,),
        codes=_BAD,
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/sites",
        run=list_sites,
        name="listSites",
        scope=Scope.OPERATOR,
        summary="What waits for each mail system, and why",
        tag="sites",
        description="All that have mail in the queue, and those that anything is known or ordered of; the fullest first.",
        answers={200: SitesAnswer},
        parameters=(
            Parameter(
                name="limit",
                place="query",
                description=f"how many at most; {_USUAL} if not given",
                schema={"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
        ),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET",
        path=_ONE,
        run=get_site,
        name="getSite",
        scope=Scope.OPERATOR,
        summary="One mail system",
        tag="sites",
        answers={200: SiteAnswer},
        parameters=(_SITE,),
        codes=("not_found",),
    ),
    _change("POST", _ONE + "/suspend", suspend, "suspendSite", "Send nothing to a site for a while", SiteSuspendBody),
    _change(
        "POST",
        _ONE + "/resume",
        resume,
        "resumeSite",
        "Let mail go to a site again",
        SiteResumeBody,
        "Ends what operators ordered, and what the gateway itself suspended after the site's own words; it then starts slowly.",
    ),
    _change(
        "PUT",
        _ONE + "/limits",
        put_limits,
        "setSiteLimits",
        "Set what sources may do at a site",
        SiteLimitsBody,
        "In place of the limits that were ordered before; running processes keep to them within two seconds.",
    ),
    Endpoint(
        method="GET",
        path="/v1/pools",
        run=list_pools,
        name="listPools",
        scope=Scope.OPERATOR,
        summary="Pools of source addresses",
        tag="sites",
        answers={200: PoolsAnswer},
    ),
]
