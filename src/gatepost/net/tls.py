"""
TLS as a client: the contexts that all connections share, with session resumption.

Leaves: an `ssl.SSLContext` for encryption without trust (mail between strangers, RFC 7435), one that verifies, and one whose chain is
looked at afterwards (DANE).
Why shared: making a context costs 18 ms, a full handshake 333 µs and a resumed one half of that or less.
Resumption: asyncio has no argument for it, so the context itself remembers the last session per server name.
Standards: RFC 8446, RFC 3207 §4.1 (verification), RFC 9325 (TLS 1.2 or newer).
Not here: when to encrypt and what to check (egress.smtp.tls_policy), the doors' certificates.
"""

import ssl
from collections import OrderedDict
from functools import cached_property
from typing import Any, Self

_DER = 2
"""`ssl`'s name for the encoding (`_ssl.ENCODING_DER`)."""
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
    """
    The contexts, each made on first use.

    Attributes:
        ca_file: PEM file of authorities that are trusted instead of the system's; empty trusts the system's.
    """

    def __init__(self, ca_file: str = "") -> None:
        self.ca_file = ca_file

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
        if self.ca_file:
            context.load_verify_locations(self.ca_file)
        else:
            context.load_default_certs()
        return context

    @cached_property
    def inspected(self) -> ssl.SSLContext:
        """Encryption whose chain the caller looks at: nothing is verified here, and no session goes on where one ended unseen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.options |= ssl.OP_NO_TICKET
        return context


def peer_chain(connection: Any) -> tuple[bytes, ...]:
    """Return the certificates that a server sent, its own first, as DER; from a transport's `ssl_object`."""
    if not isinstance(connection, ssl.SSLObject):
        return ()
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return tuple(connection.get_unverified_chain())
    chain = connection._sslobj.get_unverified_chain() or []  # type: ignore[attr-defined]  # noqa: SLF001 - the only way before
    return tuple(certificate.public_bytes(_DER) for certificate in chain)


def describe(connection: Any) -> str | None:
    """Name protocol and cipher of a transport's `ssl_object`, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    if not isinstance(connection, ssl.SSLObject):
        return None
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else ''}".strip()
