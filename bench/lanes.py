"""
`python -m bench.lanes`: nobody's mail waits behind somebody else's backlog.

Three figures, each judged by its limit, with real processes and sinks on this machine: (a) delivery times at one relay, alone
and with a million messages for a slow relay in the same shard; (b) how long another tenant's ten messages take behind one
tenant's million for the same relay and lane; (c) from accept to the first attempt of codes, with 200,000 bulk messages for the
same relay.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from bench.filling import Row, fill
from bench.gateway import Gateway
from bench.load import PLACE, message, percentile, request, with_recipients
from gatepost.domain import route as routes

_OTHER_TENANT = "ten_0other"


class _Sink(asyncio.Protocol):
    """A server that takes everything, after a while, and notes when each numbered message came."""

    def __init__(self, arrived: dict[str, float], taken: list[int], delay_s: float) -> None:
        self._arrived, self._taken, self._delay_s = arrived, taken, delay_s
        self._buffer, self._in_data = b"", False

    def connection_made(self, transport) -> None:
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            line, separator, rest = self._buffer.partition(b"\r\n.\r\n" if self._in_data else b"\r\n")
            if not separator:
                return
            self._buffer = rest
            self._answer(line)

    def _answer(self, line: bytes) -> None:
        if self._in_data:
            if found := re.search(rb"Subject: (n\d+)", line):
                self._arrived[found[1].decode()] = time.perf_counter()
            self._taken[0] += 1
            self._in_data = False
            delay_s = self._delay_s * random.uniform(0.5, 1.5)
            asyncio.get_running_loop().call_later(delay_s, self._say, b"250 2.0.0 ok\r\n")
        elif line.upper().startswith(b"EHLO"):
            self._say(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
        elif line.upper() == b"DATA":
            self._in_data = True
            self._say(b"354 go\r\n")
        else:
            self._say(b"221 bye\r\n" if line.upper() == b"QUIT" else b"250 2.0.0 ok\r\n")

    def _say(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


class Run:
    """A gateway with its sinks."""

    def __init__(
        self, folder: Path, fill_with: tuple[int, Callable[[int, int, str], Row]], database_url: str = "", **settings: str
    ) -> None:
        # they listen before the gateway starts: a refused connection would make it look after the road for a while
        self.sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=1024) for name in ("sink", "slow")}
        self.ports = {name: one.getsockname()[1] for name, one in self.sockets.items()}
        self.arrived: dict[str, float] = {}
        self.taken = {"sink": [0], "slow": [0]}
        self.slow_name = beside("sink")
        count, row_of = fill_with
        self.gateway = Gateway(
            folder,
            self.ports["sink"],
            database_url=database_url,
            prepare=lambda gateway: fill(gateway.data, database_url, count, row_of),
            **{f"GATEPOST_RELAYS__{self.slow_name.upper()}__URL": f"smtp://127.0.0.1:{self.ports['slow']}?tls=never", **settings},
        )

    async def serve(self, stack: contextlib.AsyncExitStack, delays: dict[str, float]) -> None:
        loop = asyncio.get_running_loop()
        for name, delay_s in delays.items():
            make = lambda name=name, delay_s=delay_s: _Sink(self.arrived, self.taken[name], delay_s)  # noqa: E731
            stack.push_async_callback(_close, await loop.create_server(make, sock=self.sockets[name]))

    async def send(self, stream: str, rate: float, count: int, size: int = 2_000) -> list[float]:
        """Send numbered messages at a steady rate; return the seconds from the accept to the next server, sorted."""
        accepted: dict[str, float] = {}
        pool: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        for _ in range(8):
            pool.put_nowait(await asyncio.open_connection("127.0.0.1", self.gateway.http_port))

        async def one(name: str) -> None:
            reader, writer = await pool.get()
            body = json.dumps({**message(size, name), "stream": stream}).encode()
            writer.write(with_recipients(request("/v1/messages", self.gateway.key, body).split(PLACE)))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 202 " in head, head
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
            accepted[name] = time.perf_counter()
            pool.put_nowait((reader, writer))

        self.arrived.clear()
        start, tasks = time.perf_counter(), []
        for n in range(count):
            await asyncio.sleep(max(0, start + n / rate - time.perf_counter()))
            tasks.append(asyncio.ensure_future(one(f"n{n}")))
        await asyncio.gather(*tasks)
        deadline = time.perf_counter() + 60
        while len(self.arrived) < count and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        missing = [60.0] * (count - len(self.arrived))
        return sorted([max(self.arrived[name] - accepted[name], 0.0) for name in self.arrived] + missing)


async def _close(server) -> None:
    server.close()


def beside(relay: str) -> str:
    """Name another relay whose site lies in the same shard."""
    shard = routes.shard_of(routes.DEFAULT_POOL, routes.roads_of(relay)[0].site_of(""))
    names = (f"slow{n}" for n in range(10_000))
    return next(name for name in names if routes.shard_of(routes.DEFAULT_POOL, routes.roads_of(name)[0].site_of("")) == shard)


def slow_site(folder: Path, count: int, rate: float, messages: int, rounds: int, database_url: str = "") -> dict[str, float]:
    """(a): the same load beside a backlog for a slow relay in the same shard, and without it: two gateways that take turns."""
    slow = beside("sink")
    backlogs = {"alone": 0, "beside": count}
    runs: dict[str, Run] = {}
    cpu = dict.fromkeys(backlogs, 0.0)

    async def main() -> dict[str, list[list[float]]]:
        times: dict[str, list[list[float]]] = {name: [] for name in runs}
        async with contextlib.AsyncExitStack() as stack:
            for run in runs.values():
                await run.serve(stack, {"sink": 0.0, "slow": 5.0})
            while runs["beside"].taken["slow"][0] < min(count, 40):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            for run in runs.values():
                await run.send("transactional", rate, int(rate * 2))
            for _ in range(rounds):
                for name, run in runs.items():
                    before = run.gateway.cpu()
                    times[name].append(await run.send("transactional", rate, messages // rounds))
                    cpu[name] += run.gateway.cpu() - before
        return times

    try:
        for name, rows in backlogs.items():
            (folder / name).mkdir()
            runs[name] = Run(folder / name, (rows, lambda _n, now, tenant: Row(slow, "d.example", 1, now - 60_000, tenant)), database_url)
        times = uvloop.run(main())
    finally:
        for run in runs.values():
            run.gateway.stop()
    found = {}
    for name, of_rounds in times.items():
        everything = sorted(itertools.chain.from_iterable(of_rounds))
        found[f"{name}_cpu_s_per_1000"] = cpu[name] / len(everything) * 1000
        found |= {f"{name}_{at}_ms": percentile(everything, share) * 1000 for at, share in (("p50", 0.5), ("p99", 0.99))}
    of_rounds = [percentile(two, 0.99) / percentile(one, 0.99) for one, two in zip(times["alone"], times["beside"], strict=True)]
    return found | {"p99_ratio": found["beside_p99_ms"] / found["alone_p99_ms"], "p99_ratio_median_of_rounds": statistics.median(of_rounds)}


def other_tenant(folder: Path, count: int, delay_s: float, rounds: int, database_url: str = "") -> dict[str, float]:
    """(b): ten messages of another tenant, behind one tenant's backlog for the same relay and lane."""
    run = Run(folder, (count, lambda _n, now, _tenant: Row("sink", "d.example", 1, now - 60_000, _OTHER_TENANT)), database_url)

    async def main() -> list[float]:
        async with contextlib.AsyncExitStack() as stack:
            await run.serve(stack, {"sink": delay_s})
            while run.taken["sink"][0] < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return sorted([(await run.send("transactional", 1_000, 10))[-1] for _ in range(rounds)])

    try:
        times = uvloop.run(main())
    finally:
        run.gateway.stop()
    return {
        "last_of_ten_p50_ms": percentile(times, 0.5) * 1000,
        "last_of_ten_max_ms": times[-1] * 1000,
        "others_delivered": run.taken["sink"][0],
    }


def codes(folder: Path, count: int, delay_s: float, rate: float, messages: int, database_url: str = "") -> dict[str, float]:
    """(c): codes, with a backlog of bulk mail for the same relay."""
    run = Run(folder, (count, lambda _n, now, tenant: Row("sink", "d.example", 2, now - 60_000, tenant)), database_url)

    async def main() -> list[float]:
        async with contextlib.AsyncExitStack() as stack:
            await run.serve(stack, {"sink": delay_s})
            while run.taken["sink"][0] < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return await run.send("codes", rate, messages)

    try:
        times = uvloop.run(main())
    finally:
        run.gateway.stop()
    return {
        "p50_ms": percentile(times, 0.5) * 1000, "p99_ms": percentile(times, 0.99) * 1000, "max_ms": times[-1] * 1000,
        "bulk_delivered": run.taken["sink"][0] - messages,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Lanes and fairness")
    parser.add_argument("--queued", type=int, default=1_000_000, help="backlog of (a) and (b)")
    parser.add_argument("--bulk", type=int, default=200_000, help="backlog of (c)")
    parser.add_argument("--rate", type=float, default=50, help="messages per second of (a)")
    parser.add_argument("--messages", type=int, default=1_000, help="messages of (a), in all rounds")
    parser.add_argument("--rounds", type=int, default=5, help="turns of (a), with and without the backlog")
    parser.add_argument("--codes", type=int, default=200, help="codes of (c), 10 per second")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that the relay of (b) and (c) takes for a message")
    parser.add_argument("--only", default="a,b,c")
    arguments = parser.parse_args()
    scenarios: dict[str, tuple[str, Callable[[Path], dict[str, float]], str, float]] = {
        "a": (
            "a slow site's backlog in the same shard",
            lambda folder: slow_site(folder, arguments.queued, arguments.rate, arguments.messages, arguments.rounds),
            "p99_ratio", 1.1,
        ),
        "b": (
            "another tenant's backlog at the same site",
            lambda folder: other_tenant(folder, arguments.queued, arguments.delay, 10),
            "last_of_ten_max_ms", 2_000,
        ),
        "c": (
            "codes behind bulk",
            lambda folder: codes(folder, arguments.bulk, arguments.delay, 10, arguments.codes),
            "p99_ms", 1_000,
        ),
    }  # fmt: skip
    for name in arguments.only.split(","):
        title, work, judged, most = scenarios[name]
        with tempfile.TemporaryDirectory(prefix="gatepost-lanes-") as folder:
            found = work(Path(folder))
        verdict = {"judged_by": judged, "at_most": most, "holds": found[judged] <= most}
        print(json.dumps({"scenario": title, **{key: round(value, 2) for key, value in found.items()}, **verdict}), flush=True)


if __name__ == "__main__":
    main()
