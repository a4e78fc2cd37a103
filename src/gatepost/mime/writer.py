"""
Bodies and parts as bytes: 7-bit, CRLF, no line over 998.

Arrives: text or the bytes of a file.
Leaves: a part: its header fields and its encoded body, without the delimiter lines around it.
Standards: RFC 2045 §6 (transfer encodings), RFC 2046 §5.1 (multipart), RFC 2387 (related).
Not here: the message's own fields (compose). Own code because the stdlib's writer costs thirty times as much.
"""

import binascii
from collections.abc import Sequence

from gatepost.domain.message import Attachment
from gatepost.mime.headers import parameter, refuse_breaks

_MAX_LINE = 998
_PLAIN = bytes([0x09, 0x0A, *range(0x20, 0x7F)])


def text_part(subtype: str, text: str) -> bytes:
    """Write a text part in the encoding that is readable where possible and short otherwise."""
    raw = text.encode()
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not raw.endswith(b"\n"):
        raw += b"\n"
    escapes = len(raw.translate(None, _PLAIN))
    if not escapes and _is_safe_7bit(raw):
        return b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%b" % (
            subtype.encode(),
            raw.replace(b"\n", b"\r\n"),
        )
    if escapes * 6 > len(raw):
        encoding, body = b"base64", base64_lines(raw.replace(b"\n", b"\r\n"))
    else:
        encoding, body = b"quoted-printable", binascii.b2a_qp(raw, istext=True).replace(b"\n", b"\r\n")
    return b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (subtype.encode(), encoding, body)


def file_part(attachment: Attachment) -> bytes:
    """
    Write an attachment, always in base64: its bytes arrive as they are, whatever they are.

    Raises:
        ValueError: Its name, type or Content-ID has a line break.
    """
    refuse_breaks(attachment.filename, attachment.content_type, attachment.content_id or "")
    kind = attachment.content_type
    if kind.startswith("text/") and not attachment.content.isascii() and _is_utf8(attachment.content):
        kind += "; charset=utf-8"
    disposition = "inline" if attachment.is_inline else "attachment"
    name = parameter("filename", attachment.filename) if attachment.filename else ""
    content_id = f"Content-ID: <{attachment.content_id}>\r\n" if attachment.content_id else ""
    head = f"Content-Type: {kind}\r\nContent-Disposition: {disposition}{name}\r\n{content_id}Content-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + base64_lines(attachment.content)


def multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    """Join parts; every part keeps its own end of line, which is not the delimiter's."""
    line = b"--" + boundary.encode()
    # RFC 2387 §3.1: related names the type of its root, and Apple Mail shows nothing without it
    kind = f'related; type="{_type_of(parts[0])}"' if subtype == "related" else subtype
    head = f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"\r\n\r\n'.encode()
    delimiter = b"\r\n" + line + b"\r\n"
    return b"%b%b\r\n%b\r\n%b--\r\n" % (head, line, delimiter.join(parts), line)


def base64_lines(raw: bytes) -> bytes:
    """Encode in lines of 76 characters, each ended by CRLF."""
    whole = binascii.b2a_base64(raw, newline=False)
    if len(whole) <= 76:
        return whole + b"\r\n"
    return b"\r\n".join([whole[at : at + 76] for at in range(0, len(whole), 76)]) + b"\r\n"


def _is_safe_7bit(raw: bytes) -> bool:
    """Tell whether ASCII text survives unencoded: trailing white space is lost on the way, long lines are cut."""
    if b" \n" in raw or b"\t\n" in raw:
        return False
    at, end = 0, len(raw)
    while at < end:  # the last newline within reach: jumps over as many short lines as fit
        newline = raw.rfind(b"\n", at, at + _MAX_LINE + 1)
        if newline < 0:
            return False
        at = newline + 1
    return True


def _type_of(part: bytes) -> str:
    return part[len(b"Content-Type: ") : part.index(b";")].decode()


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
