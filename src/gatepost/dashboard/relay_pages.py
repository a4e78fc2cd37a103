"""
Roads on pages, for operators: relays and the way to MX hosts; how each does, whether it would take mail now, and its switch.

Arrives: forms. Leaves: calls of `tenants.road_control`, what `watch.relay_reports` knows; pages. Secrets are never here.
"""

from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, actor_of
from gatepost.dashboard.forms import read_form
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.egress.courier import Probe
from gatepost.store import roads
from gatepost.store.roads import RoadView
from gatepost.tenants.relay_list import RelayFacts, list_relays
from gatepost.tenants.road_control import RoadControl
from gatepost.watch import relay_reports

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_STATES: Final = {
    "closed": ("delivered", "takes mail"),
    "open": ("bounced", "shut"),
    "half_open": ("deferred", "being tried"),
    "disabled": ("cancelled", "switched off"),
}
"""Colour and word of each state of a breaker; the colours are those of messages."""
_LOOKS: Final = {
    "ok": ("delivered", "ok"),
    "warning": ("deferred", "look at it"),
    "failed": ("bounced", "failed"),
    "unknown": ("queued", "not known"),
    "not_applicable": ("cancelled", "does not apply"),
}
_TITLES: Final = {
    "relay_probe": "Probe",
    "relay_success": "Success",
    "relay_latency": "Latency",
    "relay_certificate": "Certificate",
    "relay_quota": "Quota",
    "relay_provider": "Provider’s status",
}
_DONE: Final = {
    "disabled": "It is switched off. What is on it takes the next road of its route, or waits.",
    "enabled": "It is switched on, and tried at once.",
}


class RelayPages:
    """The pages about roads."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._control = RoadControl(deps.engine, deps.clock, deps.settings)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List all roads."""
        deps, now = self._deps, self._deps.clock.now()
        views = await deps.engine.read(lambda conn: roads.views(conn, now))
        reports = {one.relay: one for one in await relay_reports.read_all(deps.engine, deps.clock, deps.settings)}
        relays = {one.name: one for one in await list_relays(deps.engine, deps.settings, deps.clock)}
        names = [*relays, "mx", *(f"mx:{name}" for name in sorted(deps.settings.pools) if name != "default")]
        found = [(views.get(name) or RoadView(road=name, state="closed"), relays.get(name), reports.get(name)) for name in names]
        return self._shell.page(request, "relays.html", roads=found, has_relays=bool(relays), states=_STATES, looks=_LOOKS)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one road."""
        return await self._one(request)

    async def disable(self, request: AnyRequest) -> Response[Any]:
        """Switch a road off."""
        note = (await read_form(request)).get("note", "").strip()[:500]
        await self._control.disable(_name(request), note, actor_of(request))
        return Redirect(f"/relays/{_name(request)}?done=disabled", status_code=303)

    async def enable(self, request: AnyRequest) -> Response[Any]:
        """Switch a road on."""
        await self._control.enable(_name(request), actor_of(request))
        return Redirect(f"/relays/{_name(request)}?done=enabled", status_code=303)

    async def test(self, request: AnyRequest) -> Response[Any]:
        """Ask a relay whether it would take mail; nothing is sent."""
        if self._deps.probe_relay is None or _name(request) not in self._deps.settings.relays:
            raise Refused("not_found", "there is no such relay to ask")
        return await self._one(request, await self._deps.probe_relay(_name(request)))

    async def _one(self, request: AnyRequest, probe: Probe | None = None) -> Response[Any]:
        deps, name = self._deps, _name(request)
        view = await self._control.view(name)
        facts: RelayFacts | None = None
        report = None
        if name in deps.settings.relays:
            report = await relay_reports.read(deps.engine, deps.clock, deps.settings, name)
            facts = next(one for one in await list_relays(deps.engine, deps.settings, deps.clock) if one.name == name)
        return self._shell.page(
            request, "relay.html", view=view, facts=facts, report=report, probe=probe, states=_STATES, looks=_LOOKS, titles=_TITLES,
            can_ask=deps.probe_relay is not None and facts is not None, done=_DONE.get(request.query_params.get("done", ""), ""),
        )  # fmt: skip


def _name(request: AnyRequest) -> str:
    return str(request.path_params["name"])[:200]


_ONE = "/relays/{name:str}"
PAGES = (
    Page(method="GET", path="/relays", run=RelayPages.listing, scope=Scope.OPERATOR),
    Page(method="GET", path=_ONE, run=RelayPages.show, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/disable", run=RelayPages.disable, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/enable", run=RelayPages.enable, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/test", run=RelayPages.test, scope=Scope.OPERATOR),
)
