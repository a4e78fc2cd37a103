"""How strictly a tenant's content and recipients are looked at: read and change. The work is done in tenants.policies."""

from msgspec import UNSET

from gatepost.domain.access import Scope
from gatepost.domain.screening import RULES
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Request, as_json
from gatepost.http.v1 import answers
from gatepost.http.v1.bodies import PolicyBody
from gatepost.tenants.policies import PolicyView

_SMALL = 64 * 1024


async def get(request: Request) -> Answer:
    """Return the policy in force."""
    return as_json(_written(await request.deps.policies.get(request.caller.tenant_id)))


async def change(request: Request) -> Answer:
    """Change some rules."""
    body = decode.read_json(await decode.read_body(request, _SMALL), PolicyBody)
    changes = {rule: value for rule in RULES if (value := getattr(body, rule)) is not UNSET}
    return as_json(_written(await request.deps.policies.change(request.caller.tenant_id, changes, by=request.caller.actor)))


def _written(view: PolicyView) -> answers.PolicyAnswer:
    return answers.PolicyAnswer(rules=dict(view.values), own=list(view.own), operator_only=list(view.locked))


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/policies",
        run=get,
        name="getPolicies",
        scope=Scope.POLICIES_READ,
        summary="Read how strictly content and recipients are looked at",
        tag="policies",
        description="Each rule is off, warn or refuse. `own` names the rules whose value is not the gateway's, `operator_only` those "
        "that only the operator changes.",
        answers={200: answers.PolicyAnswer},
    ),
    Endpoint(
        method="PATCH",
        path="/v1/policies",
        run=change,
        name="changePolicies",
        scope=Scope.POLICIES_WRITE,
        summary="Change rules on content and recipients",
        tag="policies",
        description="A rule that is left out stays as it is; null goes back to the gateway's own value.",
        body=PolicyBody,
        answers={200: answers.PolicyAnswer},
        codes=("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type"),
    ),
]
