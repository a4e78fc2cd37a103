"""Domains to send from: add, list, read, verify, new DKIM keys, remove. The work is done in tenants.domains."""

from typing import Any

from gatepost import ids
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import DomainBody
from gatepost.tenants import narrowing
from gatepost.tenants.domains import canonical_name

_SMALL = 64 * 1024


async def add(request: Request) -> Answer:
    """Add a domain; DNS decides whether it may be used."""
    body = decode.read_json(await decode.read_body(request, _SMALL), DomainBody)
    narrowing.check_domain(request.caller.principal, canonical_name(body.name), "/name")
    view = await request.deps.domains.add(request.caller.tenant_id, body.name, by=request.caller.actor)
    return as_json(writing.domain(view), 201, [(b"location", f"/v1/domains/{view.domain.id}".encode())])


async def list_domains(request: Request) -> Answer:
    """List domains, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "dom")
    names = narrowing.domains_of(request.caller.principal)
    found = [view for view in await request.deps.domains.list(request.caller.tenant_id) if names is None or view.domain.name in names]
    views = sorted(found, key=lambda view: view.domain.id, reverse=True)
    page, has_more = paging.trim(paging.slice_of(views, cursor, lambda view: view.domain.id), cursor)
    written = [writing.domain(view) for view in page]
    return as_json(
        answers.DomainPage(data=written, has_more=has_more), headers=paging.links(request, query, cursor, written, has_more=has_more)
    )


async def get(request: Request) -> Answer:
    """Return a domain with its records."""
    return as_json(writing.domain(await request.deps.domains.get(request.caller.tenant_id, await which(request))))


async def verify(request: Request) -> Answer:
    """Look the records up in DNS."""
    return as_json(
        writing.domain(await request.deps.domains.verify(request.caller.tenant_id, await which(request), by=request.caller.actor))
    )


async def rotate(request: Request) -> Answer:
    """Make new DKIM keys."""
    rotated = await request.deps.domains.rotate_dkim(request.caller.tenant_id, await which(request), by=request.caller.actor)
    return as_json(writing.domain(rotated))


async def remove(request: Request) -> Answer:
    """Remove a domain with its keys."""
    await request.deps.domains.remove(request.caller.tenant_id, await which(request), by=request.caller.actor)
    return NO_CONTENT


async def which(request: Request) -> str:
    """
    Return the id or the name in the path.

    Raises:
        Refused: not_found: it can be neither; permission_denied: the key is for other domains.
        StorageUnavailable: It cannot be told now whose it is.
    """
    named = str(request.params["domain"])
    if len(named) > 300 or not (ids.is_valid(named, "dom") or ("." in named and named.isprintable())):
        raise Refused("not_found", "there is no such domain")
    who = request.caller.principal
    if who.domains:
        is_id = ids.is_valid(named, "dom")
        name = (await request.deps.domains.get(request.caller.tenant_id, named)).domain.name if is_id else canonical_name(named)
        narrowing.check_domain(who, name)
    return named


DOMAIN = Parameter(
    name="domain",
    place="path",
    description="the domain's id or its name",
    is_required=True,
    schema={"type": "string", "minLength": 1, "maxLength": 254},
)
_ONE = "/v1/domains/{domain:str}"
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")


def _endpoint(method: str, path: str, run: Any, name: str, summary: str, given: dict[int, Any]) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        run=run,
        name=name,
        scope=Scope.DOMAINS_READ if method == "GET" else Scope.DOMAINS_WRITE,
        summary=summary,
        tag="domains",
        answers=given,
        parameters=(DOMAIN,),
        codes=("not_found", "validation_failed", "conflict") if method == "POST" else ("not_found", "validation_failed"),
    )


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/domains",
        run=add,
        name="addDomain",
        scope=Scope.DOMAINS_WRITE,
        summary="Add a domain",
        tag="domains",
        body=DomainBody,
        answers={201: answers.DomainAnswer},
        answer_headers={"Location": "the domain's path"},
        codes=("conflict", *_BODY_CODES),
    ),
    Endpoint(
        method="GET",
        path="/v1/domains",
        run=list_domains,
        name="listDomains",
        scope=Scope.DOMAINS_READ,
        summary="List domains",
        tag="domains",
        answers={200: answers.DomainPage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("dom"),
        codes=("validation_failed",),
    ),
    _endpoint("GET", _ONE, get, "getDomain", "Read a domain with its DNS records", {200: answers.DomainAnswer}),
    _endpoint("DELETE", _ONE, remove, "removeDomain", "Remove a domain", {204: None}),
    _endpoint("POST", _ONE + "/verify", verify, "verifyDomain", "Look the records up in DNS", {200: answers.DomainAnswer}),
    _endpoint("POST", _ONE + "/dkim/rotate", rotate, "rotateDkimKeys", "Make new DKIM keys", {200: answers.DomainAnswer}),
]
