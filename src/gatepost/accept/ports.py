"""
What accept asks of others before it stores a message, as protocols; the composition root hands in who answers.

Order: admission (is there room?), then each message is checked and composed, screening (is the content wanted?), limits
(may this caller send that much?), the commit. Whoever refuses raises a `Refused`, and nothing took effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatepost.domain.message import Draft
from gatepost.domain.tenant import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What one message would use.

    Attributes:
        recipients: Canonical addresses (`Address.key`), suppressed ones too: they are known only in the commit.
        domain: The sender's domain.
        route: `sandbox`, `mx` or a relay's name.
    """

    recipients: Sequence[str]
    size_bytes: int
    stream: str
    lane: int
    domain: str
    route: str


class Reservation(Protocol):
    """What was taken of limits for one request."""

    async def cancel(self) -> None:
        """Give it back: the request was a replay, or its commit failed."""
        ...


class Limits(Protocol):
    """Rates, quotas and balances."""

    async def reserve(self, caller: Caller, wanted: Sequence[Wanted]) -> Reservation:
        """
        Take what a request needs of every limit that concerns it, or nothing.

        Raises:
            Refused: rate_limited, quota_exceeded or insufficient_balance, with Retry-After where waiting helps.
        """
        ...


class Screening(Protocol):
    """Looks at what syntax cannot tell: domains without mail, attachments, spam and malware."""

    async def check(self, caller: Caller, draft: Draft) -> None:
        """
        Look at a composed message.

        Raises:
            Refused: validation_failed or content_refused, with the places.
        """
        ...


class Admission(Protocol):
    """Keeps the gateway standing when more comes than it can take."""

    def check(self, lane: int) -> None:
        """
        Let a message of a lane in, as far as there is room now; codes go last.

        Raises:
            Refused: overloaded, with Retry-After.
        """
        ...
