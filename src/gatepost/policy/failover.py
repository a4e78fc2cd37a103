"""
Where a recipient goes on when its road fails: the one table of what a failure means for the road.

Arrives: a route, the road that was taken, what the attempt came to. Leaves: the next road, now or after the schedule's wait;
or None: what was decided without a second road stays as it is.

- The road's own trouble (no connection, quota, account, our reputation there, its TLS policy): the next road, now.
- A word about the recipient or the content: final, and never asked for again elsewhere.
- "Later" from the recipient's own host, as greylisting says it: the same road, which is the one that greylisting remembers;
  after `patience` attempts without progress the next road gets its turn.
- Nobody knows whether it was delivered: the same road, and only that, until `unsure_attempts` have passed.
- Every road was tried: the schedule's wait, and then from the best road on.

Standards: RFC 5321 §4.5.4.1 (retry), RFC 1047 (duplicates).
Not here: health and breakers (health), the schedule (retry).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Reply, Unknown
from gatepost.domain.route import Road, RoadKind

MOST_ROADS: Final = 12
"""Roads of one route at most: each has a bit in a queue row."""
MAY_WORK_LATER: Final = 1 << 16
"""Beside those bits: one of the roads that were tried failed only for now."""
UNSURE: Final = 1 << 17
"""Beside those bits: the mail may have been delivered by the road that the row is on."""

NO_PROGRESS: Final = "no_progress"
TLS_POLICY: Final = "tls_policy"
POSSIBLE_DUPLICATE: Final = "possible_duplicate"

OVERFLOWING: Final = frozenset({"warm_up_cap", "site_suspended", "site_unreachable", "tls_policy"})
"""Causes of waits of a place for which its mail rather takes the next road."""

TURNING_OFF: Final = OVERFLOWING | {"breaker_open", "road_disabled", "relay_missing"}
"""Causes of waits, of a place or of its road, for which mail looks for the next road."""

_RECIPIENTS = frozenset({Category.INVALID_RECIPIENT, Category.INVALID_DOMAIN, Category.MAILBOX_INACTIVE, Category.MAILBOX_FULL})
_MAILS = frozenset({Category.SPAM_CONTENT, Category.CONTENT_REJECTED, Category.MALWARE, Category.MESSAGE_TOO_LARGE, Category.EXPIRED})
_OURS = frozenset({Category.REPUTATION_BLOCK, Category.RATE_LIMITED})
_GREY = ("greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    How patient we are.

    Attributes:
        patience: After so many attempts without progress the next road gets its turn.
        unsure_attempts: After so many attempts mail that may have been delivered goes by another road after all; 0 is never.
    """

    patience: int = 3
    unsure_attempts: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    Where a recipient goes on.

    Attributes:
        at: Number of the road in the route.
        tried: What its queue row says of this round.
        is_later: The schedule's wait comes first.
        is_unsure: It may be delivered twice by this.
    """

    at: int
    tried: int
    cause: str
    is_later: bool = False
    is_unsure: bool = False


def plan(
    roads: Sequence[Road], at: int, tried: int, retries: int, outcome: Outcome | None, *,
    is_shut: Callable[[Road], bool], rules: Rules, blocked_by: str = "",
) -> Plan | None:  # fmt: skip
    """
    Choose how a recipient goes on.

    Args:
        at: Number of the road that it is on.
        tried: What its queue row says of the round so far.
        retries: Attempts so far that used up the schedule, this one not counted.
        outcome: What the attempt came to; None where nothing was tried, because the road takes nothing.
        blocked_by: Then: why.

    Returns:
        None where what was decided without a second road stays as it is: a delivery, a bounce, a wait on the same road.
    """
    if isinstance(outcome, Delivered):
        return None
    if isinstance(outcome, Unknown):
        return Plan(at=at, tried=UNSURE, cause=POSSIBLE_DUPLICATE, is_later=True)
    is_unsure = bool(tried & UNSURE)
    if is_unsure and not 0 < rules.unsure_attempts <= retries + 1:
        return Plan(at=at, tried=UNSURE, cause=POSSIBLE_DUPLICATE, is_later=True) if isinstance(outcome, Deferred) else None
    cause = blocked_by if outcome is None else _leaves(outcome, roads[at].kind, retries + 1 >= rules.patience)
    if cause is None:
        return Plan(at=at, tried=UNSURE, cause=POSSIBLE_DUPLICATE, is_later=True) if is_unsure and isinstance(outcome, Deferred) else None
    tried = (tried & ~UNSURE) | 1 << at | (0 if isinstance(outcome, Failed) else MAY_WORK_LATER)
    untried = [n for n in range(len(roads)) if not tried >> n & 1]
    usable = [n for n in untried if not is_shut(roads[n])]
    if usable:
        return Plan(at=usable[0], tried=tried, cause=cause, is_unsure=is_unsure)
    usable = [n for n in range(len(roads)) if n != at and not is_shut(roads[n])]
    if outcome is None:  # nothing was tried here: one that failed before may be better by now than waiting
        return Plan(at=usable[0], tried=1 << at | MAY_WORK_LATER, cause=cause, is_unsure=is_unsure) if usable else None
    if isinstance(outcome, Failed) and not untried and not tried & MAY_WORK_LATER:
        return None  # every road says never
    best = next((n for n, road in enumerate(roads) if not is_shut(road)), 0)
    stays_unsure = is_unsure and best == at
    return Plan(at=best, tried=UNSURE if stays_unsure else 0, cause=cause, is_later=True, is_unsure=is_unsure and not stays_unsure)


def _leaves(outcome: Deferred | Failed, kind: RoadKind, is_out_of_patience: bool) -> str | None:  # noqa: FBT001 - one of three facts
    """Say why mail leaves its road; None when it stays."""
    category = outcome.category
    if isinstance(outcome, Failed):
        is_road = category in _OURS or (kind is RoadKind.RELAY and category is Category.RELAY_DENIED)
        return category.value if is_road and not _is_mailbox(outcome.reply) else None
    if category in _RECIPIENTS or category in _MAILS or _is_mailbox(outcome.reply) or is_our_own(outcome):
        return None
    if category is Category.NETWORK:
        return TLS_POLICY if outcome.reply is None and _has_strict_tls(outcome) else category.value
    if category is Category.RATE_LIMITED and _is_greylisting(outcome.reply):
        return NO_PROGRESS if is_out_of_patience else None
    if category in _OURS or kind is RoadKind.RELAY:
        return category.value
    if outcome.reply is None and _has_strict_tls(outcome):
        return TLS_POLICY
    return NO_PROGRESS if is_out_of_patience else None


def is_our_own(outcome: Outcome) -> bool:
    """Tell whether an attempt failed before any road was taken: our disk, our keys."""
    return isinstance(outcome, Deferred) and outcome.category is Category.REMOTE_SYSTEM and outcome.reply is None and not outcome.counts


def _has_strict_tls(outcome: Deferred) -> bool:
    return outcome.exchange.tls_policy in {"required", "dane", "sts:enforce"}


def _is_mailbox(reply: Reply | None) -> bool:
    """True for a word about the recipient's mailbox (RFC 3463 §3.3), whatever its text sounds like."""
    return reply is not None and reply.enhanced is not None and reply.enhanced.split(".")[1:2] == ["2"]


def _is_greylisting(reply: Reply | None) -> bool:
    return reply is not None and any(word in reply.text.lower() for word in _GREY)
