"""
Numbers and days in words, as reports to senders' teams say them.

Arrives: a number and the one that it is compared with. Leaves: tiles with the change and whether it is good news, counted nouns, days.
"""

import datetime as dt
from typing import Final

from gatepost.domain.team_report import Tile, Tone
from gatepost.policy.deliverability import percent


def count_tile(label: str, now: int, before: int, *, is_good: bool = False) -> Tile:
    """Show a count; more mail is no news by itself, and fewer deliveries are not bad when less was sent."""
    if not before:
        return Tile(label, f"{now:,}", "none before" if now else "")
    share = (now - before) / before
    if abs(share) < 0.005:
        return Tile(label, f"{now:,}", "as before")
    text = signed(f"{share:+.0%}".replace("%", " %")) if abs(share) < 10 else f"× {now / before:,.0f}"
    return Tile(label, f"{now:,}", text, Tone.PLAIN if is_good else Tone.BAD if share > 0 else Tone.GOOD)


def rate_tile(label: str, now: float | None, before: float | None, *, is_good: bool = False) -> Tile:
    """Show a rate from 0 to 1; None is not known."""
    if now is None:
        return Tile(label, "–")
    if before is None:
        return Tile(label, percent(now), "none before")
    difference = 100 * (now - before)
    digits = 2 if max(now, before) < 0.01 else 1
    if round(abs(difference), digits) == 0:
        return Tile(label, percent(now), "as before")
    return Tile(label, percent(now), signed(f"{difference:+.{digits}f} points"), Tone.GOOD if (difference > 0) is is_good else Tone.BAD)


def wait_tile(now: int | None, before: int | None) -> Tile:
    """Show the time (ms) within which nearly all mail was there."""
    text = "–" if now is None else f"{now / 1000:.1f} s" if now < 120_000 else f"{now / 60_000:.0f} min"
    if now is None or not before:
        return Tile("95 % there within", text)
    share = (now - before) / before
    tone = Tone.PLAIN if abs(share) < 0.2 else Tone.BAD if share > 0 else Tone.GOOD
    return Tile("95 % there within", text, signed(f"{share:+.0%}".replace("%", " %")), tone)


def signed(text: str) -> str:
    """Write a change with a minus sign instead of a hyphen."""
    return text.replace("-", "−", 1) if text.startswith("-") else text


def some(count: int, noun: str) -> str:
    """Count a noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def day_text(day: dt.date) -> str:
    """Write a day, such as `23 November`."""
    return f"{day.day} {_MONTHS[day.month - 1]}"


def days_text(first: dt.date, last: dt.date) -> str:
    """Write a span of days, such as `16–22 November`."""
    if first.month == last.month:
        return f"{first.day}–{day_text(last)}"
    return f"{day_text(first)} – {day_text(last)}"
