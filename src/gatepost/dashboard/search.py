"""
The search line: `to:ann@example.net status:bounced tag:order stream:codes from:shop subject:receipt "two words"`.

Arrives: what a person typed. Leaves: a `Filter` for the store, and hints where something was not understood.
Nothing is ever refused: a filter that means nothing is searched for as text, and a hint says so.
"""

import datetime as dt
import difflib
import re
from dataclasses import dataclass, field
from typing import Any

from gatepost.clock import DAY, HOUR, MINUTE, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.recipient import Status
from gatepost.store.messages import TEXT_SEARCH_DEPTH, Filter

MAX_LENGTH = 500
_TERM = re.compile(r'(?:([A-Za-z]+):)?(?:"([^"]*)"?|(\S+))')
_AGO = re.compile(r"(\d{1,4})(m|h|d)")
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
KEYS = ("to", "from", "subject", "status", "tag", "stream", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """
    A search line, understood.

    Attributes:
        text: As typed, trimmed.
        hints: One sentence for each thing that was not taken as it may have been meant.
        status: The status asked for, for the chips above the list.
    """

    text: str
    wanted: Filter
    hints: tuple[str, ...] = ()

    @property
    def status(self) -> str | None:
        """The status asked for."""
        return self.wanted.status

    def with_status(self, status: str | None) -> str:
        """Return the line with another status, or with none."""
        rest = " ".join(match[0] for match in _TERM.finditer(self.text) if (match[1] or "").lower() != "status")
        return f"{rest} status:{status}".strip() if status else rest


@dataclass(slots=True)
class _Reading:
    now: Instant
    values: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def parse_search(text: str, now: Instant, depth: int = TEXT_SEARCH_DEPTH) -> Search:
    """
    Understand a search line; never raises.

    Args:
        depth: A search by text opens so many of the newest messages.
    """
    text = "".join(c for c in text[:MAX_LENGTH] if c.isprintable()).strip()
    reading = _Reading(now)
    for match in _TERM.finditer(text):
        _take(reading, (match[1] or "").lower(), match[3] if match[2] is None else match[2], match[0])
    if reading.words:
        reading.values["text"] = " ".join(reading.words)
    return Search(text=text, wanted=Filter(**reading.values, depth=depth), hints=tuple(reading.hints))


def _take(reading: _Reading, key: str, value: str, term: str) -> None:
    if not key:
        reading.words.append(value)
    elif key not in KEYS:
        if near := difflib.get_close_matches(key, KEYS, 1):
            reading.hints.append(f"{key}: is not a filter. Did you mean {near[0]}:? It was searched for as text.")
        reading.words.append(term.replace('"', ""))
    elif value:
        _READERS[key](reading, value)
    else:
        reading.hints.append(f"{key}: needs a value right behind the colon.")


def _to(reading: _Reading, value: str) -> None:
    try:
        reading.values["address_key"] = parse_address(value).key
    except InvalidAddress:
        reading.words.append(value)
        reading.hints.append(f"to:{value} is not a whole address, so it was searched for as text.")


def _one_of(name: str, known: tuple[str, ...]) -> Any:
    def read(reading: _Reading, value: str) -> None:
        lowered = value.lower()
        if lowered not in known:
            near = difflib.get_close_matches(lowered, known, 1)
            reading.hints.append(
                f"There is no {name} {value}" + (f"; {near[0]} was taken." if near else f": it is one of {', '.join(known)}.")
            )
            lowered = near[0] if near else lowered
        reading.values[name] = lowered

    return read


def _as_is(name: str) -> Any:
    def read(reading: _Reading, value: str) -> None:
        reading.values[name] = value

    return read


def _time(name: str) -> Any:
    def read(reading: _Reading, value: str) -> None:
        at = _instant(value, reading.now)
        if at is None:
            reading.hints.append(f"{name}:{value} is no time: write 2026-11-24, 30m, 6h or 7d.")
        else:
            reading.values[name] = at

    return read


def _instant(value: str, now: Instant) -> Instant | None:
    if ago := _AGO.fullmatch(value.lower()):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)


_READERS = {
    "to": _to,
    "from": _as_is("sender"),
    "subject": _as_is("subject"),
    "status": _one_of("status", tuple(status.value for status in Status)),
    "stream": _as_is("stream"),
    "tag": _as_is("tag"),
    "since": _time("since"),
    "until": _time("until"),
}
