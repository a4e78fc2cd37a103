"""
The pages' URLs, and what each needs.

Arrives: requests of a browser. Leaves: HTML, static files, server-sent events; changes go through `control` and `tenants`.
`PAGES` is the whole list: method, path, scope. Every change is a form that carries its session's token, checked here and
nowhere else. Every answer carries a Content-Security-Policy without `unsafe-inline`; a message's HTML is a document of its
own with a stricter one (`preview.POLICY`). Nothing here asks anything of another server, but for single sign-on.
Not here: who may look (access), the search language (search), what a page shows (views, reads).
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from litestar import Request, Response, Router, get, post
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from gatepost.clock import Clock
from gatepost.control import Control
from gatepost.dashboard import (
    account_pages,
    domain_pages,
    entry_pages,
    errors,
    insight_pages,
    key_pages,
    message_pages,
    pages,
    people_pages,
    placement_pages,
    queue_pages,
    relay_list_pages,
    relay_pages,
    report_pages,
    returned_pages,
    route_pages,
    site_pages,
    stream_pages,
    suppression_pages,
    webhook_pages,
)
from gatepost.dashboard.access import AnyRequest, Viewer, check_not_embedded, check_same_origin
from gatepost.dashboard.desk import Desk, make_desk
from gatepost.dashboard.page import Needs, Page
from gatepost.dashboard.shell import Shell, harden
from gatepost.domain.errors import Refused
from gatepost.egress.courier import Probe
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.routing import Routing

if TYPE_CHECKING:
    from gatepost.placement.sending import PlacementTests

PAGES: tuple[Page, ...] = (
    *pages.PAGES, *message_pages.PAGES, *entry_pages.PAGES, *account_pages.PAGES, *people_pages.PAGES, *key_pages.PAGES,
    *domain_pages.PAGES, *report_pages.PAGES, *suppression_pages.PAGES, *webhook_pages.PAGES, *stream_pages.PAGES, *route_pages.PAGES,
    *relay_pages.PAGES, *site_pages.PAGES, *queue_pages.PAGES, *returned_pages.PAGES,
    *insight_pages.PAGES, *placement_pages.PAGES, *relay_list_pages.PAGES,
)  # fmt: skip
"""Every page: who reads this list knows all that can be asked of the dashboard, and the scope that each page needs."""


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
    def domains(self) -> Domains:
        """Senders' domains."""
        ...

    @property
    def domain_health(self) -> DomainHealth:
        """What is known of their health."""
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
    def routing(self) -> Routing | None:
        """Chooses roads at accept; told when routes change."""
        ...

    @property
    def probe_relay(self) -> Callable[[str], Awaitable[Probe]] | None:
        """Asks a relay whether it would take mail; None cannot ask."""
        ...

    @property
    def placement(self) -> "PlacementTests | None":
        """Begins placement tests; None where there are no mailboxes to look into."""
        ...

    @property
    def default_tenant_id(self) -> str:
        """The tenant that exists from the start."""
        ...


def routes(deps: DashboardDeps, passwords: Passwords | None = None) -> list[ControllerRouterHandler]:
    """
    Make the route handlers of all pages.

    Args:
        passwords: Another way of hashing than the usual one.
    """
    shell, desk = Shell(settings=deps.settings, clock=deps.clock), make_desk(deps, passwords)
    rooms: dict[type, Any] = {
        pages.Pages: pages.Pages(deps, shell, desk.access),
        message_pages.MessagePages: message_pages.MessagePages(deps, shell),
        entry_pages.EntryPages: entry_pages.EntryPages(shell, desk),
        account_pages.AccountPages: account_pages.AccountPages(shell, desk),
        people_pages.PeoplePages: people_pages.PeoplePages(shell, desk),
        key_pages.KeyPages: key_pages.KeyPages(deps, shell, desk),
        domain_pages.DomainPages: domain_pages.DomainPages(deps, shell),
        report_pages.ReportPages: report_pages.ReportPages(deps, shell),
        suppression_pages.SuppressionPages: suppression_pages.SuppressionPages(deps, shell),
        webhook_pages.WebhookPages: webhook_pages.WebhookPages(deps, shell),
        stream_pages.StreamPages: stream_pages.StreamPages(deps, shell),
        route_pages.RoutePages: route_pages.RoutePages(deps, shell),
        relay_pages.RelayPages: relay_pages.RelayPages(deps, shell),
        site_pages.SitePages: site_pages.SitePages(deps, shell),
        queue_pages.QueuePages: queue_pages.QueuePages(deps, shell),
        returned_pages.ReturnedPages: returned_pages.ReturnedPages(deps, shell),
        insight_pages.InsightPages: insight_pages.InsightPages(deps, shell),
        placement_pages.PlacementPages: placement_pages.PlacementPages(deps, shell),
        relay_list_pages.RelayListPages: relay_list_pages.RelayListPages(deps, shell),
    }
    by_name = {room.__name__: made for room, made in rooms.items()}
    handlers = [_route(page, by_name[page.run.__qualname__.partition(".")[0]], desk, shell) for page in PAGES]
    router = Router(
        path="/", route_handlers=handlers, after_request=_harden, exception_handlers=errors.handlers(shell), include_in_schema=False,
    )  # fmt: skip
    return [router]


def _route(page: Page, room: Any, desk: Desk, shell: Shell) -> Any:
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        sent_away = await _admit(page, request, desk, shell)
        return sent_away if sent_away is not None else await page.run(room, request)

    make = {"GET": get, "POST": post}[page.method]
    return make(page.path, name=f"page {page.method} {page.path}", request_max_body_size=page.most_bytes)(handler)


async def _admit(page: Page, request: AnyRequest, desk: Desk, shell: Shell) -> Response[Any] | None:
    """Let a request in; or say where it must go first."""
    if page.needs is Needs.NOTHING:
        if page.method == "POST":
            check_same_origin(request)
        return None
    check_not_embedded(request)
    viewer = await desk.access.viewer(request, is_use=not page.is_quiet)
    request.state.viewer = viewer
    if viewer is None or (page.needs is Needs.PERSON and viewer.signed_in is None):
        return _ask_to_sign_in(request, shell)
    if page.method == "POST":
        form = await request.form()
        desk.access.check_click(request, viewer, str(form.get("token", "")))
    if page.scope is not None and not viewer.may(page.scope):
        return _refuse(page, request, viewer)
    if page.is_recent and viewer.signed_in is not None and not desk.sessions.is_recent(viewer.signed_in.session):
        return Redirect("/confirm?" + urlencode({"next": _back(request)}), status_code=303)
    return None


def _refuse(page: Page, request: AnyRequest, viewer: Viewer) -> Response[Any]:
    """Say no to who lacks a page's scope; who belongs to no tenant finds their account instead of the inbox."""
    assert page.scope is not None
    if page.path == "/" and viewer.signed_in is not None:
        return Redirect("/account", status_code=303)
    maillog.security("page_refused", person_id=viewer.subject, scope=page.scope.value, page=f"{page.method} {page.path}")
    raise Refused("permission_denied", f"it needs the scope {page.scope.value}")


def _ask_to_sign_in(request: AnyRequest, shell: Shell) -> Response[Any]:
    """Send a visitor to the page for signing in, and back afterwards."""
    is_document = request.headers.get("sec-fetch-dest", "document") == "document"
    if not (request.method == "GET" and is_document and "hx-request" not in request.headers):
        if request.method == "POST":
            check_same_origin(request)
        return shell.page(request, "signed_out.html", status=401)
    back = _back(request)
    return Redirect("/login?" + urlencode({"next": back}) if back != "/" else "/login", status_code=303)


def _back(request: AnyRequest) -> str:
    """Return the page to come back to: after a form was sent, the one that it stood on."""
    if request.method != "GET":
        return entry_pages.PLACES.get(request.url.path.split("/")[1], "/")
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


async def _harden(response: Response[Any]) -> Response[Any]:
    harden(response)
    return response
