"""THREATS 1 to 4: nothing but CRLF.CRLF ends a message, and nothing from before TLS counts after it."""

import json
from pathlib import Path

import pytest
from tests.dialogs.server_player import Played, machine, play, run

from gatepost.wire.smtp_server_events import MessageReceived, StartTls

CORPUS = Path(__file__).parents[2] / "../shared/corpora/smtp-smuggling/eod-variants.json"

OWN_VARIANTS = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r\n",
    "\r.\r",
    "\r\n.\r",
    "\r\n.\r\r\n",
    "\r\n\0.\r\n",
    "\r\n. \r\n",
    "\x85.\x85",
]


def _variants() -> list[str]:
    known = json.loads(CORPUS.read_text("utf-8")) if CORPUS.exists() else {}
    return [*OWN_VARIANTS, *(variant for variants in known.values() for variant in variants)]


ENVELOPE = b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n"
SMUGGLED = b"MAIL FROM:<admin@x.example>\r\nRCPT TO:<victim@x.example>\r\nDATA\r\nSubject: smuggled\r\n"


@pytest.mark.parametrize("variant", _variants(), ids=repr)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_no_other_end_of_data_ends_data(variant: str, size: int) -> None:
    """THREATS 1: a message with an almost-end and a second message in it is one message or a refusal, never two."""
    body = b"Subject: first\r\n\r\nhello" + variant.encode("latin-1") + SMUGGLED + b"\r\n.\r\nQUIT\r\n"
    stream = b"EHLO x\r\n" + ENVELOPE + b"DATA\r\n" + body
    played = play(*[stream[i : i + size] for i in range(0, len(stream), size)])
    assert len(played.messages) <= 1
    final, bye = played.replies[-2:]
    assert bye.startswith("221")
    rest = (b"hello" + variant.encode("latin-1")).replace(b"\r\n", b"")
    if b"\r" in rest or b"\n" in rest or b"\0" in rest:
        assert final.startswith("554 5.6.0")
        assert played.messages == []
    else:
        assert final.startswith("250 2.0.0")
        assert b"smuggled" in played.messages[0].content


def test_a_stray_cr_before_the_true_end_refuses_the_message() -> None:
    """THREATS 1: `CR CRLF.CRLF` ends the data, for CRLF.CRLF is in it, and the stray CR refuses the message."""
    played = play(b"EHLO x\r\n" + ENVELOPE + b"DATA\r\nhello\r\r\n.\r\nNOOP\r\n")
    assert played.messages == []
    assert [reply[:9] for reply in played.replies[-2:]] == ["554 5.6.0", "250 2.0.0"]


@pytest.mark.parametrize("variant", OWN_VARIANTS, ids=repr)
def test_chunks_hold_no_hidden_end_either(variant: str) -> None:
    """THREATS 3: content by BDAT is never searched for an end, and bare newlines in it refuse the message."""
    content = b"Subject: x\r\n\r\nhello" + variant.encode("latin-1") + SMUGGLED
    played = play(b"EHLO x\r\n" + ENVELOPE + b"BDAT %d LAST\r\n" % len(content) + content + b"QUIT\r\n")
    assert len(played.messages) <= 1
    assert all(message.content == content for message in played.messages)
    assert played.replies[-1].startswith("221")


@pytest.mark.parametrize("split", [b"\n", b"\r", b"\0"])
def test_a_bare_newline_in_chunks_refuses_the_message(split: bytes) -> None:
    """THREATS 3: also where the CR and the LF are in chunks of their own."""
    played = play(b"EHLO x\r\n" + ENVELOPE + b"BDAT 1\r\na" + b"BDAT 1\r\n" + split + b"BDAT 3 LAST\r\nb\r\n")
    assert played.messages == []
    assert played.replies[-1].startswith("554 5.6.0")


def test_a_newline_cut_over_two_chunks_is_whole() -> None:
    """RFC 3030: a CRLF may be cut by a chunk's edge."""
    played = play(b"EHLO x\r\n" + ENVELOPE + b"BDAT 2\r\na\r" + b"BDAT 4 LAST\r\n\nb\r\n")
    assert [message.content for message in played.messages] == [b"a\r\nb\r\n"]


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_nothing_from_before_tls_counts(size: int) -> None:
    """THREATS 4: commands and half commands sent in clear behind STARTTLS are gone after the handshake."""
    server, played = machine("remote", "starttls"), Played()
    stream = b"EHLO x\r\nSTARTTLS\r\nEHLO evil\r\nAUTH PLAIN AHUAZ29vZA==\r\n" + ENVELOPE + b"RSE"
    for i in range(0, len(stream), size):
        server.feed(stream[i : i + size])
        run(server, played, answers_tls=False)
    assert played.events == [StartTls()]
    server.tls_started()
    server.feed(b"NOOP\r\n" + ENVELOPE)
    run(server, played)
    assert played.codes == [220, 250, 220, 250, 530, 530]


def test_tls_forgets_the_client() -> None:
    """RFC 3207 §4.2: who authenticated in clear on loopback, or began a message, starts from nothing inside TLS."""
    server, played = machine("starttls"), Played()
    server.feed(b"EHLO x\r\nAUTH PLAIN AHUAZ29vZA==\r\nMAIL FROM:<a@x.example>\r\nSTARTTLS\r\n")
    run(server, played)
    server.feed(b"RCPT TO:<b@x.example>\r\nAUTH PLAIN AHUAZ29vZA==\r\n")
    run(server, played)
    assert played.codes == [220, 250, 235, 250, 220, 530, 503]
    assert not any(isinstance(event, MessageReceived) for event in played.events)
