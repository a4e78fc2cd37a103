"""OAuth clients: what they share with API keys is in `credentials`; here is how one is made."""

from gatepost.domain.access import Restrictions
from gatepost.domain.tenant import KeyMode, OAuthClient
from gatepost.http.exchange import Request
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import OAuthClientBody
from gatepost.http.v1.credentials import Kind
from gatepost.tenants.client_register import Clients
from gatepost.tenants.credential_register import Made


async def _create(request: Request, body: OAuthClientBody, restrictions: Restrictions) -> Made[OAuthClient]:
    caller, clients = request.caller, Clients(request.deps.engine, request.deps.clock, request.deps.directory)
    return await clients.create(
        caller.tenant_id, body.name, KeyMode(body.mode), restrictions, by=caller.actor, maker=caller.principal, jwks=body.jwks
    )


_KIND = Kind(
    register=Clients,
    noun="OAuth client",
    operation="OAuthClient",
    tag="oauth clients",
    path="/v1/oauth-clients",
    id_name="client_id",
    rotation=("rotate-secret", "rotateOAuthClientSecret"),
    about_rotation=". A client that signs assertions has none.",
    revocation="Revoke an OAuth client and its tokens",
    body=OAuthClientBody,
    answer=answers.OAuthClientAnswer,
    page=answers.OAuthClientPage,
    made_answer=answers.MadeOAuthClientAnswer,
    create=_create,
    written=writing.client,
    written_made=writing.made_client,
)

ENDPOINTS = [*_KIND.endpoints()]
