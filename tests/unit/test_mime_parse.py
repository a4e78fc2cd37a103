"""Reading for display: what was composed comes back, and nothing that was not composed breaks it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gatepost.domain.address import Address, Mailbox
from gatepost.domain.message import Attachment, Submission
from gatepost.mime.compose import compose
from gatepost.mime.parse import Parsed, part, read_message
from gatepost.mime.plaintext import text_of
from gatepost.mime.render import render

GOOD = Submission(
    sender=Mailbox(Address("shop", "acme.example"), "Ümläut, Inc."),
    to=(Mailbox(Address("ann", "example.net"), "Ann"),),
    cc=(Mailbox(Address("bob", "example.net")),),
    subject="Grüße",
    text="Hällo\n",
    html='<img src="cid:logo">\n',
    attachments=(
        Attachment(filename="logo.png", content=b"\x89PNG", content_type="image/png", is_inline=True, content_id="logo"),
        Attachment(filename="Übersicht.txt", content="ä\n".encode(), content_type="text/plain"),
    ),
)


def _content(submission: Submission = GOOD) -> bytes:
    return compose(submission, message_id="msg_01jdgenq3vfyz8w2m0s5t0000g", hostname="h.example", now=0).content


def test_a_composed_message_is_read_back() -> None:
    """Names, subject, text, HTML and files, each decoded."""
    parsed = read_message(_content())
    assert (parsed.subject, parsed.from_, parsed.to, parsed.cc) == (
        "Grüße",
        "Ümläut, Inc. <shop@acme.example>",
        "Ann <ann@example.net>",
        "bob@example.net",
    )
    assert (parsed.date, parsed.text, parsed.html) == ("Thu, 01 Jan 1970 00:00:00 +0000", "Hällo\n", '<img src="cid:logo">\n')
    assert parsed.header("message-id") == "<01jdgenq3vfyz8w2m0s5t0000g@h.example>"
    logo, file = parsed.attachments
    assert (logo.filename, logo.content_type, logo.size, logo.content_id, logo.is_inline) == ("logo.png", "image/png", 4, "logo", True)
    assert (file.filename, file.content_type, file.size, file.content_id, file.is_inline) == ("Übersicht.txt", "text/plain", 3, None, False)
    assert part(_content(), logo.index) == b"\x89PNG"
    assert part(_content(), file.index) == "ä\n".encode()


def test_an_unknown_part_is_an_index_error() -> None:
    """A number that the page did not show leads nowhere."""
    with pytest.raises(IndexError):
        part(_content(), 99)


def test_foreign_forms_are_read() -> None:
    """Latin-1, RFC 2231 sections, a name in an encoded word, an attached message."""
    parsed = read_message(
        b"From: a@b.example\r\nSubject: =?iso-8859-1?q?f=FCr?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b"--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nf\xfcr\r\n"
        b'--x\r\nContent-Type: application/pdf; name="=?utf-8?b?w7w=?=.pdf"\r\n\r\nx\r\n'
        b"--x\r\nContent-Type: a/b\r\nContent-Disposition: attachment; filename*0*=utf-8''%C3%BC; filename*1=.ex; filename*2=e\r\n\r\nx\r\n"
        b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner body\r\n"
        b"--x\r\nContent-Type: text/plain; charset=zlib\r\n\r\n\xff\r\n--x--\r\n"
    )
    assert (parsed.subject, parsed.text) == ("für", "für")
    assert [file.filename for file in parsed.attachments] == ["ü.pdf", "ü.exe", "", ""]
    assert parsed.attachments[2].content_type == "message/rfc822"


@given(
    st.one_of(
        st.binary(max_size=300), st.tuples(st.binary(min_size=1, max_size=8), st.integers(0, 1500)).map(lambda change: _changed(*change))
    )
)
@settings(max_examples=400, deadline=None)
def test_reading_never_raises(content: bytes) -> None:
    """Bytes of any kind, and good messages with octets changed."""
    assert isinstance(read_message(content), Parsed)


def _changed(octets: bytes, at: int) -> bytes:
    content = _content()
    return content[:at] + octets + content[at + len(octets) :]


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: message/rfc822\r\n\r\n" * 10_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
        b"A: b\r\n" * 200_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\r\n\r\nx",
        b"Content-Disposition: attachment" + b"; filename*0=x" * 20_000 + b"\r\n\r\nx",
    ],
)
def test_bombs_are_read_cheaply(content: bytes) -> None:
    """Nesting and size cost no more than a second, also where adopt did not look first."""
    started = time.thread_time()
    read_message(content)
    assert time.thread_time() - started < 1.5


def test_rendering_keeps_the_content_and_ends_it() -> None:
    """Nothing is added without signers but the last line break; Received stands on top and cannot inject."""
    assert render(b"From: a@b.example\r\n\r\nx", [], now=0) == b"From: a@b.example\r\n\r\nx\r\n"
    assert render(_content(), [], now=0) == _content()
    assert (
        render(b"From: a@b.example\r\n\r\nx\r\n", [], now=0, received="Received: by h;\r\n now")
        == b"Received: by h;\r\n now\r\nFrom: a@b.example\r\n\r\nx\r\n"
    )
    for bad in ("Received: x\r\nBcc: y", "Received: x\nBcc: y", "Received: x\r y"):
        with pytest.raises(ValueError, match="Received"):
            render(_content(), [], now=0, received=bad)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hi  <b>Ann</b>,</p><p>bye</p>", "Hi Ann,\n\nbye\n"),
        ('see <a href="https://a.example/x">our page</a>', "see our page (https://a.example/x)\n"),
        ('<a href="https://a.example/">a.example</a> <a href="mailto:x@a.example">x@a.example</a>', "a.example x@a.example\n"),
        ('<a href="javascript:alert(1)">x</a><a href="#top">y</a>', "xy\n"),
        ("<ul><li>one<li><p>two</p></ul>", "- one\n- two\n"),
        ("<table><tr><th>No</th><th>Price</th></tr><tr><td>1</td><td>2</td></tr></table>", "No | Price\n1 | 2\n"),
        ("a<br>b<hr>c", f"a\nb\n{'-' * 20}\nc\n"),
        ("<pre>a\n  b</pre>c", "a\n  b\n\nc\n"),
        ("<script>x</script><style>y</style><title>z</title><!-- c -->", ""),
        ("&lt;b&gt; &amp; &eacute; <img alt='Logo'>", "<b> & é Logo\n"),
        ("", ""),
        ("plain", "plain\n"),
    ],
)
def test_html_becomes_readable_text(html: str, text: str) -> None:
    """Paragraphs, links, lists, tables; no script, style or comment."""
    assert text_of(html) == text


@pytest.mark.parametrize(
    "html",
    ["<div>" * 100_000, "<a href=https://x>" * 50_000, "<b>" * 200_000, "<p>" * 300_000, "<table>" * 50_000, "<" * 500_000, "x " * 500_000],
)
def test_hostile_html_costs_little(html: str) -> None:
    """Deep or endless HTML neither recurses nor takes long, and the text is bounded."""
    started = time.thread_time()
    assert len(text_of(html)) <= 500_001
    assert time.thread_time() - started < 1.0


def test_html_without_text_is_sent_alone() -> None:
    """A message that is only an image has no empty text part."""
    content = _content(replace(GOOD, text=None, html="<img src=x>", attachments=()))
    assert b"multipart" not in content
