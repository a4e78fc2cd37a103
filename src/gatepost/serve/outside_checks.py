"""
What `gatepost doctor` looks at outside of this machine: the addresses that mail leaves from, relays, senders' domains.

Arrives: the settings. Leaves: findings with the next step. Relays and addresses are asked now; of domains is told what the gateway
found when it last looked.
Not here: one domain in full (`gatepost doctor --domain`), this machine itself (checks).
"""

import asyncio
from collections.abc import Iterable

from gatepost.app.database import create_engine
from gatepost.app.parts import create_couriers, with_hostnames
from gatepost.app.watching import create_lookup
from gatepost.clock import SystemClock
from gatepost.domain.health import Check, CheckStatus, worst
from gatepost.domain.route import RoadKind, roads_of
from gatepost.egress.courier import Courier, Probe
from gatepost.serve.finding import Finding
from gatepost.settings import Loaded, Settings
from gatepost.store import health, opening, tenants
from gatepost.store.engine import Engine
from gatepost.store.schema import REVISION
from gatepost.tenants.source_health import SourceHealth, senders_of

_PROBE_S = 20.0
_SHOWN = 5
_STATUS = {CheckStatus.FAILED: "failed", CheckStatus.WARNING: "warning", CheckStatus.UNKNOWN: "warning"}


def sources(loaded: Loaded) -> Finding:
    """Look at the addresses that mail leaves from: names, EHLO, blocklists."""
    settings = with_hostnames(loaded.settings)
    if not any(road.kind is RoadKind.MX for road in roads_of(settings.egress.default_route)):
        return Finding("sources", "ok", "no mail goes straight to recipients' servers")
    senders = senders_of(settings)
    if not senders:
        advice = "set watch.addresses to the public addresses of this machine"
        return Finding("sources", "warning", "it is not known from which addresses mail leaves, so nobody looks after their names", advice)
    return asyncio.run(_sources(loaded, settings))


async def _sources(loaded: Loaded, settings: Settings) -> Finding:
    clock, engine = SystemClock(), create_engine(loaded)
    try:
        looking = SourceHealth(engine, clock, create_lookup(settings, clock), senders_of(settings), settings.watch.blocklists)
        found = [check for one in looking.senders for check in await looking.examine(one)]
    finally:
        await engine.close()
    return _summed("sources", found)


def _summed(name: str, found: Iterable[Check]) -> Finding:
    checks = list(found)
    status = worst(checks)
    told = [check for check in checks if check.status is status] if status is not CheckStatus.OK else checks
    advice = next((check.advice for check in told if check.advice), "")
    return Finding(name, _STATUS.get(status, "ok"), "; ".join(check.detail for check in told), advice)


def relays(loaded: Loaded) -> list[Finding]:
    """Try every relay without sending anything."""
    if not loaded.settings.relays:
        return []
    return asyncio.run(_relays(with_hostnames(loaded.settings)))


async def _relays(settings: Settings) -> list[Finding]:
    couriers = create_couriers(settings, SystemClock())
    used = {road.name for road in roads_of(settings.egress.default_route) if road.kind is RoadKind.RELAY}
    try:
        probes = await asyncio.gather(*[_probe(couriers[name]) for name in settings.relays])
    finally:
        await asyncio.gather(*[courier.close() for courier in couriers.values()], return_exceptions=True)
    return [_of_relay(name, probe, is_used=name in used) for name, probe in zip(settings.relays, probes, strict=True)]


async def _probe(courier: Courier) -> Probe:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await courier.probe()
    except TimeoutError:
        return Probe(is_reachable=False, is_authenticated=None, latency_ms=0, detail=f"no answer within {_PROBE_S:g} s")


def _of_relay(name: str, probe: Probe, *, is_used: bool) -> Finding:
    if not probe.is_good:
        advice = f"look at relays.{name} in the settings, then at gatepost doctor again"
        return Finding(f"relay {name}", "failed" if is_used else "warning", probe.detail or "it cannot be reached", advice)
    told = [f"answers within {probe.latency_ms} ms", *(["our key is good"] if probe.is_authenticated else []), probe.tls or "without TLS"]
    if probe.quota_left is not None:
        told.append(f"{probe.quota_left:,} recipients are left")
    return Finding(f"relay {name}", "ok", ", ".join(told))


def domains(loaded: Loaded) -> Finding:
    """Sum up what the gateway found at senders' domains."""
    if not loaded.settings.database.url and not (loaded.data_dir / "gatepost.db").exists():
        return Finding("domains", "ok", "there are none yet")
    return asyncio.run(_domains(loaded))


async def _domains(loaded: Loaded) -> Finding:
    engine = create_engine(loaded)
    try:
        return await _of_domains(engine)
    finally:
        await engine.close()


async def _of_domains(engine: Engine) -> Finding:
    if await engine.read(opening.current_revision) != REVISION:
        return Finding("domains", "warning", "the schema is another release's")
    names = {one.id: one.name for one in await engine.read(tenants.domains)}
    failing = await engine.read(health.failing_domains)
    if not failing:
        looked = sum((await engine.read(health.domain_states)).values())
        return Finding("domains", "ok", f"{len(names)}, of which {looked} were looked at; none fails that was well before")
    told = ", ".join(names.get(one, one) for one in failing[:_SHOWN])
    return Finding("domains", "warning", f"{len(failing)} of {len(names)} fail: {told}", "gatepost doctor --domain NAME says why")
