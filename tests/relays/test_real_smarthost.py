"""A smarthost that others wrote: Postfix with STARTTLS and a password, which hands on what it takes."""

import asyncio
import socket
import time
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from gatepost.app import parts
from gatepost.clock import SystemClock
from gatepost.domain.outcome import Category, Deferred, Delivered, Failed
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress, Relay, Settings
from gatepost.testing.batches import CONTENT, make_batch
from gatepost.testing.certificates import make_certificates
from tests.relays.postfix import postfix


class Sink:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 ok"


def test_postfix_takes_our_mail_with_a_password_and_hands_it_on(tmp_path: Path):
    """Verified TLS, AUTH, each recipient's own outcome; a wrong password costs no retry; a probe sends nothing."""
    certificates = make_certificates(tmp_path)
    tls = ClientTls()
    tls.verified.load_verify_locations(certificates.ca_file)
    sink = Sink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(sink, hostname="127.0.0.1", port=port)
    controller.start()

    def courier(smarthost: int, secret: str):
        relay = Relay(url=f"smtp://gw@127.0.0.1:{smarthost}", secret=secret)
        settings = parts.with_hostnames(Settings(egress=Egress(timeout_scale=0.05), relays={"main": relay}))
        made = parts.create_couriers(settings, SystemClock())["main"]
        made._inner._opener._tls = tls  # type: ignore[attr-defined]
        return made

    async def run(smarthost: int):
        right, wrong = courier(smarthost, "s3cret"), courier(smarthost, "guessed")
        found = (
            await right.deliver(make_batch("bob@acme.test", "nobody@acme.test")),
            await wrong.deliver(make_batch()),
            await right.probe(),
            await wrong.probe(),
        )
        await right.close()
        await wrong.close()
        return found

    try:
        with postfix(certificates, port, "gw", "s3cret") as smarthost:
            taken, refused, good, bad = asyncio.run(run(smarthost))
            for _ in range(200):
                if sink.envelopes:
                    break
                time.sleep(0.05)
    finally:
        controller.stop()
    assert isinstance(taken[0], Delivered), taken
    assert not taken[0].final
    assert isinstance(taken[1], Failed)
    assert taken[1].category is Category.INVALID_RECIPIENT
    assert isinstance(refused[0], Deferred)
    assert (refused[0].category, refused[0].counts) == (Category.AUTH_FAILURE, False)
    assert (good.is_good, good.is_authenticated) == (True, True), good
    assert (bad.is_good, bad.is_authenticated) == (False, False), bad
    assert len(sink.envelopes) == 1
    assert sink.envelopes[0].rcpt_tos == ["bob@acme.test"]
    content = sink.envelopes[0].original_content or b""
    assert content.endswith(CONTENT.partition(b"\r\n\r\n")[2])
    assert b"ESMTPSA" in content, "encrypted and authenticated"
