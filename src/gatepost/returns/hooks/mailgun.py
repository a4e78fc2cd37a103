"""
Mailgun's webhooks, of the form with `signature` and `event-data`.

Believed: HMAC-SHA-256 over timestamp and token with the webhook signing key, in `hook.secret`. It does not cover the event
itself: the secret is in it, as Mailgun made it, and the way is TLS.
Source: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks and .../user-manual/events/event-structure.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import HookCall, NotBelieved, Occurrence, judged, objects_of, table, text

_OLDEST_S: Final = 86_400
"""Mailgun calls for eight hours."""

_EVENTS: Final[Mapping[str, Said]] = {
    "delivered": Said.DELIVERED,
    "failed": Said.BOUNCED,
    "rejected": Said.BOUNCED,
    "complained": Said.COMPLAINED,
    "opened": Said.OPENED,
    "clicked": Said.CLICKED,
    "unsubscribed": Said.UNSUBSCRIBED,
}


class MailgunHook:
    """The hook of one account."""

    def __init__(self, secret: str) -> None:
        """
        Args:
            secret: The webhook signing key.

        Raises:
            ValueError: There is none.
        """
        if not secret:
            raise ValueError("hook.secret: give the webhook signing key")
        self._key = secret.encode()

    async def verify(self, call: HookCall) -> dict[str, str]:
        """Check the signature and the age."""
        try:
            (found,) = objects_of(call.body)
        except ValueError:
            raise NotBelieved("it is no event") from None
        signature = table(found, "signature")
        timestamp, token, shown = (text(signature, name, most=200) for name in ("timestamp", "token", "signature"))
        expected = hmac.new(self._key, (timestamp + token).encode(), "sha256").hexdigest()
        if not token or not hmac.compare_digest(expected.encode(), shown.encode()):
            raise NotBelieved("the signature is not right")
        if not (timestamp.isascii() and timestamp.isdigit()) or abs(call.now_s - int(timestamp[:12])) > _OLDEST_S:
            raise NotBelieved("it is too old")
        return {}

    def read(self, body: bytes, _details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """Read one event."""
        return [one for found in objects_of(body) if (one := _occurrence(table(found, "event-data"))) is not None]


def _occurrence(found: dict[str, Any]) -> Occurrence | None:
    kind = text(found, "event")
    said = _EVENTS.get(kind)
    if said is None:
        return None
    if kind == "failed" and text(found, "severity") == "temporary":
        said = Said.DEFERRED
    category, rule, reply = None, "", None
    if said in {Said.BOUNCED, Said.DEFERRED}:
        category, rule, reply = _why(found, kind)
    elif said is Said.COMPLAINED:
        category = Category.COMPLAINT
    message_id = text(table(table(found, "message"), "headers"), "message-id").strip("<> ")
    client = table(found, "client-info")
    said_of_client = (("user_agent", text(client, "user-agent", most=300)), ("bot", text(client, "bot", most=60)))
    detail = {name: value for name, value in said_of_client if value}
    return Occurrence(
        event_id=text(found, "id", most=200) or f"{kind}/{message_id}/{text(found, 'timestamp')}", said=said,
        provider_ids=(message_id,) if message_id else (), address=text(found, "recipient", most=320), category=category, rule=rule,
        reply=reply, host=text(table(found, "delivery-status"), "mx-host", most=255), detail=detail,
    )  # fmt: skip


def _why(found: dict[str, Any], kind: str) -> tuple[Category, str, Any]:
    status, reason = table(found, "delivery-status"), text(found, "reason", most=60)
    words = text(status, "message", "description") or text(table(found, "reject"), "reason")
    told = judged(words, text(status, "enhanced-code"), text(status, "code"))
    if reason.startswith("suppress-"):
        return Category.SUPPRESSED, f"mailgun.{reason}", told.reply
    if kind == "rejected" and told.category is Category.UNDETERMINED:
        return Category.CONTENT_REJECTED, "mailgun.rejected", told.reply
    return told.category, told.rule, told.reply
