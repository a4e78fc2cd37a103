"""Objectives: when a budget burns too fast, and when it does not."""

import pytest

from gatepost.policy.objectives import LONGEST_MINUTES, Sample, Severity, judge

NOW = 30_000_000


def samples(minutes: int, total: int, bad: int, *, until: int = 0) -> list[Sample]:
    """The same count in each of the last minutes."""
    return [Sample(NOW - n, total, bad) for n in range(until, minutes)]


def severity(given: list[Sample], target: float = 0.99) -> Severity:
    return judge("success", target, given, NOW).severity


def test_a_relay_that_is_down_is_noticed_within_minutes() -> None:
    """Five bad minutes of an hour are a burn of 8.3, ten are 16.7."""
    assert severity([*samples(LONGEST_MINUTES, 10, 0, until=5), *samples(5, 10, 10)]) is Severity.NONE
    assert severity([*samples(LONGEST_MINUTES, 10, 0, until=10), *samples(10, 10, 10)]) is Severity.FAST_BURN


def test_an_alarm_ends_when_the_trouble_ends() -> None:
    """The short window is good again although the long one still holds the trouble."""
    before = [*samples(LONGEST_MINUTES, 10, 0, until=61), *samples(60, 10, 10, until=31)]
    assert severity(before + samples(31, 10, 10)) is Severity.FAST_BURN
    assert severity(before + samples(31, 10, 0)) is Severity.NONE


def test_a_leak_that_lasts_is_a_slow_burn() -> None:
    """Two in a hundred fail for days where one may."""
    assert severity(samples(LONGEST_MINUTES, 100, 2)) is Severity.SLOW_BURN
    assert severity(samples(LONGEST_MINUTES, 1000, 9)) is Severity.NONE


def test_a_handful_of_attempts_says_nothing() -> None:
    """Three failures in an hour are no reason to wake anybody."""
    assert severity([Sample(NOW, 3, 3)]) is Severity.NONE
    found = judge("success", 0.99, [Sample(NOW, 3, 3)], NOW)
    assert found.burns[0].long_rate is None
    assert found.good_share == 0
    assert judge("success", 0.99, [], NOW).good_share is None


@pytest.mark.parametrize("target", [0.9, 0.95, 0.999])
def test_the_burn_rate_is_the_bad_share_over_the_budget(target: float) -> None:
    """A rate of one uses the budget up in its period exactly; what is older than the longest window does not count."""
    found = judge("success", target, [*samples(60, 1000, round(1000 * (1 - target))), Sample(NOW - LONGEST_MINUTES, 10**6, 10**6)], NOW)
    assert found.burns[0].long_rate == pytest.approx(1.0)
    assert found.total == 60_000
