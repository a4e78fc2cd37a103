"""
The shape of a finished message's body: bounded before anything parses it.

Arrives: a message's bytes and its Content-Type. Leaves: a fault where it nests too deep, has too many parts, or is
written so that two readers would see two different messages; or the places of its leaves.
Standards: RFC 2046 §5.1 (multipart), §5.2.1 (message/rfc822).
Not here: building a tree. A stack of open boundaries is all that is kept, and nothing recurses: depth costs nothing.
Bugs: comments within Content-Type are refused although RFC 2045 §5.1 allows them.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from gatepost.domain.errors import Fault
from gatepost.settings import Limits

_TYPE = re.compile(rb"[ \t]*([A-Za-z0-9!#$&^_.+-]{1,100})/([A-Za-z0-9!#$&^_.+-]{1,100})[ \t]*(?:;|$)")
_BOUNDARY = re.compile(rb';[ \t]*boundary(\*[^=; \t]*)?[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)"|([^ \t;"]*))', re.IGNORECASE)
_ENCODED = re.compile(rb"(?:^|\r\n)content-transfer-encoding[ \t]*:[\s]*(?:base64|quoted-printable)", re.IGNORECASE)
_MAX_BOUNDARY = 70  # RFC 2046 §5.1.1
_SHORT = 60  # most parts say `text/plain; charset=utf-8` and the like, again and again
_MAX_PART_HEADER = 65_536
_NAME = b"\r\ncontent-type:"
_CLOSED = frozenset({"multipart/signed", "multipart/encrypted", "multipart/digest"})


@dataclass(slots=True)
class _Open:
    """A multipart that was begun: its delimiter with the CRLF before it, and where its parent's next delimiter is."""

    delimiter: bytes
    end: int
    depth: int
    is_digest: bool
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """
    Where a part without parts of its own stands in its message.

    Attributes:
        head_at: Offset of the CRLF before its first field; of the first field where it is the whole message.
        body_at: Offset of the empty line between its header and its body.
        end: Offset after its body.
        is_closed: It is in an attached message, or what its sender signed or encrypted: whoever changes it breaks it.
    """

    head_at: int
    body_at: int
    end: int
    is_closed: bool = False


class _Unacceptable(Exception):  # noqa: N818
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault("Content-Type", code, detail)


def check_structure(content: bytes, body_at: int, content_type: bytes | None, limits: Limits) -> Fault | None:
    """
    Bound the nesting and the number of MIME parts.

    Args:
        body_at: Offset of the empty line between header and body.
        content_type: The message's own Content-Type value; None is text/plain.

    Returns:
        A fault, or None. Never raises for what the message looks like.
    """
    if content_type is None:
        return None
    try:
        if _is_container(content_type):
            _Walk(content, limits).run(body_at, content_type)
    except _Unacceptable as refusal:
        return refusal.fault
    return None


def leaves(content: bytes, body_at: int, content_type: bytes | None, limits: Limits) -> list[Leaf] | Fault:
    """
    Find the parts that have no parts, in order, those of attached messages too.

    An attached message in base64 is a leaf, too: what is in it shows only when it is decoded (RFC 2046 §5.2.1 forbids it,
    and mail programs open it).

    Args:
        body_at: As for `check_structure`.

    Returns:
        The leaves; or the fault that `check_structure` finds.
    """
    try:
        if content_type is None or not _is_container(content_type):
            return [Leaf(0, body_at, len(content))]
        walk = _Walk(content, limits)
        if _is_encoded_message(content_type, content[:body_at]):
            walk.leaves.append(Leaf(0, body_at, len(content), is_closed=True))
        walk.run(body_at, content_type)
    except _Unacceptable as refusal:
        return refusal.fault
    return walk.leaves


def media_type(value: bytes) -> str:
    """Read `type/subtype` in lower case; empty where the value has none."""
    return _short_media_type(value) if len(value) <= _SHORT else _read_media_type(value)


def _read_media_type(value: bytes) -> str:
    found = _TYPE.match(value.replace(b"\r\n", b""))
    return f"{found[1].decode()}/{found[2].decode()}".lower() if found else ""


_short_media_type = lru_cache(maxsize=1024)(_read_media_type)


class _Walk:
    """A pass over the parts: a multipart is searched only up to its parent's next delimiter, so each octet is read once a level."""

    def __init__(self, content: bytes, limits: Limits) -> None:
        self._content = content
        self._limits = limits
        self._stack: list[_Open] = []
        self._parts = 0
        self._near_misses = 0
        self._begun: tuple[int, int, bool] | None = None
        self.leaves: list[Leaf] = []

    def run(self, body_at: int, content_type: bytes) -> None:
        self._enter(body_at, content_type, len(self._content), 0, is_closed=False)
        at = body_at
        while self._stack:
            top = self._stack[-1]
            found = self._find(top.delimiter, at, top.end)
            self._end_leaf(found if found >= 0 else top.end)
            after = found + len(top.delimiter)
            if found < 0 or self._content.startswith(b"--", after):
                at = top.end
                self._stack.pop()
                continue
            at = self._part(top, after)
        self._end_leaf(len(self._content))

    def _end_leaf(self, end: int) -> None:
        if self._begun is not None:
            head_at, body_at, is_closed = self._begun
            self.leaves.append(Leaf(head_at, body_at, max(end, body_at), is_closed))
            self._begun = None

    def _part(self, top: _Open, after: int) -> int:
        """Read a part's header and open what it holds; returns where the search goes on."""
        self._parts += 1
        if self._parts > self._limits.mime_parts:
            raise _Unacceptable("mime_too_many_parts", f"more than {self._limits.mime_parts} MIME parts")
        line_end = self._content.find(b"\r\n", after)
        if line_end < 0:
            return top.end
        part_type, at = _part_header(self._content, line_end, top.end)
        self._begun = (line_end, at, top.is_closed)
        if part_type is None and top.is_digest:
            part_type = b"message/rfc822"  # RFC 2046 §5.1.5: what a part is that says nothing else
        if part_type is not None and _is_container(part_type):
            end = self._find(top.delimiter, at, top.end)
            end = end if end >= 0 else top.end
            if _is_encoded_message(part_type, self._content[line_end:at]):
                self.leaves.append(Leaf(line_end, at, end, is_closed=True))
            self._enter(at, part_type, end, top.depth, is_closed=top.is_closed)
        return at

    def _enter(self, at: int, content_type: bytes, end: int, depth: int, *, is_closed: bool) -> None:
        """Open a multipart, through any number of messages around it."""
        inner: bytes | None = content_type
        while inner is not None and _is_container(inner):
            depth += 1
            if depth > self._limits.mime_depth:
                raise _Unacceptable("mime_too_deep", f"MIME parts nest deeper than {self._limits.mime_depth}")
            kind = media_type(inner)
            if kind.startswith("multipart/"):
                is_closed = is_closed or kind in _CLOSED
                self._stack.append(_Open(b"\r\n--" + _boundary(inner), end, depth, kind == "multipart/digest", is_closed))
                self._begun = None
                return
            head_at, is_closed = at, True
            inner, at = _part_header(self._content, at, end)
            self._begun = (head_at, at, is_closed)

    def _find(self, delimiter: bytes, at: int, end: int) -> int:
        """Find a delimiter line (RFC 2046 §5.1.1), passing over longer boundaries that begin with it; -1 without one."""
        while True:
            found = self._content.find(delimiter, at, end)
            if found < 0 or _ends_line(self._content, found + len(delimiter)):
                return found
            self._near_misses += 1
            if self._near_misses > 8 * self._limits.mime_parts:
                raise _Unacceptable("mime_ambiguous", "too many lines that begin like a boundary")
            at = found + len(delimiter)


def _is_container(content_type: bytes) -> bool:
    kind = media_type(content_type)
    if not kind and re.search(rb"multipart|message", content_type, re.IGNORECASE):
        raise _Unacceptable("mime_ambiguous", "a Content-Type that is not of the form type/subtype")
    return kind.startswith("multipart/") or kind in {"message/rfc822", "message/global"}


def _is_encoded_message(content_type: bytes, header: bytes) -> bool:
    return content_type.lstrip()[:8].lower() == b"message/" and _ENCODED.search(header) is not None


def _boundary(content_type: bytes) -> bytes:
    found = _BOUNDARY.findall(content_type.replace(b"\r\n", b""))
    if len(found) != 1 or found[0][0]:
        raise _Unacceptable("mime_ambiguous", "a multipart needs exactly one boundary")
    quoted = re.sub(rb"\\(.)", rb"\1", found[0][1]) if b"\\" in found[0][1] else found[0][1]
    boundary: bytes = (quoted or found[0][2]).rstrip(b" ")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY:
        raise _Unacceptable("mime_ambiguous", f"a boundary has 1 to {_MAX_BOUNDARY} characters")
    return boundary


def _part_header(content: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    """
    Find the Content-Type of a part.

    Args:
        at: Offset of the CRLF before the part's first field.

    Returns:
        The value, or None without one; and the offset of the CRLF before the part's body.
    """
    blank = content.find(b"\r\n\r\n", at, min(end, at + _MAX_PART_HEADER))
    if blank < 0:
        if end - at > _MAX_PART_HEADER:
            raise _Unacceptable("too_large", f"a part's header is larger than {_MAX_PART_HEADER} bytes")
        return None, end
    block = content[at : blank + 2]
    lower = block.lower()
    start = lower.find(_NAME)
    if start < 0:
        return None, blank + 2
    if lower.find(_NAME, start + len(_NAME)) >= 0:
        raise _Unacceptable("mime_ambiguous", "a part has two Content-Type fields")
    return _value_at(block, start + len(_NAME)), blank + 2


def _value_at(block: bytes, start: int) -> bytes:
    stop = block.find(b"\r\n", start)
    while block.startswith((b" ", b"\t"), stop + 2):
        stop = block.find(b"\r\n", stop + 2)
    return block[start:stop]


def _ends_line(content: bytes, at: int) -> bool:
    """Tell whether nothing but the closing `--` and white space stands between here and the end of the line."""
    stop = content.find(b"\r\n", at, at + 100)
    rest = content[at:stop] if stop >= 0 else content[at : at + 100]
    return not rest.removeprefix(b"--").strip(b" \t") and (stop >= 0 or at + len(rest) == len(content))
