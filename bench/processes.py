"""Processes of a bench run: started in their own session, measured by what the kernel counted, stopped for sure."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(5)
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


class PeerMissing(Exception):  # noqa: N818
    """A peer is not on this machine, and cannot be fetched; the message says why."""


class Group:
    """Counts the processor time of all processes that descend from one, those too that ended and nobody waited for: a control group."""

    def __init__(self, name: str) -> None:
        first = Path("/sys/fs/cgroup/cpuacct")
        self._file = "cpuacct.usage" if first.is_dir() else "cpu.stat"
        self._folder: Path | None = (first if first.is_dir() else Path("/sys/fs/cgroup")) / f"gatepost_bench_{name}_{os.getpid()}"
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError:  # not allowed here: then it is not measured
            self._folder = None

    def enter(self) -> None:
        """Put the calling process in."""
        if self._folder is not None:
            (self._folder / "cgroup.procs").write_text("0")

    def cpu(self) -> float:
        """Return seconds so far; nan where they cannot be counted."""
        if self._folder is None:
            return float("nan")
        text = (self._folder / self._file).read_text()
        return int(text) / 1e9 if self._file == "cpuacct.usage" else int(text.split()[1]) / 1e6

    def end(self) -> None:
        """Kill what is left in it, and remove it."""
        if self._folder is None:
            return
        for _ in range(50):
            pids = (self._folder / "cgroup.procs").read_text().split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.1)


class Process:
    """A command with its children."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None, group: Group | None = None) -> None:
        self._log = log.open("ab")
        self._popen = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            preexec_fn=group.enter if group is not None else None,  # noqa: PLW1509 - the bench has no threads when it starts a peer
        )
        self._seen: dict[int, float] = {}
        self.peak_mb = 0.0
        self.largest_mb = 0.0

    @property
    def pid(self) -> int:
        return self._popen.pid

    def sample(self) -> float:
        """Return the CPU seconds of the whole tree so far; keep the peak of its memory."""
        total_mb = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for one in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    times, size = one.cpu_times(), one.memory_info().rss / 1e6
                    # ended children are counted by their parent
                    self._seen[one.pid] = (
                        times.user + times.system + (times.children_user + times.children_system if one.pid == self.pid else 0)
                    )
                    total_mb += size
                    self.largest_mb = max(self.largest_mb, size)
        self.peak_mb = max(self.peak_mb, total_mb)
        return sum(self._seen.values())

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 40) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, sig)
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
        self._log.close()

    def wait(self, seconds: float) -> int:
        return self._popen.wait(seconds)

    def poll(self) -> int | None:
        return self._popen.poll()


class Sink:
    """Debian's smtp-sink, which counts the messages that it takes."""

    def __init__(self, folder: Path, port: int, arguments: tuple[str, ...] = ()) -> None:
        self._out = folder / f"sink-{port}.log"
        self._out.write_bytes(b"")
        user = ["-u", "postfix"] if os.getuid() == 0 else []
        self.process = Process(["/usr/sbin/smtp-sink", *user, "-c", *arguments, f"127.0.0.1:{port}", "1024"], self._out)
        self.port = port
        wait_for_port(port)

    def count(self) -> int:
        with self._out.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 200))
            found = re.findall(rb"mesg=(\d+)\r", file.read())
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        self.process.stop(seconds=5)
