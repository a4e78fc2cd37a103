"""
Second factors that are typed: codes of an authenticator, and recovery codes for the day it is lost.

Standards: RFC 6238 (TOTP: SHA-1, 30 s, six digits, which is what authenticators know), Key URI format (`otpauth://`).
Not here: that a code counts once (store.people), passkeys (passkeys), how fast one may guess (sign_in_pace).
"""

import hashlib
import hmac
import re
import secrets

from gatepost.clock import SECOND, Instant

STEP_S = 30
_DRIFT = 1
"""Time steps that a phone's clock may be off, either way."""
RECOVERY_CODES = 10
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_RECOVERY_LENGTH = 16
_SECRET = re.compile(r"[A-Z2-7]{32}")


def make_totp_secret() -> str:
    """Make a secret of 160 bits (RFC 4226 §4 R6), in base32."""
    import pyotp  # noqa: PLC0415 - only who sets a second factor up needs it

    return pyotp.random_base32(32)


def is_totp_secret(text: str) -> bool:
    """Tell whether a text can be a secret that we made."""
    return _SECRET.fullmatch(text) is not None


def totp_uri(secret: str, email: str, issuer: str) -> str:
    """Return what the QR code holds."""
    import pyotp  # noqa: PLC0415

    return pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=email, issuer_name=issuer)


def totp_qr(uri: str) -> str:
    """Draw a QR code as SVG without styles: the pages' policy allows none."""
    import segno  # noqa: PLC0415 - only who sets a second factor up needs it

    drawn: str = segno.make(uri, error="m", micro=False).svg_inline(
        scale=1, border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None
    )
    return drawn


def totp_step(secret: str, code: str, now: Instant) -> int | None:
    """Return the number of the time step that a code belongs to; None when it is wrong."""
    import pyotp  # noqa: PLC0415

    typed = re.sub(r"[\s-]", "", code)
    if not (typed.isascii() and typed.isdigit() and len(typed) == 6):
        return None
    totp, current = pyotp.TOTP(secret, interval=STEP_S), now // (STEP_S * SECOND)
    right = [step for step in range(current - _DRIFT, current + _DRIFT + 1) if hmac.compare_digest(totp.generate_otp(step), typed)]
    return max(right, default=None)


def make_recovery_codes() -> list[str]:
    """Make codes of 79 bits each, in groups that can be read out."""
    return ["-".join(_letters(4) for _ in range(_RECOVERY_LENGTH // 4)) for _ in range(RECOVERY_CODES)]


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def recovery_hash(code: str) -> str | None:
    """Return what is stored of a recovery code; None for what can be none. It has too many bits to be guessed from its hash."""
    typed = re.sub(r"[\s-]", "", code.lower())
    if len(typed) != _RECOVERY_LENGTH or not set(typed) <= set(_ALPHABET):
        return None
    return hashlib.sha256(typed.encode()).hexdigest()


def without_code(hashes: tuple[str, ...], code: str) -> tuple[str, ...] | None:
    """Return the hashes that are left when a recovery code is used; None when it is none of them."""
    wanted = recovery_hash(code)
    if wanted is None:
        return None
    left = tuple(one for one in hashes if not hmac.compare_digest(one, wanted))
    return left if len(left) < len(hashes) else None
