"""
API keys: how a secret is made, recognised and hashed.

`gp_live_` or `gp_test_`, 32 random base62 characters and 6 of checksum: a scanner that finds one in a repository can tell
it from a look-alike without asking us. Only a SHA-256 is stored; the secret has 190 bits of randomness, so a slow hash
would protect nothing and cost every request.
Not here: making and changing keys (key_register).
"""

import hashlib
import secrets
import zlib

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain.access import KeyMode, Network, Restrictions
from gatepost.domain.tenant import ApiKey

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 32
_CHECKSUM_LENGTH = 6
_PREFIX = {KeyMode.LIVE: "gp_live_", KeyMode.TEST: "gp_test_"}
_STARTS = tuple(_PREFIX.values())
_LENGTH = len("gp_live_") + _RANDOM_LENGTH + _CHECKSUM_LENGTH


def make_secret(mode: KeyMode) -> str:
    """Make a new secret; it is shown once and never stored."""
    return with_checksum(_PREFIX[mode])


def with_checksum(prefix: str) -> str:
    """Make a random text with a prefix and a checksum."""
    start = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return start + _checksum(start)


def looks_like_key(text: str) -> bool:
    """Tell whether a text has a key's form, checksum included."""
    has_form = len(text) == _LENGTH and text.startswith(_STARTS)
    return has_form and text.isascii() and _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def describe(
    secret: str,
    *,
    tenant_id: str,
    name: str,
    mode: KeyMode,
    now: Instant,
    trust_networks: tuple[Network, ...] = (),
    restrictions: Restrictions | None = None,
) -> ApiKey:
    """Build the record of a new secret."""
    return ApiKey(
        id=ids.new("key"),
        tenant_id=tenant_id,
        name=name,
        mode=mode,
        hint=secret[-4:],
        created_at=now,
        trust_networks=trust_networks,
        **(restrictions or Restrictions()).fields(),
    )


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
