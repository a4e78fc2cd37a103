"""The inbox, the queue, static files and the news stream."""

from typing import TYPE_CHECKING, Any

from litestar import Response
from litestar.response import Redirect, Stream

from gatepost import ids
from gatepost.dashboard import reads
from gatepost.dashboard.access import Access, AnyRequest, actor_of, viewer_of
from gatepost.dashboard.live import Pulse
from gatepost.dashboard.page import Page, open_page
from gatepost.dashboard.search import parse_search
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.domain.recipient import Status
from gatepost.explain.queued import site_views
from gatepost.observe import maillog
from gatepost.store import messages

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
    """The pages of all mail."""

    def __init__(self, deps: "DashboardDeps", shell: Shell, access: Access) -> None:
        self._deps = deps
        self._shell = shell
        self._access = access
        self._pulse = Pulse(deps.engine, deps.clock)

    async def inbox(self, request: AnyRequest) -> Response[Any]:
        """Show the list; `q` is the search, `after`, `before` and `top` are places in it."""
        query, tenant_id = request.query_params, viewer_of(request).tenant_id
        search = parse_search(query.get("q", ""), self._deps.clock.now(), self._deps.settings.limits.search_messages)
        after, before, top = (_cursor(query.get(name)) for name in ("after", "before", "top"))
        if top is not None:
            after = reads.from_top(top)
        page = await self._deps.engine.read(lambda conn: reads.listing(conn, tenant_id, search.wanted, after=after, before=before))
        seen = await self._pulse.latest(tenant_id, None)
        is_empty = not page.rows and not search.text and after is None and before is None
        sender_of = tenant_id or self._deps.default_tenant_id
        domain = await self._deps.engine.read(lambda conn: reads.sender_domain(conn, sender_of)) if is_empty else ""
        return self._shell.page(
            request, "inbox.html", search=search, page=page, seen=seen, chips=_CHIPS, is_empty=is_empty, domain=domain,
            is_first=top is not None or (after is None and (before is None or not page.has_newer)),
        )  # fmt: skip

    async def new_count(self, request: AnyRequest) -> Response[Any]:
        """Say how many matching messages came after `top`: a fragment for the bar above the list."""
        search = parse_search(request.query_params.get("q", ""), self._deps.clock.now(), self._deps.settings.limits.search_messages)
        top, tenant_id = _cursor(request.query_params.get("top")) or "", viewer_of(request).tenant_id
        count = await self._deps.engine.read(lambda conn: reads.count_newer(conn, tenant_id, search.wanted, top))
        return self._shell.page(request, "_new.html", search=search, count=count)

    async def queue(self, request: AnyRequest) -> Response[Any]:
        """Show what waits, by site: an operator sees everybody's, others their tenant's."""
        now, viewer = self._deps.clock.now(), viewer_of(request)
        whose = None if viewer.may(Scope.OPERATOR) else viewer.tenant_id
        rows = await self._deps.engine.read(lambda conn: site_views(conn, whose, now))
        return self._shell.page(request, "queue.html", sites=rows, seen=await self._pulse.latest(viewer.tenant_id, None))

    async def change_site(self, request: AnyRequest) -> Response[Any]:
        """Pause or resume a site."""
        form = await request.form()
        site, action = str(form.get("site", ""))[:300], str(form.get("action", ""))
        if not site or action not in {"pause", "resume"}:
            raise Refused("malformed_request", "the form is not complete")
        if action == "pause":
            await self._deps.control.pause_site(site, "paused on the queue page", by=actor_of(request))
        else:
            await self._deps.control.resume_site(site, by=actor_of(request))
        maillog.changed(f"site_{action}", site=site, by=viewer_of(request).subject)
        return Redirect("/q", status_code=303)

    async def live(self, request: AnyRequest) -> Response[Any]:
        """Stream news to an open page."""
        tenant_id, message_id = viewer_of(request).tenant_id, request.query_params.get("message") or None
        if message_id is not None and not await self._is_there(tenant_id, message_id):
            raise Refused("not_found", "there is no such message")
        headers = {"X-Accel-Buffering": "no"}  # a proxy must not collect news
        state = request.app.state  # the server's owner sets is_closing: a stream must not hold up its end

        def is_closing() -> bool:
            return bool(state.get("is_closing", False))

        async def may_look() -> bool:
            viewer = await self._access.viewer(request, is_use=False)
            return viewer is not None and viewer.tenant_id == tenant_id and viewer.may(Scope.MESSAGES_READ)

        stream = self._pulse.stream(tenant_id, message_id, is_closing, may_look)
        return Stream(stream, media_type="text/event-stream", headers=headers)

    async def static(self, request: AnyRequest) -> Response[Any]:
        """Serve a static file; its name holds its hash, so it may be kept for good."""
        asset = self._shell.assets.by_name.get(request.path_params["name"])
        if asset is None:
            raise Refused("not_found", "there is no such file")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content=asset.content, media_type=asset.content_type, headers=headers)

    async def _is_there(self, tenant_id: str | None, message_id: str) -> bool:
        if not ids.is_valid(message_id, "msg"):
            return False
        return await self._deps.engine.read(lambda conn: messages.get(conn, tenant_id, message_id) is not None)


PAGES = (
    open_page("GET", "/static/{name:str}", Pages.static),
    Page(method="GET", path="/", run=Pages.inbox, scope=Scope.MESSAGES_READ),
    Page(method="GET", path="/new", run=Pages.new_count, scope=Scope.MESSAGES_READ, is_quiet=True),
    Page(method="GET", path="/q", run=Pages.queue, scope=Scope.MESSAGES_READ),
    Page(method="POST", path="/q", run=Pages.change_site, scope=Scope.OPERATOR),
    Page(method="GET", path="/live", run=Pages.live, scope=Scope.MESSAGES_READ, is_quiet=True),
)


def _cursor(text: str | None) -> str | None:
    return text if text and ids.is_valid(text, "msg") else None
