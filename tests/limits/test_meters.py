"""The arithmetic of limits: sliding windows, calendar windows, and clocks that misbehave."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.domain.access import Per, parse_limit
from gatepost.policy.mailbox import mailbox_of
from gatepost.policy.quota import EMPTY, Meter, day_of, slice_of, window_of

NOW = 1_764_000_000_000


def at(text):
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


def take_all(meter, level, now, most=10_000):
    """Take one by one while it fits; return how many, and the level."""
    count = 0
    while count < most and meter.wait_ms(level, 1, now) == 0:
        level = meter.taken(level, 1, now)
        count += 1
    return count, level


def test_a_burst_of_the_whole_amount_passes_and_then_one_for_each_share_of_the_window():
    """10 a minute: ten at once, and from then on one every six seconds, to the millisecond."""
    meter = Meter.of(parse_limit("messages=10/minute"))
    count, level = take_all(meter, EMPTY, NOW)
    assert count == 10
    assert meter.wait_ms(level, 1, NOW) == 6000
    assert take_all(meter, level, NOW + 5999)[0] == 0
    count, level = take_all(meter, level, NOW + 6000)
    assert count == 1
    assert take_all(meter, level, NOW + 6000 + MINUTE)[0] == 10


@given(
    amount=st.integers(1, 200),
    per=st.sampled_from([Per.SECOND, Per.MINUTE, Per.HOUR]),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 30)), max_size=60),
)
def test_never_more_passes_than_the_burst_and_the_rate_allow(amount, per, steps):
    """From any moment on, what passes is at most the amount plus what the rate yields until then."""
    meter = Meter.of(parse_limit(f"messages={amount}/{per}"))
    level, now, passed = EMPTY, NOW, []
    for pause, need in steps:
        now += pause
        if meter.wait_ms(level, need, now) == 0:
            level = meter.taken(level, need, now)
            passed.append((now, need))
    for first in range(len(passed)):
        sent = 0
        for moment, need in passed[first:]:
            sent += need
            assert (sent - amount) * meter.window_ms <= amount * (moment - passed[first][0])


@given(st.integers(1, 10**12), st.sampled_from([Per.SECOND, Per.MINUTE, Per.HOUR]), st.integers(1, 10**12))
def test_a_level_fits_into_64_bits_and_waiting_as_told_is_enough(amount, per, need):
    """After exactly the wait that was told, what was asked for fits, and a millisecond before it does not."""
    meter = Meter.of(parse_limit(f"bytes={amount}/{per}"))
    level = meter.taken(EMPTY, amount, NOW)
    assert level.filled < 2**63
    wait = meter.wait_ms(level, need, NOW)
    if need > amount:
        assert wait is None
    else:
        assert meter.wait_ms(level, need, NOW + wait) == 0
        assert wait == 0 or meter.wait_ms(level, need, NOW + wait - 1) > 0


def test_a_limit_of_nothing_lets_nothing_through():
    """Zero is a limit, too."""
    for text in ("messages=0/second", "messages=0/day"):
        meter = Meter.of(parse_limit(text))
        assert meter.wait_ms(EMPTY, 1, NOW) is None
        assert meter.room(EMPTY, NOW) == 0
        assert meter.resets_at(EMPTY, NOW) >= NOW


@pytest.mark.parametrize(
    ("per", "moment", "starts", "ends"),
    [
        (Per.DAY, "2026-11-24T00:00:00.000", "2026-11-24T00:00:00", "2026-11-25T00:00:00"),
        (Per.DAY, "2026-11-24T23:59:59.999", "2026-11-24T00:00:00", "2026-11-25T00:00:00"),
        (Per.DAY, "2028-02-29T12:00:00", "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        (Per.MONTH, "2026-12-31T23:59:59.999", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (Per.MONTH, "2028-02-10T00:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (Per.MONTH, "2027-02-28T23:00:00", "2027-02-01T00:00:00", "2027-03-01T00:00:00"),
        (Per.MONTH, "2026-01-31T00:00:00", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_days_and_months_are_the_calendars_in_utc(per, moment, starts, ends):
    """Edges belong to the window that begins; February has as many days as it has that year."""
    assert window_of(per, at(moment)) == (at(starts), at(ends))
    meter = Meter.of(parse_limit(f"messages=5/{per}"))
    assert meter.length_s(at(moment)) == (at(ends) - at(starts)) // 1000
    assert meter.wait_ms(meter.taken(EMPTY, 5, at(moment)), 1, at(moment)) == at(ends) - at(moment)


def test_a_clock_that_goes_back_a_little_gives_nothing_away():
    """Two machines' clocks differ: a level from half a minute ahead neither drains nor counts twice."""
    meter = Meter.of(parse_limit("messages=10/minute"))
    level = take_all(meter, EMPTY, NOW)[1]
    back = NOW - 30_000
    assert take_all(meter, level, back)[0] == 0
    level = meter.taken(level, -1, back)
    assert level.at == NOW
    assert take_all(meter, level, back)[0] == 1


def test_a_clock_that_was_set_back_by_hours_blocks_nobody_for_hours():
    """A level from far in the future is from before the clock was set: it is forgotten rather than waited for."""
    meter = Meter.of(parse_limit("messages=10/minute"))
    level = take_all(meter, EMPTY, NOW)[1]
    assert take_all(meter, level, NOW - 5 * HOUR)[0] == 10


def test_a_smaller_limit_counts_what_was_taken_under_the_larger_one():
    """Changing an amount opens no new window."""
    level = Meter.of(parse_limit("messages=100/hour")).taken(EMPTY, 80, NOW)
    assert Meter.of(parse_limit("messages=50/hour")).room(level, NOW) == 0
    assert Meter.of(parse_limit("messages=200/hour")).room(level, NOW) == 120


def test_slices_shrink_towards_the_end_and_then_vanish():
    """Where little is left, nobody takes more than is needed at once."""
    assert slice_of(100, 10_000) == 100
    assert slice_of(100, 160) == 10
    assert slice_of(100, 15) == 0


def test_rows_are_kept_at_least_as_long_as_they_say_something():
    """A level is kept for its window, a day's count for another day: a clock may go back over midnight."""
    for text in ("messages=1/second", "messages=1/minute", "messages=1/hour", "messages=1/day", "messages=1/month"):
        meter = Meter.of(parse_limit(text))
        assert meter.kept_until(NOW) >= NOW + max(meter.window_ms, DAY if not meter.is_sliding else 0)


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("ann@example.net", "ann@example.net"),
        ("ann+x@example.net", "ann@example.net"),
        ("ann+x+y@example.net", "ann@example.net"),
        ("a.n.n@example.net", "a.n.n@example.net"),
        ("a.n.n+x@gmail.com", "ann@gmail.com"),
        ("a.nn@googlemail.com", "ann@gmail.com"),
        ("+only@example.net", "+only@example.net"),
        ("a.n.n@gmail.com.example", "a.n.n@gmail.com.example"),
    ],
)
def test_spellings_of_one_mailbox_count_as_one(address, mailbox):
    """Plus-tags everywhere, dots at Gmail; elsewhere dots are part of a name."""
    assert mailbox_of(address) == mailbox


def test_the_day_of_usage_is_utc():
    """Midnight is midnight in UTC."""
    assert day_of(at("2026-11-24T23:59:59.999")) == "2026-11-24"
    assert day_of(at("2026-11-25T00:00:00")) == "2026-11-25"
