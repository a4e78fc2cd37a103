"""Messages for the tests, as fields and as MIME, and the files that they carry."""

import base64
import io
import zipfile
from email.message import EmailMessage
from typing import Any

from gatepost import ids
from gatepost.accept.ports import Screening
from gatepost.domain.access import Principal, PrincipalKind
from gatepost.domain.address import parse_address, parse_mailbox
from gatepost.domain.message import Attachment, EnvelopeRecipient, RawSubmission, Steering, Submission
from gatepost.domain.tenant import Caller
from gatepost.mime.adopt import adopt
from gatepost.mime.compose import compose
from gatepost.net.dns import Resolver
from gatepost.screening.screener import Screener
from gatepost.settings import Limits, Settings
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import FakeResolver

MZ = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + bytes(100)
NOW = 1_764_000_000_000


def caller(tenant_id: str = "ten_1", peer: str = "192.0.2.1") -> Caller:
    principal = Principal(id="key_1", kind=PrincipalKind.KEY, tenant_id=tenant_id, name="test")
    return Caller(principal=principal, peer=peer, request_id="req_1")


def zipped(*names: str, password: bool = False, content: bytes = b"hello") -> bytes:
    """Make a zip file; with `password` its entries are marked as encrypted."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    made = bytearray(out.getvalue())
    if password:
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = made.find(mark)
            while at >= 0:
                made[at + offset] |= 1
                at = made.find(mark, at + 4)
    return bytes(made)


def submission(*to: str, files: tuple[tuple[str, str, bytes], ...] = (), **fields: Any) -> Submission:
    """Make a submission; files are (name, type, content)."""
    fields = {"subject": "Hi", "text": "Hello", **fields}
    attached = tuple(Attachment(filename=name, content_type=kind, content=content) for name, kind, content in files)
    recipients = tuple(parse_mailbox(one) for one in to or ("ann@example.net",))
    return Submission(sender=parse_mailbox("shop@acme.example"), to=recipients, attachments=attached, **fields)


def mime(*files: tuple[str, str, bytes], subject: str = "Hi", html: str | None = None, text: str = "Hello") -> bytes:
    """Make finished MIME with files, by the standard library."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@acme.example", "ann@example.net", subject
    message["Date"] = "Tue, 24 Nov 2026 02:00:00 +0000"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    for name, kind, content in files:
        main, _, sub = kind.partition("/")
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n", max_line_length=200))


def parts(*each: bytes, boundary: bytes = b"b", kind: bytes = b"mixed") -> bytes:
    """Put hand-written parts into a message."""
    line = b"--" + boundary
    head = b"From: shop@acme.example\r\nContent-Type: multipart/%b; boundary=%b\r\n\r\n" % (kind, boundary)
    return head + line + b"\r\n" + (b"\r\n" + line + b"\r\n").join(each) + b"\r\n" + line + b"--\r\n"


def part(disposition: bytes, content: bytes = b"hi", kind: bytes = b"application/octet-stream", encoding: bytes = b"base64") -> bytes:
    """Write one attached part by hand."""
    body = base64.encodebytes(content).replace(b"\n", b"\r\n") if encoding == b"base64" else content
    head = b"Content-Type: %b\r\nContent-Disposition: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (kind, disposition, encoding)
    return head + body


TEXT = b"Content-Type: text/plain\r\n\r\nHello"


def screener(
    settings: Settings | None = None, own: dict[str, str] | None = None, resolver: Resolver | None = None, clock: Any = None
) -> Screener:
    """Make the rules, with a tenant's own values."""
    values = own or {}

    class Own:
        def policy(self, tenant_id: str) -> dict[str, str]:
            return values

    return Screener(settings=settings or Settings(), policies=Own(), resolver=resolver or FakeResolver(), clock=clock or FakeClock())


async def check_fields(screening: Screening, given: Submission, who: Caller | None = None) -> Any:
    """Compose and check."""
    draft = compose(given, message_id=ids.new_message_id(), hostname="gw.example", now=NOW)
    return await screening.check(who or caller(), draft, given)


async def check_mime(screening: Screening, content: bytes, *to: str, who: Caller | None = None, stream: str = "transactional") -> Any:
    """Adopt and check."""
    recipients = tuple(EnvelopeRecipient(address=parse_address(one)) for one in to or ("ann@example.net",))
    raw = RawSubmission(
        envelope_from=parse_address("shop@acme.example"), recipients=recipients, content=content, steering=Steering(stream=stream)
    )
    draft = adopt(raw, message_id=ids.new_message_id(), hostname="gw.example", now=NOW, limits=Limits())
    return await screening.check(who or caller(), draft)
