"""
What our doors speak: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and nothing else.

Leaves: contexts of a server. The list is Mozilla's "intermediate" without its DHE suites: it serves every client of the last
ten years. All suites are strong, so the client's order counts: a phone without AES in hardware does better with ChaCha20.
Key exchange is X25519, P-256 or P-384. `ssl` lets a context have one group only, so there is one context for each.
Standards: RFC 9325, RFC 8446, RFC 8447.
Not here: which certificate a client sees (server_tls), contexts of a client (tls).
Bugs: the hybrid post-quantum group cannot be chosen before Python's `ssl` knows it.
"""

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CIPHERS: Final = ":".join(
    f"ECDHE-{signed}-{cipher}" for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305") for signed in ("ECDSA", "RSA")
)
GROUPS: Final = {29: "X25519", 23: "prime256v1", 24: "secp384r1"}
"""Key-exchange groups by number (RFC 8446 §4.2.7), in our order."""

HTTP: Final = b"http/1.1"
ACME: Final = b"acme-tls/1"
"""The protocol name in which an authority asks for a challenge (RFC 8737 §6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCheck:
    """
    What clients must show.

    Attributes:
        ca_file: Authorities that their certificates must come from.
        is_required: No connection without a certificate.
    """

    ca_file: Path
    is_required: bool


Variants = dict[int, ssl.SSLContext]
"""Contexts by the group that they use."""


def create_contexts(cert: Path, key: Path, *, protocols: tuple[bytes, ...] = (), clients: ClientCheck | None = None) -> Variants:
    """
    Make the contexts that show one certificate.

    Args:
        cert: PEM file of the chain; may hold the key too.
        key: PEM file of the unencrypted key.
        protocols: ALPN protocols.

    Raises:
        OSError: A file cannot be read (ssl.SSLError: it makes no sense, or the key is another's).
    """
    found = {}
    for number, name in GROUPS.items():
        context = bare_context()
        # Debian 12's interpreter (3.11.2) cannot choose X25519; OpenSSL does so by itself for clients that know it, and this is theirs
        with contextlib.suppress(ssl.SSLError) if name == "X25519" else contextlib.nullcontext():
            context.set_ecdh_curve(name)
        context.load_cert_chain(cert, key, password=_no_password)
        if protocols:
            context.set_alpn_protocols([one.decode() for one in protocols])
        if clients is not None:
            context.load_verify_locations(clients.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED if clients.is_required else ssl.CERT_OPTIONAL
        found[number] = context
    return found


def bare_context() -> ssl.SSLContext:
    """Make a context without a certificate: every handshake fails with an alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def choose(variants: Variants, key_shares: tuple[int, ...], groups: tuple[int, ...]) -> ssl.SSLContext:
    """Choose the context whose group a client sent a share for, or at least knows; else P-256, which everybody has."""
    for offered in (key_shares, groups):
        for number, context in variants.items():
            if number in offered:
                return context
    return variants[23]


def _no_password() -> str:
    """Answer OpenSSL, which would ask on the terminal: keys are not encrypted here."""
    return ""
