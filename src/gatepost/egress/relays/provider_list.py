"""
What a file about a provider's own suppression list offers: requests, and what their answers say. No I/O.

A list may have several parts (bounces, complaints …), each read page by page: a page ends with the cursor of the next one.
Entries that a person put there by hand are left out: they are somebody's decision at the provider, or were told by us.
Not here: sending (list_client), what follows from an entry (returns.relay_lists).
"""

import datetime as dt
import email.utils
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import msgspec

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Verdict, by_status, judge
from gatepost.net.http_client import HttpAnswer, HttpRequest

CLASSES: Final = {
    "ses": "SesList", "sendgrid": "SendGridList", "mailgun": "MailgunList", "postmark": "PostmarkList", "resend": "ResendList",
    "brevo": "BrevoList",
}  # fmt: skip
"""By the kind of relay; Mailjet has no API for the addresses that it takes no mail for, and a smarthost has no list."""
_MOST: Final = 100_000
_MOST_ADDRESS: Final = 320


class ListRefused(Exception):  # noqa: N818
    """A provider did not do what it was asked; `verdict` says what that means."""

    def __init__(self, verdict: Verdict) -> None:
        """Keep what was said."""
        super().__init__(verdict.words)
        self.verdict = verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """
    One page.

    Attributes:
        entries: What counts here.
        seen: How many there were in all.
        cursor: Where the next page begins; empty after the last one.
    """

    entries: Sequence[Entry]
    seen: int
    cursor: str = ""


class ProviderList(Protocol):
    """One provider's list."""

    parts: Sequence[str]
    """Its parts, by name."""
    takes: Collection[Why]
    """What the provider can be told."""
    is_incremental: bool
    """Whether it can be asked for what is new."""

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """
        Ask for a page.

        Args:
            since: Only what is newer, where the provider knows such a question; 0 is everything.
        """
        ...

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """
        Read it.

        Raises:
            ListRefused: It is none.
        """
        ...

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Put addresses on the list; asking again changes nothing."""
        ...

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Take an address off every part of the list that it may be on."""
        ...

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """
        Read what `put` or `remove` came to; to remove what is not there is no trouble.

        Raises:
            ListRefused: It was not done.
        """
        ...


def create_list(target: Target) -> ProviderList | None:
    """Make the list of a target, loading its file; None where the provider has none."""
    name = CLASSES.get(target.kind)
    if name is None:
        return None
    made: ProviderList = getattr(import_module(f"gatepost.egress.relays.{target.kind}_list"), name)(target)
    return made


def in_path(address: str) -> str:
    """Write an address as a part of a URL's path."""
    return quote(address, safe="")


def query(**fields: str | int) -> str:
    """Write a query, with its question mark; empty values are left out."""
    found = {name: value for name, value in fields.items() if value != ""}
    return "?" + urlencode(found, safe="", quote_via=quote) if found else ""


def day(at: Instant) -> str:
    """Write the day of an instant, UTC."""
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).strftime("%Y-%m-%d")


def json_of(answer: HttpAnswer, now: Instant, *statuses: int) -> Any:
    """
    Read a JSON answer of one of some statuses.

    Raises:
        ListRefused: It is another one, or no JSON.
    """
    if answer.status not in statuses:
        raise refused(answer, now)
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise refused(answer, now, "it answered with no JSON") from None


def done(answer: HttpAnswer, now: Instant, *statuses: int) -> None:
    """
    Check that a change was made.

    Raises:
        ListRefused: It was not.
    """
    if answer.status not in statuses:
        raise refused(answer, now)


def refused(answer: HttpAnswer, now: Instant, words: str = "") -> ListRefused:
    """Make a refusal of an answer, in the provider's words where it has some."""
    return ListRefused(judge(answer, by_status(answer.status), words or answer.body[:300].decode("utf-8", "replace"), now))


def listed(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; of what is none, nothing."""
    return [one for one in value[:_MOST] if isinstance(one, dict)] if isinstance(value, list) else []


def word(found: dict[str, Any], name: str) -> str:
    """Return a short text of an object; empty where there is none."""
    value = found.get(name)
    return value if isinstance(value, str) and len(value) <= _MOST_ADDRESS else ""


def instant(value: Any) -> Instant | None:
    """Read a time: seconds since 1970, ISO 8601, or as mail has it; None where it is none, or none that can be."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            at = int(value * 1000)
        elif not isinstance(value, str) or not value or len(value) > 60:
            return None
        elif value[:1].isdigit():
            at = int(_aware(dt.datetime.fromisoformat(value)).timestamp() * 1000)
        else:
            at = int(_aware(email.utils.parsedate_to_datetime(value.replace("UTC", "+0000"))).timestamp() * 1000)
    except (ValueError, OverflowError, TypeError, OSError):
        return None
    return at if 0 < at < 10**14 else None


def _aware(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
