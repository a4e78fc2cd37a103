"""A real Dovecot on loopback, with its own configuration, users and mail; no system service."""

import grp
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from imapclient import IMAPClient

from gatepost.testing.certificates import make_certificates

PASSWORD = "correct-horse-42"
_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
protocols = imap
ssl = {ssl}
ssl_cert = <{cert}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
auth_mechanisms = {mechanisms}
mail_location = maildir:{home}/mail/%u
first_valid_uid = 1
listen = 127.0.0.1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox "{junk}" {{
    auto = create
    {special}
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
auth_failure_delay = 0
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _names(numbers_of: str) -> tuple[str, str]:
    entry = pwd.getpwnam(numbers_of)
    return entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name


@dataclass(slots=True)
class Dovecot:
    """
    One running server; every user exists, with one password.

    Attributes:
        junk: Its folder of spam.
        has_special_use: The folder is marked with the attribute \\Junk.
    """

    junk: str = "Junk"
    has_special_use: bool = True
    mechanisms: str = "plain login"
    home: Path = field(init=False)
    plain_port: int = field(init=False)
    tls_port: int = field(init=False)
    ca_file: str = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def start(self) -> "Dovecot":
        """Start and wait until it answers."""
        assert shutil.which("dovecot", path="/usr/sbin:/usr/bin"), "the package dovecot-imapd is missing"
        self.home = Path(tempfile.mkdtemp(prefix="gp-dovecot-"))
        self.home.chmod(0o755)
        (self.home / "mail").mkdir()
        made = make_certificates(self.home)
        self.ca_file = str(made.ca_file)
        self.plain_port, self.tls_port = free_port(), free_port()
        is_root = os.geteuid() == 0
        owner = pwd.getpwnam("nobody") if is_root else pwd.getpwuid(os.geteuid())
        if is_root:
            os.chown(self.home / "mail", owner.pw_uid, owner.pw_gid)
        (internal, group), (login, _) = (
            (_names("dovecot"), _names("dovenull")) if is_root else (_names(owner.pw_name), _names(owner.pw_name))
        )
        special = "special_use = \\Junk" if self.has_special_use else ""
        config = self.home / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                home=self.home, ssl="yes", cert=made.ca_file, key=made.key_file, internal=internal, internal_group=group, login=login,
                mechanisms=self.mechanisms, password=PASSWORD, uid=owner.pw_uid, gid=owner.pw_gid, junk=self.junk, special=special,
                plain_port=self.plain_port, tls_port=self.tls_port,
            )
        )  # fmt: skip
        self._process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.plain_port), 1) as sock:
                    if sock.recv(100).startswith(b"* OK"):
                        return self
            except OSError:
                time.sleep(0.02)
            assert self._process.poll() is None, self._process.stderr.read().decode() + self.log
        raise AssertionError("Dovecot does not start: " + self.log)

    def stop(self) -> None:
        """End it, and forget its mail."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process.stderr.close()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def log(self) -> str:
        """What it wrote into its log."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, user: str) -> IMAPClient:
        """Sign in as a person's mail program does."""
        context = ssl.create_default_context(cafile=self.ca_file)
        client = IMAPClient("localhost", self.tls_port, ssl=True, ssl_context=context, timeout=10)
        client.plain_login(user, PASSWORD)
        return client

    def put(self, user: str, content: bytes, folder: str = "INBOX", flags: tuple[bytes, ...] = ()) -> None:
        """Put a mail into a folder, as delivery does."""
        with self.client(user) as client:
            client.append(folder, content, flags)

    def contents(self, user: str, folder: str = "INBOX") -> dict[int, tuple[bytes, tuple[bytes, ...]]]:
        """Return what lies in a folder, by UID: content and flags."""
        with self.client(user) as client:
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search(), ["BODY.PEEK[]", "FLAGS"])
            return {uid: (one[b"BODY[]"], one[b"FLAGS"]) for uid, one in found.items()}

    def url(self, user: str, folder: str = "", *, tls: bool = True) -> str:
        """URL of a mailbox here."""
        scheme, port = ("imaps", self.tls_port) if tls else ("imap", self.plain_port)
        return f"{scheme}://{user}@localhost:{port}/{folder}"


__all__ = ["PASSWORD", "Dovecot", "free_port"]
