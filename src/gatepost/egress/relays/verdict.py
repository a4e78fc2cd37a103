"""
What a provider's answer means for a recipient, and the tables that say so.

Arrives: an HTTP status, a provider's own error code and words. Leaves: a `Verdict`.
The rule behind every table: what is held against our account or our key is no fault of the mail, so it defers without using
up a retry, and another road may take over; what is held against the recipient or the content fails; words that no table
knows defer, since mail must not be lost to a new error code.
Standards: RFC 9110 §15 (status codes), §10.2.3 (Retry-After), RFC 6585 §4 (429).
Not here: which tables a provider has (its own file), making an `Outcome` of it (courier).
"""

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.domain.outcome import Category
from gatepost.net.http_client import HttpAnswer

MAX_WAIT_S: Final = 24 * 3600
"""The longest wait that is believed."""
_MAX_WORDS: Final = 600


class Kind(Enum):
    """What becomes of the recipient."""

    ACCEPTED = "accepted"
    """The provider has it."""
    BUSY = "busy"
    """Too fast, or a quota is used up: later, at the time that the provider says; no retry is used up."""
    ACCOUNT = "account"
    """The key, the account or the settings: nothing that the mail could help; no retry is used up."""
    LATER = "later"
    """The provider has trouble: the usual retry."""
    REFUSED = "refused"
    """Never: the recipient or the content."""
    UNSURE = "unsure"
    """Nobody here knows whether the provider has it."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """An entry of a table."""

    kind: Kind
    category: Category


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What an answer means for one recipient, or for all.

    Attributes:
        words: The provider's, for people.
        status: HTTP status; None without an answer.
        wait_s: Seconds to wait that the provider named.
    """

    kind: Kind
    category: Category = Category.UNDETERMINED
    words: str = ""
    status: int | None = None
    provider_id: str | None = None
    wait_s: int | None = None


ACCEPTED: Final = Meaning(Kind.ACCEPTED, Category.UNDETERMINED)
BUSY: Final = Meaning(Kind.BUSY, Category.RATE_LIMITED)
KEY: Final = Meaning(Kind.ACCOUNT, Category.AUTH_FAILURE)
ACCOUNT: Final = Meaning(Kind.ACCOUNT, Category.RELAY_DENIED)
LATER: Final = Meaning(Kind.LATER, Category.REMOTE_SYSTEM)
UNSURE: Final = Meaning(Kind.UNSURE, Category.NETWORK)
UNKNOWN_WORDS: Final = Meaning(Kind.LATER, Category.UNDETERMINED)
RECIPIENT: Final = Meaning(Kind.REFUSED, Category.INVALID_RECIPIENT)
INACTIVE: Final = Meaning(Kind.REFUSED, Category.MAILBOX_INACTIVE)
CONTENT: Final = Meaning(Kind.REFUSED, Category.CONTENT_REJECTED)
TOO_LARGE: Final = Meaning(Kind.REFUSED, Category.MESSAGE_TOO_LARGE)

_BY_STATUS: Final[Mapping[int, Meaning]] = {
    401: KEY,
    402: BUSY,  # payment required: credits are used up
    403: KEY,
    404: ACCOUNT,  # the address of the API is wrong, or what the key may use does not exist
    405: ACCOUNT,
    407: ACCOUNT,
    408: LATER,
    413: TOO_LARGE,
    421: LATER,
    425: LATER,
    429: BUSY,
    504: UNSURE,  # a gateway gave up waiting: what stands behind it may go on
}


def by_status(status: int) -> Meaning:
    """Say what a status means where the provider's own table knows nothing better."""
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    if 300 <= status < 400:
        return ACCOUNT  # a redirect is never followed: `endpoint` is wrong
    return LATER if status >= 500 or status < 200 else UNKNOWN_WORDS if status >= 400 else UNSURE


def judge(answer: HttpAnswer, meaning: Meaning, words: str, now: Instant) -> Verdict:
    """Make a verdict out of an entry of a table; the provider's wait goes with what will be tried again."""
    wait_s = retry_after(answer, now) if meaning.kind in {Kind.BUSY, Kind.LATER, Kind.ACCOUNT} else None
    return Verdict(
        kind=meaning.kind, category=meaning.category, words=tidy(words) or "no words", status=answer.status, wait_s=wait_s
    )  # fmt: skip


def retry_after(answer: HttpAnswer, now: Instant) -> int | None:
    """
    Read how long a provider wants us to wait: Retry-After in seconds or as a date, else what rate headers say.

    Believed up to a day.
    """
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(int(text[:9]), MAX_WAIT_S)
    if text:
        try:
            return max(0, min(int(email.utils.parsedate_to_datetime(text).timestamp() - now / 1000), MAX_WAIT_S))
        except (ValueError, OverflowError, TypeError):
            return None
    return _reset(answer, now) if answer.status == 429 else None


def _reset(answer: HttpAnswer, now: Instant) -> int | None:
    """Read the reset of a rate window: seconds from now, or seconds (or milliseconds) since 1970."""
    for name in ("ratelimit-reset", "x-ratelimit-reset", "x-sib-ratelimit-reset"):
        text = answer.headers.get(name, "").strip()
        if text.isdecimal():
            value = int(text[:15])
            at_s = value if value < 10**9 else value / (1000 if value > 10**11 else 1) - now / 1000
            return max(0, min(int(at_s) + (at_s > int(at_s)), MAX_WAIT_S))
    return None


def as_object(answer: HttpAnswer) -> dict[str, Any]:
    """Read a JSON object; an empty one where the answer is none."""
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}


def text_of(value: Any) -> str:
    """Return a value of a JSON answer as text; empty where it is none."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def tidy(words: str) -> str:
    """Bring a provider's words to one line of bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in words[: 4 * _MAX_WORDS]).split())[:_MAX_WORDS]


def by_words(words: str, table: Mapping[str, Meaning]) -> Meaning | None:
    """Find the first entry whose key occurs in a text; keys are in lower case."""
    lowered = words.lower()
    return next((meaning for key, meaning in table.items() if key in lowered), None)
