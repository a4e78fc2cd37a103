"""Our verifier of signatures, against our signer, against dkimpy's signer, and against tampering."""

import dkim
import pytest

from gatepost.wire.dkim import Signer, dns_record, generate_key, sign
from gatepost.wire.dkim_verify import verify

NOW = 1_795_000_000_000
HEAD = b"From: a@acme.example\r\nTo: b@example.net\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n and more\r\n"
MESSAGE = HEAD + b"\r\nHello  there \r\n\r\nBye\r\n\r\n\r\n"


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[str, str]]:
    return {algorithm: generate_key(algorithm) for algorithm in ("rsa-sha256", "ed25519-sha256")}


def records(keys: dict[str, tuple[str, str]]) -> dict[str, str]:
    return dict(dns_record("acme.example", algorithm[:3], algorithm, public) for algorithm, (_, public) in keys.items())


@pytest.fixture(scope="module")
def signed(keys: dict[str, tuple[str, str]]) -> bytes:
    signers = [Signer.from_pem("acme.example", algorithm[:3], algorithm, pem) for algorithm, (pem, _) in keys.items()]
    return sign(MESSAGE, signers, NOW) + MESSAGE


def test_both_kinds_of_signature_hold(keys: dict[str, tuple[str, str]], signed: bytes) -> None:
    """RSA and Ed25519 signatures of our own signer are found valid."""
    verdicts = verify(signed, records(keys).get, NOW)
    assert [(one.algorithm, one.domain, one.selector, one.fault) for one in verdicts] == [
        ("rsa-sha256", "acme.example", "rsa", ""),
        ("ed25519-sha256", "acme.example", "ed2", ""),
    ]


def test_a_signature_by_another_implementation_holds(keys: dict[str, tuple[str, str]]) -> None:
    """dkimpy's signature over the same message is found valid too, so that both agree on what is signed."""
    pem, _ = keys["rsa-sha256"]
    header = dkim.sign(
        MESSAGE, b"rsa", b"acme.example", pem.encode(), canonicalize=(b"relaxed", b"relaxed"), include_headers=[b"from", b"to", b"subject"]
    )
    (verdict,) = verify(header + MESSAGE, records(keys).get, NOW)
    assert verdict.is_valid, verdict.fault


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"Hello", b"Hallo", "the body was changed"),
        (b"To: b@", b"To: c@", "the signature does not match"),
        (b"From: a@acme", b"From: x@evil.example\r\nFrom: a@acme", "the signature does not match"),
        (b"; s=rsa;", b"; s=gone;", "the key is not published"),
        (b"c=relaxed/relaxed", b"c=simple/relaxed", "only version 1, relaxed/relaxed, without l= is supported"),
        (b"; s=rsa;", b"; s=rsa; l=5;", "only version 1, relaxed/relaxed, without l= is supported"),
        (b"; s=rsa;", b"; ", "the signature has no s="),
    ],
)
def test_tampering_is_found(keys: dict[str, tuple[str, str]], signed: bytes, old: bytes, new: bytes, fault: str) -> None:
    """What was signed cannot be changed, a second From cannot be slipped in, and the reason is said."""
    assert old in signed
    assert verify(signed.replace(old, new, 1), records(keys).get, NOW)[0].fault == fault


def test_an_expired_signature_does_not_hold(keys: dict[str, tuple[str, str]], signed: bytes) -> None:
    """x= is respected."""
    assert verify(signed, records(keys).get, NOW + 15 * 86_400_000)[0].fault == "the signature is expired"


def test_an_unsigned_message_has_no_verdict() -> None:
    """No signature is not a valid one."""
    assert verify(MESSAGE, {}.get, NOW) == []
