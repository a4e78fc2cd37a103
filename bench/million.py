"""Start and throughput with a full queue: a million messages that were due long ago, to many sites."""

import asyncio
import time
from pathlib import Path

from bench.gateway import Gateway
from bench.processes import Sink, free_port
from gatepost import ids
from gatepost.domain import route as routes
from gatepost.store import messages, queue
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine

_CONTENT = (
    b"From: sender@bench.example\r\nTo: rcpt@sink.example\r\nSubject: queued\r\nMessage-ID: <x@bench.example>\r\n\r\n" + b"x" * 70 + b"\r\n"
)


def _fill(gateway: Gateway, count: int) -> None:
    """Write rows as accept does, without the doors: a quarter to one relay, the rest deferred to later at 10,000 sites."""

    async def main() -> None:
        engine = create_engine(gateway.environment["GATEPOST_DATABASE__URL"], gateway.data)
        from gatepost.store import tenants

        tenant_id = await engine.read(lambda conn: tenants.by_name(conn, "default"))
        stored = LocalBlobs(gateway.data / "blobs").put(_CONTENT)
        now = int(time.time() * 1000)
        for start in range(0, count, 2000):
            size = min(2000, count - start)
            await engine.write(lambda conn, start=start, size=size: _insert(conn, tenant_id, stored, now, start, size))
        await engine.close()

    asyncio.run(main())


def _insert(conn, tenant_id, stored, now, start, size) -> None:
    rows = []
    for n in range(start, start + size):
        is_due = n % 4 == 0
        route = "sink" if is_due else "mx"
        address = f"rcpt@d{n % 10_000}.example"
        site = routes.site_of(route, address.partition("@")[2])
        rows.append((ids.new_message_id(), route, address, site, now - 60_000 if is_due else now + 3_600_000))
    messages.insert(
        conn,
        [
            {
                "id": mid, "tenant_id": tenant_id, "created_at": now, "stream": "transactional", "lane": 1, "source": "http", "key_id": "key_x",
                "envelope_from": "sender@bench.example", "from_": "sender@bench.example", "from_domain": "bench.example", "subject": "queued",
                "message_id_header": "x", "size_bytes": len(_CONTENT), "is_8bit": False, "is_smtputf8": False, "is_sandbox": False, "route": route, "tags": [],
                "metadata": {}, "scheduled_at": None, "expires_at": now + 86_400_000, "options": {},
            }
            for mid, route, _, _, _ in rows
        ],
        [{"message_id": mid, "encoding": stored[0], "data": stored[1]} for mid, *_ in rows],
        [
            {
                "message_id": mid, "n": 0, "tenant_id": tenant_id, "address": address, "address_key": address, "kind": "to", "site": site, "status": "queued",
                "reason": None, "attempts": 0, "last_reply": None, "last_host": None, "updated_at": now, "final_at": None, "notify": None, "orcpt": None,
            }
            for mid, _, address, site, _ in rows
        ],
    )  # fmt: skip
    queue.insert(
        conn,
        [
            {
                "shard": routes.shard_of("default", site), "lane": 1, "due_at": due_at, "message_id": mid, "n": 0, "tenant_id": tenant_id, "pool": "default",
                "site": site, "attempt": 1, "retries": 0, "expires_at": now + 86_400_000,
            }
            for mid, _, _, site, due_at in rows
        ],
    )  # fmt: skip


def _drain_rate(folder: Path, count: int) -> tuple[float, float, float]:
    """Return seconds to the first delivery, deliveries per second over the next 20,000, and the largest process."""
    sink = Sink(folder, free_port())
    started = [0.0]

    def prepare(gateway: Gateway) -> None:
        _fill(gateway, count)
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
