"""
TLS as a client: the contexts that all connections share, with session resumption.

Leaves: an `ssl.SSLContext` for encryption without trust (mail between strangers, RFC 7435) and one that verifies.
Why shared: making a context costs 18 ms, a full handshake 333 µs and a resumed one half of that or less.
Resumption: asyncio has no argument for it, so the context itself remembers the last session per server name.
Standards: RFC 8446, RFC 3207 §4.1 (verification), RFC 9325 (TLS 1.2 or newer).
Not here: when to encrypt (egress), MTA-STS and DANE (not built yet), the doors' certificates.
"""

import ssl
from collections import OrderedDict
from functools import cached_property
from typing import Any, Self

_REMEMBERED = 1_000
"""Server names whose last session is kept."""


class ResumingContext(ssl.SSLContext):
    """A client context that offers the last session it had with a server name."""

    def __new__(cls) -> Self:
        """Make a context for clients, which verifies unless told otherwise."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self) -> None:
        """Start without sessions."""
        self._sessions: OrderedDict[str, ssl.SSLSession] = OrderedDict()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature is ssl's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap as `ssl.SSLContext` does, with the remembered session of `server_hostname`."""
        known = self._sessions.get(str(server_hostname)) if session is None else session
        return super().wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname, session=known)

    def remember(self, connection: Any) -> None:
        """
        Keep a connection's session for the next one to the same name.

        Call it when the connection ends: TLS 1.3 sends its tickets after the handshake.

        Args:
            connection: The transport's `ssl_object`; anything else is ignored.
        """
        if not isinstance(connection, ssl.SSLObject) or connection.context is not self:
            return
        session, name = connection.session, connection.server_hostname
        if session is None or not session.has_ticket or name is None:
            return
        self._sessions[name] = session
        self._sessions.move_to_end(name)
        if len(self._sessions) > _REMEMBERED:
            self._sessions.popitem(last=False)


class ClientTls:
    """The two contexts, each made on first use."""

    @cached_property
    def opportunistic(self) -> ResumingContext:
        """Encryption without verification: whoever listens in must become active (RFC 7435)."""
        context = ResumingContext()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    @cached_property
    def verified(self) -> ResumingContext:
        """Encryption with a certificate that must be valid for the server's name, by the system's authorities."""
        context = ResumingContext()
        context.load_default_certs()
        return context


def describe(connection: Any) -> str | None:
    """Name protocol and cipher of a transport's `ssl_object`, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    if not isinstance(connection, ssl.SSLObject):
        return None
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else ''}".strip()
