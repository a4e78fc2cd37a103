"""
What the SMTP server machine tells its door, and what it is told at the start.

Leaves: `Authenticate`, `MessageReceived`, `StartTls` (each awaits an answer) and `Closed` (the machine has said its last).
Standards: RFC 5321, RFC 4954 (AUTH), RFC 3207 (STARTTLS), RFC 3461 (DSN), RFC 6531 (SMTPUTF8).
Bugs: none known.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from gatepost.domain.address import Address
from gatepost.domain.message import EnvelopeRecipient


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """
    How a server machine behaves; shared by all connections of a door.

    Attributes:
        hostname: Name in the greeting and in the reply to EHLO.
        max_message_bytes: Announced with SIZE (RFC 1870) and enforced.
        max_recipients: Recipients of one message.
        max_errors: Faulty commands after which the connection is ended, counted anew after each accepted message.
        max_auth_failures: Failed authentications after which the connection is ended.
        max_chunks: BDAT commands in one message (RFC 3030).
        offers_auth: There is somebody to authenticate.
    """

    hostname: str
    max_message_bytes: int
    max_recipients: int
    max_errors: int = 20
    max_auth_failures: int = 3
    max_chunks: int = 4_096
    offers_auth: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """
    The client gave credentials. Answer with `accept_authentication` or `refuse`.

    Attributes:
        mechanism: `PLAIN`, `LOGIN`, `OAUTHBEARER` or `XOAUTH2`.
        authcid: The username; any is fine.
        secret: The password, or the access token.
    """

    mechanism: str
    authcid: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived:
    """
    A whole message arrived. Answer with `accept_message` or `refuse`.

    Attributes:
        envelope_from: None is the null sender.
        content: Dot-stuffing undone; every line, the last one too, ends in CRLF; no bare CR or LF, no NUL.
        ret: RFC 3461 RET, `FULL` or `HDRS`.
        envid: RFC 3461 ENVID, still xtext.
        body: RFC 6152 BODY, `7BIT` or `8BITMIME`; None when not given.
        requires_tls: RFC 8689 REQUIRETLS.
    """

    envelope_from: Address | None
    recipients: tuple[EnvelopeRecipient, ...]
    content: bytes = field(repr=False)
    ret: str | None = None
    envid: str | None = None
    body: str | None = None
    is_smtputf8: bool = False
    requires_tls: bool = False


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send the output, shake hands, then call `tls_started`. What arrives before that is thrown away."""


class CloseReason(StrEnum):
    """Why the machine ended the dialogue."""

    QUIT = "quit"
    TOO_MANY_ERRORS = "too_many_errors"
    AUTH_FAILURES = "auth_failures"
    NOT_SMTP = "not_smtp"
    BROKEN_CHUNK = "broken_chunk"
    SHUTDOWN = "shutdown"
    TIMEOUT = "timeout"
    OVER_LIMIT = "over_limit"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Closed:
    """Send the output, then close the connection."""

    reason: CloseReason


ServerEvent = Authenticate | MessageReceived | StartTls | Closed
