"""Batches and couriers for tests: only what a test is about needs to be named."""

from typing import Any

from gatepost.clock import SystemClock
from gatepost.egress.courier import Batch, BatchRecipient
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import Dialer, SocketDialer
from gatepost.net.dns import Resolver
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress, Relay, Settings
from gatepost.testing.fake_dns import FakeResolver

CONTENT = b"Subject: hello\r\n\r\nhow are you?\r\n"


def make_batch(*addresses: str, **fields: Any) -> Batch:
    """Make a batch to `addresses`, numbered from 0; `fields` overrides any field of `Batch`."""
    recipients = tuple(BatchRecipient(n=n, address=address, attempt=1) for n, address in enumerate(addresses or ["bob@acme.test"]))
    defaults: dict[str, Any] = {
        "message_id": "msg_1",
        "route": "main",
        "site": "relay:main",
        "domain": "acme.test",
        "envelope_from": "ann@acme.example",
        "recipients": recipients,
        "content": CONTENT,
    }
    return Batch(**(defaults | fields))


def make_courier(
    url: str | None = None, *, resolver: Resolver | None = None, dialer: Dialer | None = None, tls: ClientTls | None = None, **egress: Any
) -> SmtpCourier:
    """Make a courier to the relay at `url`, or straight to MX; `egress` are options of that section."""
    return SmtpCourier(
        route="mx" if url is None else "main",
        settings=Settings(egress=Egress(**egress)),
        relay=None if url is None else Relay(url=url),
        resolver=resolver or FakeResolver(),
        dialer=dialer or SocketDialer(),
        clock=SystemClock(),
        hostname="gw.acme.example",
        tls=tls,
    )
