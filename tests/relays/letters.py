"""The message that every provider's contract is about, and couriers to a provider on loopback."""

import base64
from typing import Any

from gatepost.clock import Clock, SystemClock
from gatepost.egress.courier import Batch
from gatepost.egress.relays.courier import HttpCourier, create_provider
from gatepost.egress.relays.target import parse_target
from gatepost.net.http_client import HttpClient
from gatepost.settings import Relay
from gatepost.testing.batches import make_batch

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"

LETTER = (
    b"Received: by gw.acme.example (Gatepost) with HTTP id msg_1;\r\n\tMon, 01 Jun 2026 10:00:00 +0000\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; d=acme.example; s=gp1; h=from:to;\r\n b=abc\r\n"
    b"From: =?utf-8?q?Ann_M=C3=BCller?= <ann@acme.example>\r\n"
    b"To: Bob <bob@acme.test>,\r\n =?utf-8?q?Zo=C3=AB?= <zoe@acme.test>\r\n"
    b'Cc: "Doe, John" <john@acme.test>\r\n'
    b"Reply-To: Help <help@acme.example>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Mon, 01 Jun 2026 10:00:00 +0000\r\n"
    b"Message-ID: <m1@acme.example>\r\n"
    b"List-Unsubscribe: <https://acme.example/u>\r\n"
    b"X-Order: 42\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="m"\r\n\r\n'
    b'--m\r\nContent-Type: multipart/related; boundary="r"\r\n\r\n'
    b'--r\r\nContent-Type: multipart/alternative; boundary="a"\r\n\r\n'
    b"--a\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHallo Zo\xc3\xab\r\n"
    b"--a\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b'<p>Hallo Zo=C3=AB <img src=3D"cid:logo"></p>\r\n--a--\r\n'
    b"--r\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\nContent-Disposition: inline; filename=logo.png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(PNG) + b"\r\n--r--\r\n"
    b"--m\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''R%C3%A9sum%C3%A9.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(PDF) + b"\r\n--m--\r\n"
)
SIMPLE = b"From: ann@acme.example\r\nTo: bob@acme.test\r\nSubject: hello\r\nMessage-ID: <m2@acme.example>\r\n\r\nhow are you?\r\n"
EVERYBODY = ("bob@acme.test", "zoe@acme.test", "john@acme.test", "hidden@acme.test")
"""Who is in To, To, Cc and in no field."""


def letter_batch(*addresses: str, **fields: Any) -> Batch:
    return make_batch(*(addresses or EVERYBODY), **{"content": LETTER, **fields})


def simple_batch(*addresses: str, **fields: Any) -> Batch:
    return make_batch(*(addresses or ["bob@acme.test"]), **{"content": SIMPLE, **fields})


def courier_to(url: str, endpoint: str, *, clock: Clock | None = None, timeout_s: float = 5, **options: Any) -> HttpCourier:
    """Make a courier to the provider that `url` names, at another place."""
    target = parse_target("main", Relay(url=url, endpoint=endpoint, **options))
    client = HttpClient(timeout_s=timeout_s)
    return HttpCourier(target=target, provider=create_provider(target), client=client, clock=clock or SystemClock(), connections=4)
