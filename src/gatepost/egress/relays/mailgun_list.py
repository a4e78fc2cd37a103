"""
Mailgun: bounces, complaints and unsubscribes of one sending domain.

Read in the order of addresses, so never only what is new; the URL of the next page comes with each, and of it only the query is
used: our key goes nowhere else. Takes all three. What bounced only for now (code 4xx) is left out, and so is an unsubscribe from a tag.
Source: https://documentation.mailgun.com/docs/mailgun/api-reference/openapi-final/tag/Bounces/ and the tags Complaints, Unsubscribe.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_PARTS: Final[Mapping[str, Why]] = {"bounces": Why.BOUNCES, "complaints": Why.COMPLAINTS, "unsubscribes": Why.UNSUBSCRIBES}
_SIZE: Final = 1_000
_ALL: Final = "*"


class MailgunList:
    """The lists of one domain."""

    parts = tuple(_PARTS)
    takes = frozenset(_PARTS.values())
    is_incremental = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._base = f"{target.base}/v3/{target.place}"
        self._headers = {"Authorization": "Basic " + base64.b64encode(f"api:{target.secret}".encode()).decode()}

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Ask for 1,000 of a part."""
        asked = f"?{cursor}" if cursor else query(limit=_SIZE)
        return HttpRequest(method="GET", url=f"{self._base}/{part}{asked}", headers=self._headers)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read the items; a page without any is behind the last one."""
        found = json_of(answer, now, 200)
        rows = listed(found.get("items")) if isinstance(found, dict) else []
        entries = [Entry(address=word(one, "address"), why=_PARTS[part], at=instant(one.get("created_at"))) for one in rows if _counts(one)]
        paging = found.get("paging") if isinstance(found, dict) else None
        following = _query_of(paging.get("next")) if rows and isinstance(paging, dict) else ""
        return ListPage(entries=entries, seen=len(rows), cursor="" if following == cursor else following)

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Add up to 1,000 a call to the part that they belong to."""
        part = next(name for name, one in _PARTS.items() if one is why)
        headers = self._headers | {"Content-Type": "application/json"}
        return [
            HttpRequest(
                method="POST", url=f"{self._base}/{part}", headers=headers,
                body=msgspec.json.encode([{"address": one, **_MORE[why]} for one in addresses[at : at + _SIZE]]),
            )
            for at in range(0, len(addresses), _SIZE)
        ]  # fmt: skip

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Delete it from each part."""
        return [HttpRequest(method="DELETE", url=f"{self._base}/{part}/{in_path(address)}", headers=self._headers) for part in _PARTS]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; 404 is an address that was not there."""
        done(answer, now, 200, 404)


_MORE: Final[Mapping[Why, dict[str, Any]]] = {
    Why.BOUNCES: {"code": "550", "error": "bounced elsewhere"}, Why.COMPLAINTS: {}, Why.UNSUBSCRIBES: {"tags": [_ALL]},
}  # fmt: skip


def _counts(found: dict[str, Any]) -> bool:
    tags, code = found.get("tags"), found.get("code")
    return not str(code).startswith("4") and (not isinstance(tags, list) or not tags or _ALL in tags)


def _query_of(url: Any) -> str:
    try:
        found = urlsplit(url).query if isinstance(url, str) else ""
    except ValueError:
        return ""
    return found if found.isascii() and found.isprintable() and len(found) <= 2_000 and " " not in found else ""
