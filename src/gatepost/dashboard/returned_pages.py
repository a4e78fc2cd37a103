"""
What came back and was put aside, on pages for operators: what nobody could read, what speaks of nobody we know, what broke us.

Arrives: forms. Leaves: calls of `returns.aside`; pages. Contents are shown as text only, and looking at one stands in the audit log.
"""

from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, actor_of
from gatepost.dashboard.lists import cut, read_cursor
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.returns.aside import AsideRegister, heading_of
from gatepost.store.inbound import ASIDE

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_SHOWN_BYTES: Final = 64 * 1024
_LOOKS: Final = {
    "unread": ("deferred", "not understood", "Perhaps a person wrote."),
    "unmatched": ("expired", "of nobody known", "It changed nothing."),
    "quarantined": ("bounced", "not worked on", "Reading it failed again and again: a fault of ours, worth a report."),
}
_DONE: Final = {"again": "It is read once more, within a second.", "forgotten": "It is forgotten."}


class ReturnedPages:
    """The pages about what was put aside."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._register = AsideRegister(deps.engine, deps.clock)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List what was put aside."""
        query, cursor = request.query_params, read_cursor(request, "inb", 25)
        state = query["state"] if query.get("state") in ASIDE else None
        rows = await self._register.list(cursor.size + 1, state=state, after=cursor.after, before=cursor.before)
        page = cut(rows, cursor)
        return self._shell.page(
            request, "returned.html", page=page, told={row.id: heading_of(row) for row in page.rows}, state=state, looks=_LOOKS,
            counts=await self._register.counts(), domain=self._deps.settings.inbound.bounce_domain,
            listen=self._deps.settings.inbound.listen, done=_DONE.get(query.get("done", ""), ""),
        )  # fmt: skip

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one, as text."""
        found = await self._register.look(_id(request), by=actor_of(request))
        text = found.body[:_SHOWN_BYTES].decode("utf-8", "replace")
        return self._shell.page(
            request, "returned_one.html", row=found, heading=heading_of(found), text=text, looks=_LOOKS,
            is_cut=len(found.body) > _SHOWN_BYTES, size_bytes=len(found.body),
        )  # fmt: skip

    async def again(self, request: AnyRequest) -> Response[Any]:
        """Let one be read once more."""
        await self._register.work_again(_id(request), by=actor_of(request))
        return Redirect("/returned?done=again", status_code=303)

    async def forget(self, request: AnyRequest) -> Response[Any]:
        """Forget one."""
        await self._register.forget(_id(request), by=actor_of(request))
        return Redirect("/returned?done=forgotten", status_code=303)


def _id(request: AnyRequest) -> str:
    return str(request.path_params["inbound_id"])


_ONE = "/returned/{inbound_id:str}"
PAGES = (
    Page(method="GET", path="/returned", run=ReturnedPages.listing, scope=Scope.OPERATOR),
    Page(method="GET", path=_ONE, run=ReturnedPages.show, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/again", run=ReturnedPages.again, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/forget", run=ReturnedPages.forget, scope=Scope.OPERATOR),
)
