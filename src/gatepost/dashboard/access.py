"""
Who may look at the pages, and whose clicks count.

Arrives: a request. Leaves: a `Viewer` with their rights, or nothing, and then the visitor is asked to sign in.
People have a session in the store. While nobody has been set up, two others may look: a visitor on this very machine, and
who has an admin API key of the default tenant; both end when the first person exists. On this machine means that the peer,
the Host header and the absence of a proxy all say loopback: a name that an attacker points at 127.0.0.1 (DNS rebinding)
has a Host header of its own. A click counts when the browser says that it comes from these pages and the form carries the
session's token.
Standards: RFC 6265bis (SameSite, `__Host-`), W3C Fetch Metadata (`Sec-Fetch-Site`).
Not here: how people sign in (tenants.sign_in), which page needs what (routes).
Bugs: an admin key's session is a cookie signed by this process: a restart ends it.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from gatepost.clock import DAY, HOUR, Clock, Instant
from gatepost.dashboard.cookies import DEVICE, SESSION, is_secure, read_cookie
from gatepost.domain.access import Actor, Principal, PrincipalKind, Scope
from gatepost.domain.errors import Refused
from gatepost.domain.person import SessionState, SignedIn
from gatepost.domain.tenant import ApiKey, Caller, KeyMode
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import credentials, people
from gatepost.store.engine import Engine
from gatepost.tenants.authentication import is_inside
from gatepost.tenants.directory import Directory
from gatepost.tenants.passkeys import Site
from gatepost.tenants.sessions import Sessions, Visit
from gatepost.tenants.sign_in_tickets import Tickets

AnyRequest = Request[Any, Any, Any]

KEY_SESSION_LIFETIME = 12 * HOUR
DEVICE_LIFETIME = 365 * DAY
_MAX_DEVICES = 5
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::\d{1,5})?")
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """
    Somebody who may look.

    Attributes:
        token: What their forms carry.
        signed_in: The person; None for a visitor on this machine, and for who has an admin key.
    """

    caller: Caller
    token: str = field(repr=False)
    signed_in: SignedIn | None = field(default=None, repr=False)

    @property
    def principal(self) -> Principal:
        """Who acts."""
        return self.caller.principal

    @property
    def subject(self) -> str:
        """`local`, or the id of the person, or of the key that the session was opened with."""
        return self.principal.id

    @property
    def is_local(self) -> bool:
        """True for a visitor on this machine who needed nothing."""
        return self.principal.kind is PrincipalKind.LOCAL

    @property
    def tenant_id(self) -> str | None:
        """The tenant whose things are seen; None is every tenant's, for who sits at the machine."""
        return None if self.is_local else self.principal.tenant_id

    def may(self, scope: str) -> bool:
        """Tell whether they have a scope; templates ask with its name."""
        return self.principal.may(Scope(scope))


def viewer_of(request: AnyRequest) -> Viewer:
    """Return who looks; guarded pages have somebody."""
    viewer: Viewer = request.state.viewer
    return viewer


def signed_in_of(request: AnyRequest) -> SignedIn:
    """Return the person who looks; personal pages have one."""
    signed_in = viewer_of(request).signed_in
    assert signed_in is not None
    return signed_in


def actor_of(request: AnyRequest) -> Actor:
    """Return who clicked, as the audit log names them."""
    return viewer_of(request).caller.actor


class Access:
    """Decides about requests; one per door process."""

    def __init__(
        self, *, engine: Engine, directory: Directory, clock: Clock, settings: Settings, default_tenant_id: str, tickets: Tickets
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._clock = clock
        self._settings = settings
        self._tenant_id = default_tenant_id
        self._tickets = tickets
        self._secret = secrets.token_bytes(32)
        self._has_people = False
        self.sessions = Sessions(engine, clock, settings)

    async def has_people(self) -> bool:
        """Tell whether somebody has been set up; people are kept, so a yes stays one."""
        if not self._has_people:
            self._has_people = await self._engine.read(people.exist)
        return self._has_people

    async def viewer(self, request: AnyRequest, *, is_use: bool = True) -> Viewer | None:
        """
        Tell who looks; None when they must sign in.

        Args:
            is_use: A person did something: what a page asks by itself keeps no session open.

        Raises:
            StorageUnavailable: It cannot be checked now.
        """
        cookie = read_cookie(request, self._settings, SESSION)
        if await self.has_people():
            found = await self.sessions.find(cookie, is_use=is_use)
            return self._person(request, found, cookie) if found is not None and found.session.state is SessionState.OPEN else None
        if is_local(request) and not self._settings.dashboard.require_login:
            local = Principal(id="local", kind=PrincipalKind.LOCAL, tenant_id=self._tenant_id, name="local", scopes=frozenset(Scope))
            return self._viewer(request, local)
        return await self._key_viewer(request, cookie)

    async def waiting(self, request: AnyRequest) -> SignedIn | None:
        """Return who gave the password and still owes the second factor."""
        found = await self.sessions.find(read_cookie(request, self._settings, SESSION), is_use=False)
        return found if found is not None and found.session.state is SessionState.PASSWORD else None

    async def visit(self, request: AnyRequest) -> Visit:
        """Return where somebody comes from who signs in."""
        devices = await self._tickets.read(read_cookie(request, self._settings, DEVICE), "device", "")
        return Visit(
            peer=peer_of(request),
            agent=request.headers.get("user-agent", ""),
            request_id=request_id_of(request),
            token=read_cookie(request, self._settings, SESSION),
            devices=devices.data if devices is not None else {},
        )

    async def device_for(self, visit: Visit, person_id: str) -> tuple[str, int]:
        """Return what a device keeps with which a person has signed in, and for how long: guesses from elsewhere do not slow it down."""
        others = {known: device for known, device in visit.devices.items() if known != person_id}
        kept = dict(list(others.items())[-(_MAX_DEVICES - 1) :])
        kept[person_id] = visit.devices.get(person_id) or secrets.token_urlsafe(9)
        return await self._tickets.make("device", "", DEVICE_LIFETIME, **kept), DEVICE_LIFETIME

    async def open_key_session(self, request: AnyRequest, secret: str) -> str | None:
        """Return the cookie's value for an admin key; None, and a line in the log, for anything else."""
        key = await self._directory.authenticate(secret.strip())
        if key is None or not self._is_admin(key, request) or await self.has_people():
            maillog.security("page_login_refused", peer=peer_of(request), is_known=key is not None)
            return None
        maillog.changed("page_login", key_id=key.id, peer=peer_of(request))
        return self._sign(f"{key.id}.{self._clock.now() + KEY_SESSION_LIFETIME}")

    def check_click(self, request: AnyRequest, viewer: Viewer, token: str) -> None:
        """
        Refuse a change that did not come from our own form.

        Raises:
            Refused: permission_denied.
        """
        check_same_origin(request)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), viewer.token.encode()):
            raise Refused("permission_denied", "this page is out of date: load it again and repeat the click")

    def address(self, request: AnyRequest) -> str:
        """Return the address of these pages, as browsers know it."""
        return self._settings.dashboard.url or f"{request.url.scheme}://{request.headers.get('host', '') if host_of(request) else ''}"

    def passkey_site(self, request: AnyRequest) -> Site | None:
        """Return where passkeys belong to; None where browsers offer none, or the visitor came by another address."""
        site = Site(origin=self.address(request).lower())
        is_here = urlsplit(site.origin).netloc == request.headers.get("host", "").lower()
        return site if is_here and site.can_have_passkeys else None

    def is_secure(self, request: AnyRequest) -> bool:
        """Tell whether the browser speaks TLS to these pages, or to a proxy before them."""
        return is_secure(request, self._settings)

    def _person(self, request: AnyRequest, found: SignedIn, cookie: str) -> Viewer:
        token = _encode(hmac.digest(cookie.encode(), b"form", hashlib.sha256))  # bound to the session: its secret makes it
        return Viewer(caller=_caller(request, found.principal), token=token, signed_in=found)

    def _viewer(self, request: AnyRequest, principal: Principal) -> Viewer:
        return Viewer(caller=_caller(request, principal), token=self._mac(f"form.{principal.id}"))

    async def _key_viewer(self, request: AnyRequest, cookie: str) -> Viewer | None:
        key_id = self._read_key_session(cookie, self._clock.now())
        if key_id is None:
            return None
        key = await self._engine.read(lambda conn: credentials.find(conn, ApiKey, self._tenant_id, key_id))
        if key is None or not self._is_admin(key, request):
            return None
        return self._viewer(request, key.principal())  # with its networks, limits and end: what it makes has no more

    def _is_admin(self, key: ApiKey, request: AnyRequest) -> bool:
        """Tell whether a key opens the pages; one that is bound to a client certificate or to some domains does not."""
        is_narrow = bool(key.domains or key.streams) or key.id in self._settings.https.bound_keys
        is_near = not key.networks or is_inside(peer_of(request), key.networks)
        is_right = key.tenant_id == self._tenant_id and key.mode is KeyMode.LIVE and Scope.ADMIN in key.scopes
        return is_right and is_near and not (key.is_over(self._clock.now()) or is_narrow or self._directory.is_suspended(key.tenant_id))

    def _sign(self, payload: str) -> str:
        return f"{payload}.{self._mac(payload)}"

    def _mac(self, payload: str) -> str:
        return _encode(hmac.digest(self._secret, payload.encode("utf-8", "replace"), hashlib.sha256))

    def _read_key_session(self, cookie: str, now: Instant) -> str | None:
        payload, _, mac = cookie.rpartition(".")
        if not payload or not hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(payload).encode()):
            return None
        key_id, _, expires_at = payload.partition(".")
        return key_id if int(expires_at) > now else None


def _caller(request: AnyRequest, principal: Principal) -> Caller:
    return Caller(principal=principal, peer=peer_of(request), request_id=request_id_of(request))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def peer_of(request: AnyRequest) -> str:
    """Return the address that a request comes from."""
    return request.client.host if request.client else ""


def request_id_of(request: AnyRequest) -> str:
    """Return the id under which the request stands in the log."""
    return str(request.scope.get("gatepost_request_id", ""))


def host_of(request: AnyRequest) -> str:
    """Return the name in the Host header, without port and brackets; empty when it is no well-formed host (RFC 9110 §7.2)."""
    match = _HOST.fullmatch(request.headers.get("host", ""))
    return (match[1] or match[2]).lower() if match else ""


def is_local(request: AnyRequest) -> bool:
    """Tell whether the visitor sits on this machine: by peer, by Host header, and with no proxy between."""
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    return _is_loopback(peer_of(request)) and (host_of(request) == "localhost" or _is_loopback(host_of(request)))


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
