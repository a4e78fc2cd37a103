"""Roads, for operators: how each does, and the switch that keeps mail away from one. The work is done in tenants.road_control."""

from typing import Annotated

from msgspec import Meta, Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, Run, as_json
from gatepost.http.v1.bodies import Body
from gatepost.http.v1.writing import time
from gatepost.store.roads import RoadRow, RoadView
from gatepost.tenants.road_control import RoadControl

_SMALL = 64 * 1024
_TAG = "relays"


class DisableBody(Body):
    """Why a relay is switched off."""

    note: Annotated[str, Meta(max_length=500, description="for people; shown where mail waits for it")] = ""


class SourceAnswer(Struct, kw_only=True, frozen=True):
    """What one machine knows of a road, from one of its sources; a relay has neither source nor machine. Counts are of the last window."""

    source: str
    machine: str
    state: str
    since: str
    reason: str
    score: int
    attempts: int
    failures: int
    deferrals: int
    complaints: int
    latency_ms: int
    updated_at: str


class RoadStateAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="relay_state"):
    """
    How a road does.

    `state` is closed (it takes mail), open (its breaker keeps mail away until `retry_at`), half_open (one message tries it) or
    disabled (a person switched it off). `score` is 0 to 100.
    """

    name: str
    state: str
    since: str | None
    reason: str
    retry_at: str | None
    score: int
    sources: list[SourceAnswer]


async def disable(request: Request) -> Answer:
    """Switch a relay off."""
    note = ""
    if request.header(b"content-type") is not None or request.header(b"content-length") not in {None, "0"}:
        note = decode.read_json(await decode.read_body(request, _SMALL), DisableBody).note
    return _written(await _control(request).disable(_name(request), note, request.caller.actor))


async def enable(request: Request) -> Answer:
    """Switch a relay on."""
    return _written(await _control(request).enable(_name(request), request.caller.actor))


async def state(request: Request) -> Answer:
    """Say how a relay does."""
    return _written(await _control(request).view(_name(request)))


def _control(request: Request) -> RoadControl:
    return RoadControl(request.deps.engine, request.deps.clock, request.deps.settings)


def _name(request: Request) -> str:
    return str(request.params["name"])


def _written(view: RoadView) -> Answer:
    return as_json(
        RoadStateAnswer(
            name=view.road, state=view.state, since=time(view.since), reason=view.reason, retry_at=time(view.retry_at), score=view.score,
            sources=[_source(row) for row in view.rows],
        )
    )  # fmt: skip


def _source(row: RoadRow) -> SourceAnswer:
    return SourceAnswer(
        source=row.source, machine=row.machine, state=row.state, since=iso(row.since), reason=row.reason, score=row.score,
        updated_at=iso(row.updated_at), **{name: int(row.counts.get(name, 0)) for name in _COUNTS},
    )  # fmt: skip


_COUNTS = ("attempts", "failures", "deferrals", "complaints", "latency_ms")
_NAME = Parameter(name="name", place="path", description="the relay's name; or mx, mx:POOL", is_required=True)


def _endpoint(method: str, path: str, run: Run, name: str, summary: str) -> Endpoint:
    is_disabling = name == "disableRelay"
    return Endpoint(
        method=method,
        path=path,
        run=run,
        name=name,
        scope=Scope.OPERATOR,
        summary=summary,
        tag=_TAG,
        body=DisableBody if is_disabling else None,
        is_body_optional=is_disabling,
        answers={200: RoadStateAnswer},
        parameters=(_NAME,),
        codes=("not_found", "validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
        if is_disabling
        else ("not_found",),
    )


ENDPOINTS = [
    _endpoint("GET", "/v1/relays/{name:str}/state", state, "getRelayState", "Say how a relay does"),
    _endpoint("POST", "/v1/relays/{name:str}/disable", disable, "disableRelay", "Switch a relay off"),
    _endpoint("POST", "/v1/relays/{name:str}/enable", enable, "enableRelay", "Switch a relay on, and let it be tried at once"),
]
