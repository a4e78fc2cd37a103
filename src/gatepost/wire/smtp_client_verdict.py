"""
What the SMTP client has to say about a recipient, or about a connection that never got that far.

Leaves: `Verdict` values: the command that was answered, and the reply or the fault.
Standards: RFC 5321 §4.2 (replies), RFC 1047 (the break after the final dot).
Not here: what it means for the recipient (egress.smtp.outcomes).
"""

from enum import StrEnum

import msgspec

from gatepost.domain.outcome import Reply


class Stage(StrEnum):
    """The command whose reply is awaited."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    RSET = "rset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    IDLE = "idle"
    QUIT = "quit"


class Fault(StrEnum):
    """Why there is a verdict without a reply."""

    LOST = "lost"
    """The connection ended, or made no sense, before the end of the content was sent."""
    UNSURE = "unsure"
    """The same, after the final dot: delivered or not (RFC 1047)."""
    UNRESOLVED = "unresolved"
    """The host's name has no address that our system knows."""
    PROXY_FAILED = "proxy_failed"
    """The proxy that a source goes by is in trouble: our side of the wire."""
    NO_TLS = "no_tls"
    TLS_FAILED = "tls_failed"
    INJECTION = "injection"
    NO_REQUIRETLS = "no_requiretls"
    """The server does not promise to keep a message encrypted further on (RFC 8689)."""
    NO_AUTH = "no_auth"
    TOO_LARGE = "too_large"
    NEEDS_SMTPUTF8 = "needs_smtputf8"
    BAD_ADDRESS = "bad_address"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of one recipient in one transaction, or of a connection that never got that far.

    Attributes:
        reply: The server's words; None when there is a fault instead.
        detail: One sentence for a person, where there is no reply.
    """

    stage: Stage
    reply: Reply | None = None
    fault: Fault | None = None
    detail: str = ""

    @property
    def is_dead_connection(self) -> bool:
        """True when the connection, not the mail, was the matter, and no content was sent."""
        if self.stage is Stage.CONTENT:
            return False
        return self.fault is Fault.LOST or (self.reply is not None and self.reply.code == 421)
