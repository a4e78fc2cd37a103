"""
Asking rspamd what it thinks of a message.

Arrives: a message with its envelope. Leaves: rspamd's action with its score and symbols.
Standards: rspamd's HTTP protocol (`POST /checkv2`), RFC 9112 (HTTP/1.1), one connection a message as rspamd itself closes it.
Not here: what an action means for the message (screening), how often a scanner may fail (screening.guard).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from gatepost.net.dial import closing, open_stream

_MAX_ANSWER = 4_000_000
_CHUNK = 65_536


class ScannerFailed(Exception):  # noqa: N818 - what happened, not an error of ours
    """A scanner gave no verdict; the text says why, for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """
    What rspamd is told beside the content.

    Attributes:
        peer: Address that the message came from; left out where it is no IP address.
        user: Who sends, as rspamd's user settings know it.
    """

    message_id: str
    sender: str
    recipients: Sequence[str]
    peer: str
    user: str


class Verdict(msgspec.Struct, frozen=True):
    """What rspamd answers."""

    action: str
    score: float = 0.0
    symbols: dict[str, Any] = {}

    @property
    def reasons(self) -> list[str]:
        """The names of the rules that met, in order."""
        return sorted(self.symbols)


class Rspamd:
    """One rspamd."""

    def __init__(self, url: str) -> None:
        """
        Set the address; nothing is connected yet.

        Raises:
            ValueError: It is no `http://host:port`.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not of the form http://host:port")
        self._address = f"[{parts.hostname}]:{parts.port or 11333}" if ":" in parts.hostname else f"{parts.hostname}:{parts.port or 11333}"
        self._path = parts.path.rstrip("/") + "/checkv2"

    async def check(self, content: bytes, envelope: Envelope) -> Verdict:
        """
        Ask about one message. How long that may take is the caller's to say.

        Raises:
            ScannerFailed: No connection, or an answer that is none.
        """
        try:
            reader, writer = await open_stream(self._address)
            async with closing(writer):
                writer.write(self._head(len(content), envelope))
                writer.write(content)
                await writer.drain()
                return await _read(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ScannerFailed(str(error) or type(error).__name__) from error

    def _head(self, size: int, envelope: Envelope) -> bytes:
        fields = [("Host", self._address), ("Content-Length", str(size)), ("Connection", "close"), ("Queue-Id", envelope.message_id)]
        fields += [("From", envelope.sender), ("User", envelope.user), *(("Rcpt", one) for one in envelope.recipients)]
        if _is_ip(envelope.peer):
            fields.append(("IP", envelope.peer))
        lines = [f"{name}: {_one_line(value)}\r\n" for name, value in fields if value]
        return f"POST {self._path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


@dataclass(slots=True)
class _Answer:
    """What httptools' parser calls back."""

    body: bytearray
    is_complete: bool = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


async def _read(reader: asyncio.StreamReader) -> Verdict:
    answer = _Answer(bytearray())
    parser = httptools.HttpResponseParser(answer)
    try:
        while not answer.is_complete and (data := await reader.read(_CHUNK)):
            parser.feed_data(data)
            if len(answer.body) > _MAX_ANSWER:
                raise ScannerFailed("the answer is too long")
        status = parser.get_status_code()
        if status != 200:
            raise ScannerFailed(f"HTTP status {status}")
        return msgspec.json.decode(bytes(answer.body), type=Verdict)
    except (httptools.HttpParserError, msgspec.MsgspecError) as error:
        raise ScannerFailed(f"the answer cannot be read: {error}") from error


def _one_line(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
