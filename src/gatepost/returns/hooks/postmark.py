"""
Postmark's webhooks.

Believed: HTTP basic authentication, user:password in `hook.secret`, as in the URL that Postmark was given; it signs nothing.
Source: https://postmarkapp.com/developer/webhooks/webhooks-overview and https://postmarkapp.com/developer/api/bounce-api#bounce-types.
"""

from collections.abc import Mapping
from typing import Any, Final

from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import Occurrence, SharedSecretHook, judged, text

_RECORDS: Final[Mapping[str, Said]] = {
    "Delivery": Said.DELIVERED,
    "Bounce": Said.BOUNCED,
    "SpamComplaint": Said.COMPLAINED,
    "Open": Said.OPENED,
    "Click": Said.CLICKED,
    "SubscriptionChange": Said.UNSUBSCRIBED,
}
_TYPES: Final[Mapping[str, tuple[Said, Category | None]]] = {
    "HardBounce": (Said.BOUNCED, Category.INVALID_RECIPIENT),
    "BadEmailAddress": (Said.BOUNCED, Category.INVALID_RECIPIENT),
    "AddressChange": (Said.BOUNCED, Category.INVALID_RECIPIENT),
    "SoftBounce": (Said.BOUNCED, Category.UNDETERMINED),
    "Transient": (Said.DEFERRED, Category.UNDETERMINED),
    "DnsError": (Said.BOUNCED, Category.NETWORK),
    "SpamNotification": (Said.BOUNCED, Category.SPAM_CONTENT),
    "VirusNotification": (Said.BOUNCED, Category.MALWARE),
    "Blocked": (Said.BOUNCED, Category.REPUTATION_BLOCK),
    "OpenRelayTest": (Said.BOUNCED, Category.RELAY_DENIED),
    "DMARCPolicy": (Said.BOUNCED, Category.AUTH_FAILURE),
    "TemplateRenderingFailed": (Said.BOUNCED, Category.CONTENT_REJECTED),
    "ManuallyDeactivated": (Said.BOUNCED, Category.SUPPRESSED),
    "SMTPApiError": (Said.BOUNCED, Category.REMOTE_SYSTEM),
    "InboundError": (Said.BOUNCED, Category.REMOTE_SYSTEM),
    "SpamComplaint": (Said.COMPLAINED, Category.COMPLAINT),
    "Unsubscribe": (Said.UNSUBSCRIBED, None),
    "Unknown": (Said.BOUNCED, Category.UNDETERMINED),
}
"""Bounce types; automatic answers and challenges are none for us."""
_BY_WORDS: Final = frozenset({"SoftBounce", "Transient", "Blocked", "Unknown", "HardBounce"})
"""Types whose words may say more."""


class PostmarkHook(SharedSecretHook):
    """The hook of one server."""

    wanted = "user:password of the webhook's URL"

    def occurrence(self, found: dict[str, Any]) -> Occurrence | None:
        """Read one event."""
        return _occurrence(found)


def _occurrence(found: dict[str, Any]) -> Occurrence | None:
    record = text(found, "RecordType", most=40)
    said = _RECORDS.get(record)
    category, rule, reply = None, "", None
    if record == "Bounce":
        kind = text(found, "Type", most=40)
        if kind not in _TYPES:
            return None
        said, category = _TYPES[kind]
        told = judged(text(found, "Details", "Description"), otherwise=category or Category.UNDETERMINED, rule=f"postmark.{kind}")
        reply, rule = told.reply, f"postmark.{kind}"
        if kind in _BY_WORDS and said in {Said.BOUNCED, Said.DEFERRED}:
            category, rule = told.category, told.rule
    elif record == "SubscriptionChange" and not _is_their_wish(found):
        return None
    elif said is Said.COMPLAINED:
        category = Category.COMPLAINT
    if said is None:
        return None
    message_id, address = text(found, "MessageID", most=100), text(found, "Recipient", "Email", most=320)
    when = text(found, "ID", "DeliveredAt", "ReceivedAt", "ChangedAt", "BouncedAt", most=60)
    detail = {"user_agent": agent} if (agent := text(found, "UserAgent", most=300)) else {}
    return Occurrence(
        event_id=f"{record}/{message_id}/{address}/{when}", said=said, provider_ids=(message_id,) if message_id else (), address=address,
        category=category, rule=rule, reply=reply, detail=detail,
    )  # fmt: skip


def _is_their_wish(found: dict[str, Any]) -> bool:
    is_off = found.get("SuppressSending") is True
    return is_off and text(found, "Origin") == "Recipient" and text(found, "SuppressionReason") == "ManualSuppression"
