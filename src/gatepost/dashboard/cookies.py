"""
The pages' cookies: a session, a known device, a sign-in that is under way at a provider.

Over TLS their names begin with `__Host-`: then no other host, and no page without TLS, can have set them.
Standards: RFC 6265bis §4.1.3.2 (`__Host-`), §5.6.7 (SameSite).
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.datastructures import Cookie

from gatepost.clock import SECOND
from gatepost.settings import Settings

SESSION: Final = "gatepost_session"
DEVICE: Final = "gatepost_device"
PROVIDER: Final = "gatepost_provider"
VISIT: Final = "gatepost_visit"
_OVER_TLS = {
    SESSION: "__Host-gatepost",
    DEVICE: "__Host-gatepost-device",
    PROVIDER: "__Host-gatepost-provider",
    VISIT: "__Host-gatepost-visit",
}


def is_secure(request: Request[Any, Any, Any], settings: Settings) -> bool:
    """Tell whether the browser speaks TLS to these pages, or to a proxy before them."""
    if request.url.scheme == "https":
        return True
    address = urlsplit(settings.dashboard.url)
    return address.scheme == "https" and address.netloc.lower() == request.headers.get("host", "").lower()


def read_cookie(request: Request[Any, Any, Any], settings: Settings, name: str) -> str:
    """Return a cookie's value; empty without it."""
    return request.cookies.get(_OVER_TLS[name] if is_secure(request, settings) else name, "")


def make_cookie(request: Request[Any, Any, Any], settings: Settings, name: str, value: str, lifetime_ms: int) -> Cookie:
    """Make a cookie that no script can read and no other site can send along with a form."""
    over_tls = is_secure(request, settings)
    return Cookie(
        key=_OVER_TLS[name] if over_tls else name,
        value=value,
        httponly=True,
        # lax: a link in a mail, or the way back from a provider, must find the session
        samesite="lax",
        secure=over_tls,
        path="/",
        max_age=lifetime_ms // SECOND,
    )


def take_back(request: Request[Any, Any, Any], settings: Settings, name: str) -> Cookie:
    """Make a browser forget a cookie."""
    return make_cookie(request, settings, name, "", 0)
