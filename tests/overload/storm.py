"""
One storm over a real `gatepost serve`: calm, to measure what it can take; several times that, from other processes; calm again.

Arrives: a `Plan`. Leaves: a `Report` with what was accepted and refused by stream, how long codes took, how much memory was
used, how soon bulk was taken again, and whether every accepted message is stored.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa

from tests.flow.serving import Serving, environment, prepare
from tests.overload.client import SENDER, Tally, Task

ROOT = Path(__file__).parents[2]
ACCEPTED = frozenset({"202", "250"})
SHED = frozenset({"503", "451", "421"})
_CODES_PER_S_AT_LEAST = 5.0
_FEW = 80


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    One storm.

    Attributes:
        factor: Load, in multiples of what was measured.
        processes: That send bulk and transactional mail; codes come from one more.
        flags: More settings.
    """

    seconds: float = 60
    calm_s: float = 5
    factor: float = 5
    processes: int = 2
    connections: int = 1_500
    flags: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Report:
    """What happened."""

    capacity_per_s: float = 0.0
    offered_per_s: float = 0.0
    sent_per_s: float = 0.0
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    codes_s: list[float] = field(default_factory=list)
    codes_before_s: list[float] = field(default_factory=list)
    cut: int = 0
    unsent_codes: int = 0
    retry_after: list[int] = field(default_factory=list)
    door_bytes: int = 0
    recovery_s: float | None = None
    is_same_door: bool = False
    accepted: int = 0
    missing: list[str] = field(default_factory=list)
    without_recipient: int = 0
    troubles: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    was_alive: bool = True
    metrics: list[str] = field(default_factory=list)

    def count(self, stream: str, answers: frozenset[str]) -> int:
        """Count a stream's answers of a kind."""
        return sum(count for answer, count in self.answers.get(stream, {}).items() if answer in answers)

    def lines(self) -> list[str]:
        """Write it for people."""
        found = [
            f"capacity          {self.capacity_per_s:8.0f} messages/s, codes p99 {1000 * percentile(self.codes_before_s, 0.99):.0f} ms",
            (
                f"load              {self.offered_per_s:8.0f} messages/s due ({self.offered_per_s / max(self.capacity_per_s, 1):.1f} x), "
                f"{self.sent_per_s:.0f} messages/s found a free connection"
            ),
        ]
        for stream in ("codes", "transactional", "bulk"):
            yes, no = self.count(stream, ACCEPTED), self.count(stream, SHED)
            share = 100 * yes / max(yes + no, 1)
            others = {answer: count for answer, count in self.answers.get(stream, {}).items() if answer not in ACCEPTED | SHED}
            found.append(f"{stream:17} {yes:8} accepted {no:8} shed   {share:5.1f} % taken{f'   others: {others}' if others else ''}")
        found += [
            (
                f"codes             p50 {1000 * percentile(self.codes_s, 0.5):.0f} ms, p99 {1000 * percentile(self.codes_s, 0.99):.0f} ms, "
                f"longest {1000 * max(self.codes_s, default=0):.0f} ms; {self.unsent_codes} found no free connection"
            ),
            f"connections cut   {self.cut:8}",
            f"Retry-After       {min(self.retry_after, default=0)} to {max(self.retry_after, default=0)} s",
            f"door process      {self.door_bytes / 1e6:8.0f} MB at most; {'the same one to the end' if self.is_same_door else 'IT DIED'}",
            f"bulk taken again  {'never' if self.recovery_s is None else f'{self.recovery_s:.1f} s'} after the storm",
            f"accepted ids      {self.accepted:8}, {len(self.missing)} missing, {self.without_recipient} without their recipient",
            *[f"log               {line}" for line in self.troubles[:6]],
        ]
        return found

    def complaints(self) -> list[str]:
        """List what must never happen, on whatever machine."""
        found = [
            (not self.is_same_door, "the door process died"),
            (bool(self.crashes), f"it crashed inside: {self.crashes[:3]}"),
            (bool(self.missing), f"{len(self.missing)} accepted messages are not stored, such as {self.missing[:3]}"),
            (bool(self.without_recipient), f"{self.without_recipient} messages have lost their recipient"),
            (self.recovery_s is None, "bulk was never taken again"),
            (not self.was_alive, "/livez did not answer"),
            (not self.count("codes", ACCEPTED), "no code was accepted"),
        ]
        return [text for is_so, text in found if is_so]


def percentile(values: list[float], share: float) -> float:
    """Return a percentile; 0 of nothing."""
    found = sorted(values)
    return found[min(int(len(found) * share), len(found) - 1)] if found else 0.0


def run(plan: Plan) -> Report:
    """Let a storm pass over a gateway."""
    with tempfile.TemporaryDirectory(prefix="gp-overload-", dir="/tmp") as folder:
        data = Path(folder) / "data"
        key = prepare(data)
        with Serving(data, *plan.flags) as serving:
            return _Storm(plan, serving, key, Path(folder)).run()


class _Storm:
    def __init__(self, plan: Plan, serving: Serving, key: str, folder: Path) -> None:
        self.plan, self.serving, self.key, self.folder = plan, serving, key, folder
        self.report = Report()
        self.files: list[Path] = []

    def run(self) -> Report:
        report, plan = self.report, self.plan
        (door,) = self.serving.children("door")
        watch = _Watch(door, self._url("/livez"))
        self._measure()
        heavy = Task(
            **self._ports(), seconds=plan.seconds, per_s=report.capacity_per_s * plan.factor * 0.99 / plan.processes,
            shares={"bulk": 0.90, "transactional": 0.09}, connections=plan.connections // plan.processes, smtp_share=0.2, ids="", nice=5,
        )  # fmt: skip
        rate = max(report.capacity_per_s * plan.factor * 0.01, _CODES_PER_S_AT_LEAST)
        codes = Task(**self._ports(), seconds=plan.seconds, per_s=rate, shares={"codes": 1}, connections=60, smtp_share=0.3, ids="")
        *tallies, of_codes = self._send([heavy] * plan.processes + [codes])
        report.recovery_s = self._recover(max(tally.ended_at for tally in [*tallies, of_codes]))
        report.offered_per_s = sum(tally.due for tally in [*tallies, of_codes]) / plan.seconds
        report.sent_per_s = sum(tally.due - tally.unsent for tally in [*tallies, of_codes]) / plan.seconds
        report.codes_s = of_codes.latencies["codes"]
        report.unsent_codes = of_codes.unsent
        self._take([*tallies, of_codes])
        report.door_bytes, report.was_alive = watch.stop()
        report.is_same_door = self.serving.children("door") == [door]
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(self._url("/metrics"), timeout=10).read().decode()
            report.metrics = [line for line in text.splitlines() if line.startswith(("gatepost_requests_shed", "gatepost_pressure"))]
        lines = [json.loads(line) for line in self.serving.log.splitlines() if line.startswith("{")]
        report.troubles = [_brief(line) for line in lines if line["event"] == "trouble"]
        report.crashes = [_brief(line) for line in lines if line["event"] == "crashed"]
        self._account()
        return report

    def _url(self, path: str) -> str:
        return f"http://{self.serving.listening['http']}{path}"

    def _ports(self) -> dict[str, Any]:
        ports = {f"{name}_port": int(self.serving.listening[name].rpartition(":")[2]) for name in ("http", "smtp")}
        return {**ports, "key": self.key}

    def _measure(self) -> None:
        """Ask for more than can be had from few connections: what comes through is the capacity."""
        plan = self.plan
        crowd = Task(
            **self._ports(), seconds=plan.calm_s, per_s=20_000 / plan.processes, shares={"transactional": 1},
            connections=_FEW // plan.processes, smtp_share=0.2, ids="", nice=5,
        )  # fmt: skip
        codes = Task(**self._ports(), seconds=self.plan.calm_s, per_s=10, shares={"codes": 1}, connections=5, smtp_share=0.2, ids="")
        *tallies, of_codes = self._send([crowd] * plan.processes + [codes])
        self.report.capacity_per_s = sum(len(tally.latencies["transactional"]) for tally in tallies) / plan.calm_s
        self.report.codes_before_s = of_codes.latencies["codes"]

    def _send(self, tasks: list[Task]) -> list[Tally]:
        processes = []
        for task in tasks:
            ids = self.folder / f"ids-{len(self.files)}"
            self.files.append(ids)
            order = msgspec.json.encode(msgspec.structs.replace(task, ids=str(ids))).decode()
            processes.append(subprocess.Popen([sys.executable, "-m", "tests.overload.client", order], cwd=ROOT, env=environment()))
        tallies = []
        for process, task in zip(processes, tasks, strict=True):
            assert process.wait(task.seconds + 90) == 0, f"a client ended with {process.returncode}"
            tallies.append(msgspec.json.decode((self.folder / f"tally-{process.pid}").read_bytes(), type=Tally))
        return tallies

    def _take(self, tallies: list[Tally]) -> None:
        for tally in tallies:
            self.report.cut += tally.cut
            self.report.retry_after += tally.retry_after
            for stream, answers in tally.answers.items():
                self.report.answers.setdefault(stream, Counter()).update(answers)

    def _recover(self, ended_at: float) -> float | None:
        """Send bulk until it is taken; return how long that is after the last one of the storm was sent."""
        started = time.monotonic()
        body: dict[str, Any] = {"from": SENDER, "subject": "Calm", "text": "again", "stream": "bulk"}
        while time.monotonic() - started < 60:
            body["to"] = [f"calm{time.monotonic_ns()}@sink.example"]
            with contextlib.suppress(OSError):
                if self.serving.ask("POST", "/v1/messages", self.key, body)[0] == 202:
                    return time.time() - ended_at
            time.sleep(0.1)
        return None

    def _account(self) -> None:
        """Look for every accepted message in the database."""
        ids = [line for path in self.files if path.exists() for line in path.read_text("ascii").split()]
        engine = sa.create_engine(f"sqlite:///{self.serving.data / 'gatepost.db'}")
        with engine.connect() as conn:
            stored = set(conn.execute(sa.text("SELECT id FROM message")).scalars())
            settled = set(conn.execute(sa.text("SELECT message_id FROM recipient")).scalars())
        engine.dispose()
        self.report.accepted = len(ids)
        self.report.missing = [one for one in ids if one not in stored]
        self.report.without_recipient = sum(one not in settled for one in ids if one in stored)
        assert len(set(ids)) == len(ids), "an id was given twice"


class _Watch:
    """Looks at a process while a storm passes: its memory, and whether it answers."""

    def __init__(self, pid: int, url: str) -> None:
        self._process, self._url = psutil.Process(pid), url
        self._most, self._failures = 0, 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        n = 0
        while not self._is_over.wait(0.2):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._most = max(self._most, self._process.memory_info().rss)
            n += 1
            if n % 10 == 0:
                try:
                    urllib.request.urlopen(self._url, timeout=20).read()
                except OSError:
                    self._failures += 1

    def stop(self) -> tuple[int, bool]:
        """Return the most memory, and whether it always answered."""
        self._is_over.set()
        self._thread.join(30)
        return self._most, not self._failures


def _brief(line: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in line.items() if name not in {"event", "level", "process"})
