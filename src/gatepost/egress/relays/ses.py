"""
Amazon SES, API v2: SendEmail with the raw message.

Takes: our bytes as they are, at most 50 recipients a call, 40 MB. The recipients of the call are the envelope's, whatever the
header says. Gets lost: SES writes Message-ID and Date anew, and sends from a reverse-path of its own.
Probe: GetAccount, which also tells what is left of the day's quota.
Source: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html and CommonErrors.html there.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.egress.courier import Batch
from gatepost.egress.relays import verdict
from gatepost.egress.relays.provider import Call, Standing, chunks
from gatepost.egress.relays.sigv4 import AwsKey, signed_headers
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Meaning, Verdict, as_object, by_status, by_words, judge, text_of
from gatepost.net.http_client import HttpAnswer, HttpRequest

MOST: Final = 50

CODES: Final[Mapping[str, Meaning]] = {
    "AccountSuspendedException": verdict.ACCOUNT,
    "SendingPausedException": verdict.ACCOUNT,
    "MailFromDomainNotVerifiedException": verdict.ACCOUNT,
    "NotFoundException": verdict.ACCOUNT,  # the configuration set
    "LimitExceededException": verdict.BUSY,
    "TooManyRequestsException": verdict.BUSY,
    "Throttling": verdict.BUSY,
    "ThrottlingException": verdict.BUSY,
    "RequestLimitExceeded": verdict.BUSY,
    "MessageRejected": verdict.CONTENT,
    "BadRequestException": verdict.CONTENT,
    "AccessDenied": verdict.KEY,
    "AccessDeniedException": verdict.KEY,
    "ExpiredToken": verdict.KEY,
    "ExpiredTokenException": verdict.KEY,
    "IncompleteSignature": verdict.KEY,
    "InvalidClientTokenId": verdict.KEY,
    "InvalidSignatureException": verdict.KEY,
    "MissingAuthenticationToken": verdict.KEY,
    "MissingAuthenticationTokenException": verdict.KEY,
    "NotAuthorized": verdict.KEY,
    "OptInRequired": verdict.KEY,
    "RequestExpired": verdict.KEY,  # our clock is wrong
    "SignatureDoesNotMatch": verdict.KEY,
    "UnrecognizedClientException": verdict.KEY,
    "InternalFailure": verdict.LATER,
    "InternalServiceErrorException": verdict.LATER,
    "ServiceUnavailable": verdict.LATER,
}
"""By the name of the exception."""

WORDS: Final[Mapping[str, Mapping[str, Meaning]]] = {
    "MessageRejected": {
        "not verified": verdict.ACCOUNT,
        "have authority": verdict.ACCOUNT,
        "sending paused": verdict.ACCOUNT,
        "length": verdict.TOO_LARGE,
    },
    "BadRequestException": {
        "final '@domain'": verdict.RECIPIENT,
        "illegal address": verdict.RECIPIENT,
        "invalid email address": verdict.RECIPIENT,
        "domain contains": verdict.RECIPIENT,
        "local address contains": verdict.RECIPIENT,
        "message length": verdict.TOO_LARGE,
        "too long": verdict.TOO_LARGE,
    },
}
"""Where one exception means several things, by its words."""


class Ses:
    """The API with one account's key in one region."""

    is_idempotent = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._key = AwsKey(access_key_id=target.user, secret=target.secret, session_token=target.session_token)

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write a call for every 50 recipients."""
        data = base64.b64encode(batch.content).decode()
        found = []
        for group in chunks(batch.recipients, MOST):
            body: dict[str, Any] = {"Destination": {"ToAddresses": [one.address for one in group]}, "Content": {"Raw": {"Data": data}}}
            if name := self._target.options.get("configuration_set"):
                body["ConfigurationSetName"] = name
            found.append(Call(self._signed("POST", "/v2/email/outbound-emails", msgspec.json.encode(body), now), group))
        return found

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict:
        """Read MessageId, or the exception: its name stands in a header, or in the body."""
        found = as_object(answer)
        if answer.status == 200:
            provider_id = text_of(found.get("MessageId"))
            if not provider_id:
                return judge(answer, verdict.UNSURE, "answered 200 without a MessageId", now)
            return Verdict(kind=Kind.ACCEPTED, status=200, provider_id=provider_id, words=f"MessageId {provider_id}")
        name = answer.headers.get("x-amzn-errortype", "") or text_of(found.get("__type")) or text_of(found.get("code"))
        name = name.partition(":")[0].rpartition("#")[2]
        words = text_of(found.get("message")) or text_of(found.get("Message"))
        meaning = by_words(words, WORDS.get(name, {})) or CODES.get(name) or by_status(answer.status)
        return judge(answer, meaning, f"{name} {words}".strip(), now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the account."""
        return self._signed("GET", "/v2/email/account", b"", now)

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read whether it may send, and what is left of 24 hours."""
        if answer.status != 200:
            return Standing(verdict=self.read(Call(self.question(now), ()), answer, now))
        found = as_object(answer)
        quota = found.get("SendQuota")
        left = None
        if isinstance(quota, dict) and isinstance(most := quota.get("Max24HourSend"), int | float) and most >= 0:
            sent = quota.get("SentLast24Hours")
            left = max(0, int(most - (sent if isinstance(sent, int | float) else 0)))
        if found.get("SendingEnabled") is False:
            return Standing(verdict=judge(answer, verdict.ACCOUNT, "sending is paused for this account", now), quota_left=left)
        detail = "" if found.get("ProductionAccessEnabled", True) else "the account is still in the SES sandbox"
        return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200), quota_left=left, detail=detail)

    def _signed(self, method: str, path: str, body: bytes, now: Instant) -> HttpRequest:
        url = self._target.base + path
        headers = {"Content-Type": "application/json"} if body else {}
        headers = signed_headers(method, url, headers, body, key=self._key, region=self._target.place, service="ses", now=now)
        return HttpRequest(method=method, url=url, headers=headers, body=body)
