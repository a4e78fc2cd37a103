"""
DKIM: checks the signatures of a message.

Arrives: the message's bytes, and a way to find the records of keys. Leaves: a verdict for each signature.
Standards: RFC 6376 §6.1 (relaxed/relaxed only, which is what we make), RFC 8301, RFC 8463.
Not here: DNS, policy (DMARC), other canonicalizations.
Bugs: an `l=` tag makes a signature invalid here, although RFC 6376 allows it; we never make one.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from gatepost.clock import Instant
from gatepost.wire.dkim import ED25519_SHA256, RSA_SHA256, canonical_body, canonical_field

_FIELD = re.compile(rb"([^\r\n:]+?)[ \t]*:((?:[^\r\n]|\r\n[ \t])*+)\r\n")
_SIGNATURE_VALUE = re.compile(rb"(^|;)(\s*b\s*=)[^;]*")
_SPACE = re.compile(r"\s+")

FindRecord = Callable[[str], str | None]
"""Returns the TXT record of a name such as `gp1._domainkey.acme.example`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What became of one signature.

    Attributes:
        fault: Why it is not valid; empty when it is.
    """

    domain: str
    selector: str
    algorithm: str
    fault: str

    @property
    def is_valid(self) -> bool:
        """Whether the signature holds."""
        return not self.fault


class _Fault(Exception):  # noqa: N818
    pass


def verify(content: bytes, find_record: FindRecord, now: Instant) -> list[Verdict]:
    """Check every DKIM-Signature of a message, in order; a message without any gives an empty list."""
    head, _, body = content.partition(b"\r\n\r\n")
    fields = [(found[1].lower(), found[2]) for found in _FIELD.finditer(head + b"\r\n")]
    return [_judge(value, fields, body, find_record, now) for name, value in fields if name == b"dkim-signature"]


def _judge(value: bytes, fields: list[tuple[bytes, bytes]], body: bytes, find_record: FindRecord, now: Instant) -> Verdict:
    tags = _tags(value.decode("ascii", "replace"))
    fault = ""
    try:
        _check(tags, value, fields, body, find_record, now)
    except _Fault as found:
        fault = str(found)
    return Verdict(domain=tags.get("d", ""), selector=tags.get("s", ""), algorithm=tags.get("a", ""), fault=fault)


def _check(
    tags: dict[str, str], value: bytes, fields: list[tuple[bytes, bytes]], body: bytes, find_record: FindRecord, now: Instant
) -> None:
    missing = [name for name in ("v", "a", "b", "bh", "d", "h", "s") if not tags.get(name)]
    if missing:
        raise _Fault(f"the signature has no {missing[0]}=")
    if tags["v"] != "1" or tags.get("c") != "relaxed/relaxed" or "l" in tags:
        raise _Fault("only version 1, relaxed/relaxed, without l= is supported")
    if "x" in tags and int(tags["x"]) * 1000 < now:
        raise _Fault("the signature is expired")
    names = [name.lower() for name in tags["h"].split(":")]
    if "from" not in names:
        raise _Fault("From is not signed")
    if hashlib.sha256(canonical_body(body)).digest() != _bytes(tags["bh"]):
        raise _Fault("the body was changed")
    record = find_record(f"{tags['s']}._domainkey.{tags['d']}")
    if record is None:
        raise _Fault("the key is not published")
    _check_signature(tags, _signed_data(value, names, fields), _tags(record))


def _signed_data(value: bytes, names: list[str], fields: list[tuple[bytes, bytes]]) -> bytes:
    """Gather what was signed: each name takes the lowest field of that name that is left (RFC 6376 §5.4.2)."""
    left = list(fields)
    data = b""
    for name in names:
        for at in range(len(left) - 1, -1, -1):
            if left[at][0] == name.encode():
                data += canonical_field(*left.pop(at))
                break
    return data + canonical_field(b"dkim-signature", _SIGNATURE_VALUE.sub(rb"\1\2", value))[:-2]


def _check_signature(tags: dict[str, str], data: bytes, record: dict[str, str]) -> None:
    signature, public = _bytes(tags["b"]), _bytes(record.get("p", ""))
    try:
        if tags["a"] == RSA_SHA256 and record.get("k", "rsa") == "rsa":
            key = serialization.load_der_public_key(public)
            if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 1024:
                raise _Fault("the published key is not a fit RSA key")
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif tags["a"] == ED25519_SHA256 and record.get("k") == "ed25519":
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, hashlib.sha256(data).digest())
        else:
            raise _Fault("the published key is for another algorithm")
    except InvalidSignature:
        raise _Fault("the signature does not match") from None
    except ValueError:
        raise _Fault("the published key cannot be read") from None


def _tags(text: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    return {name.strip(): _SPACE.sub("", value) for name, value in pairs}


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _Fault("it is not valid base64") from None
