"""
The files of a finished message, as every mail program might see them.

Arrives: a message that structure found no fault with. Leaves: its attachments with all names and decoded bytes, its HTML
bodies, and what is written so that programs would disagree.
Standards: RFC 2183 (Content-Disposition), RFC 2231 (parameters in sections and charsets), RFC 2047 (which some use instead),
RFC 2045 §6 (encodings).
Not here: judging them (policy.attachments). A message without attachments costs one pass over the headers of its parts;
nothing of it is decoded.
Bugs: uuencoded files within a text, and winmail.dat (TNEF), are not looked into.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from gatepost.domain.errors import Fault
from gatepost.mime.headers import KNOWN_CHARSET, decode_text
from gatepost.mime.structure import Leaf, leaves, media_type
from gatepost.settings import Limits

_FIELD = re.compile(rb"\r\n(content-[a-z-]{1,40})([ \t]*):([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)", re.IGNORECASE)
_TYPE = re.compile(rb"^content-type[ \t]*:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)", re.IGNORECASE | re.MULTILINE)
_BODY_TYPE = re.compile(rb"\r\ncontent-type:[ \t]*text/(plain|html)[ \t]*[;\r]")
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,60})\s*=\s*(?:"((?:[^"\\]|\\.)*+)"?|([^;]*))')
_SECTION = re.compile(r"(filename|name)(?:\*([0-9]{1,4}))?(\*)?", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]{0,200}\)")
_AFTER_PADDING = re.compile(rb"=[=\s]*[A-Za-z0-9+/]")
_ENCODINGS = frozenset({"", "7bit", "8bit", "binary", "base64", "quoted-printable"})
_MOST_NAMES = 20
_DEEPEST = 5
_PLACE = "Content-Disposition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """
    One attachment.

    Attributes:
        names: Every name that a mail program may show, the usual one first; empty where it has none.
        content_type: `type/subtype`, lower-case; empty where there is none that can be read.
    """

    names: tuple[str, ...]
    content_type: str
    content: bytes = field(repr=False)


@dataclass(slots=True)
class Files:
    """What a message carries; faults are `ambiguous_mime` and `ambiguous_encoding`."""

    attached: list[Attached] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def files_of(content: bytes, limits: Limits) -> Files:
    """
    Collect the attachments of a message, and of messages attached to it.

    Never raises for what the message looks like.
    """
    found = Files()
    messages = [(content, 0)]
    while messages:
        message, level = messages.pop()
        for head, leaf in _heads(message, limits, found.faults):
            if b"name" not in head and b"attachment" not in head and (b"\r\ncontent-type" not in head or _BODY_TYPE.search(head)):
                continue  # what the reader reads
            one = _attached(head, message, leaf, found.faults)
            found.attached.append(one)
            if one.content_type in {"message/rfc822", "message/global"}:
                if level == _DEEPEST:
                    found.faults.append(Fault(_PLACE, "ambiguous_mime", "encoded messages within encoded messages are not looked into"))
                else:
                    messages.append((one.content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), level + 1))
    return found


def html_of(content: bytes, limits: Limits) -> list[str]:
    """Return the HTML bodies of a message, decoded; a charset that is not known is taken for UTF-8."""
    found: list[str] = []
    for head, leaf in _heads(content, limits, []):
        kind = _BODY_TYPE.search(head)
        if kind is not None and kind[1] == b"html":
            one = _attached(head, content, leaf, [])
            charset = re.search(rb'charset\s*=\s*"?([a-z0-9_.:-]{1,40})', head)
            name = charset[1].decode() if charset else "utf-8"
            found.append(one.content.decode(name if KNOWN_CHARSET.fullmatch(name) else "utf-8", "replace"))
    return found


def _heads(message: bytes, limits: Limits, faults: list[Fault]) -> Iterator[tuple[bytes, Leaf]]:
    """Yield each leaf with its header block: lower-case, a CRLF before its first field."""
    blank = message.find(b"\r\n\r\n", 0, limits.header_bytes + 4)
    body_at = blank + 2 if blank >= 0 else len(message)
    kind = _TYPE.search(message, 0, body_at)
    places = leaves(message, body_at, kind[1] if kind else None, limits)
    if isinstance(places, Fault):
        faults.append(places)
        return
    for leaf in places:
        head = message[leaf.head_at : leaf.body_at].lower()
        yield (head if leaf.head_at else b"\r\n" + head) + b"\r\n", leaf


def _attached(head: bytes, message: bytes, leaf: Leaf, faults: list[Fault]) -> Attached:
    block = message[leaf.head_at : leaf.body_at]
    fields: dict[str, list[bytes]] = {}
    for one in _FIELD.finditer(block if leaf.head_at else b"\r\n" + block):
        fields.setdefault(one[1].decode().lower(), []).append(one[3].replace(b"\r\n", b"").strip())
        if one[2]:
            faults.append(Fault(one[1].decode(), "ambiguous_mime", "a space before the colon: mail programs disagree about the field"))
    faults += [
        Fault(name.title(), "ambiguous_mime", "the field is there twice: mail programs disagree about which one counts")
        for name in ("content-type", "content-disposition", "content-transfer-encoding")
        if len(fields.get(name, ())) > 1
    ]
    encoding = _token(fields.get("content-transfer-encoding", [b""])[0])
    return Attached(
        names=tuple(_names(fields)),
        content_type=media_type(fields.get("content-type", [b""])[0]),
        content=_decoded(message[leaf.body_at + 2 : leaf.end], encoding, faults),
    )


def _token(value: bytes) -> str:
    return _COMMENT.sub("", value.decode("latin-1")).strip().strip('"').lower()


def _decoded(body: bytes, encoding: str, faults: list[Fault]) -> bytes:
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    if encoding == "base64":
        if _AFTER_PADDING.search(body):
            faults.append(Fault(_PLACE, "ambiguous_encoding", "base64 goes on after its end: mail programs disagree about what follows"))
            body = body.replace(b"=", b"")
        for end in (b"", b"==", b"A=="):
            try:
                return binascii.a2b_base64(body + end)
            except binascii.Error:
                continue
        return b""
    if encoding not in _ENCODINGS:
        faults.append(Fault(_PLACE, "ambiguous_encoding", f"the encoding {encoding[:40]!a} is none that every mail program knows"))
    return body


def _names(fields: dict[str, list[bytes]]) -> list[str]:
    """Read every name of a part, each in every way in which programs read it."""
    found: dict[str, None] = {}
    values = [value.decode("utf-8", "replace") for name in ("content-disposition", "content-type") for value in fields.get(name, ())]
    for value in values:
        for wanted in ("filename", "name"):
            for text, is_extended in _names_in(value, wanted):
                if is_extended and text:
                    found.setdefault(text)
                if readable := decode_text(text):  # RFC 2231 values are not encoded words; some programs take them for such
                    found.setdefault(readable)
    return list(found)[:_MOST_NAMES]


def _names_in(value: str, wanted: str) -> Iterator[tuple[str, bool]]:
    """Yield each name, and whether it is one of RFC 2231's; those first, as programs prefer them."""
    sections: list[tuple[int, str, bool]] = []
    plain: list[tuple[str, bool]] = []
    for parameter in _PARAMETER.finditer(value):
        kind = _SECTION.fullmatch(parameter[1])
        if kind is None or kind[1].lower() != wanted:
            continue
        quoted, bare = parameter[2], parameter[3]
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (bare or "").strip()
        if kind[2] is None:
            plain.append((_extended(text), True) if kind[3] else (text, False))
            if quoted is None and "(" in text:
                plain.append((_COMMENT.sub("", text).strip(), False))
        else:
            sections.append((int(kind[2]), text, kind[3] is not None))
    if sections:
        yield _joined(sorted(sections, key=lambda one: one[0])), True
        yield _joined(sections), True
    yield from sorted(plain, key=lambda one: not one[1])


def _joined(sections: list[tuple[int, str, bool]]) -> str:
    """Put sections together (RFC 2231 §3, §4.1): the charset stands in the first one, each says for itself whether it is encoded."""
    charset, rest = "utf-8", sections
    if sections[0][2] and sections[0][1].count("'") >= 2:
        charset, _, first = sections[0][1].split("'", 2)
        rest = [(sections[0][0], first, True), *sections[1:]]
    raw = b"".join(unquote_to_bytes(text) if is_encoded else text.encode("utf-8", "replace") for _, text, is_encoded in rest)
    return _text(raw, charset)


def _extended(text: str) -> str:
    if text.count("'") < 2:
        return _text(unquote_to_bytes(text), "utf-8")
    charset, _, encoded = text.split("'", 2)
    return _text(unquote_to_bytes(encoded), charset)


def _text(raw: bytes, charset: str) -> str:
    try:
        return raw.decode(charset if KNOWN_CHARSET.fullmatch(charset) else "utf-8", "replace")
    except LookupError:
        return raw.decode("latin-1")
