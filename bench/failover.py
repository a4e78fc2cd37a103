"""
`python -m bench.failover`: three relays are killed one after the other under load, and started again.

A real `gatepost serve`, three real SMTP servers as processes of their own, a steady load over HTTP. Each relay is killed with
SIGKILL, or frozen with SIGSTOP (--freeze: nothing is refused, connections just fall silent; all timeouts are as the settings have
them). Printed for each: how long until another relay took something, and the longest time that any message sent after the kill
waited. Mail whose content a frozen relay had when it froze waits for it: nobody else can know whether it was delivered. In the end
every message must have arrived once; what arrived twice must have been counted as a possible duplicate.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from bench.processes import Process, free_port, wait_for_port

RELAYS = ("one", "two", "three")
_LONGEST_SWITCH_S = 5.0
_SINK = "import sys; from bench.failover import sink; sink(int(sys.argv[1]), sys.argv[2])"


def sink(port: int, log: str) -> None:
    """Serve SMTP, fast; write subject and time of every message that ends with its dot before the answer leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        writer.write(b"220 sink\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    found = re.search(rb"^Subject: (\S+)", content, re.MULTILINE)
                    os.write(out, b"%s %d\n" % (found[1] if found else b"?", time.time_ns() // 1_000_000))
                    writer.write(b"250 ok\r\n")
                elif verb == b"EHLO":
                    writer.write(b"250-sink\r\n250 8BITMIME\r\n")
                elif verb == b"QUIT":
                    break
                else:
                    writer.write(b"250 ok\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            os.close(out)
            writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20):
            await asyncio.Event().wait()

    asyncio.run(main())


class Relay:
    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.port, self.log = name, free_port(), folder / f"{name}.log"
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.process = Process([sys.executable, "-c", _SINK, str(self.port), str(self.log)], self.folder / f"{self.name}.err")
        wait_for_port(self.port)

    def arrived(self) -> list[tuple[str, int]]:
        if not self.log.exists():
            return []
        return [(name, int(at)) for name, at in (line.split() for line in self.log.read_text().splitlines() if line.count(" ") == 1)]


class Load:
    """Sends a message every now and then, from a thread; knows when each was accepted."""

    def __init__(self, serving, key: str, per_second: float) -> None:
        self.serving, self.key, self.every = serving, key, 1 / per_second
        self.sent: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        n = 0
        while not self._stop.wait(self.every):
            name = f"m{n}"
            n += 1
            body = {"from": "shop@acme.example", "to": [f"u{n}@example.net"], "subject": name, "text": "Hello"}
            status, _ = self.serving.ask("POST", "/v1/messages", self.key, body)
            if status == 202:
                self.sent[name] = time.time_ns() // 1_000_000

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


def run(per_second: float, spell_s: float, *, freeze: bool) -> dict:
    from tests.flow.serving import Serving, prepare

    with tempfile.TemporaryDirectory(prefix="gp-failover-") as folder_name:
        folder = Path(folder_name)
        relays = [Relay(folder, name) for name in RELAYS]
        route = ",".join(RELAYS)
        flags = [f"egress.default_route={route}", "routing.breaker_open_s=2", "retry.schedule=[2]"]
        flags += [f"relays.{one.name}.url=smtp://127.0.0.1:{one.port}" for one in relays]
        key = prepare(folder / "data", **{f"relays__{one.name}__url": f"smtp://127.0.0.1:{one.port}" for one in relays})
        with Serving(folder / "data", *flags) as serving:
            load = Load(serving, key, per_second)
            time.sleep(spell_s)
            kills = []
            for relay in relays[:2]:
                at = time.time_ns() // 1_000_000
                os.killpg(relay.process.pid, signal.SIGSTOP if freeze else signal.SIGKILL)
                kills.append((relay.name, at))
                time.sleep(spell_s)
            for relay in relays[:2]:
                if freeze:
                    os.killpg(relay.process.pid, signal.SIGCONT)
                else:
                    relay.process.stop(signal.SIGKILL)
                    relay.start()
            back = time.time_ns() // 1_000_000
            time.sleep(spell_s + 4)
            load.stop()
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline and load.sent.keys() - {name for one in relays for name, _ in one.arrived()}:
                time.sleep(0.2)
            time.sleep(3)
            metrics = serving.text("/metrics")
        arrivals: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for relay in relays:
            for name, at in relay.arrived():
                arrivals[name].append((at, relay.name))
            relay.process.stop(signal.SIGKILL)
    counted = sum(float(found) for found in re.findall(r"^gatepost_possible_duplicates_total (\S+)$", metrics, re.MULTILINE))
    twice = {name: sorted(found) for name, found in arrivals.items() if len(found) > 1}
    duplicates = len(twice)
    waits = {name: min(at for at, _ in arrivals[name]) - at_sent for name, at_sent in load.sent.items() if name in arrivals}
    switches = {}
    for (dead, at), (_, until) in zip(kills, [*kills[1:], ("", back)], strict=True):
        of_kill = [waits[name] for name, when in load.sent.items() if at <= when < until and name in waits]
        first = min((when for found in arrivals.values() for when, relay in found if when > at and relay != dead), default=None)
        switches[dead] = {
            "first_elsewhere_s": None if first is None else (first - at) / 1000,
            "longest_wait_s": max(of_kill, default=0) / 1000,
        }
    returned = sum(1 for found in arrivals.values() for when, relay in found if when > back and relay == RELAYS[0])
    return {
        "is_frozen": freeze, "sent": len(load.sent), "lost": len(load.sent.keys() - arrivals.keys()), "twice": duplicates, "which": twice, "kills": kills,
        "possible_duplicates_counted": counted, "switch_s": max(one["longest_wait_s"] for one in switches.values()), "switch": switches, "by_the_first_relay_after_its_return": returned,
        "longest_wait_s": max(waits.values(), default=0) / 1000,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--spell", type=float, default=6, help="seconds between the kills")
    parser.add_argument("--freeze", action="store_true", help="freeze relays instead of killing them")
    wanted = parser.parse_args()
    found = run(wanted.per_second, wanted.spell, freeze=wanted.freeze)
    print(json.dumps(found, indent=2))
    if found["lost"] or found["twice"] > found["possible_duplicates_counted"]:
        raise SystemExit("messages were lost, or arrived twice uncounted")
    if found["switch_s"] > _LONGEST_SWITCH_S:
        raise SystemExit(f"mail waited for {found['switch_s']} s behind a dead relay")


if __name__ == "__main__":
    main()
