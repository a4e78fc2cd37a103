"""Clients: smtp-source from Debian, and an HTTP client that is as cheap as Python allows."""

import asyncio
import itertools
import json
import time
from pathlib import Path

from bench.processes import Process

PLACE = b"r0000000000@sink.example"
"""Stands for a recipient that is another one in every message: one person may get only so much in an hour."""

_numbers = itertools.count(1)


def with_recipients(parts: list[bytes], domains: int = 0) -> bytes:
    """
    Join what stands between the recipients of a request with recipients that nobody had before.

    Args:
        domains: Spread them over so many domains; 0 is sink.example.
    """
    if domains:
        numbers = (next(_numbers) for _ in parts[1:])
        made = [b"r%010d@d%06d.test" % (n, n % domains) for n in numbers]
        return b"".join(part + one for part, one in zip(parts, made, strict=False)) + parts[-1]
    return b"".join(part + b"r%010d@sink.example" % next(_numbers) for part in parts[:-1]) + parts[-1]


def smtp_source(port: int, count: int, size: int, sessions: int, log: Path) -> Process:
    return Process(
        ["/usr/sbin/smtp-source", "-d", "-N", "-s", str(sessions), "-m", str(count), "-l", str(size), "-f", "sender@bench.example", "-t", "rcpt@sink.example",
         f"127.0.0.1:{port}"], log
    )  # fmt: skip


def message(size: int, subject: str = "Bench") -> dict[str, object]:
    line = "The quick brown fox jumps over the lazy dog, and again. 0123456789\n"
    text = (line * (size // len(line) + 1))[:size]
    return {"from": "Bench <sender@bench.example>", "to": [PLACE.decode()], "subject": subject, "text": text}


def request(path: str, key: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One keep-alive connection that sends the same request again and again, but for its recipients."""

    def __init__(self, payload: bytes, remaining: list[int], done: asyncio.Future[None], domains: int = 0) -> None:
        self._parts, self._remaining, self._done, self._domains = payload.split(PLACE), remaining, done, domains
        self._buffer = b""
        self.latencies: list[float] = []

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._remaining[0] <= 0:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._remaining[0] -= 1
        self._started = time.perf_counter()
        self._transport.write(with_recipients(self._parts, self._domains))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self._fail(self._buffer)
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        if len(rest) >= length:
            self._buffer = b""
            self.latencies.append(time.perf_counter() - self._started)
            self._next()

    def _fail(self, answer: bytes) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(answer[:500].decode("latin-1")))

    def connection_lost(self, error) -> None:
        if not self._done.done():
            self._done.set_exception(error or RuntimeError("the server closed the connection"))


async def _post(port: int, payload: bytes, requests: int, connections: int, domains: int) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    remaining, clients, ends = [requests], [], []
    started = time.perf_counter()
    for _ in range(connections):
        done = loop.create_future()
        _, client = await loop.create_connection(lambda done=done: Client(payload, remaining, done, domains), "127.0.0.1", port)
        clients.append(client)
        ends.append(done)
    await asyncio.gather(*ends)
    return time.perf_counter() - started, sorted(latency for client in clients for latency in client.latencies)


def post(port: int, key: str, path: str, body: object, requests: int, connections: int, domains: int = 0) -> tuple[float, list[float]]:
    """Send the same body many times; return the seconds it took and the sorted latencies."""
    import uvloop

    return uvloop.run(_post(port, request(path, key, json.dumps(body).encode()), requests, connections, domains))


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]
