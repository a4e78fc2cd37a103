"""
Signatures of webhooks: who calls, and that nothing was changed on the way.

Arrives: secrets, an id, a time and the bytes of a body. Leaves: the value of `webhook-signature`; or whether one is right.
Standards: Standard Webhooks 1.0 (symmetric signatures: HMAC-SHA-256 over `id.timestamp.body`, `v1,` and base64).
Not here: which secrets are valid when (domain.webhook), sending (webhooks).
Bugs: asymmetric signatures (`v1a`) are neither made nor checked.
"""

import base64
import binascii
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Final

PREFIX: Final = "whsec_"
TOLERANCE_S: Final = 300
"""How far the time of a call may be from ours: an older one may have been recorded."""
_BYTES: Final = 32


class WrongSignature(Exception):  # noqa: N818
    """A call is not believed; the text says why, and holds no secret."""


def make_secret() -> str:
    """Make a secret."""
    return PREFIX + base64.b64encode(os.urandom(_BYTES)).decode()


def headers(secrets: Sequence[str], hook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """
    Write the three headers of a call.

    Args:
        secrets: Each gives a signature: several while one takes the place of another.

    Raises:
        ValueError: A secret is none.
    """
    signed = b"%b.%d.%b" % (hook_id.encode(), timestamp_s, body)
    made = " ".join(f"v1,{base64.b64encode(hmac.digest(_key(secret), signed, 'sha256')).decode()}" for secret in secrets)
    return {"webhook-id": hook_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": made}


def verify(secrets: Sequence[str], given: Mapping[str, str], body: bytes, now_s: int) -> None:
    """
    Check a call's headers.

    Args:
        given: By name in lower case.

    Raises:
        WrongSignature: A header is missing, the time is too far away, or no signature is right.
        ValueError: A secret is none.
    """
    hook_id, timestamp, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (hook_id and signatures):
        raise WrongSignature("a header is missing")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise WrongSignature("the timestamp is no number")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise WrongSignature("the timestamp is too far from now")
    expected = headers(secrets, hook_id, int(timestamp), body)["webhook-signature"].split()
    found = [one.encode() for one in signatures.split()]
    if not any(hmac.compare_digest(one, wanted.encode()) for one in found for wanted in expected):
        raise WrongSignature("no signature is right")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret is whsec_ and base64") from None
