"""
What comes out of TLS after STARTTLS, kept apart from what came before it.

Standards: RFC 3207 §4.2.
Not here: the handshake (the event loop's), the dialogue (wire.smtp_server).
"""

import asyncio
from typing import Protocol


class Receiver(Protocol):
    """The connection, as the event loop sees it."""

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        ...

    def eof_received(self) -> bool:
        """Take the end of the bytes."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        ...

    def pause_writing(self) -> None:
        """Wait: the output is full."""
        ...

    def resume_writing(self) -> None:
        """Go on."""
        ...


class InsideTls(asyncio.Protocol):
    """
    Takes what comes out of TLS.

    A protocol of its own, so that no byte from before the handshake can get in (RFC 3207 §4.2), and none from inside is
    missed: the client's first command may arrive with its last handshake message, before `start_tls` returns.
    """

    def __init__(self, connection: Receiver) -> None:
        self._connection = connection
        self._early: list[bytes] | None = []

    def open(self) -> bytes:
        """Give what arrived so far; what arrives from now on goes straight to the connection."""
        early = b"".join(self._early or ())
        self._early = None
        return early

    def data_received(self, data: bytes) -> None:
        """Pass on, or keep until `open`."""
        if self._early is None:
            self._connection.data_received(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        """Pass on."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._connection.resume_writing()
