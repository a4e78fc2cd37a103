"""Pebble, the test server of ACME (RFC 8555), as a real process on loopback; Debian has it as `pebble`."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatepost.testing.fake_dns import DnsServer
from tests.tls.authority import Authority

NAMES = ("gate.example.test", "mail.example.test")


@dataclass(frozen=True)
class Pebble:
    """
    A running Pebble.

    Attributes:
        host: Where its names lead to: an address of loopback that is this test run's alone.
        http_port: Where it asks for http-01; https_port for tls-alpn-01.
        ca_file: Trust for the directory itself.
        roots: PEM of the authority that its certificates come from.
    """

    directory_url: str
    host: str
    http_port: int
    https_port: int
    ca_file: Path
    roots: str
    dns: DnsServer
    process: subprocess.Popen[bytes]

    def flags(self, challenge: str, *names: str) -> dict[str, str]:
        """Return the options of a gateway that gets its certificates here."""
        return {
            "acme.directory_url": self.directory_url,
            "acme.agree_to_terms": "true",
            "acme.ca_file": str(self.ca_file),
            "acme.challenge": challenge,
            "acme.domains": json.dumps(names or NAMES[:1]),
            "acme.contact": '["ops@example.test"]',
            "http.listen": f"{self.host}:{self.http_port}",
            "https.listen": f"{self.host}:{self.https_port}",
        }

    def trusting(self) -> ssl.SSLContext:
        """Make a client that trusts what it issues."""
        return ssl.create_default_context(cadata=self.roots)


def own_address() -> str:
    """Return an address of loopback for this process, so that fixed ports meet nobody else's."""
    pid = os.getpid()
    return f"127.{1 + (pid >> 16) % 254}.{(pid >> 8) % 256}.{1 + pid % 254}"


def free_port(host: str) -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server((host, 0)) as sock:
        return sock.getsockname()[1]


@contextlib.contextmanager
def running_pebble(folder: Path, authority: Authority, *, eab: dict[str, str] | None = None, nonce_reject: int = 50) -> Iterator[Pebble]:
    """Run Pebble until the block ends; every other nonce is thrown away, so that asking again is tested too."""
    program = shutil.which("pebble")
    assert program, "the test needs Debian's package pebble"
    host = own_address()
    http_port, https_port, port, management_port = (free_port(host) for _ in range(4))
    cert, key = authority.issue(host).write(folder, "pebble")
    settings = {
        "listenAddress": f"{host}:{port}",
        "managementListenAddress": f"{host}:{management_port}",
        "certificate": str(cert),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": https_port,
        "externalAccountBindingRequired": eab is not None,
        "externalAccountMACKeys": eab or {},
        "certificateValidityPeriod": 90 * 86400,
    }
    config = folder / "pebble.json"
    config.write_text(json.dumps({"pebble": settings}))
    ca_file = authority.write(folder / "pebble-ca.pem")
    environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(nonce_reject), "PEBBLE_AUTHZREUSE": "0"}
    with running_dns({name: {"A": [host]} for name in NAMES}) as dns, (folder / "pebble.log").open("wb") as log:
        command = [program, "-config", str(config), "-dnsserver", dns.address]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
        try:
            roots = _fetch(f"https://{host}:{management_port}/roots/0", authority, process)
            yield Pebble(f"https://{host}:{port}/dir", host, http_port, https_port, ca_file, roots, dns, process)
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def running_dns(zone: dict) -> Iterator[DnsServer]:
    """Run a DNS server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = DnsServer(zone)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _fetch(url: str, authority: Authority, process: subprocess.Popen[bytes]) -> str:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return answer.read().decode()
        except OSError:
            assert process.poll() is None, "pebble ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
