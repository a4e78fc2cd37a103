"""What these tests stand on: a signed zone behind a validating resolver, a policy host with HTTPS, and couriers that heed policies."""

import asyncio
import contextlib
import datetime as dt
import hashlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import dns.dnssec
import dns.message
import dns.query
import dns.rdatatype
import dns.zone
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatepost.clock import Clock, SystemClock
from gatepost.domain.outcome import Outcome
from gatepost.egress.courier import Batch
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.egress.smtp.mta_sts import MtaSts, PolicyStore
from gatepost.egress.smtp.tls_policy import TlsPolicies
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.net.dial import Dialer
from gatepost.net.mta_sts_fetch import PolicyFetcher
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress, Settings
from gatepost.testing.batches import make_batch
from gatepost.wire.mta_sts import KeptPolicy
from tests.tls.authority import Authority, Pair

DAY = dt.timedelta(days=1)


def server_context(pair: Pair, folder: Path, *chain: bytes) -> ssl.SSLContext:
    """Make a server's context that shows a certificate and what else belongs to its chain."""
    stem = hashlib.sha256(b"".join([pair.cert, *chain])).hexdigest()[:16]
    cert, key = pair.write(folder, stem)
    cert.write_bytes(pair.cert + b"".join(chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def tlsa(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> str:
    """Write a TLSA record's data for a certificate."""
    selected = spki(certificate) if selector else der(certificate)
    data = {0: lambda b: b, 1: lambda b: hashlib.sha256(b).digest(), 2: lambda b: hashlib.sha512(b).digest()}[matching](selected)
    return f"{usage} {selector} {matching} {data.hex()}"


class SignedZone:
    """
    The zone `test.`, signed with a key of our own, behind unbound, which validates; `plain.example.` beside it is not signed.

    Attributes:
        address: `host:port` for `dns.server`.
    """

    def __init__(self, folder: Path, records: Mapping[str, list[str]], *, forged: Mapping[str, str] | None = None) -> None:
        """
        Args:
            records: Name (with final dot) to records such as `MX 10 mx.good.test.`.
            forged: Text to put in place of another after signing: an attacker's hand.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._port = _free_port()
        self.address = f"127.0.0.1:{self._port}"
        anchor = self._sign(records, forged or {})
        (folder / "anchor.key").write_text(anchor)
        plain = [f"{name} 300 IN {text}" for name, texts in records.items() if name.endswith(".example.") for text in texts]
        head = ["example. 300 IN SOA ns.example. root.example. 1 3600 600 86400 60", "example. 300 IN NS ns.example."]
        (folder / "example.zone").write_text("\n".join([*head, "ns.example. 300 IN A 127.0.0.1", *plain]) + "\n")
        (folder / "unbound.conf").write_text(self._configuration())
        self._process: subprocess.Popen[bytes] | None = None

    def _sign(self, records: Mapping[str, list[str]], forged: Mapping[str, str]) -> str:
        lines = ["test. 300 IN SOA ns.test. root.test. 1 3600 600 86400 60", "test. 300 IN NS ns.test.", "ns.test. 300 IN A 127.0.0.1"]
        lines += [f"{name} 300 IN {text}" for name, texts in records.items() if name.endswith(".test.") for text in texts]
        zone = dns.zone.from_text("\n".join(lines), origin="test.", relativize=False)
        key = ec.generate_private_key(ec.SECP256R1())
        dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
        now = dt.datetime.now(dt.UTC)
        dns.dnssec.sign_zone(zone, keys=[(key, dnskey)], inception=now - DAY, expiration=now + DAY, dnskey_ttl=300)
        text = zone.to_text(relativize=False)
        for before, after in forged.items():
            assert before in text, before
            text = text.replace(before, after)
        (self._folder / "test.zone").write_text(text)
        return f"test. IN DNSKEY {dnskey.to_text()}\n"

    def _configuration(self) -> str:
        zones = "".join(
            f'auth-zone:\n  name: "{name}."\n  zonefile: "{self._folder}/{name}.zone"\n  for-downstream: no\n  for-upstream: yes\n'
            "  fallback-enabled: no\n"
            for name in ("test", "example")
        )
        return (
            f"server:\n  interface: 127.0.0.1@{self._port}\n  access-control: 127.0.0.0/8 allow\n  do-daemonize: no\n"
            f'  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n  logfile: ""\n  directory: "{self._folder}"\n'
            f'  num-threads: 1\n  module-config: "validator iterator"\n  trust-anchor-file: "{self._folder}/anchor.key"\n'
            '  local-zone: "test." nodefault\n  local-zone: "example." nodefault\n  domain-insecure: "example."\n'
            "  do-not-query-localhost: no\n  do-ip6: no\n  verbosity: 0\nremote-control:\n  control-enable: no\n" + zones
        )

    def start(self) -> None:
        """Start the resolver and wait until it answers."""
        program = shutil.which("unbound") or "/usr/sbin/unbound"
        arguments = [program, "-d", "-c", str(self._folder / "unbound.conf")]
        question = dns.message.make_query("ns.test.", "A")
        said = b""
        for _ in range(100):
            if self._process is None or self._process.poll() is not None:  # another process may have taken the port meanwhile
                said = self._process.stderr.read() if self._process is not None and self._process.stderr is not None else b""
                self._process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
            with contextlib.suppress(Exception):
                answer = dns.query.udp(question, "127.0.0.1", port=self._port, timeout=0.2)
                if answer.answer:
                    return
            time.sleep(0.1)
        raise AssertionError(f"unbound did not start: {said.decode()}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def policy_text(*hosts: str, mode: str = "enforce", max_age: int = 604_800) -> bytes:
    """Write a policy."""
    return "".join(["version: STSv1\n", f"mode: {mode}\n", *[f"mx: {host}\n" for host in hosts], f"max_age: {max_age}\n"]).encode()


@dataclass
class PolicyHost:
    """
    An HTTPS server on loopback for every `mta-sts.` name that its certificate has.

    Attributes:
        body: What it answers.
        requests: First lines of what it was asked.
    """

    tls: ssl.SSLContext
    body: bytes = b""
    status: str = "200 OK"
    content_type: str = "text/plain; charset=utf-8"
    headers: str = ""
    requests: list[str] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head.split("\r\n")[0])
            length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
            if length:
                self.posted.append(await reader.readexactly(length))
            answer = (
                f"HTTP/1.1 {self.status}\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n{self.headers}\r\n"
            )
            writer.write(answer.encode() + self.body)
            await writer.drain()
        writer.close()


class DictStore:
    """Policies in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, KeptPolicy] = {}
        self.troubles: list[tuple[str, str]] = []

    def find(self, domain: str) -> KeptPolicy | None:
        return self.kept.get(domain)

    async def keep(self, kept: KeptPolicy) -> None:
        self.kept[kept.domain] = kept

    async def note_trouble(self, domain: str, detail: str, at: int) -> None:
        self.troubles.append((domain, detail))


@dataclass
class Post:
    """A courier with everything it heeds."""

    courier: SmtpCourier
    results: TlsResults
    policies: TlsPolicies
    sts: MtaSts

    async def send(self, domain: str, **fields: Any) -> Outcome:
        """Deliver one message to `bob@domain`."""
        batch = make_batch(f"bob@{domain}", **{"route": "mx", "site": domain, "domain": domain, **fields})
        return (await self.courier.deliver(batch))[0]


def open_post(
    *, resolver: Any, dialer: Dialer, authority: Path, store: PolicyStore | None = None, https_port: int = 443, clock: Clock | None = None,
    site_limit: int = 10, fetch_timeout_s: float = 5.0, idle_s: int = 5,
) -> Post:  # fmt: skip
    """Make a courier straight to MX hosts."""
    clock = clock or SystemClock()
    results = TlsResults(clock, is_on=True)
    fetcher = PolicyFetcher(resolver=resolver, timeout_s=fetch_timeout_s, ca_file=str(authority), port=https_port)
    sts = MtaSts(resolver=resolver, fetcher=fetcher, store=store or DictStore(), clock=clock)
    policies = TlsPolicies(resolver=resolver, clock=clock, port=25, sts=sts, results=results)
    courier = SmtpCourier(
        route="mx", settings=Settings(egress=Egress(connections_per_site=site_limit, timeout_scale=0.05, idle_connection_s=idle_s)), relay=None, resolver=resolver,
        dialer=dialer, clock=clock, hostname="gw.acme.example", tls=ClientTls(str(authority)), policies=policies, results=results,
    )  # fmt: skip
    return Post(courier, results, policies, sts)


def counted(post: Post) -> dict[tuple[str, str], int]:
    """Return how many sessions were counted, by kind of policy and result; `ok` where all was well."""
    found: dict[tuple[str, str], int] = {}
    for one in post.results.take():
        key = (one.policy.kind.value, "ok" if one.failure is None else one.failure.result.value)
        found[key] = found.get(key, 0) + one.sessions
    return found


def sub_authority(
    parent: Authority, name: str, *, is_ca: bool = True, path_length: int | None = None, ends: dt.timedelta = 30 * DAY
) -> Authority:
    """Make an authority whose certificate another one signed."""
    child = Authority(name)
    now = dt.datetime.now(dt.UTC)
    child.certificate = (
        x509.CertificateBuilder()
        .subject_name(child.certificate.subject)
        .issuer_name(parent.certificate.subject)
        .public_key(child._key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 40 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        .sign(parent._key, hashes.SHA256())
    )
    child.pem = child.certificate.public_bytes(serialization.Encoding.PEM)
    return child


def running(zone: SignedZone) -> Iterator[SignedZone]:
    """Run a zone's resolver while a test needs it."""
    zone.start()
    yield zone
    zone.stop()


__all__ = [
    "Batch",
    "DictStore",
    "PolicyHost",
    "Post",
    "SignedZone",
    "counted",
    "der",
    "open_post",
    "policy_text",
    "running",
    "server_context",
]
