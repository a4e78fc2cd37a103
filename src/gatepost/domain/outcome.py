"""
What one delivery attempt came to, for one recipient.

Leaves the couriers; `settle.decide` turns it into a state. `Unknown`, where the connection broke after the final dot, is
a case of its own: the mail may be delivered, so it is retried on the same route only, and counted as a possible
duplicate (RFC 1047).
What is made for every message is a `Struct`: it costs a fifth of a frozen dataclass, and the garbage collector passes it over.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gatepost.clock import Instant

if TYPE_CHECKING:
    from gatepost.domain.severity import Severity


class Category(StrEnum):
    """Why a recipient was deferred or failed, or what came back later: the taxonomy shown to customers."""

    INVALID_RECIPIENT = "invalid_recipient"
    INVALID_DOMAIN = "invalid_domain"
    MAILBOX_INACTIVE = "mailbox_inactive"
    MAILBOX_FULL = "mailbox_full"
    MESSAGE_TOO_LARGE = "message_too_large"
    SPAM_CONTENT = "spam_content"
    CONTENT_REJECTED = "content_rejected"
    MALWARE = "malware"
    REPUTATION_BLOCK = "reputation_block"
    AUTH_FAILURE = "auth_failure"
    POLICY_REJECTED = "policy_rejected"
    RELAY_DENIED = "relay_denied"
    RATE_LIMITED = "rate_limited"
    NETWORK = "network"
    EXPIRED = "expired"
    REMOTE_SYSTEM = "remote_system"
    SUPPRESSED = "suppressed"
    AUTO_REPLY = "auto_reply"
    CHALLENGE = "challenge"
    COMPLAINT = "complaint"
    DELIVERED = "delivered"
    UNDETERMINED = "undetermined"


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    The other side's words (RFC 5321 §4.2).

    Attributes:
        code: Three-digit reply code.
        enhanced: Enhanced status code (RFC 3463) such as `5.1.1`, where one was given.
        text: The reply's text without codes; lines joined with a space; at most 1,000 characters.
    """

    code: int
    enhanced: str | None
    text: str

    def __str__(self) -> str:
        if self.enhanced and self.text:
            return f"{self.code} {self.enhanced} {self.text}"
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


class Exchange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    The facts of one attempt, whatever its outcome.

    Attributes:
        host: Name of the host spoken to, such as an MX; None when none was reached.
        peer: Its address and port.
        tls: Protocol and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS.
        transcript: The dialogue, a line per command and reply, without content and secrets.
        source: Name of the source that the connection came from; None where there was none.
        tls_policy: What TLS had to fulfil: `opportunistic`, `required`, `dane`, `sts:enforce`, `sts:testing`; None without SMTP.
        provider_id: The id that the provider of a relay gave to the message, for this recipient.
        takes_dsn: The host announced that it takes over the duty to report (RFC 3461), and was told what the sender wants.
        passed_over: Temporary refusals on the way to the outcome, of connections and hosts that were replaced by others.
    """

    route: str
    started_at: Instant
    finished_at: Instant
    host: str | None = None
    peer: str | None = None
    tls: str | None = None
    transcript: str = ""
    source: str | None = None
    tls_policy: str | None = None
    provider_id: str | None = None
    takes_dsn: bool = False
    passed_over: tuple[Reply, ...] = ()


class Delivered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The next system took responsibility. `final` tells whether it was the recipient's own (MX, sandbox) or a relay."""

    exchange: Exchange
    reply: Reply
    final: bool = True
    captured: bytes | None = None
    """The exact bytes, where the sandbox kept them."""

    def __repr__(self) -> str:
        """Leave out the content."""
        return f"Delivered(exchange={self.exchange!r}, reply={self.reply!r}, final={self.final})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """
    Not now.

    Attributes:
        counts: False where the fault was on our side of the wire (our resolver, no connection slot, relay not
            configured): such an attempt uses up no retry.
        retry_at: When the other side, or a limit of ours, wants to see it again; None leaves it to the schedule.
    """

    exchange: Exchange
    category: Category
    detail: str
    reply: Reply | None = None
    counts: bool = True
    retry_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """
    Never: retrying would not help.

    Attributes:
        severity: Where the rule that named the category knows better than the category; None is the category's own.
    """

    exchange: Exchange
    category: Category
    detail: str
    reply: Reply | None = None
    severity: "Severity | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The connection broke after the final dot and before the reply: delivered or not, nobody here knows."""

    exchange: Exchange
    detail: str


Outcome = Delivered | Deferred | Failed | Unknown
