"""
A tenant's streams on pages: lane, time to live, retries, route, hours, tracking.

Arrives: forms. Leaves: calls of `tenants.streams`, which holds the rules; pages.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.forms import faults_of
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Lane
from gatepost.domain.stream import DAYS, DEFAULTS, Stream
from gatepost.tenants.streams import LANES, Streams, as_dict

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_LANES: Final = {
    "codes": "first of all: what somebody waits for in front of a screen",
    "transactional": "soon: receipts, notices",
    "bulk": "when there is room: newsletters",
}
_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_TRACKS: Final = {"opens": "opens", "clicks": "clicks in the HTML", "text": "clicks in the plain text, too"}
_DONE: Final = {
    "made": "The stream is made.",
    "changed": "The stream is changed. It counts for mail that is accepted from now on.",
    "deleted": "The stream is deleted.",
    "reset": "The stream is as it was at first.",
}
_PLACES: Final = {"name", "lane", "ttl_s", "retry", "route", "window", "tracking", "unsubscribe"}


class StreamPages:
    """The pages about streams."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._streams = Streams(deps.engine, deps.clock, deps.settings, deps.directory)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List streams."""
        return await self._list(request)

    async def make(self, request: AnyRequest) -> Response[Any]:
        """Make a stream."""
        form, caller = await _values(request), viewer_of(request).caller
        try:
            values = _read(form)
            await self._streams.create(caller.tenant_id, form["name"].strip(), values, by=caller.actor, is_operator=_is_operator(request))
        except Refused as refusal:
            return await self._list(request, refusal, form)
        return Redirect("/streams?done=made", status_code=303)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one stream, and its form."""
        return await self._one(request)

    async def change(self, request: AnyRequest) -> Response[Any]:
        """Change one."""
        form, caller, name = await _values(request), viewer_of(request).caller, _name(request)
        try:
            await self._streams.change(caller.tenant_id, name, _read(form), by=caller.actor, is_operator=_is_operator(request))
        except Refused as refusal:
            return await self._one(request, refusal, form)
        return Redirect("/streams?done=changed", status_code=303)

    async def delete(self, request: AnyRequest) -> Response[Any]:
        """Delete one; a default one is as it was at first again."""
        caller, name = viewer_of(request).caller, _name(request)
        try:
            await self._streams.delete(caller.tenant_id, name, by=caller.actor)
        except Refused as refusal:
            return await self._one(request, refusal)
        return Redirect(f"/streams?done={'reset' if name in DEFAULTS else 'deleted'}", status_code=303)

    async def _list(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        found = await self._streams.list(viewer_of(request).caller.tenant_id)
        return self._shell.page(
            request, "streams.html", status=_status(refusal), faults=_faults(refusal), values=values or {"lane": "transactional"},
            streams=[as_dict(one) for one in found], done=_DONE.get(request.query_params.get("done", ""), ""), **self._choices(),
        )  # fmt: skip

    async def _one(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        stream = await self._streams.get(viewer_of(request).caller.tenant_id, _name(request))
        return self._shell.page(
            request, "stream.html", status=_status(refusal), faults=_faults(refusal), values=values or _shown(stream), stream=stream,
            is_default=stream.name in DEFAULTS, is_first=stream == DEFAULTS.get(stream.name), is_codes=stream.lane is Lane.CODES,
            **self._choices(),
        )  # fmt: skip

    def _choices(self) -> dict[str, Any]:
        return {"lanes": _LANES, "units": _UNITS, "days": DAYS, "tracks": _TRACKS, "retries": sorted(self._deps.settings.retry.classes)}


async def _values(request: AnyRequest) -> dict[str, Any]:
    form = await request.form()
    names = ("name", "lane", "ttl", "unit", "retry", "route", "opens_at", "closes_at", "zone", "unsubscribe")
    texts = {name: str(form.get(name, ""))[:300] for name in names}
    return texts | {name: [str(one)[:10] for one in form.getall(name, [])][:10] for name in ("days", "tracking")}


def _read(form: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn the form into what the streams take; what is left empty is what the lane gives.

    Raises:
        Refused: validation_failed: the time to live is no number.
    """
    ttl = form["ttl"].strip()
    if ttl and not (ttl.isascii() and ttl.isdigit() and len(ttl) < 8 and form["unit"] in _UNITS):
        raise invalid(Fault("/ttl_s", "invalid_value", "a whole number"))
    window = None
    if form["opens_at"].strip() or form["closes_at"].strip():
        window = {"from": form["opens_at"].strip(), "until": form["closes_at"].strip(), "zone": form["zone"].strip() or "UTC"}
        window |= {"days": form["days"]} if form["days"] else {}
    return {
        "lane": form["lane"], "ttl_s": int(ttl) * _UNITS[form["unit"]] if ttl else None, "retry": form["retry"] or None,
        "route": form["route"].strip() or None, "window": window, "tracking": {name: name in form["tracking"] for name in _TRACKS},
        "unsubscribe": form["unsubscribe"] == "yes",
    }  # fmt: skip


def _shown(stream: Stream) -> dict[str, Any]:
    told = as_dict(stream)
    ttl, unit = told["ttl_s"], "s"
    for name, length in _UNITS.items():
        if ttl and told["ttl_s"] % length == 0:
            ttl, unit = told["ttl_s"] // length, name
    window = told["window"] or {"from": "", "until": "", "zone": "UTC", "days": []}
    return {
        "lane": told["lane"], "ttl": "" if ttl is None else str(ttl), "unit": unit, "retry": told["retry"] or "",
        "route": told["route"] or "", "opens_at": window["from"], "closes_at": window["until"], "zone": window["zone"],
        "days": window["days"], "tracking": [name for name, is_on in told["tracking"].items() if is_on],
        "unsubscribe": "yes" if told["unsubscribe"] else "",
    }  # fmt: skip


def _is_operator(request: AnyRequest) -> bool:
    return viewer_of(request).may(Scope.OPERATOR)


def _status(refusal: Refused | None) -> int:
    if refusal is not None and refusal.code not in {"validation_failed", "conflict"}:
        raise refusal
    return refusal.kind.status if refusal else 200


def _faults(refusal: Refused | None) -> dict[str, str]:
    found = faults_of(refusal) if refusal else {}
    return {place if place in _PLACES else "": text for place, text in found.items()}


def _name(request: AnyRequest) -> str:
    return str(request.path_params["name"])[:100]


PAGES = (
    Page(method="GET", path="/streams", run=StreamPages.listing, scope=Scope.POLICIES_READ),
    Page(method="POST", path="/streams", run=StreamPages.make, scope=Scope.POLICIES_WRITE),
    Page(method="GET", path="/streams/{name:str}", run=StreamPages.show, scope=Scope.POLICIES_READ),
    Page(method="POST", path="/streams/{name:str}", run=StreamPages.change, scope=Scope.POLICIES_WRITE),
    Page(method="POST", path="/streams/{name:str}/delete", run=StreamPages.delete, scope=Scope.POLICIES_WRITE),
)
assert set(_LANES) == set(LANES)
