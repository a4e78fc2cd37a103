"""
`python -m bench.webhooks`: events told to a local consumer, a second; and how long others wait while one consumer is dead.

One process delivers, as a dispatch process does; the consumer runs in a process of its own. SQLite, real time.
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import uvloop
from tests.store.rows import put_message

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.event import Event, EventType
from gatepost.domain.tenant import Tenant
from gatepost.settings import Settings, Webhooks
from gatepost.store import facts, tenants
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.webhooks import WebhookRegister
from gatepost.webhooks.loop import EVERY_S, HookLoop


class _Counting(asyncio.Protocol):
    """Answers 204 to every request, and counts: as cheap as a consumer can be, so that it is not what is measured."""

    count = 0
    seen: set[bytes] = set()  # noqa: RUF012

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.seen.add(head.split(b"webhook-id: ")[1].split(b"\r\n")[0])
            type(self).count += 1
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def consume(pipe: Connection) -> None:
    """Be the consumer until told to stop; a second port takes requests and never answers."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Counting, "127.0.0.1", 0, backlog=512)
        dead = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=512)
        pipe.send([one.sockets[0].getsockname()[1] for one in (server, dead)])
        while True:
            await asyncio.sleep(0.005)
            while pipe.poll():
                if pipe.recv() is None:
                    return
                pipe.send((_Counting.count, len(_Counting.seen)))

    uvloop.run(run())


class Bench:
    def __init__(self, folder: Path, pipe: Connection) -> None:
        self.pipe, self.clock = pipe, SystemClock()
        self.settings = msgspec.structs.replace(Settings(), webhooks=Webhooks(allow_networks=["127.0.0.0/8"]))
        self.engine = create_engine("", folder)
        self.register = WebhookRegister(self.engine, self.clock, self.settings)
        self.loop = HookLoop(self.engine, self.clock, self.settings, None, "bench")

    def counted(self) -> tuple[int, int]:
        self.pipe.send("count")
        return self.pipe.recv()

    async def tenant(self, name: str) -> str:
        tenant = Tenant(id=ids.new("ten"), name=name, created_at=self.clock.now())
        await self.engine.write(lambda conn: tenants.insert_tenant(conn, tenant))
        return tenant.id

    async def events(self, tenant_id: str, count: int) -> None:
        """Write two events of each of some messages."""

        def run(conn):
            for _ in range(min(count, 1000) // 2):
                (row,) = put_message(conn, tenant_id=tenant_id)
                kinds = (EventType.ACCEPTED, EventType.DELIVERED)
                facts.insert_events(
                    conn,
                    [
                        Event(
                            id=ids.new("evt"),
                            type=kind,
                            tenant_id=tenant_id,
                            at=self.clock.now(),
                            message_id=row.message_id,
                            n=n,
                            data={"attempt": 1},
                        )
                        for kind, n in zip(kinds, (None, 0), strict=True)
                    ],
                )

        for _ in range(max(1, count // 1000)):
            await self.engine.write(run)

    async def until(self, count: int) -> float:
        started = time.monotonic()
        while self.counted()[0] < count:
            await self.loop.step()
            await asyncio.sleep(EVERY_S / 2)
        return time.monotonic() - started


async def measure(folder: Path, pipe: Connection, count: int) -> dict[str, float]:
    ports = pipe.recv()
    bench = Bench(folder, pipe)
    await open_store(bench.engine, bench.clock)
    busy, quiet, hung = [await bench.tenant(name) for name in ("busy", "quiet", "hung")]
    await bench.register.create(busy, {"url": f"http://127.0.0.1:{ports[0]}/"}, by=GATEWAY)
    await bench.events(busy, count)
    seconds = await bench.until(count)
    delivered, distinct = bench.counted()
    found = {
        "events": count,
        "delivered": delivered,
        "distinct": distinct,
        "seconds": round(seconds, 2),
        "hooks_per_second": round(count / seconds),
    }
    await bench.register.create(hung, {"url": f"http://127.0.0.1:{ports[1]}/"}, by=GATEWAY)
    await bench.register.create(quiet, {"url": f"http://127.0.0.1:{ports[0]}/"}, by=GATEWAY)
    await bench.events(hung, 1000)
    await asyncio.sleep(1.1)
    for _ in range(5):
        await bench.loop.step()
        await asyncio.sleep(0.2)
    waits = []
    for n in range(10):
        started = time.monotonic()
        await bench.events(quiet, 2)
        await bench.until(delivered + 2 * (n + 1))
        waits.append(time.monotonic() - started)
    found["beside_a_dead_one_worst_s"] = round(max(waits), 3)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    consumer = multiprocessing.get_context("fork").Process(target=consume, args=(there,), daemon=True)
    consumer.start()
    with tempfile.TemporaryDirectory() as folder:
        if options.profile:
            import cProfile
            import pstats

            profile = cProfile.Profile()
            profile.enable()
        found = uvloop.run(measure(Path(folder), here, options.events))
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    here.send(None)
    print(json.dumps(found, indent=2))
    (Path(__file__).parent / "results" / "webhooks.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
