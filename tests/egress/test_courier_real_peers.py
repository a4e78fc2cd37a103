"""The courier against servers that others wrote: aiosmtpd, and Postfix's smtp-sink."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from gatepost.domain.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from gatepost.net.tls import ClientTls
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.certificates import Certificates

_SINK = shutil.which("smtp-sink") or shutil.which("/usr/sbin/smtp-sink")


class Handler:
    """Keep what aiosmtpd received."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 kept"


@contextlib.contextmanager
def aiosmtpd(**options: Any) -> Iterator[tuple[Handler, int]]:
    handler = Handler()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield handler, controller.port
    finally:
        controller.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    assert _SINK is not None, "the test needs smtp-sink (Debian: postfix)"
    port = free_port()
    process = subprocess.Popen([_SINK, "-u", "nobody", *options, f"127.0.0.1:{port}", "100"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def deliver(
    port: int, *addresses: str, url: str = "smtp://127.0.0.1:{port}", tls: ClientTls | None = None, **fields: Any
) -> dict[int, Outcome]:
    async def run() -> dict[int, Outcome]:
        courier = make_courier(url.format(port=port), tls=tls, timeout_scale=0.01)
        outcomes = await courier.deliver(make_batch(*addresses, **fields))
        await courier.close()
        return dict(outcomes)

    return asyncio.run(run())


def test_aiosmtpd_receives_the_exact_content() -> None:
    """Dots, 8-bit text and UTF-8 addresses arrive as they were."""
    content = "Subject: grüße\r\n\r\n.\r\n..\r\n.a\r\nß\r\n".encode()
    with aiosmtpd(enable_SMTPUTF8=True) as (handler, port):
        outcomes = deliver(port, "bob@acme.test", "jürgen@acme.test", content=content, is_8bit=True, is_smtputf8=True)
    assert all(isinstance(outcome, Delivered) for outcome in outcomes.values()), outcomes
    assert handler.envelopes[0].content == content
    assert handler.envelopes[0].rcpt_tos == ["bob@acme.test", "jürgen@acme.test"]
    assert handler.envelopes[0].smtp_utf8


def test_aiosmtpd_with_tls_and_password(certificates: Certificates) -> None:
    """STARTTLS, verification and AUTH against another implementation."""
    tls = ClientTls()
    tls.verified.load_verify_locations(certificates.ca_file)

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"user", b"hunter2"), handled=False)

    with aiosmtpd(tls_context=certificates.server, require_starttls=True, auth_required=True, authenticator=check) as (handler, port):
        good = deliver(port, url="smtp://user:hunter2@localhost:{port}", tls=tls)[0]
        bad = deliver(port, url="smtp://user:wrong@localhost:{port}", tls=tls)[0]
    assert isinstance(good, Delivered), good
    assert isinstance(bad, Deferred)
    assert not bad.counts
    assert len(handler.envelopes) == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), Delivered),
        (("-p",), Delivered),
        (("-e",), Delivered),
        (("-8", "-N", "-E"), Delivered),
        (("-f", "RCPT"), Failed),
        (("-f", "."), Failed),
        (("-f", "CONNECT"), Deferred),
        (("-r", "MAIL"), Deferred),
        (("-r", "DATA"), Deferred),
        (("-q", "MAIL"), Deferred),
        (("-q", "DATA"), Deferred),
        (("-q", "."), Unknown),
        (("-Q", "."), Deferred),
        (("-Q", "RCPT"), Deferred),
        (("-W", ".:1"), Delivered),
        (("-A", "0"), Failed),
    ],
)
def test_smtp_sink_in_all_its_moods(options: tuple[str, ...], kind: type[Outcome]) -> None:
    """Postfix's test server: without extensions, refusing, disconnecting, late."""
    with smtp_sink(*options) as port:
        outcome = deliver(port, "bob@acme.test", "eve@acme.test")[0]
    assert isinstance(outcome, kind), outcome


def test_a_large_message_fits_through() -> None:
    """25 MB arrive, over TLS too."""
    with smtp_sink() as port:
        outcome = deliver(port, content=b"Subject: x\r\n\r\n" + (b"." * 900 + b"\r\n") * 27_000)[0]
    assert isinstance(outcome, Delivered), outcome
