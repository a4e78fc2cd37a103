"""
One certificate of our doors, read from its files.

Arrives: where it lies. Leaves: its facts, and the contexts that show it.
Standards: RFC 5280, RFC 6125 §6.4.3 (wildcards).
Not here: which one a client sees, and when files are read again (server_tls).
Bugs: none known.
"""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gatepost.clock import Instant
from gatepost.net import tls_policy
from gatepost.net.tls_policy import HTTP, ClientCheck, Variants

HTTPS: Final = "https"
SMTP: Final = "smtp"


class UnusableCertificate(Exception):  # noqa: N818
    """Files that make no certificate; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where one certificate lies.

    Attributes:
        name: As log and metrics call it.
        key: May be the same file.
        is_awaited: It may not be there yet.
    """

    name: str
    cert: Path
    key: Path
    is_awaited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What a certificate says.

    Attributes:
        names: DNS names and IP addresses that it is valid for, lower case; a name may begin with `*.`.
        fingerprint: SHA-256 of the certificate, hex.
    """

    names: tuple[str, ...]
    not_before: Instant
    not_after: Instant
    fingerprint: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate in use, with its contexts by door."""

    place: Place
    facts: Facts
    contexts: dict[str, Variants] = field(repr=False)


def load(place: Place, clients: ClientCheck | None = None) -> Certificate:
    """
    Read a certificate with its key, and make the contexts that show it.

    Raises:
        UnusableCertificate: They cannot be read or do not belong together.
    """
    try:
        facts = read_facts(place.cert)
        contexts = {
            HTTPS: tls_policy.create_contexts(place.cert, place.key, protocols=(HTTP,), clients=clients),
            SMTP: tls_policy.create_contexts(place.cert, place.key),
        }
        was_changed = read_facts(place.cert) != facts
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = place.cert if place.cert == place.key else f"{place.cert} and {place.key}"
        raise UnusableCertificate(f"{files}: {_words(error)}") from error
    if was_changed:
        raise UnusableCertificate(f"{place.cert}: it was changed while it was read")
    return Certificate(place=place, facts=facts, contexts=contexts)


def read_facts(path: Path) -> Facts:
    """
    Read what the first certificate of a PEM file says.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no certificate.
    """
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    return Facts(
        names=_names_of(leaf),
        not_before=int(leaf.not_valid_before_utc.timestamp() * 1000),
        not_after=int(leaf.not_valid_after_utc.timestamp() * 1000),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        issuer=leaf.issuer.rfc4514_string(),
    )


def by_name(certificates: Iterable[Certificate]) -> dict[str, Certificate]:
    """Order certificates by the names they are valid for; of two for one name the first counts."""
    found: dict[str, Certificate] = {}
    for certificate in certificates:
        for name in certificate.facts.names:
            found.setdefault(name, certificate)
    return found


def find(known: dict[str, Certificate], name: str) -> Certificate | None:
    """Find the certificate for a name; a wildcard stands for one label (RFC 6125 §6.4.3)."""
    return known.get(name) or known.get("*." + name.partition(".")[2])


def _names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys([*(name.lower() for name in names.get_values_for_type(x509.DNSName)), *addresses]))


def _words(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition(".")[0]
