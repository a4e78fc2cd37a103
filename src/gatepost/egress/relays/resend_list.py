"""
Resend: the team's suppressions.

Read by the last id of a page, never only what is new. Takes everything, 100 addresses a call, as put there by hand; these are not read
again. Not every account has this API yet: one without it answers 404 or 403, which is told.
Source: https://resend.com/docs/api-reference/suppressions/list-suppressions and the pages beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_ORIGINS: Final[Mapping[str, Why]] = {"bounce": Why.BOUNCES, "complaint": Why.COMPLAINTS}
_SIZE: Final = 100


class ResendList:
    """The list of one team."""

    parts = ("suppressions",)
    takes = frozenset(Why)
    is_incremental = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._url = f"{target.base}/suppressions"
        self._headers = {"Authorization": f"Bearer {target.secret}"}

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Ask for 100."""
        return HttpRequest(method="GET", url=self._url + query(limit=_SIZE, after=cursor), headers=self._headers)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read the data."""
        found = json_of(answer, now, 200)
        rows = listed(found.get("data")) if isinstance(found, dict) else []
        entries = [
            Entry(address=word(one, "email"), why=why, at=instant(one.get("created_at")))
            for one in rows
            if (why := _ORIGINS.get(word(one, "origin"))) is not None
        ]
        has_more = isinstance(found, dict) and found.get("has_more") is True
        return ListPage(entries=entries, seen=len(rows), cursor=word(rows[-1], "id") if rows and has_more else "")

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Add 100 a call."""
        headers = self._headers | {"Content-Type": "application/json"}
        return [
            HttpRequest(
                method="POST", url=f"{self._url}/batch/add", headers=headers,
                body=msgspec.json.encode({"emails": list(addresses[at : at + _SIZE])}),
            )
            for at in range(0, len(addresses), _SIZE)
        ]  # fmt: skip

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Delete it."""
        return [HttpRequest(method="DELETE", url=f"{self._url}/{in_path(address)}", headers=self._headers)]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; 404 is an address that was not there."""
        done(answer, now, 200, 201, 204, 404)
