"""
A message on its way in: what a door hands to accept, and what accept stores.

`Submission` (fields) and `RawSubmission` (a finished MIME message with its envelope) are the two shapes in which mail
arrives. `mime.compose` turns either into a `Draft`, which accept commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from gatepost.clock import Instant
from gatepost.domain.address import Address, Mailbox
from gatepost.domain.engagement import TrackingWish


class Lane(IntEnum):
    """Order of urgency in the queue; lane 0 always goes first."""

    CODES = 0
    TRANSACTIONAL = 1
    BULK = 2


STREAMS: dict[str, Lane] = {"codes": Lane.CODES, "transactional": Lane.TRANSACTIONAL, "bulk": Lane.BULK}
"""The streams that every tenant has."""

DEFAULT_STREAM = "transactional"


class RecipientKind(StrEnum):
    """The header that names the recipient; `bcc` is never on the wire."""

    TO = "to"
    CC = "cc"
    BCC = "bcc"


class Source(StrEnum):
    """The door a message came through."""

    HTTP = "http"
    SMTP = "smtp"
    DSN = "dsn"  # no door: our own bounce messages


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """
    One file of a message.

    Attributes:
        filename: As shown to the reader; never used as a path.
        content_type: `type/subtype`, lower-case, without parameters.
        content_id: Given for inline images, without angle brackets.
    """

    filename: str
    content: bytes
    content_type: str
    is_inline: bool = False
    content_id: str | None = None

    def __repr__(self) -> str:
        """Say of what kind it is; what it says must not reach a log."""
        return f"<attachment {self.content_type}, {len(self.content)} bytes>"


class Steering(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a message shall be treated, whatever its content: the part that both doors share.

    Attributes:
        scheduled_at: Not before this instant; None is at once.
        expires_at: Not after this instant; None is the retry schedule's end.
        route: The name of a route that the sender asks for, or roads; None leaves it to the rules.
        requires_tls: Only over connections whose certificate is verified.
        needs_requiretls: And only to servers that promise the same further on (RFC 8689, REQUIRETLS).
        ignores_tls_policy: Rather in plain text than not at all (RFC 8689, `TLS-Required: No`); `requires_tls` wins over it.
        tracking: What it asks for besides its stream; None asks for nothing.
    """

    stream: str = DEFAULT_STREAM
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    scheduled_at: Instant | None = None
    expires_at: Instant | None = None
    idempotency_key: str | None = None
    lane: Lane | None = None
    route: str | None = None
    requires_tls: bool = False
    needs_requiretls: bool = False
    ignores_tls_policy: bool = False
    tracking: TrackingWish | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """
    A message as fields, every one already checked by the door's parser.

    Attributes:
        variables: Already applied to subject, text and html; kept for those who look at what came from whom.
    """

    sender: Mailbox
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    steering: Steering = msgspec.field(default_factory=Steering)
    variables: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        """Say whose it is; what it says must not reach a log."""
        return f"<submission of {self.sender.address}>"


class EnvelopeRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """
    A recipient as the envelope names it.

    Attributes:
        notify: RFC 3461 NOTIFY, such as `SUCCESS,FAILURE` or `NEVER`; None when not given.
        orcpt: RFC 3461 ORCPT, as given.
    """

    address: Address
    kind: RecipientKind = RecipientKind.TO
    notify: str | None = None
    orcpt: str | None = None


class RawSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """
    A finished message with its envelope, from SMTP or from `POST /v1/messages/raw`.

    Attributes:
        envelope_from: The reverse-path; None is the null sender `<>`.
        content: The MIME message, lines ended by CRLF.
        steering: Options from outside the content (HTTP headers); `X-Gatepost-…` headers in the content win over it.
    """

    envelope_from: Address | None
    recipients: tuple[EnvelopeRecipient, ...]
    content: bytes
    steering: Steering = msgspec.field(default_factory=Steering)
    ret: str | None = None
    envid: str | None = None

    def __repr__(self) -> str:
        """Say whose it is; what it says must not reach a log."""
        return f"<submission of {self.envelope_from or '<>'}, {len(self.content)} bytes>"


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """
    A composed message, ready to be committed.

    Attributes:
        message_id_header: The Message-ID without angle brackets; the same in every attempt.
        header_from: The address in From, whose domain must be the tenant's.
        content: MIME with CRLF line ends; no Bcc, no steering headers, not yet signed.
        is_8bit: The content has bytes above 127: 8BITMIME is needed, or re-encoding.
        is_smtputf8: The headers or the envelope need SMTPUTF8 (RFC 6531).
        earlier_ids: Our identifiers of it, when it came through this gateway before, by its Received fields.
    """

    id: str
    envelope_from: Address | None
    header_from: Mailbox
    recipients: tuple[EnvelopeRecipient, ...]
    subject: str
    message_id_header: str
    content: bytes
    is_8bit: bool
    is_smtputf8: bool
    steering: Steering
    ret: str | None = None
    envid: str | None = None
    earlier_ids: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name it; what it says must not reach a log."""
        return f"<draft {self.id}>"

    @property
    def lane(self) -> Lane:
        """The lane of its stream: as accept found it, or that of the default stream of this name."""
        lane = self.steering.lane
        return STREAMS.get(self.steering.stream, Lane.TRANSACTIONAL) if lane is None else lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    A stored message, without its content.

    Attributes:
        envelope_from: The reverse-path; empty for the null sender.
        from_: The From header's mailbox as text.
        is_sandbox: It never leaves: the sandbox captured or will capture it.
    """

    id: str
    tenant_id: str
    created_at: Instant
    stream: str
    lane: int
    source: str
    key_id: str
    envelope_from: str
    from_: str
    from_domain: str
    subject: str
    message_id_header: str
    size_bytes: int
    is_8bit: bool
    is_smtputf8: bool
    is_sandbox: bool
    route: str
    tags: list[str]
    metadata: dict[str, str]
    scheduled_at: Instant | None
    expires_at: Instant
    options: dict[str, Any] = field(default_factory=dict)
    """What travels on: `ret`, `envid` (RFC 3461), `require_tls`, `requiretls`, `tls_optional` (RFC 8689), `track` (domain.engagement)."""
