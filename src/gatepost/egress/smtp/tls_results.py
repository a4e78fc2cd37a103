"""
Results of TLS sessions, counted in memory until they are written down.

Arrives: one result per connection, never one per message. Leaves: counts by day, policy and kind of failure.
Standards: RFC 8460 §4.3. Not here: where they are kept (store.tls_reports), reports (upkeep.tls_reports).
Bugs: what was counted since the last flush is lost when the process is killed.
"""

from collections import Counter
from typing import Final

from gatepost.clock import Clock
from gatepost.policy.quota import day_of
from gatepost.wire.tls_report import Counted, ReportedFailure, ReportedPolicy

_KEPT: Final = 20_000
"""Different results in memory; further failures are counted without their addresses and words."""


class TlsResults:
    """Counts; off, it keeps nothing."""

    def __init__(self, clock: Clock, *, is_on: bool) -> None:
        """Start with nothing counted."""
        self._clock = clock
        self.is_on = is_on
        self._counts: Counter[tuple[str, ReportedPolicy, ReportedFailure | None]] = Counter()

    def note(self, policy: ReportedPolicy, failure: ReportedFailure | None = None) -> None:
        """Count one session; `failure` is None where it was as the policy asks."""
        if not self.is_on:
            return
        if failure is not None and len(self._counts) >= _KEPT:
            failure = ReportedFailure(result=failure.result)
        key = (day_of(self._clock.now()), policy, failure)
        if key in self._counts or len(self._counts) < 2 * _KEPT:
            self._counts[key] += 1

    def take(self) -> list[Counted]:
        """Hand over what was counted since the last call."""
        counts, self._counts = self._counts, Counter()
        return [Counted(day=day, policy=policy, failure=failure, sessions=n) for (day, policy, failure), n in counts.items()]

    def give_back(self, counted: list[Counted]) -> None:
        """Count again what could not be written."""
        for one in counted:
            self._counts[one.day, one.policy, one.failure] += one.sessions
