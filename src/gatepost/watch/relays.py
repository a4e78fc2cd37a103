"""
Looks after relays: probes, what became of attempts, providers' status pages, ends of certificates.

Arrives: couriers to probe, this process's counts. Leaves: one row for each relay and minute; the last probe of each relay with all that
was learned. Whoever chooses roads reads them; nothing is decided here.
Each process writes down its own counts; one process probes. A probe counts as one attempt, so a relay without mail is judged, too.
Not here: what the counts mean (policy.objectives), reading them (relay_reports).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from gatepost.clock import HOUR, MINUTE, SECOND, Clock, Instant
from gatepost.egress.courier import Probe
from gatepost.net.http_client import HttpFault, HttpRequest
from gatepost.net.peer_certificate import certificate_end
from gatepost.observe import maillog, route_counts
from gatepost.observe.route_counts import RouteCount
from gatepost.policy.objectives import LONGEST_MINUTES, RELAY_FAULTS
from gatepost.settings import Relay, Settings
from gatepost.store import health
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.health import Minute, RelayRow
from gatepost.watch.tasks import Turn
from gatepost.wire.statuspage import PATH, NotAStatusPage, parse_summary

_PROBE_S: Final = 20.0
_PAGE_EVERY: Final = 5 * MINUTE
_CERTIFICATE_EVERY: Final = 6 * HOUR
_CERTIFICATE_S: Final = 10.0


class Probed(Protocol):
    """A way out that can be tried without sending."""

    async def probe(self) -> Probe:
        """Ask whether mail would be taken. Total."""
        ...


class Asking(Protocol):
    """Asks a status page."""

    async def ask(self, request: HttpRequest) -> Any:
        """
        Send a request and read the answer.

        Raises:
            HttpFault: There is none.
        """
        ...


@dataclass(slots=True)
class _Known:
    """What is asked for less often than probes are made."""

    page: dict[str, Any] | None = None
    page_due_at: Instant = 0
    certificate: dict[str, Any] | None = None
    certificate_due_at: Instant = 0


class RelayWatch:
    """The loop's work; `step` is called every second in each dispatch process."""

    def __init__(
        self, engine: Engine, clock: Clock, couriers: Mapping[str, Probed], settings: Settings, pages: Asking | None, owner: str
    ) -> None:
        """
        Args:
            couriers: By the relay's name; others than relays are not probed.
            pages: Asks status pages; None does not.
            owner: Name of this process.
        """
        self._engine = engine
        self._clock = clock
        self._couriers = couriers
        self._settings = settings
        self._pages = pages
        self._owner = owner
        self._turn = Turn(engine, clock, "relays", owner, max(3.0 * settings.watch.relays_every_s, 2 * _PROBE_S))
        self._due_at = 0.0
        self._counted = route_counts.read(RELAY_FAULTS, settings.watch.latency_s)
        self._known: dict[str, _Known] = {}

    async def step(self) -> None:
        """
        Write down what was counted and probe every relay, when it is time for it; probe only when it is this process's turn.

        Raises:
            StorageUnavailable: The database cannot be used now; what was counted is written the next time.
        """
        every_s = self._settings.watch.relays_every_s
        if not every_s or self._clock.monotonic() < self._due_at:
            return
        self._due_at = self._clock.monotonic() + every_s
        await self._write_counts()
        if self._settings.relays and await self._turn.mine():
            await asyncio.gather(*[self._look(name, relay) for name, relay in self._settings.relays.items()])
            await self._engine.write(self._tidy)

    def _tidy(self, conn: Any) -> None:
        health.forget_relays(conn, list(self._settings.relays))
        health.purge_minutes(conn, self._clock.now() // MINUTE - LONGEST_MINUTES)

    async def close(self) -> None:
        """
        Let another process probe.

        Raises:
            StorageUnavailable: The database cannot be used now: the next owner waits for the lease's end.
        """
        await self._engine.write(lambda conn: health.let_go(conn, self._owner))

    async def _write_counts(self) -> None:
        found = route_counts.read(RELAY_FAULTS, self._settings.watch.latency_s)
        minute = self._clock.now() // MINUTE
        added = {name: count.since(self._counted.get(name, RouteCount())) for name, count in found.items()}
        rows = [
            Minute(relay=name, minute=minute, attempts=one.attempts, failed=one.failed, slow=one.slow)
            for name, one in sorted(added.items())
            if one.attempts and name in self._settings.relays
        ]
        if rows:
            await self._engine.write(lambda conn: health.count_minutes(conn, self._owner, rows))
        self._counted = found

    async def _look(self, name: str, relay: Relay) -> None:
        try:
            await self._learn(name, relay)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one relay's trouble must not keep the others from being probed
            maillog.crashed("watch relay", error, relay=name)

    async def _learn(self, name: str, relay: Relay) -> None:
        courier, known = self._couriers.get(name), self._known.setdefault(name, _Known())
        if courier is None:
            return
        probe = await _probe(courier)
        await self._ask_page(known, relay)
        await self._read_certificate(known, relay, probe)
        now = self._clock.now()
        report = {"probe": msgspec.to_builtins(probe), "provider": known.page, "certificate": known.certificate}
        before = await self._engine.write(lambda conn: self._write_down(conn, name, probe, report, now))
        if probe.is_good != (before is None or before.is_ok):
            maillog.trouble("a relay's probe " + ("succeeds again" if probe.is_good else "fails"), relay=name, detail=probe.detail)

    def _write_down(self, conn: Any, name: str, probe: Probe, report: dict[str, Any], now: Instant) -> RelayRow | None:
        before = health.relays(conn).get(name)
        since = None if probe.is_good else (before.failing_since if before is not None and before.failing_since else now)
        health.put_relay(conn, RelayRow(relay=name, checked_at=now, is_ok=probe.is_good, failing_since=since, report=report))
        is_slow = probe.latency_ms > self._settings.watch.latency_s * SECOND
        counted = Minute(relay=name, minute=now // MINUTE, attempts=1, failed=int(not probe.is_good), slow=int(is_slow))
        health.count_minutes(conn, self._owner, [counted])
        return before

    async def _ask_page(self, known: _Known, relay: Relay) -> None:
        """Read the provider's status page; what cannot be read says so, and is no trouble of the relay."""
        now = self._clock.now()
        if not relay.status_url or self._pages is None or now < known.page_due_at:
            return
        known.page_due_at = now + _PAGE_EVERY
        url = relay.status_url if relay.status_url.endswith(".json") else relay.status_url.rstrip("/") + PATH
        try:
            answer = await self._pages.ask(HttpRequest(method="GET", url=url))
            known.page = {**msgspec.to_builtins(parse_summary(answer.body)), "checked_at": now, "error": ""}
        except (HttpFault, NotAStatusPage) as error:  # whatever its status, only a summary is one
            known.page = {
                "indicator": "unknown",
                "description": "",
                "incidents": [],
                "components": [],
                "checked_at": now,
                "error": str(error),
            }

    async def _read_certificate(self, known: _Known, relay: Relay, probe: Probe) -> None:
        now = self._clock.now()
        if probe.peer is None or probe.tls is None or now < known.certificate_due_at:
            return
        known.certificate_due_at = now + _CERTIFICATE_EVERY
        address, _, port = probe.peer.rpartition(":")
        host = probe.host or urlsplit(relay.url).hostname or ""
        try:
            end = await certificate_end(
                address.strip("[]"), int(port), host, is_smtp=relay.url.startswith("smtp:"), timeout_s=_CERTIFICATE_S
            )
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            known.certificate = {"host": host, "expires_at": None, "checked_at": now, "error": str(error)[:200] or type(error).__name__}
        else:
            known.certificate = {"host": host, "expires_at": end, "checked_at": now, "error": ""}


async def _probe(courier: Probed) -> Probe:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await courier.probe()
    except TimeoutError:
        return Probe(
            is_reachable=False, is_authenticated=None, latency_ms=int(_PROBE_S * SECOND), detail=f"no answer within {_PROBE_S:g} s"
        )  # fmt: skip
