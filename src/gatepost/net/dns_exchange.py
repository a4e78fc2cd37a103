"""
Questions to one DNS server: datagrams out and in, or a connection where the answer does not fit into one.

Arrives: a question as bytes. Leaves: the bytes of what came back, as often as something comes back, until the asker is content.
Questions that are open at the same time share a socket, up to a bound; one that has nothing open is closed, so that the next
question leaves from another port, which who would forge an answer has to guess (RFC 5452).
Standards: RFC 1035 §4.2, RFC 5452, RFC 7766.
Not here: what the bytes say (wire.dns_message), repeating (dns_asking).
Bugs: none known.
"""

import asyncio
import os
from typing import Final, NamedTuple, cast

from gatepost.wire import dns_message
from gatepost.wire.dns_message import MalformedMessage, Response

_PER_SOCKET: Final = 100
"""Questions that leave from one port."""
_RANDOM_BYTES: Final = 512


class _Numbers:
    """Numbers that nobody can guess, drawn many at a time."""

    def __init__(self) -> None:
        self._bytes = b""

    def draw(self) -> int:
        if len(self._bytes) < 2:
            self._bytes = os.urandom(_RANDOM_BYTES)
        number, self._bytes = int.from_bytes(self._bytes[:2], "big"), self._bytes[2:]
        return number


class _Open(NamedTuple):
    """A question that is open."""

    future: "asyncio.Future[Response]"
    name: bytes
    kind: int


class _Port(asyncio.DatagramProtocol):
    """One socket, connected to the server: the kernel drops what others send."""

    def __init__(self) -> None:
        self.open: dict[int, _Open] = {}
        self.asked = 0
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, _addr: object) -> None:
        one = self.open.get(int.from_bytes(data[:2], "big"))
        if one is None or one.future.done():
            return
        try:
            found = dns_message.response(data, int.from_bytes(data[:2], "big"), one.name, one.kind)
        except MalformedMessage as error:
            one.future.set_exception(error)
            return
        if found is not None:
            one.future.set_result(found)

    def close(self) -> None:
        """Close the socket; the next question opens another one."""
        if self.transport is not None:
            self.transport.close()

    def error_received(self, exc: Exception) -> None:
        """Tell all that nobody listens there."""
        for one in self.open.values():
            if not one.future.done():
                one.future.set_exception(ConnectionError(str(exc) or type(exc).__name__))


class Exchange:
    """The way to one server."""

    def __init__(self, host: str, port: int) -> None:
        """
        Open nothing yet.

        Args:
            host: An IP address.
        """
        self._address = (host, port)
        self._numbers = _Numbers()
        self._port: asyncio.Future[_Port] | None = None

    def __str__(self) -> str:
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def ask(self, name: bytes, kind: int, timeout_s: float, *, has_edns: bool) -> Response:
        """
        Ask once, and once more over TCP where the answer does not fit into a datagram.

        Args:
            name: As `dns_message.encoded` writes it.

        Raises:
            TimeoutError: No answer.
            OSError: The server cannot be reached.
            MalformedMessage: The answer cannot be read.
        """
        found = await self._ask(name, kind, timeout_s, has_edns=has_edns)
        if not found.is_truncated:
            return found
        async with asyncio.timeout(timeout_s):
            return await self._ask_over_tcp(name, kind, has_edns=has_edns)

    async def _ask(self, name: bytes, kind: int, timeout_s: float, *, has_edns: bool) -> Response:
        port = await self._free_port()
        while (number := self._numbers.draw()) in port.open:
            pass
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response] = loop.create_future()
        port.open[number] = _Open(future, name, kind)
        timer = loop.call_later(timeout_s, _give_up, future)
        try:
            if port.transport is not None:
                port.transport.sendto(dns_message.question(number, name, kind, has_edns=has_edns))
            return await future
        finally:
            timer.cancel()
            del port.open[number]
            if not port.open:
                port.close()

    async def _free_port(self) -> _Port:
        """Return a socket that has had few questions, opened when there is none."""
        while True:
            if self._port is None:
                self._port = asyncio.ensure_future(self._open_port())
            opening = self._port
            try:
                port = opening.result() if opening.done() else await asyncio.shield(opening)
            except OSError:
                self._port = None if self._port is opening else self._port
                raise
            if port.transport is None or port.transport.is_closing():
                self._port = None if self._port is opening else self._port
                continue
            port.asked += 1
            if port.asked >= _PER_SOCKET and self._port is opening:
                self._port = None
            return port

    async def _open_port(self) -> _Port:
        _, port = await asyncio.get_running_loop().create_datagram_endpoint(_Port, remote_addr=self._address)
        return port

    async def _ask_over_tcp(self, name: bytes, kind: int, *, has_edns: bool) -> Response:
        number = self._numbers.draw()
        query = dns_message.question(number, name, kind, has_edns=has_edns)
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the connection was closed before the answer") from error
        finally:
            writer.close()
        found = dns_message.response(data, number, name, kind)
        if found is None or found.is_truncated:
            raise MalformedMessage("the answer over TCP belongs to another question, or is cut off")
        return found


def _give_up(future: "asyncio.Future[Response]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())
