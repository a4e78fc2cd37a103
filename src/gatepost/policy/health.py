"""
How a road does, and the breaker that keeps mail from one that does nothing but fail.

Arrives: what each transaction came to. Leaves: a score from 0 to 100, and a state.

    closed --(failures in a row, or a share of them in the window)--> open --(time, or a probe)--> half open
    half open --(one message goes through)--> closed; --(it does not)--> open, twice as long

A relay fails when it cannot be reached, knows us not, has no quota left or has trouble of its own. A road to MX hosts fails
only as a whole: at several sites in a row and nowhere otherwise, for one dead site says nothing of the others.
Not here: who is asked when (dispatch.roads), who keeps it (store.roads).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gatepost.clock import Instant
from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Unknown
from gatepost.domain.route import RoadKind
from gatepost.policy.failover import is_our_own

_BUCKETS: Final = 12
_TRIAL_MS: Final = 10_000
"""After so long a trial that told nothing may be repeated."""
_ROADS_FAULT = frozenset(
    {
        Category.NETWORK, Category.AUTH_FAILURE, Category.RATE_LIMITED, Category.RELAY_DENIED, Category.REPUTATION_BLOCK,
        Category.REMOTE_SYSTEM,
    }
)  # fmt: skip
_SLOW_MS: Final = 2_000


class State(StrEnum):
    """Whether a road takes mail."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Sign(StrEnum):
    """What a transaction says of its road."""

    GOOD = "good"
    DEFERRED = "deferred"  # the road works, the mail waits
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """
    When a breaker opens, and for how long.

    Attributes:
        failures: So many in a row.
        share: Or such a part of at least `least` transactions in the window.
        sites: Failures must be of so many different sites; 0 does not look at sites, and counts shares.
        open_ms: The first time; doubled each time up to `longest_ms`.
    """

    failures: int = 5
    share: float = 0.5
    least: int = 20
    window_ms: int = 60_000
    open_ms: int = 10_000
    longest_ms: int = 120_000
    sites: int = 0


@dataclass(slots=True)
class _Bucket:
    starts_at: Instant
    attempts: int = 0
    failures: int = 0
    deferrals: int = 0
    complaints: int = 0
    latency_ms: int = 0


@dataclass(slots=True)
class Health:
    """One road's, or one source's of a road to MX hosts."""

    rules: BreakerRules
    state: State = State.CLOSED
    since: Instant = 0
    reason: str = ""
    retry_at: Instant | None = None
    openings: int = 0
    _in_a_row: int = 0
    _trial_at: Instant | None = None
    _failing: set[str] = field(default_factory=set)
    _buckets: deque[_Bucket] = field(default_factory=lambda: deque(maxlen=_BUCKETS))

    def record(self, sign: Sign, now: Instant, *, cause: str = "", latency_ms: int = 0, site: str = "") -> bool:
        """Learn from a transaction; return whether the state changed."""
        bucket = self._bucket(now)
        bucket.attempts += 1
        bucket.latency_ms += latency_ms
        bucket.deferrals += sign is Sign.DEFERRED
        bucket.failures += sign is Sign.BAD
        if sign is not Sign.BAD:
            self._in_a_row = 0
            self._failing.clear()
            return self.state is State.HALF_OPEN and self._close(now)
        self._in_a_row += 1
        if self.rules.sites and len(self._failing) < self.rules.sites:
            self._failing.add(site)
        if self.state is State.HALF_OPEN or (self.state is State.CLOSED and self._is_too_bad(now)):
            self._open(now, f"{cause}: {self._in_a_row} failures in a row" if self._in_a_row > 1 else cause)
            return True
        return False

    def complain(self, now: Instant, count: int = 1) -> None:
        """Count complaints of recipients about mail that went this way."""
        self._bucket(now).complaints += count

    def tick(self, now: Instant) -> bool:
        """Let time pass: a road that was open long enough may be tried; return whether the state changed."""
        if self.state is State.OPEN and self.retry_at is not None and now >= self.retry_at:
            self.state, self.since, self._trial_at = State.HALF_OPEN, now, None
            return True
        return False

    def is_shut(self, now: Instant) -> bool:
        """Tell whether it takes nothing now: it is open, or being tried by somebody else's message."""
        if self.state is State.CLOSED:
            return False
        self.tick(now)
        return self.state is State.OPEN or (self._trial_at is not None and now < self._trial_at + _TRIAL_MS)

    def may_start(self, now: Instant) -> bool:
        """Ask for one transaction; on a half open road that is its trial, and the next one is refused until it ended."""
        if self.state is State.CLOSED:
            return True
        if self.is_shut(now):
            return False
        self._trial_at = now
        return True

    def wait_until(self, now: Instant) -> Instant:
        """Return when it is worth asking again."""
        return self.retry_at if self.state is State.OPEN and self.retry_at is not None else now + 1_000

    def probed(self, now: Instant, *, is_good: bool, cause: str = "") -> bool:
        """
        Learn from a probe, which sends no mail; return whether the state changed.

        A good one ends an outage of the connection; what mail was refused for, only mail can prove to be over.
        """
        if self.state is State.CLOSED:
            return False
        if not is_good:
            self._open(now, cause or self.reason)
            return True
        if self.reason.partition(":")[0] == Category.NETWORK.value:
            return self._close(now)
        if self.state is State.OPEN:
            self.state, self.since, self._trial_at = State.HALF_OPEN, now, None
            return True
        return False

    def doubt(self, now: Instant, cause: str) -> bool:
        """
        Learn that probes fail while nobody's mail tells anything; return whether the state changed.

        Mail that goes through says more than a probe: then nothing changes.
        """
        counts = self.counts(now)
        if self.state is not State.CLOSED or counts["attempts"] > counts["failures"]:
            return False
        self._open(now, cause)
        return True

    def hangs(self, now: Instant, cause: str) -> bool:
        """Learn that everything that was begun hangs, and nothing can be tried; return whether the state changed."""
        self.tick(now)
        if self.state is State.OPEN:
            return False
        self._open(now, cause)
        return True

    def adopt(self, state: State, since: Instant, reason: str, retry_at: Instant | None, openings: int) -> None:
        """Take over what another process, or this one before its restart, found out."""
        self.state, self.since, self.reason, self.retry_at, self.openings = state, since, reason, retry_at, openings
        self._in_a_row, self._trial_at = 0, None
        self._failing.clear()

    def score(self, now: Instant) -> int:
        """
        Sum it up: 100 is a road on which nothing went wrong in the window, 0 one that is open.

        Failures count whole, deferrals by a third; slowness and complaints cost up to a fifth and two fifths.
        """
        if self.state is not State.CLOSED:
            return 0 if self.state is State.OPEN else 50
        counts = self.counts(now)
        attempts = counts["attempts"]
        if not attempts:
            return 100 - 40 * bool(counts["complaints"])
        slow = min(max(counts["latency_ms"] - _SLOW_MS, 0) / 40_000, 0.2)
        angry = min(counts["complaints"] / attempts * 100, 0.4)
        lost = (counts["failures"] + counts["deferrals"] / 3) / attempts + slow + angry
        return round(100 * (1 - min(lost, 1.0)))

    def counts(self, now: Instant) -> dict[str, int]:
        """Return what happened in the window; latency is the average."""
        first = now - self.rules.window_ms
        buckets = [one for one in self._buckets if one.starts_at > first]
        attempts = sum(one.attempts for one in buckets)
        return {
            "attempts": attempts,
            "failures": sum(one.failures for one in buckets),
            "deferrals": sum(one.deferrals for one in buckets),
            "complaints": sum(one.complaints for one in buckets),
            "latency_ms": sum(one.latency_ms for one in buckets) // max(attempts, 1),
        }

    def saved(self, now: Instant) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "state": self.state.value, "since": self.since, "reason": self.reason, "retry_at": self.retry_at, "openings": self.openings,
            "score": self.score(now), "counts": self.counts(now),
        }  # fmt: skip

    def _bucket(self, now: Instant) -> _Bucket:
        width = max(self.rules.window_ms // _BUCKETS, 1)
        starts_at = now - now % width
        if not self._buckets or self._buckets[-1].starts_at < starts_at:
            self._buckets.append(_Bucket(starts_at))
        return self._buckets[-1]

    def _is_too_bad(self, now: Instant) -> bool:
        rules = self.rules
        if self._in_a_row >= rules.failures:
            return not rules.sites or len(self._failing) >= rules.sites
        if rules.sites:
            return False
        counts = self.counts(now)
        return counts["attempts"] >= rules.least and counts["failures"] >= rules.share * counts["attempts"]

    def _open(self, now: Instant, reason: str) -> None:
        is_again = self.state is not State.CLOSED or (self.openings > 0 and now < self.since + self.rules.longest_ms)
        self.openings = self.openings + 1 if is_again else 1
        wait = min(self.rules.open_ms * 2 ** min(self.openings - 1, 20), self.rules.longest_ms)
        self.state, self.since, self.reason, self.retry_at = State.OPEN, now, reason, now + wait
        self._trial_at = None

    def _close(self, now: Instant) -> bool:
        self.state, self.since, self.reason, self.retry_at, self._trial_at = State.CLOSED, now, "", None, None
        self._in_a_row = 0
        self._buckets.clear()
        return True


def sign_of(outcomes: Sequence[Outcome], kind: RoadKind) -> tuple[Sign, str] | None:
    """
    Say what a transaction's outcomes say of its road, and why it is bad; None when they say nothing of it.

    One recipient that was served, or refused for its own sake, shows that the road works.
    """
    signs = [found for outcome in outcomes if (found := _sign(outcome, kind)) is not None]
    for wanted in Sign:
        for sign, cause in signs:
            if sign is wanted:
                return sign, cause
    return None


def _sign(outcome: Outcome, kind: RoadKind) -> tuple[Sign, str] | None:
    if isinstance(outcome, Delivered):
        return Sign.GOOD, ""
    if isinstance(outcome, Unknown):
        return Sign.BAD, Category.NETWORK.value
    category = outcome.category
    if isinstance(outcome, Failed):
        is_refused = kind is RoadKind.RELAY and category is Category.RELAY_DENIED
        return (Sign.BAD, category.value) if is_refused else (Sign.GOOD, "")
    if is_our_own(outcome):
        return None
    if category is Category.RATE_LIMITED and outcome.exchange.host is None:  # our own limit for it
        return Sign.DEFERRED, ""
    is_bad = category in _ROADS_FAULT if kind is RoadKind.RELAY else category is Category.NETWORK and outcome.reply is None
    return (Sign.BAD, category.value) if is_bad and isinstance(outcome, Deferred) else (Sign.DEFERRED, "")
