"""OAuth clients: make (the secret is shown once), list, look at, give a new secret, revoke."""

from typing import Any

from gatepost.domain.access import Scope
from gatepost.domain.errors import invalid
from gatepost.domain.tenant import KeyMode, OAuthClient
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, asking, writing
from gatepost.http.v1.bodies import OAuthClientBody, RotateBody
from gatepost.mime.checks import text_faults
from gatepost.tenants import grants
from gatepost.tenants.client_register import Clients

_SMALL = 64 * 1024


def _clients(request: Request) -> Clients:
    return Clients(request.deps.engine, request.deps.clock, request.deps.directory)


async def _find(request: Request) -> OAuthClient:
    """Find the client of the path, before its body is looked at: what belongs to others is not there, whatever is asked."""
    return await _clients(request).get(request.caller.tenant_id, str(request.params["client_id"]))


async def make(request: Request) -> Answer:
    """Make a client; the answer holds its secret, which is not kept."""
    body = decode.read_json(await decode.read_body(request, _SMALL), OAuthClientBody)
    if faults := text_faults("/name", body.name, 100):
        raise invalid(*faults)
    caller = request.caller
    restrictions = grants.read(asking.asked(body), request.deps.clock.now(), grants.scopes_of(caller.principal))
    made = await _clients(request).create(
        caller.tenant_id, body.name, KeyMode(body.mode), restrictions, by=caller.actor, maker=caller.principal, jwks=body.jwks
    )
    return as_json(writing.made_client(made.client, made.secret), 201)


async def list_clients(request: Request) -> Answer:
    """List clients, revoked ones too, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "oac")
    newest_first = list(reversed(await _clients(request).list(request.caller.tenant_id)))
    page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda client: client.id), cursor)
    uses = await _clients(request).uses(page)
    written = [writing.client(client, uses.get(client.id)) for client in page]
    return as_json(
        answers.OAuthClientPage(data=written, has_more=has_more), headers=paging.links(request, query, cursor, written, has_more=has_more)
    )


async def get(request: Request) -> Answer:
    """Return one client."""
    found = await _find(request)
    uses = await _clients(request).uses([found])
    return as_json(writing.client(found, uses.get(found.id)))


async def rotate(request: Request) -> Answer:
    """Give a client a new secret; the old one works until the overlap ends."""
    await _find(request)
    body = await asking.rotation(request)
    caller = request.caller
    rotated = await _clients(request).rotate_secret(
        caller.tenant_id, str(request.params["client_id"]), body.overlap_s * 1000, by=caller.actor, maker=caller.principal
    )
    return as_json(writing.made_client(rotated.client, rotated.secret))


async def revoke(request: Request) -> Answer:
    """Revoke a client with its tokens: refused from the next request on."""
    await _clients(request).revoke(request.caller.tenant_id, str(request.params["client_id"]), by=request.caller.actor)
    return NO_CONTENT


_CLIENT_ID = Parameter(
    name="client_id",
    place="path",
    description="the client's id",
    is_required=True,
    schema={"type": "string", "pattern": "^oac_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
)
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_SHARED: dict[str, Any] = {"tag": "oauth clients", "parameters": (_CLIENT_ID,)}

ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/oauth-clients",
        run=make,
        name="makeOAuthClient",
        scope=Scope.KEYS_WRITE,
        summary="Make an OAuth client",
        tag="oauth clients",
        body=OAuthClientBody,
        answers={201: answers.MadeOAuthClientAnswer},
        description="The answer is the only place where the secret is ever shown.",
        codes=("permission_denied", *_BODY_CODES),
    ),
    Endpoint(
        method="GET",
        path="/v1/oauth-clients",
        run=list_clients,
        name="listOAuthClients",
        scope=Scope.KEYS_READ,
        summary="List OAuth clients",
        tag="oauth clients",
        answers={200: answers.OAuthClientPage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("oac"),
        codes=("validation_failed",),
        description="`last_used_at` may lag by half a minute.",
    ),
    Endpoint(
        method="GET",
        path="/v1/oauth-clients/{client_id:str}",
        run=get,
        name="getOAuthClient",
        scope=Scope.KEYS_READ,
        summary="Look at an OAuth client",
        answers={200: answers.OAuthClientAnswer},
        codes=("not_found",),
        **_SHARED,
    ),
    Endpoint(
        method="POST",
        path="/v1/oauth-clients/{client_id:str}/rotate-secret",
        run=rotate,
        name="rotateOAuthClientSecret",
        scope=Scope.KEYS_WRITE,
        summary="Give an OAuth client a new secret",
        body=RotateBody,
        is_body_optional=True,
        answers={200: answers.MadeOAuthClientAnswer},
        description="The old secret is taken for `overlap_s` seconds more. A client that signs assertions has none.",
        codes=("not_found", "conflict", "permission_denied", *_BODY_CODES),
        **_SHARED,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/oauth-clients/{client_id:str}",
        run=revoke,
        name="revokeOAuthClient",
        scope=Scope.KEYS_WRITE,
        summary="Revoke an OAuth client and its tokens",
        answers={204: None},
        codes=("not_found",),
        **_SHARED,
    ),
]
