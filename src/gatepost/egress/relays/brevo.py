"""
Brevo: smtp/email, which wants fields and knows idempotency keys.

Takes: sender, one reply-to, recipients, subject, plain text and HTML, files, further header fields; 20 MB.
Each recipient has a call of its own with a key (a UUID) that is the same at every attempt: for half an hour a retry sends nothing twice.
Gets lost: our signature, Date, whom else the message went to, a second reply-to, and the Content-IDs of inline files: they come
as attachments. Brevo tells a file's type by its name.
Probe: the account, which also tells the credits that are left.
Source: https://developers.brevo.com/reference/sendtransacemail, https://developers.brevo.com/docs/how-it-works (error codes) and
https://developers.brevo.com/docs/heterogenous-versions-batch-emails (idempotency).
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
from gatepost.mime.letter import Correspondent, Letter, read_letter
from gatepost.net.http_client import HttpAnswer, HttpRequest

CODES: Final[Mapping[str, Meaning]] = {
    "unauthorized": verdict.KEY,
    "permission_denied": verdict.ACCOUNT,
    "account_under_validation": verdict.ACCOUNT,
    "not_enough_credits": verdict.BUSY,
    "too_many_requests": verdict.BUSY,
    "document_not_found": verdict.ACCOUNT,
    "method_not_allowed": verdict.ACCOUNT,
    "reseller_permission_denied": verdict.ACCOUNT,
    "invalid_parameter": verdict.CONTENT,
    "missing_parameter": verdict.CONTENT,
    "out_of_range": verdict.CONTENT,
    "not_acceptable": verdict.CONTENT,
}
"""By the error's code."""

WORDS: Final[Mapping[str, Mapping[str, Meaning]]] = {
    "invalid_parameter": {
        "sender": verdict.ACCOUNT,
        "email is not valid in to": verdict.RECIPIENT,
        "email is not valid": verdict.RECIPIENT,
        "blacklisted": verdict.INACTIVE,
        "blocklisted": verdict.INACTIVE,
        "too large": verdict.TOO_LARGE,
        "size": verdict.TOO_LARGE,
    },
    "duplicate_parameter": {"idempotency": verdict.ACCEPTED},
    "duplicate_request": {"": verdict.ACCEPTED},
}
"""Where one code means several things, by its words; a key that was seen before means that the first call was taken."""

_RESERVED: Final = ("sender", "idempotencykey", "x-mailin-*", "x-sib-*", "sender.ip")


class Brevo:
    """The API with one key."""

    is_idempotent = True

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._headers = {"api-key": target.secret, "Content-Type": "application/json"}

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write a call for each recipient."""
        letter, url, found = read_letter(batch.content), f"{self._target.base}/v3/smtp/email", []
        for share in singles(letter, batch.recipients):
            body = _body(letter, share, str(call_key(batch, share.recipients)))
            found.append(Call(HttpRequest(method="POST", url=url, headers=self._headers, body=msgspec.json.encode(body)), share.recipients))
        return found

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict:
        """Read messageId, or code and message of the error."""
        found = as_object(answer)
        if answer.status in {200, 201, 202}:
            provider_id = text_of(found.get("messageId")).strip("<>")
            if not provider_id:
                return judge(answer, verdict.UNSURE, f"answered {answer.status} without a messageId", now)
            return Verdict(kind=Kind.ACCEPTED, status=answer.status, provider_id=provider_id, words=f"messageId {provider_id}")
        code, words = text_of(found.get("code")), text_of(found.get("message"))
        meaning = by_words(words, WORDS.get(code, {})) or CODES.get(code) or by_status(answer.status)
        return judge(answer, meaning, f"{code} {words}".strip(), now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the account."""
        return HttpRequest(method="GET", url=f"{self._target.base}/v3/account", headers=self._headers)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read the credits that are left."""
        if answer.status != 200:
            return Standing(verdict=self.read(Call(self.question(now), ()), answer, now))
        plans = as_object(answer).get("plan")
        left = [number for one in (plans if isinstance(plans, list) else []) if (number := _credits(one)) is not None]
        return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200), quota_left=sum(left) if left else None)


def _body(letter: Letter, share: Share, key: str) -> dict[str, Any]:
    body: dict[str, Any] = {"sender": _person(letter.from_), "to": [_person(one) for one in share.to], "subject": letter.subject or " "}
    if letter.reply_to:
        body["replyTo"] = _person(letter.reply_to[0])
    if letter.html:
        body["htmlContent"] = letter.html
    if letter.text or not letter.html:
        body["textContent"] = letter.text or " "
    headers = letter.headers_without(*_RESERVED)
    if letter.message_id:
        headers["Message-Id"] = letter.message_id
    body["headers"] = headers | {"idempotencyKey": key}
    if letter.files:
        body["attachment"] = [{"name": one.name, "content": base64.b64encode(one.content).decode()} for one in letter.files]
    return body


def _credits(plan: Any) -> int | None:
    """Read how many mails a plan still allows; None for one that has no such limit, or is about text messages."""
    if not isinstance(plan, dict) or plan.get("creditsType") != "sendLimit" or plan.get("type") == "sms":
        return None
    found = plan.get("credits")
    return found if isinstance(found, int) else None


def _person(person: Correspondent) -> dict[str, str]:
    return {"email": person.address, "name": person.name} if person.name else {"email": person.address}
