"""
One limit of one subject, as this process counts it.

A process takes slices of a limit from what all share and gives them out without asking; it also counts what it gave out by
itself, so that a single process keeps to a sliding limit exactly however early it took its slice.
Arrives: needs. Leaves: yes from the slice at hand, the wait where the limit is known to be full, or an `Ask`.
Not here: asking (shared), the algorithm (policy.quota).
"""

from dataclasses import dataclass
from enum import StrEnum

from gatepost.clock import SECOND, Instant
from gatepost.domain.access import Limit, Per
from gatepost.policy.quota import EMPTY, Level, Meter
from gatepost.store.quota import Answer, Ask, Place

_LEASE_MS = {Per.SECOND: 200, Per.MINUTE: SECOND, Per.HOUR: 2 * SECOND, Per.DAY: 5 * SECOND, Per.MONTH: 5 * SECOND}
"""How long a slice may be given out; what is left then goes back."""

_FRESH_MS = 100
"""How long a full limit is taken for full without asking again: others may give back."""


class Kind(StrEnum):
    """Whose a limit is."""

    KEY = "key"
    TENANT = "tenant"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A limit with what is left of it.

    Attributes:
        resets_at: When the whole amount is there again.
        window_s: Length of the window.
    """

    kind: Kind
    subject: str
    limit: Limit
    remaining: int
    resets_at: Instant
    window_s: int


class Counter:
    """
    One limit of one subject.

    Attributes:
        level: What this process gave out by itself; sliding windows only.
        pool: What is left of the slice.
        shared: The reading that all share, as it was last seen.
    """

    __slots__ = ("_asking", "_extra", "_leased_until", "_seen_at", "kind", "level", "limit", "meter", "pool", "shared", "starts_at",
                 "subject", "told_at", "used_at")  # fmt: skip

    def __init__(self, kind: Kind, subject: str, limit: Limit) -> None:
        self.kind = kind
        self.subject = subject
        self.limit = limit
        self.meter = Meter.of(limit)
        self.level: Level = EMPTY
        self.pool = 0
        self.shared: Level | None = None
        self.starts_at: Instant = 0
        self.used_at: Instant = 0
        self.told_at: Instant = 0
        self._seen_at: Instant = 0
        self._leased_until: Instant = 0
        self._extra = 0
        self._asking = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.limit}"

    def change(self, limit: Limit) -> None:
        """Count by another amount; what was taken stays taken."""
        self.limit = limit
        self.meter = Meter.of(limit)
        self.pool = min(self.pool, self.meter.amount)

    def place(self, now: Instant) -> Place:
        """Name the row that all share."""
        return Place(self.subject, self.limit.resource.value, self.limit.per.value, self.meter.starts_at(now))

    def wait_ms(self, need: int, now: Instant) -> int | None:
        """Return how long to wait as far as is known here: 0 is not at all, None is for ever."""
        self._enter_window(now)
        wait = self.meter.wait_ms(self.level, need, now)
        if wait != 0 or self.pool >= need or self.shared is None or not 0 <= now - self._seen_at < _FRESH_MS:
            return wait
        return self.meter.wait_ms(self.shared, need - self.pool, now)

    def count(self, need: int, now: Instant) -> None:
        """Count what this process gives out, or with a negative need what it takes back."""
        self.used_at = now
        if self.meter.is_sliding:
            self.level = self.meter.taken(self.level, need, now)

    def draw(self, need: int, now: Instant) -> bool:
        """Take from the slice, if it has enough and is still leased."""
        self._enter_window(now)
        if self.pool < need or now >= self._leased_until:
            return False
        self.pool -= need
        return True

    def ask(self, need: int, now: Instant) -> tuple[Ask, int]:
        """Say what to ask of what all share, and how much of the need the slice had."""
        self._enter_window(now)
        is_leased = now < self._leased_until
        own, returned = (self.pool, 0) if is_leased else (0, self.pool)
        self.pool = 0
        if not self._asking:  # slices grow while they are used up before their lease ends
            self._extra = min(max(2 * self._extra, need), self.meter.amount) if is_leased else self._extra // 2
        extra = 0 if self._asking else self._extra
        self._asking += 1
        return Ask(place=self.place(now), meter=self.meter, need=need - own, extra=extra, returned=returned), own

    def answered(self, ask: Ask, answer: Answer | None, own: int, now: Instant) -> None:
        """
        Take note of an answer.

        Args:
            answer: None when there was none: what was asked for may be lost until the window ends.
            own: What `ask` took out of the slice for this need.
        """
        self._asking -= 1
        if ask.place.starts_at != self.starts_at:
            return
        if answer is not None:
            self.seen(answer.level, now)
        if answer is not None and answer.is_granted:
            self.pool += answer.extra
            self._leased_until = now + _LEASE_MS[self.limit.per]
        else:
            self.pool += own

    def seen(self, level: Level, now: Instant) -> None:
        """Take note of the reading that all share."""
        self.shared = level
        self._seen_at = now

    def put_back(self, count: int, starts_at: Instant) -> None:
        """Return to the slice what was not needed after all; of a window that is over there is nothing to return."""
        if starts_at == self.starts_at:
            self.pool += count

    def leftover(self, now: Instant, *, is_closing: bool = False) -> Ask | None:
        """Take out what is left of a slice whose lease is over, to be given back."""
        self._enter_window(now)
        if not self.pool or (now < self._leased_until and not is_closing):
            return None
        returned, self.pool = self.pool, 0
        return Ask(place=self.place(now), meter=self.meter, need=0, returned=returned)

    def is_idle(self, now: Instant) -> bool:
        """Tell whether forgetting the counter would change nothing."""
        idle_ms = max(self.meter.window_ms, 60 * SECOND)
        return not self.pool and not self._asking and now - self.used_at > idle_ms

    def shown(self, now: Instant, shared: Level | None = None) -> Shown:
        """
        Say what is left.

        Args:
            shared: The reading that all share now; None takes the one that was last seen.
        """
        self._enter_window(now)
        reading = shared or self.shared or EMPTY
        remaining = self.meter.room(reading, now) + self.pool
        resets_at = self.meter.resets_at(reading, now)
        if self.meter.is_sliding:
            remaining = min(remaining, self.meter.room(self.level, now))
            resets_at = max(resets_at, self.meter.resets_at(self.level, now))
        return Shown(
            self.kind, self.subject, self.limit, min(remaining, self.limit.amount), resets_at, self.meter.length_s(now)
        )  # fmt: skip

    def _enter_window(self, now: Instant) -> None:
        """Begin a new calendar window: the slice of the last one is void."""
        starts_at = self.meter.starts_at(now)
        if starts_at != self.starts_at:
            self.starts_at = starts_at
            self.pool = 0
            self.shared = None
