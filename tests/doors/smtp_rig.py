"""A door on a loopback port with an acceptor that keeps what it takes: what the SMTP door's tests stand on."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gatepost.clock import SystemClock
from gatepost.domain.access import Principal
from gatepost.domain.errors import Refused
from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import ApiKey, Caller, KeyMode
from gatepost.settings import Limits, Settings, Smtp
from gatepost.smtpd.door import SmtpDoor

KEY = ApiKey(id="key_1", tenant_id="ten_1", name="test", mode=KeyMode.LIVE, hint="gp_…", created_at=0)
SECRET = "gp_live_secret"


@dataclass
class Taken:
    message_id: str


@dataclass
class FakeAcceptor:
    """Keeps submissions; `before` runs first and may wait or refuse."""

    taken: list[tuple[Caller, RawSubmission]] = field(default_factory=list)
    before: Callable[[RawSubmission], Awaitable[None]] | None = None

    async def submit_raw(self, caller: Caller, submission: RawSubmission) -> Taken:
        if self.before is not None:
            await self.before(submission)
        self.taken.append((caller, submission))
        return Taken(f"msg_{len(self.taken)}")


@dataclass
class FakeAuthenticator:
    """Knows one key, and may trust everybody; what `refusal` holds is raised by every check."""

    trusts: bool = False
    tries: int = 0
    refusal: Refused | None = None

    async def prove(self, secret: str) -> str:
        self.tries += 1
        if secret != SECRET:
            raise Refused("authentication_failed", "unknown")
        return secret

    def trusted(self, peer: str) -> str | None:
        return "trusted" if self.trusts else None

    def check(self, proof: str, peer: str) -> Principal:
        if self.refusal is not None:
            raise self.refusal
        return KEY.principal()


class ManualClock(SystemClock):
    """The machine's clock, except that its monotonic time can be pushed on and sleeping only yields."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class Rig:
    door: SmtpDoor
    port: int
    acceptor: FakeAcceptor
    authenticator: FakeAuthenticator
    clock: ManualClock
    events: list[tuple[str, dict[str, Any]]]

    async def connect(self) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = RawClient(reader, writer)
        await client.reply()
        return client


@dataclass
class RawClient:
    """A client that says exactly what it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> str:
        """Read one reply; the empty string at the end of the connection."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode()
            lines.append(line)
            if line[3:4] != "-":
                return "".join(lines).rstrip("\r\n")

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.reply()

    async def is_ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""

    async def start_tls(self) -> None:
        await self.writer.start_tls(trusting())

    def close(self) -> None:
        self.writer.transport.abort()


def trusting() -> ssl.SSLContext:
    """Make a client's context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(directory: Path) -> ssl.SSLContext:
    """Make a self-signed certificate for localhost and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert_path, key_path)
    return context


@asynccontextmanager
async def running_door(
    *, context: ssl.SSLContext | None = None, implicit_tls: bool = False, trusts: bool = False, limits: Limits | None = None, **smtp: Any
) -> AsyncIterator[Rig]:
    """Run a door on an ephemeral port."""
    settings = Settings(smtp=msgspec.structs.replace(Smtp(hostname="mx.example"), **smtp), limits=limits or Limits())
    acceptor, authenticator, clock = FakeAcceptor(), FakeAuthenticator(trusts=trusts), ManualClock()
    events: list[tuple[str, dict[str, Any]]] = []
    door = SmtpDoor(settings, context, acceptor, authenticator, on_event=lambda name, **fields: events.append((name, fields)), clock=clock)
    server = await door.start("127.0.0.1", 0, implicit_tls=implicit_tls)
    try:
        yield Rig(door, server.sockets[0].getsockname()[1], acceptor, authenticator, clock, events)
    finally:
        await door.close(1.0)
