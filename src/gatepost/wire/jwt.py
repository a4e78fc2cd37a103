"""
Signed tokens: read, verified, made.

Arrives: a token's text, keys as JWKs, the time. Leaves: header and claims that are signed by one of the keys; or `BadToken`.
The algorithm is never the token's choice alone: only asymmetric ones exist here, and each only with a key of its kind, so
`none` and an HMAC under a public key are no signatures. `crit`, nested and encrypted tokens are refused.
Standards: RFC 7519 (JWT), RFC 7515 (JWS), RFC 7517 (JWK), RFC 8037 (EdDSA), RFC 8725 (best practices), RFC 9068 §2.1 (typ).
Not here: which issuers are believed (tenants), where keys come from.
Bugs: loading joserfc takes 0.2 s, so it is done when the first token comes.
"""

import base64
import binascii
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from gatepost.clock import Instant

LONGEST: Final = 8192
_SKEW_MS: Final = 30_000
"""How far other machines' clocks may be ahead."""
_LATEST_S: Final = 2**40
_ALGORITHMS: Final = {
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("RSA", ""): ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512"),
}
ALGORITHMS: Final = tuple(name for names in _ALGORITHMS.values() for name in names)
"""What can sign; none of them is symmetric."""
_MOST_KEYS: Final = 50
_SMALLEST_RSA_BITS: Final = 2048
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@lru_cache(maxsize=1)
def _joserfc() -> ModuleType:
    """Load the library on first use."""
    import joserfc.jwt  # noqa: PLC0415

    # RFC 9864 renames EdDSA to Ed25519; the old name is the one that other libraries know
    warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=joserfc.errors.SecurityWarning)
    return joserfc


class BadToken(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A token is not good; the message says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A token's header and claims; whether they are signed is for `verify` to say."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key with the algorithms that it may be used with."""

    key: Any
    kid: str | None
    algorithms: tuple[str, ...]


def parse(text: str, longest: int = LONGEST) -> Parsed:
    """
    Read a token without believing it.

    Args:
        longest: The most characters; tokens that come in a header are shorter than those of a provider's answer.

    Raises:
        BadToken: It is none.
    """
    parts = text.split(".")
    if len(parts) != 3 or len(text) > longest or not text.isascii():
        raise BadToken("it is no signed token")
    return Parsed(_object(parts[0]), _object(parts[1]))


def read_keys(jwks: Any) -> list[VerifyingKey]:
    """
    Read a set of public keys (RFC 7517 §5); keys for encryption, and of kinds that cannot sign, are passed over.

    Raises:
        ValueError: It is no set of keys, or a private key is among them.
    """
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS or not all(isinstance(one, dict) for one in keys):
        raise ValueError('it is no key set such as {"keys": […]}')
    if any(_PRIVATE & one.keys() for one in keys):
        raise ValueError("it holds a private or symmetric key; give the public part only")
    found = [read for one in keys if one.get("use", "sig") == "sig" and (read := _read_key(one)) is not None]
    if not found:
        raise ValueError("it holds no key that can verify: RSA of 2048 bits and more, EC P-256, P-384, P-521 or Ed25519")
    return found


def verify(text: str, header: Mapping[str, Any], keys: Sequence[VerifyingKey]) -> Mapping[str, Any]:
    """
    Return the claims of a token that one of the keys signed.

    Args:
        header: The token's own, from `parse`.
        keys: Those that may have; with a `kid` in the header only the one of that name.

    Raises:
        BadToken: None of them did, or the header asks for what is not understood.
    """
    lib = _joserfc()
    algorithm, kid = header.get("alg"), header.get("kid")
    if "crit" in header or "b64" in header:
        raise BadToken("its header has extensions that are not understood")
    candidates = [one for one in keys if (kid is None or one.kid == kid) and algorithm in one.algorithms]
    for one in candidates[:5]:
        try:
            registry = lib.jws.JWSRegistry(algorithms=[str(algorithm)], strict_check_header=False)
            return dict(lib.jwt.decode(text, one.key, registry=registry).claims)
        except (lib.errors.JoseError, ValueError, TypeError):
            continue
    raise BadToken("no known key signed it")


def knows(header: Mapping[str, Any], keys: Sequence[VerifyingKey]) -> bool:
    """Tell whether the key that a header names is among some."""
    kid = header.get("kid")
    return any(kid is None or one.kid == kid for one in keys)


def sign(claims: Mapping[str, Any], *, typ: str, kid: str, private_jwk: Mapping[str, Any]) -> str:
    """Make a token, signed with an Ed25519 key."""
    lib = _joserfc()
    header = {"alg": "EdDSA", "typ": typ, "kid": kid}
    text: str = lib.jwt.encode(header, dict(claims), lib.jwk.OKPKey.import_key(dict(private_jwk)), algorithms=["EdDSA"])
    return text


def sign_rs256(claims: Mapping[str, Any], *, kid: str, private_pem: str) -> str:
    """
    Make a token, signed with somebody's RSA key, as Google's service accounts have.

    Raises:
        ValueError: It is no RSA key.
    """
    lib = _joserfc()
    header = {"alg": "RS256", "typ": "JWT", **({"kid": kid} if kid else {})}
    try:
        text: str = lib.jwt.encode(header, dict(claims), lib.jwk.RSAKey.import_key(private_pem), algorithms=["RS256"])
    except lib.errors.JoseError as error:
        raise ValueError("no RSA key") from error
    return text


def generate_key(kid: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make an Ed25519 key; return its private and its public part as JWKs."""
    key = _joserfc().jwk.OKPKey.generate_key("Ed25519", {"kid": kid, "alg": "EdDSA", "use": "sig"}, private=True)
    return dict(key.as_dict(private=True)), dict(key.as_dict(private=False))


def check_times(claims: Mapping[str, Any], now: Instant) -> Instant:
    """
    Check `exp`, `nbf` and `iat`; return when the token ends.

    Raises:
        BadToken: It has no end, has ended, or has not begun.
    """
    ends_at = _instant(claims, "exp")
    if ends_at is None:
        raise BadToken("it has no exp")
    if now >= ends_at:
        raise BadToken("it has expired")
    for name in ("nbf", "iat"):
        at = _instant(claims, name)
        if at is not None and at > now + _SKEW_MS:
            raise BadToken(f"its {name} is in the future")
    return ends_at


def check_audience(claims: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """
    Check that a token is meant for us.

    Raises:
        BadToken: Its `aud` names none of the wanted.
    """
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in wanted for one in named):
        raise BadToken("its aud is not this gateway")


def check_type(header: Mapping[str, Any], wanted: str) -> None:
    """
    Check what kind of token a header says it is (RFC 8725 §3.11).

    Raises:
        BadToken: Another one, or it does not say.
    """
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") != wanted.lower():
        raise BadToken(f"its typ is not {wanted}")


def _read_key(jwk: dict[str, Any]) -> VerifyingKey | None:
    lib = _joserfc()
    kty, crv = jwk.get("kty"), jwk.get("crv") or ""
    algorithms = _ALGORITHMS.get((str(kty), str(crv) if kty != "RSA" else ""))
    if algorithms is None:
        return None
    if jwk.get("alg") is not None:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    try:
        # by its own name only: joserfc would refuse an EdDSA key for Ed25519, which are the same
        key = lib.jwk.import_key({name: value for name, value in jwk.items() if name in {"kty", "crv", "x", "y", "n", "e"}})
        bits = key.raw_value.key_size if isinstance(key, lib.jwk.RSAKey) else _SMALLEST_RSA_BITS
    except (lib.errors.JoseError, ValueError, TypeError, KeyError):
        return None
    kid = jwk.get("kid")
    if not algorithms or bits < _SMALLEST_RSA_BITS:
        return None
    return VerifyingKey(key, kid if isinstance(kid, str) else None, algorithms)


def _object(part: str) -> Mapping[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw.decode(), object_pairs_hook=_unique)
    except (binascii.Error, ValueError, RecursionError):
        raise BadToken("it is no signed token") from None
    if not isinstance(found, dict):
        raise BadToken("it is no signed token")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _instant(claims: Mapping[str, Any], name: str) -> Instant | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST_S:
        raise BadToken(f"its {name} is no time")
    return int(value * 1000)
