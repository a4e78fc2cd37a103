"""Content on the wire: nothing in it may look like the end of the message to any server."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.smtp_client_mail import stuffed, wire_lines

_CORPUS = Path(__file__).parents[3] / "shared/corpora/smtp-smuggling/eod-variants.json"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def unstuffed(data: bytes) -> list[bytes]:
    """Read messages as the strictest and the laxest server would agree on: lines by CRLF."""
    lines: list[bytes] = []
    messages: list[bytes] = []
    for line in data.split(b"\r\n")[:-1]:
        if line == b".":
            messages.append(b"\r\n".join(lines) + b"\r\n")
            lines = []
        else:
            lines.append(line[1:] if line.startswith(b".") else line)
    return messages


def test_dots_at_line_starts_are_doubled() -> None:
    """RFC 5321 §4.5.2, the first line included."""
    assert stuffed(b".\r\n..\r\na.\r\n.b\r\n") == b"..\r\n...\r\na.\r\n..b\r\n.\r\n"


def test_the_last_line_is_ended() -> None:
    """The final dot stands on a line of its own."""
    assert stuffed(b"no end") == b"no end\r\n.\r\n"


def test_well_formed_content_is_not_touched() -> None:
    """A signature over the content stays valid."""
    content = b"Subject: x\r\n\r\n\r\ny\r\n" * 10_000
    assert wire_lines(content) == content
    assert wire_lines(content[:1000] + b"\r\n") == content[:1000] + b"\r\n"


def variants() -> list[str]:
    """The sequences that servers have taken for the end, from the corpus; plus some of our own."""
    found = json.loads(_CORPUS.read_text())["outbound_eod_sequences"] if _CORPUS.exists() else []
    return [*found, "\r\n.\r\n", "\n..\n", "\r\r.\r\r"]


@pytest.mark.parametrize("filler", [0, 70_000])
@pytest.mark.parametrize("variant", variants())
def test_no_variant_of_the_end_gets_through(variant: str, filler: int) -> None:
    """THREATS 2: each outbound smuggling sequence leaves as one message without bare CR, LF or NUL."""
    content = b"Subject: x\r\n\r\n" + b"y" * filler + variant.encode() + b"MAIL FROM:<evil@evil.test>\r\nRCPT TO:<x@y.test>\r\nDATA\r\n"
    wire = stuffed(content)
    assert not _BARE.search(wire)
    assert b"\0" not in wire
    assert len(unstuffed(wire)) == 1
    assert wire.count(b"\r\n.\r\n") == 1
    assert b"MAIL FROM:<evil@evil.test>" in unstuffed(wire)[0]


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n"]), max_size=40).map(b"".join))
def test_any_content_is_one_message(content: bytes) -> None:
    """Whatever the content, a server that follows RFC 5321 reads exactly one message, and no bare CR or LF exists."""
    for wire in (stuffed(content), stuffed(content + b"x" * 70_000)):
        assert not _BARE.search(wire)
        assert len(unstuffed(wire)) == 1
