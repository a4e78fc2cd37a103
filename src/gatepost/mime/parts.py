"""
The parts of a mail that others wrote, as flat text: for reading reports, bounces and answers.

Arrives: the bytes of any mail, however broken, with any line ends. Leaves: its fields and its leaves, decoded, in order.
Standards: RFC 5322 §2.2 (fields), RFC 2045 §6 (encodings), RFC 2046 §5.1 (multipart), RFC 2047 (encoded words).
Reading is bounded and never raises: a stack of open boundaries is all that is kept, no part is looked into twice, and a
returned message is one leaf. CRLF, CR and LF are the same here, so a mail and its copies give the same answer.
Not here: what the text means (feedback), showing a message (parse), refusing one (structure).
Bugs: a leaf in UTF-16 or UTF-32 is not decoded.
"""

import binascii
import re
from dataclasses import dataclass, field

from gatepost.mime.headers import KNOWN_CHARSET, decode_text

MAX_BYTES = 1_000_000
"""What is read of a mail, and of that 100,000 lines; the rest is a returned message whose end nobody needs."""

_MAX_LINES = 100_000
_MAX_FIELDS = 500
_MAX_FIELD = 8_000
_MAX_HEAD_LINES = 4_000
_MAX_PARTS = 60
_MAX_DEPTH = 8
_MAX_TEXT = 400_000
_NAME = re.compile(r"[!-9;-~]{1,200}[ \t]*:")
_PARAMETER = re.compile(r';[ \t]*([!-)+-:<>-~]{1,60})[ \t]*=[ \t]*(?:"([^"]{0,2000})"|([^\s;"]{1,2000}))')
_SOFT_BREAK = re.compile(r"=[ \t]*\n")
_QUOTED = re.compile(rb"=([0-9A-Fa-f]{2})")
_RETURNED = frozenset(
    {"message/rfc822", "message/global", "message/partial", "text/rfc822-headers", "message/global-headers", "text/rfc822"}
)

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    A leaf.

    Attributes:
        content_type: `type/subtype`, lower-case; `text/plain` where none is said.
        filename: As the sender named it; never a path to open.
        text: The body as text, lines ended by LF, at most 400,000 characters; one character a byte where it is not text.
        raw: Set for bodies that are not text: the decoded bytes.
    """

    content_type: str
    params: dict[str, str]
    fields: Fields
    filename: str
    text: str = field(repr=False)
    raw: bytes = field(repr=False, default=b"")

    @property
    def is_returned(self) -> bool:
        """True for a part that is the message that was sent, or its header."""
        return self.content_type in _RETURNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """
    A mail as its fields and its leaves.

    Attributes:
        fields: Unfolded and decoded, names as written.
        content_type: Of the whole; `text/plain` where none is said.
        parts: At most 60; one for a mail without parts.
    """

    fields: Fields
    content_type: str
    params: dict[str, str]
    parts: tuple[Part, ...]

    def first(self, name: str) -> str:
        """Give the first field of this name (lower-case); empty where there is none."""
        return first(self.fields, name)


def first(fields: Fields, name: str) -> str:
    """Give the first field of this name (lower-case); empty where there is none."""
    return next((value for key, value in fields if key.lower() == name), "")


def read_mail(content: bytes) -> Mail:
    """Take a mail apart; what cannot be read is left out, and nothing raises."""
    text = plain_lines(content[:MAX_BYTES])
    lines = text.split("\n", _MAX_LINES)[:_MAX_LINES]
    at = _start(lines)
    fields, at = _read_fields(lines, at)
    kind, params = _content_type(fields)
    return Mail(fields=fields, content_type=kind, params=params, parts=tuple(_Scan(lines).run(at, fields, kind, params)))


def plain_lines(content: bytes) -> str:
    """Give bytes as text, a character each, with LF for every kind of line end."""
    return content.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")


def read_fields(text: str) -> tuple[Fields, str]:
    """Read header fields at the start of a text, such as a returned message; the rest is returned beside them."""
    lines = text.split("\n")
    fields, at = _read_fields(lines, _start(lines))
    return fields, "\n".join(lines[at:])


def _start(lines: list[str]) -> int:
    """Skip empty lines and an mbox's first line, which people leave in."""
    at = 0
    while at < len(lines) and at < 20 and (not lines[at].strip() or lines[at].startswith(("From ", ">From "))):
        at += 1
    return at


def _read_fields(lines: list[str], at: int) -> tuple[Fields, int]:
    found: list[tuple[str, list[str]]] = []
    size = 0
    for number in range(at, min(len(lines), at + _MAX_HEAD_LINES)):
        line = lines[number]
        if not line.strip():
            return _decoded(found), number + 1
        if line[0] in " \t":
            if found and size < _MAX_FIELD:
                found[-1][1].append(line[:_MAX_FIELD])
                size += len(line)
        elif name := _NAME.match(line):
            if len(found) < _MAX_FIELDS:
                found.append((name[0][:-1].strip(), [line[name.end() :][:_MAX_FIELD]]))
                size = len(line)
        elif not line.startswith((">From ", "From ")):
            return _decoded(found), number  # the empty line is missing
    return _decoded(found), min(len(lines), at + _MAX_HEAD_LINES)


def _decoded(found: list[tuple[str, list[str]]]) -> Fields:
    return tuple((name, _field_text(" ".join(piece.strip() for piece in pieces))) for name, pieces in found)


def _field_text(value: str) -> str:
    value = value.strip()
    if not value.isascii():
        value = _decode_charset(value.encode("latin-1", "replace"), "utf-8")
    return decode_text(value) if "=?" in value else value


def _content_type(fields: Fields) -> tuple[str, dict[str, str]]:
    value = first(fields, "content-type")
    kind = value.partition(";")[0].strip().lower()
    params = {match[1].lower().rstrip("*"): match[2] if match[2] is not None else match[3] for match in _PARAMETER.finditer(value)}
    return (kind if "/" in kind else "text/plain"), params


class _Scan:
    """One pass over the lines with a stack of open boundaries."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.parts: list[Part] = []
        self.open: list[str] = []

    def run(self, at: int, fields: Fields, kind: str, params: dict[str, str]) -> list[Part]:
        """Read from the line after the header to the end."""
        if not self._enter(kind, params):
            self._leaf(fields, kind, params, at, len(self.lines))
            return self.parts
        preamble: tuple[int, int] | None = None
        while at < len(self.lines) and len(self.parts) < _MAX_PARTS and self.open:
            end = self._next_delimiter(at)
            if preamble is None:
                preamble = (at, end)
            if end >= len(self.lines):
                break
            at = self._delimited(end)
        if not self.parts and preamble is not None:  # its boundary never comes: text after all
            self._leaf(fields, "text/plain", {}, preamble[0], len(self.lines))
        return self.parts

    def _enter(self, kind: str, params: dict[str, str]) -> bool:
        boundary = params.get("boundary", "").rstrip()
        if not kind.startswith("multipart/") or not boundary or len(self.open) >= _MAX_DEPTH:
            return False
        self.open.append("--" + boundary)
        return True

    def _next_delimiter(self, at: int) -> int:
        known = set(self.open) | {mark + "--" for mark in self.open}
        for number in range(at, len(self.lines)):
            if self.lines[number].startswith("--") and self.lines[number].rstrip() in known:
                return number
        return len(self.lines)

    def _delimited(self, at: int) -> int:
        """Take one delimiter and what follows it; return where to go on."""
        mark = self.lines[at].rstrip()
        closes = mark not in self.open
        level = self.open.index(mark[:-2] if closes else mark)
        if closes:
            del self.open[level:]
            return at + 1
        del self.open[level + 1 :]
        fields, body = _read_fields(self.lines, at + 1)
        kind, params = _content_type(fields)
        if self._enter(kind, params):
            return body
        end = self._next_delimiter(body)
        self._leaf(fields, kind, params, body, end)
        return end

    def _leaf(self, fields: Fields, kind: str, params: dict[str, str], at: int, end: int) -> None:
        body = "\n".join(self.lines[at:end])
        encoding = first(fields, "content-transfer-encoding").strip().lower()
        is_text = kind.startswith(("text/", "message/")) or kind in {"application/xml", "application/json", "multipart/report"}
        raw = _decode_body(body, encoding)
        disposition = first(fields, "content-disposition")
        names = {match[1].lower().rstrip("*"): match[2] if match[2] is not None else match[3] for match in _PARAMETER.finditer(disposition)}
        self.parts.append(
            Part(
                content_type=kind,
                params=params,
                fields=fields,
                filename=(names.get("filename") or params.get("name") or "")[:255],
                text=_as_text(raw[:_MAX_TEXT], params.get("charset", "")) if is_text or kind.startswith("multipart/") else "",
                raw=b"" if is_text else raw,
            )
        )


def _decode_body(body: str, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        soft = _SOFT_BREAK.sub("", body).encode("latin-1", "replace")
        return _QUOTED.sub(lambda match: bytes([int(match[1], 16)]), soft)
    raw = body.encode("latin-1", "replace")
    if encoding == "base64":
        return _decode_base64(raw)
    return raw


def _decode_base64(raw: bytes) -> bytes:
    clean = bytes(raw.translate(None, b" \t\n\v\f"))
    clean = clean[: len(clean) // 4 * 4] if b"=" in clean[-4:] else clean + b"=" * (-len(clean) % 4)
    try:
        return binascii.a2b_base64(clean)
    except (binascii.Error, ValueError):
        return raw


def _as_text(raw: bytes, charset: str) -> str:
    return _decode_charset(raw, charset).replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")


def _decode_charset(raw: bytes, charset: str) -> str:
    """Decode by the charset that is named; without one, or where it is wrong, UTF-8, then ISO-2022-JP, then Latin-1."""
    if charset and KNOWN_CHARSET.fullmatch(charset) and charset.lower() not in {"us-ascii", "utf-8", "utf8"}:
        try:
            return raw.decode(charset, "replace")
        except (LookupError, ValueError):
            pass
    if b"\x1b$" in raw or b"\x1b(" in raw:
        return raw.decode("iso-2022-jp", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1") if not _is_mostly_utf8(raw) else raw.decode("utf-8", "replace")


def _is_mostly_utf8(raw: bytes) -> bool:
    text = raw.decode("utf-8", "replace")
    return text.count("�") * 4 < len(raw) - sum(1 for byte in raw if byte < 128)
