"""
Tokens in pixels, links and List-Unsubscribe: which recipient it is about, and that we wrote it.

Arrives: a message's identifier, a recipient's number, a link; later the token as somebody's program sent it.
Leaves: a URL such as `https://t.acme.example/t/c/TOKEN`; whom a genuine token is about.
Form: identifier (14 bytes), number (2), last day (2), for links the first 6 bytes of SHA-256 over the target, then the first
12 bytes of HMAC-SHA-256 over the kind and all of it; base64url, 40 or 48 characters. There is no address in it and no
target: who changes it has a token that is not ours.
Standards: RFC 4648 §5 (base64url, without padding), RFC 8058 (what List-Unsubscribe is for).
Not here: where the key comes from (store.keyring), what a link leads to (store.engagement).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gatepost import ids
from gatepost.clock import DAY, Instant

_MAC_BYTES: Final = 12
_LINK_BYTES: Final = 6
_BARE_BYTES: Final = 18
_EPOCH_DAY: Final = 18_262  # 2020-01-01
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{40}|[A-Za-z0-9_-]{48}")


class TokenKind(StrEnum):
    """What a token is for; one kind's token is nothing as another's."""

    OPEN = "o"
    CLICK = "c"
    UNSUBSCRIBE = "u"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingToken:
    """
    What a genuine token says.

    Attributes:
        link: Which link of the message, see `link_id`; empty for other kinds.
        has_ended: It was ours, but its time is over.
    """

    message_id: str
    n: int
    link: bytes = b""
    has_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingTokens:
    """
    The tokens of one gateway.

    Attributes:
        days: How long a token is good.
    """

    key: bytes = field(repr=False)
    days: int = 365

    def make(self, kind: TokenKind, message_id: str, n: int, now: Instant, link: bytes = b"") -> str:
        """
        Make a token.

        Raises:
            ValueError: Not a message's identifier, or the number does not fit in 16 bits.
        """
        payload = (ids.parse(message_id, "msg") >> 16).to_bytes(14) + n.to_bytes(2) + (now // DAY + self.days - _EPOCH_DAY).to_bytes(2)
        payload += link
        return base64.urlsafe_b64encode(payload + self._mac(kind, payload)).decode()

    def read(self, kind: TokenKind, text: str, now: Instant) -> TrackingToken | None:
        """Read a token of this kind; None when it is not ours."""
        if not _FORM.fullmatch(text):
            return None
        try:
            data = base64.urlsafe_b64decode(text)
        except binascii.Error:
            return None
        payload, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        has_link = len(payload) > _BARE_BYTES
        if has_link is not (kind is TokenKind.CLICK) or not hmac.compare_digest(mac, self._mac(kind, payload)):
            return None
        return TrackingToken(
            message_id=ids.of_value("msg", int.from_bytes(payload[:14]) << 16),
            n=int.from_bytes(payload[14:16]),
            link=payload[_BARE_BYTES:],
            has_ended=int.from_bytes(payload[16:18]) + _EPOCH_DAY < now // DAY,
        )

    def _mac(self, kind: TokenKind, payload: bytes) -> bytes:
        return hmac.digest(self.key, b"tracking\0" + kind.value.encode() + payload, "sha256")[:_MAC_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingUrls:
    """
    The URLs that one gateway writes into mail.

    Attributes:
        base: Scheme and host, without a slash at the end; empty is none.
        by_sender: Another base for the mail of some senders' domains.
        sandbox: The base of mail that stays here, where there is no other.
    """

    tokens: TrackingTokens
    base: str = ""
    by_sender: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = ""

    def base_of(self, sender: str, *, is_sandbox: bool) -> str:
        """Return the base for the mail of a sender's domain; empty where there is none."""
        return self.by_sender.get(sender, self.base) or (self.sandbox if is_sandbox else "")

    def url(self, base: str, kind: TokenKind, message_id: str, n: int, now: Instant, target: str = "") -> str:
        """
        Write the URL for one recipient.

        Args:
            base: See `base_of`.
            target: Where a link leads to.

        Raises:
            ValueError: Not a message's identifier, or the number does not fit in 16 bits.
        """
        token = self.tokens.make(kind, message_id, n, now, link_id(target) if kind is TokenKind.CLICK else b"")
        return f"{base}/t/{kind.value}/{token}{'.gif' if kind is TokenKind.OPEN else ''}"


def link_id(target: str) -> bytes:
    """Return what stands for a link's target in tokens, the same whatever release wrote it."""
    return hashlib.sha256(target.encode()).digest()[:_LINK_BYTES]
