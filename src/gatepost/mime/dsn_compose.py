"""
A delivery status notification: the mail that tells a sender what became of a message.

Arrives: facts of the message and of the recipients that share one fate. Leaves: a finished MIME message, CRLF, unsigned.
Three parts: words for a person, fields for a program, and the message, or its header.
Standards: RFC 3464 (the fields), RFC 6522 (multipart/report), RFC 3461 §6 (what is returned), RFC 3834 §2 (Auto-Submitted), RFC 6533
(addresses and headers in UTF-8).
Not here: who is told, and of what (policy.notify); putting it into the queue (bounce_messages).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gatepost.clock import Instant
from gatepost.domain.notice import Action
from gatepost.mime.compose import date_text
from gatepost.mime.headers import refuse_breaks
from gatepost.mime.writer import multipart, text_part

_XCHAR = re.compile(r"\+([0-9A-F]{2})")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_MAX_VALUE = 900
_LINE = 76
_SENDER_NAME = "Mail Delivery System"

_SUBJECTS = {
    Action.FAILED: "Undelivered mail returned to sender",
    Action.DELAYED: "Your mail is delayed",
    Action.DELIVERED: "Your mail was delivered",
    Action.RELAYED: "Your mail was handed on",
}
_WORDS = {
    Action.FAILED: "Your message could not be delivered to the recipients below. It will not be tried again.",
    Action.DELAYED: "Your message has not been delivered to the recipients below yet. It will be tried again: you need do nothing.",
    Action.DELIVERED: "Your message was delivered to the recipients below.",
    Action.RELAYED: "Your message was handed on, for the recipients below, to a mail system that sends no reports.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRecipient:
    """
    What became of one recipient.

    Attributes:
        orcpt: RFC 3461 ORCPT as it was given, still xtext.
        status: RFC 3463, such as `5.1.1`.
        diagnostic: With its type, such as `smtp; 550 5.1.1 no such user`.
        remote: Name of the host that said it.
        retry_until: How long it goes on being tried.
    """

    address: str
    status: str
    orcpt: str | None = None
    diagnostic: str = ""
    remote: str | None = None
    last_attempt_at: Instant | None = None
    retry_until: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """
    The message that is told of.

    Attributes:
        envid: RFC 3461 ENVID as it was given, still xtext.
        content: All of it as it was accepted; empty when it cannot be returned.
        is_whole: Return all of it, not only the header.
    """

    id: str
    message_id_header: str
    accepted_at: Instant
    envid: str | None = None
    content: bytes = field(default=b"", repr=False)
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A composed notification."""

    subject: str
    from_: str
    message_id_header: str
    content: bytes = field(repr=False)


def compose_report(
    action: Action, returned: Returned, recipients: Sequence[ReportedRecipient], *, message_id: str, sender: str, to: str,
    hostname: str, now: Instant,
) -> Report:  # fmt: skip
    """
    Compose a notification.

    Args:
        message_id: Our identifier of the notification; its Message-ID and its boundary are made of it.
        sender: Address that it comes from.
        to: The reverse-path of the message that is told of.
        hostname: This gateway, as it calls itself to others.

    Raises:
        ValueError: An address holds a line break.
    """
    refuse_breaks(sender, to, hostname)
    token = message_id.rpartition("_")[2]
    header_id = f"{token}@{sender.rpartition('@')[2]}"
    about = ("" if len(returned.message_id_header) <= _LINE - 16 else "\r\n") + f" <{returned.message_id_header}>"
    head = (
        f"From: {_SENDER_NAME} <{sender}>\r\nTo: {to}\r\nSubject: {_SUBJECTS[action]}\r\nDate: {date_text(now // 1000)}\r\n"
        f"Message-ID: <{header_id}>\r\nIn-Reply-To:{about}\r\nReferences:{about}\r\n"
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
    )
    parts = [text_part("plain", _text(action, returned, recipients, hostname)), _status_part(action, returned, recipients, hostname)]
    if returned.content:
        parts.append(_returned_part(returned))
    body = multipart("report; report-type=delivery-status", f"=_{token}", parts)
    return Report(
        subject=_SUBJECTS[action], from_=f"{_SENDER_NAME} <{sender}>", message_id_header=header_id, content=head.encode() + body
    )  # fmt: skip


def _text(action: Action, returned: Returned, recipients: Sequence[ReportedRecipient], hostname: str) -> str:
    lines = [f"This is the mail gateway at {hostname}.", "", _WORDS[action], ""]
    for one in recipients:
        lines.append(f"<{one.address}>")
        said = one.diagnostic.partition(";")[2].strip()
        if said and action in {Action.FAILED, Action.DELAYED}:
            lines.append(f"    {one.remote + ' said' if one.remote else 'Reason'}: {said}")
        if one.retry_until is not None:
            lines.append(f"    It is tried until {date_text(one.retry_until // 1000)}.")
        lines.append("")
    lines.append(f"Message: {returned.id}, accepted {date_text(returned.accepted_at // 1000)}.")
    return "\n".join(lines) + "\n"


def _status_part(action: Action, returned: Returned, recipients: Sequence[ReportedRecipient], hostname: str) -> bytes:
    """Write the fields that programs read (RFC 3464 §2): one group for the message, one for each recipient."""
    lines = ["Content-Type: message/delivery-status\r\n\r\n", _field("Reporting-MTA", f"dns; {hostname}")]
    if returned.envid:
        lines.append(_field("Original-Envelope-Id", _decoded(returned.envid)))
    lines.append(_field("Arrival-Date", date_text(returned.accepted_at // 1000)))
    lines.append(_field("X-Gatepost-Message-Id", returned.id))
    for one in recipients:
        lines.append("\r\n")
        if one.orcpt:
            kind, _, address = one.orcpt.partition(";")
            # an address in UTF-8 stays encoded, as 7-bit fields need it (RFC 6533 §3)
            lines.append(_field("Original-Recipient", f"{kind}; {address if kind.lower() == 'utf-8' else _decoded(address)}"))
        lines += [
            _field("Final-Recipient", _typed(one.address)),
            _field("Action", action.value),
            _field("Status", one.status),
        ]
        if one.remote:
            lines.append(_field("Remote-MTA", f"dns; {one.remote}"))
        if one.diagnostic:
            lines.append(_field("Diagnostic-Code", one.diagnostic))
        if one.last_attempt_at is not None:
            lines.append(_field("Last-Attempt-Date", date_text(one.last_attempt_at // 1000)))
        if one.retry_until is not None:
            lines.append(_field("Will-Retry-Until", date_text(one.retry_until // 1000)))
    return "".join(lines).encode()


def _typed(address: str) -> str:
    """Write an address with its type; one in UTF-8 as `utf-8-addr-xtext` (RFC 6533 §3), which any system can carry."""
    if address.isascii():
        return f"rfc822; {address}"
    return "utf-8; " + "".join(char if char.isascii() and char not in "\\+=" else f"\\x{{{ord(char):02X}}}" for char in address)


def _decoded(xtext: str) -> str:
    return _XCHAR.sub(lambda found: chr(int(found[1], 16)), xtext)


def _field(name: str, value: str) -> str:
    """Write a field of printable ASCII, folded at blanks; what others said must not break out of it."""
    words = _UNPRINTABLE.sub("?", " ".join(value.split()))[:_MAX_VALUE].split(" ")
    lines, line = [], f"{name}:"
    for word in words:
        if len(line) + 1 + len(word) > _LINE and line.strip():
            lines.append(line)
            line = ""
        line += " " + word
    return "\r\n".join([*lines, line]) + "\r\n"


def _returned_part(returned: Returned) -> bytes:
    """Return the message, or its header; what is in UTF-8 is marked so (RFC 6533 §4)."""
    header, _, _ = returned.content.partition(b"\r\n\r\n")
    is_global = not header.isascii()
    if returned.is_whole:
        kind, raw = ("message/global" if is_global else "message/rfc822"), returned.content
    else:
        kind, raw = ("message/global-headers" if is_global else "text/rfc822-headers"), header + b"\r\n"
    encoding = "7bit" if raw.isascii() else "8bit"
    end = b"" if raw.endswith(b"\r\n") else b"\r\n"
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + raw + end
