"""API keys: what they share with OAuth clients is in `credentials`; here is how one is made, and changed in place."""

from gatepost.domain.access import Restrictions, Scope
from gatepost.domain.tenant import ApiKey, KeyMode
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Request, as_json
from gatepost.http.v1 import answers, asking, writing
from gatepost.http.v1.bodies import KeyBody, KeyChangesBody
from gatepost.http.v1.credentials import BODY_CODES, SMALL, Kind, check_name
from gatepost.tenants.credential_register import Changes, Made
from gatepost.tenants.key_register import Keys


async def _create(request: Request, body: KeyBody, restrictions: Restrictions) -> Made[ApiKey]:
    caller, keys = request.caller, Keys(request.deps.engine, request.deps.clock, request.deps.directory)
    return await keys.create(caller.tenant_id, body.name, KeyMode(body.mode), restrictions, by=caller.actor, maker=caller.principal)


_KIND = Kind(
    register=Keys,
    noun="API key",
    operation="Key",
    tag="keys",
    path="/v1/keys",
    id_name="key_id",
    rotation=("rotate", "rotateKey"),
    about_rotation="; id, limits and history stay.",
    revocation="Revoke an API key",
    body=KeyBody,
    answer=answers.KeyAnswer,
    page=answers.KeyPage,
    made_answer=answers.MadeKeyAnswer,
    create=_create,
    written=writing.key,
    written_made=writing.made_key,
)


async def change(request: Request) -> Answer:
    """Change a key's name or restrictions."""
    found, caller = await _KIND.find(request), request.caller
    body = decode.read_json(await decode.read_body(request, SMALL), KeyChangesBody)
    if body.name is not None:
        check_name(body.name)
    changes = Changes(name=body.name, restrictions=asking.changes(body, request.deps.clock.now()))
    changed = await _KIND.opened(request).update(caller.tenant_id, found.id, changes, by=caller.actor, maker=caller.principal)
    return as_json(writing.key(changed))


ENDPOINTS = [
    *_KIND.endpoints(),
    Endpoint(
        method="PATCH",
        path=_KIND.path_of_one,
        run=change,
        name="changeKey",
        scope=Scope.KEYS_WRITE,
        summary="Change an API key",
        body=KeyChangesBody,
        answers={200: answers.KeyAnswer},
        description="Its secret stays. Neither the key as it was nor as it will be may have more than the caller.",
        codes=("not_found", "conflict", "permission_denied", *BODY_CODES),
        **_KIND.of_one,
    ),
]
