"""Events: facts that customers see, append-only. Their names are those of the API and of webhooks."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gatepost.clock import Instant


class EventType(StrEnum):
    """Every kind of event that Gatepost records today."""

    ACCEPTED = "message.accepted"
    SCHEDULED = "message.scheduled"
    CANCELLED = "message.cancelled"
    RETRIED = "message.retried"
    DEFERRED = "recipient.deferred"
    SENT = "recipient.sent"
    DELIVERED = "recipient.delivered"
    BOUNCED = "recipient.bounced"
    SUPPRESSED = "recipient.suppressed"
    EXPIRED = "recipient.expired"
    NOTIFIED = "recipient.notified"
    COMPLAINED = "recipient.complained"
    OPENED = "recipient.opened"
    CLICKED = "recipient.clicked"
    UNSUBSCRIBED = "recipient.unsubscribed"
    SENDING_BLOCKED = "sending.blocked"
    SENDING_UNUSUAL = "sending.unusual"
    SENDING_USUAL = "sending.usual"
    DOMAIN_VERIFIED = "domain.verified"
    DOMAIN_FAILING = "domain.failing"
    RELAY_UNHEALTHY = "relay.unhealthy"
    RELAY_RECOVERED = "relay.recovered"
    SUPPRESSION_ADDED = "suppression.added"
    SUPPRESSION_REMOVED = "suppression.removed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One fact.

    Attributes:
        n: The recipient's number in its message; None for events of the whole message or of no message.
        data: JSON-ready details; never content or secrets.
    """

    id: str
    type: EventType
    tenant_id: str
    at: Instant
    message_id: str | None = None
    n: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
