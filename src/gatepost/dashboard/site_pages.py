"""
Recipients' mail systems on pages, for operators: limits, what is in use, back-off, suspension; orders about them.

Arrives: forms. Leaves: calls of `tenants.site_orders`, which holds the rules; pages.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from litestar import Response
from litestar.response import Redirect

from gatepost.clock import HOUR, MINUTE
from gatepost.dashboard.access import AnyRequest, actor_of
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.explain.queued import SiteView, site_views
from gatepost.settings import SiteLimits
from gatepost.store.shaping import FOREVER
from gatepost.tenants.site_orders import SiteOrders

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_SPANS: Final = {"": "until it is resumed", "900000": "15 minutes", "3600000": "one hour", "21600000": "six hours", "86400000": "one day"}
_LIMITS: Final = {
    "connections": "Connections at once",
    "messages_per_second": "Messages a second",
    "messages_per_connection": "Messages in a connection",
    "burst": "Messages at once after a pause",
    "recipients_per_transaction": "Recipients in a transaction",
}
_MOST: Final = {
    "connections": 1_000, "messages_per_second": 100_000, "messages_per_connection": 1_000_000, "burst": 100_000,
    "recipients_per_transaction": 10_000,
}  # fmt: skip
_DONE: Final = {
    "suspended": "Nothing goes there. Mail for it waits, or takes another road.",
    "resumed": "Mail goes there again, slowly at first.",
    "limited": "The limits count within two seconds.",
}
_MOST_SHOWN: Final = 500


class SitePages:
    """The pages about sites."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._orders = SiteOrders(deps.engine, deps.settings, deps.clock)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List the sites that have mail, or that anything is known or ordered of."""
        now = self._deps.clock.now()
        standings = await self._orders.standings()
        views = {view.site: view for view in await self._deps.engine.read(lambda conn: site_views(conn, None, now))}
        names = sorted(views, key=lambda name: -(views[name].due + views[name].later)) + [one for one in standings if one not in views]
        names = [name for name in names if name != "*"][:_MOST_SHOWN]
        standings |= await self._orders.standings([name for name in names if name not in standings])
        rows = [(standings[name], views.get(name) or SiteView(site=name)) for name in names]
        return self._shell.page(
            request, "sites.html", rows=rows, all_rules=[rule for rule in standings.get("*", _Nothing).rules if rule.site == "*"],
            pools=self._orders.pools(), forever=FOREVER,
        )  # fmt: skip

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one site."""
        return await self._one(request)

    async def suspend(self, request: AnyRequest) -> Response[Any]:
        """Send nothing there for a while."""
        form = await read_form(request)
        span = form.get("for", "")
        until = self._deps.clock.now() + int(span) if span and span in _SPANS else None
        await self._orders.suspend(_name(request), form.get("source", ""), until, form.get("note", "").strip()[:200], by=actor_of(request))
        return _back(request, "suspended")

    async def resume(self, request: AnyRequest) -> Response[Any]:
        """Let mail go there again, whoever stopped it."""
        form = await read_form(request)
        await self._orders.resume(_name(request), form.get("source", ""), by=actor_of(request))
        return _back(request, "resumed")

    async def limit(self, request: AnyRequest) -> Response[Any]:
        """Set what sources may do there; what is left empty is as the settings have it."""
        form = await read_form(request)
        try:
            limits = self._limits(form, await self._ordered(_name(request)))
            await self._orders.limit(_name(request), "", limits, by=actor_of(request))
        except Refused as refusal:
            return await self._one(request, refusal, form)
        return _back(request, "limited")

    async def _ordered(self, site: str) -> dict[str, object]:
        """Return what was ordered for every source there."""
        found = (await self._orders.standings([site]))[site]
        return next((rule.limits for rule in found.rules if rule.site == site and not rule.source), {})

    def _limits(self, form: Mapping[str, str], before: Mapping[str, object]) -> SiteLimits:
        values: dict[str, Any] = {name: value for name, value in before.items() if name not in _LIMITS}  # a warm-up plan stays
        faults = []
        for name in _LIMITS:
            text = form.get(name, "").strip()
            if not text:
                continue
            try:
                number: float = float(text) if name == "messages_per_second" else int(text)
            except ValueError:
                number = -1
            if not (0 if name == "messages_per_second" else 1) <= number <= _MOST[name]:
                faults.append(Fault(f"/{name}", "out_of_range", f"a number up to {_MOST[name]:,}, or nothing"))
            values[name] = number
        if faults:
            raise invalid(*faults)
        return SiteLimits(**values)

    async def _one(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        if refusal is not None and refusal.code != "validation_failed":
            raise refusal
        now, name = self._deps.clock.now(), _name(request)
        standing = (await self._orders.standings(["*"]))["*"] if name == "*" else await self._orders.standing(name)
        views = await self._deps.engine.read(lambda conn: site_views(conn, None, now))
        view = next((one for one in views if one.site == standing.site), SiteView(site=standing.site, paused_at=standing.paused_at))
        ordered = await self._ordered(name)
        flows = {flow.source: flow for flow in standing.flows}
        is_stopped = bool(standing.suspended_until(now) or standing.paused_at or any(one.suspended_until > now for one in standing.flows))
        return self._shell.page(
            request, "site.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            values=values or {key: str(value) for key, value in ordered.items() if key in _LIMITS}, standing=standing, view=view,
            flows=flows, is_stopped=is_stopped, forever=FOREVER, spans=_SPANS, limits=_LIMITS, url=_url(request),
            orders=[rule for rule in standing.rules if rule.limits or rule.suspended_until is not None], fresh_since=now - MINUTE,
            done=_DONE.get(request.query_params.get("done", ""), ""), hour=HOUR,
        )  # fmt: skip


class _Nothing:
    rules: tuple[Any, ...] = ()


def _name(request: AnyRequest) -> str:
    return str(request.path_params["site"])[:300]


def _url(request: AnyRequest) -> str:
    return f"/sites/{quote(_name(request), safe='')}"


def _back(request: AnyRequest, done: str) -> Redirect:
    return Redirect(f"{_url(request)}?done={done}", status_code=303)


_ONE = "/sites/{site:str}"
PAGES = (
    Page(method="GET", path="/sites", run=SitePages.listing, scope=Scope.OPERATOR),
    Page(method="GET", path=_ONE, run=SitePages.show, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/suspend", run=SitePages.suspend, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/resume", run=SitePages.resume, scope=Scope.OPERATOR),
    Page(method="POST", path=f"{_ONE}/limits", run=SitePages.limit, scope=Scope.OPERATOR),
)
