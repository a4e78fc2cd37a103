"""
What a gateway's parts can do alone on this machine: the limits that a message's costs are measured against (see bench.costs).

RSA and Ed25519 signatures, fsync, groups of rows in SQLite, and SMTP over loopback: Debian's source straight into its sink, our
client into its sink, its source into our server with nothing behind it.
"""

import asyncio
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from bench.load import smtp_source
from bench.processes import Sink, free_port
from gatepost.clock import SystemClock
from gatepost.domain.access import Principal, PrincipalKind
from gatepost.egress.courier import Batch, BatchRecipient
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import SocketDialer
from gatepost.settings import Egress, Relay, Settings, Smtp
from gatepost.smtpd.door import SmtpDoor
from gatepost.testing.fake_dns import FakeResolver

_CONTENT = b"From: a@bench.example\r\nTo: b@sink.example\r\nSubject: n\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 107


def _each(work: Callable[[], object], count: int, clock: Callable[[], float] = time.process_time, rounds: int = 5) -> float:
    """Return microseconds of one run, the best of some rounds: whatever else the machine does only adds."""
    found = []
    for _ in range(rounds):
        started = clock()
        for _ in range(count):
            work()
        found.append((clock() - started) / count * 1e6)
    return min(found)


def signing() -> dict[str, float]:
    data, digest = b"x" * 700, b"x" * 32
    one, two = rsa.generate_private_key(65_537, 2048), ed25519.Ed25519PrivateKey.generate()
    pad, sha = padding.PKCS1v15(), hashes.SHA256()
    return {
        "RSA-2048 alone, µs a signature": _each(lambda: one.sign(data, pad, sha), 200),
        "Ed25519 alone, µs a signature": _each(lambda: two.sign(digest), 500),
    }


def disk(folder: Path) -> dict[str, float]:
    """Wall time: fsync waits."""
    found: list[float] = []
    file = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT)
    for _ in range(300):
        os.write(file, b"x" * 4096)
        started = time.perf_counter()
        os.fsync(file)
        found.append((time.perf_counter() - started) * 1e6)
    os.close(file)
    return {"fsync of 4 KB alone, µs waited (median)": statistics.median(found)}


def sqlite(folder: Path) -> dict[str, float]:
    """Insert, read and delete rows of 5 KB in groups of 100, WAL and FULL."""
    conn = sqlite3.connect(folder / "alone.db", isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA synchronous=FULL")
    conn.execute("CREATE TABLE one (id TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
    body, numbers = os.urandom(2500) * 2, iter(range(10**9))

    def group() -> None:
        names = [f"{next(numbers):012}" for _ in range(100)]
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany("INSERT INTO one VALUES (?, ?)", [(name, body) for name in names])
        conn.execute("COMMIT")
        conn.execute("SELECT data FROM one WHERE id >= ?", names[:1]).fetchall()
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany("DELETE FROM one WHERE id = ?", [(name,) for name in names])
        conn.execute("COMMIT")

    try:
        return {"SQLite alone, groups of 100: µs a row in, read and out": _each(group, 20) / 100}
    finally:
        conn.close()


def loopback(folder: Path, count: int) -> dict[str, float]:
    """Messages a second, and processor time of ours."""
    sink = Sink(folder, free_port())
    try:
        started = time.perf_counter()
        _source(sink.port, count, folder)
        straight = count / (time.perf_counter() - started)
        client_per_s, client_us = asyncio.run(_client(sink.port, count))
    finally:
        sink.stop()
    server_per_s, server_us = asyncio.run(_server(count, folder))
    return {
        "smtp-source → smtp-sink, messages/s": straight,
        "our client → smtp-sink, messages/s": client_per_s,
        "our client, µs a message": client_us,
        "smtp-source → our server, messages/s": server_per_s,
        "our server, µs a message": server_us,
    }


def _source(port: int, count: int, folder: Path) -> None:
    process = smtp_source(port, count, 5_000, 20, folder / "smtp-source.log")
    if process.wait(300):
        raise SystemExit("smtp-source failed; see its log")


async def _client(port: int, count: int) -> tuple[float, float]:
    courier = SmtpCourier(
        route="sink", settings=Settings(egress=Egress(hostname="bench.example")), relay=Relay(url=f"smtp://127.0.0.1:{port}?tls=never"),
        resolver=FakeResolver({}), dialer=SocketDialer(), clock=SystemClock(), hostname="bench.example",
    )  # fmt: skip
    batch = Batch(
        message_id="msg_bench", route="sink", site="relay:sink", domain="sink.example", envelope_from="a@bench.example",
        recipients=(BatchRecipient(n=0, address="b@sink.example", attempt=1),), content=_CONTENT,
    )  # fmt: skip
    left = iter(range(count))

    async def send() -> None:
        for _ in left:
            await courier.deliver(batch)

    started, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*[send() for _ in range(20)])
    found = count / (time.perf_counter() - started), (time.process_time() - used) / count * 1e6
    await courier.close()
    return found


class _Stored:
    message_id = "msg_01h455vb4pex5vsknk084sn02q"


class _Nothing:
    """Takes everything from everybody, and keeps nothing."""

    who = Principal(id="key_bench", kind=PrincipalKind.KEY, tenant_id="ten_bench", name="bench")

    async def submit_raw(self, _caller: object, _submission: object) -> _Stored:
        return _Stored()

    def trusted(self, _peer: str) -> str:
        return "bench"

    def check(self, _proof: object, _peer: str) -> Principal:
        return self.who


async def _server(count: int, folder: Path) -> tuple[float, float]:
    nothing, settings = _Nothing(), Settings(smtp=Smtp(hostname="bench.example"))
    door = SmtpDoor(settings, None, nothing, nothing, on_event=lambda *_, **__: None, clock=SystemClock())  # type: ignore[arg-type]
    server = await door.start("127.0.0.1", 0)
    started, used = time.perf_counter(), time.process_time()
    await asyncio.to_thread(_source, server.sockets[0].getsockname()[1], count, folder)
    found = count / (time.perf_counter() - started), (time.process_time() - used) / count * 1e6
    await door.close(1.0)
    return found


def measure(folder: Path, count: int) -> dict[str, float]:
    """Measure all of them."""
    return signing() | disk(folder) | sqlite(folder) | loopback(folder, count)
