"""
Who asks: the API key in `Authorization: Bearer …`, and whether a connection comes from this very machine.

Standards: RFC 6750 §2.1. Not here: how keys are kept (tenants), what a key may do (accept and its like).
"""

import ipaddress
from typing import Any

from gatepost.domain.errors import Refused
from gatepost.domain.tenant import ApiKey
from gatepost.observe import maillog
from gatepost.tenants.directory import Directory

_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via")


async def key_of(directory: Directory, authorization: str | None, peer: str, request_id: str) -> ApiKey:
    """
    Return the key that a request was sent with.

    Raises:
        Refused: authentication_required without one, authentication_failed with a wrong or revoked one.
    """
    if authorization is None:
        raise Refused("authentication_required", "send Authorization: Bearer with an API key")
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("authentication_required", "the scheme of Authorization is Bearer here")
    key = await directory.authenticate(secret.strip())
    if key is None:
        maillog.security("key refused", source="http", peer=peer, request_id=request_id)
        raise Refused("authentication_failed", "the key is unknown, incomplete or revoked")
    return key


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
