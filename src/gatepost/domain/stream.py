"""
Streams: kinds of mail that a tenant tells apart, and how each is treated.

A stream says in which lane its mail goes, how long it is worth something, how it is retried, by which route it leaves and at
what hours. Every tenant has `codes`, `transactional` and `bulk`, one for each lane, and may change these and make more.
Not here: where they are kept (store.streams), who may change them (tenants.streams).
"""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from gatepost.clock import Instant
from gatepost.domain.engagement import NOTHING, Tracking
from gatepost.domain.message import STREAMS, Lane

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    Hours at which mail may leave.

    Attributes:
        days: Of the week, from 0 (Monday), on which it opens.
        opens: Minutes after midnight.
        closes: Minutes after midnight; where it is not after `opens`, that is on the next day.
        zone: IANA name of the time zone.
    """

    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    opens: int
    closes: int
    zone: str = "UTC"

    def next_at(self, at: Instant) -> Instant:
        """Return the instant itself while it is open, else the next opening."""
        zone = ZoneInfo(self.zone)
        today = dt.datetime.fromtimestamp(at / 1000, zone).date()
        for offset in range(-1, 9):
            day = today + dt.timedelta(days=offset)
            if day.weekday() in self.days:
                start, end = self._bounds(day, zone)
                if at < end:
                    return max(at, start)
        return at

    def _bounds(self, day: dt.date, zone: ZoneInfo) -> tuple[Instant, Instant]:
        last = day if self.closes > self.opens else day + dt.timedelta(days=1)
        return _instant(day, self.opens, zone), _instant(last, self.closes, zone)


def _instant(day: dt.date, minutes: int, zone: ZoneInfo) -> Instant:
    if minutes >= 24 * 60:
        day, minutes = day + dt.timedelta(days=1), 0
    return int(dt.datetime.combine(day, dt.time(minutes // 60, minutes % 60), zone).timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """
    How one kind of mail is treated.

    Attributes:
        ttl_s: After so long a message that says nothing itself is worth nothing any more; None is the lane's.
        retry: Name of a schedule in `retry.classes`; None is the lane's.
        route: Name of a route, or roads; None is what the rules say.
        window: When its mail may leave; None is always.
        tracking: What is put into its mail; nothing, unless it is asked for.
    """

    name: str
    lane: Lane
    ttl_s: int | None = None
    retry: str | None = None
    route: str | None = None
    window: Window | None = None
    tracking: Tracking = NOTHING


DEFAULTS: Final = {name: Stream(name=name, lane=lane) for name, lane in STREAMS.items()}
"""The streams of every tenant, until it changes them."""


def window_as_dict(window: Window) -> dict[str, Any]:
    """Write a window as it stands in JSON."""
    return {
        "days": [DAYS[day] for day in window.days],
        "from": _text(window.opens),
        "until": _text(window.closes),
        "zone": window.zone,
    }


def read_window(value: Any) -> Window:
    """
    Read a window from JSON.

    Raises:
        ValueError: In words, what is wrong.
    """
    if not isinstance(value, dict) or not {"from", "until"} <= value.keys() or not value.keys() <= {"days", "from", "until", "zone"}:
        raise ValueError('a window is {"days": ["mon", …], "from": "08:00", "until": "20:00", "zone": "Europe/Berlin"}')
    days = value.get("days") or list(DAYS)
    if not isinstance(days, list) or not all(day in DAYS for day in days):
        raise ValueError(f"days are some of {', '.join(DAYS)}")
    zone = value.get("zone") or "UTC"
    if not _is_zone(zone):
        raise ValueError(f"{str(zone)[:60]!r} is no time zone, such as Europe/Berlin")
    opens, closes = _minutes(value["from"]), _minutes(value["until"])
    if opens == closes:
        raise ValueError("a window opens and closes at different times")
    return Window(days=tuple(sorted({DAYS.index(day) for day in days})), opens=opens % (24 * 60), closes=closes, zone=zone)


def _is_zone(name: Any) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, TypeError, LookupError):
        return False
    return True


def _minutes(text: Any) -> int:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError(f"{str(text)[:20]!r} is no time of day, such as 08:30")
    return int(text[:2]) * 60 + int(text[3:])


def _text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
