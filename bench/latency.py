"""From the moment a client starts its request to the moment the content is at the next server, at a steady rate."""

import asyncio
import json
import re
import time
from pathlib import Path

from bench.gateway import Gateway
from bench.load import PLACE, message, percentile, request, with_recipients
from bench.processes import free_port


class _SinkProtocol(asyncio.Protocol):
    """A server that takes everything and notes when each numbered message was complete."""

    def __init__(self, arrived: dict[int, float]) -> None:
        self._arrived = arrived
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport) -> None:
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            mark = b"\r\n.\r\n" if self._in_data else b"\r\n"
            line, separator, rest = self._buffer.partition(mark)
            if not separator:
                return
            self._buffer = rest
            self._answer(line)

    def _answer(self, line: bytes) -> None:
        if self._in_data:
            found = re.search(rb"Subject: n(\d+)", line)
            if found:
                self._arrived[int(found[1])] = time.perf_counter()
            self._in_data = False
            self._transport.write(b"250 2.0.0 ok\r\n")
        elif line.upper().startswith(b"EHLO"):
            self._transport.write(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
        elif line.upper() == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go\r\n")
        elif line.upper() == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 2.0.0 ok\r\n")


async def _measure(gateway: Gateway, sink_port: int, size: int, rate: int, seconds: int) -> tuple[list[float], list[float]]:
    loop = asyncio.get_running_loop()
    arrived: dict[int, float] = {}
    sent: dict[int, float] = {}
    accepted: list[float] = []
    server = await loop.create_server(lambda: _SinkProtocol(arrived), "127.0.0.1", sink_port)
    pool: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(64):
        pool.put_nowait(await asyncio.open_connection("127.0.0.1", gateway.http_port))

    async def send(n: int) -> None:
        reader, writer = await pool.get()
        sent[n] = time.perf_counter()
        payload = request("/v1/messages", gateway.key, json.dumps(message(size, f"n{n}")).encode())
        writer.write(with_recipients(payload.split(PLACE)))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 202 " in head, head
        await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
        accepted.append(time.perf_counter() - sent[n])
        pool.put_nowait((reader, writer))

    total, warm = rate * seconds, rate
    tasks, start = [], time.perf_counter()
    for n in range(total + warm):
        await asyncio.sleep(max(0, start + n / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(send(n)))
    await asyncio.gather(*tasks)
    for _ in range(200):
        if len(arrived) >= total + warm:
            break
        await asyncio.sleep(0.05)
    server.close()
    return sorted(arrived[n] - sent[n] for n in range(warm, total + warm)), sorted(accepted[warm:])


def run(folder: Path, size: int, rate: int, seconds: int) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    import uvloop

    sink_port = free_port()
    gateway = Gateway(folder, sink_port)
    try:
        delivered, accepted = uvloop.run(_measure(gateway, sink_port, size, rate, seconds))
    finally:
        gateway.stop()
    return {
        "p50_ms": percentile(delivered, 0.5) * 1000, "p99_ms": percentile(delivered, 0.99) * 1000, "max_ms": delivered[-1] * 1000,
        "accept_p50_ms": percentile(accepted, 0.5) * 1000, "accept_p99_ms": percentile(accepted, 0.99) * 1000,
    }  # fmt: skip
