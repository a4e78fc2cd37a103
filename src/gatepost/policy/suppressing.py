"""
What a fact about a recipient does to the suppression list.

Arrives: what happened, its category and severity. Leaves: an act: suppress, count first, tell that we are blocked, or nothing.
The taxonomy's rules: a dead address and a complaint at once; an inactive mailbox after some bounces; what is our fault never.
A dead address is dead for every stream; who does not want a stream's mail is left alone by that stream.
Not here: the list itself (store.suppressions), who may be believed (returns).
"""

from dataclasses import dataclass
from enum import Enum, auto

from gatepost.clock import DAY, Instant
from gatepost.domain.outcome import Category
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.domain.statement import Said

BLOCKS_HOLD = frozenset({Category.REPUTATION_BLOCK, Category.AUTH_FAILURE, Category.RELAY_DENIED, Category.MALWARE})
"""Blocks after which sending on only makes it worse."""
UNSUBSCRIBED = "unsubscribed"
"""The reason of a suppression that the person asked for; other reasons are categories."""
_NOT_FOR_THE_LIST = frozenset({Category.SUPPRESSED})


class Act(Enum):
    """What to do."""

    NOTHING = auto()
    SUPPRESS = auto()
    COUNT = auto()
    TELL_BLOCK = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressRules:
    """
    What the operator decided; 0 days is for good.

    Attributes:
        inactive_count: Bounces of an inactive mailbox after which it is suppressed.
        inactive_days: Time in which they count.
        block_count: Addresses at one site that say they block us, within an hour, after which the source rests there.
        block_rest_ms: How long it rests.
    """

    inactive_count: int = 3
    inactive_days: int = 30
    hard_days: int = 0
    complaint_days: int = 0
    inactive_rest_days: int = 90
    block_count: int = 5
    block_rest_ms: int = 15 * 60_000

    def expires_at(self, reason: str, now: Instant) -> Instant | None:
        """Return when a suppression for this reason ends; None is never."""
        days = self.hard_days
        if reason == Category.MAILBOX_INACTIVE:
            days = self.inactive_rest_days
        elif reason in {Category.COMPLAINT, UNSUBSCRIBED}:
            days = self.complaint_days
        return now + days * DAY if days else None


def act_on(said: Said, category: Category | None, severity: Severity | None = None) -> Act:
    """
    Decide what a fact asks for.

    Args:
        severity: None is the category's own.
    """
    if said is Said.UNSUBSCRIBED:
        return Act.SUPPRESS
    if said is Said.COMPLAINED:
        return Act.SUPPRESS if severity in {None, Severity.COMPLAINT} else Act.NOTHING
    if said is not Said.BOUNCED or category is None or category in _NOT_FOR_THE_LIST:
        return Act.NOTHING
    if category is Category.MAILBOX_INACTIVE:
        return Act.COUNT
    match severity or SEVERITY[category]:
        case Severity.HARD:
            return Act.SUPPRESS
        case Severity.BLOCK:
            return Act.TELL_BLOCK
        case _:
            return Act.NOTHING


def is_for_every_stream(said: Said) -> bool:
    """Tell whether a suppression is for all of the tenant's mail, or for the stream that the message was in."""
    return said is Said.BOUNCED
