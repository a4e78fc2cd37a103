"""Stops under load: SIGTERM again and again, and every message goes out exactly once."""

import contextlib
import random
import time
from dataclasses import dataclass, field

from tests.crash.clients import Load
from tests.crash.processes import Gateway, Postgres, Sink, scratch
from tests.crash.verdict import Verdict, drained, judge

MOST_S = 30.0


@dataclass(slots=True, kw_only=True)
class Stops:
    """What happened."""

    seed: int
    engine: str
    seconds: list[float] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)
    verdict: Verdict
    trouble: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Say what breaks a promise; empty when all is well."""
        found = [*self.verdict.complaints(), *self.trouble]
        found += [f"exit codes {self.codes}"] if any(self.codes) or None in self.codes else []
        found += [f"{self.verdict.duplicates} duplicates"] if self.verdict.duplicates else []
        return found + ([f"a stop took {max(self.seconds):.1f} s"] if max(self.seconds) > MOST_S else [])

    def lines(self) -> list[str]:
        """Tell it to a person."""
        verdict = self.verdict
        return [
            f"engine {self.engine} · seed {self.seed} · {len(self.seconds)} SIGTERMs under load, the longest stop took {max(self.seconds):.1f} s",
            f"  accepted    {verdict.accepted}",
            f"  lost        {len(verdict.lost)}",
            f"  duplicates  {verdict.duplicates}",
            *[f"  BROKEN      {complaint}" for complaint in self.complaints],
        ]


def run(engine: str, stops: int, seed: int, clients: int = 8) -> Stops:
    """Start, load, stop, so many times; then judge."""
    chance = random.Random(seed)
    with scratch() as folder, contextlib.ExitStack() as stack:
        postgres = Postgres(folder) if engine == "postgresql" else None
        if postgres is not None:
            stack.callback(postgres.kill)
        sink = Sink(folder)
        stack.callback(sink.stop)
        gateway = Gateway(folder, sink.port, database_url=postgres.url if postgres else "")
        stack.callback(gateway.kill_all)
        result = Stops(seed=seed, engine=engine, verdict=Verdict(accepted=0, arrived=0))
        with Load(gateway, seed, clients, clients) as ledger:
            for _ in range(stops):
                gateway.start()
                gateway.wait()
                ledger.wait_for(chance.randint(5, 60), 30)
                time.sleep(chance.random() * 0.05)
                code, seconds = gateway.terminate()
                result.codes.append(code)
                result.seconds.append(seconds)
            gateway.start()
            gateway.wait()
        result.trouble += ledger.wrong[:5]
        if not drained(gateway, 60):
            result.trouble.append("the queue is not empty after 60 s")
        result.codes.append(gateway.terminate()[0])
        result.trouble += gateway.faults()
        result.verdict = judge(gateway, sink, ledger)
        return result
