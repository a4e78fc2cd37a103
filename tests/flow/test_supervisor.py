"""`gatepost serve`: its children live, die and come back as promised."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gatepost.serve.notify import notify
from tests.flow.serving import Serving, gatepost, prepare, until


def _cores(children: list[int]) -> list[list[int]]:
    """List where the loops of some processes may run: each is its process's first thread."""
    return sorted(sorted(os.sched_getaffinity(pid)) for pid in children)


def _threads(children: list[int]) -> set[str]:
    """List where the database threads of some processes may run."""
    found = set()
    for pid in children:
        for one in Path(f"/proc/{pid}/task").iterdir():
            if int(one.name) != pid:
                with contextlib.suppress(OSError):  # it ended meanwhile
                    found.add((one / "status").read_text().partition("Cpus_allowed_list:")[2].split()[0])
    return found


def _runs(pid: int) -> bool:
    """Tell whether a process does anything still; one that ended may wait for whoever adopted it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


_LONG_LEASES = "workers.lease_s=600"
"""No test waits for such a lease to end: whoever needs a shard earlier must have been given it."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def key(data: Path) -> str:
    """A key, with a trusted domain, made before the first `serve`."""
    return prepare(data)


@pytest.fixture
def serving(data: Path, key: str) -> Iterator[Serving]:
    with Serving(data) as running:
        yield running


def test_a_killed_dispatch_process_is_replaced_and_mail_goes_on(data: Path, key: str) -> None:
    """SIGKILL of a dispatch process: its shards are given back at once, however long its leases ran, and a new one delivers."""
    with Serving(data, _LONG_LEASES) as serving:
        (old,) = serving.children("dispatch")
        first = serving.send(key)
        until(lambda: serving.status_of(key, first) == "delivered")
        os.kill(old, signal.SIGKILL)
        second = serving.send(key)
        until(lambda: serving.status_of(key, second) == "delivered")
        assert serving.children("dispatch") != [old]


def test_a_killed_nursery_takes_its_children_along_and_the_gateway_goes_on(data: Path, key: str) -> None:
    """SIGKILL of the process that children are forked from: they die with it, new ones are started as programs, mail goes on."""
    with Serving(data, _LONG_LEASES, f"http.listen=127.0.0.1:{_free_port()}") as serving:
        old = serving.children()
        nurseries = {psutil.Process(pid).ppid() for pid in old}
        assert len(nurseries) == 1
        os.kill(nurseries.pop(), signal.SIGKILL)
        until(lambda: len(set(serving.children()) - set(old)) == 2)
        until(lambda: serving.ask("GET", "/readyz")[0] == 200)
        message_id = serving.send(key)
        until(lambda: serving.status_of(key, message_id) == "delivered")
        assert not [pid for pid in old if _runs(pid)]
        assert {psutil.Process(pid).ppid() for pid in serving.children()} == {serving.process.pid}
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(25) == 0


def test_each_process_keeps_to_its_core_whoever_started_it(data: Path) -> None:
    """As many processes as cores: each has one of its own, forked from the nursery or started as a program; the supervisor keeps to none."""
    cores = sorted(os.sched_getaffinity(0))
    expected = [[core] for core in cores] if len(cores) > 1 else [cores, cores]
    with Serving(data, f"workers.dispatch={len(expected) - 1}", f"http.listen=127.0.0.1:{_free_port()}") as serving:
        old = serving.children()
        assert _cores(old) == expected
        if len(cores) > 1:  # the threads beside the loops go where there is room
            assert f"{cores[0]}-{cores[-1]}" in _threads(old)
        assert sorted(os.sched_getaffinity(serving.process.pid)) == cores
        os.kill(psutil.Process(old[0]).ppid(), signal.SIGKILL)
        until(lambda: len(set(serving.children()) - set(old)) == len(expected))
        until(lambda: _cores(serving.children()) == expected)


def test_a_killed_door_is_replaced_on_the_same_port(data: Path, key: str) -> None:
    """SIGKILL of the door process: another one answers at the same address."""
    port = _free_port()
    with Serving(data, f"http.listen=127.0.0.1:{port}") as serving:
        (old,) = serving.children("door")
        os.kill(old, signal.SIGKILL)
        until(lambda: serving.children("door") not in ([], [old]))
        assert until(lambda: serving.ask("GET", "/livez")[0] == 200)
        assert until(lambda: serving.send(key))


def test_sigterm_stops_everything_and_leaves_no_lease(serving: Serving, key: str) -> None:
    """SIGTERM: exit code 0, no child left, every shard given back, what was accepted is delivered or still queued."""
    serving.send(key)
    pids = serving.children()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(25) == 0
    assert not [pid for pid in pids if _runs(pid)]
    with sqlite3.connect(serving.data / "gatepost.db") as conn:
        assert conn.execute("SELECT count(*) FROM shard_lease WHERE owner IS NOT NULL").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM node").fetchone() == (0,)
    assert not (serving.data / "run" / "serve.json").exists()


def test_a_second_serve_is_refused_with_a_reason(serving: Serving) -> None:
    """Two supervisors on one data directory would both think that they are alone."""
    second = gatepost(serving.data, "serve", "--set", "http.listen=127.0.0.1:0", "--set", "smtp.listen=127.0.0.1:0")
    assert second.returncode == 1
    assert f"another gatepost serve (process {serving.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr


def test_children_die_with_a_killed_supervisor(serving: Serving) -> None:
    """SIGKILL of the supervisor: no child outlives it, so that the next one is alone."""
    pids = serving.children()
    assert len(pids) == 2
    serving.process.kill()
    serving.process.wait()
    until(lambda: not [pid for pid in pids if _runs(pid)], 3)


def test_a_start_right_after_a_killed_supervisor_works(data: Path, key: str) -> None:
    """What a power cut or an impatient operator does: kill, start again; mail flows at once, though leases were held."""
    with Serving(data, _LONG_LEASES) as first:
        message_id = first.send(key)
        until(lambda: first.status_of(key, message_id) == "delivered")
        first.process.kill()
        with Serving(data, _LONG_LEASES) as second:
            message_id = second.send(key)
            until(lambda: second.status_of(key, message_id) == "delivered")


def test_a_taken_port_is_said_and_not_tried_for_ever(data: Path) -> None:
    """A port in use: one sentence that names option and address, exit code 1, no child left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = gatepost(data, "serve", "--set", f"http.listen={address}", "--set", "smtp.listen=127.0.0.1:0")
    assert done.returncode == 1
    assert f"http.listen: {address} is in use" in done.stderr


def test_a_database_that_is_away_at_the_start_is_waited_for(data: Path) -> None:
    """Doors say 503 and 421 meanwhile, no child crashes, and SIGTERM still ends it cleanly."""
    http, smtp = _free_port(), _free_port()
    flags = ("database.url=postgresql://nobody@127.0.0.1:1/none", f"http.listen=127.0.0.1:{http}", f"smtp.listen=127.0.0.1:{smtp}")
    with Serving(data, *flags, is_ready=False) as serving:
        answer = until(lambda: _exchange(http, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After:" in answer
        assert b'"code":"storage_unavailable"' in answer
        assert _exchange(smtp, b"").startswith(b"421 4.3.1 ")
        pids = serving.children()
        assert len(pids) == 2
        time.sleep(1)
        assert serving.children() == pids, "a child crashed"
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(25) == 0


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(data: Path, tmp_path: Path) -> None:
    """sd_notify: READY=1 once the doors are open, WATCHDOG=1 in time, STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus:
        bus.bind(str(tmp_path / "n"))
        bus.settimeout(60)
        with Serving(data, is_ready=False, NOTIFY_SOCKET=str(tmp_path / "n"), WATCHDOG_USEC="1000000") as serving:
            heard = set()
            while not {b"READY=1", b"WATCHDOG=1"} <= heard:
                heard.add(bus.recv(100))
            serving.process.send_signal(signal.SIGTERM)
            while bus.recv(100) != b"STOPPING=1":
                pass


def test_the_beat_never_waits_for_whoever_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the buffer of systemd's socket full, beats are dropped; the supervisor goes on."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus:
        bus.bind(str(tmp_path / "n"))
        for _ in range(2000):  # more than any system's queue of datagrams
            notify("WATCHDOG=1")
        assert bus.recv(100) == b"WATCHDOG=1"


def test_the_operator_reads_where_it_listens_and_that_nothing_leaves(serving: Serving) -> None:
    """With the default route the first thing said is that mail stays here."""
    until(lambda: "Gatepost is ready." in serving.log)
    assert f"http://{serving.listening['http']}" in serving.log
    assert "nothing leaves this machine" in serving.log


def test_postgresql_without_schema_is_refused_until_migrated(data: Path, empty_postgres_url: str) -> None:
    """On PostgreSQL several machines may start at once: nobody migrates by accident."""
    flags = ("--set", f"database.url={empty_postgres_url}", "--set", "http.listen=127.0.0.1:0", "--set", "smtp.listen=127.0.0.1:0")
    refused = gatepost(data, "serve", *flags)
    assert refused.returncode == 1
    assert "run gatepost migrate" in refused.stderr
    assert gatepost(data, "migrate", *flags[:2]).returncode == 0
    key = prepare(data, database__url=empty_postgres_url)
    with Serving(data, f"database.url={empty_postgres_url}") as serving:
        message_id = serving.send(key)
        until(lambda: serving.status_of(key, message_id) == "delivered")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        if data:
            sock.sendall(data)
        found = b""
        while chunk := sock.recv(4096):
            found += chunk
    return found


def test_a_frozen_child_does_not_hold_up_the_stop(data: Path) -> None:
    """A child that does not react to SIGTERM is killed; a second signal does it at once."""
    with Serving(data) as serving:
        (pid,) = serving.children("dispatch")
        os.kill(pid, signal.SIGSTOP)
        serving.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            serving.process.wait(2)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(20) == 0


def test_an_open_page_does_not_hold_up_the_stop(serving: Serving) -> None:
    """A browser that listens for news is let go at once; the stop does not wait until it goes away."""
    host, port = serving.listening["http"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as page:
        page.sendall(f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        assert b"200 OK" in page.recv(4096)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(20) == 0


def test_ctrl_c_stops_it_like_sigterm(serving: Serving) -> None:
    """SIGINT to the whole foreground group, as a terminal sends it: exit code 0, no trace of an interrupted child."""
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(25) == 0
    assert "Traceback" not in serving.log


def test_the_metrics_of_all_processes_are_one(serving: Serving, key: str) -> None:
    """What the door counted and what a dispatch process counted stand in one answer, without the gauges of dead ones."""
    message_id = serving.send(key)
    until(lambda: serving.status_of(key, message_id) == "delivered")
    delivered = 'gatepost_recipients_final_total{{status="delivered"}} {}.0'
    until(lambda: delivered.format(1) in serving.text("/metrics"))  # it is counted a moment after it is on disk
    (old,) = serving.children("dispatch")
    os.kill(old, signal.SIGKILL)
    until(lambda: serving.children("dispatch") not in ([], [old]))
    message_id = serving.send(key)
    until(lambda: serving.status_of(key, message_id) == "delivered")
    until(lambda: delivered.format(2) in serving.text("/metrics"))
    text = serving.text("/metrics")
    assert 'gatepost_messages_accepted_total{source="http",stream="transactional"} 2.0' in text
    assert 'gatepost_recipients_final_total{status="delivered"} 2.0' in text
    assert text.count("gatepost_shards_owned{") == 1
