"""
The courier protocol: takes a batch out of the house and says what became of every recipient.

A courier is total: it never raises for what the other side does, and every recipient gets exactly one outcome.
No transaction is open while it works.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatepost.domain.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecipient:
    """
    One recipient of a batch.

    Attributes:
        n: Number in the message.
        address: As it goes on the wire: domain in A-labels; the local part may be UTF-8.
        attempt: Number of this attempt, from 1.
        notify: RFC 3461 NOTIFY; None when not given.
        orcpt: RFC 3461 ORCPT; None when not given.
    """

    n: int
    address: str
    attempt: int
    notify: str | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    One message's recipients at one site, delivered in one transaction where the other side allows.

    Attributes:
        content: The rendered, signed bytes: CRLF line ends, no dot-stuffing, ending in CRLF.
        envelope_from: The reverse-path; empty for the null sender.
        site: Key of shared budgets, such as `gmail.com` or `relay:main`.
        domain: The recipients' domain (all recipients of a batch on route `mx` share it).
    """

    message_id: str
    route: str
    site: str
    domain: str
    envelope_from: str
    recipients: tuple[BatchRecipient, ...]
    content: bytes = field(repr=False)
    is_8bit: bool = False
    is_smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


class Courier(Protocol):
    """One way out of the house."""

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """
        Deliver a batch.

        Returns:
            One outcome per recipient number; never fewer.
        """
        ...

    async def close(self) -> None:
        """Close idle connections politely."""
        ...
