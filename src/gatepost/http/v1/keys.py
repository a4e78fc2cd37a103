"""API keys: make (the secret is shown once), list, revoke."""

from gatepost import ids
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused, invalid
from gatepost.domain.tenant import KeyMode
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import KeyBody
from gatepost.mime.checks import text_faults
from gatepost.observe import maillog
from gatepost.store import tenants
from gatepost.tenants import keys

_SMALL = 64 * 1024


async def make(request: Request) -> Answer:
    """Make a key; the answer holds its secret, which is not kept."""
    body = decode.read_json(await decode.read_body(request, _SMALL), KeyBody)
    if faults := text_faults("/name", body.name, 100):
        raise invalid(*faults)
    mode = KeyMode(body.mode)
    if request.caller.is_test and mode is KeyMode.LIVE:
        raise Refused("permission_denied", "a test key cannot make live keys: its mail would leave the sandbox")
    secret = keys.make_secret(mode)
    made = keys.describe(secret, tenant_id=request.caller.tenant_id, name=body.name, mode=mode, now=request.deps.clock.now())
    await request.deps.engine.write(lambda conn: tenants.insert_key(conn, made, keys.hash_secret(secret)))
    await request.deps.directory.refresh()
    maillog.changed("key_made", tenant_id=made.tenant_id, key_id=made.id, mode=mode.value, by_key_id=request.caller.principal.id)
    return as_json(writing.made_key(made, secret), 201)


async def list_keys(request: Request) -> Answer:
    """List keys, revoked ones too, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "key")
    rows = await request.deps.engine.read(lambda conn: tenants.keys(conn, request.caller.tenant_id))
    newest_first = [key for key, _ in reversed(rows)]
    page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda key: key.id), cursor)
    written = [writing.key(key) for key in page]
    return as_json(
        answers.KeyPage(data=written, has_more=has_more), headers=paging.links(request, query, cursor, written, has_more=has_more)
    )


async def revoke(request: Request) -> Answer:
    """Revoke a key: it is refused from the next request on."""
    key_id, tenant_id, now = str(request.params["key_id"]), request.caller.tenant_id, request.deps.clock.now()
    is_there = ids.is_valid(key_id, "key") and await request.deps.engine.write(
        lambda conn: tenants.revoke_key(conn, tenant_id, key_id, now)
    )
    if not is_there:
        raise Refused("not_found", "there is no such key")
    await request.deps.directory.refresh()
    maillog.changed("key_revoked", tenant_id=tenant_id, key_id=key_id, by_key_id=request.caller.principal.id)
    return NO_CONTENT


_KEY_ID = Parameter(
    name="key_id",
    place="path",
    description="the key's id",
    is_required=True,
    schema={"type": "string", "pattern": "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
)

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
        codes=("permission_denied", "validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type"),
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
    ),
    Endpoint(
        method="DELETE",
        path="/v1/keys/{key_id:str}",
        run=revoke,
        name="revokeKey",
        scope=Scope.KEYS_WRITE,
        summary="Revoke an API key",
        tag="keys",
        answers={204: None},
        parameters=(_KEY_ID,),
        codes=("not_found",),
    ),
]
