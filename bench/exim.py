"""
A private Exim that signs with DKIM: a peer. Needs root; where Exim is not installed, Debian's packages are unpacked, not installed.

Exim and Postfix exclude each other on Debian, so Exim's packages are unpacked into the bench's folder and started in a mount
namespace of their own, in which their user and their libraries are known; nothing of the machine changes.
Kept fair: a durable spool with fsync as by default, deliveries at once, as many as clients, connections that are used again.
"""

import shutil
import subprocess
from pathlib import Path

from bench.processes import Group, PeerMissing, Process, free_port, wait_for_port

_PACKAGES = ("exim4-daemon-light", "exim4-base", "libidn12", "libgnutls-dane0")
_USER = "Debian-exim"
_MAIN = """\
keep_environment =
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
primary_hostname = gw.bench.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
disable_ipv6 = true
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
never_users =
smtp_accept_max = 200
# without these it would leave mail to the next queue run after the tenth message of a connection
smtp_accept_max_per_connection = 1000000
smtp_accept_queue_per_connection = 0
smtp_enforce_sync = false
queue_run_max = 20
remote_max_parallel = 20
split_spool_directory = true
queue_only_load = 1000
deliver_queue_load_max = 1000
deliver_drop_privilege = true
dkim_verify_signers =
message_size_limit = 50M
acl_smtp_rcpt = take
begin acl
take:
  warn control = dkim_disable_verify
  accept
begin routers
onward:
  driver = manualroute
  transport = out
  route_list = * 127.0.0.1 byname
  self = send
begin transports
out:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_dane =
  hosts_try_chunking =
  connection_max_messages = 500
  dkim_domain = bench.example
  dkim_selector = s1
  dkim_private_key = {folder}/dkim.pem
  dkim_canon = relaxed
  dkim_hash = sha256
begin retry
* * F,2h,1m
"""


class Exim:
    """
    One run of the peer.

    Raises:
        PeerMissing: It is not installed, and its packages cannot be fetched.
    """

    def __init__(self, folder: Path, sink_port: int) -> None:
        self.root = _unpacked(folder / "exim-packages")
        self.folder = folder / "exim"
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "log").mkdir(parents=True)
        (self.folder / "spool").mkdir()
        self.port = free_port()
        self._write_users()
        self._configure(sink_port)
        self._group = Group("exim")
        self.process = Process(["unshare", "-m", "sh", "-ec", self._start()], self.folder / "out.log", group=self._group)
        try:
            wait_for_port(self.port)
        except SystemExit:
            self.stop()
            raise PeerMissing(f"Exim did not start: {(self.folder / 'out.log').read_text()[-300:]}") from None

    def _start(self) -> str:
        """Make users and libraries known in a namespace of its own, then become Exim."""
        binds = [f"mount --bind {self.folder}/{name} /etc/{name}" for name in ("passwd", "group", "ld.so.cache")]
        return "; ".join([*binds, f"exec {self.root}/usr/sbin/exim4 -C {self.folder}/exim.conf -bdf -q1m"])

    def _write_users(self) -> None:
        for name, line in (("passwd", f"{_USER}:x:64990:64990::/nonexistent:/usr/sbin/nologin\n"), ("group", f"{_USER}:x:64990:\n")):
            known = Path(f"/etc/{name}").read_text()
            (self.folder / name).write_text(known if f"{_USER}:" in known else known + line)
        (self.folder / "ld.so.conf").write_text(f"{self.root}/usr/lib/x86_64-linux-gnu\ninclude /etc/ld.so.conf\n")
        made = ["ldconfig", "-X", "-C", f"{self.folder}/ld.so.cache", "-f", f"{self.folder}/ld.so.conf"]
        subprocess.run(made, check=True, capture_output=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def _configure(self, sink_port: int) -> None:
        line = next(one for one in (self.folder / "passwd").read_text().splitlines() if one.startswith(f"{_USER}:"))
        user, group = map(int, line.split(":")[2:4])
        key = self.folder / "dkim.pem"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(key), "2048"], check=True, capture_output=True)
        key.chmod(0o640)
        exim = f"{self.root}/usr/sbin/exim4"
        (self.folder / "exim.conf").write_text(_MAIN.format(folder=self.folder, exim=exim, port=self.port, sink=sink_port))
        for path in (self.folder / "spool", self.folder / "log"):
            shutil.chown(path, user, group)
        shutil.chown(key, 0, group)

    def cpu(self) -> float:
        self.process.sample()
        return self._group.cpu()

    def stop(self) -> None:
        self.process.stop(seconds=10)
        self._group.end()


def _unpacked(folder: Path) -> str:
    """Return where Exim is: the machine's root folder, or one with the unpacked packages."""
    if Path("/usr/sbin/exim4").exists():
        return ""
    if not (folder / "usr/sbin/exim4").exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise PeerMissing("Exim is not installed, and there is no apt-get")
        folder.mkdir(exist_ok=True)
        for name in _PACKAGES:  # one by one: a release does not have all of these libraries
            subprocess.run(["apt-get", "download", name], cwd=folder, check=False, capture_output=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, capture_output=True)
    if not (folder / "usr/sbin/exim4").exists():
        raise PeerMissing("Exim is not installed, and its packages cannot be fetched")
    return str(folder)
