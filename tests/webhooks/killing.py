"""
The long proof: a consumer that is down for an hour, and a delivering process that is killed again and again.

Every party is a process of its own: one writes events, one consumes, one delivers and is killed. The controller kills, lets
time pass (an offset that all clocks add) and, at the end, compares what was written with what came.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.event import Event, EventType
from gatepost.domain.tenant import Tenant
from gatepost.store import facts, tenants
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.webhooks import WebhookRegister
from gatepost.webhooks.loop import HookLoop
from gatepost.wire import hook_signature
from tests.store.rows import put_message
from tests.webhooks.house import settings

PER_MESSAGE = 5
_DOWN_MS = 3_600_000
_FORK = multiprocessing.get_context("fork")
_TENANT = "ten_01m86eymxse00bynhmebgw8bxf"


class OffsetClock(SystemClock):
    """The machine's clock, and what the controller adds."""

    def __init__(self, offset: Any) -> None:
        self._offset = offset

    def now(self) -> int:
        return super().now() + self._offset.value

    def monotonic(self) -> float:
        return super().monotonic() + self._offset.value / 1000


@dataclass
class Report:
    """What came out."""

    events: int
    kills: int = 0
    seed: int = 0
    down_s: int = _DOWN_MS // 1000
    calls: int = 0
    refused: int = 0
    lost: int = 0
    unknown: int = 0
    again: int = 0
    out_of_order: int = 0
    badly_signed: int = 0
    hours: float = 0.0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)


def write_events(folder: str, url: str, pipe: Connection, offset: Any, count: int) -> None:
    """Write messages with events, some at a time, interleaved; tell which there are."""

    async def run() -> None:
        engine, clock, chance = create_engine(url, Path(folder)), OffsetClock(offset), random.Random(7)
        waiting: list[tuple[str, int]] = []
        made: dict[str, list[str]] = {}
        while sum(map(len, made.values())) < count:
            for _ in range(min(10, count // PER_MESSAGE - len(made))):
                (row,) = await engine.write(lambda conn: put_message(conn, tenant_id=_TENANT))
                made[row.message_id] = []
                waiting.append((row.message_id, 0))
            batch = []
            for _ in range(min(len(waiting), 60)):
                message_id, n = waiting.pop(chance.randrange(len(waiting)))
                batch.append(
                    Event(
                        id=ids.new("evt"),
                        type=EventType.DEFERRED,
                        tenant_id=_TENANT,
                        at=clock.now(),
                        message_id=message_id,
                        n=0,
                        data={"attempt": n},
                    )
                )
                made[message_id].append(batch[-1].id)
                if n + 1 < PER_MESSAGE:
                    waiting.append((message_id, n + 1))
            await engine.write(lambda conn, batch=batch: facts.insert_events(conn, batch))
            await asyncio.sleep(0.01)
        await engine.close()
        pipe.send(made)

    uvloop.run(run())


def consume(port: int, pipe: Connection, is_up: Any, secret: str) -> None:
    """Take calls while up; while down refuse them, or drop the connection."""
    taken: list[tuple[str, str, int]] = []
    counts = {"refused": 0, "badly_signed": 0}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
                }
                body = await reader.readexactly(int(headers["content-length"]))
                if not is_up.value:
                    counts["refused"] += 1
                    if counts["refused"] % 2:
                        break
                    writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                    continue
                try:
                    hook_signature.verify([secret], headers, body, int(headers["webhook-timestamp"]))
                except hook_signature.WrongSignature:
                    counts["badly_signed"] += 1
                data = json.loads(body)["data"]
                taken.append((headers["webhook-id"], data["message_id"], data["deferral"]["attempt"]))
                await asyncio.sleep(0.02)  # so that some calls are always under way when their process is killed
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def run() -> None:
        await asyncio.start_server(answer, "127.0.0.1", port)
        pipe.send("listening")
        while True:
            await asyncio.sleep(0.005)
            if pipe.poll():
                asked = pipe.recv()
                if asked == "all":
                    pipe.send((taken, counts))
                    return
                pipe.send(counts["refused"] if asked == "refused" else len({one[0] for one in taken}))

    uvloop.run(run())


def deliver(folder: str, url: str, offset: Any, node_id: str) -> None:
    """Deliver until killed."""

    async def run() -> None:
        clock = OffsetClock(offset)
        loop = HookLoop(create_engine(url, Path(folder)), clock, settings(), None, node_id)
        while True:
            await loop.step()
            await asyncio.sleep(0.02)

    os.setpgrp()
    uvloop.run(run())


def prepare(folder: str, url: str, pipe: Connection, port: int) -> None:
    """Make the store, the tenant and the webhook; tell its secret."""

    async def run() -> None:
        engine = create_engine(url, Path(folder))
        await open_store(engine, SystemClock())
        await engine.write(lambda conn: tenants.insert_tenant(conn, Tenant(id=_TENANT, name="acme", created_at=SystemClock().now())))
        made = await WebhookRegister(engine, SystemClock(), settings()).create(_TENANT, {"url": f"http://127.0.0.1:{port}/"}, by=GATEWAY)
        await engine.close()
        pipe.send(made.secrets[0].text)

    asyncio.run(run())


def run(events: int, kills: int, seed: int, url: str = "") -> Report:
    """Run it; the controller itself has no threads, so that it may fork."""
    chance, report, started = random.Random(seed), Report(events=events, seed=seed), time.monotonic()
    offset, is_up = _FORK.Value("q", 0), _FORK.Value("b", 0)
    with tempfile.TemporaryDirectory() as folder:
        # the consumer must know the secret, and the webhook the port: so the port is found first
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        here, there = _FORK.Pipe()
        _begin(prepare, folder, url, there, port).join()
        secret = here.recv()
        consumer_here, consumer_there = _FORK.Pipe()
        consumer = _begin(consume, port, consumer_there, is_up, secret)
        consumer_here.recv()
        writer = _begin(write_events, folder, url, there, offset, events)
        deliverer = _begin(deliver, folder, url, offset, "node-0")
        due, count, killed_at = kills, 0, 0
        deadline = time.monotonic() + 60 + events / 20
        while (due or count < events) and time.monotonic() < deadline:
            step = 60_000 if offset.value < _DOWN_MS else 300_000
            # the hour does not end before a call came: on a busy machine the deliverer may not even have started
            if offset.value >= _DOWN_MS or offset.value + step < _DOWN_MS or _ask(consumer_here, "refused"):
                offset.value += step
            is_up.value = offset.value >= _DOWN_MS
            time.sleep(0.02 if not is_up.value else 0.04)
            count = _ask(consumer_here, "count")
            # half of the kills while it is down, half while it takes what comes
            may_kill = killed_at < count < events if is_up.value else due > kills // 2 and chance.random() < max(kills / 60, 0.1)
            if due and may_kill:
                due, killed_at = due - 1, count
                deliverer = _killed(deliverer, folder, url, offset, report)
            if count >= events:
                break
        made = here.recv()
        time.sleep(0.3)
        taken, counts = _ask(consumer_here, "all")
        for process in (deliverer, consumer, writer):
            process.kill()
            process.join()
    _judge(report, made, taken, counts, kills)
    report.hours, report.seconds = round(offset.value / 3_600_000, 1), round(time.monotonic() - started, 1)
    return report


def _begin(target: Any, *arguments: Any) -> Any:
    process = _FORK.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _ask(pipe: Connection, what: str) -> Any:
    pipe.send(what)
    return pipe.recv()


def _killed(process: Any, folder: str, url: str, offset: Any, report: Report) -> Any:
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    report.kills += 1
    return _begin(deliver, folder, url, offset, f"node-{report.kills}")


def _judge(
    report: Report, made: dict[str, list[str]], taken: list[tuple[str, str, int]], counts: dict[str, int], wanted_kills: int
) -> None:
    written = {event_id for mine in made.values() for event_id in mine}
    seen: set[str] = set()
    reached: dict[str, int] = {}
    for event_id, message_id, n in taken:
        report.calls += 1
        if event_id in seen:
            report.again += 1
            continue
        seen.add(event_id)
        if n != reached.get(message_id, -1) + 1:
            report.out_of_order += 1
        reached[message_id] = n
    report.lost, report.unknown = len(written - seen), len(seen - written)
    report.refused, report.badly_signed = counts["refused"], counts["badly_signed"]
    if report.kills < wanted_kills:
        report.complaints.append(f"only {report.kills} kills")
    for name in ("lost", "unknown", "out_of_order", "badly_signed"):
        if getattr(report, name):
            report.complaints.append(f"{name}: {getattr(report, name)}")
    if len(written) != report.events:
        report.complaints.append(f"{len(written)} events were written")
