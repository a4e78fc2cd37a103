"""
The SMTP submission door: listening sockets, and what all their connections share.

Arrives: settings, a certificate, the acceptor, and the authenticator.
Leaves: submissions, through `SmtpConnection`; events by `on_event`:
`smtp_connection_refused` (peer, connections since the last one told), `smtp_authenticated` (peer, key_id),
`smtp_authentication_failed` (peer, is_locked, code, key_id),
`smtp_refused` (peer, key_id, request_id, code, smtp), `smtp_failed` (peer, request_id, error), `smtp_closed` (peer, reason),
`smtp_tls_failed` (peer, error).
Standards: RFC 6409 (submission), RFC 8314 (implicit TLS).
Not here: the dialogue (wire.smtp_server), the rules (accept).
Bugs: none known.
"""

import asyncio
import math
import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

from gatepost.accept.admission import AdmissionControl
from gatepost.clock import Clock
from gatepost.domain.address import Address
from gatepost.net.peer import ConnectionCaps, Peer, is_in, networks
from gatepost.net.tls_listener import TlsListener
from gatepost.observe import metrics
from gatepost.settings import Settings
from gatepost.smtpd.connection import HANDSHAKE_S, SmtpConnection
from gatepost.smtpd.ports import Acceptor, Authenticator, OnEvent
from gatepost.smtpd.throttle import AuthThrottle
from gatepost.wire.smtp_server_events import ServerOptions

_SWEEP_S: Final = 1.0
_STRANGER_S: Final = 2.0
_CUT_S: Final = 1.0
_BACKLOG: Final = 1_024

_Listening = TypeVar("_Listening", asyncio.Server, TlsListener)


class SmtpDoor:
    """
    Take mail over SMTP on any number of sockets.

    Args:
        ssl_context: Offered with STARTTLS and used for implicit TLS; None offers neither.
        auth_delay_s: Wait before the answer to a connection's first failed authentication; doubles with each.
        admission: Shared with the process's other doors; None shares nothing.
        why_not_to: Says why there is no such recipient here; None takes mail to everybody, from those who may send it.
        offers_auth: There is somebody to authenticate.
    """

    def __init__(
        self,
        settings: Settings,
        ssl_context: ssl.SSLContext | None,
        acceptor: Acceptor,
        authenticator: Authenticator,
        *,
        on_event: OnEvent,
        clock: Clock,
        auth_delay_s: float = 0.5,
        admission: AdmissionControl | None = None,
        why_not_to: Callable[[Address], str | None] | None = None,
        offers_auth: bool = True,
    ) -> None:
        self.settings = settings.smtp
        self.ssl_context = ssl_context
        self.acceptor = acceptor
        self.authenticator = authenticator
        self.on_event = on_event
        self.clock = clock
        self.auth_delay_s = auth_delay_s
        self.auth_throttle = AuthThrottle()
        self.options = ServerOptions(
            hostname=settings.smtp.hostname or socket.getfqdn(),
            max_message_bytes=settings.limits.message_bytes,
            max_recipients=settings.limits.recipients,
            offers_auth=offers_auth,
        )
        self.why_not_to = why_not_to or (lambda _: None)
        self._counts_connections = offers_auth
        self.is_draining = False
        self._admission = admission or AdmissionControl(settings.admission, clock)
        self.bodies = self._admission.bodies
        self._proxies = networks(settings.smtp.trusted_proxies)
        self._caps = ConnectionCaps(settings.smtp.max_connections, settings.smtp.max_connections_per_peer)
        self._connections: dict[SmtpConnection, None] = {}
        self._refused = 0
        self._refused_told_s = -math.inf
        self._servers: list[asyncio.Server | TlsListener] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def offers_tls(self) -> bool:
        """Tell whether there is a certificate to show; one may be on its way (net.server_tls)."""
        return self.ssl_context is not None and getattr(self.ssl_context, "is_ready", True)

    async def start(self, host: str, port: int, *, implicit_tls: bool = False) -> asyncio.Server | TlsListener:
        """
        Listen on one more address.

        Args:
            implicit_tls: TLS from the first byte (RFC 8314 §3.3).

        Raises:
            OSError: The address cannot be had.
            ValueError: Implicit TLS without a certificate.
        """
        if implicit_tls:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            return await self.start_on(socket.create_server((host, port), family=family, backlog=_BACKLOG), implicit_tls=True)
        return self._listen(await asyncio.get_running_loop().create_server(lambda: SmtpConnection(self), host, port, backlog=_BACKLOG))

    async def start_on(self, sock: socket.socket, *, implicit_tls: bool = False) -> asyncio.Server | TlsListener:
        """
        Listen on a socket that is already bound; it is closed with the door.

        Args:
            implicit_tls: As for `start`.

        Raises:
            ValueError: Implicit TLS without a certificate.
        """
        if not implicit_tls:
            return self._listen(await asyncio.get_running_loop().create_server(lambda: SmtpConnection(self), sock=sock, backlog=_BACKLOG))
        if self.ssl_context is None:
            sock.close()
            raise ValueError("implicit TLS needs a certificate: set tls.cert and tls.key")
        caps = ConnectionCaps(self.settings.max_connections, self.settings.max_connections_per_peer)
        return self._listen(
            TlsListener(sock, lambda: SmtpConnection(self), self.ssl_context, caps, HANDSHAKE_S, on_failed=self._tell_failed)
        )

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

    def enter(self, connection: SmtpConnection, peer: Peer) -> tuple[str, str] | None:
        """Let a connection in; or return enhanced code and text of the 421 that it gets (RFC 5321 §3.8)."""
        if self.is_draining:
            return "4.3.2", "Service is shutting down"
        if self._admission.is_shut:
            return "4.3.2", self.refusal_text(self._admission.cause)
        if self._caps.is_full:
            self._make_room()
        is_full = self._caps.is_full
        if not self._caps.enter(peer):
            self._tell_refused(peer)
            text = f"Too many connections; try again in {self._retry_after_s('connections')} seconds"
            return "4.3.2" if is_full else "4.7.0", text
        self._connections[connection] = None
        self._tell_count()
        return None

    def leave(self, connection: SmtpConnection, peer: Peer) -> None:
        """Forget a connection that `enter` let in; may be called twice."""
        if connection in self._connections:
            del self._connections[connection]
            self._tell_count()
            self._caps.leave(peer)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _tell_count(self) -> None:
        gauge = metrics.connections if self._counts_connections else metrics.inbound_connections
        gauge.set(len(self._connections))

    def why_not_now(self, size_bytes: int) -> str | None:
        """Say why a message of this size cannot be begun now; None when it can."""
        if self._admission.is_shut:
            return self.refusal_text(self._admission.cause)
        return None if self.bodies.has_room(size_bytes) else self.refusal_text("bodies")

    def refusal_text(self, cause: str) -> str:
        """Count a refusal and put it in words."""
        return f"Too busy; try again in {self._retry_after_s(cause)} seconds"

    def rest(self, wake: Callable[[], None]) -> None:
        """Call back when a connection whose message was shed may be listened to again."""
        self._admission.rest(wake)

    def is_proxy(self, peer: Peer) -> bool:
        """Tell whether connections from there begin with a PROXY protocol header."""
        return bool(self._proxies) and is_in(peer, self._proxies)

    def _retry_after_s(self, cause: str) -> int:
        return self._admission.refusal(cause).retry_after_s or 1

    def _tell_refused(self, peer: Peer) -> None:
        """Tell of a refused connection, but not of each in a flood."""
        self._refused += 1
        now_s = self.clock.monotonic()
        if now_s >= self._refused_told_s + 1:
            self.on_event("smtp_connection_refused", peer=peer.name, connections=self._refused)
            self._refused, self._refused_told_s = 0, now_s

    def _make_room(self) -> None:
        """Cut the stranger who has been here longest, if that is long enough: places cannot be held by being slow."""
        longest = next((one for one in self._connections if one.is_stranger), None)
        if longest is not None and self.clock.monotonic() - longest.entered_s >= _STRANGER_S:
            longest.cut()
            self.leave(longest, longest.peer)

    def sweep(self) -> None:
        """End the connections whose time is up. One timer for all costs less than one per command."""
        now_s = self.clock.monotonic()
        for connection in list(self._connections):
            if now_s >= connection.deadline_s:
                connection.time_out()

    def _tell_failed(self, peer: str, error: str) -> None:
        self.on_event("smtp_tls_failed", peer=peer, error=error)

    def _listen(self, server: _Listening) -> _Listening:
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
