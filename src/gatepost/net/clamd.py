"""
Asking clamd whether a message carries malware.

Arrives: bytes. Leaves: the name of the signature that met, or none.
Standards: clamd's protocol, `zINSTREAM`: chunks, each with its length in four octets, a length of zero at the end.
Not here: what a finding means (screening), how often a scanner may fail (screening.guard).
"""

import asyncio
import contextlib
import struct

from gatepost.net.dial import closing, open_stream
from gatepost.net.rspamd import ScannerFailed

_CHUNK = 262_144
_MAX_ANSWER = 4_096


class Clamd:
    """One clamd."""

    def __init__(self, address: str) -> None:
        """
        Set the address; nothing is connected yet.

        Args:
            address: The path of its socket, or `host:port`.

        Raises:
            ValueError: It is neither.
        """
        path = address.removeprefix("unix:")
        if not path.startswith("/") and not path.rpartition(":")[2].isdigit():
            raise ValueError(f"{address!r} is neither the path of a socket nor host:port")
        self._address = path

    async def scan(self, content: bytes) -> str | None:
        """
        Scan one message. How long that may take is the caller's to say.

        Returns:
            The name of the signature that met; None for a clean message.

        Raises:
            ScannerFailed: No connection, or no verdict.
        """
        try:
            reader, writer = await open_stream(self._address)
            async with closing(writer):
                with contextlib.suppress(ConnectionError):  # it answers early where the message is too long for it
                    await _send(writer, content)
                answer = await reader.read(_MAX_ANSWER)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ScannerFailed(str(error) or type(error).__name__) from error
        return _signature(answer.split(b"\0", 1)[0].decode("utf-8", "replace").strip())


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(b"zINSTREAM\0")
    for at in range(0, len(content), _CHUNK):
        chunk = content[at : at + _CHUNK]
        writer.write(struct.pack(">I", len(chunk)))
        writer.write(chunk)
        await writer.drain()
    writer.write(b"\0\0\0\0")
    await writer.drain()


def _signature(answer: str) -> str | None:
    if answer.endswith(" FOUND"):
        return answer.removeprefix("stream: ").removesuffix(" FOUND")
    if answer == "stream: OK":
        return None
    raise ScannerFailed(answer[:200] or "it closed the connection without an answer")
