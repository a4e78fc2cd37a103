"""
Relays over HTTP: the providers and smarthosts of the settings.

Arrives: requests of operators. Leaves: what is set, what was used; never a secret, which would be of no use to anybody.
Not here: what is counted (tenants.relay_list).
"""

from msgspec import Struct

from gatepost.domain.access import Scope
from gatepost.http.exchange import Answer, Endpoint, Request, as_json
from gatepost.tenants.relay_list import RelayFacts, list_relays


class RelayAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="relay"):
    """A relay; empty texts are no limits, and what is left of the quota is a little less than what was not used."""

    name: str
    kind: str
    title: str
    host: str
    price_per_1000: float
    rate: str
    quota: str
    used_today: int
    quota_left: int | None


class RelaysAnswer(Struct, kw_only=True, frozen=True):
    """The relays in order of name."""

    data: list[RelayAnswer]


async def list_(request: Request) -> Answer:
    """List the relays."""
    request.query()
    found = await list_relays(request.deps.engine, request.deps.settings, request.deps.clock)
    return as_json(RelaysAnswer(data=[relay_answer(one) for one in found]))


def relay_answer(facts: RelayFacts) -> RelayAnswer:
    """Write one relay."""
    return RelayAnswer(
        name=facts.name, kind=facts.kind, title=facts.title, host=facts.host, price_per_1000=facts.price_per_1000, rate=facts.rate,
        quota=facts.quota, used_today=facts.used_today, quota_left=facts.quota_left,
    )  # fmt: skip


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/relays",
        run=list_,
        name="listRelays",
        scope=Scope.OPERATOR,
        summary="List relays",
        tag="relays",
        description="The relays of the settings, with what was sent by each since midnight UTC.",
        answers={200: RelaysAnswer},
        codes=("validation_failed",),
    )
]
