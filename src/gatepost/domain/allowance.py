"""What a message uses of its sender's limits, and the terms on which it is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """What of a request was reserved and then not needed: suppressed recipients, refused messages of a batch."""

    domain: str
    messages: int = 0
    recipients: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    What can only be decided where messages are stored.

    Attributes:
        per_recipient: By lane, how many messages one person may get in an hour, from all tenants together; a lane that is
            missing has no cap.
        price_micros: Of 1,000 recipients, in millionths of the gateway's currency.
        relay_micros: By route, what comes on top of that.
        is_prepaid: The price is taken from the tenant's balance, and without one nothing is sent.
    """

    per_recipient: Mapping[int, int] = field(default_factory=dict)
    price_micros: int = 0
    relay_micros: Mapping[str, int] = field(default_factory=dict)
    is_prepaid: bool = False

    def cost_micros(self, route: str, recipients: int) -> int:
        """Return what recipients cost by a route; a started millionth counts."""
        return -(-(self.price_micros + self.relay_micros.get(route, 0)) * recipients // 1000)


FREE = Terms()
"""No caps and no price: what is taken where nobody counts."""
