"""
What all connections of the HTTP door share: who may connect, how much may be in memory, who is behind a proxy.

Arrives: connections as they come and go, and the head of each request. Leaves: yes, or a refusal before the body is read.
When every place is taken, the connection that has been idle longest makes room: one between two requests, or one that
has been sending the head of its request for longer than any honest client needs. So places cannot be held by being slow.
Standards: RFC 9112 §9.8 (an idle connection may be closed at any time).
Not here: one connection (connection), how much is too much (accept.admission).
Bugs: none known.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from gatepost.accept.admission import AdmissionControl
from gatepost.domain.errors import Refused
from gatepost.http.peers import Proxies
from gatepost.net.peer import ConnectionCaps, Peer, parse_peer
from gatepost.settings import Http

if TYPE_CHECKING:
    from gatepost.http.connection import Connection

_API: Final = "/v1/"
_SENDING: Final = "/v1/messages"
_FORM_BYTES: Final = 1024 * 1024
"""Outside the API, whose endpoints bound their bodies themselves, a body is a form."""
_IDLE_S: Final = 1.0


class Gate:
    """Decides about connections and requests of one process."""

    def __init__(self, settings: Http, admission: AdmissionControl) -> None:
        self.settings = settings
        self.admission = admission
        self.bodies = admission.bodies
        self.proxies = Proxies(settings.trusted_proxies)
        self._caps = ConnectionCaps(settings.max_connections, settings.max_connections_per_peer)
        self._peers: dict[Connection, Peer] = {}
        self._idle: dict[Connection, float] = {}

    def enter(self, connection: "Connection", host: str) -> Refused | None:
        """
        Let a connection in.

        Args:
            host: The address at its other end.
        """
        try:
            peer = parse_peer(host)
        except ValueError:  # gone already, or not over IP
            peer = parse_peer("127.0.0.1")
        if self._caps.is_full:
            self._make_room()
        if not self._caps.enter(peer, is_exempt=self.proxies.includes(host)):
            return self.admission.refusal("connections")
        self._peers[connection] = peer
        self.idles(connection)
        return None

    def leave(self, connection: "Connection") -> None:
        """Forget a connection; one that was not let in has nothing to forget."""
        peer = self._peers.pop(connection, None)
        self._idle.pop(connection, None)
        if peer is not None:
            self._caps.leave(peer)

    def idles(self, connection: "Connection") -> None:
        """Note that a connection waits for a request; the head of one that arrives does not end that."""
        if connection in self._peers:
            self._idle[connection] = asyncio.get_running_loop().time()

    def works(self, connection: "Connection") -> None:
        """Note that a connection has a request."""
        self._idle.pop(connection, None)

    def refusal_of(self, path: str, body_bytes: int | None) -> Refused | None:
        """
        Refuse a request by its head, or not.

        Args:
            body_bytes: As declared; 0 for none, None when it will be seen (chunked).
        """
        if body_bytes == 0:
            return None
        if not path.startswith(_API) and (body_bytes or 0) > _FORM_BYTES:
            return Refused("payload_too_large", f"a form has at most {_FORM_BYTES} bytes")
        if self.admission.is_shut and path.startswith(_SENDING):
            return self.admission.refusal(self.admission.cause)
        if not self.bodies.has_room(body_bytes or 0):
            return self.admission.refusal("bodies")
        return None

    def may_grow(self, path: str, before_bytes: int, now_bytes: int) -> Refused | None:
        """Note that a connection holds more of its requests' bodies than before; refuse when that is too much."""
        if not self.bodies.hold(before_bytes, now_bytes):
            return self.admission.refusal("bodies")
        if now_bytes > _FORM_BYTES and not path.startswith(_API):
            return Refused("payload_too_large", f"a form has at most {_FORM_BYTES} bytes")
        return None

    def _make_room(self) -> None:
        """Cut the connection that has been idle longest, if that is long enough."""
        longest = next(iter(self._idle), None)
        if longest is not None and asyncio.get_running_loop().time() - self._idle[longest] >= _IDLE_S:
            longest.cut()
            self.leave(longest)
