"""
The SMTP submission door: listening sockets, and what all their connections share.

Arrives: settings, a certificate, and the acceptor and the directory of keys.
Leaves: submissions, through `SmtpConnection`; events by `on_event`:
`smtp_connection_refused` (peer), `smtp_authenticated` (peer, key_id), `smtp_authentication_failed` (peer, is_locked),
`smtp_refused` (peer, key_id, request_id, code, smtp), `smtp_failed` (peer, request_id, error), `smtp_closed` (peer, reason),
`smtp_tls_failed` (peer, error).
Standards: RFC 6409 (submission), RFC 8314 (implicit TLS).
Not here: the dialogue (wire.smtp_server), the rules (accept).
Bugs: a client of implicit TLS is counted as a connection once its handshake is done.
"""

import asyncio
import socket
import ssl
from typing import Any, Final

from gatepost.clock import Clock
from gatepost.observe import metrics
from gatepost.settings import Settings
from gatepost.smtpd.connection import HANDSHAKE_S, SmtpConnection
from gatepost.smtpd.ports import Acceptor, Directory, OnEvent
from gatepost.smtpd.throttle import AuthThrottle, ConnectionCaps, Peer
from gatepost.wire.smtp_server_events import ServerOptions

_SWEEP_S: Final = 1.0
_CUT_S: Final = 1.0
_BACKLOG: Final = 1_024


class SmtpDoor:
    """
    Take mail over SMTP on any number of sockets.

    Args:
        ssl_context: Offered with STARTTLS and used for implicit TLS; None offers neither.
        auth_delay_s: Wait before the answer to a connection's first failed authentication; doubles with each.
    """

    def __init__(
        self,
        settings: Settings,
        ssl_context: ssl.SSLContext | None,
        acceptor: Acceptor,
        directory: Directory,
        *,
        on_event: OnEvent,
        clock: Clock,
        auth_delay_s: float = 0.5,
    ) -> None:
        self.settings = settings.smtp
        self.ssl_context = ssl_context
        self.acceptor = acceptor
        self.directory = directory
        self.on_event = on_event
        self.clock = clock
        self.auth_delay_s = auth_delay_s
        self.auth_throttle = AuthThrottle()
        self.options = ServerOptions(
            hostname=settings.smtp.hostname or socket.getfqdn(),
            max_message_bytes=settings.limits.message_bytes,
            max_recipients=settings.limits.recipients,
        )
        self.is_draining = False
        self._caps = ConnectionCaps(settings.smtp.max_connections, settings.smtp.max_connections_per_peer)
        self._connections: set[SmtpConnection] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    async def start(self, host: str, port: int, *, implicit_tls: bool = False) -> asyncio.Server:
        """
        Listen on one more address.

        Args:
            implicit_tls: TLS from the first byte (RFC 8314 §3.3).

        Raises:
            OSError: The address cannot be had.
            ValueError: Implicit TLS without a certificate.
        """
        options = self._listening(implicit_tls=implicit_tls)
        loop = asyncio.get_running_loop()
        return self._listen(await loop.create_server(lambda: SmtpConnection(self), host, port, **options))

    async def start_on(self, sock: socket.socket, *, implicit_tls: bool = False) -> asyncio.Server:
        """
        Listen on a socket that is already bound; it is closed with the door.

        Args:
            implicit_tls: As for `start`.

        Raises:
            ValueError: Implicit TLS without a certificate.
        """
        options = self._listening(implicit_tls=implicit_tls)
        loop = asyncio.get_running_loop()
        return self._listen(await loop.create_server(lambda: SmtpConnection(self), sock=sock, **options))

    async def close(self, drain_s: float) -> None:
        """
        Stop: idle clients are told 421 at once, begun messages may finish.

        Args:
            drain_s: Time for that; what is still open then is cut.
        """
        self.is_draining = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        await self._wait_until_empty(drain_s)
        for connection in list(self._connections):
            connection.cut()
        await self._wait_until_empty(_CUT_S)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def enter(self, connection: SmtpConnection, peer: Peer) -> bool:
        """Let a connection in; False when there are too many, or the door is closing."""
        if self.is_draining or not self._caps.enter(peer):
            return False
        self._connections.add(connection)
        metrics.connections.set(len(self._connections))
        return True

    def leave(self, connection: SmtpConnection, peer: Peer) -> None:
        """Forget a connection that `enter` let in; may be called twice."""
        if connection in self._connections:
            self._connections.remove(connection)
            metrics.connections.set(len(self._connections))
            self._caps.leave(peer)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def sweep(self) -> None:
        """End the connections whose time is up. One timer for all costs less than one per command."""
        now_s = self.clock.monotonic()
        for connection in list(self._connections):
            if now_s >= connection.deadline_s:
                connection.time_out()

    def _listening(self, *, implicit_tls: bool) -> dict[str, Any]:
        if not implicit_tls:
            return {"backlog": _BACKLOG}
        if self.ssl_context is None:
            raise ValueError("implicit TLS needs a certificate: set tls.cert and tls.key")
        return {"backlog": _BACKLOG, "ssl": self.ssl_context, "ssl_handshake_timeout": HANDSHAKE_S}

    def _listen(self, server: asyncio.Server) -> asyncio.Server:
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep_again)
        return server

    def _sweep_again(self) -> None:
        self.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep_again)

    async def _wait_until_empty(self, drain_s: float) -> None:
        if self._connections:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=drain_s)
