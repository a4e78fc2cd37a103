"""
Amazon SES, API v2: the account's suppression list of one region.

Read page by page, what is new by StartDate. Takes bounces and complaints, one address a call; unsubscribes have no reason there.
The list is the account's: SES sends nobody's mail to an address on it.
Source: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_ListSuppressedDestinations.html, .../API_PutSuppressedDestination.html
and .../API_DeleteSuppressedDestination.html.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gatepost.clock import Instant, iso
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.sigv4 import AwsKey, signed_headers
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_PATH: Final = "/v2/email/suppression/addresses"
_REASONS: Final[Mapping[str, Why]] = {"BOUNCE": Why.BOUNCES, "COMPLAINT": Why.COMPLAINTS}
_NAMES: Final = {why: name for name, why in _REASONS.items()}
_SIZE: Final = 1_000


class SesList:
    """The list of one account in one region."""

    parts = ("suppressed",)
    takes = frozenset(_NAMES)
    is_incremental = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._key = AwsKey(access_key_id=target.user, secret=target.secret, session_token=target.session_token)

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Write ListSuppressedDestinations."""
        start = iso(since // 1000 * 1000).replace(".000", "") if since else ""
        return self._signed("GET", _PATH + query(NextToken=cursor, PageSize=_SIZE, StartDate=start), b"", now)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read the summaries."""
        found = json_of(answer, now, 200)
        rows = listed(found.get("SuppressedDestinationSummaries")) if isinstance(found, dict) else []
        entries = [
            Entry(address=word(one, "EmailAddress"), why=why, at=instant(one.get("LastUpdateTime")))
            for one in rows
            if (why := _REASONS.get(word(one, "Reason"))) is not None
        ]
        token = found.get("NextToken") if isinstance(found, dict) else None
        return ListPage(entries=entries, seen=len(rows), cursor=token if isinstance(token, str) else "")

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Write PutSuppressedDestination for each."""
        bodies = [msgspec.json.encode({"EmailAddress": one, "Reason": _NAMES[why]}) for one in addresses]
        return [self._signed("PUT", _PATH, body, now) for body in bodies]

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Write DeleteSuppressedDestination."""
        return [self._signed("DELETE", f"{_PATH}/{in_path(address)}", b"", now)]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; 404 is an address that was not there."""
        done(answer, now, 200, 404)

    def _signed(self, method: str, path: str, body: bytes, now: Instant) -> HttpRequest:
        url = self._target.base + path
        headers = {"Content-Type": "application/json"} if body else {}
        headers = signed_headers(method, url, headers, body, key=self._key, region=self._target.place, service="ses", now=now)
        return HttpRequest(method=method, url=url, headers=headers, body=body)
