"""A real Postfix as a smarthost that asks for a password, on a port and a queue of its own. Needs root and Debian's postfix."""

import base64
import contextlib
import os
import re
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gatepost.testing.certificates import Certificates

_MAIN = """\
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/spool
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = smarthost.example
mydestination =
mynetworks = 192.0.2.0/24
relayhost = [127.0.0.1]:{sink}
alias_maps =
local_recipient_maps =
local_transport = error:none
smtp_dns_support_level = disabled
smtp_host_lookup = native
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{{{ nobody@acme.test = 550 5.1.1 no such user }}}}, permit
"""


class _Passwords(socketserver.StreamRequestHandler):
    """What Postfix asks about passwords, in Dovecot's protocol: https://doc.dovecot.org/main/developers/design/auth_protocol.html."""

    accepted: str

    def handle(self) -> None:
        self.wfile.write(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tc\nDONE\n")
        for line in self.rfile:
            parts = line.decode().rstrip("\n").split("\t")
            if parts[0] == "AUTH":
                response = next((one.removeprefix("resp=") for one in parts if one.startswith("resp=")), "")
                is_right = base64.b64decode(response).decode() == self.accepted
                self.wfile.write(f"OK\t{parts[1]}\tuser=gw\n".encode() if is_right else f"FAIL\t{parts[1]}\tuser=gw\n".encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postfix(certificates: Certificates, sink_port: int, user: str, password: str) -> Iterator[int]:
    """Run it; it hands on what it takes to `sink_port`."""
    assert shutil.which("postfix") or Path("/usr/sbin/postfix").exists(), "the test needs Postfix (Debian: postfix)"
    assert os.geteuid() == 0, "Postfix is started by root only"
    handler = type("Passwords", (_Passwords,), {"accepted": f"\0{user}\0{password}"})
    folder, port = Path(tempfile.mkdtemp(prefix="gp-pf-", dir="/tmp")), _free_port()
    folder.chmod(0o755)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as passwords:
        passwords.daemon_threads = True
        threading.Thread(target=passwords.serve_forever, daemon=True).start()
        _configure(folder, certificates, port, sink_port, passwords.server_address[1])
        log = (folder / "out.log").open("w")
        process = subprocess.Popen(["/usr/sbin/postfix", "-c", f"{folder}/etc", "start-fg"], stdout=log, stderr=log)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5) as greeting:
                    if greeting.recv(3) == b"220":
                        break
                time.sleep(0.05)
            yield port
        finally:
            subprocess.run(["/usr/sbin/postfix", "-c", f"{folder}/etc", "stop"], check=False, capture_output=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            log.close()
            passwords.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, certificates: Certificates, port: int, sink: int, auth: int) -> None:
    for name in ("etc", "spool", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    for source in [*Path("/etc/postfix").glob("dynamicmaps.cf*"), *Path("/etc/postfix").glob("postfix-files*")]:
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / "etc" / source.name)
    for name, file in (("cert.pem", certificates.ca_file), ("key.pem", certificates.key_file)):
        shutil.copy(file, folder / "etc" / name)
        (folder / "etc" / name).chmod(0o600)
    master = Path("/etc/postfix/master.cf.proto").read_text()
    master = re.sub(r"(?m)^smtp +inet .*smtpd$", f"127.0.0.1:{port} inet n - n - - smtpd", master)
    (folder / "etc/master.cf").write_text(re.sub(r"(?m)^([a-z]+ +unix +[-ny] +[-ny] +)y", r"\1n", master))
    main = _MAIN.format(folder=folder, sink=sink, auth=auth, cert=folder / "etc/cert.pem", key=folder / "etc/key.pem")
    (folder / "etc/main.cf").write_text(main)
    done = subprocess.run(["/usr/sbin/postfix", "-c", f"{folder}/etc", "check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
