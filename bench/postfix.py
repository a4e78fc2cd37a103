"""A private Postfix on high ports with its own queue, with and without OpenDKIM: the peer. Needs root and Debian's packages."""

import re
import shutil
import subprocess
from pathlib import Path

from bench.processes import Process, free_port, wait_for_port

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
myhostname = gw.bench.example
mydestination =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
alias_maps =
local_recipient_maps =
local_transport = error:none
smtp_dns_support_level = disabled
smtp_host_lookup = native
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
in_flow_delay = 0
default_process_limit = 100
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtpd_client_connection_count_limit = 0
smtp_destination_recipient_limit = 1
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = [127.0.0.1]:{sink}
"""

_MILTER = """\
smtpd_milters = inet:127.0.0.1:{milter}
milter_default_action = tempfail
milter_protocol = 6
"""

_OPENDKIM = """\
Syslog no
Mode s
Socket inet:{milter}@127.0.0.1
Domain bench.example
Selector s1
KeyFile {folder}/dkim/s1.private
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
InternalHosts 127.0.0.1
ExternalIgnoreList 127.0.0.1
PidFile {folder}/dkim/opendkim.pid
Background no
UMask 022
OversignHeaders From
RequireSafeKeys false
"""


class Postfix:
    """One run of the peer."""

    def __init__(self, folder: Path, sink_port: int, *, is_signing: bool) -> None:
        self.folder = folder / ("postfix-dkim" if is_signing else "postfix")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.port = free_port()
        self._milter: Process | None = None
        milter = self._start_milter() if is_signing else None
        self._configure(sink_port, milter)
        self.process = Process(["/usr/sbin/postfix", "-c", f"{self.folder}/etc", "start-fg"], self.folder / "out.log")
        wait_for_port(self.port)

    def _configure(self, sink_port: int, milter: int | None) -> None:
        for name in ("etc", "spool", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(self.folder / "data", "postfix")
        for source in Path("/etc/postfix").glob("dynamicmaps.cf*"):
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.folder / "etc" / source.name)
        for source in Path("/etc/postfix").glob("postfix-files*"):
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.folder / "etc" / source.name)
        master = Path("/etc/postfix/master.cf.proto").read_text()
        master = re.sub(r"(?m)^smtp +inet .*smtpd$", f"127.0.0.1:{self.port} inet n - n - - smtpd", master)
        master = re.sub(r"(?m)^([a-z]+ +unix +[-ny] +[-ny] +)y", r"\1n", master)
        (self.folder / "etc/master.cf").write_text(master)
        main = _MAIN.format(folder=self.folder, sink=sink_port) + (_MILTER.format(milter=milter) if milter else "")
        (self.folder / "etc/main.cf").write_text(main)
        subprocess.run(["/usr/sbin/postfix", "-c", f"{self.folder}/etc", "check"], check=True, capture_output=True)

    def _start_milter(self) -> int:
        folder = self.folder / "dkim"
        folder.mkdir(parents=True)
        subprocess.run(["/usr/sbin/opendkim-genkey", "-b", "2048", "-s", "s1", "-d", "bench.example", "-D", str(folder)], check=True)
        (folder / "s1.private").chmod(0o600)
        port = free_port()
        (folder / "opendkim.conf").write_text(_OPENDKIM.format(folder=self.folder, milter=port))
        self._milter = Process(["/usr/sbin/opendkim", "-f", "-x", f"{folder}/opendkim.conf"], folder / "out.log")
        wait_for_port(port)
        return port

    def cpu(self) -> float:
        # Postfix's daemons are children of its master, which leads a session of its own
        return self.process.sample() + (self._milter.sample() if self._milter else 0)

    def stop(self) -> None:
        subprocess.run(["/usr/sbin/postfix", "-c", f"{self.folder}/etc", "stop"], check=False, capture_output=True)
        self.process.stop(seconds=10)
        if self._milter:
            self._milter.stop(seconds=5)
