"""
Mailgun: messages.mime, which takes the raw message.

Takes: our bytes as they are, at most 1,000 recipients a call, 25 MB. The field `to` is the envelope, whatever the header says.
Gets lost: Mailgun adds its own signature and Received fields, and sends from a reverse-path of its own.
Probe: the domain's own page.
Source: https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages and .../api-overview.
"""

import base64
from collections.abc import Mapping
from typing import Final

from gatepost.clock import Instant
from gatepost.egress.courier import Batch
from gatepost.egress.relays import verdict
from gatepost.egress.relays.provider import Call, Standing, call_key, chunks
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Meaning, Verdict, as_object, by_status, by_words, judge, text_of
from gatepost.net.http_client import HttpAnswer, HttpRequest

MOST: Final = 1_000

WORDS: Final[Mapping[str, Meaning]] = {
    "not a valid address": verdict.RECIPIENT,
    "parameter is not a valid": verdict.RECIPIENT,
    "domain is unverified": verdict.ACCOUNT,
    "domain not verified": verdict.ACCOUNT,
    "not allowed to send": verdict.ACCOUNT,
    "sandbox subdomains": verdict.ACCOUNT,
    "disabled": verdict.ACCOUNT,
    "suspended": verdict.ACCOUNT,
    "probation": verdict.BUSY,
    "limit exceeded": verdict.BUSY,
    "exceeded": verdict.BUSY,
    "too large": verdict.TOO_LARGE,
}
"""Mailgun has no codes: what a 400, 402 or 403 means stands in its message."""


class Mailgun:
    """The API with one domain's key."""

    is_idempotent = False

    def __init__(self, target: Target) -> None:
        """Read the account."""
        self._target = target
        self._authorization = "Basic " + base64.b64encode(f"api:{target.secret}".encode()).decode()

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """Write a call for every 1,000 recipients."""
        url = f"{self._target.base}/v3/{self._target.place}/messages.mime"
        found = []
        for group in chunks(batch.recipients, MOST):
            boundary = f"gatepost-{call_key(batch, group).hex}"
            headers = {"Authorization": self._authorization, "Content-Type": f"multipart/form-data; boundary={boundary}"}
            body = _form(boundary, [one.address for one in group], batch.content)
            found.append(Call(HttpRequest(method="POST", url=url, headers=headers, body=body), group))
        return found

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict:
        """Read the id, or the message."""
        found = as_object(answer)
        words = text_of(found.get("message"))
        if answer.status == 200:
            provider_id = text_of(found.get("id")).strip("<>")
            if not provider_id:
                return judge(answer, verdict.UNSURE, "answered 200 without an id", now)
            return Verdict(kind=Kind.ACCEPTED, status=200, provider_id=provider_id, words=f"{words} id {provider_id}".strip())
        meaning = by_words(words, WORDS) if answer.status in {400, 402, 403} else None
        return judge(answer, meaning or by_status(answer.status), words or answer.body[:200].decode("utf-8", "replace"), now)

    def question(self, now: Instant) -> HttpRequest:
        """Ask for the domain."""
        url = f"{self._target.base}/v3/domains/{self._target.place}"
        return HttpRequest(method="GET", url=url, headers={"Authorization": self._authorization})

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read the domain's state; a key that may only send cannot see it, which Mailgun says with 403 as it does of a bad key."""
        if answer.status == 403:
            return Standing(verdict=judge(answer, verdict.UNSURE, "the key may not look at its domain; it may still send", now))
        if answer.status != 200:
            return Standing(verdict=self.read(Call(self.question(now), ()), answer, now))
        domain = as_object(answer).get("domain")
        state = text_of(domain.get("state")) if isinstance(domain, dict) else ""
        if state in {"disabled", "unverified"}:
            return Standing(verdict=judge(answer, verdict.ACCOUNT, f"the domain is {state}", now))
        return Standing(verdict=Verdict(kind=Kind.ACCEPTED, status=200))


def _form(boundary: str, addresses: list[str], content: bytes) -> bytes:
    """Write a form (RFC 7578): a field for each recipient, and the message as a file."""
    edge = f"--{boundary}\r\n"
    fields = "".join(f'{edge}Content-Disposition: form-data; name="to"\r\n\r\n{address}\r\n' for address in addresses)
    head = f'{edge}Content-Disposition: form-data; name="message"; filename="message.eml"\r\nContent-Type: message/rfc822\r\n\r\n'
    return fields.encode() + head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
