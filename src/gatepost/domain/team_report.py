"""What a sender's team is told by mail: who wants which report, and when it comes."""

from dataclasses import dataclass
from enum import StrEnum

from gatepost.clock import Instant


class ReportKind(StrEnum):
    """Reports that can be had by mail."""

    BOUNCES = "bounces"
    """Each day's bounces; nothing on days without."""
    COMPLAINTS = "complaints"
    """Each day's complaints and unsubscriptions; nothing on days without."""
    WEEKLY = "weekly"
    """The week, Monday to Sunday, against the week before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSubscription:
    """
    One report that goes to one address.

    Attributes:
        address: Where it goes.
        person_id: Whose it is, when a person of the gateway asked for it; they may end it themselves.
        zone: Name of a time zone (IANA), in which days and weeks begin and the hour counts.
        hour: Local hour at which it is sent, 0 to 23.
        weekday: Of the weekly report: 0 is Monday.
        domains: Sender's domains that it tells of; empty is all.
        next_at: When the next one is due.
        told_until: End of the last period that was told of; 0 before the first.
        ended_at: When it was ended; None while it is sent.
        ended_by: `receiver`, who then is not written to again unless they ask; or `team`.
    """

    id: str
    tenant_id: str
    kind: ReportKind
    address: str
    person_id: str | None = None
    zone: str = "UTC"
    hour: int = 7
    weekday: int = 0
    domains: tuple[str, ...] = ()
    created_at: Instant
    changed_at: Instant
    next_at: Instant
    told_until: Instant = 0
    ended_at: Instant | None = None
    ended_by: str = ""


RECEIVER = "receiver"
TEAM = "team"


class Tone(StrEnum):
    """Whether a number is good news."""

    GOOD = "good"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number, with how it changed."""

    label: str
    value: str
    change: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to look at: what was seen, and what to do."""

    title: str
    text: str
    advice: str = ""
    tone: Tone = Tone.BAD


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers; the first column is text."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamLetter:
    """
    What a report says, before it is written as text and HTML.

    Attributes:
        preview: What mail programs show beside the subject.
        foot: Why this mail came.
    """

    subject: str
    title: str
    period: str
    preview: str
    lead: str
    tiles: tuple[Tile, ...] = ()
    notes: tuple[Note, ...] = ()
    tables: tuple[Table, ...] = ()
    foot: str = ""
