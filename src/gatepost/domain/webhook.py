"""
Webhooks: whom a tenant wants to be told, of what, and what became of each call.

Not here: where they are kept (store.webhooks), signatures (wire.hook_signature), sending (webhooks).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gatepost.clock import Instant
from gatepost.domain.event import EventType

EVERY: Final = "*"
NEVER: Final[Instant] = 2**62
"""When a hook is due whose turn depends on another one."""
MOST_IN_BATCH: Final = 100

HEADERS: Final = frozenset(
    {"authorization", "x-api-key", "x-auth-token", "x-access-token", "cf-access-client-id", "cf-access-client-secret"}
)  # fmt: skip
HEADER_PREFIX: Final = "x-webhook-"
"""What a webhook's own headers may be: nothing that a proxy, a metadata service or HTTP itself takes for more than a text."""


class HookStatus(StrEnum):
    """What became of a hook."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSecret:
    """A secret that calls are signed with; `until` is when one that was replaced ends."""

    text: str = field(repr=False)
    until: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """
    One address that is told.

    Attributes:
        events: Types, families such as `recipient.*`, or `*`.
        streams: Only events of messages in these; empty is every event.
        headers: Fixed ones of its own, by name.
        batch_size: Events in one call at most; 1 sends each by itself.
        secrets: The newest first.
    """

    id: str
    tenant_id: str
    url: str = field(repr=False)
    description: str = ""
    events: tuple[str, ...] = (EVERY,)
    streams: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    batch_size: int = 1
    secrets: tuple[HookSecret, ...] = field(default=(), repr=False)
    created_at: Instant
    changed_at: Instant
    disabled_at: Instant | None = None
    disabled_reason: str = ""

    def wants(self, kind: str, stream: str | None) -> bool:
        """Tell whether it is to be told of an event of a type, in a stream (None: of no message)."""
        if kind == EventType.WEBHOOK_TEST or (self.streams and stream not in self.streams):
            return False
        return any(one in {EVERY, kind} or (one.endswith(".*") and kind.startswith(one[:-1])) for one in self.events)

    def valid_secrets(self, now: Instant) -> list[str]:
        """Return the secrets that sign now."""
        return [one.text for one in self.secrets if one.until is None or one.until > now]


def is_filter(text: str) -> bool:
    """Tell whether a text picks events: a type, a family or all."""
    kinds = {kind.value for kind in EventType}
    return text in kinds or text == EVERY or text in {f"{kind.partition('.')[0]}.*" for kind in kinds}


def is_header(name: str) -> bool:
    """Tell whether a webhook may have a header of this name."""
    lower = name.lower()
    rest = lower.removeprefix(HEADER_PREFIX)
    return lower in HEADERS or (rest != lower and 0 < len(rest) <= 60 and rest.replace("-", "").isalnum() and rest.isascii())
