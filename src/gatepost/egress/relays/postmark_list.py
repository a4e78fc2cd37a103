"""
Postmark: the suppressions of one message stream.

Read in one piece, what is new by fromdate, a day at a time. Takes everything, 50 addresses a call, as the customer's own; these are not
read again. A complaint cannot be deleted there.
Source: https://postmarkapp.com/developer/api/suppressions-api.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, day, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_REASONS: Final[Mapping[tuple[str, str], Why]] = {
    ("HardBounce", "Recipient"): Why.BOUNCES,
    ("SpamComplaint", "Recipient"): Why.COMPLAINTS,
    ("ManualSuppression", "Recipient"): Why.UNSUBSCRIBES,
}
"""By reason and origin; what customer or Postmark's staff did is left out."""
_MOST: Final = 50


class PostmarkList:
    """The list of one server's stream."""

    parts = ("suppressions",)
    takes = frozenset(Why)
    is_incremental = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        stream = target.options.get("stream", "outbound")
        self._url = f"{target.base}/message-streams/{in_path(stream)}/suppressions"
        self._headers = {"X-Postmark-Server-Token": target.secret, "Accept": "application/json"}

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Ask for all of it."""
        return HttpRequest(method="GET", url=f"{self._url}/dump{query(fromdate=day(since) if since else '')}", headers=self._headers)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read the suppressions."""
        found = json_of(answer, now, 200)
        rows = listed(found.get("Suppressions")) if isinstance(found, dict) else []
        entries = [
            Entry(address=word(one, "EmailAddress"), why=why, at=instant(one.get("CreatedAt")))
            for one in rows
            if (why := _REASONS.get((word(one, "SuppressionReason"), word(one, "Origin")))) is not None
        ]
        return ListPage(entries=entries, seen=len(rows))

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Add 50 a call."""
        return [self._change("", addresses[at : at + _MOST]) for at in range(0, len(addresses), _MOST)]

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Delete it; Postmark says of a complaint that it stays."""
        return [self._change("/delete", [address])]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; a single address that could not be changed stands in the answer, and is no trouble of the others."""
        done(answer, now, 200)

    def _change(self, place: str, addresses: Sequence[str]) -> HttpRequest:
        body = msgspec.json.encode({"Suppressions": [{"EmailAddress": one} for one in addresses]})
        return HttpRequest(method="POST", url=self._url + place, headers=self._headers | {"Content-Type": "application/json"}, body=body)
