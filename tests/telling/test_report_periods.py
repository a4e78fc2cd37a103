"""When reports are due, and of which days they tell, wherever their receivers are."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.clock import DAY, HOUR
from gatepost.domain.team_report import ReportKind, ReportSubscription
from gatepost.policy.report_periods import is_zone, latest, next_due

ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]


def at(text: str, zone: str = "UTC") -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def asked(kind: ReportKind = ReportKind.BOUNCES, zone: str = "UTC", hour: int = 7, weekday: int = 0) -> ReportSubscription:
    return ReportSubscription(
        id="rps_1",
        tenant_id="ten_1",
        kind=kind,
        address="a@b.example",
        zone=zone,
        hour=hour,
        weekday=weekday,
        created_at=0,
        changed_at=0,
        next_at=0,
    )


def test_a_day_is_told_of_the_next_morning():
    """Before the hour the newest period is the day before yesterday, from then on yesterday."""
    one = asked(zone="Europe/Berlin")
    before, after = latest(one, at("2026-11-24T06:59", "Europe/Berlin")), latest(one, at("2026-11-24T07:00", "Europe/Berlin"))
    assert (before.name, after.name) == ("2026-11-22", "2026-11-23")
    assert (after.start, after.end) == (at("2026-11-23T00:00", "Europe/Berlin"), at("2026-11-24T00:00", "Europe/Berlin"))
    assert (after.before, after.before_end) == (after.start - 7 * DAY, after.end - 7 * DAY)


def test_a_week_runs_from_monday_to_sunday():
    """It is told of on the weekday that its receiver chose, in the next week."""
    one = asked(ReportKind.WEEKLY, weekday=2)
    found = latest(one, at("2026-11-25T07:00"))  # a Wednesday
    assert (found.name, str(found.first), str(found.last)) == ("2026-W47", "2026-11-16", "2026-11-22")
    assert latest(one, at("2026-11-25T06:00")).name == "2026-W46"
    assert next_due(one, at("2026-11-25T07:00")) == at("2026-12-02T07:00")
    assert latest(asked(ReportKind.WEEKLY), at("2027-01-05T12:00")).name == "2026-W53"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_days_on_which_clocks_change_are_whole(day, hours):
    """They have 23 or 25 hours, and the hour of telling stays the local one."""
    tomorrow = (dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat()
    one = asked(zone="Europe/Berlin")
    found = latest(one, at(f"{tomorrow}T09:00", "Europe/Berlin"))
    assert (found.name, (found.end - found.start) // HOUR) == (day, hours)
    assert found.due_at == at(f"{tomorrow}T07:00", "Europe/Berlin")


def test_an_hour_that_is_skipped_is_told_in_the_next():
    """Half past two in the night does not exist when clocks go forward; the report comes all the same."""
    one = asked(zone="Europe/Berlin", hour=2)
    assert latest(one, at("2026-03-29T04:00", "Europe/Berlin")).name == "2026-03-28"


@given(
    now=st.integers(at("2025-01-01T00:00"), at("2028-01-01T00:00")), zone=st.sampled_from(ZONES), hour=st.integers(0, 23),
    weekday=st.integers(0, 6), kind=st.sampled_from(list(ReportKind)),
)  # fmt: skip
def test_each_period_is_due_once_and_none_is_left_out(now, zone, hour, weekday, kind):
    """What is due now is over; the next one that is due follows it without gap or overlap."""
    one = asked(kind, zone, hour, weekday)
    found, following_at = latest(one, now), next_due(one, now)
    assert found.end <= found.due_at <= now < following_at
    following = latest(one, following_at)
    assert following.start == found.end
    assert following.name != found.name
    assert latest(one, following_at - 1).name == found.name


def test_zones_are_names_of_the_list():
    """Nothing that leads to another file."""
    assert is_zone("Asia/Kolkata")
    assert not any(is_zone(name) for name in ("", "Mars/Base", "../etc/passwd", "Europe", "UTC+1\n"))
