"""
Golden messages: `NN-name.json` is a request, `NN-name.eml` what it becomes, byte for byte, `NN-name.why` the reason it is here.

After a wanted change, `GATEPOST_WRITE_GOLDEN=1 pytest tests/messages` writes the .eml files anew; read the difference.
"""

import base64
import email
import email.policy
import itertools
import json
import os
import types
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest

from gatepost.domain.address import Mailbox, parse_mailbox
from gatepost.domain.message import Attachment, Submission
from gatepost.mime.checks import check_submission
from gatepost.mime.compose import compose
from gatepost.mime.render import render
from gatepost.settings import Limits
from gatepost.wire.dkim import RSA_SHA256, Signer, dns_record, generate_key

HERE = Path(__file__).parent
STEMS = sorted(path.stem for path in HERE.glob("*.json"))
NOW = 1_764_000_000_123
MESSAGE_ID = "msg_01jdgenq3vfyz8w2m0s5t0000g"


def _mailboxes(texts: list[str]) -> tuple[Mailbox, ...]:
    return tuple(parse_mailbox(text) for text in texts)


def _attachment(fields: dict[str, Any]) -> Attachment:
    return Attachment(
        filename=fields["filename"],
        content=base64.b64decode(fields["content"]),
        content_type=fields["content_type"],
        is_inline=fields.get("disposition") == "inline",
        content_id=fields.get("content_id"),
    )


def _submission(stem: str) -> Submission:
    request = json.loads((HERE / f"{stem}.json").read_text("utf-8"))
    return Submission(
        sender=parse_mailbox(request["from"]),
        to=_mailboxes(request.get("to", [])),
        cc=_mailboxes(request.get("cc", [])),
        bcc=_mailboxes(request.get("bcc", [])),
        reply_to=_mailboxes(request.get("reply_to", [])),
        subject=request["subject"],
        text=request.get("text"),
        html=request.get("html"),
        attachments=tuple(map(_attachment, request.get("attachments", []))),
        headers=tuple(request.get("headers", {}).items()),
    )


def _compose(submission: Submission) -> bytes:
    numbers = itertools.count(1)
    draft = compose(submission, message_id=MESSAGE_ID, hostname="mail.acme.example", now=NOW, boundary=lambda: f"=_golden.{next(numbers)}")
    return draft.content


def _parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_there_are_golden_messages() -> None:
    """The folder was found, and every message has its reason."""
    assert len(STEMS) >= 12
    assert all((HERE / f"{stem}.why").read_text("utf-8").strip() for stem in STEMS)


@pytest.mark.parametrize("stem", STEMS)
def test_a_request_becomes_these_bytes(stem: str) -> None:
    """The same request, id, clock and boundaries give the same bytes as in the release before."""
    submission = _submission(stem)
    assert check_submission(submission, Limits()) == []
    content, path = _compose(submission), HERE / f"{stem}.eml"
    if os.environ.get("GATEPOST_WRITE_GOLDEN"):
        path.write_bytes(content)
    assert content == path.read_bytes()


@pytest.mark.parametrize("stem", STEMS)
def test_the_bytes_can_travel(stem: str) -> None:
    """7-bit but for UTF-8 addresses, CRLF only, no line over 998; lines with encoded words at most 76 (RFC 2047 §2)."""
    content = (HERE / f"{stem}.eml").read_bytes()
    head = content.partition(b"\r\n\r\n")[0]
    assert content.isascii() or "utf8" in stem
    assert content.partition(b"\r\n\r\n")[2].isascii()
    assert content.endswith(b"\r\n")
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert all(len(line) <= 76 for line in head.split(b"\r\n") if b"=?utf-8?" in line)


@pytest.mark.parametrize("stem", STEMS)
def test_another_parser_reads_what_was_asked_for(stem: str) -> None:
    """The stdlib finds the same people, subject, text, HTML, files and headers, and no defects."""
    submission = _submission(stem)
    message = _parsed((HERE / f"{stem}.eml").read_bytes())
    assert not message.defects and not any(part.defects for part in message.walk())
    assert message["Subject"] == submission.subject
    assert message["Message-ID"] == "<01jdgenq3vfyz8w2m0s5t0000g@mail.acme.example>"
    assert message["Date"] == "Mon, 24 Nov 2025 16:00:00 +0000"
    for field, boxes in (("From", (submission.sender,)), ("To", submission.to), ("Cc", submission.cc), ("Reply-To", submission.reply_to)):
        found = [(address.display_name, _utf8(address.addr_spec)) for address in message[field].addresses] if message[field] else []
        assert found == [(box.name, str(box.address)) for box in boxes]
    for name, value in submission.headers:
        assert message[name] == value
    _compare_contents(message, submission)


def _lines(part: Any) -> str:
    text = part.get_content()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n").rstrip("\n")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode()


def _compare_contents(message: EmailMessage, submission: Submission) -> None:
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    if submission.html is not None:
        assert html is not None and _lines(html) == submission.html.rstrip("\n")
        assert plain is not None
    if submission.text is not None:
        assert plain is not None and _lines(plain) == submission.text.rstrip("\n")
    files = [part for part in message.walk() if part.get_content_disposition()]
    assert {(part.get_filename(), part.get_payload(decode=True), part.get_content_type()) for part in files} == {
        (file.filename, file.content, file.content_type) for file in submission.attachments
    }


@pytest.mark.parametrize("stem", STEMS)
def test_bcc_is_nowhere_in_the_message(stem: str) -> None:
    """A hidden recipient is in the envelope and in no byte of the content."""
    submission = _submission(stem)
    content = (HERE / f"{stem}.eml").read_bytes().lower()
    assert b"\r\nbcc:" not in content
    for box in submission.bcc:
        assert str(box.address).encode() not in content


@pytest.mark.parametrize("stem", STEMS)
def test_the_rendered_message_verifies(stem: str, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """dkimpy finds the signature over every golden message good."""
    monkeypatch.setattr(dkim, "time", types.SimpleNamespace(time=lambda: NOW // 1000))
    rendered = render(
        (HERE / f"{stem}.eml").read_bytes(),
        [signer],
        now=NOW,
        received="Received: by mail.acme.example;\r\n Mon, 24 Nov 2025 16:00:00 +0000",
    )
    public = signer.key.public_key()
    assert rendered.startswith(b"Received: by mail.acme.example;\r\n Mon, 24 Nov 2025 16:00:00 +0000\r\nDKIM-Signature: ")
    text = dns_record(signer.domain, signer.selector, signer.algorithm, _der(public))[1].encode()
    assert dkim.verify(rendered, dnsfunc=lambda name, timeout=5: text)


def _der(public: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.from_pem("acme.example", "golden", RSA_SHA256, generate_key(RSA_SHA256)[0])
