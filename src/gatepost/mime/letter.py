"""
A finished message taken apart again, for providers whose API wants fields and builds the message itself.

Arrives: the bytes that would go out. Leaves: a `Letter`: who, what, files, and every field that may go along.
What cannot go along is left out on purpose: signatures and trace belong to the bytes, Date and MIME fields to whoever builds
the message. A second text in the same message (an alternative other than plain and HTML, such as a calendar) becomes a file.
Standards: RFC 5322, RFC 2045, RFC 2046 §5.1.4 (alternatives), RFC 2392 (Content-ID), RFC 2183 (disposition).
Not here: which of it a provider takes (egress.relays); showing a message (parse).
"""

import email
import email.policy
import email.utils
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message

from gatepost.mime.fields import Field, MalformedHeader, read_fields
from gatepost.mime.headers import KNOWN_CHARSET, decode_text
from gatepost.mime.parse import filename_of
from gatepost.settings import Limits

_LIMITS = Limits(header_bytes=1_000_000, headers=2_000)
_OWN = frozenset({"from", "to", "cc", "bcc", "subject", "reply-to", "message-id", "date", "mime-version", "return-path", "received"})
_SIGNED = ("dkim-signature", "arc-", "authentication-results", "domainkey-signature", "received-spf")


class Unreadable(ValueError):  # noqa: N818
    """The bytes are no message that can be taken apart; the text says why."""


@dataclass(frozen=True, slots=True)
class Correspondent:
    """An address with the name beside it, decoded; the name may be empty."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        return formatted(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    A part that is not the text.

    Attributes:
        content_id: Without angle brackets; empty where there is none.
        is_inline: Shown within the text, which refers to it by its `content_id`.
    """

    name: str
    content_type: str
    content: bytes = field(repr=False)
    content_id: str = ""
    is_inline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """
    A message in parts.

    Attributes:
        text: None where there is none; so is `html`.
        message_id: With its angle brackets; empty where there is none.
        headers: The other fields in order, unfolded and still encoded (RFC 2047).
    """

    from_: Correspondent
    to: tuple[Correspondent, ...] = ()
    cc: tuple[Correspondent, ...] = ()
    reply_to: tuple[Correspondent, ...] = ()
    subject: str = ""
    text: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    files: tuple[File, ...] = ()
    message_id: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def headers_without(self, *names: str) -> dict[str, str]:
        """Return the fields that may go along, the first of each name; a name that ends in `*` stands for all that begin so."""
        found: dict[str, str] = {}
        seen: set[str] = set()
        for name, value in self.headers:
            lower = name.lower()
            if lower in seen or any(lower.startswith(one[:-1]) if one.endswith("*") else lower == one for one in names):
                continue
            seen.add(lower)
            found[name] = value
        return found


def read_letter(content: bytes) -> Letter:
    """
    Take a message apart.

    Raises:
        Unreadable: It has no From with an address, or its header is none.
    """
    try:
        fields, _ = read_fields(content, _LIMITS)
    except MalformedHeader as error:
        raise Unreadable(f"its header cannot be read: {error}") from error
    senders = _people(fields, "from")
    if not senders:
        raise Unreadable("it has no From with an address")
    text, html, files = _body(content)
    return Letter(
        from_=senders[0],
        to=_people(fields, "to"),
        cc=_people(fields, "cc"),
        reply_to=_people(fields, "reply-to"),
        subject=decode_text(_text_of(_first(fields, "subject"))),
        text=text,
        html=html,
        files=files,
        message_id=_text_of(_first(fields, "message-id")),
        headers=tuple((one.name, _text_of(one)) for one in fields if _may_go_along(one.lower)),
    )


def formatted(person: Correspondent) -> str:
    """Write `Name <address>`, the name quoted where it must be."""
    if not person.name:
        return person.address
    plain = person.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}" <{person.address}>' if any(c in '()<>[]:;@\\,."' for c in person.name) else f"{person.name} <{person.address}>"


def _may_go_along(lower: str) -> bool:
    return lower not in _OWN and not lower.startswith(("content-", "resent-", *_SIGNED))


def _first(fields: Sequence[Field], lower: str) -> Field | None:
    return next((one for one in fields if one.lower == lower), None)


def _text_of(one: Field | None) -> str:
    return "" if one is None else one.text().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _people(fields: Sequence[Field], lower: str) -> tuple[Correspondent, ...]:
    texts = [_text_of(one) for one in fields if one.lower == lower]
    found: dict[str, Correspondent] = {}
    for name, address in email.utils.getaddresses(texts):
        if "@" in address:
            found.setdefault(address.lower(), Correspondent(address, decode_text(name)))
    return tuple(found.values())


def _body(content: bytes) -> tuple[str | None, str | None, tuple[File, ...]]:
    text = html = None
    files = []
    for leaf in _leaves(email.message_from_bytes(content, policy=email.policy.compat32)):
        kind, disposition = leaf.get_content_type(), _disposition(leaf)
        is_text = disposition != "attachment" and not filename_of(leaf)
        if is_text and text is None and kind == "text/plain":
            text = _decoded(leaf)
        elif is_text and html is None and kind == "text/html":
            html = _decoded(leaf)
        else:
            files.append(_file(leaf, kind, disposition))
    return text, html, tuple(files)


def _leaves(message: Message) -> Iterator[Message]:
    """List the parts that hold no parts, in order; the structure was bounded when the message was accepted."""
    children = message.get_payload()
    if message.get_content_maintype() == "multipart" and isinstance(children, list):
        for child in children:
            if isinstance(child, Message):
                yield from _leaves(child)
    else:
        yield message


def _file(leaf: Message, kind: str, disposition: str) -> File:
    content_id = str(leaf.get("Content-ID", "")).strip().strip("<>")
    name = filename_of(leaf) or _invented_name(kind)
    is_inline = bool(content_id) and disposition != "attachment"
    return File(name=name, content_type=_full_type(leaf, kind), content=_bytes(leaf), content_id=content_id, is_inline=is_inline)


def _full_type(leaf: Message, kind: str) -> str:
    """Keep what a reader of the file needs beside its type: the charset, a calendar's method."""
    wanted = ("charset", "method")
    params = [(name, value) for name in wanted if isinstance(value := leaf.get_param(name), str) and value]
    return "; ".join([kind, *(f"{name}={value}" for name, value in params)]) if kind.startswith("text/") else kind


def _invented_name(kind: str) -> str:
    endings = {"message/rfc822": "message.eml", "text/calendar": "invite.ics", "text/plain": "text.txt", "text/html": "text.html"}
    return endings.get(kind, f"file.{kind.rpartition('/')[2].rpartition('+')[0] or kind.rpartition('/')[2]}"[:40])


def _disposition(leaf: Message) -> str:
    return (leaf.get_content_disposition() or "").lower()


def _bytes(leaf: Message) -> bytes:
    children = leaf.get_payload()
    if isinstance(children, list):  # an attached message, or a delivery status
        policy = email.policy.compat32.clone(linesep="\r\n")
        return b"\r\n".join(child.as_bytes(policy=policy) for child in children if isinstance(child, Message))
    payload = leaf.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decoded(leaf: Message) -> str:
    raw = _bytes(leaf)
    charset = leaf.get_content_charset() or "utf-8"
    try:
        return raw.decode(charset if KNOWN_CHARSET.fullmatch(charset) else "utf-8", "replace")
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")
