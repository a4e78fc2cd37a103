"""
What this process counted of its deliveries, by route: read back from its own metrics.

Leaves: totals since the process started; whoever wants a minute's remembers the last ones.
Not here: the counting (metrics, dispatch).
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from gatepost.observe import metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCount:
    """
    Attempts on one route since the start.

    Attributes:
        failed: By the route's own fault.
        slow: Took longer than was asked about, up to the next step of the histogram.
    """

    attempts: int = 0
    failed: int = 0
    slow: int = 0

    def since(self, earlier: "RouteCount") -> "RouteCount":
        """Return what was added."""
        return RouteCount(attempts=self.attempts - earlier.attempts, failed=self.failed - earlier.failed, slow=self.slow - earlier.slow)


def read(faults: Collection[str], slow_s: float) -> dict[str, RouteCount]:
    """
    Return what was counted so far.

    Args:
        faults: Categories that are the route's own fault.
    """
    attempts: dict[str, int] = defaultdict(int)
    failed: dict[str, int] = defaultdict(int)
    for sample in (one for metric in metrics.attempts.collect() for one in metric.samples if one.name.endswith("_total")):
        route = sample.labels["route"]
        attempts[route] += int(sample.value)
        if sample.labels["outcome"] == "unknown" or (sample.labels["outcome"] != "delivered" and sample.labels["category"] in faults):
            failed[route] += int(sample.value)
    quick, timed = _timed(slow_s)
    return {
        route: RouteCount(attempts=count, failed=failed[route], slow=max(timed.get(route, 0) - quick.get(route, 0), 0))
        for route, count in attempts.items()
    }


def _timed(slow_s: float) -> tuple[dict[str, int], dict[str, int]]:
    """Return by route how many attempts were quick enough, and how many were timed."""
    steps: dict[str, list[tuple[float, int]]] = defaultdict(list)
    timed: dict[str, int] = {}
    for sample in (one for metric in metrics.attempt_seconds.collect() for one in metric.samples):
        route = sample.labels["route"]
        if sample.name.endswith("_bucket"):
            steps[route].append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_count"):
            timed[route] = int(sample.value)
    return {route: min((one for one in found if one[0] >= slow_s), default=(0.0, 0))[1] for route, found in steps.items()}, timed
