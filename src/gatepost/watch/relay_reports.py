"""
What is known of a relay, put together for who asks.

Arrives: a relay's name. Leaves: its last probe, its objectives with their burn rates, what its provider says, its quota and
certificate, as checks with evidence and advice.
Not here: probing (relays).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gatepost.clock import DAY, MINUTE, Clock, Instant
from gatepost.domain.errors import Refused
from gatepost.domain.health import Check, CheckStatus
from gatepost.policy.objectives import LONGEST_MINUTES, Judgement, Sample, Severity, judge
from gatepost.settings import Settings
from gatepost.store import health
from gatepost.store.engine import Engine
from gatepost.store.health import Minute, RelayRow

_CERTIFICATE_SOON: Final = 14 * DAY
_STALE: Final = 5
"""A probe that is older than so many rounds says nothing about now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """
    What is known of a relay.

    Attributes:
        probe: The last one; None while none was made.
        provider: What the status page said.
    """

    relay: str
    checked_at: Instant | None
    failing_since: Instant | None
    probe: Mapping[str, Any] | None
    provider: Mapping[str, Any] | None
    certificate: Mapping[str, Any] | None
    objectives: tuple[Judgement, ...]
    checks: list[Check] = field(default_factory=list)


async def read(engine: Engine, clock: Clock, settings: Settings, relay: str) -> RelayReport:
    """
    Return what is known of one relay.

    Raises:
        Refused: not_found: there is no relay of this name in the settings.
        StorageUnavailable: The database cannot be used now.
    """
    if relay not in settings.relays:
        raise Refused("not_found", f"there is no relay {relay[:80]!r}")
    return (await read_all(engine, clock, settings, relay))[0]


async def read_all(engine: Engine, clock: Clock, settings: Settings, relay: str | None = None) -> list[RelayReport]:
    """
    Return what is known of every relay, by name.

    Args:
        relay: Only this one.

    Raises:
        StorageUnavailable: The database cannot be used now.
    """
    now = clock.now()
    rows = await engine.read(health.relays)
    counted = await engine.read(lambda conn: health.minutes(conn, now // MINUTE - LONGEST_MINUTES, relay))
    names = sorted(settings.relays) if relay is None else [relay]
    return [_report(name, rows.get(name), [one for one in counted if one.relay == name], settings, now) for name in names]


def _report(name: str, row: RelayRow | None, counted: Sequence[Minute], settings: Settings, now: Instant) -> RelayReport:
    watch = settings.watch
    failures = [Sample(one.minute, one.attempts, one.failed) for one in counted]
    delays = [Sample(one.minute, one.attempts, one.slow) for one in counted]
    objectives = (
        judge("success", watch.success_objective, failures, now // MINUTE),
        judge("latency", watch.latency_objective, delays, now // MINUTE),
    )
    report = row.report if row is not None else {}
    checks = [
        _probe_check(row, now, watch.relays_every_s), *map(_objective_check, objectives), _certificate_check(report, now),
        _quota_check(report), _provider_check(report),
    ]  # fmt: skip
    return RelayReport(
        relay=name, checked_at=None if row is None else row.checked_at, failing_since=None if row is None else row.failing_since,
        probe=report.get("probe"), provider=report.get("provider"), certificate=report.get("certificate"), objectives=objectives,
        checks=checks,
    )  # fmt: skip


def _probe_check(row: RelayRow | None, now: Instant, every_s: int) -> Check:
    if row is None:
        return Check(id="relay_probe", status=CheckStatus.UNKNOWN, detail="it was not tried yet", advice="start the gateway: it probes")
    if now - row.checked_at > _STALE * max(every_s, 60) * 1000:
        return Check(id="relay_probe", status=CheckStatus.UNKNOWN, detail="nobody tried it lately", advice="is the gateway running?")
    probe = row.report.get("probe") or {}
    if row.is_ok:
        return Check(id="relay_probe", status=CheckStatus.OK, detail=f"answers within {probe.get('latency_ms', 0)} ms")
    if probe.get("is_authenticated") is False:
        advice = "look at the key or password of the relay in the settings, and at the provider's account"
        return Check(id="relay_probe", status=CheckStatus.FAILED, detail=f"does not take our key: {probe.get('detail', '')}", advice=advice)
    advice = "look at the relay's url and endpoint, the network, and the provider's status page"
    return Check(id="relay_probe", status=CheckStatus.FAILED, detail=str(probe.get("detail") or "it cannot be reached"), advice=advice)


def _objective_check(found: Judgement) -> Check:
    name = f"relay_{found.name}"
    if found.good_share is None:
        return Check(id=name, status=CheckStatus.UNKNOWN, detail="nothing was counted in the last three days")
    rates = [f"{burn.long_rate:.1f} over {_span(burn.long_minutes)}" for burn in found.burns if burn.long_rate is not None]
    detail = f"{found.good_share:.2%} of {found.total:,} attempts, {found.target:.2%} wanted"
    detail += f"; budget burns at {', '.join(rates)}" if rates else ""
    match found.severity:
        case Severity.FAST_BURN:
            return Check(id=name, status=CheckStatus.FAILED, detail=detail, advice="let mail take another road until it has recovered")
        case Severity.SLOW_BURN:
            return Check(id=name, status=CheckStatus.WARNING, detail=detail, advice="the trouble lasts: ask the provider")
    return Check(id=name, status=CheckStatus.OK, detail=detail)


def _span(minutes: int) -> str:
    return f"{minutes // 1440} d" if minutes >= 1440 else f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def _certificate_check(report: Mapping[str, Any], now: Instant) -> Check:
    found = report.get("certificate")
    if not found:
        return Check(id="relay_certificate", status=CheckStatus.NOT_APPLICABLE, detail="no TLS was seen")
    if found["expires_at"] is None:
        return Check(id="relay_certificate", status=CheckStatus.UNKNOWN, detail=f"it cannot be read: {found['error']}")
    days = (found["expires_at"] - now) / DAY
    if days < 0:
        advice = "tell whoever runs it; mail that must be encrypted does not go there"
        return Check(
            id="relay_certificate", status=CheckStatus.FAILED, detail=f"{found['host']}'s ended {-days:.0f} days ago", advice=advice
        )
    if found["expires_at"] - now < _CERTIFICATE_SOON:
        advice = "tell whoever runs it"
        return Check(id="relay_certificate", status=CheckStatus.WARNING, detail=f"{found['host']}'s ends in {days:.0f} days", advice=advice)
    return Check(id="relay_certificate", status=CheckStatus.OK, detail=f"{found['host']}'s is valid for {days:.0f} more days")


def _quota_check(report: Mapping[str, Any]) -> Check:
    left = (report.get("probe") or {}).get("quota_left")
    if left is None:
        return Check(id="relay_quota", status=CheckStatus.NOT_APPLICABLE, detail="it does not tell what is left of a quota")
    if left <= 0:
        return Check(id="relay_quota", status=CheckStatus.FAILED, detail="the quota is used up", advice="ask the provider for a larger one")
    return Check(id="relay_quota", status=CheckStatus.OK, detail=f"{left:,} recipients are left")


def _provider_check(report: Mapping[str, Any]) -> Check:
    found = report.get("provider")
    if not found:
        return Check(id="relay_provider", status=CheckStatus.NOT_APPLICABLE, detail="no status page is read (relays.NAME.status_url)")
    if found["error"]:
        return Check(id="relay_provider", status=CheckStatus.UNKNOWN, detail=f"its status page: {found['error']}")
    told = "; ".join([found["description"], *found["incidents"]])
    if found["indicator"] == "none":
        return Check(id="relay_provider", status=CheckStatus.OK, detail=told or "all is well, says its provider")
    is_bad = found["indicator"] in {"major", "critical"}
    return Check(id="relay_provider", status=CheckStatus.FAILED if is_bad else CheckStatus.WARNING, detail=told, advice="wait, or reroute")
