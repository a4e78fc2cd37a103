"""
A tracked message: its links, pixel and one-click fields, found once and written for each recipient.

Arrives: the stored content and what is tracked. Leaves: where its links lead; and the content with URLs of ours in their places.
Only parts that the reader reads are changed: HTML bodies, text bodies where that is asked for. Files, attached messages, what
the sender signed or encrypted (S/MIME, PGP, a DKIM signature of its own) stay as they are, and so does every octet of HTML
that is no link.
Standards: RFC 8058, RFC 2369 §3.2 (List-Unsubscribe), RFC 2045 §6 (encodings).
Not here: the links of a body (links), what the URLs are (wire.tracking_token), signing (render).
Bugs: none known.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gatepost.domain.engagement import Tracking
from gatepost.domain.errors import Fault
from gatepost.mime.headers import KNOWN_CHARSET
from gatepost.mime.links import Slot, SlotKind, html_slots, text_slots
from gatepost.mime.structure import Leaf, leaves, media_type
from gatepost.mime.writer import base64_lines
from gatepost.settings import Limits

MOST_LINKS: Final = 1_000
_MAX_BODY: Final = 4_000_000
_ONE_CLICK: Final = "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
_MAX_LINE: Final = 998
_NOTHING_REFUSED: Final = Limits(mime_depth=100, mime_parts=10_000)
_HEADER: Final = re.compile(
    rb"(?:\A|\r\n)(content-(?:type|transfer-encoding|disposition)|dkim-signature|list-unsubscribe(?:-post)?)[ \t]*:"
    rb"([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)",
    re.IGNORECASE,
)
_ENCODING_FIELD: Final = re.compile(rb"^content-transfer-encoding[ \t]*:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE)
_CHARSET: Final = re.compile(rb"charset\s*=\s*\"?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Body:
    """A body with slots, decoded; what it needs to be written again."""

    leaf: Leaf
    text: str = field(repr=False)
    slots: tuple[Slot, ...]
    charset: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Writing:
    """
    What is written for one recipient.

    Attributes:
        link: Makes the URL for a target; None leaves links as they are.
        pixel: The pixel's URL; empty is none.
        unsubscribe: The page's URL; empty is none.
    """

    link: Callable[[str], str] | None = None
    pixel: str = ""
    unsubscribe: str = ""


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    A message with the places that are written for each recipient.

    Attributes:
        links: Where its links lead to, each once.
        needs_fields: It has no List-Unsubscribe of its own, and shall have ours.
    """

    content: bytes = field(repr=False)
    bodies: tuple[_Body, ...]
    links: tuple[str, ...]
    needs_fields: bool

    def written(self, writing: Writing) -> bytes:
        """Write the content for one recipient."""
        pieces: list[bytes] = []
        if self.needs_fields and writing.unsubscribe:
            pieces.append(f"List-Unsubscribe:\r\n <{writing.unsubscribe}>\r\n{_ONE_CLICK}\r\n".encode())
        at = 0
        for body in self.bodies:
            head, content = _encoded(body, _filled(body, writing), self.content[body.leaf.head_at : body.leaf.body_at])
            pieces += [self.content[at : body.leaf.head_at], head, b"\r\n", content]
            at = body.leaf.end
        pieces.append(self.content[at:])
        return b"".join(pieces)


def find_tracked(content: bytes, tracking: Tracking) -> Tracked:
    """
    Find what is tracked in a message.

    Never raises for what the message looks like: a part that cannot be read with certainty stays as it is.
    """
    blank = content.find(b"\r\n\r\n")
    body_at = blank + 2 if blank >= 0 else len(content)
    fields = _fields(content[:body_at])
    needs_fields = tracking.unsubscribe and not fields.keys() & {b"list-unsubscribe", b"list-unsubscribe-post"}
    if b"dkim-signature" in fields or body_at >= len(content):
        return Tracked(content, (), (), needs_fields)
    places = leaves(content, body_at, fields.get(b"content-type"), _NOTHING_REFUSED)
    open_leaves = () if isinstance(places, Fault) else [leaf for leaf in places if not leaf.is_closed]
    bodies = tuple(_bodies(content, open_leaves, tracking))
    links = dict.fromkeys(slot.target for body in bodies for slot in body.slots if slot.kind is SlotKind.LINK)
    return Tracked(content, bodies, tuple(links), needs_fields)


def _fields(head: bytes) -> dict[bytes, bytes]:
    return {found[1].lower(): found[2] for found in _HEADER.finditer(head)}


def _bodies(content: bytes, places: Sequence[Leaf], tracking: Tracking) -> Iterator[_Body]:
    room, wants_pixel = MOST_LINKS, tracking.opens
    for leaf in places:
        fields = _fields(content[leaf.head_at : leaf.body_at])
        kind = media_type(fields.get(b"content-type", b"text/plain"))
        if kind not in {"text/html", "text/plain"} or fields.get(b"content-disposition", b"").strip().lower().startswith(b"attachment"):
            continue
        read = _read(content[leaf.body_at + 2 : leaf.end], fields)
        if read is None:
            continue
        text, charset, encoding = read
        slots = html_slots(text, tracking, wants_pixel=wants_pixel) if kind == "text/html" else text_slots(text, tracking)
        slots = _within(slots, room)
        wants_pixel = wants_pixel and kind != "text/html"
        room -= sum(slot.kind is SlotKind.LINK for slot in slots)
        if slots:
            yield _Body(leaf, text, tuple(slots), charset, encoding)


def _within(slots: Sequence[Slot], room: int) -> list[Slot]:
    """Leave out the links that are too many."""
    kept, left = [], room
    for slot in slots:
        left -= slot.kind is SlotKind.LINK
        if left >= 0 or slot.kind is not SlotKind.LINK:
            kept.append(slot)
    return kept


def _read(raw: bytes, fields: dict[bytes, bytes]) -> tuple[str, str, str] | None:
    """Decode a body; None when it could not be written again as it was."""
    encoding = fields.get(b"content-transfer-encoding", b"7bit").strip().lower().decode("latin-1")
    if len(raw) > 3 * _MAX_BODY:
        return None
    try:
        if encoding == "base64":
            raw = binascii.a2b_base64(raw)
        elif encoding == "quoted-printable":
            raw = binascii.a2b_qp(raw)
        elif encoding not in {"7bit", "8bit", "binary"}:
            return None
    except binascii.Error:
        return None
    named = _CHARSET.search(fields.get(b"content-type", b""))
    charset = named[1].decode().lower() if named else "us-ascii"
    if not KNOWN_CHARSET.fullmatch(charset) or len(raw) > _MAX_BODY:
        return None
    try:
        text = raw.decode(charset)
        if text.encode(charset) != raw:
            return None
    except (UnicodeError, LookupError):
        return None
    return text, charset, encoding


def _filled(body: _Body, writing: Writing) -> str:
    pieces, at = [], 0
    for slot in body.slots:
        instead = _instead(slot, writing)
        if instead is not None:
            pieces += [body.text[at : slot.start], instead]
            at = slot.end
    pieces.append(body.text[at:])
    return "".join(pieces)


def _instead(slot: Slot, writing: Writing) -> str | None:
    match slot.kind:
        case SlotKind.LINK:
            return writing.link(slot.target) if writing.link is not None else None
        case SlotKind.UNSUBSCRIBE:
            return writing.unsubscribe or None
        case SlotKind.PIXEL if writing.pixel:
            return f'<img src="{writing.pixel}" width="1" height="1" alt="" style="border:0">'
    return None


def _encoded(body: _Body, text: str, head: bytes) -> tuple[bytes, bytes]:
    """Write a body in the encoding that it had; where its lines have become too long, in quoted-printable."""
    raw = text.encode(body.charset)
    if body.encoding == "base64":
        return head, base64_lines(raw)
    if body.encoding != "quoted-printable":
        if max(map(len, raw.split(b"\r\n"))) <= _MAX_LINE:
            return head, raw
        field_ = b"Content-Transfer-Encoding: quoted-printable"
        head = _ENCODING_FIELD.sub(field_, head) if _ENCODING_FIELD.search(head) else head + field_ + b"\r\n"
    return head, binascii.b2a_qp(raw.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")
