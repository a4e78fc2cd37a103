"""Start and throughput with a full queue: a million messages that were due long ago, to many sites."""

import time
from pathlib import Path

from bench.filling import Row, fill
from bench.gateway import Gateway
from bench.processes import Sink, free_port


def _row(n: int, now: int, tenant_id: str) -> Row:
    """A quarter is due to one relay, the rest was deferred to later at 10,000 sites."""
    is_due = n % 4 == 0
    return Row("sink" if is_due else "mx", f"d{n % 10_000}.example", 1, now - 60_000 if is_due else now + 3_600_000, tenant_id)


def _drain_rate(folder: Path, count: int) -> tuple[float, float, float]:
    """Return seconds to the first delivery, deliveries per second over the next 20,000, and the largest process."""
    sink = Sink(folder, free_port())
    started = [0.0]

    def prepare(gateway: Gateway) -> None:
        fill(gateway.data, gateway.environment["GATEPOST_DATABASE__URL"], count, _row)
        started[0] = time.perf_counter()

    gateway = Gateway(folder, sink.port, prepare=prepare, GATEPOST_EGRESS__MX_PORT=str(free_port()))
    try:
        while sink.count() == 0:
            time.sleep(0.01)
        first_s = time.perf_counter() - started[0]
        base, begin = sink.count(), time.perf_counter()
        wanted = min(20_000, count // 4 - base)
        while sink.count() - base < wanted:
            gateway.cpu()
            time.sleep(0.05)
        return first_s, wanted / (time.perf_counter() - begin), gateway.process.largest_mb
    finally:
        gateway.stop()
        sink.stop()


def run(folder: Path, count: int, _bench) -> dict[str, float]:
    """Compare a queue of `count` with one that holds little more than what is delivered."""
    _, empty_per_s, _ = _drain_rate(folder, 4 * 22_000)
    first_s, full_per_s, largest_mb = _drain_rate(folder, count)
    return {
        "queued": count, "first_delivery_s": first_s, "delivered_per_s": full_per_s, "small_queue_per_s": empty_per_s, "ratio": full_per_s / empty_per_s,
        "largest_process_mb": largest_mb,
    }  # fmt: skip
