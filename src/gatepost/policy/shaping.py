"""
How much a site gets from a source, and what its replies ask for.

Arrives: what the data, the settings and an operator say about a site; replies.
Leaves: the limits in force (`Limits`); signals; when a message may go (`Pace`); how far to hold back (`Backoff`).
The numbers and the words of known sites are data, in `shaping.toml`.
Standards: ITU-T I.371 Annex A (the generic cell rate algorithm, as virtual scheduling); back-off is additive increase, multiplicative
decrease (RFC 5681 §3.1 has the idea).
Not here: who has which connection (egress.smtp.pool), what is kept across restarts (dispatch.shaping).
"""

import datetime as dt
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

from gatepost.clock import DAY, MINUTE, SECOND, Instant
from gatepost.domain.outcome import Reply
from gatepost.settings import SiteLimits

EVERY = "*"
"""Instead of a site's name: every site."""


class Action(StrEnum):
    """What a signal does."""

    NONE = "none"
    CONNECTIONS = "connections"
    RATE = "rate"
    BOTH = "both"
    SUSPEND = "suspend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """
    One rule about replies; an empty condition matches everything.

    Attributes:
        seconds: How long a suspension lasts the first time.
        is_weak: Acts only when several come in a row with nothing delivered between.
    """

    id: str
    action: Action
    seconds: int = 0
    is_weak: bool = False
    sites: frozenset[str] = frozenset()
    codes: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def matches(self, site: str, code: str, enhanced: str, text: str) -> bool:
        """Tell whether all conditions hold; `text` is in lower case."""
        if self.sites and site not in self.sites:
            return False
        if self.codes and not code.startswith(self.codes):
            return False
        if self.enhanced and not any(enhanced == one or (one.endswith(".") and enhanced.startswith(one)) for one in self.enhanced):
            return False
        return not self.words or any(word in text for word in self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """A plan: so many messages on each day from the first one on, by UTC."""

    first_day: int
    caps: tuple[int, ...]

    def cap(self, now: Instant) -> int | None:
        """Return how many messages today may have; None is as many as there are, 0 is none before the first day."""
        nth = now // DAY - self.first_day
        if nth < 0:
            return 0
        return self.caps[nth] if nth < len(self.caps) else None

    @property
    def ends_at(self) -> Instant:
        """When the plan is over."""
        return (self.first_day + len(self.caps)) * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one source may do at one site.

    Attributes:
        messages_per_second: 0 is no limit.
        messages_per_connection: None is the courier's own number.
        recipients_per_transaction: None is as many as there are.
    """

    connections: int
    messages_per_connection: int | None = None
    messages_per_second: float = 0.0
    burst: int = 1
    recipients_per_transaction: int | None = None
    warm_up: WarmUp | None = None


def load() -> tuple[Mapping[str, SiteLimits], tuple[Signal, ...]]:
    """
    Read the data that is shipped with the package.

    Raises:
        ValueError: The file is not well-formed, or two signals have one id.
    """
    data = tomllib.loads(files(__package__).joinpath("shaping.toml").read_text("utf-8"))
    sites = {name: msgspec.convert(table, SiteLimits) for name, table in data["sites"].items()}
    signals = tuple(_signal(dict(table)) for table in data["signal"])
    if len({one.id for one in signals}) != len(signals):
        raise ValueError("two signals have one id")
    return sites, signals


def _signal(table: dict[str, Any]) -> Signal:
    strangers = set(table) - {"id", "action", "seconds", "is_weak", "sites", "codes", "enhanced", "words"}
    action = Action(table["action"])
    if strangers or (action is Action.SUSPEND) != ("seconds" in table):
        raise ValueError(f"signal {table.get('id')}: an unknown key, or seconds without suspend")
    return Signal(
        id=table["id"],
        action=action,
        seconds=table.get("seconds", 0),
        is_weak=table.get("is_weak", False),
        sites=frozenset(table.get("sites", ())),
        codes=tuple(str(code) for code in table.get("codes", ())),
        enhanced=tuple(table.get("enhanced", ())),
        words=tuple(table.get("words", ())),
    )


KNOWN, SIGNALS = load()


def limits_of(site: str, layers: Iterable[Mapping[str, SiteLimits]], *, connections: int, messages_per_connection: int | None) -> Limits:
    """
    Put together what holds for a site.

    Args:
        layers: Limits by site, the weakest first; in each, what is said of the site wins over what is said of every site.
        connections: Where nobody says more.
        messages_per_connection: Likewise.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        for key in (EVERY, site):
            if (said := layer.get(key)) is not None:
                found.update(_said(said))
    return Limits(
        connections=found.get("connections", connections),
        messages_per_connection=found.get("messages_per_connection", messages_per_connection),
        messages_per_second=found.get("messages_per_second", 0.0),
        burst=found.get("burst", 1),
        recipients_per_transaction=found.get("recipients_per_transaction"),
        warm_up=_warm_up(found.get("warm_up_from", ""), found.get("warm_up")),
    )


def _said(limits: SiteLimits) -> dict[str, Any]:
    values = {name: getattr(limits, name) for name in limits.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _warm_up(first: str, caps: list[int] | None) -> WarmUp | None:
    if not first or not caps:
        return None
    return WarmUp(first_day=(dt.date.fromisoformat(first) - dt.date(1970, 1, 1)).days, caps=tuple(caps))


def signal_of(reply: Reply, site: str) -> Signal | None:
    """Find what a refusal means for the pace of a site; None when it means nothing."""
    return _signal_of(site, reply.code, reply.enhanced or "", reply.text)


@lru_cache(maxsize=4_096)
def _signal_of(site: str, code: int, enhanced: str, text: str) -> Signal | None:
    lowered, digits = text.lower(), str(code)
    for signal in SIGNALS:
        if signal.matches(site, digits, enhanced, lowered):
            return None if signal.action is Action.NONE else signal
    return None


_SPACING = 1.025
"""Messages are this much further apart than the limit asks for: what a site counts in any second then stays below it although some arrive
a little late or early."""
_LATE_MS = 12.0
"""How late a timer may fire without a loss of pace; less than `_SPACING` leaves free in a second, so that no second holds too many."""


class Pace:
    """A sliding rate: the generic cell rate algorithm. One message is due each `interval` milliseconds."""

    __slots__ = ("_due", "interval", "per_second", "tolerance")

    def __init__(self, per_second: float, burst: int = 1) -> None:
        """
        Args:
            burst: Messages that may go at once after a pause.
        """
        self._due = 0.0
        self.set(per_second, burst)

    def set(self, per_second: float, burst: int) -> None:
        """Change the rate; what was sent still counts."""
        self.per_second = per_second
        self.interval = SECOND * _SPACING / per_second
        self.tolerance = (burst - 1) * self.interval + _LATE_MS

    def take(self, now: Instant) -> int:
        """Take a message's turn and return 0; or return how many milliseconds it has to wait."""
        due = self._due
        early = due - self.tolerance - now
        if early > 0:
            return int(early) + 1
        self._due = (due if due > now else now) + self.interval  # noqa: FURB136 - max() costs three times as much
        return 0

    def give_back(self) -> None:
        """Return a turn that was not used."""
        self._due -= self.interval


FLOOR = 0.05
_GENTLE, _HARD = 0.8, 0.5
_FEW = 100
_STEP = 0.1
_STEP_MS = 30 * SECOND


class Backoff:
    """
    A factor between `FLOOR` and 1: lowered by a signal, raised by a tenth each half a minute without one.

    Attributes:
        changed_at: When it last went down or up.
    """

    __slots__ = ("changed_at", "factor")

    def __init__(self, factor: float = 1.0, changed_at: Instant = 0) -> None:
        self.factor = factor
        self.changed_at = changed_at

    def hold_back(self, now: Instant, began_at: Instant, to: float = _HARD) -> bool:
        """
        Go down; False when that would say nothing new.

        Args:
            began_at: When what was refused began: before the last change it was already under way.
        """
        if self.factor < 1.0 and began_at <= self.changed_at:
            return False
        self.factor = max(FLOOR, self.factor * to)
        self.changed_at = now
        return True

    def recover(self, now: Instant) -> bool:
        """Go up a step when it is time; return whether it did."""
        if self.factor >= 1.0 or now - self.changed_at < _STEP_MS:
            return False
        self.factor = min(1.0, round(self.factor + _STEP, 3))
        self.changed_at = now
        return True


def step_down(begun: int) -> float:
    """
    Return how far to go down: by half, or by a fifth where the limit can only be near.

    Args:
        begun: Transactions since the last signal; a hundred without one show that.
    """
    return _GENTLE if begun >= _FEW else _HARD


_LONGEST_PAUSE_MS = 30 * MINUTE
_LONGEST_SUSPENSION_MS = DAY


def pause_ms(strikes: int) -> int:
    """Return how long nothing goes after a signal, when so many came before without a delivery between: 1 s, 2 s, 4 s … 30 min."""
    return min(SECOND << min(strikes, 20), _LONGEST_PAUSE_MS)


def suspension_ms(seconds: int, strikes: int) -> int:
    """Return how long a suspension lasts, when so many came before without a delivery between: twice as long each time, up to a day."""
    return min(seconds * SECOND << min(strikes, 10), _LONGEST_SUSPENSION_MS)


UNREACHED = 10
"""Connections that fail in a row before a site counts as unreachable."""
_UNREACHABLE_MS = 5 * SECOND
_LONGEST_UNREACHABLE_MS = 5 * MINUTE


def unreachable_ms(failures: int) -> int | None:
    """Return how long to wait after so many failures in a row to connect; None is not at all."""
    if failures < UNREACHED:
        return None
    return min(_UNREACHABLE_MS << min(failures - UNREACHED, 10), _LONGEST_UNREACHABLE_MS)
