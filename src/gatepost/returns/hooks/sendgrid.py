"""
SendGrid's signed event webhook.

Believed: an ECDSA signature (P-256, SHA-256) over timestamp and body by the account's verification key, in `hook.secret`.
Source: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and .../getting-started-event-webhook-security-features.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gatepost.domain.outcome import Category, Reply
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import HookCall, NotBelieved, Occurrence, judged, objects_of, text

_OLDEST_S: Final = 3 * 86_400
"""SendGrid calls for a day; the same event counts once in any case."""

_EVENTS: Final[Mapping[str, Said]] = {
    "delivered": Said.DELIVERED,
    "deferred": Said.DEFERRED,
    "bounce": Said.BOUNCED,
    "dropped": Said.BOUNCED,
    "spamreport": Said.COMPLAINED,
    "open": Said.OPENED,
    "click": Said.CLICKED,
    "unsubscribe": Said.UNSUBSCRIBED,
    "group_unsubscribe": Said.UNSUBSCRIBED,
}
_DROPPED: Final[Mapping[str, Category]] = {
    "bounced address": Category.SUPPRESSED,
    "spam reporting address": Category.SUPPRESSED,
    "unsubscribed address": Category.SUPPRESSED,
    "invalid": Category.INVALID_RECIPIENT,
    "invalid smtpapi header": Category.POLICY_REJECTED,
    "spam content": Category.SPAM_CONTENT,
    "recipient list over package quota": Category.RATE_LIMITED,
}
"""Reasons of `dropped`."""


class SendGridHook:
    """The hook of one account."""

    def __init__(self, secret: str) -> None:
        """
        Args:
            secret: The verification key, base64 of its DER form, as SendGrid shows it.

        Raises:
            ValueError: It is none.
        """
        try:
            key = load_der_public_key(base64.b64decode(secret, validate=True))
        except (binascii.Error, ValueError, TypeError):
            raise ValueError("hook.secret: give the verification key of the signed event webhook") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("hook.secret: the verification key is an elliptic curve's")  # noqa: TRY004 - the value is wrong, not its type
        self._key = key

    async def verify(self, call: HookCall) -> dict[str, str]:
        """Check the signature and the age."""
        signature = call.headers.get("x-twilio-email-event-webhook-signature", "")
        timestamp = call.headers.get("x-twilio-email-event-webhook-timestamp", "")
        try:
            raw = base64.b64decode(signature, validate=True)
            self._key.verify(raw, timestamp.encode() + call.body, ec.ECDSA(hashes.SHA256()))
        except (binascii.Error, InvalidSignature, ValueError):
            raise NotBelieved("the signature is not right") from None
        if not (timestamp.isascii() and timestamp.isdigit()) or abs(call.now_s - int(timestamp[:12])) > _OLDEST_S:
            raise NotBelieved("it is too old")
        return {}

    def read(self, body: bytes, _details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """Read a list of events."""
        return [one for found in objects_of(body) if (one := _occurrence(found)) is not None]


def _occurrence(found: dict[str, Any]) -> Occurrence | None:
    kind = text(found, "event")
    said = _EVENTS.get(kind)
    if said is None:
        return None
    category, rule, reply = None, "", None
    words = text(found, "reason", "response")
    if kind == "dropped":
        category, rule = _DROPPED.get(words.lower(), Category.UNDETERMINED), f"sendgrid.dropped.{words[:60]}"
        reply = Reply(code=0, enhanced=None, text=words) if words else None
    elif said in {Said.BOUNCED, Said.DEFERRED}:
        is_hard = kind == "bounce" and text(found, "type") != "blocked"
        told = judged(
            words, text(found, "status"), otherwise=Category.INVALID_RECIPIENT if is_hard else Category.UNDETERMINED, rule="sendgrid.bounce"
        )
        category, rule, reply = told.category, told.rule, told.reply
    elif said is Said.COMPLAINED:
        category = Category.COMPLAINT
    same = "/".join((kind, text(found, "sg_message_id"), text(found, "timestamp"), text(found, "email")))
    return Occurrence(
        event_id=text(found, "sg_event_id", most=200) or same, said=said, provider_ids=_ids(text(found, "sg_message_id")),
        address=text(found, "email", most=320), category=category, rule=rule, reply=reply, detail=_detail(found),
    )  # fmt: skip


def _ids(sg_message_id: str) -> tuple[str, ...]:
    """Take off what SendGrid writes behind the X-Message-Id of its answer: where the message went inside."""
    parts = sg_message_id.split(".")
    at = next((n for n, part in enumerate(parts) if part.startswith(("filter", "recvd", "p3", "ismtpd"))), len(parts))
    return tuple(dict.fromkeys(one for one in (".".join(parts[:at]), parts[0], sg_message_id) if one))


def _detail(found: dict[str, Any]) -> dict[str, str]:
    detail = {"user_agent": agent} if (agent := text(found, "useragent", most=300)) else {}
    return detail | ({"is_machine": "true"} if found.get("sg_machine_open") is True else {})
