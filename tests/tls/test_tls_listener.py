"""Handshakes under way: counted, bounded, and forgotten when they end."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import uvloop

from gatepost.net.peer import ConnectionCaps
from gatepost.net.tls_listener import TlsListener
from tests.doors.test_smtp_door import certificate, trusting

LOOPS = pytest.mark.parametrize("run", [lambda main: asyncio.run(main()), lambda main: uvloop.run(main())], ids=["asyncio", "uvloop"])


class Greeting(asyncio.Protocol):
    """Greets, and sends back what it gets."""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"hello\r\n")

    def data_received(self, data):
        self.transport.write(data)


async def listening(folder: Path, *, total: int, handshake_s: float = 30.0):
    listener_socket = socket.create_server(("127.0.0.1", 0))
    failed: list[tuple[str, str]] = []
    listener = TlsListener(
        listener_socket,
        Greeting,
        certificate(folder),
        ConnectionCaps(total, total),
        handshake_s,
        on_failed=lambda *words: failed.append(words),
    )
    port = listener_socket.getsockname()[1]
    return listener, port, failed


@LOOPS
def test_clients_that_never_finish_a_handshake_have_only_so_many_places(tmp_path, run):
    """Beyond the bound a client is closed at once; when the silent ones are cut there is room again."""

    async def main():
        listener, port, failed = await listening(tmp_path, total=3, handshake_s=0.5)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        assert failed == [("127.0.0.1", "too_many")]
        for quiet, _ in silent:
            assert await quiet.read() == b""
        while len(failed) < 4:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
        assert await reader.readline() == b"hello\r\n"
        for _, quiet in silent:
            quiet.close()
        writer.close()
        listener.close()
        await listener.wait_closed()

    run(main)


@LOOPS
def test_finished_handshakes_take_no_place(tmp_path, run):
    """The bound is on handshakes, not on connections: the door counts those itself."""

    async def main():
        listener, port, failed = await listening(tmp_path, total=1)
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
            writer.write(b"one\r\ntwo\r\n")
            assert [await reader.readline() for _ in range(3)] == [b"hello\r\n", b"one\r\n", b"two\r\n"]
        assert failed == []
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(main)


def test_a_handshake_that_fails_is_told(tmp_path):
    """A client that speaks no TLS, and one that refuses the certificate, both end as failures with their cause."""

    async def main():
        listener, port, failed = await listening(tmp_path, total=5)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"hello" not in await reader.read()
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context(), server_hostname="x.example")
        while len(failed) < 2:
            await asyncio.sleep(0.01)
        assert {peer for peer, _ in failed} == {"127.0.0.1"}
        listener.close()

    asyncio.run(main())
