"""Tokens: whose they are, what one is good for, and that nobody else makes one."""

import base64

import pytest

from gatepost import ids
from gatepost.clock import DAY
from gatepost.wire.tracking_token import TokenKind, TrackingTokens, TrackingUrls, link_id

NOW = 1_764_000_000_000
TOKENS = TrackingTokens(key=b"k" * 16, days=60)
MESSAGE = ids.new_message_id()
KINDS = [(TokenKind.OPEN, b""), (TokenKind.CLICK, link_id("https://x.example/")), (TokenKind.UNSUBSCRIBE, b"")]


@pytest.mark.parametrize(("kind", "link"), KINDS)
def test_a_token_says_whom_it_is_about(kind, link):
    """Message, number and link come back; nothing of the address or the target is in it."""
    text = TOKENS.make(kind, MESSAGE, 7, NOW, link)
    read = TOKENS.read(kind, text, NOW)
    assert (read.message_id, read.n, read.link, read.has_ended) == (MESSAGE, 7, link, False)
    assert len(text) == (48 if link else 40)


@pytest.mark.parametrize(("kind", "link"), KINDS)
def test_every_changed_bit_makes_it_nothing(kind, link):
    """THREATS 43, 44: another recipient, another link, another day: each bit is under the MAC."""
    raw = bytearray(base64.urlsafe_b64decode(TOKENS.make(kind, MESSAGE, 7, NOW, link)))
    for at in range(len(raw) * 8):
        raw[at // 8] ^= 1 << at % 8
        assert TOKENS.read(kind, base64.urlsafe_b64encode(raw).decode(), NOW) is None
        raw[at // 8] ^= 1 << at % 8


def test_one_kinds_token_is_nothing_as_anothers():
    """Whoever sees a pixel's URL cannot unsubscribe with it."""
    for kind, link in KINDS:
        text = TOKENS.make(kind, MESSAGE, 0, NOW, link)
        assert [other for other in TokenKind if TOKENS.read(other, text, NOW)] == [kind]


def test_another_key_makes_other_tokens():
    """A gateway with another master key believes none of them."""
    assert TrackingTokens(key=b"x" * 16).read(TokenKind.OPEN, TOKENS.make(TokenKind.OPEN, MESSAGE, 0, NOW), NOW) is None


def test_a_token_ends_and_says_so():
    """After its days it is still known as ours, so that a page can say that it is too old."""
    text = TOKENS.make(TokenKind.UNSUBSCRIBE, MESSAGE, 0, NOW)
    assert not TOKENS.read(TokenKind.UNSUBSCRIBE, text, NOW + 60 * DAY).has_ended
    assert TOKENS.read(TokenKind.UNSUBSCRIBE, text, NOW + 61 * DAY).has_ended


@pytest.mark.parametrize("text", ["", "x", "A" * 39, "A" * 41, "A" * 40 + "=", "é" * 40, "A" * 40 + "\n", "+" * 40, "." * 40, "A" * 10_000])
def test_what_is_no_token_is_nothing(text):
    """Any text is answered, none raises."""
    assert all(TOKENS.read(kind, text, NOW) is None for kind in TokenKind)


def test_urls_have_the_senders_host_and_no_personal_data():
    """The host of the sender's domain, else the gateway's; a sandbox's only where there is none."""
    urls = TrackingUrls(
        tokens=TOKENS, base="https://t.gate.example", by_sender={"acme.example": "https://t.acme.example"}, sandbox="http://127.0.0.1:8025"
    )
    assert urls.base_of("acme.example", is_sandbox=False) == "https://t.acme.example"
    assert urls.base_of("other.example", is_sandbox=True) == "https://t.gate.example"
    bare = TrackingUrls(tokens=TOKENS, sandbox="http://127.0.0.1:8025")
    assert (bare.base_of("a.example", is_sandbox=False), bare.base_of("a.example", is_sandbox=True)) == ("", "http://127.0.0.1:8025")
    url = urls.url("https://t.gate.example", TokenKind.CLICK, MESSAGE, 0, NOW, "https://x.example/?mail=ann@example.net")
    assert "ann" not in url
    assert "x.example" not in url
    assert urls.url("https://t.gate.example", TokenKind.OPEN, MESSAGE, 0, NOW).endswith(".gif")
