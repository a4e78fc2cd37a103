"""
The kill loop: a gateway under load whose processes are killed at random moments, again and again.

A kill counts when it hit a living process while a client waited for an answer. Whoever is killed is started again: a
child by its supervisor, the supervisor by us. At the end everything is delivered and judged.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.clients import Ledger, crowd
from tests.crash.processes import Gateway, Postgres, Sink, scratch
from tests.crash.verdict import Verdict, drained, judge

_DELIVERS = frozenset({"dispatch", "supervisor", "all"})
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    One run.

    Attributes:
        messages: At least so many are handed in.
        http: Number of HTTP clients; `smtp` likewise.
    """

    engine: str
    kills: int
    messages: int
    seed: int
    http: int = 8
    smtp: int = 8


@dataclass(slots=True, kw_only=True)
class Report:
    """What happened."""

    plan: Plan
    verdict: Verdict
    ledger: Ledger
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    exit_code: int | None = None
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Say what breaks a promise; empty when all is well."""
        found = [*self.verdict.complaints(), *self.ledger.wrong[:5], *self.trouble]
        found += [f"only {sum(self.kills.values())} kills counted"] if sum(self.kills.values()) < self.plan.kills else []
        found += [f"only {self.ledger.issued} messages were handed in"] if self.ledger.issued < self.plan.messages else []
        return found + ([f"exit code {self.exit_code}"] if self.exit_code != 0 else [])

    def lines(self) -> list[str]:
        """Tell it to a person."""
        verdict, ledger, plan = self.verdict, self.ledger, self.plan
        kills = ", ".join(f"{role} {count}" for role, count in sorted(self.kills.items()))
        share = verdict.duplicates / max(verdict.accepted, 1)
        return [
            f"engine {plan.engine} · seed {plan.seed} · {self.seconds:.0f} s",
            f"  kills       {sum(self.kills.values())} under load ({kills}); {self.restarts} restarts",
            f"  messages    {ledger.issued} handed in by {plan.http} HTTP and {plan.smtp} SMTP clients; {ledger.cut} answers cut off by a kill",
            f"  accepted    {verdict.accepted}",
            f"  lost        {len(verdict.lost)}",
            f"  duplicates  {verdict.duplicates} ({share:.2%} of the accepted), at most {verdict.most_at_one_excuse} at one kill",
            f"              first copy at most {verdict.longest_ms:.0f} ms before its kill; {len(verdict.unexplained)} without a kill",
            f"              {len(verdict.changed_ids)} with another Message-ID",
            f"  answers     {dict(sorted(ledger.answers.items()))}",
            *[f"  BROKEN      {complaint}" for complaint in self.complaints],
        ]


def run(plan: Plan) -> Report:
    """Run a kill loop from a fresh database to the verdict."""
    started = time.monotonic()
    with scratch() as folder, contextlib.ExitStack() as stack:
        postgres = Postgres(folder) if plan.engine == "postgresql" else None
        if postgres is not None:
            stack.callback(postgres.kill)
        sink = Sink(folder)
        stack.callback(sink.stop)
        gateway = Gateway(folder, sink.port, database_url=postgres.url if postgres else "")
        stack.callback(gateway.kill_all)
        report = _run(plan, gateway, sink)
        report.seconds = time.monotonic() - started
        _keep_log(report, gateway, plan)
        return report


def _run(plan: Plan, gateway: Gateway, sink: Sink) -> Report:
    gateway.start()
    gateway.wait()
    ledger = Ledger()
    killer = _Killer(plan, gateway, ledger)
    asyncio.run(_under_load(plan, gateway, ledger, killer))
    report = Report(plan=plan, verdict=Verdict(accepted=0, arrived=0), ledger=ledger, kills=killer.kills, trouble=killer.trouble)
    if not drained(gateway, 90):
        report.trouble.append("the queue is not empty after 90 s")
    report.exit_code, _ = gateway.terminate()
    report.verdict = judge(gateway, sink, ledger, excuses=[at for at, role in killer.times if role in _DELIVERS])
    report.trouble += gateway.faults()
    report.restarts = gateway.starts - 1 + gateway.logged("a child ended")
    return report


async def _under_load(plan: Plan, gateway: Gateway, ledger: Ledger, killer: "_Killer") -> None:
    clients = [asyncio.create_task(client.run()) for client in crowd(gateway, ledger, plan.seed, plan.http, plan.smtp)]
    try:
        await killer.run()
        ledger.allowed = max(ledger.allowed, plan.messages)
        ledger.is_over = True
        done, late = await asyncio.wait(clients, timeout=_PATIENCE_S + plan.messages / 50)
        for client in done:
            client.result()
        if late:
            killer.trouble.append(f"{len(late)} clients did not come to an end")
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


class _Killer:
    """Picks moments and victims."""

    def __init__(self, plan: Plan, gateway: Gateway, ledger: Ledger) -> None:
        self.plan, self.gateway, self.ledger = plan, gateway, ledger
        self.chance = random.Random(plan.seed)
        self.kills: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []
        self.trouble: list[str] = []
        self.victims = _victims(plan.kills, self.chance)

    async def run(self) -> None:
        """Kill until the plan is fulfilled."""
        per_kill = self.plan.messages / max(self.plan.kills, 1)
        for number, role in enumerate(self.victims):
            progress = int(self.chance.uniform(0.1, 0.9) * per_kill) if self.chance.random() < 0.8 else 0
            # clients may hand in what the wait is for, and some more: else it would wait for what nobody sends
            ahead = self.ledger.issued + progress + self.plan.http + self.plan.smtp
            self.ledger.allowed = max(int(per_kill * (number + 1.3)), ahead)
            await self._wait_for_progress(progress)
            await asyncio.sleep(self.chance.random() * 0.05)
            if not await self._kill(role):
                return

    async def _wait_for_progress(self, count: float) -> None:
        """Let so many more messages be accepted: the next kill then comes in the midst of them."""
        goal, deadline = len(self.ledger.accepted) + count, time.monotonic() + 15
        while len(self.ledger.accepted) < goal and time.monotonic() < deadline:
            await asyncio.sleep(0.003)

    async def _kill(self, role: str) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            self._revive()
            pids = self.gateway.pids("supervisor" if role == "all" else role)
            if pids and self.ledger.busy:
                self._strike(role, self.chance.choice(pids))
                return True
            self.ledger.allowed = max(self.ledger.allowed, self.ledger.issued + 1 + self.ledger.busy)
            await asyncio.sleep(0.01)
        self.trouble.append(f"no living {role} under load for {_PATIENCE_S:.0f} s")
        return False

    def _strike(self, role: str, pid: int) -> None:
        self.times.append((time.time(), role))
        self.kills[role] += 1
        if role == "all":
            self.gateway.kill_all()
        else:
            os.kill(pid, signal.SIGKILL)
        if role == "supervisor":
            assert self.gateway.process is not None
            self.gateway.process.wait(10)
        if role in {"all", "supervisor"}:
            self.gateway.start()

    def _revive(self) -> None:
        """Start a gateway that ended by itself, and complain."""
        if self.gateway.is_gone:
            assert self.gateway.process is not None
            self.trouble.append(f"the supervisor ended by itself with {self.gateway.process.returncode}: {self.gateway.tail(3)}")
            self.gateway.start()


def _victims(count: int, chance: random.Random) -> list[str]:
    """Draw who is killed: in every four a door, a dispatch process and a whole gateway, which also ends the supervisor's back-off."""
    drawn: list[str] = []
    for number in range(-(-count // 4)):
        four = ["door", "dispatch", chance.choice(["door", "dispatch"]), ["all", "supervisor"][number % 2]]
        chance.shuffle(four)
        drawn += four
    return drawn[:count]


def _keep_log(report: Report, gateway: Gateway, plan: Plan) -> None:
    """Keep the gateway's log of a run that broke a promise."""
    if report.complaints:
        kept = Path(f"/tmp/gatepost-crash-{plan.engine}-{plan.seed}.log")
        kept.write_bytes(gateway.log.read_bytes())
        print(f"the gateway's log is kept in {kept}", file=sys.stderr)
