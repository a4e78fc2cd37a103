"""
The sockets of the doors, and the stand-ins that answer there while the database is away.

Arrives: addresses. Leaves: sockets, or a sentence that says why an address cannot be had.
Standards: RFC 5321 §3.8 (421: not now), RFC 9110 §15.6.4 (503), RFC 9457 (problem details).
Not here: the doors themselves (http, smtpd).
Bugs: none known.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Any, Final

import msgspec

from gatepost.domain.errors import CATALOGUE

_AWAY_RETRY_S: Final = 5
_AWAY_PATIENCE_S: Final = 5.0


class CannotListen(Exception):  # noqa: N818
    """An address cannot be had; the message names option and address."""


def bind(option: str, host: str, port: int) -> socket.socket:
    """
    Take an address to listen on.

    Raises:
        CannotListen: With what to do.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _cannot_listen(option, host, port, error) from error
    # connections inherit it; asyncio sets it only on sockets that name their protocol, and without it a second write of an
    # answer waits for the peer's delayed acknowledgement, 40 ms
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _cannot_listen(option: str, host: str, port: int, error: OSError) -> CannotListen:
    """Put the failure to listen into words."""
    shown = written(host, port)
    match error.errno:
        case errno.EADDRINUSE:
            return CannotListen(
                f"{option}: {shown} is in use; stop what listens there, or choose another address with --set {option}=host:port"
            )
        case errno.EACCES:
            return CannotListen(f"{option}: {shown} needs more rights: ports below 1024 need root or CAP_NET_BIND_SERVICE")
        case _:
            return CannotListen(f"{option}: cannot listen on {shown}: {error.strerror or error}")


def written(host: str, port: int) -> str:
    """Write an address with its port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(sock: Any) -> str:
    """Write the address that a socket listens on."""
    host, port = sock.getsockname()[:2]
    return written(host, port)


class StandIns:
    """What answers at the doors while the database is away: not now, try again."""

    def __init__(self, hostname: str) -> None:
        """
        Args:
            hostname: Name in the SMTP greeting.
        """
        self._hostname = hostname
        self._servers: list[asyncio.Server] = []

    async def start_http(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Answer 503 to every request, 200 to `/livez`; the socket stays open afterwards."""
        self._servers.append(await asyncio.start_server(_answer_http, sock=sock.dup(), ssl=tls))

    async def start_smtp(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Greet with 421; the socket stays open afterwards."""
        self._servers.append(await asyncio.start_server(self._answer_smtp, sock=sock.dup(), ssl=tls))

    async def close(self) -> None:
        """Stop answering."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _answer_smtp(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = CATALOGUE["storage_unavailable"].smtp.partition(" ")[2]
        await _say(writer, f"421 {reply} {self._hostname} cannot store mail now, try again later\r\n".encode())


async def _answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(_AWAY_PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ", 2)[1] if head.count(b" ") > 1 else b""
        await _say(writer, _ALIVE if target == b"/livez" else _not_now(target.decode("latin-1")))
        return
    writer.close()


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_AWAY_PATIENCE_S):
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


_ALIVE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def _not_now(target: str) -> bytes:
    kind = CATALOGUE["storage_unavailable"]
    problem = {
        "type": f"https://gatepost.dev/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": "the database cannot be used yet",
        "instance": target.partition("?")[0],
    }
    body = msgspec.json.encode(problem)
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Retry-After: {_AWAY_RETRY_S}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
