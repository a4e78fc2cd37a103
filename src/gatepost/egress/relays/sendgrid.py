"""
SendGrid, API v3: mail/send, which wants fields.

Takes: sender, one reply-to list, recipients, subject, plain text and HTML, files with Content-IDs, further header fields; at most
1,000 recipients and 30 MB a call. Everybody named in a call is mailed: see provider.shares.
Gets lost: our signature, Date, and of header fields that stand twice all but the first; a retry to some of several recipients
names only that one. SendGrid may replace Message-ID.
Probe: the key's scopes, which every key may ask for.
Source: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send and .../mail-send/errors.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.egress.courier import Batch
from gatepost.egress.relays import verdict
from gatepost.egress.relays.provider import Call, Share, Standing, shares
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Meaning, Verdict, as_object, by_status, by_words, judge, text_of
from gatepost.mime.letter import Correspondent, File, Letter, read_letter
from gatepost.net.http_client import HttpAnswer, HttpRequest

MOST: Final = 1_000

WORDS: Final[Mapping[str, Meaning]] = {
    "maximum credits exceeded": verdict.BUSY,  # said with 401
    "verified sender identity": verdict.ACCOUNT,
    "does not contain a valid address": verdict.RECIPIENT,
    "invalid email address": verdict.RECIPIENT,
    "too large": verdict.TOO_LARGE,
    "attachment": verdict.CONTENT,
}
"""What the words of an error say more than its status."""

_RESERVED: Final = ("x-sg-id", "x-sg-eid", "dkim-signature", "sender")


class SendGrid:
    """The API with one key."""

    is_idempotent = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._headers = {"Authorization": f"Bearer {target.secret}", "Content-Type": "application/json"}

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write the calls."""
        letter = read_letter(batch.content)
        url = f"{self._target.base}/v3/mail/send"
        found = []
        for share in shares(letter, batch.recipients, MOST):
            body = msgspec.json.encode(_body(letter, share))
            found.append(Call(HttpRequest(method="POST", url=url, headers=self._headers, body=body), share.recipients))
        return found

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict:
        """Read X-Message-Id, or the errors."""
        if answer.status == 202:
            provider_id = answer.headers.get("x-message-id") or None
            return Verdict(kind=Kind.ACCEPTED, status=202, provider_id=provider_id, words=f"X-Message-Id {provider_id or 'missing'}")
        words, field = _errors(answer)
        meaning = by_words(words, WORDS) if 400 <= answer.status < 500 else None
        if meaning is None and answer.status == 400:
            meaning = _by_field(field)
        return judge(answer, meaning or by_status(answer.status), words, now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask what the key may do."""
        return HttpRequest(method="GET", url=f"{self._target.base}/v3/scopes", headers=self._headers)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read whether it may send."""
        if answer.status != 200:
            return Standing(verdict=self.read(Call(self.question(now), ()), answer, now))
        scopes = as_object(answer).get("scopes")
        if isinstance(scopes, list) and "mail.send" not in scopes:
            return Standing(verdict=judge(answer, verdict.KEY, "the key has no scope mail.send", now))
        return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200))


def _body(letter: Letter, share: Share) -> dict[str, Any]:
    groups = (("to", share.to), ("cc", share.cc), ("bcc", share.bcc))
    addressed = {name: [_person(one) for one in people] for name, people in groups if people}
    body: dict[str, Any] = {
        "personalizations": [addressed],
        "from": _person(letter.from_),
        "subject": letter.subject or " ",  # SendGrid refuses an empty one
        "content": _content(letter),
    }
    if len(letter.reply_to) == 1:
        body["reply_to"] = _person(letter.reply_to[0])
    elif letter.reply_to:
        body["reply_to_list"] = [_person(one) for one in letter.reply_to]
    if letter.files:
        body["attachments"] = [_file(one) for one in letter.files]
    headers = letter.headers_without(*_RESERVED)
    if letter.message_id:
        headers["Message-ID"] = letter.message_id
    if headers:
        body["headers"] = headers
    return body


def _content(letter: Letter) -> list[dict[str, str]]:
    """Give plain text first, as SendGrid wants it; a message of files only has one space."""
    both = (("text/plain", letter.text), ("text/html", letter.html))
    found = [{"type": kind, "value": value} for kind, value in both if value]
    return found or [{"type": "text/plain", "value": " "}]


def _person(person: Correspondent) -> dict[str, str]:
    return {"email": person.address, "name": person.name} if person.name else {"email": person.address}


def _file(one: File) -> dict[str, str]:
    found = {"content": base64.b64encode(one.content).decode(), "type": one.content_type.partition(";")[0], "filename": one.name}
    found["disposition"] = "inline" if one.is_inline else "attachment"
    if one.content_id:
        found["content_id"] = one.content_id
    return found


def _errors(answer: HttpAnswer) -> tuple[str, str]:
    errors = as_object(answer).get("errors")
    listed: Sequence[Any] = errors if isinstance(errors, list) else []
    found = [one for one in listed if isinstance(one, dict)]
    words = "; ".join(text_of(one.get("message")) for one in found)
    return words, next((text_of(one.get("field")) for one in found), "")


def _by_field(field: str) -> Meaning | None:
    """Say what a 400 is about by the field that it names."""
    if field.startswith("personalizations"):
        return verdict.RECIPIENT
    if field.startswith("from"):
        return verdict.ACCOUNT
    return verdict.CONTENT if field.startswith(("content", "attachments", "headers", "subject", "reply_to")) else None
