"""
A private Haraka that signs with DKIM: a peer. Needs node and npm, with which it is fetched into the bench's folder.

Kept fair: a worker for each core, its durable queue as by default, as many connections onward as clients.
"""

import os
import shutil
import subprocess
from pathlib import Path

from bench.processes import PeerMissing, Process, free_port, wait_for_port

_ROUTING = """\
exports.hook_connect = function (next, connection) { connection.relaying = true; next() }
exports.hook_rcpt = (next) => next(OK)
exports.hook_get_mx = (next, hmail, domain) => next(OK, { priority: 0, exchange: '127.0.0.1', port: %d })
"""
_DKIM = """\
[sign]
enabled=true
selector=s1
domain=bench.example
headers=From, To, Subject, Date, Message-ID, MIME-Version, Content-Type

[verify]
enabled=false
"""


class Haraka:
    """
    One run of the peer.

    Raises:
        PeerMissing: There is no npm, or Haraka cannot be fetched.
    """

    def __init__(self, folder: Path, sink_port: int) -> None:
        modules = _fetched(folder / "haraka-packages")
        self.folder = folder / "haraka"
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("plugins", "queue"):
            (self.folder / name).mkdir(parents=True)
        shutil.copytree(modules / "Haraka/config", self.folder / "config")
        (self.folder / "node_modules").symlink_to(modules)
        self.port = free_port()
        self._configure(sink_port)
        self.process = Process([str(modules / ".bin/haraka"), "-c", str(self.folder)], self.folder / "out.log")
        try:
            wait_for_port(self.port)
        except SystemExit:
            self.stop()
            raise PeerMissing(f"Haraka did not start: {(self.folder / 'out.log').read_text()[-300:]}") from None

    def _configure(self, sink_port: int) -> None:
        config = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes={os.cpu_count() or 1}\ndaemonize=false\n",
            "outbound.ini": "enable_tls=false\nconcurrency_max=20\nlocal_mx_ok=true\n",
            "log.ini": "[main]\nlevel=LOGWARN\n",
            "plugins": "routing\ndkim\n",
            "me": "gw.bench.example\n",
            "dkim.ini": _DKIM,
        }
        for name, text in config.items():
            (self.folder / "config" / name).write_text(text)
        (self.folder / "plugins/routing.js").write_text(_ROUTING % sink_port)
        key = str(self.folder / "config/dkim.private.key")
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)

    def cpu(self) -> float:
        return self.process.sample()

    def stop(self) -> None:
        self.process.stop(seconds=10)


def _fetched(folder: Path) -> Path:
    """Return the folder with Haraka's modules."""
    modules = folder / "node_modules"
    if not (modules / ".bin/haraka").exists():
        if shutil.which("npm") is None:
            raise PeerMissing("Haraka is not installed, and there is no npm")
        folder.mkdir(exist_ok=True)
        wanted = ["Haraka@3", "haraka-plugin-dkim"]
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--omit=dev", "--omit=optional"]
        done = subprocess.run(["npm", "install", *options, *wanted], cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode or not (modules / ".bin/haraka").exists():
            raise PeerMissing(f"Haraka cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
    return modules
