"""
The health of a sender's domain over HTTP: checks, source addresses, providers' rules.

Arrives: a domain's id or name. Leaves: what was found when somebody last looked, or now.
Not here: the looking (tenants.domain_health).
"""

from collections.abc import Iterable

from msgspec import Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.health import Check
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.domains import DOMAIN, which
from gatepost.policy.compliance import Compliance
from gatepost.tenants.domain_health import Health


class CheckAnswer(Struct, kw_only=True, frozen=True):
    """One check: `ok`, `warning`, `failed`, `unknown` or `not_applicable`, what was seen, and what to do about it."""

    id: str
    status: str
    detail: str
    advice: str


class SourceHealthAnswer(Struct, kw_only=True, frozen=True):
    """An address that mail leaves from."""

    address: str
    checked_at: str
    checks: list[CheckAnswer]


class RuleAnswer(Struct, kw_only=True, frozen=True):
    """
    One rule of one provider: `passed`, `failed`, `unknown` or `not_applicable`, with the page where the provider says so.

    A rule that is not binding is for who sends more; it counts half.
    """

    id: str
    provider: str
    applies: str
    title: str
    url: str
    status: str
    is_binding: bool
    evidence: str
    advice: str


class ComplianceAnswer(Struct, kw_only=True, frozen=True):
    """How well the domain keeps to the rules: 0 to 100 of what is known, and the one thing to mend next."""

    score: int | None
    unknown: int
    next_step: str
    rules: list[RuleAnswer]


class DomainHealthAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="domain_health"):
    """What DNS says of a domain; `state` is `ok`, `broken`, or `unknown` when DNS did not answer."""

    id: str
    name: str
    status: str
    state: str
    checked_at: str
    failing_since: str | None
    checks: list[CheckAnswer]
    sources: list[SourceHealthAnswer]
    compliance: ComplianceAnswer


async def show(request: Request) -> Answer:
    """Return what is known of a domain."""
    asked = request.query("fresh").get("fresh", "false")
    if asked not in {"true", "false"}:
        raise invalid(Fault("fresh", "invalid_boolean", "it is true or false"))
    health = request.deps.domain_health
    has_all = not request.caller.principal.streams  # complaints are counted over all streams
    found = await health.get(request.caller.tenant_id, await which(request), is_fresh=asked == "true", has_complaints=has_all)
    return as_json(write(found))


def write(found: Health) -> DomainHealthAnswer:
    """Write a domain's health."""
    return DomainHealthAnswer(
        id=found.domain.id, name=found.domain.name, status=found.domain.status.value, state=found.state, checked_at=iso(found.checked_at),
        failing_since=None if found.failing_since is None else iso(found.failing_since), checks=checks(found.checks),
        sources=[
            SourceHealthAnswer(address=one.address, checked_at=iso(one.checked_at), checks=checks(one.checks)) for one in found.sources
        ],
        compliance=_compliance(found.compliance),
    )  # fmt: skip


def checks(found: Iterable[Check]) -> list[CheckAnswer]:
    """Write checks."""
    return [CheckAnswer(id=one.id, status=one.status.value, detail=one.detail, advice=one.advice) for one in found]


def _compliance(found: Compliance) -> ComplianceAnswer:
    told = [
        RuleAnswer(
            id=one.rule.id, provider=one.rule.provider, applies=one.rule.applies, title=one.rule.title, url=one.rule.url,
            status=one.status.value, is_binding=one.is_binding, evidence=one.evidence, advice=one.advice,
        )
        for one in found.results
    ]  # fmt: skip
    return ComplianceAnswer(score=found.score, unknown=found.unknown, next_step=found.next_step, rules=told)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/domains/{domain:str}/health",
        run=show,
        name="getDomainHealth",
        scope=Scope.DOMAINS_READ,
        summary="Read a domain's health",
        tag="domains",
        description="DNS records, source addresses and the rules of large receivers, as they were when the gateway last looked.",
        answers={200: DomainHealthAnswer},
        parameters=(
            DOMAIN,
            Parameter(
                name="fresh", place="query", description="look again now, unless that was done half a minute ago",
                schema={"type": "string", "enum": ["true", "false"], "default": "false"},
            ),
        ),
        codes=("not_found", "validation_failed", "malformed_request"),
    )
]  # fmt: skip
