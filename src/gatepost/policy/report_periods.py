"""
Which day or week a report tells of, and when it is due.

Arrives: the kind of report, its receiver's time zone and hour, the time. Leaves: the newest period that is due, and when the next one is.
Days begin at the zone's midnight, so that one on which clocks change has 23 or 25 hours. An hour that clocks skip is the one after it.
Not here: who sends it (upkeep.team_reports).
"""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gatepost.clock import Instant
from gatepost.domain.team_report import ReportKind, ReportSubscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """
    A day or a week.

    Attributes:
        name: `2026-11-23` or `2026-W47`; of one subscription no other period has it.
        first: Its first day, where the receiver is.
        start: Its first instant; `end` is the one behind it.
        last: Its last day.
        before: What it is compared with begins there: the week before; of a day the same day a week before, since Sundays are no Mondays.
        before_end: And ends there.
        due_at: When it is told of.
    """

    name: str
    first: dt.date
    last: dt.date
    start: Instant
    end: Instant
    before: Instant
    before_end: Instant
    due_at: Instant


def is_zone(name: str) -> bool:
    """Tell whether there is a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a name of a folder, a path, or nothing
        return False
    return True


def latest(one: ReportSubscription, now: Instant) -> Period:
    """Return the newest period whose time to be told of has come."""
    today = dt.datetime.fromtimestamp(now / 1000, _zone(one)).date()
    found = _told_on(one, _day_of_telling(one, today))
    return found if found.due_at <= now else _told_on(one, _day_of_telling(one, today) - _step(one))


def next_due(one: ReportSubscription, now: Instant) -> Instant:
    """Return when the next period is to be told of, after now."""
    today = dt.datetime.fromtimestamp(now / 1000, _zone(one)).date()
    day = _day_of_telling(one, today)
    found = _told_on(one, day).due_at
    return found if found > now else _told_on(one, day + _step(one)).due_at


def _zone(one: ReportSubscription) -> ZoneInfo:
    """Return the zone; UTC where this machine does not know its name any more."""
    return ZoneInfo(one.zone if is_zone(one.zone) else "UTC")


def _step(one: ReportSubscription) -> dt.timedelta:
    return dt.timedelta(days=7 if one.kind is ReportKind.WEEKLY else 1)


def _day_of_telling(one: ReportSubscription, today: dt.date) -> dt.date:
    """Return today, or the last day of the week on which it is told."""
    if one.kind is not ReportKind.WEEKLY:
        return today
    return today - dt.timedelta(days=(today.weekday() - one.weekday) % 7)


def _told_on(one: ReportSubscription, day: dt.date) -> Period:
    zone = _zone(one)
    if one.kind is ReportKind.WEEKLY:
        monday = day - dt.timedelta(days=day.weekday() + 7)
        year, week, _ = monday.isocalendar()
        first, last, name = monday, monday + dt.timedelta(days=7), f"{year}-W{week:02d}"
    else:
        first, last, name = day - dt.timedelta(days=1), day, (day - dt.timedelta(days=1)).isoformat()
    back = dt.timedelta(days=7)
    return Period(
        name=name, first=first, last=last - dt.timedelta(days=1), start=_at(first, 0, zone), end=_at(last, 0, zone),
        before=_at(first - back, 0, zone), before_end=_at(last - back, 0, zone), due_at=_at(day, one.hour, zone),
    )  # fmt: skip


def _at(day: dt.date, hour: int, zone: ZoneInfo) -> Instant:
    return int(dt.datetime.combine(day, dt.time(hour), zone).timestamp()) * 1000
