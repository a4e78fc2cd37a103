"""
Who asks: the API key or access token in `Authorization: Bearer …`, and whether a connection comes from this very machine.

Standards: RFC 6750 §2.1. Not here: who they belong to (tenants.authentication), what they may do (exchange, accept).
"""

import ipaddress
from typing import Any

from gatepost.domain.access import Principal
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.tenants.authentication import Authenticator

_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via")


async def principal_of(
    authenticator: Authenticator, authorization: str | None, peer: str, request_id: str, certificate: str | None = None
) -> Principal:
    """
    Return who sent a request.

    Raises:
        Refused: authentication_required without a key or token; else what `Authenticator.authenticate` says.
    """
    if authorization is None:
        raise Refused("authentication_required", "send Authorization: Bearer with an API key or an access token")
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("authentication_required", "the scheme of Authorization is Bearer here")
    try:
        return await authenticator.authenticate(secret.strip(), peer, certificate)
    except Refused as refusal:
        who = getattr(refusal, "principal_id", None)
        maillog.security(
            "key_refused", source="http", code=refusal.code, principal_id=who, peer=peer, request_id=request_id, certificate=certificate
        )
        raise


def certificate_of(scope: Any) -> str | None:
    """Return the SHA-256 fingerprint of the client's certificate, which the handshake has checked; None without one."""
    found = scope.get("extensions", {}).get("tls", {}).get("client_cert_sha256")
    return None if found is None else str(found)


def is_local(scope: Any) -> bool:
    """
    Tell whether a request comes from this machine and means this machine.

    The peer is a loopback address; Host names loopback too, so that a page elsewhere whose name was bound to 127.0.0.1
    does not pass (DNS rebinding); and no proxy says that it stands in for somebody else.
    """
    client = scope.get("client")
    if not client or not _is_loopback(str(client[0])):
        return False
    headers = scope["headers"]
    if any(name in _FORWARDED for name, _ in headers):
        return False
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and _is_loopback(_without_port(hosts[0]))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
