"""
Mailjet, Send API v3.1, which wants fields.

Takes: sender, one reply-to, recipients (50 a call), subject, plain text and HTML, files, inline files, further header fields; 15 MB.
Everybody named in a call is mailed: see provider.shares. The answer has an id for each recipient.
Gets lost: our signature, Date, Message-ID (it goes along as CustomID and comes back in Mailjet's events), a second reply-to.
Mailjet has no idempotency keys.
Probe: the account's profile.
Source: https://dev.mailjet.com/email/guides/send-api-v31/ and https://dev.mailjet.com/docs/email-api/email_api_overview/status_codes.
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

MOST: Final = 50

CODES: Final[Mapping[str, Meaning]] = {
    "mj-0001": verdict.LATER,  # unknown error
    "mj-0002": verdict.CONTENT,  # malformed JSON
    "mj-0003": verdict.CONTENT,  # a mandatory property is missing
    "mj-0004": verdict.CONTENT,  # a property has the wrong type
    "mj-0013": verdict.RECIPIENT,  # not a valid address
    "mj-0015": verdict.KEY,  # the key may not do that
    "mj-0020": verdict.RECIPIENT,
    "send-0008": verdict.ACCOUNT,  # the sender is not validated
    "send-0003": verdict.CONTENT,  # neither text nor HTML
    "send-0011": verdict.CONTENT,  # a header field that may not be set
    "send-0014": verdict.CONTENT,
}
"""By ErrorCode."""

WORDS: Final[Mapping[str, Meaning]] = {
    "sender": verdict.ACCOUNT,
    "suspended": verdict.ACCOUNT,
    "temporarily blocked": verdict.ACCOUNT,
    "too large": verdict.TOO_LARGE,
    "exceeds": verdict.TOO_LARGE,
}
"""What the words say more than the status where no code is known."""

_RESERVED: Final = (
    "sender", "x-mj-*", "x-mailjet-*", "x-feedback-id", "feedback-id", "x-mailer", "user-agent", "delivered-to", "list-id",
    "x-csa-complaints",
)  # fmt: skip


class Mailjet:
    """The API with one key."""

    is_idempotent = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        basic = base64.b64encode(f"{target.user}:{target.secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write the calls."""
        letter, url = read_letter(batch.content), f"{self._target.base}/v3.1/send"
        return [
            Call(
                HttpRequest(method="POST", url=url, headers=self._headers, body=msgspec.json.encode({"Messages": [_body(letter, share)]})),
                share.recipients,
            )
            for share in shares(letter, batch.recipients, MOST)
        ]

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict | Mapping[int, Verdict]:
        """Read the ids of the one message, or its errors."""
        found = as_object(answer)
        messages = found.get("Messages")
        first = messages[0] if isinstance(messages, list) and messages and isinstance(messages[0], dict) else None
        if first is not None and first.get("Status") == "success" and answer.status in {200, 201}:
            ids = {address: provider_id for part in ("To", "Cc", "Bcc") for address, provider_id in _ids(first.get(part))}
            return {one.n: _accepted(answer, ids.get(one.address.lower())) for one in call.recipients}
        if first is not None and first.get("Status") == "error":
            return self._refused(answer, first.get("Errors"), now)
        if answer.status in {200, 201}:
            return judge(answer, verdict.UNSURE, f"answered {answer.status} without Messages", now)
        return self._refused(answer, [found], now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the profile."""
        return HttpRequest(method="GET", url=f"{self._target.base}/v3/REST/myprofile", headers=self._headers)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read whether the key is good."""
        if answer.status == 200:
            return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200))
        return Standing(verdict=self._refused(answer, [as_object(answer)], now))

    def _refused(self, answer: HttpAnswer, errors: Any, now: Instant) -> Verdict:
        listed: Sequence[Any] = errors if isinstance(errors, list) else []
        error = next((one for one in listed if isinstance(one, dict)), {})
        code, words = text_of(error.get("ErrorCode")), text_of(error.get("ErrorMessage"))
        status = error.get("StatusCode")
        about = error.get("ErrorRelatedTo")
        is_sender = isinstance(about, list) and any(text_of(one).startswith("From") for one in about)
        meaning = verdict.ACCOUNT if is_sender else CODES.get(code) or by_words(words, WORDS)
        if meaning is None:
            meaning = by_status(status if isinstance(status, int) and status >= 400 else max(answer.status, 400))
        return judge(answer, meaning, f"{code} {words}".strip(), now)


def _body(letter: Letter, share: Share) -> dict[str, Any]:
    body: dict[str, Any] = {"From": _person(letter.from_), "To": [_person(one) for one in share.to], "Subject": letter.subject}
    for name, people in (("Cc", share.cc), ("Bcc", share.bcc)):
        if people:
            body[name] = [_person(one) for one in people]
    if letter.reply_to:
        body["ReplyTo"] = _person(letter.reply_to[0])
    if letter.html:
        body["HTMLPart"] = letter.html
    if letter.text or not letter.html:
        body["TextPart"] = letter.text or " "
    attached, inline = [one for one in letter.files if not one.is_inline], [one for one in letter.files if one.is_inline]
    if attached:
        body["Attachments"] = [_file(one) for one in attached]
    if inline:
        body["InlinedAttachments"] = [{**_file(one), "ContentID": one.content_id} for one in inline]
    if headers := letter.headers_without(*_RESERVED):
        body["Headers"] = headers
    return body | {"CustomID": letter.message_id} if letter.message_id else body


def _person(person: Correspondent) -> dict[str, str]:
    return {"Email": person.address, "Name": person.name} if person.name else {"Email": person.address}


def _file(one: File) -> dict[str, str]:
    return {"ContentType": one.content_type, "Filename": one.name, "Base64Content": base64.b64encode(one.content).decode()}


def _ids(part: Any) -> list[tuple[str, str]]:
    listed = part if isinstance(part, list) else []
    return [(text_of(one.get("Email")).lower(), text_of(one.get("MessageID"))) for one in listed if isinstance(one, dict)]


def _accepted(answer: HttpAnswer, provider_id: str | None) -> Verdict:
    return Verdict(kind=Kind.ACCEPTED, status=answer.status, provider_id=provider_id or None, words=f"MessageID {provider_id or 'missing'}")
