"""
Postmark: email, which wants fields.

Takes: sender, reply-to, recipients (50 a call), subject, plain text and HTML, files with Content-IDs, further header fields; 10 MB.
Everybody named in a call is mailed: see provider.shares. Message-ID is kept (X-PM-KeepID).
Gets lost: our signature, Date; the names of To and Cc survive. A retry to some of several recipients names only that one.
Postmark takes what it can: who among several is on its own list of inactive addresses stands in the words of its yes.
Probe: the server that the token belongs to.
Source: https://postmarkapp.com/developer/api/email-api and .../api/overview#error-codes.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.egress.courier import Batch
from gatepost.egress.relays import verdict
from gatepost.egress.relays.provider import Call, Share, Standing, shares
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Meaning, Verdict, as_object, by_status, judge, text_of
from gatepost.mime.letter import File, Letter, formatted, read_letter
from gatepost.net.http_client import HttpAnswer, HttpRequest

MOST: Final = 50

CODES: Final[Mapping[int, Meaning]] = {
    10: verdict.KEY,  # bad or missing token
    100: verdict.LATER,  # maintenance
    300: verdict.RECIPIENT,  # invalid email request: mostly an address; see _about_300
    400: verdict.ACCOUNT,  # sender signature not found
    401: verdict.ACCOUNT,  # sender signature not confirmed
    402: verdict.CONTENT,  # invalid JSON
    403: verdict.CONTENT,  # incompatible JSON
    405: verdict.BUSY,  # not allowed to send: out of credits
    406: verdict.INACTIVE,  # inactive recipient
    409: verdict.CONTENT,  # JSON required
    410: verdict.CONTENT,  # too many messages in a batch
    411: verdict.CONTENT,  # forbidden attachment type
    412: verdict.ACCOUNT,  # account is pending
    413: verdict.ACCOUNT,  # account may not send
    429: verdict.BUSY,
    1235: verdict.ACCOUNT,  # no such message stream
}
"""By ErrorCode, which is not the HTTP status."""

_INACTIVE: Final = re.compile(r"inactive addresses: ([^\s,]+(?:, [^\s,]+)*)")
_RESERVED: Final = ("sender", "x-pm-*")


class Postmark:
    """The API with one server's token."""

    is_idempotent = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._headers = {"X-Postmark-Server-Token": target.secret, "Content-Type": "application/json"}

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write the calls."""
        letter = read_letter(batch.content)
        url, stream = f"{self._target.base}/email", self._target.options.get("stream", "outbound")
        return [
            Call(
                HttpRequest(method="POST", url=url, headers=self._headers, body=msgspec.json.encode(_body(letter, share, stream))),
                share.recipients,
            )
            for share in shares(letter, batch.recipients, MOST)
        ]

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict | Mapping[int, Verdict]:
        """Read MessageID, or ErrorCode and Message; a yes may leave out recipients, and names them."""
        found = as_object(answer)
        words, code = text_of(found.get("Message")), found.get("ErrorCode")
        if answer.status == 200 and code == 0:
            provider_id = text_of(found.get("MessageID")) or None
            accepted = Verdict(kind=Kind.ACCEPTED, status=200, provider_id=provider_id, words=f"{words} MessageID {provider_id}")
            left_out = _left_out(words)
            refused = judge(answer, verdict.INACTIVE, words, now)
            return {one.n: refused if one.address.lower() in left_out else accepted for one in call.recipients} if left_out else accepted
        if answer.status == 200 and not isinstance(code, int):
            return judge(answer, verdict.UNSURE, "answered 200 without an ErrorCode", now)
        meaning = CODES.get(code) if isinstance(code, int) else None
        if code == 300:
            meaning = _about_300(words)
        return judge(answer, meaning or by_status(answer.status), f"{code if code is not None else ''} {words}".strip(), now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the server."""
        return HttpRequest(method="GET", url=f"{self._target.base}/server", headers=self._headers)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read whether the token is good."""
        if answer.status == 200:
            name = text_of(as_object(answer).get("Name"))
            return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200), detail=f"server {name}" if name else "")
        found = self.read(Call(self.question(now), ()), answer, now)
        return Standing(verdict=found if isinstance(found, Verdict) else judge(answer, by_status(answer.status), "", now))


def _body(letter: Letter, share: Share, stream: str) -> dict[str, Any]:
    body: dict[str, Any] = {"From": formatted(letter.from_), "To": ", ".join(map(formatted, share.to)), "Subject": letter.subject}
    for name, people in (("Cc", share.cc), ("Bcc", share.bcc), ("ReplyTo", letter.reply_to)):
        if people:
            body[name] = ", ".join(map(formatted, people))
    if letter.html:
        body["HtmlBody"] = letter.html
    if letter.text or not letter.html:
        body["TextBody"] = letter.text or " "  # Postmark refuses a message without a body
    headers = [{"Name": name, "Value": value} for name, value in letter.headers_without(*_RESERVED).items()]
    if letter.message_id:
        headers += [{"Name": "Message-ID", "Value": letter.message_id}, {"Name": "X-PM-KeepID", "Value": "true"}]
    if headers:
        body["Headers"] = headers
    if letter.files:
        body["Attachments"] = [_file(one) for one in letter.files]
    return body | {"MessageStream": stream}


def _file(one: File) -> dict[str, str]:
    found = {"Name": one.name, "Content": base64.b64encode(one.content).decode(), "ContentType": one.content_type}
    return found | {"ContentID": f"cid:{one.content_id}"} if one.is_inline else found


def _left_out(words: str) -> frozenset[str]:
    found = _INACTIVE.search(words)
    return frozenset(one.strip(".").lower() for one in found[1].split(", ")) if found else frozenset()


def _about_300(words: str) -> Meaning:
    """Tell apart what Postmark calls an invalid request."""
    lowered = words.lower()
    if "'from'" in lowered or "sender" in lowered:
        return verdict.ACCOUNT
    if "too large" in lowered or "exceed" in lowered or "size" in lowered:
        return verdict.TOO_LARGE
    is_address = "'to'" in lowered or "'cc'" in lowered or "'bcc'" in lowered or "address" in lowered or "recipient" in lowered
    return verdict.RECIPIENT if is_address else verdict.CONTENT
