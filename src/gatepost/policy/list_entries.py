"""
What an entry of a provider's own suppression list means for our tenants, and when such a list is read.

Arrives: an entry, and who mailed that address by that relay. Leaves: whose list it goes on, and for which stream; times; a brake.
The list is the account's, and says of nobody whose mail it was. A dead address is dead for everybody who mailed it that way. Who
complained or unsubscribed meant one mail: the last one before that is taken for it, and its tenant and stream alone. Whom
nobody here mailed by that relay concerns nobody here.
Not here: reading (egress.relays), our own list (store.suppressions). See docs/decisions/004.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gatepost.clock import DAY, HOUR, SECOND, Instant
from gatepost.domain.outcome import Category
from gatepost.domain.relay_list import Entry, Why
from gatepost.policy.suppressing import UNSUBSCRIBED

REASONS: Final[Mapping[Why, str]] = {
    Why.BOUNCES: Category.INVALID_RECIPIENT.value, Why.COMPLAINTS: Category.COMPLAINT.value, Why.UNSUBSCRIBES: UNSUBSCRIBED,
}  # fmt: skip
"""What an entry is called on our own list."""
WHY: Final[Mapping[str, Why]] = {
    Category.INVALID_RECIPIENT.value: Why.BOUNCES, Category.INVALID_DOMAIN.value: Why.BOUNCES, Category.COMPLAINT.value: Why.COMPLAINTS,
    UNSUBSCRIBED: Why.UNSUBSCRIBES,
}  # fmt: skip
"""What our own reasons are there; what has another reason is nobody else's business."""
UNWANTED: Final = frozenset({REASONS[Why.COMPLAINTS], REASONS[Why.UNSUBSCRIBES]})

SKEW: Final = 10 * 60 * SECOND
"""A provider's clock may be so far behind ours."""
OVERLAP: Final = 2 * HOUR
"""What is new is asked for from a little before the last look on: entries appear late."""
_FULL_EVERY: Final = 7 * DAY
_LEAST_WHOLE: Final = 6 * HOUR
"""A list that can only be read as a whole is not read more often."""
_LONGEST: Final = DAY
_BRAKE_LEAST: Final = 100
_BRAKE_SHARE: Final = 0.25
_GONE_LEAST: Final = 20
BRAKE_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailed:
    """The last mail of a tenant that went to an address by a relay."""

    tenant_id: str
    at: Instant
    stream: str
    from_domain: str


def latest(entry: Entry, now: Instant) -> Instant:
    """Return until when mail may be what an entry is about; a dead address is dead for what was sent since, too."""
    if entry.why is Why.BOUNCES or entry.at is None:
        return now + SKEW
    return min(entry.at, now) + SKEW


def meant(entry: Entry, mailed: Sequence[Mailed]) -> list[tuple[str, str]]:
    """Return the tenants that an entry concerns, each with the stream; an empty stream is all of their mail."""
    domain = entry.sender.rpartition("@")[2].lower()
    known = [one for one in mailed if not domain or one.from_domain == domain]
    if entry.why is Why.BOUNCES:
        return [(one.tenant_id, "") for one in known]
    if not known:
        return []
    last = max(known, key=lambda one: (one.at, one.tenant_id))
    return [(last.tenant_id, last.stream)]


def is_time_for_all(*, full_at: Instant, is_incremental: bool, now: Instant) -> bool:
    """Tell whether the next round reads the whole list: what was overlooked, or mailed later, is found then."""
    return not is_incremental or now - full_at >= _FULL_EVERY


def next_round(every_ms: int, *, is_incremental: bool, now: Instant) -> Instant:
    """Return when the next round begins."""
    return now + (every_ms if is_incremental else max(every_ms, _LEAST_WHOLE))


def next_try(every_ms: int, failures: int, wait_s: int | None, now: Instant) -> Instant:
    """
    Return when to try again after a failure: after a minute, doubled each time up to a day.

    Args:
        failures: In a row, this one counted.
        wait_s: What the provider asked for.
    """
    wait: int = min(60 * SECOND << min(failures - 1, 20), max(every_ms, _LONGEST))
    return now + max(wait, (wait_s or 0) * SECOND)


def most_gone(listed: int) -> int:
    """
    Return how many entries may vanish from a provider's list at once: more is taken for an error, such as another account's key.

    Args:
        listed: Suppressions of ours that came from there.
    """
    return max(_GONE_LEAST, int(listed * _BRAKE_SHARE))


def most_of(recipients: int) -> int:
    """
    Return how many addresses of a tenant a provider's list may suppress in a day: more is taken for an error of somebody's.

    Args:
        recipients: Of the tenant's mail in `BRAKE_DAYS`.
    """
    return max(_BRAKE_LEAST, int(recipients * _BRAKE_SHARE))
