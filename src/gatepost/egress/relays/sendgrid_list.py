"""
SendGrid, API v3: bounces, invalid addresses, spam reports and global unsubscribes.

Read by offset, what is new by start_time. Blocks are not read: they are our fault, and SendGrid goes on sending. What bounced only
for now (status 4.x.x) is left out. Only global unsubscribes can be added: complaints are told as such, bounces not at all.
Group unsubscribes are about lists of SendGrid's own.
Source: https://www.twilio.com/docs/sendgrid/api-reference/bounces-api, .../spam-reports-api, .../invalid-e-mails-api and
.../suppressions-global-suppressions.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_PARTS: Final[Mapping[str, Why]] = {
    "bounces": Why.BOUNCES, "invalid_emails": Why.BOUNCES, "spam_reports": Why.COMPLAINTS, "unsubscribes": Why.UNSUBSCRIBES,
}  # fmt: skip
_GLOBAL: Final = "/v3/asm/suppressions/global"
_SIZE: Final = 500
_MOST: Final = 1_000
"""Addresses of one call."""


class SendGridList:
    """The lists of one account."""

    parts = tuple(_PARTS)
    takes = frozenset({Why.COMPLAINTS, Why.UNSUBSCRIBES})
    is_incremental = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._base = target.base
        self._headers = {"Authorization": f"Bearer {target.secret}", "Accept": "application/json"}

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Ask for 500 of a part."""
        asked = query(limit=_SIZE, offset=cursor or "0", start_time=since // 1000 or "")
        return HttpRequest(method="GET", url=f"{self._base}/v3/suppression/{part}{asked}", headers=self._headers)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read a list of objects."""
        rows = listed(json_of(answer, now, 200))
        entries = [
            Entry(address=word(one, "email"), why=_PARTS[part], at=instant(one.get("created")))
            for one in rows
            if not word(one, "status").startswith("4")
        ]
        following = str(int(cursor or "0") + len(rows)) if len(rows) >= _SIZE else ""
        return ListPage(entries=entries, seen=len(rows), cursor=following)

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Add to the global unsubscribes."""
        headers = self._headers | {"Content-Type": "application/json"}
        return [
            HttpRequest(
                method="POST", url=self._base + _GLOBAL, headers=headers,
                body=msgspec.json.encode({"recipient_emails": list(addresses[at : at + _MOST])}),
            )
            for at in range(0, len(addresses), _MOST)
        ]  # fmt: skip

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Delete it from each part."""
        places = [f"/v3/suppression/{part}" for part in _PARTS if part != "unsubscribes"] + [_GLOBAL]
        return [HttpRequest(method="DELETE", url=f"{self._base}{place}/{in_path(address)}", headers=self._headers) for place in places]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; 404 is an address that was not there."""
        done(answer, now, 200, 201, 204, 404)
