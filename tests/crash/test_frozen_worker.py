"""A dispatch process that stands still for longer than its lease, and comes back."""

import asyncio
import fcntl
import os
import signal
import time

import pytest
import sqlalchemy as sa

from gatepost.domain import route as routes
from gatepost.store.opening import create_engine
from tests.crash.clients import Load
from tests.crash.processes import Gateway, Sink, scratch, wait_until
from tests.crash.verdict import drained, judge

_ANSWER_AFTER_S = 2
_CONNECTIONS = 5


def _owner(gateway: Gateway) -> int:
    """Find the process that delivers to the sink."""
    shard = routes.shard_of(routes.DEFAULT_POOL, routes.roads_of("sink")[0].site_of("sink.example"))

    async def ask() -> int:
        engine = create_engine(gateway.database_url, gateway.data)
        try:
            statement = sa.text(f"SELECT node.pid FROM shard_lease JOIN node ON node.id = shard_lease.owner WHERE shard = {shard}")
            return int(await engine.read(lambda conn: conn.execute(statement).scalar() or 0))
        finally:
            await engine.close()

    return asyncio.run(ask())


def _freeze(gateway: Gateway, pid: int) -> None:
    """Stop a process, but not while it holds the lock on the database: then nobody could go on."""
    handle = os.open(gateway.data / "write.lock", os.O_RDWR)
    try:
        for _ in range(50):
            os.kill(pid, signal.SIGSTOP)
            for _ in range(20):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.01)
                else:
                    return
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
        raise AssertionError("the process always holds the lock")
    finally:
        os.close(handle)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_frozen_worker_is_replaced_and_its_late_results_are_refused():
    """The other worker delivers within seconds of the lease's end; the fence keeps the late results of the first from the records."""
    with scratch() as folder:
        sink = Sink(folder, arguments=("-W", f".:{_ANSWER_AFTER_S}"))
        gateway = Gateway(folder, sink.port, WORKERS__DISPATCH="2", EGRESS__CONNECTIONS_PER_RELAY=str(_CONNECTIONS))
        try:
            gateway.start()
            gateway.wait()
            wait_until("a process owns the sink's shard", lambda: _owner(gateway), 15, every_s=0.2)
            with Load(gateway, 1, 1, 1, with_large=False) as ledger:
                ledger.wait_for(12, 30)
                ledger.allowed = 0
            time.sleep(0.7)  # the sink has content of all connections now, and has not answered it
            frozen, started = _owner(gateway), time.monotonic()
            _freeze(gateway, frozen)
            assert drained(gateway, 40), "the other worker did not deliver"
            took_s = time.monotonic() - started
            assert gateway.pids("dispatch").count(frozen) == 1
            os.kill(frozen, signal.SIGCONT)
            wait_until("late results are refused", lambda: gateway.logged("a result came too late"), 15)
            assert gateway.metric("gatepost_results_fenced_total") >= 1
            assert gateway.metric("gatepost_shards_taken_over_total") >= 1
            time.sleep(1)
            code, _ = gateway.terminate()
            verdict = judge(gateway, sink, ledger)
        finally:
            gateway.kill_all()
            sink.stop()
    print(f"delivered by the other worker within {took_s:.1f} s, {verdict.duplicates} extra copies of {verdict.accepted}")
    assert code == 0
    assert not verdict.lost and not verdict.changed_ids and not verdict.unfinished and not verdict.without_one_end
    assert 1 <= verdict.duplicates <= 3 * _CONNECTIONS  # no more messages than were under way, each once more
