"""A message taken apart: nothing that can go along is lost, nothing that belongs to the bytes goes along."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.egress.courier import BatchRecipient
from gatepost.egress.relays.provider import shares
from gatepost.mime.letter import Correspondent, Letter, Unreadable, formatted, read_letter
from tests.relays.letters import LETTER, PDF, PNG, SIMPLE


def test_every_part_of_a_full_message_is_found():
    """Names decoded, texts decoded, files byte for byte, inline ones with their Content-IDs."""
    letter = read_letter(LETTER)
    assert letter.from_ == Correspondent("ann@acme.example", "Ann Müller")
    assert [str(one) for one in letter.to] == ["Bob <bob@acme.test>", "Zoë <zoe@acme.test>"]
    assert [str(one) for one in letter.cc] == ['"Doe, John" <john@acme.test>']
    assert [one.address for one in letter.reply_to] == ["help@acme.example"]
    assert (letter.subject, letter.message_id) == ("Grüße", "<m1@acme.example>")
    assert (letter.text, letter.html) == ("Hallo Zoë", '<p>Hallo Zoë <img src="cid:logo"></p>')
    assert [(one.name, one.content_type, one.content, one.content_id, one.is_inline) for one in letter.files] == [
        ("logo.png", "image/png", PNG, "logo", True),
        ("Résumé.pdf", "application/pdf", PDF, "", False),
    ]
    assert letter.headers == (("List-Unsubscribe", "<https://acme.example/u>"), ("X-Order", "42"))


def test_a_second_text_becomes_a_file():
    """A calendar beside the text keeps its method; an attached message stays whole; a text file stays a file."""
    calendar = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR"
    content = (
        b"From: a@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n"
        b"--m\r\nContent-Type: text/plain\r\n\r\nhi\r\n"
        b"--m\r\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\n" + calendar + b"\r\n"
        b"--m\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\nnotes\r\n"
        b"--m\r\nContent-Type: message/rfc822\r\n\r\n" + SIMPLE + b"\r\n--m--\r\n"
    )
    letter = read_letter(content)
    assert (letter.text, letter.html) == ("hi", None)
    assert [(one.name, one.content_type) for one in letter.files] == [
        ("invite.ics", "text/calendar; charset=utf-8; method=REQUEST"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("message.eml", "message/rfc822"),
    ]
    assert letter.files[0].content == calendar
    assert b"how are you?" in letter.files[2].content


@pytest.mark.parametrize("content", [b"", b"\r\n", b"no header", b"To: b@acme.test\r\n\r\nhi", b"From: nobody\r\n\r\nhi"])
def test_what_has_no_sender_is_no_letter(content: bytes):
    """It fails at once, in words, instead of reaching a provider without a sender."""
    with pytest.raises(Unreadable):
        read_letter(content)


@given(st.binary(max_size=300))
def test_nothing_that_is_read_breaks_the_reader(noise: bytes):
    """A letter, or Unreadable."""
    for content in (noise, b"From: a@acme.example\r\n" + noise, SIMPLE + noise, LETTER[:700] + noise):
        with contextlib.suppress(Unreadable):
            read_letter(content)


def recipients(*addresses: str) -> list[BatchRecipient]:
    return [BatchRecipient(n=n, address=address, attempt=1) for n, address in enumerate(addresses)]


def letter(to: str = "", cc: str = "") -> Letter:
    def people(text: str) -> tuple[Correspondent, ...]:
        return tuple(Correspondent(one) for one in text.split())

    return Letter(from_=Correspondent("a@acme.example"), to=people(to), cc=people(cc))


addresses = st.sampled_from([f"{name}@acme.test" for name in "abcdef"])


@given(st.lists(addresses, unique=True), st.lists(addresses, unique=True), st.lists(addresses, unique=True, min_size=1), st.integers(0, 6))
def test_calls_reach_exactly_the_envelope(to: list[str], cc: list[str], envelope: list[str], most: int):
    """Whatever To and Cc show: each recipient of the batch in one call, nobody else in any, who was hidden in no visible field."""
    found = shares(letter(" ".join(to), " ".join(cc)), recipients(*envelope), most)
    mailed = [one.address for share in found for one in (*share.to, *share.cc, *share.bcc)]
    assert sorted(mailed) == sorted(envelope)
    assert sorted(one.address for share in found for one in share.recipients) == sorted(envelope)
    assert all(share.to for share in found)
    for share in found:
        shown = {one.address for one in (*share.to, *share.cc)}
        if len(share.recipients) > 1:
            assert len(share.recipients) <= most
            assert shown == {*to, *cc}


def test_addresses_are_matched_as_they_are_meant():
    """A domain in Unicode and in A-labels, and another case, are one recipient; the envelope's form goes out."""
    (share,) = shares(letter("Bob@BÜCHER.example zoe@acme.test"), recipients("bob@xn--bcher-kva.example", "zoe@acme.test"), 50)
    assert [one.address for one in share.to] == ["bob@xn--bcher-kva.example", "zoe@acme.test"]


@pytest.mark.parametrize(
    ("name", "text"), [("", "b@x.test"), ("Bob", "Bob <b@x.test>"), ('A "B", C', '"A \\"B\\", C" <b@x.test>'), ("Zoë", "Zoë <b@x.test>")]
)
def test_names_are_quoted_where_they_must_be(name: str, text: str):
    """A comma in a name must not make two addresses of one."""
    assert formatted(Correspondent("b@x.test", name)) == text
