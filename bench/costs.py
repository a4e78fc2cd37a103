"""
`python -m bench.costs`: where each microsecond of a message goes, in a running gateway; and what the parts could do alone.

A gateway as users run it (SQLite, RSA and Ed25519, SMTP in from smtp-source, out to smtp-sink) counts the processor time of each
step (bench/measured); a second run, not measured, says what a message really costs. `--markdown` prints the block of
docs/performance.md, `--write` puts it there.
"""

import argparse
import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import ceilings
from bench.gateway import Gateway
from bench.load import smtp_source
from bench.processes import Sink, free_port

_MEASURED = str(Path(__file__).parent / "measured")
_ORDER = {
    "door": (
        "SMTP protocol, in", "reading the MIME", "rules of accept", "screening", "limits", "compressing", "hand-over to the writer",
        "transaction of accept", "sealing", "unsealing", "commit", "handing over", "log and metrics", "event loop and sockets",
    ),
    "dispatch": (
        "handing over", "claim", "reading the queue", "reading messages", "unsealing", "decompressing", "lining up", "render", "canonicalise and hash",
        "RSA-2048", "Ed25519", "SMTP out", "delivery: deciding", "hand-over to the writer", "transaction of settle", "sealing", "commit",
        "log and metrics", "event loop and sockets",
    ),
}  # fmt: skip
_MEANING = {
    "event loop and sockets": "event loop, sockets and the kernel's part of them",
    "commit": "begin, commit, fsync without the waiting",
    "transaction of accept": "rows of accept",
    "transaction of settle": "rows of settle",
    "hand-over to the writer": "between loop and database thread",
    "handing over": "handing over from door to dispatch",
    "reading the MIME": "parse and check the MIME",
}
_PAGE = Path(__file__).parents[1] / "docs/performance.md"
_BEGIN, _END = "<!-- costs: begin -->", "<!-- costs: end -->"
_REST = "other threads and housekeeping"
_MOST_CALLS = 200_000


def _pair_us() -> float:
    """Return what it costs to measure one call."""
    # by path: Debian's interpreter has a sitecustomize of its own, which is loaded already
    measuring = runpy.run_path(str(Path(_MEASURED, "sitecustomize.py")))
    enter, leave = measuring["_enter"], measuring["_leave"]
    started = time.thread_time()
    for _ in range(_MOST_CALLS):
        enter("x")
        leave()
    return (time.thread_time() - started) / _MOST_CALLS * 1e6


class Costs:
    """What a run cost, in µs a message."""

    def __init__(self, parts: list[dict], count: int, pair_us: float) -> None:
        self.steps: dict[tuple[str, str], float] = {}
        self.kernel: dict[str, float] = {}
        self.measuring = 0.0
        for part in parts:
            self._add(part, count, pair_us)

    def _add(self, part: dict, count: int, pair_us: float) -> None:
        kind, before, after = part["kind"], part["before"], part["after"]
        used = {name: (after[name] - before[name]) / count * 1e6 for name in ("user", "kernel")}
        self.kernel[kind] = self.kernel.get(kind, 0) + used["kernel"]
        calls = {name: (n - before["calls"].get(name, 0)) / count for name, n in after["calls"].items()}
        spent = {name: (ns - before["spent"].get(name, 0)) / count / 1000 for name, ns in after["spent"].items()}
        measuring = sum(calls.values()) * pair_us
        self.measuring += measuring
        rest = sum(used.values()) - sum(spent.values())
        for name, us in spent.items():
            if name.startswith("thread") or name not in _ORDER.get(kind, ()):
                rest += us
            else:  # half of what measuring costs lies inside the step, half around it
                self._put(kind, name, us - calls.get(name, 0) * pair_us / 2)
        self._put(kind, _REST, rest)

    def _put(self, kind: str, name: str, us: float) -> None:
        self.steps[kind, name] = self.steps.get((kind, name), 0) + us

    @property
    def total(self) -> float:
        return sum(self.steps.values())

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Yield process, step, µs and per cent: in the order of a message's way."""
        kinds = [*_ORDER, *sorted({kind for kind, _ in self.steps} - set(_ORDER))]
        for kind in kinds:
            for name in (*_ORDER.get(kind, ()), _REST):
                us = self.steps.get((kind, name))
                if us is not None:
                    yield kind, _MEANING.get(name, name), us, us / self.total * 100


def _sent(gateway: Gateway, sink: Sink, folder: Path, count: int) -> float:
    """Send so many messages through; return the seconds until the last has arrived."""
    base, started = sink.count(), time.perf_counter()
    source = smtp_source(gateway.smtp_port, count, 5_000, 20, folder / "smtp-source.log")
    while sink.count() - base < count:
        if time.perf_counter() - started > 600:
            raise SystemExit("messages did not arrive")
        gateway.cpu()
        time.sleep(0.02)
    source.wait(30)
    return time.perf_counter() - started


def _measured(folder: Path, count: int) -> Costs:
    where = folder / "costs"
    where.mkdir()
    sink = Sink(folder, free_port())
    gateway = Gateway(folder, sink.port, PYTHONPATH=_MEASURED, COSTS_FOLDER=str(where))
    try:
        _sent(gateway, sink, folder, max(count // 10, 200))
        (where / "begin").touch()
        time.sleep(0.1)
        _sent(gateway, sink, folder, count)
        (where / "end").touch()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and len(list(where.glob("d*.json"))) < 2:
            time.sleep(0.05)
        time.sleep(0.2)
    finally:
        gateway.stop()
        sink.stop()
    parts = [json.loads(path.read_text()) for path in where.glob("*.json")]
    return Costs(parts, count, _pair_us())


def _plain(folder: Path, count: int) -> dict[str, float]:
    sink = Sink(folder, free_port())
    gateway = Gateway(folder, sink.port)
    try:
        _sent(gateway, sink, folder, max(count // 10, 200))
        before = gateway.cpu()
        seconds = _sent(gateway, sink, folder, count)
        return {"us": (gateway.cpu() - before) / count * 1e6, "per_s": count / seconds}
    finally:
        gateway.stop()
        sink.stop()


def markdown(costs: Costs, plain: dict[str, float], limits: dict[str, float]) -> str:
    lines = ["| process | step | µs a message | % |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {kind} | {name} | {us:.0f} | {share:.1f} |" for kind, name, us, share in costs.rows()]
    kernel = ", ".join(f"{kind} {us:.0f}" for kind, us in sorted(costs.kernel.items()))
    lines += [
        f"| | **sum** | **{costs.total:.0f}** | |",
        "",
        f"In the kernel: {sum(costs.kernel.values()):.0f} µs of it ({kernel}). Measuring took {costs.measuring:.0f} µs of it.",
        f"Not measured, a message cost {plain['us']:.0f} µs, and {plain['per_s']:,.0f} a second were delivered.",
        "",
        "| limit, measured alone in the same run | |",
        "| --- | ---: |",
        *[f"| {name} | {value:,.0f} |" for name, value in limits.items()],
        "",
        *_distances(costs, plain, limits),
    ]
    return "\n".join(lines)


def _distances(costs: Costs, plain: dict[str, float], limits: dict[str, float]) -> list[str]:
    """Say how far a message is from what its parts could do alone."""
    rsa, cores = limits["RSA-2048 alone, µs a signature"], os.cpu_count() or 1
    smtp = limits["our client, µs a message"] + limits["our server, µs a message"]
    rows = limits["SQLite alone, groups of 100: µs a row in, read and out"]
    floor = rsa + limits["Ed25519 alone, µs a signature"] + smtp + rows
    return [
        f"- RSA alone: {cores} cores could sign {cores / rsa * 1e6:,.0f} messages a second; {plain['per_s'] / (cores / rsa * 1e6):.0%} of that is delivered.",
        f"- A message costs {plain['us'] / rsa:.1f} × its RSA signature.",
        f"- Signatures, SMTP on both sides and a row in and out alone are {floor:.0f} µs; a message costs {plain['us'] / floor:.1f} × that.",
        f"- smtp-source into smtp-sink, with nothing between: {plain['per_s'] / limits['smtp-source → smtp-sink, messages/s']:.1%} of it is delivered.",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="where each microsecond of a message goes")
    parser.add_argument("--count", type=int, default=6_000, help="messages of one run")
    parser.add_argument("--markdown", action="store_true", help="print the block of docs/performance.md")
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        import uvloop

        uvloop.install()  # as in the gateway
        limits = ceilings.measure(folder, options.count)
        plain, costs = _plain(folder, options.count), _measured(folder, options.count)
    if options.markdown or options.write:
        block = markdown(costs, plain, limits)
        print(block)
        if options.write:
            head, _, rest = _PAGE.read_text().partition(_BEGIN)
            _PAGE.write_text(f"{head}{_BEGIN}\n{block}\n{_END}{rest.partition(_END)[2]}")
        return
    table = Table(title=f"µs a message, of {options.count:,}")
    for column in ("process", "step", "µs", "%"):
        table.add_column(column, justify="right" if column in {"µs", "%"} else "left")
    for kind, step, us, share in costs.rows():
        table.add_row(kind, step, f"{us:.1f}", f"{share:.1f}")
    table.add_row("", "[bold]sum", f"[bold]{costs.total:.0f}", "")
    table.add_row("", "of it in the kernel", f"{sum(costs.kernel.values()):.0f}", "")
    table.add_row("", "of it measuring", f"{costs.measuring:.0f}", "")
    table.add_row("", "a message of a run that is not measured", f"{plain['us']:.0f}", "")
    for limit, value in limits.items():
        table.add_row("alone", limit, f"{value:,.1f}", "")
    console = Console(width=120, file=sys.stdout)
    console.print(table)
    console.print("\n".join(_distances(costs, plain, limits)), highlight=False)


if __name__ == "__main__":
    main()
