"""
Numbers: what is counted of mail, and what can be said of it.

Every counter only ever grows, at the time when something happened: a recipient that was delivered and bounces later is
counted as delivered, as bounced, and as one that left `delivered` again. So sums of any two spans add up, and
`reached` and `failed` say how many stand where at the end.
Arrives: sums out of the store. Leaves: `Counts` with rates and percentiles. No I/O.
Not here: who counts (settle, accept, reported), the tables (store.rollups).
Bugs: a percentile lies between two bounds of the histogram; it is interpolated there.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gatepost.clock import Instant
from gatepost.domain.outcome import Category
from gatepost.domain.recipient import Status

COUNTERS: Final = (
    "messages", "accepted", "suppressed", "attempted", "sent", "delivered", "deferred", "deferred_first", "bounced", "expired",
    "cancelled",
    "retried", "complained", "opened", "opens", "clicked", "clicks", "unsubscribed", "machine_opens", "machine_clicks",
    "left_sent", "left_delivered", "left_bounced", "left_expired", "left_cancelled",
)  # fmt: skip
"""What is counted, bounces and waits apart. The store's columns have these names."""

WAIT_BOUNDS_S: Final = (
    0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 480.0, 720.0,
    900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0, 86400.0, 172800.0, 259200.0,
)  # fmt: skip
"""Upper bounds of the histogram of waits; what took longer than the last has a place of its own."""

BOUNCED: Final = "bounced_"
WAITED: Final = "wait_"
FIELDS: Final = (
    *COUNTERS, *(f"{BOUNCED}{category.value}" for category in Category), *(f"{WAITED}{n}" for n in range(len(WAIT_BOUNDS_S) + 1)),
)  # fmt: skip
"""Every column of counts."""
BOUNCED_AS: Final[Mapping[Category, str]] = {category: f"{BOUNCED}{category.value}" for category in Category}
LEFT: Final[Mapping[Status, str]] = {
    status: f"left_{status.value}" for status in (Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.EXPIRED, Status.CANCELLED)
}
"""The counter of those that leave a state again."""
_FIRST_WAIT: Final = FIELDS.index(f"{WAITED}0")
_BOUNDS_MS: Final = tuple(int(bound * 1000) for bound in WAIT_BOUNDS_S)


def waited(wait_ms: int) -> str:
    """Return the counter of a time to deliver."""
    return FIELDS[_FIRST_WAIT + bisect_left(_BOUNDS_MS, wait_ms)]


class Labels(NamedTuple):
    """
    What a message's numbers are kept by.

    Attributes:
        domain: Of the sender.
        tags: As the store keeps them, as JSON; empty for none.
        began_at: From when on its recipients wait.
    """

    domain: str
    stream: str
    tags: str
    template: str
    began_at: Instant


class Dimension(StrEnum):
    """What numbers can be divided by."""

    TENANT = "tenant"
    DOMAIN = "domain"
    STREAM = "stream"
    RELAY = "relay"
    """The road: `mx`, `mx:POOL`, a relay's name, `sandbox`."""
    SOURCE = "source"
    SITE = "site"
    TAG = "tag"
    TEMPLATE = "template"


class Step(StrEnum):
    """Lengths of time that numbers can be divided into."""

    FIVE_MINUTES = "5m"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    Sums of a span.

    Attributes:
        messages: Accepted messages; everything else counts recipients.
        accepted: With those that were suppressed.
        attempted: Recipients that were tried for the first time.
        sent: A relay took it.
        deferred: Attempts that ended with "not now".
        deferred_first: Recipients whose first attempt did.
        opened: Recipients that opened for the first time; `opens` are all openings. Machines are counted apart.
        bounced: At once or later.
        bounces: By category; only what is not 0.
        waits: How long it took until the next system had it, by `WAIT_BOUNDS_S`.
    """

    messages: int = 0
    accepted: int = 0
    suppressed: int = 0
    attempted: int = 0
    sent: int = 0
    delivered: int = 0
    deferred: int = 0
    deferred_first: int = 0
    bounced: int = 0
    expired: int = 0
    cancelled: int = 0
    retried: int = 0
    complained: int = 0
    opened: int = 0
    opens: int = 0
    clicked: int = 0
    clicks: int = 0
    unsubscribed: int = 0
    machine_opens: int = 0
    machine_clicks: int = 0
    left_sent: int = 0
    left_delivered: int = 0
    left_bounced: int = 0
    left_expired: int = 0
    left_cancelled: int = 0
    bounces: Mapping[str, int] = field(default_factory=dict)
    waits: tuple[int, ...] = (0,) * (len(WAIT_BOUNDS_S) + 1)

    def __add__(self, other: "Counts") -> "Counts":
        """Add two sums."""
        return of_values(mine + yours for mine, yours in zip(values_of(self), values_of(other), strict=True))

    @property
    def reached(self) -> int:
        """Recipients whose mail is where it should be, as far as anybody knows."""
        return max(self.sent + self.delivered - self.left_sent - self.left_delivered, 0)

    @property
    def failed(self) -> int:
        """Recipients that did not get it, and will not without a person's doing."""
        return max(self.bounced + self.expired - self.left_bounced - self.left_expired, 0)

    @property
    def ended(self) -> int:
        """Recipients of whom it is known how it ended."""
        return self.reached + self.failed

    @property
    def delivery_rate(self) -> float | None:
        """The part of the ended ones that was reached."""
        return _rate(self.reached, self.ended)

    @property
    def bounce_rate(self) -> float | None:
        """The part of the ended ones that bounced."""
        return _rate(self.bounced - self.left_bounced, self.ended)

    @property
    def deferral_rate(self) -> float | None:
        """The part of the first attempts that ended with "not now"."""
        return _rate(self.deferred_first, self.attempted)

    @property
    def complaint_rate(self) -> float | None:
        """Complaints for each recipient reached."""
        return _rate(self.complained, self.reached)

    @property
    def open_rate(self) -> float | None:
        """The part of the recipients reached that opened."""
        return _rate(self.opened, self.reached)

    @property
    def click_rate(self) -> float | None:
        """The part of the recipients reached that clicked."""
        return _rate(self.clicked, self.reached)

    @property
    def unsubscribe_rate(self) -> float | None:
        """Unsubscriptions for each recipient reached."""
        return _rate(self.unsubscribed, self.reached)

    def wait_ms(self, part: float) -> int | None:
        """
        Return within which time a part of the recipients was reached; None when none was.

        Args:
            part: Such as 0.95.
        """
        total = sum(self.waits)
        if not total:
            return None
        left = part * total
        for n, count in enumerate(self.waits):
            if count and left <= count:
                low = _BOUNDS_MS[n - 1] if n else 0
                high = _BOUNDS_MS[n] if n < len(_BOUNDS_MS) else low * 2
                return round(low + (high - low) * max(left, 0.0) / count)
            left -= count
        return _BOUNDS_MS[-1] * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """
    One group's sums.

    Attributes:
        key: Its values, in the order of what was grouped by.
        at: The beginning of its step; None where time is not divided.
    """

    key: tuple[str, ...]
    at: Instant | None
    counts: Counts


_BOUNCES: Final = slice(len(COUNTERS), _FIRST_WAIT)
_NAMES: Final = tuple(category.value for category in Category)


def of_values(values: Iterable[int]) -> Counts:
    """Make counts of the values of `FIELDS`."""
    found = values if isinstance(values, list) else list(values)
    bounces = {name: count for name, count in zip(_NAMES, found[_BOUNCES], strict=True) if count}
    return Counts(**dict(zip(COUNTERS, found, strict=False)), bounces=bounces, waits=tuple(found[_FIRST_WAIT:]))


def values_of(counts: Counts) -> list[int]:
    """Return the values of `FIELDS`."""
    plain = [int(getattr(counts, name)) for name in COUNTERS]
    return [*plain, *(counts.bounces.get(name, 0) for name in _NAMES), *counts.waits]


def _rate(part: int, whole: int) -> float | None:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else None
