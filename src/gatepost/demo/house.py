"""
The demo's gateway: a data directory that is thrown away, a certificate made on the spot, a key, a domain, and `serve`.

Not here: what is sent (samples), what is expected (report).
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.app.parts import create_domains
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.tenant import KeyMode
from gatepost.serve.child import die_with
from gatepost.store import credentials
from gatepost.store.opening import open_store
from gatepost.tenants import keys

DOMAIN = "acme.example"
_START_S = 90.0
_STOP_S = 40.0


class DemoFailed(Exception):  # noqa: N818
    """The demo's gateway did not do what it should; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """
    A running gateway.

    Attributes:
        records: TXT records of the domain's signing keys, by name.
        certificate: The SMTP door's certificate, to be trusted by the demo's client.
    """

    folder: Path
    http: str
    smtp: str
    key: str
    records: dict[str, str]
    certificate: Path


@contextmanager
def running_house(*, is_ephemeral: bool) -> Iterator[House]:
    """
    Run a gateway on SQLite in a throw-away data directory; it is gone afterwards.

    Args:
        is_ephemeral: Use whatever ports are free, instead of the usual ones where they are free.

    Raises:
        DemoFailed: It did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="gatepost-demo-"))
    try:
        certificate = _make_certificate(folder)
        key, records = asyncio.run(_prepare(folder / "data"))
        with _serving(folder, is_ephemeral=is_ephemeral) as listening:
            yield House(
                folder=folder, http=listening["http"], smtp=listening["smtp"], key=key, records=records, certificate=certificate
            )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _prepare(data_dir: Path) -> tuple[str, dict[str, str]]:
    """Make a key and a domain that the operator vouches for."""
    loaded, clock = settings.load(data_dir, environ={}), SystemClock()
    engine = create_engine(loaded)
    try:
        tenant_id = await open_store(engine, clock)
        secret = keys.make_secret(KeyMode.LIVE)
        key = keys.describe(secret, tenant_id=tenant_id, name="demo", mode=KeyMode.LIVE, now=clock.now())
        await engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
        view = await create_domains(loaded, engine, clock).add(tenant_id, DOMAIN, by=GATEWAY, is_trusted=True)
    finally:
        await engine.close()
    return secret, {record.name: record.value for record in view.records if record.purpose == "dkim"}


def _make_certificate(folder: Path) -> Path:
    """Make a certificate for this machine, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    handle = os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    return path


def _flags(folder: Path, *, is_ephemeral: bool) -> dict[str, str]:
    return {
        "http.listen": _address(8025, is_ephemeral=is_ephemeral),
        "smtp.listen": _address(2525, is_ephemeral=is_ephemeral),
        "tls.cert": str(folder / "cert.pem"),
        "tls.key": str(folder / "key.pem"),
        "retry.schedule": "[1, 2, 4, 60]",
        "retry.jitter": "0.0",
        "egress.hostname": "gatepost.localhost",
    }


def _address(port: int, *, is_ephemeral: bool) -> str:
    return f"127.0.0.1:{0 if is_ephemeral or not _is_free(port) else port}"


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def _serving(folder: Path, *, is_ephemeral: bool) -> Iterator[dict[str, str]]:
    data = folder / "data"
    sets = [part for name, value in _flags(folder, is_ephemeral=is_ephemeral).items() for part in ("--set", f"{name}={value}")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GATEPOST_", "NOTIFY_SOCKET", "WATCHDOG_"))}
    own_pid = os.getpid()
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program; no thread of ours runs any more
            [sys.executable, "-m", "gatepost", "serve", "--data", str(data), *sets],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True,
            preexec_fn=lambda: die_with(own_pid, signal.SIGTERM),  # noqa: PLW1509 - no thread of ours runs any more
        )  # fmt: skip
    try:
        yield _wait_until_ready(process, folder)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> dict[str, str]:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            listening: dict[str, str] = json.loads((folder / "data" / "run" / "serve.json").read_text("utf-8"))["listening"]
            return listening
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log = (folder / "serve.log").read_text("utf-8", "replace").strip().splitlines()
    raise DemoFailed("the gateway did not start: " + " / ".join(log[-3:]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
