"""
Actions on mail that waits, on pages: hold, release, reroute, cancel all that fits; first the number, then the click; how far each is.

Arrives: a query in the URL, which only counts; a form, which asks. Leaves: calls of `tenants.queue_actions`; pages.
A person's action is about their tenant's mail; who sits at the machine acts on everybody's, as on the command line.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, actor_of, viewer_of
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.queue_action import Filter, Kind
from gatepost.mime.checks import text_faults
from gatepost.tenants.queue_actions import QueueActions

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_FIELDS: Final = {
    "site": ("Mail system", "google, example.net, relay:main"),
    "stream": ("Stream", "bulk"),
    "tag": ("Tag", "order"),
    "sender": ("Sender’s domain", "acme.example"),
    "recipient": ("Recipient’s domain", "example.net"),
    "route": ("Road that it is on", "mx, or a relay’s name"),
}
_AGES: Final = {"": "any time", "600": "ten minutes", "3600": "one hour", "21600": "six hours", "86400": "one day", "259200": "three days"}
_KINDS: Final = {
    Kind.HOLD: ("Hold", "pause", "waits until it is released"),
    Kind.RELEASE: ("Release", "play", "was held, and goes on"),
    Kind.REROUTE: ("Reroute", "delivery", "takes other roads"),
    Kind.CANCEL: ("Cancel", "cancelled", "is never sent; this cannot be taken back"),
}
_LOOKS: Final = {True: ("delivered", "done"), False: ("queued", "being done")}


class QueuePages:
    """The pages about actions on the queue."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._actions = QueueActions(deps.engine, deps.clock, deps.settings)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List actions; with a query, count what one would reach and offer to do it."""
        return await self._list(request, dict(request.query_params))

    async def ask(self, request: AnyRequest) -> Response[Any]:
        """Do it."""
        form, viewer = await read_form(request), viewer_of(request)
        try:
            kind, wanted = _kind(form), self._filter(form)
            note = form.get("note", "").strip()
            if faults := text_faults("/note", note, 200):
                raise invalid(*faults)
            route = form.get("to", "").strip() if kind is Kind.REROUTE else None
            made = await self._actions.ask(
                viewer.tenant_id, kind, wanted, by=actor_of(request), route=route, note=note, is_operator=viewer.may(Scope.OPERATOR)
            )
        except Refused as refusal:
            return await self._list(request, form, refusal)
        return Redirect(f"/q/actions/{made.id}", status_code=303)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show how far one is."""
        action = await self._actions.get(viewer_of(request).tenant_id, str(request.path_params["action_id"])[:100])
        return self._shell.page(request, "queue_action.html", action=action, kinds=_KINDS, fields=_FIELDS, looks=_LOOKS)

    async def _list(self, request: AnyRequest, values: Mapping[str, str], refusal: Refused | None = None) -> Response[Any]:
        tenant_id, count, kind = viewer_of(request).tenant_id, None, None
        if refusal is None and values.get("count") == "yes":
            try:
                kind = _kind(values)
                count = await self._actions.count(tenant_id, kind, self._filter(values), by=actor_of(request))
            except Refused as found:
                refusal = found
        if refusal is not None and refusal.code not in {"validation_failed", "conflict"}:
            raise refusal
        # the only fault about a route is that of a reroute's new one
        faults = {"to" if name == "route" else "": text for name, text in _told(refusal).items()}
        shown = {name: str(value)[:300] for name, value in values.items() if name != "token"}
        return self._shell.page(
            request, "queue_actions.html", status=refusal.kind.status if refusal and request.method == "POST" else 200, faults=faults,
            values=shown, count=count, kind=kind, kinds=_KINDS, fields=_FIELDS, ages=_AGES, looks=_LOOKS, is_whole=tenant_id is None,
            actions=await self._actions.list(tenant_id), roads=["mx", *sorted(self._deps.settings.relays)],
        )  # fmt: skip

    def _filter(self, values: Mapping[str, str]) -> Filter:
        """
        Read which mail is meant.

        Raises:
            Refused: validation_failed: nothing is named.
        """
        given = {name: value for name in _FIELDS if (value := values.get(name, "").strip()[:255])}
        given |= {name: given[name].lower() for name in ("site", "sender", "recipient") if name in given}
        age = values.get("older", "")
        before = self._deps.clock.now() - int(age) * 1000 if age and age in _AGES else None
        wanted = Filter(**given, before=before)
        if wanted == Filter():
            raise invalid(Fault("/filter", "required", "name at least one thing that the mail must have"))
        return wanted


def _kind(values: Mapping[str, str]) -> Kind:
    try:
        return Kind(values.get("action", ""))
    except ValueError:
        raise invalid(Fault("/action", "invalid_value", f"choose one of {', '.join(Kind)}")) from None


def _told(refusal: Refused | None) -> Mapping[str, str]:
    return faults_of(refusal) if refusal is not None else {}


PAGES = (
    Page(method="GET", path="/q/actions", run=QueuePages.listing, scope=Scope.MESSAGES_READ),
    Page(method="POST", path="/q/actions", run=QueuePages.ask, scope=Scope.MESSAGES_WRITE),
    Page(method="GET", path="/q/actions/{action_id:str}", run=QueuePages.show, scope=Scope.MESSAGES_READ),
)
