"""Tenants, for the operator: make, list, read, suspend, resume. Nothing here leads to a tenant's mail."""

from typing import Annotated

from msgspec import Meta, Struct

from gatepost import ids
from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import Tenant
from gatepost.http import decode, paging
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, Run, as_json
from gatepost.http.v1.bodies import Body
from gatepost.http.v1.writing import time
from gatepost.tenants.tenants import LONGEST_NAME, Tenants

_SMALL = 64 * 1024


class TenantBody(Body):
    """A tenant to make."""

    name: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME, description="no other tenant has it")]


class TenantAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="tenant"):
    """A tenant; from a suspended one nothing is taken, and its mail is held."""

    id: str
    name: str
    created_at: str
    suspended_at: str | None


class TenantPage(Struct, kw_only=True, frozen=True):
    """Tenants, the newest first."""

    data: list[TenantAnswer]
    has_more: bool


async def make(request: Request) -> Answer:
    """Make a tenant."""
    body = decode.read_json(await decode.read_body(request, _SMALL), TenantBody)
    made = await _tenants(request).create(body.name, request.caller.actor)
    await request.deps.directory.refresh()
    return as_json(_written(made), 201, [(b"location", f"/v1/tenants/{made.id}".encode())])


async def list_tenants(request: Request) -> Answer:
    """List tenants, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "ten")
    newest_first = list(reversed(await _tenants(request).list()))
    page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda one: one.id), cursor)
    written = [_written(one) for one in page]
    return as_json(TenantPage(data=written, has_more=has_more), headers=paging.links(request, query, cursor, written, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return a tenant."""
    return as_json(_written(await _tenants(request).get(_id(request))))


async def suspend(request: Request) -> Answer:
    """Take nothing more from a tenant, and hold its mail."""
    found = await _tenants(request).suspend(_id(request), request.caller.actor)
    await request.deps.directory.refresh()
    return as_json(_written(found))


async def resume(request: Request) -> Answer:
    """Let a tenant and its mail go on."""
    found = await _tenants(request).resume(_id(request), request.caller.actor)
    await request.deps.directory.refresh()
    return as_json(_written(found))


def _tenants(request: Request) -> Tenants:
    return Tenants(request.deps.engine, request.deps.clock)


def _id(request: Request) -> str:
    tenant_id = str(request.params["tenant_id"])
    if not ids.is_valid(tenant_id, "ten"):
        raise Refused("not_found", "there is no such tenant")
    return tenant_id


def _written(one: Tenant) -> TenantAnswer:
    return TenantAnswer(id=one.id, name=one.name, created_at=iso(one.created_at), suspended_at=time(one.suspended_at))


TENANT_ID = Parameter(
    name="tenant_id",
    place="path",
    description="the tenant's id",
    is_required=True,
    schema={"type": "string", "pattern": "^ten_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
)
_ONE = "/v1/tenants/{tenant_id:str}"


def _endpoint(method: str, path: str, run: Run, name: str, summary: str) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        run=run,
        name=name,
        scope=Scope.OPERATOR,
        summary=summary,
        tag="tenants",
        answers={200: TenantAnswer},
        parameters=(TENANT_ID,),
        codes=("not_found",),
    )


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/tenants",
        run=make,
        name="makeTenant",
        scope=Scope.OPERATOR,
        summary="Make a tenant",
        tag="tenants",
        body=TenantBody,
        answers={201: TenantAnswer},
        answer_headers={"Location": "the tenant's path"},
        codes=("conflict", "validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type"),
    ),
    Endpoint(
        method="GET",
        path="/v1/tenants",
        run=list_tenants,
        name="listTenants",
        scope=Scope.OPERATOR,
        summary="List tenants",
        tag="tenants",
        answers={200: TenantPage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("ten"),
        codes=("validation_failed",),
    ),
    _endpoint("GET", _ONE, get, "getTenant", "Read a tenant"),
    _endpoint("POST", _ONE + "/suspend", suspend, "suspendTenant", "Suspend a tenant and hold its mail"),
    _endpoint("POST", _ONE + "/resume", resume, "resumeTenant", "Let a tenant and its mail go on"),
]
