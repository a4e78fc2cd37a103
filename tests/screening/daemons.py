"""The real scanners, started privately on loopback: rspamd and clamd as Debian packages them, without any network of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

_RSPAMD = """
lua = "{folder}/rules.lua";
options {{
  pidfile = "{folder}/rspamd.pid";
  filters = "";
  tempdir = "{folder}";
  url_tld = "{folder}/tld.dat";
  disable_hyperscan = true;
  cache_file = "{folder}/symbols.cache";
  hs_cache_dir = "{folder}/";
  control_socket = "{folder}/rspamd.sock mode=0600";
  history_file = "{folder}/history";
  explicit_modules = [];
  dns {{ nameserver = ["127.0.0.1:9:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; mime = true; }}
"""

# GTUBE is built in. The other rules read the subject: one for a suspicious message, one that shows which envelope came along.
_RULES = """
rspamd_config:register_symbol({ name = 'SUSPICIOUS', score = 7.0, type = 'normal',
  callback = function(task) return (task:get_subject() or ''):find('suspicious', 1, true) ~= nil end })
rspamd_config:register_symbol({ name = 'DELAYABLE', score = 5.0, type = 'normal',
  callback = function(task) return (task:get_subject() or ''):find('delayable', 1, true) ~= nil end })
rspamd_config:register_symbol({ name = 'ENVELOPE', score = 7.0, type = 'normal',
  callback = function(task)
    local from, to, ip = task:get_from('smtp'), task:get_recipients('smtp'), task:get_ip()
    local seen = string.format('%s>%s@%s as %s', from and from[1].addr, to and #to, ip and ip:to_string(), task:get_user())
    return (task:get_subject() or ''):find(seen, 1, true) ~= nil
  end })
"""

_CLAMD = """
Foreground true
LocalSocket {folder}/clamd.sock
TCPSocket {port}
TCPAddr 127.0.0.1
DatabaseDirectory {folder}/db
TemporaryDirectory {folder}
StreamMaxLength 1M
MaxThreads 2
SelfCheck 36000
"""


class Daemon:
    """
    A scanner's process.

    Attributes:
        address: Where it listens: rspamd's URL, clamd's host:port.
        socket: Path of clamd's socket.
    """

    def __init__(self, command: list[str], is_ready: Callable[[], bool], address: str, socket: str = "") -> None:
        self.address, self.socket = address, socket
        self._command, self._is_ready = command, is_ready

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 30
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise AssertionError(f"{self._command[0]} did not start: {self._log.read().decode(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._log.close()


@contextlib.contextmanager
def _running(daemon: Daemon) -> Iterator[Daemon]:
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def running_rspamd() -> Iterator[Daemon]:
    """Run rspamd; `address` is its URL."""
    with _folder() as folder:
        port = free_port()
        (folder / "rspamd.conf").write_text(_RSPAMD.format(folder=folder, port=port))
        (folder / "rules.lua").write_text(_RULES)
        (folder / "tld.dat").write_text("com\nnet\norg\nexample\n")
        insecure = ["-i"] if os.getuid() == 0 else []
        command = ["rspamd", "-f", *insecure, "-c", str(folder / "rspamd.conf")]
        is_ready = lambda: _answers(port, b"GET /ping HTTP/1.0\r\n\r\n", b"pong")  # noqa: E731
        with _running(Daemon(command, is_ready, f"http://127.0.0.1:{port}")) as daemon:
            yield daemon


@contextlib.contextmanager
def running_clamd() -> Iterator[Daemon]:
    """Run clamd with a database of one signature, EICAR; `address` is host:port."""
    with _folder() as folder:
        port = free_port()
        (folder / "db").mkdir()
        (folder / "db" / "test.ndb").write_text(f"Eicar-Test-Signature:0:*:{EICAR.hex()}\n")
        (folder / "clamd.conf").write_text(_CLAMD.format(folder=folder, port=port))
        command = [_clamd(), "-c", str(folder / "clamd.conf")]
        is_ready = lambda: _answers(port, b"zPING\0", b"PONG")  # noqa: E731
        with _running(Daemon(command, is_ready, f"127.0.0.1:{port}", str(folder / "clamd.sock"))) as daemon:
            yield daemon


def _clamd() -> str:
    found = shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert found is not None, "Debian's clamav-daemon is not installed"
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gp-scan-", dir="/tmp"))  # short: a socket lies in it
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int, question: bytes, expected: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(question)
            answer = b""
            while expected not in answer and (data := connection.recv(4096)):
                answer += data
            return expected in answer
    except OSError:
        return False
