"""
What is unusual: a rate against its own history.

Arrives: what happened lately, and the same of earlier spans of the same length. Leaves: a finding, or nothing.
A rate is compared by a beta-binomial distribution: how likely is it to see so many of so many, when the rate itself wanders as much as it
did before. Its middle is the median and its width the median absolute deviation of the history, so that one bad day of the past does not
make the next one usual. Whoever sends a newsletter on Tuesdays has bad Tuesdays: a finding must be unusual against the same weekday and
hour, too. Small numbers prove nothing, and a rate that is small in itself alarms nobody.
How much is sent is compared in the same way on a scale of factors: it must leave what was seen at this time of the week, and by much.
Not here: reading counts and writing findings down (upkeep.unusual), telling anybody (webhooks; alerts).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

from gatepost.domain.stats import Counts
from gatepost.policy.deliverability import blocked_of, percent


class Metric(StrEnum):
    """What is looked at."""

    BOUNCES = "bounces"
    BLOCKS = "blocks"
    COMPLAINTS = "complaints"
    DEFERRALS = "deferrals"
    UNSUBSCRIBES = "unsubscribes"
    OPENS = "opens"
    VOLUME = "volume"


class Window(StrEnum):
    """How long a time is looked at, and compared with as long ones before."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Sample:
    """So many of so many; of a volume, `part` is it and `whole` is 0."""

    part: int
    whole: int = 0

    @property
    def rate(self) -> float:
        """The part of the whole."""
        return self.part / self.whole if self.whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    When a rate is worth looking at.

    Attributes:
        of: Reads it out of counts.
        least_whole: Recipients below which nothing is said.
        least_rate: A rate below this alarms nobody, whatever it was before. For rates that should be high: what it usually is at least.
        least_excess: So many more than expected (fewer, where it should be high).
        factor: And so many times as many.
        is_good: It should be high.
        advice: What to do first.
    """

    of: Callable[[Counts], Sample]
    least_whole: int
    least_rate: float
    least_excess: int
    factor: float = 2.0
    is_good: bool = False
    words: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    Something unusual.

    Attributes:
        expected: The rate, or the volume, that history made likely.
        seen: What it is.
        likelihood: Of seeing this, or worse, in a time like those before; 0 for a volume, which is compared by factors.
    """

    metric: Metric
    window: Window
    part: int
    whole: int
    expected: float
    seen: float
    likelihood: float
    detail: str
    advice: str


OPENS_AT: Final = 1e-6
"""Likelihood below which a finding is made: thousands of rates are looked at hundreds of times a day."""
CLOSES_AT: Final = 1e-2
"""And above which one is over."""
LEAST_HISTORY: Final = 7
"""Spans with enough mail, without which nobody knows what is usual."""
LEAST_RHYTHM: Final = 2
"""Spans at the same time of the week, without which there is no rhythm to be heard."""
_MAD: Final = 1.4826
"""Makes a median absolute deviation comparable with a standard deviation."""
_MOST_TERMS: Final = 5_000
_LEAST_VOLUME: Final = 200
_VOLUME_FACTOR: Final = 4.0
_VOLUME_OVER: Final = 2.0


def _bounces(counts: Counts) -> Sample:
    return Sample(max(counts.bounced - counts.left_bounced - blocked_of(counts), 0), counts.ended)


RULES: Final[Mapping[Metric, Rule]] = {
    Metric.BOUNCES: Rule(
        of=_bounces, least_whole=100, least_rate=0.01, least_excess=10, words="recipients bounced",
        advice="look at the newest bounces: a list that was imported, or a form that robots fill in",
    ),
    Metric.BLOCKS: Rule(
        of=lambda counts: Sample(blocked_of(counts), counts.ended), least_whole=100, least_rate=0.005, least_excess=10,
        words="recipients were refused for our own sake", advice="read the replies: a blocklist, a broken DKIM record, or new content",
    ),
    Metric.COMPLAINTS: Rule(
        of=lambda counts: Sample(counts.complained, counts.reached), least_whole=500, least_rate=0.0005, least_excess=3,
        words="recipients complained", advice="stop the mailing that they complain about, and look where its addresses came from",
    ),
    Metric.DEFERRALS: Rule(
        of=lambda counts: Sample(counts.deferred_first, counts.attempted), least_whole=100, least_rate=0.10, least_excess=50,
        words="first attempts were deferred", advice="look at the queue by site: who defers, and what they say",
    ),
    Metric.UNSUBSCRIBES: Rule(
        of=lambda counts: Sample(counts.unsubscribed, counts.reached), least_whole=500, least_rate=0.005, least_excess=10,
        words="recipients unsubscribed", advice="look at what was sent to whom: too often, or not what they asked for",
    ),
    Metric.OPENS: Rule(
        of=lambda counts: Sample(counts.opened, counts.reached), least_whole=500, least_rate=0.05, least_excess=50, is_good=True,
        words="recipients opened", advice="mail may have moved to the spam folder: look at seed mailboxes and at what changed",
    ),
}  # fmt: skip


WINDOWS: Final[Mapping[Metric, tuple[Window, ...]]] = {
    **dict.fromkeys((Metric.BOUNCES, Metric.BLOCKS, Metric.COMPLAINTS, Metric.DEFERRALS), (Window.HOUR, Window.DAY)),
    **dict.fromkeys((Metric.UNSUBSCRIBES, Metric.OPENS, Metric.VOLUME), (Window.DAY,)),
}
"""What people do comes hours after the mail, and mailings do not keep to the hour: those are looked at over a day only."""


def sample_of(metric: Metric, counts: Counts) -> Sample:
    """Read a metric out of counts."""
    return volume_of(counts) if metric is Metric.VOLUME else RULES[metric].of(counts)


def volume_of(counts: Counts) -> Sample:
    """Return how much was accepted."""
    return Sample(counts.accepted)


def judge(
    metric: Metric, window: Window, now: Sample, history: Sequence[Sample], rhythm: Sequence[Sample], *, threshold: float = OPENS_AT
) -> Finding | None:
    """
    Look at one rate.

    Args:
        now: Of the last span.
        history: Of the spans before, in any order.
        rhythm: Those of them at the same time of the week.
        threshold: `OPENS_AT`, or `CLOSES_AT` to ask whether one that was found is still there.

    Returns:
        What is unusual; None also where too little is known to say.
    """
    if metric is Metric.VOLUME:
        return _judge_volume(window, now, history, rhythm, is_open=threshold > OPENS_AT)
    rule = RULES[metric]
    known = [one for one in history if one.whole >= rule.least_whole]
    if now.whole < rule.least_whole or len(known) < LEAST_HISTORY:
        return None
    same = [one for one in rhythm if one.whole >= rule.least_whole]
    if rule.is_good:
        expected, likelihood = _lower(now, known, same)
        is_worth_it = expected >= rule.least_rate and expected * now.whole - now.part >= rule.least_excess
        is_far = now.rate * rule.factor <= expected
    else:
        expected, likelihood = _upper(now, known, same)
        is_worth_it = now.rate >= rule.least_rate and now.part - expected * now.whole >= rule.least_excess
        is_far = now.rate >= expected * rule.factor
    if likelihood > threshold or not is_worth_it or not (is_far or threshold > OPENS_AT):
        return None
    return Finding(
        metric=metric, window=window, part=now.part, whole=now.whole, expected=expected, seen=now.rate, likelihood=likelihood,
        detail=f"{percent(now.rate)} of {now.whole:,} {rule.words} in {_span(window)}; usual is {percent(expected)}", advice=rule.advice,
    )  # fmt: skip


def can_say(metric: Metric, now: Sample) -> bool:
    """Tell whether a span has enough mail to say that what was unusual is over: silence is no recovery."""
    return metric is Metric.VOLUME or now.whole >= RULES[metric].least_whole


def _upper(now: Sample, known: Sequence[Sample], same: Sequence[Sample]) -> tuple[float, float]:
    """Return the expected rate, and how likely so many or more are; the more lenient of both histories counts."""
    expected, spread = _middle(known)
    likelihood = tail(now.part, now.whole, *_shape(expected, spread, known))
    if len(same) >= LEAST_RHYTHM and (worst := max(_smooth(one) for one in same)) > expected:
        expected = worst
        likelihood = max(likelihood, tail(now.part, now.whole, *_shape(worst, spread, same)))
    return expected, likelihood


def _lower(now: Sample, known: Sequence[Sample], same: Sequence[Sample]) -> tuple[float, float]:
    """Do the same for a rate that should be high: by those who did not."""
    other = Sample(now.whole - min(now.part, now.whole), now.whole)
    expected, likelihood = _upper(
        other, [Sample(one.whole - min(one.part, one.whole), one.whole) for one in known],
        [Sample(one.whole - min(one.part, one.whole), one.whole) for one in same],
    )  # fmt: skip
    return 1 - expected, likelihood


def _smooth(one: Sample) -> float:
    """Return a rate that is never quite 0 or 1 (Jeffreys' prior)."""
    return (one.part + 0.5) / (one.whole + 1)


def _middle(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the median of rates, and how far they are from it."""
    rates = [_smooth(one) for one in samples]
    middle = median(rates)
    return middle, _MAD * median(abs(rate - middle) for rate in rates)


def _shape(middle: float, spread: float, samples: Sequence[Sample]) -> tuple[float, float]:
    """
    Return the parameters of the beta distribution that a rate is drawn from.

    It is as wide as the rates were apart, and never narrower than what so few recipients can tell of it.
    """
    middle = min(max(middle, 1e-7), 1 - 1e-7)
    seen = sum(one.whole for one in samples) + 1.0
    by_spread = middle * (1 - middle) / (spread * spread) - 1 if spread > 0 else seen
    weight = min(max(by_spread, 2.0), seen)
    return middle * weight, (1 - middle) * weight


def tail(part: int, whole: int, alpha: float, beta: float) -> float:
    """
    Return how likely `part` or more of `whole` are under a beta-binomial distribution.

    Args:
        alpha: Of the beta distribution, as `beta` is; both above 0.
    """
    if part <= 0:
        return 1.0
    if part <= whole * alpha / (alpha + beta):  # not above the mean: nobody asks how usual it is
        return 1.0
    # beyond the mean the terms fall: add them up from the first one on, each from the one before
    total = term = math.exp(_log_term(part, whole, alpha, beta))
    for k in range(part, min(whole, part + _MOST_TERMS)):
        term *= (whole - k) * (k + alpha) / ((k + 1) * (whole - k - 1 + beta))
        total += term
        if term <= total * 1e-9:
            break
    return min(total, 1.0)


def _log_term(k: int, n: int, alpha: float, beta: float) -> float:
    return (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + math.lgamma(k + alpha) + math.lgamma(n - k + beta) - math.lgamma(n + alpha + beta)
        + math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
    )  # fmt: skip


def _judge_volume(window: Window, now: Sample, history: Sequence[Sample], rhythm: Sequence[Sample], *, is_open: bool) -> Finding | None:
    """Look at how much is sent: far less, or far more, than at any time like this one."""
    if len(history) < LEAST_HISTORY or len(rhythm) < LEAST_RHYTHM:
        return None
    parts = [one.part for one in rhythm]
    expected = median(parts)
    factor = _VOLUME_OVER if is_open else _VOLUME_FACTOR
    is_drop = min(parts) >= _LEAST_VOLUME and now.part * factor <= min(parts)
    highest = max(one.part for one in history)
    is_surge = now.part >= factor * max(highest, 1) and now.part - expected >= _LEAST_VOLUME
    if not (is_drop or is_surge):
        return None
    return Finding(
        metric=Metric.VOLUME, window=window, part=now.part, whole=0, expected=float(expected), seen=float(now.part), likelihood=0.0,
        detail=f"{now.part:,} recipients in {_span(window)}; usual at this time of the week are {round(expected):,}",
        advice="look which key sends: somebody may use one that is not theirs" if is_surge
        else "look whether the applications that send still reach the gateway",
    )  # fmt: skip


def _span(window: Window) -> str:
    return "an hour" if window is Window.HOUR else "24 hours"
