"""
Rules that choose the roads of mail: whom a rule matches, its roads, and how one of them comes first.

A rule is a *route* with a name: `[routes.NAME]` in the settings, or one that operators make while the gateway runs.
Not here: choosing (policy.routing), what a road is (domain.route), who makes rules (tenants.routes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Strategy(StrEnum):
    """Which of a rule's roads comes first."""

    ORDERED = "ordered"
    WEIGHTED = "weighted"
    CHEAPEST = "cheapest"


@dataclass(frozen=True, slots=True)
class Choice:
    """
    One of a rule's roads.

    Attributes:
        road: As a route names it: `mx`, `mx:POOL`, a relay's name, `sandbox`.
        weight: Its share of the mail when roads are weighted; 0 is used only when the others fail.
    """

    road: str
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """
    Whom a rule is for; what is empty matches everything.

    Attributes:
        tenants: Ids or names.
        senders: Domains of the From address; `*.acme.example` is every domain below.
        recipients: Domains of recipients, written as senders'.
        sites: Mail systems that take the recipients' domains, such as `google`. One that is not known yet matches nothing.
        tags: A message with one of them.
    """

    tenants: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    senders: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    sites: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A route that rules choose.

    Attributes:
        id: `rte_…`; empty for one of the settings.
        may_be_named: Messages of those whom it matches may ask for it by its name; one without `match` serves whoever does.
        is_chosen: It is chosen for mail that it matches; else only for mail that names it.
    """

    name: str
    choices: tuple[Choice, ...]
    strategy: Strategy = Strategy.ORDERED
    match: Match = field(default_factory=Match)
    may_be_named: bool = False
    is_chosen: bool = True
    id: str = ""

    @property
    def is_fixed(self) -> bool:
        """True for a rule of the settings, which no request changes."""
        return not self.id


def parse_choices(text: str) -> tuple[Choice, ...]:
    """
    Read roads with their weights: `main,mx`, or `main:80,second:20`.

    Raises:
        ValueError: A weight is too large, or there is no road; the text says which.
    """
    found = []
    for part in text.split(","):
        road, colon, last = part.strip().rpartition(":")
        if colon and road and last.isascii() and last.isdigit():
            if int(last[:9]) > _MOST_WEIGHT:
                raise ValueError(f"{part.strip()!r}: a weight is 0 to {_MOST_WEIGHT}")
            found.append(Choice(road, int(last)))
        elif part.strip():
            found.append(Choice(part.strip()))
        else:
            raise ValueError(f"{text!r}: there is an empty place between commas")
    return tuple(found)


_MOST_WEIGHT = 10_000


def write_choices(choices: Sequence[Choice]) -> str:
    """Write what `parse_choices` reads."""
    return ",".join(one.road if one.weight == 1 else f"{one.road}:{one.weight}" for one in choices)
