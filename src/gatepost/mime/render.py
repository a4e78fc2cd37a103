"""
The stored message becomes the bytes that go out: trace and signatures in front, the content as it was accepted.

Arrives: a draft's content and the signers of its From domain. Leaves: bytes with CRLF line ends, ending in CRLF.
Not here: composing (compose), dot-stuffing (wire.smtp_client). The content itself is never rewritten.
"""

import re
from collections.abc import Sequence

from gatepost.clock import Instant
from gatepost.wire.dkim import Signer, sign

_NO_FOLD = re.compile(r"\r(?!\n)|(?<!\r)\n|\r\n(?![ \t])")


def render(content: bytes, signers: Sequence[Signer], *, now: Instant, received: str | None = None) -> bytes:
    """
    Sign a message and put what we add in front of it.

    Args:
        received: A whole `Received` field (RFC 5321 §4.4) without its last CRLF; it stands above the signatures, unsigned.

    Raises:
        ValueError: The message has no From, or `received` holds a line break that is no fold.
    """
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    trace = _field(received) if received is not None else b""
    return b"".join([trace, sign(content, signers, now), content])


def _field(text: str) -> bytes:
    text = text.removesuffix("\r\n")
    if _NO_FOLD.search(text):
        raise ValueError("the Received field holds a line break that is no fold")
    return text.encode() + b"\r\n"
