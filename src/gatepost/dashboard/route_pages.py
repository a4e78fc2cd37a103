"""
Routes on pages, for operators: which mail takes which roads, and in which order routes are asked.

Arrives: forms. Leaves: calls of `tenants.routes`, which holds the rules; pages.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, actor_of
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.domain.routing import Rule, write_choices
from gatepost.tenants.routes import Asked, Routes

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_CONDITIONS: Final = {
    "tenants": "tenants (ids or names)",
    "streams": "streams",
    "senders": "senders’ domains",
    "recipients": "recipients’ domains",
    "sites": "mail systems",
    "tags": "tags",
}
_STRATEGIES: Final = {
    "ordered": "in this order",
    "weighted": "by their weights",
    "cheapest": "the cheapest first",
}
_DONE: Final = {
    "made": "The route is made. It counts for mail that is accepted from now on.",
    "changed": "The route is changed. Mail that was accepted keeps its roads.",
    "removed": "The route is removed. Mail that was accepted keeps its roads.",
    "ordered": "The routes are asked in this order now.",
}
_PLACES: Final = {"name", "roads", "strategy"}


class RoutePages:
    """The pages about routes."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._routes = Routes(deps.engine, deps.clock, deps.settings)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List routes."""
        return await self._list(request)

    async def make(self, request: AnyRequest) -> Response[Any]:
        """Make a route."""
        form = await read_form(request)
        try:
            asked = Asked(
                name=form.get("name", "").strip(), roads=form.get("roads", "").strip(), strategy=form.get("strategy", "ordered"),
                match=_match(form), may_be_named="may_be_named" in form, is_chosen="is_chosen" in form,
            )  # fmt: skip
            await self._routes.create(asked, actor_of(request), is_first="is_first" in form)
        except Refused as refusal:
            return await self._list(request, refusal, form)
        return await self._done("made")

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one route, and its form."""
        return await self._one(request)

    async def change(self, request: AnyRequest) -> Response[Any]:
        """Change one."""
        form = await read_form(request)
        changes = {
            "name": form.get("name", "").strip(), "roads": form.get("roads", "").strip(), "strategy": form.get("strategy", "ordered"),
            "match": _match(form), "may_be_named": "may_be_named" in form, "is_chosen": "is_chosen" in form,
        }  # fmt: skip
        try:
            await self._routes.change(_named(request), changes, actor_of(request))
        except Refused as refusal:
            return await self._one(request, refusal, form)
        return await self._done("changed")

    async def remove(self, request: AnyRequest) -> Response[Any]:
        """Remove one."""
        await self._routes.remove(_named(request), actor_of(request))
        return await self._done("removed")

    async def move(self, request: AnyRequest) -> Response[Any]:
        """Ask one earlier or later."""
        form, named = await read_form(request), _named(request)
        own = [rule.id for rule in await self._routes.every() if not rule.is_fixed]
        if named not in own:
            raise Refused("not_found", "there is no such route, or it stands in the settings")
        at = own.index(named)
        to = max(0, min(len(own) - 1, at + (1 if form.get("to") == "later" else -1)))
        own.insert(to, own.pop(at))
        await self._routes.order(own, actor_of(request))
        return await self._done("ordered")

    async def _done(self, what: str) -> Redirect:
        if self._deps.routing is not None:
            await self._deps.routing.refresh()  # it counts at once in this process; the others see it within a second
        return Redirect(f"/routes?done={what}", status_code=303)

    async def _list(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        return self._shell.page(
            request, "routes.html", status=_status(refusal), faults=_faults(refusal), values=values or {"is_chosen": "yes"},
            rules=await self._routes.every(), default=self._deps.settings.egress.default_route, **self._choices(),
            done=_DONE.get(request.query_params.get("done", ""), ""),
        )  # fmt: skip

    async def _one(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        rule = await self._routes.get(_named(request))
        if refusal is not None and rule.is_fixed:
            raise refusal
        return self._shell.page(
            request, "route.html", status=_status(refusal), faults=_faults(refusal), rule=rule, values=values or _shown(rule),
            **self._choices(),
        )  # fmt: skip

    def _choices(self) -> dict[str, Any]:
        settings = self._deps.settings
        roads = ["mx", *(f"mx:{name}" for name in settings.pools), *sorted(settings.relays), "sandbox"]
        return {"conditions": _CONDITIONS, "strategies": _STRATEGIES, "known_roads": roads}


def _match(form: Mapping[str, str]) -> dict[str, list[str]]:
    return {name: [one.strip() for one in form.get(name, "").replace("\n", ",").split(",") if one.strip()] for name in _CONDITIONS}


def _shown(rule: Rule) -> dict[str, str]:
    shown = {name: ", ".join(sorted(getattr(rule.match, name))) for name in _CONDITIONS}
    shown |= {"name": rule.name, "roads": write_choices(rule.choices), "strategy": rule.strategy.value}
    return shown | {name: "yes" for name in ("may_be_named", "is_chosen") if getattr(rule, name)}


def _status(refusal: Refused | None) -> int:
    if refusal is not None and refusal.code not in {"validation_failed", "conflict"}:
        raise refusal
    return refusal.kind.status if refusal else 200


def _faults(refusal: Refused | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, text in (faults_of(refusal) if refusal else {}).items():
        parts = place.split("/")
        name = parts[1] if parts[0] == "match" and len(parts) > 1 else parts[0]
        found.setdefault(name if name in _PLACES or name in _CONDITIONS else "", text)
    return found


def _named(request: AnyRequest) -> str:
    return str(request.path_params["route"])[:100]


_ONE = "/routes/{route:str}"
PAGES = (
    Page(method="GET", path="/routes", run=RoutePages.listing, scope=Scope.OPERATOR),
    Page(method="POST", path="/routes", run=RoutePages.make, scope=Scope.OPERATOR),
    Page(method="GET", path=_ONE, run=RoutePages.show, scope=Scope.OPERATOR),
    Page(method="POST", path=_ONE, run=RoutePages.change, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/remove", run=RoutePages.remove, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/move", run=RoutePages.move, scope=Scope.OPERATOR),
)
