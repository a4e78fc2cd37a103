"""
The pages' URLs.

Arrives: requests of a browser. Leaves: HTML, static files, server-sent events; changes go through `control` and `store`.
Every answer carries a Content-Security-Policy without `unsafe-inline`; a message's HTML is a document of its own with a
stricter one (`preview.POLICY`). Nothing here asks anything of another server.
Not here: who may look (access), the search language (search), what a page shows (views, reads).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from litestar import Request, Response, Router, get, post
from litestar.types import ControllerRouterHandler

from gatepost.clock import Clock
from gatepost.control import Control
from gatepost.dashboard import access, errors
from gatepost.dashboard.message_pages import MessagePages
from gatepost.dashboard.pages import Pages
from gatepost.dashboard.shell import Shell, harden
from gatepost.settings import Settings
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory

_MAX_FORM = 16 * 1024

Handle = Callable[[access.AnyRequest], Awaitable[Response[Any]]]


class DashboardDeps(Protocol):
    """What the pages need of the process they run in; the HTTP door's dependencies have all of it."""

    # properties, not attributes: a frozen dataclass fits a protocol only when nothing can be set
    @property
    def engine(self) -> Engine:
        """The database."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Where contents are kept."""
        ...

    @property
    def control(self) -> Control:
        """Retry and cancel."""
        ...

    @property
    def directory(self) -> Directory:
        """Who has which key."""
        ...

    @property
    def settings(self) -> Settings:
        """The options."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def default_tenant_id(self) -> str:
        """The tenant whose live keys open the pages."""
        ...


def routes(deps: DashboardDeps) -> list[ControllerRouterHandler]:
    """Make the route handlers of all pages."""
    shell = Shell(settings=deps.settings, clock=deps.clock)
    guard = access.Access(engine=deps.engine, directory=deps.directory, clock=deps.clock, default_tenant_id=deps.default_tenant_id)
    pages = Pages(deps, shell, guard)
    messages = MessagePages(deps, shell, guard)
    open_pages = [_get("/static/{name:str}", pages.static), _get("/login", pages.login_form), _post("/login", pages.login)]
    guarded = [
        _get("/", pages.inbox),
        _get("/new", pages.new_count),
        _get("/q", pages.queue),
        _post("/q", pages.change_site),
        _get("/live", pages.live),
        _post("/logout", pages.logout),
        _get("/m/{message_id:str}", messages.show),
        _post("/m/{message_id:str}", messages.change),
        _get("/m/{message_id:str}/html", messages.html),
        _get("/m/{message_id:str}/raw", messages.raw),
        _get("/m/{message_id:str}/files/{n:int}", messages.file),
    ]
    common: dict[str, Any] = {
        "path": "/",
        "after_request": _harden,
        "exception_handlers": errors.handlers(shell),
        "include_in_schema": False,
        "request_max_body_size": _MAX_FORM,
    }

    async def check(request: Request[Any, Any, Any]) -> Response[Any] | None:
        access.check_not_embedded(request)
        request.state.viewer = await guard.viewer(request)
        return None if request.state.viewer is not None else pages.ask_to_sign_in(request)

    return [Router(route_handlers=open_pages, **common), Router(route_handlers=guarded, before_request=check, **common)]


def _get(path: str, handle: Handle) -> Any:
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        return await handle(request)

    return get(path, name=f"page {handle.__name__}")(handler)


def _post(path: str, handle: Handle) -> Any:
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        return await handle(request)

    return post(path, name=f"page {handle.__name__}")(handler)


async def _harden(response: Response[Any]) -> Response[Any]:
    harden(response)
    return response
