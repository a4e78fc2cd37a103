"""Reading and writing SMTP replies."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.smtp_reply import MAX_LINE_BYTES, MAX_LINES, ProtocolError, ReplyParser, WireReply, format_reply

STREAM = b"250-mx.example Hello\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n550-5.1.1 No such\r\n550 5.1.1 user\r\n354\r\n"


def test_replies_of_one_and_more_lines_are_read() -> None:
    """Lines stay apart where EHLO needs them; in words they are joined, without codes."""
    replies = ReplyParser().feed(STREAM)
    assert replies == [
        WireReply(250, ("mx.example Hello", "SIZE 1000", "AUTH PLAIN")),
        WireReply(550, ("5.1.1 No such", "5.1.1 user")),
        WireReply(354, ("",)),
    ]
    assert str(replies[1].reply) == "550 5.1.1 No such user"


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=9))
def test_how_replies_are_cut_makes_no_difference(cuts: list[int]) -> None:
    """Any split of the stream gives the same replies."""
    parser, edges = ReplyParser(), [0, *sorted(cuts), len(STREAM)]
    found = [reply for a, b in pairwise(edges) for reply in parser.feed(STREAM[a:b])]
    assert found == ReplyParser().feed(STREAM)
    assert parser.is_empty


@pytest.mark.parametrize(
    "data",
    [
        b"250 ok\n", b"250 a\rb\r\n", b"250-a\rb\r\n", b"250-a\n", b"hello\r\n", b"25 x\r\n", b"150 x\r\n", b"250_x\r\n", b"\r\n", b"2500 x\r\n",
        b"250 " + b"x" * MAX_LINE_BYTES, b"250 " + b"x" * MAX_LINE_BYTES + b"\r\n", b"250-x\r\n" * (MAX_LINES + 1),
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    """Bare newlines, other protocols and endless replies are a protocol error, not a guess."""
    with pytest.raises(ProtocolError):
        ReplyParser().feed(data)


@given(data=st.binary(max_size=100))
def test_only_protocol_errors_come_out_of_garbage(data: bytes) -> None:
    """Random bytes give replies or `ProtocolError`, nothing else."""
    with suppress(ProtocolError):
        ReplyParser().feed(b"250 " + data + b"\r\n")


@pytest.mark.parametrize(
    ("text", "enhanced"), [("5.7.1 no", "5.7.1"), ("2.0.0 odd", None), ("5.7 no", None), ("5.7.1", "5.7.1"), ("no", None)]
)
def test_an_enhanced_code_counts_in_its_own_class_only(text: str, enhanced: str | None) -> None:
    """RFC 2034 §4: `550 2.0.0` has no usable enhanced code."""
    assert ReplyParser().feed(f"550 {text}\r\n".encode())[0].reply.enhanced == enhanced


def test_control_characters_in_replies_do_not_reach_logs() -> None:
    """An escape sequence in a server's reply becomes question marks; letters of any script stay."""
    assert ReplyParser().feed("550 \x1b[31mnein, für \u202e\r\n".encode())[0].lines == ("?[31mnein, für ?",)


@given(text=st.text(max_size=600))
def test_a_reply_of_ours_is_one_short_ascii_line(text: str) -> None:
    """RFC 5321 §4.5.3.1.5: at most 512 octets, whatever the words."""
    line = format_reply(550, "5.7.1", text)
    assert line.isascii()
    assert line.endswith(b"\r\n")
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert len(line) <= 512
