"""
Return paths that carry our own token (VERP), so that what comes back says which recipient it is about, and strangers cannot.

Arrives: a message's identifier and a recipient's number; later the local part of an address that mail came to.
Leaves: an address such as `b+TOKEN@bounces.example`; the token, if it is genuine and has not ended.
Form: identifier (14 bytes), number (2), last day (2), the first 10 bytes of HMAC-SHA-256 over them; base32 in small letters,
45 characters, since local parts may have 64 octets and pass systems that change their case.
Standards: RFC 5321 §4.5.3.1.1 (length), §2.4 (case); the ideas of VERP and BATV.
Not here: where the key comes from (store.keyring), mail that came back (returns).
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gatepost import ids
from gatepost.clock import DAY, Instant

_PREFIX: Final = "b+"
_MAC_BYTES: Final = 10
_EPOCH_DAY: Final = 18_262  # 2020-01-01
_FORM: Final = re.compile(r"b\+([a-z2-7]{45})")


@dataclass(frozen=True, slots=True)
class ReturnToken:
    """Whom a return path stands for."""

    message_id: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPaths:
    """
    The return paths of one gateway.

    Attributes:
        domain: Where mail comes back to.
        by_sender: Another domain for the mail of some senders' domains, so that SPF is aligned (RFC 7489 §3.1.2).
        days: How long a token is good.
    """

    key: bytes = field(repr=False)
    domain: str
    by_sender: Mapping[str, str] = field(default_factory=dict)
    days: int = 30

    @property
    def domains(self) -> frozenset[str]:
        """Every domain that mail comes back to."""
        return frozenset({self.domain, *self.by_sender.values()})

    def address_for(self, message_id: str, n: int, sender: str, now: Instant) -> str:
        """
        Make the return path of one recipient.

        Args:
            sender: The sender's domain.

        Raises:
            ValueError: Not a message's identifier, or the number does not fit in 16 bits.
        """
        payload = (ids.parse(message_id, "msg") >> 16).to_bytes(14) + n.to_bytes(2) + (now // DAY + self.days - _EPOCH_DAY).to_bytes(2)
        token = base64.b32encode(payload + self._mac(payload)).decode().rstrip("=").lower()
        return f"{_PREFIX}{token}@{self.by_sender.get(sender, self.domain)}"

    def read(self, local: str, now: Instant) -> ReturnToken | None:
        """Read the local part of an address that mail came to; None when it is not ours, or has ended."""
        found = _FORM.fullmatch(local.lower())
        return None if found is None else self._token(found[1], now)

    def find(self, text: str, now: Instant) -> set[ReturnToken]:
        """Find the return paths of ours in a text, such as a complaint with the mail that it is about."""
        found = set()
        for match in _FORM.finditer(text.lower()):
            domain = re.match(r"@([a-z0-9.-]{1,253})", text[match.end() : match.end() + 260].lower())
            if domain is not None and domain[1].rstrip(".") in self.domains and (token := self._token(match[1], now)) is not None:
                found.add(token)
        return found

    def _token(self, text: str, now: Instant) -> ReturnToken | None:
        try:
            data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
        except binascii.Error:
            return None
        payload, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if len(payload) != 18 or not hmac.compare_digest(mac, self._mac(payload)):
            return None
        if int.from_bytes(payload[16:]) + _EPOCH_DAY < now // DAY:
            return None
        message_id = ids.of_value("msg", int.from_bytes(payload[:14]) << 16)
        return ReturnToken(message_id, int.from_bytes(payload[14:16]))

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self.key, b"return path\0" + payload, "sha256")[:_MAC_BYTES]
