"""The inbox, the queue, signing in, static files and the news stream."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from litestar import Response
from litestar.datastructures import Cookie
from litestar.response import Redirect, Stream

from gatepost import ids
from gatepost.dashboard import reads
from gatepost.dashboard.access import COOKIE, SESSION_LIFETIME, Access, AnyRequest, check_same_origin
from gatepost.dashboard.live import Pulse
from gatepost.dashboard.search import parse_search
from gatepost.dashboard.shell import Shell
from gatepost.domain.errors import Refused
from gatepost.domain.recipient import Status
from gatepost.observe import maillog
from gatepost.store import sites

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_CHIPS = (
    Status.QUEUED,
    Status.SCHEDULED,
    Status.DEFERRED,
    Status.SENT,
    Status.DELIVERED,
    Status.BOUNCED,
    Status.SUPPRESSED,
    Status.EXPIRED,
    Status.CANCELLED,
)


class Pages:
    """All pages but those of one message."""

    def __init__(self, deps: "DashboardDeps", shell: Shell, access: Access) -> None:
        self._deps = deps
        self._shell = shell
        self._access = access
        self._pulse = Pulse(deps.engine, deps.clock)

    async def inbox(self, request: AnyRequest) -> Response[Any]:
        """Show the list; `q` is the search, `after`, `before` and `top` are places in it."""
        query = request.query_params
        search = parse_search(query.get("q", ""), self._deps.clock.now())
        after, before, top = (_cursor(query.get(name)) for name in ("after", "before", "top"))
        if top is not None:
            after = reads.from_top(top)
        page = await self._deps.engine.read(lambda conn: reads.listing(conn, search.wanted, after=after, before=before))
        seen = await self._pulse.latest(None)
        is_empty = not page.rows and not search.text and after is None and before is None
        tenant_id = self._deps.default_tenant_id
        domain = await self._deps.engine.read(lambda conn: reads.sender_domain(conn, tenant_id)) if is_empty else ""
        return self._page(
            request, "inbox.html", search=search, page=page, seen=seen, chips=_CHIPS, is_empty=is_empty, domain=domain,
            is_first=top is not None or (after is None and (before is None or not page.has_newer)),
        )  # fmt: skip

    async def new_count(self, request: AnyRequest) -> Response[Any]:
        """Say how many matching messages came after `top`: a fragment for the bar above the list."""
        search = parse_search(request.query_params.get("q", ""), self._deps.clock.now())
        top = _cursor(request.query_params.get("top")) or ""
        count = await self._deps.engine.read(lambda conn: reads.count_newer(conn, search.wanted, top))
        return self._page(request, "_new.html", search=search, count=count)

    async def queue(self, request: AnyRequest) -> Response[Any]:
        """Show what waits, by site."""
        now = self._deps.clock.now()
        rows = await self._deps.engine.read(lambda conn: reads.queue_sites(conn, now))
        return self._page(request, "queue.html", sites=rows, seen=await self._pulse.latest(None))

    async def change_site(self, request: AnyRequest) -> Response[Any]:
        """Pause or resume a site."""
        form = await request.form()
        self._access.check_click(request, request.state.viewer, str(form.get("token", "")))
        site, action = str(form.get("site", ""))[:300], str(form.get("action", ""))
        if not site or action not in {"pause", "resume"}:
            raise Refused("malformed_request", "the form is not complete")
        now = self._deps.clock.now()
        if action == "pause":
            await self._deps.engine.write(lambda conn: sites.pause(conn, site, now, "paused on the queue page"))
        else:
            await self._deps.engine.write(lambda conn: sites.resume(conn, site))
        maillog.changed(f"site_{action}", site=site, by=request.state.viewer.subject)
        return Redirect("/q", status_code=303)

    async def live(self, request: AnyRequest) -> Response[Any]:
        """Stream news to an open page."""
        message_id = request.query_params.get("message") or None
        if message_id is not None and not ids.is_valid(message_id, "msg"):
            raise Refused("not_found", "there is no such message")
        headers = {"X-Accel-Buffering": "no"}  # a proxy must not collect news
        state = request.app.state  # the server's owner sets is_closing: a stream must not hold up its end

        def is_closing() -> bool:
            return bool(state.get("is_closing", False))

        return Stream(self._pulse.stream(message_id, is_closing), media_type="text/event-stream", headers=headers)

    async def static(self, request: AnyRequest) -> Response[Any]:
        """Serve a static file; its name holds its hash, so it may be kept for good."""
        asset = self._shell.assets.by_name.get(request.path_params["name"])
        if asset is None:
            raise Refused("not_found", "there is no such file")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content=asset.content, media_type=asset.content_type, headers=headers)

    def ask_to_sign_in(self, request: AnyRequest) -> Response[Any]:
        """Send a visitor to the login page, and back afterwards."""
        is_document = request.headers.get("sec-fetch-dest", "document") == "document"
        is_visit = request.method == "GET" and is_document and "hx-request" not in request.headers
        if not is_visit:
            return self._page(request, "login.html", status=401, next="/", is_refused=False)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Redirect("/login?" + urlencode({"next": back}) if back != "/" else "/login", status_code=303)

    async def login_form(self, request: AnyRequest) -> Response[Any]:
        """Ask for an admin key."""
        return self._page(request, "login.html", next=_own_path(request.query_params.get("next", "/")), is_refused=False)

    async def login(self, request: AnyRequest) -> Response[Any]:
        """Open a session for an admin key."""
        check_same_origin(request)
        form = await request.form()
        session = await self._access.open_session(request, str(form.get("key", ""))[:200])
        target = _own_path(str(form.get("next", "/")))
        if session is None:
            return self._page(request, "login.html", status=401, next=target, is_refused=True)
        cookie = Cookie(
            key=COOKIE,
            value=session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
            max_age=SESSION_LIFETIME // 1000,
        )
        return Redirect(target, status_code=303, cookies=[cookie])

    async def logout(self, request: AnyRequest) -> Response[Any]:
        """End the session in this browser."""
        form = await request.form()
        self._access.check_click(request, request.state.viewer, str(form.get("token", "")))
        gone = Cookie(key=COOKIE, value="", max_age=0, httponly=True, samesite="strict", path="/")
        return Redirect("/login", status_code=303, cookies=[gone])

    def _page(self, request: AnyRequest, template: str, *, status: int = 200, **values: Any) -> Response[Any]:
        viewer = getattr(request.state, "viewer", None)
        return self._shell.page(request, template, status=status, token=self._access.token(viewer) if viewer else "", **values)


def _cursor(text: str | None) -> str | None:
    return text if text and ids.is_valid(text, "msg") else None


def _own_path(target: str) -> str:
    """Return a path on this server: never another site's, whatever the link says."""
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return quote(target, safe="/?&=:@%+,;~!*'()$-._") if is_own else "/"
