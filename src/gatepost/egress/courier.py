"""
The courier protocol: takes a batch out of the house and says what became of every recipient.

A courier is total: it never raises for what the other side does, and every recipient gets exactly one outcome.
No transaction is open while it works.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gatepost.clock import Instant
from gatepost.domain.message import Lane
from gatepost.domain.outcome import Outcome
from gatepost.domain.route import DEFAULT_SOURCE, Source


class BatchRecipient(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    One message's recipients at one site, delivered in one transaction where the other side allows.

    Attributes:
        content: The rendered, signed bytes: CRLF line ends, no dot-stuffing, ending in CRLF.
        envelope_from: The reverse-path; empty for the null sender.
        site: Key of shared budgets, such as `gmail.com` or `relay:main`.
        domain: The recipients' domain (all recipients of a batch on route `mx` share it).
        source: Where to connect from; a road that is not to MX hosts ignores it.
        messages_per_connection: After so many a connection is closed; None is the setting's.
        connections: At most so many connections from the source to the site, idle ones included; None is the setting's.
        requires_tls: Deliver only over a connection whose certificate is verified (RFC 8689).
        expires_at: After this the message is worth nothing; None is never.
        needs_requiretls: The other side must promise to do the same further on (RFC 8689 §4.2.1), as a client over SMTP asked.
        ignores_tls_policy: Rather arrive in plain text than not at all, whatever DANE and MTA-STS say (RFC 8689 §4.2.2).
        patience_s: Seconds of silence after which it is given up, as long as no content was sent, for another road is open; None is
            as long as the protocol says.
    """

    message_id: str
    route: str
    site: str
    domain: str
    envelope_from: str
    recipients: tuple[BatchRecipient, ...]
    content: bytes
    is_8bit: bool = False
    is_smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    source: Source = DEFAULT_SOURCE
    messages_per_connection: int | None = None
    connections: int | None = None
    requires_tls: bool = False
    lane: Lane = Lane.TRANSACTIONAL
    expires_at: Instant | None = None
    needs_requiretls: bool = False
    ignores_tls_policy: bool = False
    patience_s: float | None = None

    def __repr__(self) -> str:
        """Leave out content and addresses."""
        return f"Batch(message_id={self.message_id!r}, route={self.route!r}, recipients={[one.n for one in self.recipients]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    How a way out answers when nothing is sent.

    Attributes:
        is_reachable: There was an answer, and not one of trouble.
        is_authenticated: Our key or password is good; None where there is none, or the other side did not tell.
        latency_ms: Until the answer, connecting included.
        detail: For people, without secrets: what is wrong, or worth knowing.
        quota_left: Recipients that may still be sent in the other side's own period; None where it does not tell.
        host: Who was asked; None where there is nobody in particular.
        peer: Its address and port.
        tls: Protocol and cipher; None without TLS.
    """

    is_reachable: bool
    is_authenticated: bool | None
    latency_ms: int
    detail: str = ""
    quota_left: int | None = None
    host: str | None = None
    peer: str | None = None
    tls: str | None = None

    @property
    def is_good(self) -> bool:
        """True when mail would be taken, as far as can be told without sending any."""
        return self.is_reachable and self.is_authenticated is not False


class Courier(Protocol):
    """One way out of the house."""

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """
        Deliver a batch.

        Returns:
            One outcome per recipient number; never fewer.
        """
        ...

    async def probe(self) -> Probe:
        """
        Ask whether mail would be taken; sends none. Total.

        The connection is a new one: what is looked at is the way, too.
        """
        ...

    async def close(self) -> None:
        """Close idle connections politely."""
        ...
