"""
Is a relay keeping its promises? Objectives over windows of time, and how fast their budget burns.

Arrives: counts per minute of good and bad attempts. Leaves: for each objective the burn rates and a judgement. Pure.
A budget is the share that may go wrong; a burn rate of 1 uses it up exactly in its period of thirty days. An alarm needs a long
window, so that a moment's trouble is none, and a short one beside it, so that it ends when the trouble ends: the method of
multi-window, multi-burn-rate alerts (Site Reliability Workbook, chapter 5).
Not here: counting (watch.relays), what an alarm does (whoever chooses roads).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatepost.domain.outcome import Category

PERIOD_DAYS: Final = 30
_LEAST: Final = 10
"""Fewer attempts than this in the long window say nothing."""

RELAY_FAULTS: Final = frozenset(
    {
        Category.AUTH_FAILURE.value, Category.RELAY_DENIED.value, Category.RATE_LIMITED.value, Category.NETWORK.value,
        Category.REMOTE_SYSTEM.value,
    }
)  # fmt: skip
"""Categories of an attempt that are the relay's trouble, not its recipient's; `AUTH_FAILURE` is our own credentials there."""


class Severity(StrEnum):
    """How bad it is."""

    NONE = "none"
    SLOW_BURN = "slow_burn"  # the budget will not last its period
    FAST_BURN = "fast_burn"  # it is used up within days, or hours


@dataclass(frozen=True, slots=True)
class Window:
    """An alarm: both windows burn at least so fast."""

    long_minutes: int
    short_minutes: int
    rate: float
    severity: Severity


WINDOWS: Final = (
    Window(60, 5, 14.4, Severity.FAST_BURN),
    Window(6 * 60, 30, 6.0, Severity.FAST_BURN),
    Window(3 * 24 * 60, 6 * 60, 1.0, Severity.SLOW_BURN),
)
LONGEST_MINUTES: Final = max(window.long_minutes for window in WINDOWS)


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in one minute since the epoch."""

    minute: int
    total: int
    bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """How fast one pair of windows burns; None where too little happened."""

    long_minutes: int
    long_rate: float | None
    short_minutes: int
    short_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What an objective came to.

    Attributes:
        target: The share that must be good.
        good_share: The share that was, over the longest window; None when nothing happened.
    """

    name: str
    target: float
    severity: Severity
    good_share: float | None
    total: int
    burns: tuple[Burn, ...]


def judge(name: str, target: float, samples: Iterable[Sample], now_minute: int) -> Judgement:
    """
    Hold counts against an objective.

    Args:
        target: Between 0 and 1: the share of attempts that must be good.
        samples: In no order; those of the running minute count, too.
    """
    known = [sample for sample in samples if 0 <= now_minute - sample.minute < LONGEST_MINUTES]
    burns, worst = [], Severity.NONE
    for window in WINDOWS:
        long_rate = _rate(known, now_minute, window.long_minutes, target, least=_LEAST)
        short_rate = _rate(known, now_minute, window.short_minutes, target, least=1)
        burns.append(Burn(long_minutes=window.long_minutes, long_rate=long_rate, short_minutes=window.short_minutes, short_rate=short_rate))
        if (long_rate or 0) >= window.rate and (short_rate or 0) >= window.rate:
            worst = max(worst, window.severity, key=list(Severity).index)
    total, bad = sum(one.total for one in known), sum(one.bad for one in known)
    return Judgement(
        name=name, target=target, severity=worst, good_share=None if not total else (total - bad) / total, total=total, burns=tuple(burns)
    )  # fmt: skip


def _rate(samples: Sequence[Sample], now_minute: int, minutes: int, target: float, *, least: int) -> float | None:
    inside = [sample for sample in samples if now_minute - sample.minute < minutes]
    total = sum(sample.total for sample in inside)
    if total < least:
        return None
    return (sum(sample.bad for sample in inside) / total) / (1 - target)
