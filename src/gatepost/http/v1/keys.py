"""API keys: make (the secret is shown once), list, look at, change, rotate, revoke."""

from typing import Any

from gatepost.domain.access import Scope
from gatepost.domain.errors import invalid
from gatepost.domain.tenant import ApiKey, KeyMode
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, asking, writing
from gatepost.http.v1.bodies import KeyBody, KeyChangesBody, RotateBody
from gatepost.mime.checks import text_faults
from gatepost.tenants import grants
from gatepost.tenants.key_register import Changes, Keys

_SMALL = 64 * 1024


def _keys(request: Request) -> Keys:
    return Keys(request.deps.engine, request.deps.clock, request.deps.directory)


async def _find(request: Request) -> ApiKey:
    """Find the key of the path, before its body is looked at: what belongs to others is not there, whatever is asked."""
    return await _keys(request).get(request.caller.tenant_id, str(request.params["key_id"]))


async def make(request: Request) -> Answer:
    """Make a key; the answer holds its secret, which is not kept."""
    body = decode.read_json(await decode.read_body(request, _SMALL), KeyBody)
    if faults := text_faults("/name", body.name, 100):
        raise invalid(*faults)
    caller = request.caller
    restrictions = grants.read(asking.asked(body), request.deps.clock.now(), grants.scopes_of(caller.principal))
    made = await _keys(request).create(
        caller.tenant_id, body.name, KeyMode(body.mode), restrictions, by=caller.actor, maker=caller.principal
    )
    return as_json(writing.made_key(made.key, made.secret), 201)


async def list_keys(request: Request) -> Answer:
    """List keys, revoked ones too, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "key")
    newest_first = list(reversed(await _keys(request).list(request.caller.tenant_id)))
    page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda key: key.id), cursor)
    uses = await _keys(request).uses(page)
    written = [writing.key(key, uses.get(key.id)) for key in page]
    return as_json(
        answers.KeyPage(data=written, has_more=has_more), headers=paging.links(request, query, cursor, written, has_more=has_more)
    )


async def get(request: Request) -> Answer:
    """Return one key."""
    found = await _find(request)
    uses = await _keys(request).uses([found])
    return as_json(writing.key(found, uses.get(found.id)))


async def change(request: Request) -> Answer:
    """Change a key's name or restrictions."""
    await _find(request)
    body = decode.read_json(await decode.read_body(request, _SMALL), KeyChangesBody)
    if body.name is not None and (faults := text_faults("/name", body.name, 100)):
        raise invalid(*faults)
    changes = Changes(name=body.name, restrictions=asking.changes(body, request.deps.clock.now()))
    caller = request.caller
    changed = await _keys(request).update(caller.tenant_id, str(request.params["key_id"]), changes, by=caller.actor, maker=caller.principal)
    return as_json(writing.key(changed))


async def rotate(request: Request) -> Answer:
    """Give a key a new secret; the old one works until the overlap ends."""
    await _find(request)
    body = await asking.rotation(request)
    caller = request.caller
    rotated = await _keys(request).rotate(
        caller.tenant_id, str(request.params["key_id"]), body.overlap_s * 1000, by=caller.actor, maker=caller.principal
    )
    return as_json(writing.made_key(rotated.key, rotated.secret))


async def revoke(request: Request) -> Answer:
    """Revoke a key: it is refused from the next request on."""
    await _keys(request).revoke(request.caller.tenant_id, str(request.params["key_id"]), by=request.caller.actor)
    return NO_CONTENT


_KEY_ID = Parameter(
    name="key_id",
    place="path",
    description="the key's id",
    is_required=True,
    schema={"type": "string", "pattern": "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
)
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_SHARED: dict[str, Any] = {"tag": "keys", "parameters": (_KEY_ID,)}

ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/keys",
        run=make,
        name="makeKey",
        scope=Scope.KEYS_WRITE,
        summary="Make an API key",
        tag="keys",
        body=KeyBody,
        answers={201: answers.MadeKeyAnswer},
        description="The answer is the only place where the secret is ever shown.",
        codes=("permission_denied", *_BODY_CODES),
    ),
    Endpoint(
        method="GET",
        path="/v1/keys",
        run=list_keys,
        name="listKeys",
        scope=Scope.KEYS_READ,
        summary="List API keys",
        tag="keys",
        answers={200: answers.KeyPage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("key"),
        codes=("validation_failed",),
        description="`last_used_at` may lag by half a minute.",
    ),
    Endpoint(
        method="GET",
        path="/v1/keys/{key_id:str}",
        run=get,
        name="getKey",
        scope=Scope.KEYS_READ,
        summary="Look at an API key",
        answers={200: answers.KeyAnswer},
        codes=("not_found",),
        **_SHARED,
    ),
    Endpoint(
        method="PATCH",
        path="/v1/keys/{key_id:str}",
        run=change,
        name="changeKey",
        scope=Scope.KEYS_WRITE,
        summary="Change an API key",
        body=KeyChangesBody,
        answers={200: answers.KeyAnswer},
        description="Its secret stays. Neither the key as it was nor as it will be may have more than the caller.",
        codes=("not_found", "conflict", "permission_denied", *_BODY_CODES),
        **_SHARED,
    ),
    Endpoint(
        method="POST",
        path="/v1/keys/{key_id:str}/rotate",
        run=rotate,
        name="rotateKey",
        scope=Scope.KEYS_WRITE,
        summary="Give an API key a new secret",
        body=RotateBody,
        is_body_optional=True,
        answers={200: answers.MadeKeyAnswer},
        description="The old secret is taken for `overlap_s` seconds more; id, limits and history stay.",
        codes=("not_found", "conflict", "permission_denied", *_BODY_CODES),
        **_SHARED,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/keys/{key_id:str}",
        run=revoke,
        name="revokeKey",
        scope=Scope.KEYS_WRITE,
        summary="Revoke an API key",
        answers={204: None},
        codes=("not_found",),
        **_SHARED,
    ),
]
