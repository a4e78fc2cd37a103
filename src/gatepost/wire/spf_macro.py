"""
Macros of SPF: `%{i}`, `%{d2}`, `%{ir}` and their like.

Arrives: a domain-spec. Leaves: its parts, and the text that they expand to.
Standards: RFC 7208 §7.
Not here: finding the validated name of `%{p}` (spf).
Bugs: none known.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_PART = re.compile(r"%\{([A-Za-z])(\d*)([rR]?)([.\-+,/_=]*)\}|%([%_-])|([\x21-\x24\x26-\x7e]+)")
_LETTERS: Final = frozenset("slodiphv")
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
_LONGEST = 253


@dataclass(frozen=True, slots=True)
class Macro:
    """
    One macro.

    Attributes:
        letter: As written: an upper-case one is percent-encoded.
        keep: How many parts from the right stay; 0 is all.
    """

    letter: str
    keep: int
    is_reversed: bool
    delimiters: str


@dataclass(frozen=True, slots=True)
class Escape:
    """`%%`, `%_` or `%-`, as the text that it stands for."""

    text: str


def parse_macros(text: str) -> list[str | Macro | Escape]:
    """
    Split a text into literals and macros.

    Raises:
        ValueError: It has a character or a macro that the grammar does not know.
    """
    parts: list[str | Macro | Escape] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            raise ValueError(f"{text[at : at + 20]!r} is no macro")
        letter, keep, is_reversed, delimiters, escape, literal = found.groups()
        if literal:
            parts.append(literal)
        elif escape:
            parts.append(Escape(_ESCAPES[escape]))
        else:
            if letter.lower() not in _LETTERS:
                raise ValueError(f"%{{{letter}}} cannot be used there")
            if keep and int(keep[:9]) == 0:
                raise ValueError(f"{found[0]} keeps no part")
            parts.append(Macro(letter, int(keep[:9] or 0), bool(is_reversed), delimiters or "."))
        at = found.end()
    return parts


def has_macros(text: str) -> bool:
    """Tell whether a domain-spec depends on who sends."""
    return any(not isinstance(part, str) and not (isinstance(part, Macro) and part.letter.lower() == "d") for part in parse_macros(text))


def wants_name(text: str) -> bool:
    """Tell whether a domain-spec needs the sender's validated name."""
    return any(isinstance(part, Macro) and part.letter.lower() == "p" for part in parse_macros(text))


def expand(text: str, values: Mapping[str, str]) -> str:
    """
    Expand a domain-spec; what is too long loses labels from the left (RFC 7208 §7.3).

    Args:
        values: By lower-case macro letter.

    Raises:
        ValueError: See `parse_macros`.
    """
    made = "".join(_expanded(part, values) for part in parse_macros(text)).rstrip(".")
    while len(made) > _LONGEST and "." in made:
        made = made.partition(".")[2]
    return made


def _expanded(part: str | Macro | Escape, values: Mapping[str, str]) -> str:
    match part:
        case str():
            return part
        case Escape():
            return part.text
        case Macro():
            value = values.get(part.letter.lower(), "")
            pieces = re.split("[" + re.escape(part.delimiters) + "]", value)
            if part.is_reversed:
                pieces.reverse()
            if part.keep:
                pieces = pieces[-part.keep :]
            joined = ".".join(pieces)
            return quote(joined, safe="-._~") if part.letter.isupper() else joined


def dotted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Write an address as `%{i}` does: an IPv6 address digit by digit."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return ".".join(address.exploded.replace(":", ""))
