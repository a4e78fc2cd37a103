"""What is known of relays, addresses and domains, in Prometheus' text format; read from the store when asked."""

from typing import Any, Final

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.store import health

METRICS: Final = {
    "gatepost_relay_probe_up": ("relay", "1 while a relay's last probe was answered well"),
    "gatepost_relay_probe_seconds": ("relay", "Time of a relay's last probe"),
    "gatepost_relay_probe_age_seconds": ("relay", "Time since a relay was last probed"),
    "gatepost_relay_quota_left_recipients": ("relay", "Recipients that a relay still takes, where it tells"),
    "gatepost_relay_certificate_expires_seconds": ("relay", "Time until the certificate of a relay ends"),
    "gatepost_source_checks_failed": ("address", "Checks of an address that mail leaves from which failed"),
    "gatepost_domains": ("state", "Senders' domains by what DNS says of them"),
}
"""Label and meaning of each metric."""


def text(conn: Connection, now: Instant) -> bytes:
    """Write the metrics."""
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in METRICS}
    for name, row in sorted(health.relays(conn).items()):
        for metric, value in _of_relay(row, now).items():
            found[metric].append((name, value))
    for address, (_, report) in health.sources(conn).items():
        found["gatepost_source_checks_failed"].append((address, sum(one["status"] == "failed" for one in report["checks"])))
    for state, count in health.domain_states(conn).items():
        found["gatepost_domains"].append((state, count))
    return "".join(line for metric, values in found.items() if values for line in _lines(metric, values)).encode()


def _of_relay(row: health.RelayRow, now: Instant) -> dict[str, float]:
    probe: dict[str, Any] = row.report.get("probe") or {}
    certificate: dict[str, Any] = row.report.get("certificate") or {}
    values = {
        "gatepost_relay_probe_up": float(row.is_ok),
        "gatepost_relay_probe_seconds": probe.get("latency_ms", 0) / 1000,
        "gatepost_relay_probe_age_seconds": (now - row.checked_at) / 1000,
    }
    if probe.get("quota_left") is not None:
        values["gatepost_relay_quota_left_recipients"] = float(probe["quota_left"])
    if certificate.get("expires_at") is not None:
        values["gatepost_relay_certificate_expires_seconds"] = (certificate["expires_at"] - now) / 1000
    return values


def _lines(metric: str, values: list[tuple[str, float]]) -> list[str]:
    label, meaning = METRICS[metric]
    head = [f"# HELP {metric} {meaning}\n", f"# TYPE {metric} gauge\n"]
    return head + [f'{metric}{{{label}="{name}"}} {value:g}\n' for name, value in values]
