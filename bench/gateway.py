"""Gatepost itself, run as a user would run it: `gatepost serve` on a fresh data folder, a relay to the sink."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.processes import Process, free_port


class Gateway:
    """One run of Gatepost."""

    def __init__(self, folder: Path, sink_port: int, *, database_url: str = "", prepare=None, **settings: str) -> None:
        self.data = folder / "gatepost"
        shutil.rmtree(self.data, ignore_errors=True)
        self.http_port, self.smtp_port = free_port(), free_port()
        self.environment = {
            "GATEPOST_HTTP__LISTEN": f"127.0.0.1:{self.http_port}",
            "GATEPOST_SMTP__LISTEN": f"127.0.0.1:{self.smtp_port}",
            "GATEPOST_RELAYS__SINK__URL": f"smtp://127.0.0.1:{sink_port}?tls=never",
            "GATEPOST_EGRESS__DEFAULT_ROUTE": "sink",
            "GATEPOST_DATABASE__URL": database_url,
            **settings,
        }
        if database_url:
            self.command("migrate")
        self.key = self.command("key", "create", "--name", "bench", "--trust-cidr", "127.0.0.0/8")["key"]
        self.command("domain", "add", "bench.example", "--trust")
        if prepare is not None:
            prepare(self)
        self.process = Process(
            [sys.executable, "-m", "gatepost", "serve", "--data", str(self.data)], folder / "gatepost.log", self.environment
        )
        self._wait_until_ready()

    def command(self, *arguments: str):
        command = [sys.executable, "-m", "gatepost", *arguments, "--data", str(self.data), "--json"]
        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **self.environment})
        return json.loads(done.stdout) if done.stdout.strip() else None

    def _wait_until_ready(self) -> None:
        """A port may be answered by the stand-in that says "not yet"; this file is there once everything runs."""
        deadline = time.monotonic() + 60
        while not (self.data / "run/serve.json").exists():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("the gateway did not start; see its log")
            time.sleep(0.02)

    def cpu(self) -> float:
        return self.process.sample()

    def stop(self) -> None:
        self.process.stop()
