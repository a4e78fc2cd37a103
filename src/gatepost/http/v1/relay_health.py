"""
The health of a relay over HTTP: its last probe, objectives with their burn rates, its provider's own word.

Arrives: a relay's name. Leaves: what the watcher wrote down; nothing is asked now.
Not here: the watching (watch.relays), the list of relays (relays).
"""

from typing import Any

from msgspec import Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.health import worst
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.domain_health import CheckAnswer, checks
from gatepost.policy.objectives import Judgement
from gatepost.watch import relay_reports


class ProbeAnswer(Struct, kw_only=True, frozen=True):
    """The last try that sent nothing; `is_authenticated` is null where there was nothing to prove, or no word about it."""

    is_reachable: bool
    is_authenticated: bool | None
    latency_ms: int
    detail: str
    quota_left: int | None
    host: str | None
    peer: str | None
    tls: str | None


class BurnAnswer(Struct, kw_only=True, frozen=True):
    """How fast the budget burns over two spans; 1 uses it up in thirty days, null says that too little happened."""

    long_minutes: int
    long_rate: float | None
    short_minutes: int
    short_rate: float | None


class ObjectiveAnswer(Struct, kw_only=True, frozen=True):
    """An objective over the last three days; `severity` is `none`, `slow_burn` or `fast_burn`."""

    name: str
    target: float
    good_share: float | None
    attempts: int
    severity: str
    burns: list[BurnAnswer]


class ProviderAnswer(Struct, kw_only=True, frozen=True):
    """What the provider's status page says."""

    indicator: str
    description: str
    incidents: list[str]
    components: list[str]
    checked_at: str
    error: str


class CertificateAnswer(Struct, kw_only=True, frozen=True):
    """When the relay's certificate ends."""

    host: str
    expires_at: str | None
    checked_at: str
    error: str


class RelayHealthAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="relay_health"):
    """What is known of a relay."""

    name: str
    status: str
    checked_at: str | None
    failing_since: str | None
    checks: list[CheckAnswer]
    probe: ProbeAnswer | None
    objectives: list[ObjectiveAnswer]
    provider: ProviderAnswer | None
    certificate: CertificateAnswer | None


async def show(request: Request) -> Answer:
    """Return what is known of a relay."""
    request.query()
    deps = request.deps
    return as_json(write(await relay_reports.read(deps.engine, deps.clock, deps.settings, str(request.params["relay"]))))


def write(found: relay_reports.RelayReport) -> RelayHealthAnswer:
    """Write a relay's health."""
    return RelayHealthAnswer(
        name=found.relay, status=worst(found.checks).value, checked_at=_time(found.checked_at), failing_since=_time(found.failing_since),
        checks=checks(found.checks), probe=None if found.probe is None else ProbeAnswer(**found.probe),
        objectives=[_objective(one) for one in found.objectives],
        provider=None if found.provider is None else ProviderAnswer(**{**found.provider, "checked_at": iso(found.provider["checked_at"])}),
        certificate=None if found.certificate is None else CertificateAnswer(**_with_times(found.certificate)),
    )  # fmt: skip


def _with_times(found: Any) -> dict[str, Any]:
    return {**found, "checked_at": iso(found["checked_at"]), "expires_at": _time(found["expires_at"])}


def _objective(found: Judgement) -> ObjectiveAnswer:
    burns = [
        BurnAnswer(
            long_minutes=one.long_minutes, long_rate=one.long_rate, short_minutes=one.short_minutes, short_rate=one.short_rate
        )
        for one in found.burns
    ]  # fmt: skip
    return ObjectiveAnswer(
        name=found.name, target=found.target, good_share=found.good_share, attempts=found.total, severity=found.severity.value, burns=burns
    )  # fmt: skip


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/relays/{relay:str}/health",
        run=show,
        name="getRelayHealth",
        scope=Scope.OPERATOR,
        summary="Read a relay's health",
        tag="relays",
        description="The last probe, objectives with their burn rates, quota, certificate, and what the provider's status page says.",
        answers={200: RelayHealthAnswer},
        parameters=(Parameter(name="relay", place="path", description="the relay's name in the settings", is_required=True),),
        codes=("not_found", "validation_failed"),
    )
]
