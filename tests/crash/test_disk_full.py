"""A disk that fills up under load, and is given room again."""

import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from gatepost.observe import metric_files
from tests.crash.clients import Load
from tests.crash.processes import Gateway, Sink, SmallDisk, scratch, wait_until
from tests.crash.verdict import drained, judge

_NOT_NOW = {"503", "451", "452", "421", "409"}


pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system; .ci/run is root")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_full_disk_refuses_for_now_and_recovers_without_a_restart():
    """While the disk is full clients hear 503 and 451 or 452 only; with room again mail is taken within ten seconds, and nothing was lost."""
    with scratch() as folder:
        disk, sink = SmallDisk(folder, 64), Sink(folder)
        gateway = Gateway(folder, sink.port, data=disk.path / "data")
        try:
            gateway.start()
            gateway.wait()
            processes = {role: gateway.pids(role) for role in ("supervisor", "door", "dispatch")}
            with Load(gateway, 2, 4, 4) as ledger:
                ledger.wait_for(60, 30)
                disk.fill()
                time.sleep(0.5)
                before, accepted = ledger.answers.copy(), len(ledger.accepted)
                time.sleep(3)
                during, taken = ledger.answers - before, len(ledger.accepted) - accepted
                disk.relieve()
                recovered_s = ledger.wait_for(40, 10)
            assert drained(gateway, 40), gateway.tail()
            assert {role: gateway.pids(role) for role in processes} == processes, gateway.tail()
            code, _ = gateway.terminate()
            verdict = judge(gateway, sink, ledger)
        finally:
            gateway.kill_all()
            sink.stop()
            disk.stop()
    print(f"while full: {dict(during)}, {taken} still accepted; mail was taken again after {recovered_s:.1f} s; {verdict}")
    assert not verdict.complaints()
    assert not ledger.wrong
    assert code == 0
    assert during["503"] and during["451"] + during["452"], during
    assert set(during) <= _NOT_NOW | {"202", "250"}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_start_on_a_full_disk_refuses_for_now_and_ends_well():
    """Killed and started again while the disk is full, the gateway answers 503 and 421, and works as soon as there is room."""
    with scratch() as folder:
        disk, sink = SmallDisk(folder, 64), Sink(folder)
        gateway = Gateway(folder, sink.port, data=disk.path / "data")
        try:
            gateway.start()
            gateway.wait()
            with Load(gateway, 5, 2, 2) as ledger:
                ledger.wait_for(20, 30)
                disk.fill()
                killed_at = time.time()
                gateway.kill_all()
                before = ledger.answers.copy()
                gateway.start()
                wait_until(
                    "both doors say: not now", lambda: disk.fill() or _refusals(ledger.answers - before) >= {"503", "4"}, 30, every_s=0.1
                )
                time.sleep(1)
                during = ledger.answers - before
                disk.relieve()
                try:
                    gateway.wait(20)
                except AssertionError:
                    print(gateway.log.read_text()[-6000:])
                    print(ledger.answers - before)
                    raise
                ledger.wait_for(10, 15)
            assert drained(gateway, 40), gateway.tail()
            code, _ = gateway.terminate()
            verdict = judge(gateway, sink, ledger, excuses=[killed_at])
        finally:
            gateway.kill_all()
            sink.stop()
            disk.stop()
    assert not verdict.complaints() and not ledger.wrong and code == 0
    assert set(during) <= _NOT_NOW | {"202", "250"}, during


def _refusals(answers: Counter[str]) -> set[str]:
    """Sum up the refusals: 503, and any temporary one of SMTP."""
    return {"4" if code.startswith("4") else code for code in answers}


def test_metrics_on_a_full_disk_do_not_end_the_process():
    """A metric that needs a new page of its file finds room that was taken at the start, or is counted in memory."""
    script = """
import sys
from gatepost.observe import metrics
sys.stdin.read()
for n in range(200):
    metrics.requests_refused.labels("http", f"code_number_{n}").inc()
    metrics.road_score.labels(f"road_number_{n}").set(n)
    metrics.scanner_up.labels(f"scanner_number_{n}").set(1)
    metrics.shards_owned.labels(f"node_number_{n}").set(n)
"""
    with scratch() as folder:
        disk = SmallDisk(folder, 4)
        try:
            (disk.path / "metrics").mkdir()
            environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(disk.path / "metrics"), "PYTHONPATH": "src"}
            before = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment)
            wait_until("the files are made", lambda: len(list((disk.path / "metrics").iterdir())) == len(metric_files._KINDS), 20)
            disk.fill()
            after = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment)
            for process in (before, after):
                process.communicate(timeout=30)
            codes = before.returncode, after.returncode
        finally:
            disk.stop()
    assert codes == (0, 0)
