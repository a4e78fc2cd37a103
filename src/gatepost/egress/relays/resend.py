"""
Resend: emails, which wants fields and knows idempotency keys.

Takes: sender, reply-to, recipients, subject, plain text and HTML, files with Content-IDs, further header fields; 40 MB.
Each recipient has a call of its own with a key that is the same at every attempt: for 24 hours a retry sends nothing twice.
Gets lost: our signature, Date, and whom else the message went to: each recipient sees only themselves in To.
Probe: the list of domains; a key that may only send is told so, which shows that it is good.
Source: https://resend.com/docs/api-reference/emails/send-email, .../errors, .../rate-limit and
https://resend.com/docs/dashboard/emails/idempotency-keys.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.egress.courier import Batch
from gatepost.egress.relays import verdict
from gatepost.egress.relays.provider import Call, Share, Standing, call_key, singles
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Meaning, Verdict, as_object, by_status, by_words, judge, text_of
from gatepost.mime.letter import File, Letter, formatted, read_letter
from gatepost.net.http_client import HttpAnswer, HttpRequest

NAMES: Final[Mapping[str, Meaning]] = {
    "missing_api_key": verdict.KEY,
    "restricted_api_key": verdict.KEY,
    "invalid_api_key": verdict.KEY,
    "invalid_api_Key": verdict.KEY,
    "suspended_api_key": verdict.ACCOUNT,
    "invalid_access": verdict.ACCOUNT,
    "invalid_from_address": verdict.ACCOUNT,
    "invalid_region": verdict.ACCOUNT,
    "not_found": verdict.ACCOUNT,
    "method_not_allowed": verdict.ACCOUNT,
    "rate_limit_exceeded": verdict.BUSY,
    "daily_quota_exceeded": verdict.BUSY,
    "monthly_quota_exceeded": verdict.BUSY,
    "concurrent_idempotent_requests": verdict.LATER,  # the first call is still being worked on
    "invalid_idempotent_request": verdict.UNSURE,  # a call with this key was taken, with other content
    "invalid_idempotency_key": verdict.CONTENT,
    "invalid_attachment": verdict.CONTENT,
    "invalid_parameter": verdict.CONTENT,
    "missing_required_field": verdict.CONTENT,
    "security_error": verdict.CONTENT,
    "application_error": verdict.LATER,
    "internal_server_error": verdict.LATER,
}
"""By the error's name."""

WORDS: Final[Mapping[str, Meaning]] = {
    "only send testing emails": verdict.ACCOUNT,
    "domain is not verified": verdict.ACCOUNT,
    "`from`": verdict.ACCOUNT,
    "`to`": verdict.RECIPIENT,
    "size": verdict.TOO_LARGE,
}
"""What a validation_error is about."""

_RESERVED: Final = ("sender",)


class Resend:
    """The API with one key."""

    is_idempotent = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._headers = {"Authorization": f"Bearer {target.secret}", "Content-Type": "application/json"}

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write a call for each recipient."""
        letter, url, found = read_letter(batch.content), f"{self._target.base}/emails", []
        for share in singles(letter, batch.recipients):
            headers = {**self._headers, "Idempotency-Key": str(call_key(batch, share.recipients))}
            request = HttpRequest(method="POST", url=url, headers=headers, body=msgspec.json.encode(_body(letter, share)))
            found.append(Call(request, share.recipients))
        return found

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict:
        """Read the id, or name and message of the error."""
        found = as_object(answer)
        if answer.status in {200, 201}:
            provider_id = text_of(found.get("id"))
            if not provider_id:
                return judge(answer, verdict.UNSURE, f"answered {answer.status} without an id", now)
            return Verdict(kind=Kind.ACCEPTED, status=answer.status, provider_id=provider_id, words=f"id {provider_id}")
        name, words = text_of(found.get("name")), text_of(found.get("message"))
        meaning = NAMES.get(name)
        if name == "validation_error":
            meaning = by_words(words, WORDS) or (verdict.CONTENT if answer.status in {400, 422} else None)
        return judge(answer, meaning or by_status(answer.status), f"{name} {words}".strip(), now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the domains."""
        return HttpRequest(method="GET", url=f"{self._target.base}/domains", headers=self._headers)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read whether the key is good."""
        if answer.status == 200:
            return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200))
        if text_of(as_object(answer).get("name")) == "restricted_api_key":
            return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=answer.status), detail="the key may only send")
        return Standing(verdict=self.read(Call(self.question(now), ()), answer, now))


def _body(letter: Letter, share: Share) -> dict[str, Any]:
    body: dict[str, Any] = {"from": formatted(letter.from_), "to": [formatted(one) for one in share.to], "subject": letter.subject}
    if letter.reply_to:
        body["reply_to"] = [formatted(one) for one in letter.reply_to]
    if letter.html:
        body["html"] = letter.html
    if letter.text or not letter.html:
        body["text"] = letter.text or " "
    headers = letter.headers_without(*_RESERVED)
    if letter.message_id:
        headers["Message-ID"] = letter.message_id
    if headers:
        body["headers"] = headers
    if letter.files:
        body["attachments"] = [_file(one) for one in letter.files]
    return body


def _file(one: File) -> dict[str, str]:
    found = {"filename": one.name, "content": base64.b64encode(one.content).decode(), "content_type": one.content_type}
    return found | {"content_id": one.content_id} if one.content_id else found
