"""Composing: what other parsers read is what was asked for, whatever it was. The golden messages are in tests/messages."""

import email
import email.header
import email.policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gatepost.domain.address import Address, Mailbox
from gatepost.domain.message import Attachment, RecipientKind, Submission
from gatepost.mime.compose import compose
from gatepost.mime.headers import decode_text, format_mailbox, mailboxes, unstructured
from gatepost.mime.parse import part, read_message

ID = "msg_01jdgenq3vfyz8w2m0s5t0000g"
ANN = Mailbox(Address("ann", "example.net"), "Ann")
GOOD = Submission(sender=Mailbox(Address("shop", "acme.example"), "Acme"), to=(ANN,), subject="Hello", text="x")

_shown = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co")), max_size=300)
_texts = st.text(
    st.one_of(st.sampled_from(" \t\n\r.=ä🎉"), st.characters(exclude_categories=("Cs",), exclude_characters="\0")), max_size=400
)


def _compose(submission: Submission, hostname: str = "mail.acme.example") -> bytes:
    return compose(submission, message_id=ID, hostname=hostname, now=0).content


def _can_travel(content: bytes) -> bool:
    lines = content.split(b"\r\n")
    return (
        content.isascii()
        and content.endswith(b"\r\n")
        and not any(len(line) > 998 or b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    )


@given(_shown)
@settings(max_examples=300, deadline=None)
def test_any_subject_comes_back(subject: str) -> None:
    """Encoded, folded and decoded again by the stdlib and by us, a subject is what it was."""
    field = unstructured("Subject", subject).encode()
    assert _can_travel(field)
    value = email.message_from_bytes(field + b"\r\n", policy=email.policy.compat32)["Subject"]
    unfolded = str(value).replace("\r\n", "")
    assert (
        str(email.header.make_header(email.header.decode_header(unfolded))) == subject.strip(" \t")
        or " =?" in subject
        or "\u3000" in subject
    )
    assert decode_text(str(value)) == subject.strip(" \t")


@given(st.lists(_shown.map(str.strip), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_names_come_back(names: list[str]) -> None:
    """A list of mailboxes has as many mailboxes as were given, with their names, whatever is in those."""
    boxes = [Mailbox(Address(f"p{n}", "example.net"), name) for n, name in enumerate(names)]
    field = mailboxes("To", boxes).encode()
    assert _can_travel(field)
    assert all(len(line) <= 76 for line in field.split(b"\r\n") if b"=?" in line)
    found = email.message_from_bytes(field + b"\r\n", policy=email.policy.default)["To"].addresses
    assert [address.addr_spec for address in found] == [str(box.address) for box in boxes]
    for box in boxes:
        shown = decode_text(format_mailbox(box)).removesuffix(f"<{box.address}>").strip()
        if box.name.isascii() and "=?" not in box.name:
            continue
        assert shown == box.name or not box.name


@given(_texts, _texts)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(text: str, html: str) -> None:
    """Text survives its transfer encoding; only its line ends become CRLF."""
    content = _compose(replace(GOOD, text=text, html=html))
    assert _can_travel(content)
    for found, given_text in zip(email.message_from_bytes(content, policy=email.policy.default).iter_parts(), (text, html), strict=False):
        raw = found.get_payload(decode=True)
        assert isinstance(raw, bytes)
        wanted = given_text.replace("\r\n", "\n").replace("\r", "\n")
        assert raw.decode().replace("\r\n", "\n") == (wanted if wanted.endswith("\n") else wanted + "\n") or not text


@given(
    st.binary(max_size=500),
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=60).map(str.strip).filter(bool),
)
@settings(max_examples=150, deadline=None)
@example(b"", "<>")
@example(b"", '"a"')
@example(b"", "<\\a>.txt")
def test_any_file_comes_back(raw: bytes, name: str) -> None:
    """A file's bytes and its name are the same at the other end."""
    content = _compose(replace(GOOD, attachments=(Attachment(filename=name, content=raw, content_type="application/x-y"),)))
    assert _can_travel(content)
    [found] = read_message(content).attachments
    assert part(content, found.index) == raw
    assert found.filename == name
    theirs = [p for p in email.message_from_bytes(content, policy=email.policy.default).walk() if p.get_content_disposition()]
    assert theirs[0]["Content-Disposition"].params["filename"] == name  # get_filename() takes quotes and <> off twice


def test_a_filename_has_one_type_for_every_reader() -> None:
    """The ASCII name for old readers ends as the real one does, also when it is cut."""
    content = _compose(replace(GOOD, attachments=(Attachment(filename="ä" * 115 + ".exe", content=b"", content_type="a/b"),)))
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    values = [line for line in content.decode().split("\r\n") if line.startswith(" filename")]
    assert values[-1].endswith('.exe"') and values[-2].endswith(".exe;")
    assert message.is_multipart()


def test_the_message_id_is_ours_and_stays() -> None:
    """Composing twice gives the same Message-ID; a host name that is none does not get into it."""
    assert b"Message-ID: <01jdgenq3vfyz8w2m0s5t0000g@mail.acme.example>\r\n" in _compose(GOOD)
    for hostname in ("", "localhost", "a b.example", "x.example\r\nBcc: y@z.example", "x.example>"):
        assert b"Message-ID: <01jdgenq3vfyz8w2m0s5t0000g@acme.example>\r\n" in _compose(GOOD, hostname)


def test_composing_is_deterministic() -> None:
    """The same arguments give the same bytes."""
    submission = replace(GOOD, html="<p>x</p>", attachments=(Attachment(filename="a", content=b"x", content_type="a/b"),))
    assert _compose(submission) == _compose(submission)


def test_somebody_named_twice_gets_one_copy() -> None:
    """To wins over Cc and Bcc; the case of an address does not make another person."""
    other = Mailbox(Address("ANN", "example.net"))
    draft = compose(replace(GOOD, cc=(other,), bcc=(other, Mailbox(Address("bob", "example.net")))), message_id=ID, hostname="", now=0)
    assert [(str(r.address), r.kind) for r in draft.recipients] == [
        ("ann@example.net", RecipientKind.TO),
        ("bob@example.net", RecipientKind.BCC),
    ]


def test_a_line_break_never_gets_into_a_header() -> None:
    """Even a submission that nobody checked cannot inject a header."""
    file = Attachment(filename="a", content=b"", content_type="a/b")
    for bad in (
        replace(GOOD, subject="a\r\nBcc: x@y.example"),
        replace(GOOD, sender=Mailbox(ANN.address, "a\nb")),
        replace(GOOD, headers=(("X-A", "b\rc"),)),
        replace(GOOD, headers=(("X\r\nA", "b"),)),
        replace(GOOD, subject="ä\0"),
        replace(GOOD, attachments=(replace(file, filename="a\r\nb"),)),
        replace(GOOD, attachments=(replace(file, content_type="a/b\r\nX: y"),)),
        replace(GOOD, attachments=(replace(file, content_id="a\nb"),)),
    ):
        with pytest.raises(ValueError, match="line break"):
            _compose(bad)


def test_smtputf8_is_asked_for_only_when_needed() -> None:
    """International domains have an ASCII form; international local parts have none."""
    draft = compose(GOOD, message_id=ID, hostname="", now=0)
    assert (draft.is_8bit, draft.is_smtputf8) == (False, False)
    in_header = compose(replace(GOOD, to=(Mailbox(Address("jörg", "example.net")),)), message_id=ID, hostname="", now=0)
    assert (in_header.is_8bit, in_header.is_smtputf8) == (True, True)
    hidden = compose(replace(GOOD, bcc=(Mailbox(Address("jörg", "example.net")),)), message_id=ID, hostname="", now=0)
    assert (hidden.is_8bit, hidden.is_smtputf8) == (False, True)


def test_encoded_words_of_others_are_read() -> None:
    """Charsets, both encodings, characters split over two words; unknown charsets stay as they are."""
    assert decode_text("=?ISO-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?8J+O?=\r\n =?utf-8?b?iQ==?= x =?utf-8*de?q?=C3=A4?=") == "Grüße🎉 x ä"
    assert decode_text("=?x-none?q?a?= =?zlib?b?eJw=?= b") == "=?x-none?q?a?==?zlib?b?eJw=?= b"
    assert decode_text("a =?utf-8?q?=0D=0ABcc:_x=00?= b") == "a   Bcc: x  b"
    assert decode_text("=?utf-8?b?!!!?=") is not None
