"""
A domain's deliverability score over HTTP: as of now, with its components, and day by day with the reason of each change.

Not here: the rules (policy.deliverability), where the facts come from (tenants.deliverability).
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.domains import DOMAIN, which
from gatepost.policy.deliverability import Change, Part
from gatepost.tenants import narrowing
from gatepost.tenants.deliverability import MOST_DAYS, Deliverability, Trend

_DAYS = 30


class ComponentAnswer(Struct, kw_only=True, frozen=True):
    """What a score is made of: `value` is 0 to 100 or null where nothing is known, `cost` the points that it takes from the score."""

    name: str
    weight: int
    value: int | None
    cost: float
    rate: float | None
    reason: str
    advice: str


class ScoreChangeAnswer(Struct, kw_only=True, frozen=True):
    """Why a score moved: the points of one component, and what was seen before and after."""

    component: str
    points: float
    before: str
    after: str
    advice: str


class ScoreDayAnswer(Struct, kw_only=True, frozen=True):
    """A day's score (UTC); the last one is today's, as of now."""

    day: str
    score: int | None
    changes: list[ScoreChangeAnswer]


class DeliverabilityAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="deliverability"):
    """How well a domain's mail gets through."""

    id: str
    name: str
    at: str
    score: Annotated[int | None, Meta(description="0 to 100; null when nothing is known")]
    known: Annotated[int, Meta(description="percent of the components' weights that could be judged")]
    recipients: Annotated[int, Meta(description="that the rates are of")]
    trend: Literal["rising", "steady", "falling", "unknown"]
    next_step: str
    components: list[ComponentAnswer]
    days: list[ScoreDayAnswer]


async def show(request: Request) -> Answer:
    """Return a domain's score."""
    text = request.query("days").get("days", str(_DAYS))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST_DAYS):
        raise invalid(Fault("days", "out_of_range", f"give a number from 1 to {MOST_DAYS}"))
    deps = request.deps
    narrowing.check_every_stream(request.caller.principal, "a score")
    measuring = Deliverability(deps.engine, deps.clock, deps.domain_health, deps.settings)
    return as_json(write(await measuring.trend(request.caller.tenant_id, await which(request), int(text))))


def write(found: Trend) -> DeliverabilityAnswer:
    """Write a score."""
    return DeliverabilityAnswer(
        id=found.domain.id, name=found.domain.name, at=iso(found.at), score=found.score.score, known=found.score.known,
        recipients=found.score.recipients, trend=found.direction.value, next_step=found.score.next_step,
        components=[_component(part) for part in found.score.parts],
        days=[ScoreDayAnswer(day=one.day, score=one.score, changes=[_change(change) for change in one.changes]) for one in found.days],
    )  # fmt: skip


def _component(part: Part) -> ComponentAnswer:
    return ComponentAnswer(
        name=part.component.value, weight=part.weight, value=part.value, cost=round(part.cost, 1), rate=part.rate, reason=part.reason,
        advice=part.advice,
    )  # fmt: skip


def _change(change: Change) -> ScoreChangeAnswer:
    return ScoreChangeAnswer(
        component=change.component.value, points=change.points, before=change.before, after=change.after, advice=change.advice
    )  # fmt: skip


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/domains/{domain:str}/deliverability",
        run=show,
        name="getDeliverability",
        scope=Scope.DOMAINS_READ,
        summary="Read a domain's deliverability score",
        tag="domains",
        description="As of now, of the last days' mail (`deliverability.window_days`); and day by day, with the reason of each change.",
        answers={200: DeliverabilityAnswer},
        parameters=(
            DOMAIN,
            Parameter(
                name="days", place="query", description="days that are shown, today included",
                schema={"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": _DAYS},
            ),
        ),
        codes=("not_found", "validation_failed", "malformed_request"),
    )
]  # fmt: skip
