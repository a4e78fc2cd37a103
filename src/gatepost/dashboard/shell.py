"""What all pages share: the frame around them, the theme, the badge, the path back."""

from typing import Any
from urllib.parse import urlencode

from litestar import MediaType, Request, Response

from gatepost import __version__
from gatepost.clock import Clock
from gatepost.dashboard.access import host_of
from gatepost.dashboard.templating import Assets, load_assets, make_environment, render
from gatepost.domain import route as routes
from gatepost.settings import Settings

_THEMES = {"light", "dark"}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Shell:
    """Renders pages."""

    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.assets: Assets = load_assets()
        self._clock = clock
        self._environment = make_environment(self.assets)

    def page(self, request: Request[Any, Any, Any], template: str, *, status: int = 200, **values: Any) -> Response[Any]:
        """Render a template inside the frame."""
        route = self.settings.egress.default_route
        viewer = getattr(request.state, "viewer", None)
        content = render(
            self._environment,
            template,
            now=self._clock.now(),
            theme=theme_of(request),
            path=request.url.path,
            viewer=viewer,
            is_sandbox=route == routes.SANDBOX,
            route=route,
            base_url=base_url(request, self.settings.http.listen),
            version=__version__,
            link=link,
            **{"search": None, "token": viewer.token if viewer is not None else "", "faults": {}, "values": {}, **values},
        )
        response = Response(content=content, status_code=status, media_type=MediaType.HTML)
        harden(response)  # here too: what an exception handler returns passes no other place of ours
        return response


def theme_of(request: Request[Any, Any, Any]) -> str:
    """Return the theme that the visitor chose; empty follows the system."""
    theme = request.cookies.get("gatepost_theme", "")
    return theme if theme in _THEMES else ""


def base_url(request: Request[Any, Any, Any], listen: str) -> str:
    """Return the address under which the visitor reached us, for commands to copy; the Host header only when it is well-formed."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host if host_of(request) else listen}"


def link(path: str, **query: Any) -> str:
    """Build a link of ours; empty values are left out."""
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


def harden(response: Response[Any]) -> None:
    """Add the headers that every answer needs, where the handler did not set its own."""
    defaults = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-DNS-Prefetch-Control": "off",
        # not no-referrer: browsers would then send `Origin: null` with our own forms
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cache-Control": "no-store",
    }
    for name, value in defaults.items():
        response.headers.setdefault(name, value)
