"""
Header fields as text: written folded and 7-bit, read for display.

Arrives: names, addresses and free text; or raw field values of a finished message.
Leaves: whole fields ended by CRLF; or readable text without control characters.
Standards: RFC 5322 §2.2.3 (folding), RFC 2047 (encoded words), RFC 2231 (parameters), RFC 6532 (UTF-8 local parts).
Not here: which fields a message has (compose), whether a caller may set them (checks).
Bugs: one non-ASCII character turns the whole value into encoded words, not only its own word.
"""

import binascii
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from gatepost.domain.address import Mailbox

LINE = 76
"""Length at which lines are folded (RFC 2047 §2); the hard limit of RFC 5322 §2.1.1 is 998."""

_MAX_PIECE = 900
_BREAK = re.compile("[\r\n\0]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PIECES = re.compile(r"\s*\S+")
_WORD_FRAME = len("=?utf-8?q??=")
_Q_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
_Q = ["_" if b == 0x20 else chr(b) if b in _Q_SAFE else f"={b:02X}" for b in range(256)]
_ATTRIBUTE_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&+-.^_`{}~")
_PERCENT = [chr(b) if b in _ATTRIBUTE_SAFE else f"%{b:02X}" for b in range(256)]

_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_.:-]{1,40})(?:\*[A-Za-z0-9-]{0,20})?\?([bBqQ])\?([^?\s]*)\?=")
KNOWN_CHARSET = re.compile(
    r"(?:utf-?8|us-ascii|iso-8859-\d{1,2}|windows-125\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|iso-2022-jp|shift_jis)",
    re.IGNORECASE,
)
"""Charsets that mail uses. Others are not decoded: Python has codecs that are slow or no charsets at all."""

_Q_BYTE = re.compile(rb"=([0-9A-Fa-f]{2})")
_MAX_DISPLAY = 20_000


def refuse_breaks(*texts: str) -> None:
    """
    Stop what would break out of a header line. The last line of defence: `checks` has refused it before, with its place.

    Raises:
        ValueError: A text has CR, LF or NUL.
    """
    for text in texts:
        if not text.isprintable() and _BREAK.search(text):
            raise ValueError("a header field would hold a line break: the submission was not checked")


def unstructured(name: str, value: str) -> str:
    """
    Write a field of free text, such as Subject, folded and ended by CRLF.

    Raises:
        ValueError: The name or the value has a line break.
    """
    refuse_breaks(name, value)
    value = value.strip(" \t")
    if value.isascii() and "=?" not in value:
        line = f"{name}: {value}"
        if len(line) <= LINE:
            return line + "\r\n"
        pieces = _PIECES.findall(value)
        if max(map(len, pieces)) <= _MAX_PIECE:
            return _fold(f"{name}:", [" " + pieces[0], *pieces[1:]])
    return _fold(f"{name}:", [f" {word}" for word in encoded_words(value, LINE - len(name) - 2)])


def mailboxes(name: str, boxes: Iterable[Mailbox]) -> str:
    """
    Write a field that is a list of mailboxes, such as To, folded and ended by CRLF.

    Raises:
        ValueError: A name has a line break.
    """
    pieces: list[str] = []
    for box in boxes:
        if pieces:
            pieces[-1] += ","
        pieces += _mailbox_pieces(box)
    line = f"{name}:{''.join(pieces)}"
    return line + "\r\n" if len(line) <= LINE else _fold(f"{name}:", pieces)


@lru_cache(maxsize=1024)
def format_mailbox(box: Mailbox) -> str:
    """
    Write one mailbox on one line, such as `Ann Example <ann@example.net>`; the name 7-bit.

    Raises:
        ValueError: The name has a line break.
    """
    return "".join(_mailbox_pieces(box))[1:]


def parameter(name: str, value: str) -> str:
    """
    Write a parameter with the semicolon and the fold that go before it, such as `; filename="a.pdf"`.

    A value that is not plain ASCII is written twice: as RFC 2231 asks, and after that as ASCII for readers who do not
    know RFC 2231. Readers who know it prefer the extended one or take the first; both have the same extension.
    """
    if value.isascii() and "=?" not in value:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{quoted}"'
    return f'{_extended(name, value)};\r\n {name}="{_ascii_fallback(value)}"'


def encoded_words(text: str, first_room: int = LINE - 1) -> list[str]:
    """
    Encode text as RFC 2047 encoded words, in the shorter of the two encodings.

    Args:
        first_room: Length that the first word may have; the others have 75 (RFC 2047 §2).
    """
    raw = text.encode()
    q_length = sum(len(_Q[b]) for b in raw)
    is_q = q_length <= (len(raw) + 2) // 3 * 4
    room = first_room if first_room >= 30 else LINE - 1
    words: list[str] = []
    chunk: list[bytes] = []
    used = 0
    for char in text:
        piece = char.encode()
        cost = sum(len(_Q[b]) for b in piece) if is_q else len(piece)
        limit = room - _WORD_FRAME if is_q else (room - _WORD_FRAME) // 4 * 3
        if used + cost > limit and chunk:
            words.append(_encoded_word(b"".join(chunk), is_q=is_q))
            chunk, used, room = [], 0, LINE - 1
        chunk.append(piece)
        used += cost
    return [*words, _encoded_word(b"".join(chunk), is_q=is_q)]


def decode_text(value: str) -> str:
    """
    Make a field's value readable: unfolded, encoded words decoded, control characters turned into spaces.

    Bounded to 20,000 characters; an encoded word in an unknown charset stays as it is.
    """
    value = value[:_MAX_DISPLAY].replace("\r\n", "")
    if "=?" in value:
        value = _decode_words(value)
    value = value.strip(" \t")
    if value.isprintable():
        return value
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in value)


def _mailbox_pieces(box: Mailbox) -> list[str]:
    name = box.name
    address = f"{box.address.local}@{box.address.domain}"
    if not name:
        return [f" {address}"]
    refuse_breaks(name)
    if name.isascii() and "=?" not in name and len(name) <= 60:
        if _ATOMS.fullmatch(name):
            return [f" {name}", f" <{address}>"]
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        if len(quoted) <= 70:
            return [f' "{quoted}"', f" <{address}>"]
    return [*(f" {word}" for word in encoded_words(name, 60)), f" <{address}>"]


def _fold(start: str, pieces: Iterable[str]) -> str:
    """Join pieces, each of which begins with white space, with a fold before those that do not fit."""
    out = [start]
    column = len(start)
    for piece in pieces:
        if column + len(piece) > LINE:
            out.append("\r\n")
            column = 0
        out.append(piece)
        column += len(piece)
    out.append("\r\n")
    return "".join(out)


def _encoded_word(raw: bytes, *, is_q: bool) -> str:
    if is_q:
        return f"=?utf-8?q?{''.join([_Q[b] for b in raw])}?="
    return f"=?utf-8?b?{binascii.b2a_base64(raw, newline=False).decode()}?="


def _ascii_fallback(value: str) -> str:
    plain = unicodedata.normalize("NFKD", value)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"[^ !#-\[\]-~]|=(?=\?)", "_", plain)
    return (plain if len(plain) <= 120 else plain[:100] + plain[-20:]) or "_"


def _extended(name: str, value: str) -> str:
    """Write `name*=utf-8''…`, in numbered sections when it is long (RFC 2231 §3, §4.1)."""
    encoded = [_PERCENT[b] for b in value.encode()]
    whole = "".join(encoded)
    if len(name) + len(whole) <= LINE - 12:
        return f";\r\n {name}*=utf-8''{whole}"
    sections: list[str] = [""]
    for item in encoded:
        if len(sections[-1]) + len(item) > 48:
            sections.append("")
        sections[-1] += item
    sections[0] = "utf-8''" + sections[0]
    return "".join(f";\r\n {name}*{n}*={section}" for n, section in enumerate(sections))


def _decode_words(value: str) -> str:
    """Decode encoded words; white space between two of them is dropped, and a character may be split over both."""
    out: list[str] = []
    pending, charset, at = b"", "", 0
    for word in _ENCODED_WORD.finditer(value):
        gap = value[at : word.start()]
        same_charset = word[1].lower() == charset
        if pending and (gap.strip() or not same_charset):
            out.append(_decode_bytes(pending, charset))
            pending = b""
        if gap.strip() or at == 0:
            out.append(gap)
        if KNOWN_CHARSET.fullmatch(word[1]):
            pending += _word_bytes(word[2], word[3])
            charset = word[1].lower()
        else:
            out.append(word[0])
        at = word.end()
    if pending:
        out.append(_decode_bytes(pending, charset))
    out.append(value[at:])
    return "".join(out)


def _word_bytes(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if encoding in "qQ":
        return _Q_BYTE.sub(lambda m: bytes([int(m[1], 16)]), raw.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return raw


def _decode_bytes(raw: bytes, charset: str) -> str:
    try:
        return raw.decode(charset, "replace")
    except LookupError:
        return raw.decode("latin-1")
