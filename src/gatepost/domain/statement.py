"""
What somebody says afterwards of one recipient: a mail that came back, or a relay's hook.

Leaves the readers of returned mail and of hooks once it is known to be genuine; `reported` acts on it.
Not here: why it may be believed (the token of a return path, a hook's signature).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from gatepost.clock import Instant
from gatepost.domain.outcome import Category, Reply
from gatepost.domain.severity import SEVERITY, Severity


class Said(StrEnum):
    """What happened."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """
    Which recipient: by our own identifiers where a token carries them, else by what the relay calls the message.

    Attributes:
        n: The recipient's number; None leaves it to `address` among the message's recipients.
        address: As the report names it; may be empty.
        relay: Only what went by this road; empty is any.
        provider_ids: What the relay calls the message, as far as it can be told, the likeliest first.
    """

    message_id: str = ""
    n: int | None = None
    address: str = field(default="", repr=False)
    relay: str = ""
    provider_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    One fact, said once.

    Attributes:
        id: The same whenever the same is said again: it then changes nothing.
        by: Who says so: `mail`, or a relay's name.
        rule: Id of the rule that named the category.
        stated: Severity that the reporter's words have, where it is not the category's.
        detail: More, for the event: JSON-ready, without content and secrets.
    """

    id: str
    said: Said
    about: About
    by: str
    at: Instant
    category: Category | None = None
    rule: str = ""
    stated: Severity | None = None
    reply: Reply | None = field(default=None, repr=False)
    host: str = ""
    detail: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def severity(self) -> Severity:
        """How grave it is for the address."""
        return self.stated or (Severity.INFO if self.category is None else SEVERITY[self.category])
