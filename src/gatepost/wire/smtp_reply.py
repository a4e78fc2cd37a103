"""
SMTP replies, both ways: what another server says to us, and what we say to our clients.

Arrives: bytes from a server, in any chunks; or a code and words of ours.
Leaves: `WireReply` values; or one reply line as bytes.
Standards: RFC 5321 §4.2 (replies), RFC 2034 (enhanced status codes), RFC 3463 (their form).
Not here: what a reply means (policy.classify), who speaks when (wire.smtp_client, wire.smtp_server).
Bugs: a server that ends its lines with a bare LF is not understood; RFC 5321 §2.3.8 forbids it and guessing here is
how replies get injected.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gatepost.domain.outcome import Reply

MAX_LINE_BYTES: Final = 2048
"""Longest reply line taken, CRLF included: RFC 5321 §4.5.3.1.5 allows 512, real servers send more."""

MAX_LINES: Final = 100
"""Most lines of one reply; the longest EHLO replies seen have about 25."""

_MAX_TEXT = 1_000
_MAX_OWN_TEXT = 450
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")


class ProtocolError(Exception):
    """The other side does not speak SMTP; the text is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class WireReply:
    """
    One reply with its lines as sent, which EHLO needs.

    Attributes:
        lines: Text of each line without the code; never empty; control characters replaced by `?`.
    """

    code: int
    lines: tuple[str, ...]

    @property
    def reply(self) -> Reply:
        """The reply in words: enhanced status code split off, lines joined with a space, at most 1,000 characters."""
        enhanced, first = _split_enhanced(self.code, self.lines[0])
        rest = [first] + [_without(enhanced, line) for line in self.lines[1:]]
        return Reply(code=self.code, enhanced=enhanced, text=" ".join(part for part in rest if part)[:_MAX_TEXT])


class ReplyParser:
    """Read a server's replies from a stream of bytes, bounded in line length and in lines."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []

    @property
    def is_empty(self) -> bool:
        """True when no part of a further reply has arrived: must hold before a TLS handshake (RFC 3207 §4.2)."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> list[WireReply]:
        """
        Take bytes and return the replies they complete, in order.

        Raises:
            ProtocolError: Not SMTP, or longer than the bounds; nothing after it can be understood.
        """
        self._buffer += data
        replies: list[WireReply] = []
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            if (reply := self._take(line)) is not None:
                replies.append(reply)
        if len(self._buffer) >= MAX_LINE_BYTES:
            raise ProtocolError(f"a reply line is longer than {MAX_LINE_BYTES} octets")
        return replies

    def _take(self, line: bytes) -> WireReply | None:
        # what servers offer is the same words again and again; a last line is mostly another one each time
        code, text, goes_on = _known_line(line) if line[3:4] == b"-" else _read_line(line)
        return self._add(code, text, goes_on=goes_on)

    def _add(self, code: int, text: str, *, goes_on: bool) -> WireReply | None:
        """Codes that differ within a reply are tolerated and the last one counts: RFC 5321 §4.2.1 asks for equal ones, real servers err."""
        self._lines.append(text)
        if len(self._lines) > MAX_LINES:
            raise ProtocolError(f"a reply has more than {MAX_LINES} lines")
        if goes_on:
            return None
        reply = WireReply(code, tuple(self._lines))
        self._lines.clear()
        return reply


def _read_line(line: bytes) -> tuple[int, str, bool]:
    """
    Read a line: its code, its text, and whether the reply goes on.

    Raises:
        ProtocolError: Not SMTP, or longer than the bounds.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"a reply line is longer than {MAX_LINE_BYTES} octets")
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise ProtocolError("a reply line has a bare CR or LF")
    match = _LINE.fullmatch(line, 0, len(line) - 2)
    if match is None:
        raise ProtocolError(f"not an SMTP reply: {printable(_decode(line[:-2]))[:80]!r}")
    return int(match[1]), printable(_decode(match[3] or b"")), match[2] == b"-"


_known_line = lru_cache(maxsize=500)(_read_line)


def format_reply(code: int, enhanced: str | None, text: str) -> bytes:
    """
    Write one reply of ours as one line; what is not printable ASCII becomes `?`, and a long text is cut.

    RFC 5321 §4.5.3.1.5 allows 512 octets a line.
    """
    words = ascii_text(text)[:_MAX_OWN_TEXT]
    return (f"{code} {enhanced} {words}\r\n" if enhanced else f"{code} {words}\r\n").encode("ascii")


def format_lines(code: int, lines: list[str]) -> bytes:
    """Write a reply of several lines, such as the one to EHLO (RFC 5321 §4.1.1.1)."""
    head = "".join(f"{code}-{ascii_text(line)}\r\n" for line in lines[:-1])
    return f"{head}{code} {ascii_text(lines[-1])}\r\n".encode("ascii")


def ascii_text(text: str) -> str:
    """Replace everything that is not printable ASCII by `?`, so that no text can start a line or a reply of its own."""
    return text if text.isascii() and text.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in text)


def printable(text: str) -> str:
    """Replace control and other unprintable characters by `?`; letters of any script stay."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _split_enhanced(code: int, line: str) -> tuple[str | None, str]:
    """Only a status of the reply's own class counts (RFC 2034 §4): `250 2.1.5 Ok`, never `550 2.0.0`."""
    match = _ENHANCED.match(line)
    if match is None or match[1][0] != str(code)[0]:
        return None, line
    return match[1], line[match.end() :]


def _without(enhanced: str | None, line: str) -> str:
    match = _ENHANCED.match(line)
    return line[match.end() :] if match is not None and match[1] == enhanced else line
