"""
Every metric, in one file. Names: `gatepost_<noun>_<unit or total>`.

With several processes each writes to its own files in the folder that `PROMETHEUS_MULTIPROC_DIR` names, and the door's
`/metrics` adds them up. What can be counted in the database (queue depth, age of the oldest due message) is read there
when asked, see `http`.
"""

import os
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from typing import Any, Self

from gatepost.observe import metric_files

metric_files.reserve()

import prometheus_client  # noqa: E402 - it looks at the environment
from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402


class Counter(prometheus_client.Counter):
    """A counter that keeps its children at hand by their labels, which are bounded: finding them anew costs more than counting."""

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Self:
        """Return the counter of some labels."""
        if labelkwargs:
            return super().labels(*labelvalues, **labelkwargs)
        known: dict[Any, Self] = self.__dict__.setdefault("_known", {})
        return known.get(labelvalues) or known.setdefault(labelvalues, super().labels(*labelvalues))


class Histogram(prometheus_client.Histogram):
    """A histogram that keeps its children at hand, as counters do."""

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Self:
        """Return the histogram of some labels."""
        if labelkwargs:
            return super().labels(*labelvalues, **labelkwargs)
        known: dict[Any, Self] = self.__dict__.setdefault("_known", {})
        return known.get(labelvalues) or known.setdefault(labelvalues, super().labels(*labelvalues))

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe several amounts: each bucket is counted up once."""
        self._sum.inc(sum(amounts))
        for at, count in Counts(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[at].inc(count)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600, 21600, 86400)

messages_accepted = Counter("gatepost_messages_accepted_total", "Messages stored, by door and stream", ["source", "stream"])
recipients_accepted = Counter(
    "gatepost_recipients_accepted_total", "Recipients of stored messages, by door and stream", ["source", "stream"]
)
accept_seconds = Histogram("gatepost_accept_seconds", "Time from a checked request to its commit", buckets=_BUCKETS)
requests_refused = Counter("gatepost_requests_refused_total", "Refused requests, by door and error code", ["source", "code"])
limit_hits = Counter(
    "gatepost_limit_hits_total", "Requests that a limit refused, by whose it is, resource and window", ["kind", "resource", "per"]
)
requests_shed = Counter(
    "gatepost_requests_shed_total", "Requests refused because more came than could be taken, by lane and cause", ["lane", "cause"]
)
pressure = Gauge(
    "gatepost_pressure",
    "How much a signal makes the doors refuse: 0 nothing, 1 bulk, 2 transactional too, 3 everything",
    ["signal"],
    multiprocess_mode="livesum",
)
scanner_up = Gauge(
    "gatepost_scanner_up", "1 while a scanner answers, 0 from its first failure on", ["scanner"], multiprocess_mode="livemin"
)
scans = Counter(
    "gatepost_scans_total", "Messages given to a scanner: answered, failed, busy, or skipped while it rests", ["scanner", "result"]
)
screened = Counter("gatepost_screening_findings_total", "Findings of the rules on content and recipients", ["rule", "effect"])
attempts = Counter("gatepost_attempts_total", "Delivery attempts, by route, outcome and category", ["route", "outcome", "category"])
attempt_seconds = Histogram("gatepost_attempt_seconds", "Time of a delivery attempt", ["route"], buckets=_BUCKETS)
delivery_seconds = Histogram(
    "gatepost_delivery_seconds", "Time from due to taken by the next system, by route", ["route"], buckets=_BUCKETS
)
recipients_final = Counter("gatepost_recipients_final_total", "Recipients that reached a final status", ["status"])
possible_duplicates = Counter("gatepost_possible_duplicates_total", "Attempts whose connection broke after the content was sent")
failovers = Counter("gatepost_failovers_total", "Recipients that left a road for another, by road and cause", ["road", "cause"])
road_state = Gauge(
    "gatepost_road_state", "A road's breaker: 0 closed, 1 half open, 2 open, 3 switched off", ["road"], multiprocess_mode="mostrecent"
)
road_score = Gauge("gatepost_road_score", "A road's health, 0 to 100", ["road"], multiprocess_mode="mostrecent")
results_fenced = Counter("gatepost_results_fenced_total", "Results refused because the shard had another owner by then")
shards_owned = Gauge("gatepost_shards_owned", "Shards that this process owns", ["node"], multiprocess_mode="livesum")
shards_taken_over = Counter("gatepost_shards_taken_over_total", "Shards taken from an owner whose lease ended")
bounce_messages = Counter(
    "gatepost_bounce_messages_total", "Reports to senders by mail: failed, delayed, delivered or relayed; or suppressed", ["action"]
)
reports = Counter(
    "gatepost_reports_total",
    "What came back, by who said it: what happened to a recipient, unknown, too_early, or nothing to do",
    ["by", "result"],
)
mailbox_up = Gauge(
    "gatepost_mailbox_up", "1 while an abuse mailbox can be read, 0 while it cannot", ["mailbox"], multiprocess_mode="mostrecent"
)
mailbox_letters = Counter(
    "gatepost_mailbox_letters_total", "Mail of abuse mailboxes: stored, again, too_large or unreadable", ["mailbox", "result"]
)
placement_results = Counter(
    "gatepost_placement_results_total", "Where test mail landed, by seed: inbox, spam, missing or unknown", ["seed", "outcome"]
)
engagements = Counter(
    "gatepost_engagements_total", "Tracked mail that was opened, links followed, unsubscriptions; by who it was", ["said", "visitor"]
)
engagements_dropped = Counter("gatepost_engagements_dropped_total", "Visits that were answered and not written down, by cause", ["cause"])
unusual_changes = Counter(
    "gatepost_unusual_changes_total", "Rates that left their own history, by metric: found, or over", ["metric", "change"]
)
team_reports = Counter("gatepost_team_reports_total", "Reports by mail to senders' teams: sent, empty or failed", ["kind", "result"])
relay_list_entries = Counter(
    "gatepost_relay_list_entries_total",
    "Providers' own suppression lists, by relay: entries taken, known, lifted here, held as too many, invalid, or of nobody here; addresses"
    " told, refused or lifted_there; gone from the list and so lifted here, or gone_held as too many; failed rounds",
    ["relay", "result"],
)
relay_list_synced = Gauge(
    "gatepost_relay_list_synced_timestamp_seconds", "When a relay's suppression list was last read and told", ["relay"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
suppressions_found = Counter("gatepost_suppressions_found_total", "Addresses suppressed because of what came back", ["reason"])
hooks = Counter("gatepost_hooks_total", "Events sent to webhooks, by result", ["result"])
look_ups = Counter("gatepost_site_look_ups_total", "Domains whose mail system was asked of DNS: found, or failed", ["result"])
in_flight = Gauge("gatepost_recipients_in_flight", "Recipients in memory for delivery", multiprocess_mode="livesum")
certificate_expires_seconds = Gauge(
    "gatepost_certificate_expires_seconds", "Time until a certificate of the doors ends, by its name", ["name"], multiprocess_mode="livesum"
)
inbound_connections = Gauge(
    "gatepost_inbound_connections", "Open connections of the listener for return paths and reports", multiprocess_mode="livesum"
)
connections = Gauge("gatepost_smtp_connections", "Open connections of the SMTP door", multiprocess_mode="livesum")


def accepted(source: str, stream: str, messages: int, recipients: int) -> None:
    """Count the accepted messages of a request that share a door and a stream."""
    messages_accepted.labels(source, stream).inc(messages)
    recipients_accepted.labels(source, stream).inc(recipients)


def exposition() -> bytes:
    """Return all processes' metrics in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
