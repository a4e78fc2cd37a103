"""Gatepost itself, run as a user would run it: `gatepost serve` on a fresh data folder, a relay to the sink."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import Process, free_port, wait_for_port


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
            self._run("migrate")
        self.key = self._run("key", "create", "--name", "bench", "--trust-cidr", "127.0.0.0/8")["key"]
        self._run("domain", "add", "bench.example", "--trust")
        if prepare is not None:
            prepare(self)
        self.process = Process(
            [sys.executable, "-m", "gatepost", "serve", "--data", str(self.data)], folder / "gatepost.log", self.environment
        )
        wait_for_port(self.http_port)
        wait_for_port(self.smtp_port)

    def _run(self, *arguments: str):
        command = [sys.executable, "-m", "gatepost", *arguments, "--data", str(self.data), "--json"]
        import os

        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **self.environment})
        return json.loads(done.stdout) if done.stdout.strip() else None

    def cpu(self) -> float:
        return self.process.sample()

    def stop(self) -> None:
        self.process.stop()
