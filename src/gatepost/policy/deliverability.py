"""
How well a domain's mail gets through: a score from 0 to 100, what costs points, and why it moved.

Arrives: counts of the last days, how the domain keeps to receivers' rules, measured places in the inbox. Leaves: a score with its
components, each with weight, value, reason and what to do; the difference between two scores, component by component.
A rate of few recipients proves little: what counts is the rate that is at least so (the lower end of Wilson's interval), so that three
bounces of ten mails cost less than three hundred of a thousand. What nobody measured is unknown and neither raises nor lowers the score.
Points are lost, not won: the score is 100 less the cost of each component, so that costs add up and changes can be explained.
Standards: the thresholds are those of Gmail and Yahoo (complaints: 0.1 % and 0.3 %) and what the trade calls a clean list (bounces: 2 %).
Not here: who counts (store.rollups), the checks (policy.compliance), who writes scores down (upkeep.deliverability).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatepost.domain.outcome import Category
from gatepost.domain.placement import PlacementCounts
from gatepost.domain.stats import Counts

Curve = Sequence[tuple[float, float]]
"""Points (rate, value 0 to 1), the rates ascending; between two points a line."""

BLOCKS: Final = frozenset(
    one.value
    for one in (
        Category.REPUTATION_BLOCK, Category.SPAM_CONTENT, Category.CONTENT_REJECTED, Category.MALWARE, Category.AUTH_FAILURE,
        Category.POLICY_REJECTED, Category.RELAY_DENIED,
    )
)  # fmt: skip
"""Refusals for our own sake: who sends, from where, and what; every other bounce is about the list."""
LEAST: Final = 50
"""Recipients without which a rate is not judged at all."""
LEAST_PLACED: Final = 5
"""And test mails."""
SHOWN_POINTS: Final = 0.5
"""A component that moved less is not worth a word."""
_Z: Final = 1.0
_STEADY: Final = 3
_BASE_DAYS: Final = 7


class Component(StrEnum):
    """What the score is made of."""

    AUTHENTICATION = "authentication"
    BOUNCES = "bounces"
    COMPLAINTS = "complaints"
    BLOCKS = "blocks"
    DEFERRALS = "deferrals"
    ENGAGEMENT = "engagement"
    PLACEMENT = "placement"


WEIGHTS: Final[Mapping[Component, int]] = {
    Component.AUTHENTICATION: 20, Component.BOUNCES: 20, Component.COMPLAINTS: 25, Component.BLOCKS: 15, Component.DEFERRALS: 5,
    Component.ENGAGEMENT: 5, Component.PLACEMENT: 10,
}  # fmt: skip
_CURVES: Final[Mapping[Component, Curve]] = {
    Component.BOUNCES: ((0.005, 1.0), (0.02, 0.7), (0.05, 0.3), (0.10, 0.0)),
    Component.COMPLAINTS: ((0.0005, 1.0), (0.001, 0.7), (0.003, 0.2), (0.005, 0.0)),
    Component.BLOCKS: ((0.001, 1.0), (0.01, 0.6), (0.05, 0.0)),
    Component.DEFERRALS: ((0.05, 1.0), (0.15, 0.6), (0.50, 0.0)),
    Component.ENGAGEMENT: ((0.02, 0.0), (0.10, 0.5), (0.20, 1.0)),
    Component.PLACEMENT: ((0.50, 0.0), (0.80, 0.5), (0.95, 1.0)),
}
_ADVICE: Final[Mapping[Component, str]] = {
    Component.AUTHENTICATION: "publish what the domain's page lists under DNS",
    Component.BOUNCES: "take addresses that bounce out of your own list, and confirm new ones by mail before you write to them",
    Component.COMPLAINTS: "send only to who asked for it, make leaving easy (List-Unsubscribe), and stop writing to who never reads",
    Component.BLOCKS: "read the replies of what was refused: check blocklists and content, and send less there until mail is taken again",
    Component.DEFERRALS: "send more slowly to the sites that defer: lower the pace in shaping, spread big mailings over hours",
    Component.ENGAGEMENT: "write less often to who has not opened anything for months",
    Component.PLACEMENT: "compare the seed mailboxes' Authentication-Results, then content and list; ease off until the inbox is reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a domain keeps to receivers' rules; see `policy.compliance`."""

    score: int | None
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One component.

    Attributes:
        value: 0 to 100; None is unknown.
        cost: Points that it takes from the score, from 0 to its weight's share of what is known.
        reason: What was seen.
        advice: What to do; empty where it costs nothing.
        rate: The rate that was seen, where it is one.
    """

    component: Component
    weight: int
    value: int | None
    cost: float
    reason: str
    advice: str = ""
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """
    A domain's score.

    Attributes:
        score: 0 to 100; None when nothing is known.
        known: Share of the weights, in percent, that could be judged.
        recipients: That the rates are of.
    """

    score: int | None
    known: int
    recipients: int
    parts: tuple[Part, ...]

    @property
    def next_step(self) -> str:
        """What to do first: about what costs most."""
        worst = max(self.parts, key=lambda part: part.cost, default=None)
        return worst.advice if worst is not None and worst.cost >= SHOWN_POINTS else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    Why a score moved.

    Attributes:
        points: What the component changed of the score; below 0 it got worse.
        before: What had been seen.
        after: What is seen now.
    """

    component: Component
    points: float
    before: str
    after: str
    advice: str


class Direction(StrEnum):
    """Where a score goes."""

    RISING = "rising"
    STEADY = "steady"
    FALLING = "falling"
    UNKNOWN = "unknown"


def evaluate(counts: Counts, standing: Standing, placement: PlacementCounts | None = None) -> Score:
    """
    Judge a domain.

    Args:
        counts: Of the last days, of real mail only.
        placement: Of the same days; None where nobody measures it.
    """
    found = [_authentication(standing), *_rates(counts), _engagement(counts), _placement(placement)]
    known = sum(part.weight for part in found if part.value is not None)
    parts = tuple(_with_cost(part, known) for part in found)
    return Score(
        score=round(100 - sum(part.cost for part in parts)) if known else None, known=round(100 * known / sum(WEIGHTS.values())),
        recipients=max(counts.ended, counts.attempted), parts=parts,
    )  # fmt: skip


def compare(before: Score, after: Score) -> tuple[Change, ...]:
    """
    Explain what moved a score, what moved it most first; the points of all components together are the difference.

    A score that begins, or ends, for want of anything known did not move.
    """
    if before.score is None or after.score is None:
        return ()
    earlier = {part.component: part for part in before.parts}
    found = []
    for part in after.parts:
        old = earlier.get(part.component)
        points = (old.cost if old else 0.0) - part.cost
        if abs(points) >= SHOWN_POINTS:
            was = old.reason if old else "not known"
            found.append(Change(component=part.component, points=round(points, 1), before=was, after=part.reason, advice=part.advice))
    return tuple(sorted(found, key=lambda change: (-abs(change.points), change.component.value)))


def direction_of(scores: Sequence[int | None]) -> Direction:
    """
    Say where a score goes: the last one against the middle of the seven days before.

    Args:
        scores: One a day, the oldest first; None where nothing was known.
    """
    known = [score for score in scores if score is not None]
    if len(known) < 2 or scores[-1] is None:
        return Direction.UNKNOWN
    base = sorted(known[-1 - _BASE_DAYS : -1])
    difference = known[-1] - base[len(base) // 2]
    if abs(difference) < _STEADY:
        return Direction.STEADY
    return Direction.RISING if difference > 0 else Direction.FALLING


def blocked_of(counts: Counts) -> int:
    """Return how many bounces were refusals for our own sake."""
    return sum(count for category, count in counts.bounces.items() if category in BLOCKS)


def least_rate(part: int, whole: int) -> float:
    """
    Return the rate that is at least so: the lower end of Wilson's interval at one standard deviation.

    Args:
        whole: More than 0.
    """
    share, z2 = min(max(part / whole, 0.0), 1.0), _Z * _Z
    middle = share + z2 / (2 * whole)
    spread = _Z * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole))
    return max(0.0, (middle - spread) / (1 + z2 / whole))


def percent(rate: float) -> str:
    """Write a rate for people: small ones with more digits."""
    return f"{100 * rate:.2f} %" if 0 < rate < 0.01 else f"{100 * rate:.1f} %"


def _with_cost(part: Part, known: int) -> Part:
    if part.value is None:
        return part
    cost = part.weight * (100 - part.value) / known
    return Part(
        component=part.component, weight=part.weight, value=part.value, cost=round(cost, 2), reason=part.reason, rate=part.rate,
        advice=part.advice if part.value < 100 else "",
    )  # fmt: skip


def _authentication(standing: Standing) -> Part:
    if standing.score is None:
        return _unknown(Component.AUTHENTICATION, "nobody has looked at the domain's DNS yet")
    return Part(
        component=Component.AUTHENTICATION, weight=WEIGHTS[Component.AUTHENTICATION], value=standing.score, cost=0.0,
        reason=f"{standing.score} of 100 of what receivers ask is kept to", advice=standing.next_step or _ADVICE[Component.AUTHENTICATION],
    )  # fmt: skip


def _rates(counts: Counts) -> list[Part]:
    blocked = blocked_of(counts)
    bounced = max(counts.bounced - counts.left_bounced - blocked, 0)
    return [
        _rate(Component.BOUNCES, bounced, counts.ended, "recipients bounced for reasons of the list"),
        _rate(Component.COMPLAINTS, counts.complained, counts.reached, "recipients complained"),
        _rate(Component.BLOCKS, blocked, counts.ended, "recipients were refused for our own sake"),
        _rate(Component.DEFERRALS, counts.deferred_first, counts.attempted, "first attempts were deferred"),
    ]


def _engagement(counts: Counts) -> Part:
    """Judge openings, where anything counts them: a domain whose mail is not tracked has none, which says nothing."""
    if not (counts.opened or counts.machine_opens or counts.clicked):
        return _unknown(Component.ENGAGEMENT, "opens are not measured")
    return _rate(Component.ENGAGEMENT, max(counts.opened, counts.clicked), counts.reached, "recipients opened or clicked", is_good=True)


def _placement(placement: PlacementCounts | None) -> Part:
    if placement is None or not placement.measured:
        return _unknown(Component.PLACEMENT, "places in the inbox are not measured")
    if placement.measured < LEAST_PLACED:
        return _unknown(Component.PLACEMENT, f"{placement.measured} test mails are too few to say")
    rate, away = placement.inbox / placement.measured, placement.spam + placement.missing
    judged = 1 - least_rate(away, placement.measured)
    return Part(
        component=Component.PLACEMENT, weight=WEIGHTS[Component.PLACEMENT], value=_value(Component.PLACEMENT, judged), cost=0.0, rate=rate,
        reason=f"{percent(rate)} of {placement.measured:,} test mails in the inbox, {placement.spam:,} in the spam folder,"
        f" {placement.missing:,} missing", advice=_ADVICE[Component.PLACEMENT],
    )  # fmt: skip


def _rate(component: Component, part: int, whole: int, words: str, *, is_good: bool = False) -> Part:
    if whole < LEAST:
        return _unknown(component, f"{whole:,} recipients are too few to say" if whole else "no mail in these days")
    part = min(part, whole)
    # of a good thing the least that may be missing counts, of a bad one the least that there is
    judged = 1 - least_rate(whole - part, whole) if is_good else least_rate(part, whole)
    rate = part / whole
    return Part(
        component=component, weight=WEIGHTS[component], value=_value(component, judged), cost=0.0, rate=rate,
        reason=f"{percent(rate)}: {part:,} of {whole:,} {words}", advice=_ADVICE[component],
    )  # fmt: skip


def _unknown(component: Component, reason: str) -> Part:
    return Part(component=component, weight=WEIGHTS[component], value=None, cost=0.0, reason=reason)


def _value(component: Component, rate: float) -> int:
    curve = _CURVES[component]
    if rate <= curve[0][0]:
        return round(100 * curve[0][1])
    for (low, value), (high, next_value) in itertools.pairwise(curve):
        if rate <= high:
            return round(100 * (value + (next_value - value) * (rate - low) / (high - low)))
    return round(100 * curve[-1][1])
