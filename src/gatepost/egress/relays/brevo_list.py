"""
Brevo: contacts that get no transactional mail.

Read by offset, what is new by startDate and endDate, a day at a time. An entry may be about mail of one sender only. Whom somebody at the
account blocked is left out. Nothing can be added: Brevo has no call for that.
Source: https://developers.brevo.com/reference/get-transac-blocked-contacts and
https://developers.brevo.com/reference/unblock-or-resubscribe-a-transactional-contact.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gatepost.clock import Instant
from gatepost.domain.relay_list import Entry, Why
from gatepost.egress.relays.provider_list import ListPage, day, done, in_path, instant, json_of, listed, query, word
from gatepost.egress.relays.target import Target
from gatepost.net.http_client import HttpAnswer, HttpRequest

_REASONS: Final[Mapping[str, Why]] = {
    "hardBounce": Why.BOUNCES,
    "contactFlaggedAsSpam": Why.COMPLAINTS,
    "unsubscribedViaMA": Why.UNSUBSCRIBES,
    "unsubscribedViaEmail": Why.UNSUBSCRIBES,
    "unsubscribedViaApi": Why.UNSUBSCRIBES,
}
_PATH: Final = "/v3/smtp/blockedContacts"
_SIZE: Final = 100


class BrevoList:
    """The list of one account."""

    parts = ("blocked",)
    takes: frozenset[Why] = frozenset()
    is_incremental = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._url = target.base + _PATH
        self._headers = {"api-key": target.secret, "Accept": "application/json"}

    def page(self, part: str, cursor: str, since: Instant, now: Instant) -> HttpRequest:
        """Ask for 100."""
        first, last = (day(since), day(now)) if since else ("", "")
        asked = query(limit=_SIZE, offset=cursor or "0", startDate=first, endDate=last)
        return HttpRequest(method="GET", url=self._url + asked, headers=self._headers)

    def read_page(self, part: str, cursor: str, answer: HttpAnswer, now: Instant) -> ListPage:
        """Read the contacts."""
        found = json_of(answer, now, 200)
        rows = listed(found.get("contacts")) if isinstance(found, dict) else []
        entries = [
            Entry(address=word(one, "email"), why=why, at=instant(one.get("blockedAt")), sender=word(one, "senderEmail"))
            for one in rows
            if (why := _REASONS.get(_code(one.get("reason")))) is not None
        ]
        following = str(int(cursor or "0") + len(rows)) if len(rows) >= _SIZE else ""
        return ListPage(entries=entries, seen=len(rows), cursor=following)

    def put(self, why: Why, addresses: Sequence[str], now: Instant) -> list[HttpRequest]:
        """Ask for nothing: Brevo has no call for it."""
        return []

    def remove(self, address: str, now: Instant) -> list[HttpRequest]:
        """Unblock it."""
        return [HttpRequest(method="DELETE", url=f"{self._url}/{in_path(address)}", headers=self._headers)]

    def check(self, answer: HttpAnswer, now: Instant) -> None:
        """Read a change; 404 is an address that was not there."""
        done(answer, now, 200, 204, 404)


def _code(reason: Any) -> str:
    return word(reason, "code") if isinstance(reason, dict) else ""
