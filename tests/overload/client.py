"""
`python -m tests.overload.client`: one process that sends at a given rate, whatever the answers.

Arrives: a `Task` as JSON. Leaves: two files: the ids of accepted messages, and beside it a `Tally` as JSON.
The rate is open: a message is due when it is due, and one that finds no free connection is counted, not sent later. Every
connection has one message on its way at a time. Nobody heeds Retry-After: this is the worst crowd there is.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import resource
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import msgspec
import uvloop

TICK_S = 0.004
_RECIPIENT_BYTES = len(b"r0000000-00000000@sink.example")
TEXT = ("The quick brown fox jumps over the lazy dog, and again. 0123456789\n" * 16)[:1000]
SENDER = "app@acme.example"


class Task(msgspec.Struct, kw_only=True):
    """
    What one process does.

    Attributes:
        shares: How often each stream is drawn.
        nice: Politeness of the process: clients of the real world have processors of their own.
    """

    http_port: int
    smtp_port: int
    key: str
    seconds: float
    per_s: float
    shares: dict[str, float]
    connections: int
    smtp_share: float
    ids: str
    nice: int = 0


class Tally(msgspec.Struct, kw_only=True):
    """
    What one process saw, by stream.

    Attributes:
        latencies: Of accepted messages.
        ended_at: When it stopped sending; the last answers come after that.
    """

    ended_at: float = 0.0
    due: int = 0
    unsent: int = 0
    cut: int = 0
    answers: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    latencies: dict[str, list[float]] = msgspec.field(default_factory=dict)
    retry_after: list[int] = msgspec.field(default_factory=list)


class Crowd:
    """All connections of a process."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.tally = Tally()
        self.answers: dict[str, Counter[str]] = {stream: Counter() for stream in task.shares}
        self.latencies: dict[str, list[float]] = {stream: [] for stream in task.shares}
        self.retry_after: set[int] = set()
        self.idle: dict[bool, deque[Any]] = {False: deque(), True: deque()}
        self.ids: list[str] = []
        self.is_over = False

    def answered(self, connection: Any, stream: str, answer: str, message_id: str | None, started: float) -> None:
        """Take an answer."""
        self.answers[stream][answer] += 1
        if message_id is not None:
            self.latencies[stream].append(time.perf_counter() - started)
            self.ids.append(message_id)
        self.idle[connection.is_smtp].append(connection)

    def lost(self, connection: Any, was_busy: bool) -> None:
        """Replace a connection after a while."""
        self.tally.cut += was_busy
        with contextlib.suppress(ValueError):
            self.idle[connection.is_smtp].remove(connection)
        if not self.is_over:
            asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(self.open(connection.is_smtp)))

    async def open(self, is_smtp: bool) -> None:
        """Open one connection; try again when that fails."""
        port, kind = (self.task.smtp_port, Smtp) if is_smtp else (self.task.http_port, Http)
        while not self.is_over:
            try:
                await asyncio.get_running_loop().create_connection(lambda: kind(self), "127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.2)
            else:
                return

    async def run(self) -> Tally:
        """Send until the time is over, then wait for the last answers."""
        smtp = round(self.task.connections * self.task.smtp_share)
        for n in range(self.task.connections):
            await self.open(n < smtp)
        while len(self.idle[True]) < smtp:
            await asyncio.sleep(0.01)
        await self._send()
        self.is_over = True
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and sum(map(len, self.idle.values())) < self.task.connections:
            await asyncio.sleep(0.05)
        tally = self.tally
        tally.answers = {stream: dict(counts) for stream, counts in self.answers.items()}
        tally.latencies = self.latencies
        tally.retry_after = sorted(self.retry_after)
        return tally

    async def _send(self) -> None:
        streams, weights = list(self.task.shares), list(self.task.shares.values())
        chance = random.Random(os.getpid())
        started, due = time.monotonic(), 0
        while (passed := time.monotonic() - started) < self.task.seconds:
            for _ in range(int(passed * self.task.per_s) - due):
                due += 1
                waiting = self.idle[chance.random() < self.task.smtp_share]
                if waiting:
                    waiting.popleft().send(chance.choices(streams, weights)[0])
                else:
                    self.tally.unsent += 1
            await asyncio.sleep(TICK_S)
        self.tally.due = due
        self.tally.ended_at = time.time()


class Http(asyncio.Protocol):
    """One keep-alive connection."""

    is_smtp = False

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._buffer = b""
        self._stream = ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._crowd.idle[False].append(self)

    def send(self, stream: str) -> None:
        self._stream, self._started = stream, time.perf_counter()
        start, end = http_request(self._crowd.task.key, stream)
        self._transport.write(start + _next_recipient() + end)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.lower()
        if len(rest) < int(lines.partition(b"content-length:")[2].partition(b"\r")[0]):
            return
        self._buffer = b""
        stream, self._stream = self._stream, ""
        status = head[9:12].decode()
        if status == "503":
            self._crowd.retry_after.add(int(lines.partition(b"retry-after:")[2].partition(b"\r")[0] or 0))
        message_id = json.loads(rest)["id"] if status == "202" else None
        self._crowd.answered(self, stream, status, message_id, self._started)

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost(self, bool(self._stream))


class Smtp(asyncio.Protocol):
    """One connection for many messages, with pipelining."""

    is_smtp = True

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._buffer = b""
        self._stream = ""
        self._awaited: list[str] = []
        self._replies: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        secret = base64.b64encode(b"\0apikey\0" + self._crowd.task.key.encode())
        self._expect(3, b"EHLO client.example\r\nAUTH PLAIN " + secret + b"\r\n")

    def send(self, stream: str) -> None:
        self._stream, self._started = stream, time.perf_counter()
        self._expect(3, b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (SENDER.encode(), _next_recipient()))

    def _expect(self, replies: int, data: bytes) -> None:
        self._wanted, self._replies = replies, []
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\r\n")
        self._replies += [line for line in lines if line[3:4] != b"-"]
        if self._replies and self._replies[-1].startswith(b"421"):
            self._transport.abort()
        elif len(self._replies) >= self._wanted:
            self._go_on()

    def _go_on(self) -> None:
        last = self._replies[-1]
        if not self._stream:
            if last.startswith(b"235"):
                self._crowd.idle[True].append(self)
            else:
                self._transport.abort()
        elif self._wanted == 1 or not last.startswith(b"354"):
            first = next(reply for reply in self._replies if self._wanted == 1 or not reply.startswith(b"250"))
            stream, self._stream = self._stream, ""
            accepted = first.startswith(b"250")
            message_id = first.rpartition(b"queued as ")[2].decode() if accepted else None
            self._crowd.answered(self, stream, first[:3].decode(), message_id, self._started)
        else:
            self._expect(1, smtp_content(self._stream))

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost(self, bool(self._stream))


_requests: dict[str, list[bytes]] = {}
_numbers = itertools.count()


def _next_recipient() -> bytes:
    """Make an address that nobody else sends to: how much one may get is limited."""
    return b"r%07d-%08d@sink.example" % (os.getpid(), next(_numbers))


def http_request(key: str, stream: str) -> list[bytes]:
    """Make a request, once for each stream: what comes before the recipient and what comes after."""
    if stream not in _requests:
        body = json.dumps({"from": SENDER, "to": ["~" * _RECIPIENT_BYTES], "subject": "Overload", "text": TEXT, "stream": stream}).encode()
        head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        _requests[stream] = whole.split(b"~" * _RECIPIENT_BYTES)
    return _requests[stream]


def smtp_content(stream: str) -> bytes:
    """Make a message with its final dot."""
    head = f"From: {SENDER}\r\nSubject: Overload\r\nX-Gatepost-Stream: {stream}\r\n\r\n"
    return (head + TEXT.replace("\n", "\r\n") + "\r\n.\r\n").encode()


def main() -> None:
    """Run a task."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    os.nice(task.nice)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(task)
    tally = uvloop.run(crowd.run())
    Path(task.ids).write_text("\n".join(crowd.ids), "ascii")
    Path(task.ids).with_name(f"tally-{os.getpid()}").write_bytes(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
