"""
`POST /hooks/{relay}`: a relay's provider says what became of messages.

Whoever calls shows by signature or secret that it is the provider; there is no key of ours in it.
Not here: who is believed, and what it means (returns.hooks).
"""

from msgspec import Struct

from gatepost.domain.errors import Refused
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json

_BYTES = 2 * 1024 * 1024


class HookTaken(Struct, frozen=True, kw_only=True):
    """The call is kept."""

    status: str


async def take_hook(request: Request) -> Answer:
    """Keep a call that is believed."""
    if request.deps.hooks is None:
        raise Refused("not_found", "there is no such hook")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.scope["headers"]}
    body = await decode.read_bytes(request, _BYTES)
    await request.deps.hooks.take(str(request.params["relay"]), headers, body, request.peer)
    return as_json(HookTaken(status="ok"))


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/hooks/{relay:str}",
        run=take_hook,
        name="takeHook",
        summary="A relay's provider says what became of messages",
        tag="hooks",
        description="Called by providers; each shows who it is in its own way, see relays.NAME.hook in the settings.",
        answers={200: HookTaken},
        parameters=(Parameter(name="relay", place="path", description="the relay's name in the settings", is_required=True),),
        codes=("authentication_failed", "not_found", "overloaded", "payload_too_large", "malformed_request"),
        is_public=True,
    ),
]
