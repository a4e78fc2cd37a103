"""
Opening connections: the one place that connects to other hosts' ports.

Arrives: an address or a name, a port, what is to speak there, and the source to come from: an address of this machine, or
a proxy. Leaves: a connected protocol, TLS included on request.
Errors are the system's (`OSError`, `ssl.SSLError` is one, `TimeoutError` is one, and `wire.socks5.ProxyFailed`).
Not here: which address to use (egress.smtp.plan), how contexts are made (net.tls).
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from gatepost.domain.route import DEFAULT_SOURCE, Source
from gatepost.wire.socks5 import Proxy, ProxyFailed, Socks5, parse_proxy


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
        source: Source = DEFAULT_SOURCE,
    ) -> None:
        """
        Connect a protocol, with TLS from the first byte when a context is given.

        Args:
            host: An IP address; or a name, which the system's own lookup then resolves.
            server_hostname: Name for SNI and verification.
            source: Where to come from.

        Raises:
            OSError: No connection; `TimeoutError` after `timeout_s`, `ssl.SSLError` when the handshake fails, `ProxyFailed` when
                the source's proxy is in trouble.
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
        source: Source = DEFAULT_SOURCE,
    ) -> None:
        """
        Connect a protocol; see `Dialer.connect`.

        Raises:
            OSError: No connection.
        """
        loop, name = asyncio.get_running_loop(), server_hostname if tls else None
        async with asyncio.timeout(timeout_s):
            if source.proxy:
                tunnel = await _through(parse_proxy(source.proxy), host, port)
                try:
                    await loop.create_connection(factory, sock=tunnel, ssl=tls, server_hostname=name)
                except BaseException:
                    tunnel.close()
                    raise
                return
            address = source.address or self.source_address
            local = (address, 0) if address else None
            await loop.create_connection(factory, host, port, local_addr=local, ssl=tls, server_hostname=name)

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


async def _through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """
    Connect to a host by way of a proxy.

    Raises:
        ProxyFailed: The proxy cannot be reached, or refuses us.
        OSError: The proxy could not reach the host.
    """
    handshake = Socks5(proxy, host, port)
    tunnel = await _connected(proxy)
    try:
        out = handshake.begin()
        while not handshake.is_done:
            out = handshake.receive(await _exchanged(tunnel, out, handshake.wanted))
    except BaseException:
        tunnel.close()
        raise
    return tunnel


async def _connected(proxy: Proxy) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        tunnel = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ProxyFailed(f"the proxy cannot be found: {_words(error)}") from error
    try:
        tunnel.setblocking(False)
        await loop.sock_connect(tunnel, address)
    except OSError as error:
        tunnel.close()
        raise ProxyFailed(f"the proxy cannot be reached: {_words(error)}") from error
    except BaseException:
        tunnel.close()
        raise
    return tunnel


async def _exchanged(tunnel: socket.socket, out: bytes, wanted: int) -> bytes:
    """Send some bytes and read exactly so many, none of what comes after."""
    loop = asyncio.get_running_loop()
    found = b""
    try:
        if out:
            await loop.sock_sendall(tunnel, out)
        while len(found) < wanted and (more := await loop.sock_recv(tunnel, wanted - len(found))):
            found += more
    except OSError as error:
        raise ProxyFailed(f"the connection to the proxy broke: {_words(error)}") from error
    if len(found) < wanted:
        raise ProxyFailed("the proxy closed the connection")
    return found


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


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
