"""
`python -m bench.shaping`: real dispatch against a site that takes so much and answers 421 above; how exact it is, and how much of it is used.

One process, real time, SQLite, the dispatch loop with signing left out, and the site in a process of its own. Prints for each scenario what was
refused (over, in per cent of what was taken) and what share of the allowed was used. Then what taking and giving back a permit costs.
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from gatepost.clock import SystemClock
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.ports import Permit
from gatepost.dispatch.shaping import SiteShaping
from gatepost.domain.outcome import Delivered, Exchange, Reply
from gatepost.domain.route import SHARDS
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import SocketDialer
from gatepost.settings import Egress, Retry, Settings, SiteLimits
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine, open_store
from gatepost.testing.busy_site import BusySite
from gatepost.testing.fake_dns import FakeResolver

SITE = "example.net"
ZONE = {SITE: {"MX": [f"10 mx.{SITE}"]}, f"mx.{SITE}": {"A": ["127.0.0.1"]}}

SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    # what the site allows, what we were told, messages a second that this makes
    "20 messages/s, 2 connections": ({"connections": 2, "per_second": 20}, {"connections": 2, "messages_per_second": 20}, 20),
    "100 messages/s, 5 connections of 20": (
        {"connections": 5, "per_second": 100, "per_connection": 20},
        {"connections": 5, "messages_per_second": 100, "messages_per_connection": 20},
        100,
    ),
    "300 messages/s, 10 connections": ({"connections": 10, "per_second": 300}, {"connections": 10, "messages_per_second": 300}, 300),
    "8 connections, 100 ms a message": ({"connections": 8, "latency_s": 0.1}, {"connections": 8}, 80),
}


class Unsigned:
    def signers(self, _tenant_id, _domain):
        return []


def serve(limits: dict[str, Any], pipe: Connection) -> None:
    """Be the site, in a process of its own, until told to stop; then say what came."""

    async def work() -> None:
        async with BusySite(**limits, time=time.time) as site:
            pipe.send(site.port)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
            pipe.send({
                "accepted": site.accepted, "refused": site.refused, "most_connections": site.most_connections,
                "too_many_connections": site.too_many_connections, "too_fast": site.too_fast, "too_long": site.too_long,
            })  # fmt: skip

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


async def dispatch(folder: Path, port: int, told: dict[str, Any], count: int, seconds: float) -> None:
    from tests.store.rows import put_message

    clock = SystemClock()
    settings = Settings(
        egress=Egress(mx_port=port, default_route="mx"), shaping={SITE: SiteLimits(**told)}, retry=Retry(schedule=[1] * 8, jitter=0)
    )
    engine = create_engine("", folder / "data")
    await open_store(engine, clock)
    far = clock.now() + 10**9
    for _ in range(0, count, 500):
        await engine.write(lambda conn: [put_message(conn, domains=(SITE,), expires_at=far) for _ in range(500)])
    courier = SmtpCourier(
        route="mx",
        settings=settings,
        relay=None,
        resolver=FakeResolver(ZONE),
        dialer=SocketDialer(),
        clock=clock,
        hostname="gw.bench.example",
    )
    shaping = SiteShaping(settings, engine)
    dispatcher = Dispatcher(
        engine=engine, blobs=LocalBlobs(folder / "blobs"), signing=Unsigned(), couriers={"mx": courier}, settings=settings, clock=clock,
        ownership=Ownership(engine, clock, "bench", "host", 1, lease_s=60), shaping=shaping,
    )  # fmt: skip
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await dispatcher.wait(await dispatcher.step())
    await dispatcher.stop(5)
    await courier.close()
    await shaping.close(clock.now())
    await engine.close()


def scenario(name: str, seconds: float) -> dict[str, Any]:
    allowed, told, per_second = SCENARIOS[name]
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(allowed, theirs), daemon=True)
    process.start()
    port = pipe.recv()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(dispatch(Path(folder), port, told, int(per_second * seconds * 1.2) + 100, seconds))
    pipe.send("stop")
    found = pipe.recv()
    process.join()
    accepted = found.pop("accepted")
    start = accepted[0] + 0.5
    used = sum(start <= at < start + seconds - 2 for at in accepted) / (seconds - 2) / per_second
    return {
        "scenario": name, "accepted": len(accepted), **found, "over_percent": 100 * found["refused"] / len(accepted), "used_percent": 100 * used,
    }  # fmt: skip


def cost() -> dict[str, float]:
    """Return the microseconds of a permit taken and given back, best of five."""
    engine: Any = None
    found = {}
    now = SystemClock().now()
    exchange = Exchange(route="mx", started_at=now, finished_at=now)
    delivered = [Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"))]
    for name, limits in (("no special limits", SiteLimits()), ("with a rate", SiteLimits(messages_per_second=100_000.0, burst=100_000))):
        shaping = SiteShaping(Settings(shaping={"*": limits}), engine)
        shaping._epochs = dict.fromkeys(range(SHARDS), 1)
        best = float("inf")
        for attempt in range(5):
            started = time.perf_counter()
            for n in range(attempt * 50_000, (attempt + 1) * 50_000):
                permit = shaping.take(("default", SITE), now + n)
                assert isinstance(permit, Permit)
                shaping.give_back(permit, delivered, now + n)
            best = min(best, (time.perf_counter() - started) / 50_000 * 1e6)
        found[name] = best
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--only", default="", help="scenarios whose names hold this")
    chosen = arguments.parse_args()
    rows = [scenario(name, chosen.seconds) for name in SCENARIOS if chosen.only in name]
    table = Table("scenario", "taken", "refused: connections, rate, length", "over", "most connections", "used of what is allowed")
    for row in rows:
        table.add_row(
            row["scenario"], str(row["accepted"]), f"{row['too_many_connections']}, {row['too_fast']}, {row['too_long']}", f"{row['over_percent']:.2f} %", str(row["most_connections"]),
            f"{row['used_percent']:.1f} %",
        )  # fmt: skip
    Console(width=140).print(table)
    costs = cost()
    for name, micros in costs.items():
        print(f"take + give_back, {name}: {micros:.2f} µs")
    path = Path(__file__).parent / "results" / "shaping.json"
    path.write_text(json.dumps({"scenarios": rows, "micros": costs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
