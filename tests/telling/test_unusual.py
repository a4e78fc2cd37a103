"""What is unusual: found when it is there, silent when it is not."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.policy.unusual import CLOSES_AT, Metric, Sample, Window, judge, tail

QUIET = [Sample(100, 10_000)] * 34


def days(rates: list[float], whole: int = 10_000) -> tuple[list[Sample], list[Sample]]:
    """Earlier days, the newest first, with those of the same weekday."""
    history = [Sample(round(rate * whole), whole) for rate in rates]
    return history, [history[n] for n in range(6, len(history), 7)]


def test_a_jump_is_found_with_what_was_usual_and_what_to_do():
    """One per cent for weeks, six today."""
    history, rhythm = days([0.01] * 34)
    found = judge(Metric.BOUNCES, Window.DAY, Sample(600, 10_000), history, rhythm)
    assert found is not None
    assert (round(found.expected, 3), found.seen, found.part) == (0.01, 0.06, 600)
    assert found.likelihood < 1e-6
    assert "6.0 %" in found.detail
    assert found.advice


def test_a_usual_day_is_quiet():
    """Within what the days before were."""
    history, rhythm = days([0.008, 0.012, 0.01, 0.009, 0.011, 0.014, 0.007] * 5)
    assert judge(Metric.BOUNCES, Window.DAY, Sample(150, 10_000), history, rhythm) is None


def test_small_numbers_alarm_nobody():
    """Half of forty mails bounce, or three of four hundred: too few to say anything."""
    history, rhythm = days([0.01] * 34)
    assert judge(Metric.BOUNCES, Window.DAY, Sample(20, 40), history, rhythm) is None
    assert judge(Metric.COMPLAINTS, Window.DAY, Sample(2, 800), *days([0.0001] * 34)) is None


def test_who_is_new_has_no_usual():
    """Six days of mail are no history."""
    history, rhythm = days([0.01] * 6)
    assert judge(Metric.BOUNCES, Window.DAY, Sample(900, 10_000), history, rhythm) is None


def test_a_bad_weekday_is_that_weekdays_rhythm():
    """Newsletters on Tuesdays bounce more, every week; the same on a Wednesday is news."""
    rates = [0.06 if n % 7 == 6 else 0.005 for n in range(34)]
    history, rhythm = days(rates)
    assert judge(Metric.BOUNCES, Window.DAY, Sample(610, 10_000), history, rhythm) is None
    shifted = [0.06 if n % 7 == 5 else 0.005 for n in range(34)]
    assert judge(Metric.BOUNCES, Window.DAY, Sample(610, 10_000), *days(shifted)) is not None


def test_one_bad_day_of_the_past_does_not_hide_the_next():
    """Median and MAD: an outlier in the history changes neither."""
    history, rhythm = days([0.01] * 10 + [0.5] + [0.01] * 23)
    assert judge(Metric.BOUNCES, Window.DAY, Sample(600, 10_000), history, rhythm) is not None


def test_rates_that_always_wander_need_more():
    """Deferrals between ten and forty per cent: fifty is no news, ninety is."""
    rates = [0.1, 0.35, 0.2, 0.4, 0.15, 0.3, 0.25] * 5
    assert judge(Metric.DEFERRALS, Window.DAY, Sample(5_000, 10_000), *days(rates)) is None
    assert judge(Metric.DEFERRALS, Window.DAY, Sample(9_900, 10_000), *days(rates)) is not None


def test_opens_are_unusual_when_they_fall():
    """Forty per cent opened for weeks, eight today; more than ever is no alarm."""
    history, rhythm = days([0.38, 0.4, 0.42] * 11)
    assert judge(Metric.OPENS, Window.DAY, Sample(800, 10_000), history, rhythm) is not None
    assert judge(Metric.OPENS, Window.DAY, Sample(9_000, 10_000), history, rhythm) is None


def test_what_was_found_lasts_until_it_is_clearly_over():
    """Between opening and closing lies a band, so that nothing opens and closes all day."""
    history, rhythm = days([0.01] * 34)
    between = Sample(165, 10_000)
    assert judge(Metric.BOUNCES, Window.DAY, between, history, rhythm) is None
    assert judge(Metric.BOUNCES, Window.DAY, between, history, rhythm, threshold=CLOSES_AT) is not None
    assert judge(Metric.BOUNCES, Window.DAY, Sample(105, 10_000), history, rhythm, threshold=CLOSES_AT) is None


def test_volume_keeps_to_the_week():
    """Nothing on Sundays is usual on a Sunday; on a Tuesday it is an application that does not reach us."""
    volumes = [Sample(10 if n % 7 == 6 else 5_000) for n in range(34)]
    same = [volumes[n] for n in range(6, 34, 7)]
    assert judge(Metric.VOLUME, Window.DAY, Sample(8), volumes, same) is None
    weekday = [Sample(5_000)] * 34
    dropped = judge(Metric.VOLUME, Window.DAY, Sample(8), weekday, weekday[:4])
    assert dropped is not None
    assert "reach the gateway" in dropped.advice
    surge = judge(Metric.VOLUME, Window.DAY, Sample(60_000), weekday, weekday[:4])
    assert surge is not None
    assert "key" in surge.advice
    assert judge(Metric.VOLUME, Window.DAY, Sample(12_000), weekday, weekday[:4]) is None
    small = [Sample(20)] * 34
    assert judge(Metric.VOLUME, Window.DAY, Sample(0), small, small[:4]) is None


def test_a_year_of_ordinary_mail_raises_no_alarm():
    """Rates that wander from day to day, with the noise of chance: none of 300 days is called unusual."""
    chance = random.Random(7)
    whole = 3_000
    samples = []
    for _ in range(340):
        rate = chance.betavariate(20, 980)
        samples.append(Sample(sum(chance.random() < rate for _ in range(whole)), whole))
    for day in range(300):
        history = samples[day + 1 : day + 35]
        assert judge(Metric.BOUNCES, Window.DAY, samples[day], history, history[6::7]) is None, day


@settings(max_examples=60, deadline=None)
@given(whole=st.integers(1, 120), alpha=st.floats(0.2, 40), beta=st.floats(0.2, 40), data=st.data())
def test_the_tail_is_the_sum_of_the_distribution(whole, alpha, beta, data):
    """Beyond the mean it equals the plain sum of beta-binomial terms; at and below it nobody asks."""
    part = data.draw(st.integers(0, whole))

    def term(k: int) -> float:
        def log_beta(a: float, b: float) -> float:
            return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

        choose = math.lgamma(whole + 1) - math.lgamma(k + 1) - math.lgamma(whole - k + 1)
        return math.exp(choose + log_beta(k + alpha, whole - k + beta) - log_beta(alpha, beta))

    expected = sum(term(k) for k in range(part, whole + 1)) if part > whole * alpha / (alpha + beta) else 1.0
    assert tail(part, whole, alpha, beta) == pytest.approx(expected, rel=1e-6, abs=1e-12)
