"""
Opening connections: the one place that connects to other hosts' ports.

Arrives: an address or a name, a port, and what is to speak there. Leaves: a connected protocol, TLS included on request.
Errors are the system's (`OSError`, `ssl.SSLError` is one, `TimeoutError` is one).
Not here: which address to use (egress.smtp.plan), how contexts are made (net.tls).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Dialer(Protocol):
    """The way to other hosts: the real one, or a test's that leads elsewhere."""

    async def connect(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        """
        Connect a protocol, with TLS from the first byte when a context is given.

        Args:
            host: An IP address; or a name, which the system's own lookup then resolves.
            server_hostname: Name for SNI and verification.

        Raises:
            OSError: No connection; `TimeoutError` after `timeout_s`, `ssl.SSLError` when the handshake fails.
        """
        ...

    async def start_tls(
        self, protocol: asyncio.Protocol, transport: asyncio.Transport, tls: ssl.SSLContext, *, server_hostname: str, timeout_s: float
    ) -> asyncio.Transport:
        """
        Encrypt a connection that is open; return its new transport.

        Raises:
            OSError: The handshake failed or took longer than `timeout_s`.
        """
        ...


class SocketDialer:
    """
    Real connections on the running event loop.

    Attributes:
        source_address: Local address to connect from; empty lets the system choose.
    """

    def __init__(self, source_address: str = "") -> None:
        """Set the local address."""
        self.source_address = source_address

    async def connect(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        """
        Connect a protocol; see `Dialer.connect`.

        Raises:
            OSError: No connection.
        """
        local = (self.source_address, 0) if self.source_address else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(factory, host, port, local_addr=local, ssl=tls, server_hostname=server_hostname if tls else None)

    async def start_tls(
        self, protocol: asyncio.Protocol, transport: asyncio.Transport, tls: ssl.SSLContext, *, server_hostname: str, timeout_s: float
    ) -> asyncio.Transport:
        """
        Encrypt an open connection; see `Dialer.start_tls`.

        Raises:
            OSError: The handshake failed.
        """
        loop = asyncio.get_running_loop()
        upgraded = await loop.start_tls(transport, protocol, tls, server_hostname=server_hostname, ssl_handshake_timeout=timeout_s)
        if upgraded is None:
            raise ConnectionResetError("the connection was closed during the TLS handshake")
        return upgraded


async def open_stream(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    Connect to a service beside us, such as a scanner.

    Args:
        address: The path of a socket, or `host:port`.

    Raises:
        OSError: No connection.
    """
    if address.startswith("/"):
        return await asyncio.open_unix_connection(address)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a stream at the end, at once and whatever happened; nobody waits for the other side."""
    try:
        yield
    finally:
        writer.transport.abort()
