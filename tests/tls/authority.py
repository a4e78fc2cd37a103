"""A certificate authority of our own, for tests of TLS."""

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as PEM."""

    certificate: x509.Certificate
    cert: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, stem: str = "own") -> tuple[Path, Path]:
        """Put it into two files."""
        folder.mkdir(parents=True, exist_ok=True)
        cert, key = folder / f"{stem}.crt", folder / f"{stem}.key"
        cert.write_bytes(self.cert)
        key.touch(mode=0o600)
        key.write_bytes(self.key)
        return cert, key


@dataclass
class Authority:
    """Signs what it is asked to."""

    name: str = "Test CA"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key)

    def __post_init__(self) -> None:
        now = dt.datetime.now(dt.UTC)
        builder = _begin(_name(self.name), _name(self.name), self._key, now - DAY, now + 365 * DAY)
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
            key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, path: Path) -> Path:
        """Put its certificate into a file."""
        path.write_bytes(self.pem)
        return path

    def issue(self, *names: str, starts: dt.timedelta = -DAY, ends: dt.timedelta = 30 * DAY, is_client: bool = False) -> Pair:
        """Make a certificate for host names and addresses; its life is told relative to now."""
        now, key = dt.datetime.now(dt.UTC), _new_key()
        builder = _begin(_name(names[0]), self.certificate.subject, key, now + starts, now + ends)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if is_client else ExtendedKeyUsageOID.SERVER_AUTH
        extensions: list[Any] = [
            x509.BasicConstraints(ca=False, path_length=None),
            x509.SubjectAlternativeName([_alternative(name) for name in names]),
            x509.ExtendedKeyUsage([usage]),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
        ]
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate, certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, starts: dt.datetime, ends: dt.datetime):
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(ends)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
