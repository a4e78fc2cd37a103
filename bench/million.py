"""
Start and throughput with a full queue: a million messages, a quarter of them due long ago to one relay, the rest later to many sites.

Beside rates there is the processor time of the gateway, which says the same on a machine that does something else, too.
"""

import time
from pathlib import Path

from bench.filling import Row, fill
from bench.gateway import Gateway
from bench.processes import Sink, free_port

_COUNTED = 20_000


def _row(n: int, now: int, tenant_id: str) -> Row:
    """A quarter is due to one relay, the rest was deferred to later at 10,000 sites."""
    is_due = n % 4 == 0
    return Row("sink" if is_due else "mx", f"d{n % 10_000}.example", 1, now - 60_000 if is_due else now + 3_600_000, tenant_id)


def _drain(folder: Path, count: int) -> dict[str, float]:
    """Start with so many in the queue; return what the first delivery took and what the next ones do."""
    sink = Sink(folder, free_port())
    started = [0.0]

    def prepare(gateway: Gateway) -> None:
        fill(gateway.data, gateway.environment["GATEPOST_DATABASE__URL"], count, _row)
        started[0] = time.perf_counter()

    gateway = Gateway(folder, sink.port, prepare=prepare, GATEPOST_EGRESS__MX_PORT=str(free_port()))
    try:
        while (base := sink.count()) == 0:
            time.sleep(0.01)
        begin, cpu = time.perf_counter(), gateway.cpu()
        found = {"first_delivery_s": begin - started[0], "first_delivery_cpu_s": cpu}
        wanted = min(_COUNTED, count // 4 - base)
        while sink.count() - base < wanted:
            gateway.cpu()
            time.sleep(0.05)
        return found | {
            "delivered_per_s": wanted / (time.perf_counter() - begin),
            "cpu_s_per_1000": (gateway.cpu() - cpu) / wanted * 1000,
            "largest_process_mb": gateway.process.largest_mb,
        }
    finally:
        gateway.stop()
        sink.stop()


def run(folder: Path, count: int, _bench) -> dict[str, float]:
    """Compare a queue of `count` with one that holds little more than what is delivered."""
    small = _drain(folder, 4 * (_COUNTED + 2_000))
    full = _drain(folder, count)
    return {
        "queued": count, **full, **{f"small_queue_{name}": value for name, value in small.items()},
        "ratio": full["delivered_per_s"] / small["delivered_per_s"], "cpu_ratio": full["cpu_s_per_1000"] / small["cpu_s_per_1000"],
    }  # fmt: skip
