"""
Mail as the SMTP client writes it: what may stand in a command, and what content looks like on the wire.

Arrives: addresses, parameters and content from the inside. Leaves: text and bytes that cannot break out of their place:
no CR, LF or NUL in a command, no bare CR or LF in content, no line that a server could take for the end too early.
Standards: RFC 5321 §4.1.2 (Mailbox, esmtp-value), §4.5.2 (transparency), §2.3.8 (lines), RFC 3461 §4.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_LOCAL = r"[^\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff()<>\[\]:;@\\,\"]+"
_QUOTED = r'"(?:[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\]|\\[\x20-\x7e])*"'
_ADDRESS = re.compile(rf"(?:{_LOCAL}|{_QUOTED})@[A-Za-z0-9._-]+")
_PARAMETER = re.compile(r"[!-<>-~]+")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SHORT_BYTES = 65_536


class MailRecipient(Protocol):
    """One recipient of a mail."""

    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def notify(self) -> str | None: ...  # noqa: D102
    @property
    def orcpt(self) -> str | None: ...  # noqa: D102


class Mail(Protocol):
    """What `send` needs; `egress.courier.Batch` is one."""

    @property
    def envelope_from(self) -> str: ...  # noqa: D102
    @property
    def recipients(self) -> Sequence[MailRecipient]: ...  # noqa: D102
    @property
    def content(self) -> bytes: ...  # noqa: D102
    @property
    def is_8bit(self) -> bool: ...  # noqa: D102
    @property
    def is_smtputf8(self) -> bool: ...  # noqa: D102
    @property
    def requires_tls(self) -> bool: ...  # noqa: D102
    @property
    def ret(self) -> str | None: ...  # noqa: D102
    @property
    def envid(self) -> str | None: ...  # noqa: D102


def is_mailbox(address: str) -> bool:
    """Tell whether an address can be written between angle brackets; a local part may be quoted."""
    return _ADDRESS.fullmatch(address) is not None


def wire_lines(content: bytes) -> bytes:
    r"""
    Make content safe for the wire: every line ends in CRLF, no bare CR, bare LF or NUL.

    The last defence against smuggling a second mail to a server that takes `\n.\r\n` for the end (CERT VU#302671).
    Content that was well-formed, which is what the composer makes, comes back untouched.
    """
    if b"\0" in content:
        content = content.replace(b"\0", b"")
    if len(content) <= _SHORT_BYTES:  # twice as fast, but a list of all lines is too much memory for a long message
        return b"\r\n".join(content.splitlines()) + b"\r\n"
    pairs = content.count(b"\r\n")
    if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
        content = _LINE_END.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """Return content as DATA carries it, final dot included (RFC 5321 §4.5.2)."""
    content = wire_lines(content).replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    return content + b".\r\n"


def parameters(**values: str | None) -> str:
    """Write ESMTP parameters; one that is not made of esmtp-value characters is left out (RFC 5321 §4.1.2)."""
    return "".join([f" {name}={value}" for name, value in values.items() if value and _PARAMETER.fullmatch(value)])


@dataclass(frozen=True, slots=True)
class NoMail:
    """Stands where the last mail was, so that an idle session does not keep its content in memory."""

    envelope_from: str = ""
    recipients: tuple[MailRecipient, ...] = ()
    content: bytes = b""
    is_8bit: bool = False
    is_smtputf8: bool = False
    requires_tls: bool = False
    ret: str | None = None
    envid: str | None = None


NOTHING = NoMail()
