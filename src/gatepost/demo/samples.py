"""
What the demo sends, through the gateway's own doors, with nothing but the standard library.

Leaves: one `Sent` for each message, with what should become of its recipients.
"""

import base64
import http.client
import json
import re
import smtplib
import ssl
import struct
import zlib
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from gatepost.clock import SystemClock, iso
from gatepost.demo.house import DOMAIN, DemoFailed, House

_FROM = f"Acme Shop <shop@{DOMAIN}>"
_TIMEOUT_S = 30
_QUEUED_AS = re.compile(r"queued as (msg_[0-9a-z]+)")
SCHEDULED_IN_S = 2
NEVER = "deferred"
"""What a recipient that never answers has become for now; its time is not up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    A message that a door took.

    Attributes:
        via: The way in, for people.
        expected: Status by recipient, once all is over.
    """

    message_id: str
    via: str
    expected: dict[str, str]
    faults: list[str] = field(default_factory=list)


class Api:
    """The HTTP door as a client sees it."""

    def __init__(self, house: House) -> None:
        """Take the house's address and key."""
        self._host = house.http
        self._headers = {"Authorization": f"Bearer {house.key}"}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[bytes, dict[str, str]]:
        """
        Make one request; return body and headers.

        Raises:
            DemoFailed: The answer is no success.
        """
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, self._headers | {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            content = response.read()
        except OSError as error:
            raise DemoFailed(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise DemoFailed(f"{method} {path} answered {response.status}: {content[:300].decode('utf-8', 'replace')}")
        return content, {name.lower(): value for name, value in response.getheaders()}

    def get(self, path: str) -> Any:
        """Read JSON."""
        return json.loads(self.ask("GET", path)[0])

    def send(self, fields: dict[str, Any], key: str = "") -> tuple[Any, dict[str, str]]:
        """Send a message; return the answer and its headers."""
        headers = {"Content_Type": "application/json"} | ({"Idempotency_Key": key} if key else {})
        content, answered = self.ask("POST", "/v1/messages", json.dumps(fields).encode(), **headers)
        return json.loads(content), answered


def send_all(house: House, api: Api) -> list[Sent]:
    """
    Send every sample.

    Raises:
        DemoFailed: A door refused one.
    """
    return [*_single(api), *_personalized(api), _attached(api), _scheduled(api), _raw(api), _smtp(house)]


def _single(api: Api) -> list[Sent]:
    """One message over HTTP, and the same request again with its idempotency key."""
    fields = {
        "from": _FROM,
        "to": ["Ann <deliver@example.net>"],
        "subject": "Your order 42",
        "text": "Thank you for your order.\n",
        "html": "<h1>Thank you</h1><p>Your order <b>42</b> is on its way.</p>",
        "tags": ["order"],
    }
    answer, _ = api.send(fields, "order-42/confirmation")
    again, headers = api.send(fields, "order-42/confirmation")
    faults = [] if again["id"] == answer["id"] else ["the replay made a second message"]
    if headers.get("idempotent-replayed") != "true":
        faults.append("the replay does not say that it is one")
    return [
        Sent(
            message_id=answer["id"],
            via="HTTP, sent twice with one key",
            expected={"deliver@example.net": "delivered"},
            faults=faults,
        )
    ]


def _personalized(api: Api) -> list[Sent]:
    expected = {"defer+ben@example.net": "delivered", "bounce+eve@example.net": "bounced", "never+kim@example.net": NEVER}
    names = {"defer+ben@example.net": "Ben", "bounce+eve@example.net": "Eve", "never+kim@example.net": "Kim"}
    fields = {
        "from": _FROM,
        "subject": "News for {{ name }}",
        "text": "Hello {{ name }}, the spring collection is here.\n",
        "html": "<p>Hello {{ name }}, the <i>spring collection</i> is here.</p>",
        "stream": "bulk",
        "personalizations": [{"to": [address], "variables": {"name": name}} for address, name in names.items()],
    }
    answers, _ = api.send(fields)
    return [
        Sent(message_id=answer["id"], via="HTTP, personalized", expected={address: status})
        for answer, (address, status) in zip(answers, expected.items(), strict=True)
    ]


def _attached(api: Api) -> Sent:
    fields = {
        "from": _FROM,
        "to": ["deliver+invoice@example.net"],
        "subject": "Invoice 2026-11",
        "html": '<p>Your invoice is attached.</p><p><img src="cid:logo" alt="Acme" width="48" height="48"></p>',
        "attachments": [
            {"filename": "invoice.csv", "content_type": "text/csv", "content": base64.b64encode(b"item,price\r\nshoes,49.90\r\n").decode()},
            {
                "filename": "logo.png",
                "content_type": "image/png",
                "content": base64.b64encode(_png()).decode(),
                "disposition": "inline",
                "content_id": "logo",
            },
        ],
    }  # fmt: skip
    answer, _ = api.send(fields)
    return Sent(message_id=answer["id"], via="HTTP, attachment and image", expected={"deliver+invoice@example.net": "delivered"})


def _png() -> bytes:
    """Draw a plain square of 48 by 48."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([30, 110 + y, 160]) * 48 for y in range(48))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 48, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _scheduled(api: Api) -> Sent:
    at = iso(SystemClock().now() + SCHEDULED_IN_S * 1000)
    answer, _ = api.send(
        {"from": _FROM, "to": ["deliver+later@example.net"], "subject": "A reminder", "text": "It is time.\n", "scheduled_at": at}
    )
    faults = [] if answer["status"] == "scheduled" else [f"its status is {answer['status']}, not scheduled"]
    expected = {"deliver+later@example.net": "delivered"}
    return Sent(message_id=answer["id"], via=f"HTTP, in {SCHEDULED_IN_S} s", expected=expected, faults=faults)


def _raw(api: Api) -> Sent:
    message = _mime("A finished message", "deliver+raw@example.net", "This one came as MIME.\n")
    content, _ = api.ask(
        "POST", "/v1/messages/raw", message.as_bytes(policy=message.policy.clone(linesep="\r\n")), Content_Type="message/rfc822",
        Gatepost_Envelope_From=f"bounces@{DOMAIN}", Gatepost_Envelope_To="deliver+raw@example.net",
    )  # fmt: skip
    return Sent(message_id=json.loads(content)["id"], via="HTTP, raw MIME", expected={"deliver+raw@example.net": "delivered"})


def _smtp(house: House) -> Sent:
    to = ["deliver+smtp@example.net", "bounce+smtp@example.net"]
    message = _mime("Over SMTP", ", ".join(to), "From an application that speaks SMTP.\n")
    host, _, port = house.smtp.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=_TIMEOUT_S) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(house.certificate)))
            client.login("demo", house.key)
            client.mail(f"bounces@{DOMAIN}")
            for address in to:
                client.rcpt(address)
            code, reply = client.data(message.as_bytes(policy=message.policy.clone(linesep="\r\n")))
    except (smtplib.SMTPException, OSError) as error:
        raise DemoFailed(f"SMTP: {error}") from error
    found = _QUEUED_AS.search(reply.decode("ascii", "replace"))
    if code != 250 or found is None:
        raise DemoFailed(f"SMTP: {code} {reply!r}")
    expected = {to[0]: "delivered", to[1]: "bounced"}
    return Sent(message_id=found[1], via="SMTP with TLS and AUTH", expected=expected)


def _mime(subject: str, to: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = _FROM, to, subject
    message.set_content(text)
    return message
