"""`gatepost serve` as a real subprocess on ephemeral ports, for tests."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import psutil

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.app.parts import create_domains
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.tenant import KeyMode
from gatepost.store import credentials
from gatepost.store.opening import open_store
from gatepost.tenants import keys

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of a `gatepost` subprocess: ours without options of the machine's own."""
    foreign = ("GATEPOST_", "NOTIFY_SOCKET", "WATCHDOG_", "PROMETHEUS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT / "src")} | more


def gatepost(data: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "gatepost", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**more), check=False)


def gatepost_json(data: Path, *arguments: str) -> Any:
    """Run one command with `--json`; it must succeed."""
    done = gatepost(data, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def prepare(data: Path, **flags: str) -> str:
    """Make a key and a trusted domain; return the key's secret."""

    async def run() -> str:
        loaded, clock = (
            settings.load(data, environ={}, flags={name.replace("__", "."): value for name, value in flags.items()}),
            SystemClock(),
        )
        engine = create_engine(loaded)
        tenant_id = await open_store(engine, clock)
        secret = keys.make_secret(KeyMode.LIVE)
        key = keys.describe(secret, tenant_id=tenant_id, name="test", mode=KeyMode.LIVE, now=clock.now())
        await engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
        await create_domains(loaded, engine, clock).add(tenant_id, "acme.example", by=GATEWAY, is_trusted=True)
        await engine.close()
        return secret

    return asyncio.run(run())


def until(condition: Any, seconds: float = 40.0) -> Any:
    """Wait until a condition holds; return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if value := condition():
                return value
        time.sleep(0.03)
    raise AssertionError("it did not happen in time")


class Serving:
    """One running `gatepost serve`."""

    def __init__(self, data: Path, *flags: str, is_ready: bool = True, **more: str) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self._log = (data / "serve.log").open("a+")
        usual = ("http.listen=127.0.0.1:0", "smtp.listen=127.0.0.1:0", "workers.dispatch=1")
        sets = [part for flag in (*usual, *flags) for part in ("--set", flag)]
        command = [sys.executable, "-m", "gatepost", "serve", "--data", str(data), *sets]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment(**more))
        if is_ready:
            try:
                self.wait_until_ready()
            except BaseException:
                self.__exit__()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pids = self.children()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        self._log.close()

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.data / "serve.log").read_text()

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log
            return self._facts["pid"] == self.process.pid

        until(is_ready, 60)

    @property
    def _facts(self) -> dict[str, Any]:
        return json.loads((self.data / "run" / "serve.json").read_text())

    @property
    def listening(self) -> dict[str, str]:
        """Address by door."""
        return self._facts["listening"]

    def children(self, role: str = "") -> list[int]:
        """Return the pids of the children, all or those of a role."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [child.pid for child in found if "_child" in child.cmdline() and (not role or role in child.cmdline())]
        return []

    def ask(self, method: str, path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
        """Make a request; return status and JSON."""
        request = urllib.request.Request(f"http://{self.listening['http']}{path}", method=method)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def text(self, path: str) -> str:
        """Fetch a text."""
        with urllib.request.urlopen(f"http://{self.listening['http']}{path}", timeout=10) as response:
            return response.read().decode()

    def send(self, key: str, to: str = "deliver@example.net") -> str:
        """Send a message; return its id."""
        status, answer = self.ask("POST", "/v1/messages", key, {"from": "shop@acme.example", "to": [to], "subject": "Hi", "text": "Hello"})
        assert status == 202, answer
        return answer["id"]

    def status_of(self, key: str, message_id: str) -> str:
        """Return a message's status."""
        return self.ask("GET", f"/v1/messages/{message_id}", key)[1]["status"]
