"""
A message as people look at it: subject, text, HTML, attachments. For the inbox page, and for tests.

Arrives: the bytes of any message, also of one that others wrote badly. Leaves: a `Parsed`; reading never raises.
Standards: RFC 5322, RFC 2045, RFC 2047, as the stdlib's `email` reads them; bounded before it does.
Not here: deciding anything. What is refused is refused by adopt and structure, over the same bytes.
Bugs: a message with more than 20 levels or 500 parts is shown without its parts.
"""

import email
import email.policy
import email.utils
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from gatepost.mime.headers import KNOWN_CHARSET, decode_text
from gatepost.mime.structure import check_structure
from gatepost.settings import Limits

_LIMITS = Limits()
_MAX_HEADER = 1_000_000
_MAX_FIELDS = 1_000
_MAX_TEXT = 5_000_000
_NAME = re.compile(r"[!-9;-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedAttachment:
    """
    A part that is not the text itself.

    Attributes:
        index: Number for `part`, from 0, over all leaves of the message.
        filename: As the sender named it, decoded; a display name, never a path. Empty where there is none.
        content_type: `type/subtype`, lower-case.
        content_id: Without angle brackets; None where there is none.
    """

    index: int
    filename: str
    content_type: str
    size: int
    content_id: str | None
    is_inline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """
    A message for display; fields that lack are empty.

    Attributes:
        headers: Every field in order, decoded and unfolded.
        html: As the sender wrote it: not safe to show outside a sandbox.
    """

    subject: str = ""
    from_: str = ""
    to: str = ""
    cc: str = ""
    date: str = ""
    text: str = ""
    html: str = ""
    attachments: tuple[ParsedAttachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str:
        """Give the first field with this name, whatever its case; empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def read_message(content: bytes) -> Parsed:
    """
    Read a message for display.

    Never raises for what the message looks like: what cannot be read is left out.
    """
    headers = tuple(_headers(content))
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name.lower(), value)
    text, html, attachments = _contents(content)
    return Parsed(
        subject=first.get("subject", ""),
        from_=first.get("from", ""),
        to=first.get("to", ""),
        cc=first.get("cc", ""),
        date=first.get("date", ""),
        text=text,
        html=html,
        attachments=attachments,
        headers=headers,
    )


def part(content: bytes, index: int) -> bytes:
    """
    Give the decoded bytes of a part.

    Args:
        index: `ParsedAttachment.index`.

    Raises:
        IndexError: There is no such part.
    """
    for number, leaf in enumerate(_leaves(content)):
        if number == index:
            return _bytes(leaf)
    raise IndexError(f"the message has no part {index}")


def _headers(content: bytes) -> Iterator[tuple[str, str]]:
    end = content.find(b"\r\n\r\n", 0, _MAX_HEADER)
    head = content[: end if end >= 0 else _MAX_HEADER].decode("utf-8", "replace")
    lines = head.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")
    for line in lines[:_MAX_FIELDS]:
        name, colon, value = line.partition(":")
        if colon and _NAME.fullmatch(name):
            yield name, decode_text(value)


def _contents(content: bytes) -> tuple[str, str, tuple[ParsedAttachment, ...]]:
    text = html = None
    attachments = []
    for index, leaf in enumerate(_leaves(content)):
        kind, disposition = leaf.get_content_type(), _disposition(leaf)
        if text is None and kind == "text/plain" and disposition != "attachment":
            text = _text(leaf)
        elif html is None and kind == "text/html" and disposition != "attachment":
            html = _text(leaf)
        else:
            attachments.append(_attachment(index, leaf, kind, disposition))
    return text or "", html or "", tuple(attachments)


def _leaves(content: bytes) -> list[Message]:
    """List the parts that hold no parts; an attached message is one of them."""
    try:
        blank = content.find(b"\r\n\r\n", 0, _MAX_HEADER)
        message = email.message_from_bytes(
            content[:blank] + b"\r\n\r\n" if blank >= 0 else content[:_MAX_HEADER], policy=email.policy.compat32
        )
        kind = str(message.get("Content-Type", "text/plain")).encode("utf-8", "replace")
        if blank >= 0 and check_structure(content, blank + 2, kind, _LIMITS) is not None:
            return []  # hostile: the stdlib's parser recurses over the depth
        return list(_flat(email.message_from_bytes(content, policy=email.policy.compat32)))
    except Exception:  # noqa: BLE001 - a page about a broken message is better than a broken page
        return []


def _flat(message: Message) -> Iterator[Message]:
    stack = [message]
    while stack:
        node = stack.pop()
        children = node.get_payload()
        if node.get_content_maintype() == "multipart" and isinstance(children, list):
            stack += [child for child in reversed(children) if isinstance(child, Message)]
        else:
            yield node


def _attachment(index: int, leaf: Message, kind: str, disposition: str) -> ParsedAttachment:
    content_id = str(leaf.get("Content-ID", "")).strip().strip("<>")
    return ParsedAttachment(
        index=index,
        filename=filename_of(leaf),
        content_type=kind,
        size=len(_bytes(leaf)),
        content_id=content_id or None,
        is_inline=disposition == "inline" or (bool(content_id) and disposition != "attachment"),
    )


def filename_of(leaf: Message) -> str:
    """Read the name of a part's file, the RFC 2231 form first; empty where there is none that can be read."""
    try:
        for header in ("Content-Disposition", "Content-Type"):
            name = _parameter(leaf, header, "filename" if header == "Content-Disposition" else "name")
            if name:
                return decode_text(name)[:255]
    except (ValueError, LookupError, AttributeError, TypeError):
        pass
    return ""


def _parameter(leaf: Message, header: str, name: str) -> str:
    params = leaf.get_params([], header)
    values = [value for key, value in params[1:] if key.lower().rstrip("*") == name]
    best = next((value for value in values if isinstance(value, tuple)), values[0] if values else "")
    # what is plain has lost its quotes already: a second time would take <> and quotes for marks that are part of the name
    return email.utils.collapse_rfc2231_value(best) if isinstance(best, tuple) else best


def _disposition(leaf: Message) -> str:
    try:
        return (leaf.get_content_disposition() or "").lower()
    except (ValueError, LookupError, AttributeError, TypeError):
        return ""


def _bytes(leaf: Message) -> bytes:
    try:
        if leaf.get_content_maintype() == "message" and leaf.is_multipart():
            inner = leaf.get_payload(0)
            return inner.as_bytes() if isinstance(inner, Message) else b""
        payload = leaf.get_payload(decode=True)
    except Exception:  # noqa: BLE001 - see _leaves
        return b""
    return payload if isinstance(payload, bytes) else b""


def _text(leaf: Message) -> str:
    raw = _bytes(leaf)[:_MAX_TEXT]
    try:
        charset = leaf.get_content_charset() or "utf-8"
        text = raw.decode(charset if KNOWN_CHARSET.fullmatch(charset) else "utf-8", "replace")
    except (LookupError, ValueError, AttributeError, TypeError):
        text = raw.decode("utf-8", "replace")
    return text.replace("\r\n", "\n")
