"""
A listener that speaks TLS from the first byte, and counts and bounds handshakes under way as connections are.

Left to `loop.create_server`, a client is nobody's until its handshake is done, and sockets of clients that never finish one
would be limited by nothing but the number of open files.
Arrives: a listening socket. Leaves: the door's protocols, each with a transport whose handshake is done.
Standards: RFC 8446 §2.
Not here: certificates (server_tls), what a door allows to connections (http.gate, smtpd.door).
Bugs: none known.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from gatepost.net.peer import ConnectionCaps, Peer, parse_peer

_AT_ONCE: Final = 100
"""Clients taken before others of this process get their turn."""
_NO_FILES_S: Final = 1.0
"""Wait after the system had no descriptor left."""


class TlsListener:
    """
    One listening socket; close it as an `asyncio.Server`.

    Args:
        make: Makes the protocol of a connection.
        caps: Bounds the handshakes under way, in all and by peer.
        is_exempt: Whether the cap by peer does not hold for an address: it stands for many.
        on_failed: Told of every handshake that came to nothing, with the peer's name and the error's.
    """

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        caps: ConnectionCaps,
        handshake_s: float,
        *,
        is_exempt: Callable[[str], bool] = lambda _: False,
        on_failed: Callable[[str, str], None] = lambda _peer, _error: None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._make = make
        self._context = context
        self._caps = caps
        self._handshake_s = handshake_s
        self._is_exempt = is_exempt
        self._on_failed = on_failed
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._listen()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening socket, while it is open."""
        return () if self._is_closed else (self._sock,)

    def close(self) -> None:
        """Take no more clients; handshakes under way end in what they become, the protocols look after their own."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def wait_closed(self) -> None:
        """Wait for the handshakes under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor, no memory: clients wait in the backlog meanwhile
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(_NO_FILES_S, self._listen)
                return
            self._welcome(client, str(address[0]))

    def _welcome(self, client: socket.socket, host: str) -> None:
        peer = parse_peer(host)
        if not self._caps.enter(peer, is_exempt=self._is_exempt(peer.name)):
            client.close()
            self._on_failed(peer.name, "too_many")
            return
        client.setblocking(False)
        task = self._loop.create_task(self._shake_hands(client, peer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _shake_hands(self, client: socket.socket, peer: Peer) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, client, ssl=self._context, ssl_handshake_timeout=self._handshake_s, ssl_shutdown_timeout=self._handshake_s
            )
        except (OSError, ssl.SSLError) as error:  # timeouts and lost connections are OSErrors
            self._on_failed(peer.name, type(error).__name__)
        finally:
            self._caps.leave(peer)
