"""
Who may look at the pages, and whose clicks count.

Arrives: a request. Leaves: a `Viewer`, or nothing, and then the visitor is asked for an admin API key.
On loopback no key is needed, but only when the peer, the Host header and the absence of a proxy all say loopback: a name
that an attacker points at 127.0.0.1 (DNS rebinding) has a Host header of its own. A session is a signed cookie; the
secret lives in this process, so a restart signs everybody out. A click counts when the browser says that it comes from
these pages and the form carries the viewer's token.
Standards: RFC 6265bis (SameSite), W3C Fetch Metadata (`Sec-Fetch-Site`).
Not here: roles and single sign-on; an admin key is any valid live key of the default tenant.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from typing import Any

from litestar import Request

from gatepost.clock import HOUR, Clock, Instant
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import ApiKey, KeyMode
from gatepost.observe import maillog
from gatepost.store import tenants
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory

AnyRequest = Request[Any, Any, Any]

COOKIE = "gatepost_session"
SESSION_LIFETIME = 12 * HOUR
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::\d{1,5})?")
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """
    Somebody who may look.

    Attributes:
        subject: `local`, or the id of the key that the session was opened with.
    """

    subject: str

    @property
    def is_local(self) -> bool:
        """True for a visitor on this machine who needed no key."""
        return self.subject == "local"


class Access:
    """Decides about requests; one per door process."""

    def __init__(self, *, engine: Engine, directory: Directory, clock: Clock, default_tenant_id: str) -> None:
        self._engine = engine
        self._directory = directory
        self._clock = clock
        self._tenant_id = default_tenant_id
        self._secret = secrets.token_bytes(32)

    async def viewer(self, request: AnyRequest) -> Viewer | None:
        """
        Tell who looks; None when they must sign in.

        Raises:
            StorageUnavailable: Whether a session's key is still valid cannot be checked now.
        """
        if is_local(request):
            return Viewer(subject="local")
        key_id = self._read_session(request.cookies.get(COOKIE, ""), self._clock.now())
        if key_id is None or not await self._engine.read(lambda conn: _is_valid(tenants.keys(conn, self._tenant_id), key_id)):
            return None
        return Viewer(subject=key_id)

    async def open_session(self, request: AnyRequest, secret: str) -> str | None:
        """Return the cookie's value for an admin key; None, and a line in the log, for anything else."""
        key = await self._directory.authenticate(secret.strip())
        if key is None or not self._is_admin(key):
            maillog.security("page_login_refused", peer=_peer(request), is_known=key is not None)
            return None
        maillog.changed("page_login", key_id=key.id, peer=_peer(request))
        return self._sign(f"{key.id}.{self._clock.now() + SESSION_LIFETIME}")

    def token(self, viewer: Viewer) -> str:
        """Return the token that this viewer's forms carry."""
        return self._mac(f"form.{viewer.subject}")

    def check_click(self, request: AnyRequest, viewer: Viewer, token: str) -> None:
        """
        Refuse a change that did not come from our own form.

        Raises:
            Refused: permission_denied.
        """
        check_same_origin(request)
        if not hmac.compare_digest(token.encode(), self.token(viewer).encode()):
            raise Refused("permission_denied", "this page is out of date: load it again and repeat the click")

    def _is_admin(self, key: ApiKey) -> bool:
        return key.tenant_id == self._tenant_id and key.mode is KeyMode.LIVE and key.revoked_at is None

    def _sign(self, payload: str) -> str:
        return f"{payload}.{self._mac(payload)}"

    def _mac(self, payload: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._secret, payload.encode("utf-8", "replace"), hashlib.sha256)).decode().rstrip("=")

    def _read_session(self, cookie: str, now: Instant) -> str | None:
        payload, _, mac = cookie.rpartition(".")
        if not payload or not hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(payload).encode()):
            return None
        key_id, _, expires_at = payload.partition(".")
        return key_id if int(expires_at) > now else None


def _is_valid(keys: list[tuple[ApiKey, bytes]], key_id: str) -> bool:
    return any(key.id == key_id and key.revoked_at is None for key, _ in keys)


def _peer(request: AnyRequest) -> str:
    return request.client.host if request.client else ""


def host_of(request: AnyRequest) -> str:
    """Return the name in the Host header, without port and brackets; empty when it is no well-formed host (RFC 9110 §7.2)."""
    match = _HOST.fullmatch(request.headers.get("host", ""))
    return (match[1] or match[2]).lower() if match else ""


def is_local(request: AnyRequest) -> bool:
    """Tell whether the visitor sits on this machine: by peer, by Host header, and with no proxy between."""
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    return _is_loopback(_peer(request)) and (host_of(request) == "localhost" or _is_loopback(host_of(request)))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def check_same_origin(request: AnyRequest) -> None:
    """
    Refuse a change asked for by another site's page.

    Browsers say where a request comes from; a client that says nothing is no browser and has the API.

    Raises:
        Refused: permission_denied.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise Refused("permission_denied", "the click came from another site")
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise Refused("permission_denied", "the click came from another site")
    if site is None and origin is None:
        raise Refused("permission_denied", "this form is for browsers; programs use the API")


def check_not_embedded(request: AnyRequest) -> None:
    """
    Refuse to be loaded by another site's page, other than by a link: even an unreadable answer tells by its timing.

    Raises:
        Refused: permission_denied.
    """
    is_foreign = request.headers.get("sec-fetch-site", "none") in {"cross-site", "same-site"}
    is_visit = request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-dest") == "document"
    if is_foreign and not is_visit:
        raise Refused("permission_denied", "these pages cannot be part of another site")
