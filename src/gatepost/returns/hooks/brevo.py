"""
Brevo's transactional webhooks.

Believed: the token in `Authorization: Bearer`, or user:password, in `hook.secret`, as the webhook was made with; it signs nothing.
Source: https://developers.brevo.com/docs/transactional-webhooks and .../docs/username-and-password-authentication.
"""

from collections.abc import Mapping
from typing import Any, Final

from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import Occurrence, SharedSecretHook, judged, text

_EVENTS: Final[Mapping[str, tuple[Said, Category]]] = {
    "delivered": (Said.DELIVERED, Category.DELIVERED),
    "deferred": (Said.DEFERRED, Category.UNDETERMINED),
    "hard_bounce": (Said.BOUNCED, Category.INVALID_RECIPIENT),
    "soft_bounce": (Said.BOUNCED, Category.UNDETERMINED),
    "invalid_email": (Said.BOUNCED, Category.INVALID_RECIPIENT),
    "blocked": (Said.BOUNCED, Category.SUPPRESSED),
    "error": (Said.BOUNCED, Category.REMOTE_SYSTEM),
    "spam": (Said.COMPLAINED, Category.COMPLAINT),
    "opened": (Said.OPENED, Category.DELIVERED),
    "unique_opened": (Said.OPENED, Category.DELIVERED),
    "proxy_open": (Said.OPENED, Category.DELIVERED),
    "click": (Said.CLICKED, Category.DELIVERED),
    "unsubscribed": (Said.UNSUBSCRIBED, Category.DELIVERED),
}


class BrevoHook(SharedSecretHook):
    """The hook of one account."""

    wanted = "the token, or user:password, that the webhook was made with"

    def occurrence(self, found: dict[str, Any]) -> Occurrence | None:
        """Read one event."""
        return _occurrence(found)


def _occurrence(found: dict[str, Any]) -> Occurrence | None:
    kind = text(found, "event", most=40)
    if kind not in _EVENTS:
        return None
    said, own = _EVENTS[kind]
    category, rule, reply = None, "", None
    if said in {Said.BOUNCED, Said.DEFERRED}:
        told = judged(text(found, "reason"), otherwise=own, rule=f"brevo.{kind}")
        category, rule, reply = (own, f"brevo.{kind}", told.reply) if own is Category.SUPPRESSED else (told.category, told.rule, told.reply)
    elif said is Said.COMPLAINED:
        category = own
    message_id, address = text(found, "message-id", most=998).strip("<> "), text(found, "email", most=320)
    return Occurrence(
        event_id=f"{kind}/{message_id}/{address}/{text(found, 'ts_epoch', 'ts_event', 'ts')}", said=said,
        provider_ids=(message_id,) if message_id else (), address=address, category=category, rule=rule, reply=reply,
        detail={"is_machine": "true"} if kind == "proxy_open" else {},
    )  # fmt: skip
