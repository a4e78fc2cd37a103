"""Reports by mail over HTTP: who of a team gets which, and when. The work is in tenants.team_reports."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body
from gatepost.tenants.team_reports import TeamReports, View

_SMALL = 64 * 1024

Kind = Annotated[
    Literal["bounces", "complaints", "weekly"], Meta(description="daily digests of bounces or of complaints, or the week's report")
]
Zone = Annotated[str, Meta(max_length=60, description="time zone in which days begin and the hour counts", examples=["Europe/Berlin"])]
Hour = Annotated[int, Meta(ge=0, le=23, description="local hour at which it is sent")]
Weekday = Annotated[int, Meta(ge=0, le=6, description="of the weekly report: 0 is Monday")]
DomainNames = Annotated[list[str], Meta(max_length=100, description="sender's domains that it tells of; empty is all")]


class ReportBody(Body):
    """A new subscription."""

    kind: Kind
    address: Annotated[str, Meta(description="where it goes", examples=["ann@acme.example"])]
    zone: Zone = "UTC"
    hour: Hour = 7
    weekday: Weekday = 0
    domains: DomainNames = field(default_factory=list)


class ReportChangeBody(Body):
    """What to change of a subscription; what is left out stays."""

    zone: Zone | UnsetType = UNSET
    hour: Hour | UnsetType = UNSET
    weekday: Weekday | UnsetType = UNSET
    domains: DomainNames | UnsetType = UNSET


class LastReportAnswer(Struct, kw_only=True, frozen=True):
    """What became of the last report: `claimed` is being sent, `empty` had nothing to tell."""

    period: str
    status: Literal["claimed", "sent", "empty", "failed"]
    at: str
    message_id: str | None
    detail: str


class ReportAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="report"):
    """A subscription."""

    id: str
    kind: Kind
    address: str
    person_id: str | None
    zone: str
    hour: int
    weekday: int
    domains: list[str]
    created_at: str
    next_at: str | None
    ended_at: str | None
    ended_by: Literal["receiver", "team"] | None
    last: LastReportAnswer | None


class ReportPage(Struct, kw_only=True, frozen=True):
    """Subscriptions, the newest first."""

    data: list[ReportAnswer]
    has_more: bool


async def subscribe(request: Request) -> Answer:
    """Subscribe an address."""
    body = decode.read_json(await decode.read_body(request, _SMALL), ReportBody)
    caller, register = request.caller, _register(request)
    values = {name: getattr(body, name) for name in ("zone", "hour", "weekday", "domains")}
    made = await register.subscribe(caller.tenant_id, body.kind, body.address, values, by=caller.actor, who=caller.principal)
    return as_json(write(View(subscription=made)), 201, [(b"location", f"/v1/reports/{made.id}".encode())])


async def list_reports(request: Request) -> Answer:
    """List the subscriptions."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "rps")
    views = await _register(request).every(request.caller.tenant_id, request.caller.principal)
    rows, has_more = paging.trim(paging.slice_of(views, cursor, lambda view: view.id), cursor)
    page = ReportPage(data=[write(view) for view in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return a subscription."""
    return as_json(write(await _register(request).get(request.caller.tenant_id, _id(request), request.caller.principal)))


async def change(request: Request) -> Answer:
    """Change a subscription."""
    body = decode.read_json(await decode.read_body(request, _SMALL), ReportChangeBody)
    caller, register = request.caller, _register(request)
    values = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    await register.change(caller.tenant_id, _id(request), values, by=caller.actor, who=caller.principal)
    return as_json(write(await register.get(caller.tenant_id, _id(request))))


async def remove(request: Request) -> Answer:
    """End a subscription."""
    await _register(request).remove(request.caller.tenant_id, _id(request), by=request.caller.actor, who=request.caller.principal)
    return NO_CONTENT


def write(view: View) -> ReportAnswer:
    """Write a subscription."""
    one, last = view.subscription, view.last
    return ReportAnswer(
        id=one.id, kind=one.kind.value, address=one.address, person_id=one.person_id, zone=one.zone, hour=one.hour, weekday=one.weekday,
        domains=list(one.domains), created_at=iso(one.created_at), next_at=iso(one.next_at) if one.ended_at is None else None,
        ended_at=None if one.ended_at is None else iso(one.ended_at), ended_by=one.ended_by or None,  # type: ignore[arg-type]
        last=None if last is None else LastReportAnswer(
            period=last.period, status=last.state, at=iso(last.at), message_id=last.message_id, detail=last.detail,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def _register(request: Request) -> TeamReports:
    deps = request.deps
    return TeamReports(deps.engine, deps.clock, deps.settings)


def _id(request: Request) -> str:
    return str(request.params["report_id"])


_ONE = "/v1/reports/{report_id:str}"
_REPORT = Parameter(name="report_id", place="path", description="the subscription's id", is_required=True)
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")


def _endpoint(method: str, path: str, run: Any, name: str, summary: str, given: dict[int, Any], **more: Any) -> Endpoint:
    return Endpoint(
        method=method, path=path, run=run, name=name, summary=summary, tag="reports", answers=given,
        scope=Scope.PEOPLE_READ if method == "GET" else Scope.PEOPLE_WRITE, **more,
    )  # fmt: skip


ENDPOINTS = [
    _endpoint(
        "POST", "/v1/reports", subscribe, "subscribeReport", "Subscribe an address to a report", {201: ReportAnswer}, body=ReportBody,
        answer_headers={"Location": "the subscription's path"}, codes=("conflict", *_BODY_CODES),
        description="Reports are sent by mail through this gateway, from `reports.sender`; while that is empty, none is sent."
        " A key that is restricted to domains makes and sees reports about these only; one that is restricted to streams, none.",
    ),
    _endpoint(
        "GET", "/v1/reports", list_reports, "listReports", "List who gets which report", {200: ReportPage}, answer_headers=paging.LINK,
        parameters=paging.parameters("rps"), codes=("validation_failed", "malformed_request"),
    ),
    _endpoint("GET", _ONE, get, "getReport", "Read a subscription", {200: ReportAnswer}, parameters=(_REPORT,), codes=("not_found",)),
    _endpoint(
        "PATCH", _ONE, change, "changeReport", "Change when a report comes", {200: ReportAnswer}, body=ReportChangeBody,
        parameters=(_REPORT,), codes=("not_found", "conflict", *_BODY_CODES),
    ),
    _endpoint(
        "DELETE", _ONE, remove, "removeReport", "End a report", {204: None}, parameters=(_REPORT,), codes=("not_found", "conflict")
    ),
]  # fmt: skip
