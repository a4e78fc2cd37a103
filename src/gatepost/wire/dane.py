"""
DANE for mail: does a server's certificate chain match what its domain publishes in TLSA records?

Arrives: TLSA records from an answer that DNSSEC validated, the chain that the server showed. Leaves: authentic, or why not.
DANE-EE (3) is a match of the server's own certificate and nothing more: no dates, no names. DANE-TA (2) is a chain of
signatures to an authority that a record names, with dates, and a name that fits.
Standards: RFC 6698 (records), RFC 7671 (how to use them), RFC 7672 §3 (for SMTP: usages 0 and 1 are unusable), RFC 5280 §6.
Not here: DNS (net.dns), where records are looked for (egress.smtp.tls_policy).
Bugs: a chain whose authorities carry name constraints, or another critical extension that is not checked here, is refused.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

DANE_TA: Final = 2
DANE_EE: Final = 3
_LENGTHS: Final = {1: 32, 2: 64}
_MAX_DEPTH: Final = 10
_MAX_SIGNATURES: Final = 60
"""Signatures that are checked for one chain: a server must not keep us busy."""
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512, type(None))  # None: the key's own, as with Ed25519
_CHECKED_EXTENSIONS = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME}
)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Tlsa:
    """
    One TLSA record.

    Attributes:
        matching: 0 the whole, 1 its SHA-256, 2 its SHA-512.
    """

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data[:32].hex()}"

    @property
    def is_usable(self) -> bool:
        """True when it says something that can be checked in SMTP (RFC 7672 §3.1)."""
        if self.usage not in {DANE_TA, DANE_EE} or self.selector not in {0, 1}:
            return False
        if self.matching in _LENGTHS:
            return len(self.data) == _LENGTHS[self.matching]
        return self.matching == 0 and _key_of(self) is not None

    def matches(self, certificate: "_Certificate") -> bool:
        """Tell whether a certificate is the one that is meant."""
        selected = certificate.der if self.selector == 0 else certificate.spki
        if self.matching == 0:
            return selected == self.data
        return hashlib.new({1: "sha256", 2: "sha512"}[self.matching], selected).digest() == self.data


class Flaw(StrEnum):
    """Why a chain is not authentic: the words of RFC 8460 §4.3."""

    NO_MATCH = "validation-failure"
    EXPIRED = "certificate-expired"
    NAME = "certificate-host-mismatch"


@dataclass(frozen=True, slots=True)
class NotAuthentic:
    """The chain is not what the records ask for."""

    flaw: Flaw
    detail: str


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Keep the records that count: usable ones, and of several digests of one kind only the strongest (RFC 7671 §9)."""
    found = [record for record in dict.fromkeys(records) if record.is_usable]
    strongest: dict[tuple[int, int], int] = {}
    for record in found:
        kind = (record.usage, record.selector)
        strongest[kind] = max(strongest.get(kind, 0), record.matching)
    return tuple(record for record in found if record.matching in {0, strongest[record.usage, record.selector]})


def authenticate(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: dt.datetime) -> NotAuthentic | None:
    """
    Check a server's chain; None means that it is authentic.

    Args:
        records: As `usable` returns them.
        chain: DER certificates as the server sent them, its own first.
        names: Names of which the certificate must have one, where a record names an authority (RFC 7672 §3.2.2).
        now: Aware UTC.
    """
    try:
        certificates = [_Certificate(der) for der in chain[:20]]
    except ValueError:
        return NotAuthentic(Flaw.NO_MATCH, "the server's certificate cannot be read")
    if not certificates:
        return NotAuthentic(Flaw.NO_MATCH, "the server showed no certificate")
    if any(record.usage == DANE_EE and record.matches(certificates[0]) for record in records):
        return None
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        return NotAuthentic(Flaw.NO_MATCH, "the certificate matches no TLSA record")
    return _by_authority(anchors, certificates, names, now)


class _Certificate:
    """A certificate with what is asked of it again and again."""

    def __init__(self, der: bytes) -> None:
        """
        Read a certificate.

        Raises:
            ValueError: It is none.
        """
        self.der = der
        self.x509 = x509.load_der_x509_certificate(der)

    @cached_property
    def spki(self) -> bytes:
        """Its public key as SubjectPublicKeyInfo."""
        return self.x509.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def is_within(self, now: dt.datetime) -> bool:
        """Tell whether it is valid at an instant."""
        return self.x509.not_valid_before_utc <= now <= self.x509.not_valid_after_utc

    def is_sound(self) -> bool:
        """Tell whether nothing in it is critical and unknown to us, and its digest is not broken."""
        try:
            critical = {one.oid for one in self.x509.extensions if one.critical}
            return critical <= _CHECKED_EXTENSIONS and isinstance(self.x509.signature_hash_algorithm, _HASHES)
        except (ValueError, x509.UnsupportedGeneralNameType):
            return False

    def may_sign(self, below: int) -> bool:
        """Tell whether it is an authority that may have so many further authorities below it (RFC 5280 §4.2.1.9)."""
        constraints = self._extension(x509.BasicConstraints)
        usage = self._extension(x509.KeyUsage)
        is_long_enough = constraints is not None and (constraints.path_length is None or constraints.path_length >= below)
        return constraints is not None and constraints.ca and is_long_enough and (usage is None or usage.key_cert_sign)

    def is_for_servers(self) -> bool:
        """Tell whether it may be shown by a server."""
        usage = self._extension(x509.ExtendedKeyUsage)
        return usage is None or ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage

    def names(self) -> list[str]:
        """List the host names in it: the alternative names, or the common name where there are none (RFC 7672 §3.2.3)."""
        found = self._extension(x509.SubjectAlternativeName)
        names = found.get_values_for_type(x509.DNSName) if found is not None else []
        if names:
            return names
        return [str(one.value) for one in self.x509.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]

    def _extension(self, kind: type[_Extension]) -> _Extension | None:
        try:
            return self.x509.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None


def _by_authority(
    anchors: Sequence[Tlsa], certificates: Sequence[_Certificate], names: Sequence[str], now: dt.datetime
) -> NotAuthentic | None:
    found: NotAuthentic | None = None
    for path in _Climb(anchors, certificates).paths((certificates[0],)):
        found = _flaw(path, names, now)
        if found is None:
            return None
    return found or NotAuthentic(Flaw.NO_MATCH, "the certificate matches no TLSA record, and no chain leads to an authority that one names")


def _flaw(path: Sequence[_Certificate], names: Sequence[str], now: dt.datetime) -> NotAuthentic | None:
    """Check a path from the server's certificate to an authority."""
    if not all(certificate.is_sound() for certificate in path):
        return NotAuthentic(Flaw.NO_MATCH, "a certificate of the chain has a critical extension or a digest that is not taken")
    if not all(certificate.may_sign(below) for below, certificate in enumerate(path[1:])) or not path[0].is_for_servers():
        return NotAuthentic(Flaw.NO_MATCH, "a certificate of the chain is used for what it may not be used for")
    if not all(certificate.is_within(now) for certificate in path):
        return NotAuthentic(Flaw.EXPIRED, "a certificate of the chain has expired, or is not valid yet")
    shown = path[0].names()
    if not any(is_named(pattern, name) for pattern in shown for name in names):
        return NotAuthentic(Flaw.NAME, f"the certificate is for {', '.join(shown[:3]) or 'nobody'}, not for {' or '.join(names)}")
    return None


def is_named(pattern: str, name: str) -> bool:
    """Tell whether a certificate's name fits a host's; `*.` stands for one label (RFC 6125 §6.4.3)."""
    pattern, name = pattern.rstrip(".").lower(), name.rstrip(".").lower()
    return pattern == name or (pattern.startswith("*.") and "." in name and pattern[2:] == name.partition(".")[2])


class _Climb:
    """From a certificate up to the authorities that records name, through what the server sent and what records hold."""

    def __init__(self, anchors: Sequence[Tlsa], certificates: Sequence[_Certificate]) -> None:
        self._anchors = anchors
        whole = [record.data for record in anchors if (record.selector, record.matching) == (0, 0)]
        self._pool = [*certificates[1:], *[_Certificate(der) for der in whole]]
        self._keys = [key for one in anchors if (one.selector, one.matching) == (1, 0) and (key := _key_of(one)) is not None]
        self._left = _MAX_SIGNATURES

    def paths(self, path: tuple[_Certificate, ...]) -> Iterator[tuple[_Certificate, ...]]:
        """Yield every path that ends at a named authority, or at a certificate that a named key signed."""
        top = path[-1]
        if (len(path) > 1 and any(anchor.matches(top) for anchor in self._anchors)) or any(self._is_signed(top, key) for key in self._keys):
            yield path
        if len(path) >= _MAX_DEPTH:
            return
        for issuer in self._pool:
            is_new = all(issuer.der != one.der for one in path)
            if is_new and issuer.x509.subject == top.x509.issuer and self._is_signed(top, issuer):
                yield from self.paths((*path, issuer))

    def _is_signed(self, certificate: _Certificate, by: "_Certificate | CertificatePublicKeyTypes") -> bool:
        self._left -= 1
        if self._left < 0:
            return False
        try:
            if isinstance(by, _Certificate):
                certificate.x509.verify_directly_issued_by(by.x509)
            else:
                _issued_by(certificate.x509, by)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


def _issued_by(certificate: x509.Certificate, key: CertificatePublicKeyTypes) -> None:
    """
    Check a certificate's signature against a bare key.

    Raises:
        InvalidSignature: Another key made it.
        TypeError: The key is of a kind that signs nothing here.
    """
    signature, signed, digest = certificate.signature, certificate.tbs_certificate_bytes, certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and digest is not None:
        parameters = certificate.signature_algorithm_parameters
        if not isinstance(parameters, padding.PKCS1v15 | padding.PSS):
            raise TypeError("not a signature of RSA")
        key.verify(signature, signed, parameters, digest)
    elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
        key.verify(signature, signed, ec.ECDSA(digest))
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        key.verify(signature, signed)
    else:
        raise TypeError("a key of another kind")


def _key_of(record: Tlsa) -> CertificatePublicKeyTypes | None:
    """Read the key of a record that holds a whole certificate or key; None where there is none in it."""
    try:
        if record.selector == 0:
            return x509.load_der_x509_certificate(record.data).public_key()
        key = serialization.load_der_public_key(record.data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) else None
