"""
A tenant's webhooks on pages: list, make (the secret is shown once), try, switch, change, rotate; what was sent, and sending it again.

Arrives: forms. Leaves: calls of `tenants.webhooks`, which hold the rules; pages.
Not here: what a webhook may be (tenants.webhooks), delivering (webhooks).
"""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.clock import HOUR, Instant
from gatepost.dashboard.access import AnyRequest, actor_of, viewer_of
from gatepost.dashboard.forms import faults_of
from gatepost.dashboard.lists import cut, read_cursor
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import EventType
from gatepost.domain.webhook import EVERY, MOST_IN_BATCH, HookStatus
from gatepost.tenants.streams import Streams
from gatepost.tenants.webhooks import Range, View, WebhookRegister

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_FAMILIES: Final = sorted({f"{kind.value.partition('.')[0]}.*" for kind in EventType})
_TYPES: Final = [kind.value for kind in EventType if kind is not EventType.WEBHOOK_TEST]
_MOST_COUNTED: Final = 10_000
_LOOKS: Final = {
    HookStatus.WAITING.value: "queued",
    HookStatus.DELIVERED.value: "delivered",
    HookStatus.FAILED.value: "bounced",
}
_OVERLAPS: Final = {"86400": "one day", "3600": "one hour", "604800": "seven days", "0": "not at all: the old secret may be known"}
_DONE: Final = {
    "tested": "A test is on its way. How it went stands in the log below.",
    "changed": "The webhook is changed.",
    "paused": "The webhook is paused. Its events wait, and go out in order once it is switched on.",
    "enabled": "The webhook is on, and goes on where it stopped.",
    "replayed": "It is sent again.",
    "removed": "The webhook is removed, and its log with it.",
}
_SHOWN: Final = {"validation_failed", "conflict", "permission_denied"}
_PLACES: Final = {"url", "events", "streams", "headers", "batch_size", "description", "since", "until"}


class WebhookPages:
    """The pages about webhooks."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._register = WebhookRegister(deps.engine, deps.clock, deps.settings)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List webhooks."""
        return await self._list(request)

    async def make(self, request: AnyRequest) -> Response[Any]:
        """Make a webhook, and show its secret this once."""
        values, caller = await _values(request), viewer_of(request).caller
        try:
            made = await self._register.create(caller.tenant_id, _read(values), by=caller.actor, maker=caller.principal)
        except Refused as refusal:
            return await self._list(request, refusal, values)
        return self._shell.page(request, "webhook_secret.html", webhook=made, secret=made.secrets[0].text, until=None)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one webhook with what was sent to it."""
        return await self._one(request)

    async def change(self, request: AnyRequest) -> Response[Any]:
        """Change one; headers that are not given stay, since they are never shown."""
        values, caller = await _values(request), viewer_of(request).caller
        try:
            given = _read(values)
            if not values["headers"].strip() and values.get("no_headers") != "yes":
                given.pop("headers")
            await self._register.change(caller.tenant_id, _id(request), given, by=caller.actor, maker=caller.principal)
        except Refused as refusal:
            return await self._one(request, refusal, values)
        return _back(request, "changed")

    async def switch(self, request: AnyRequest) -> Response[Any]:
        """Pause it, or let it go on."""
        form, caller = await request.form(), viewer_of(request).caller
        is_on = form.get("on") == "yes"
        await self._register.change(caller.tenant_id, _id(request), {"enabled": is_on}, by=caller.actor, maker=caller.principal)
        return _back(request, "enabled" if is_on else "paused")

    async def test(self, request: AnyRequest) -> Response[Any]:
        """Send it a test."""
        await self._register.test(viewer_of(request).caller.tenant_id, _id(request), by=actor_of(request))
        return _back(request, "tested")

    async def rotate(self, request: AnyRequest) -> Response[Any]:
        """Give it a new secret, and show it this once."""
        form = await request.form()
        overlap = str(form.get("overlap", "86400"))
        overlap_s = int(overlap) if overlap in _OVERLAPS else 86_400
        made = await self._register.rotate(viewer_of(request).caller.tenant_id, _id(request), overlap_s, by=actor_of(request))
        until = made.secrets[1].until if len(made.secrets) > 1 else None
        return self._shell.page(request, "webhook_secret.html", webhook=made, secret=made.secrets[0].text, until=until)

    async def remove(self, request: AnyRequest) -> Response[Any]:
        """Remove it with its log."""
        await self._register.delete(viewer_of(request).caller.tenant_id, _id(request), by=actor_of(request))
        return Redirect("/webhooks?done=removed", status_code=303)

    async def replay(self, request: AnyRequest) -> Response[Any]:
        """Send all that failed again, or a range of time."""
        form = {name: str(value) for name, value in (await request.form()).items() if isinstance(value, str)}
        try:
            wanted = _range(form)
            count = await self._register.replay(viewer_of(request).caller.tenant_id, _id(request), wanted, by=actor_of(request))
        except Refused as refusal:
            return await self._one(request, refusal, form)
        return Redirect(f"/webhooks/{_id(request)}?count={count}", status_code=303)

    async def replay_one(self, request: AnyRequest) -> Response[Any]:
        """Send one event again."""
        event_id = str(request.path_params["event_id"])[:100]
        await self._register.replay_one(viewer_of(request).caller.tenant_id, _id(request), event_id, by=actor_of(request))
        return _back(request, "replayed")

    async def _list(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        tenant_id = viewer_of(request).caller.tenant_id
        return self._shell.page(
            request, "webhooks.html", status=_status(refusal), faults=_faults(refusal), values=values or {},
            webhooks=await self._register.every(tenant_id), done=_DONE.get(request.query_params.get("done", ""), ""),
            **await self._choices(tenant_id),
        )  # fmt: skip

    async def _one(self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, Any] | None = None) -> Response[Any]:
        tenant_id, query = viewer_of(request).caller.tenant_id, request.query_params
        view, cursor = await self._register.get(tenant_id, _id(request)), read_cursor(request, "evt")
        chosen = HookStatus(query["status"]) if query.get("status") in set(HookStatus) else None
        rows = await self._register.deliveries(
            tenant_id, view.id, cursor.size + 1, after=cursor.after, before=cursor.before, status=chosen
        )  # fmt: skip
        count = query.get("count", "")
        return self._shell.page(
            request, "webhook.html", status=_status(refusal), faults=_faults(refusal), values={**_shown(view), **(values or {})}, view=view,
            page=cut(rows, cursor), chosen=chosen, statuses=list(HookStatus), looks=_LOOKS, overlaps=_OVERLAPS,
            failed=await self._register.failed(tenant_id, view.id, _MOST_COUNTED), most_counted=_MOST_COUNTED,
            done=_DONE.get(query.get("done", ""), ""), count=int(count) if count.isascii() and count.isdigit() and len(count) < 9 else None,
            never=self._deps.clock.now() + 10 * 365 * 24 * HOUR, **await self._choices(tenant_id),
        )  # fmt: skip

    async def _choices(self, tenant_id: str) -> dict[str, Any]:
        streams = Streams(self._deps.engine, self._deps.clock, self._deps.settings)
        names = [one.name for one in await streams.list(tenant_id)]
        return {"families": _FAMILIES, "types": _TYPES, "streams": names, "most_in_batch": MOST_IN_BATCH}


async def _values(request: AnyRequest) -> dict[str, Any]:
    """Return the form as it was filled in, to be shown again where it is not right."""
    form = await request.form()
    texts = {name: str(form.get(name, ""))[:12_000] for name in ("url", "description", "batch_size", "headers", "no_headers")}
    return texts | {name: [str(one)[:100] for one in form.getall(name, [])][:100] for name in ("events", "streams")}


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn the form into what the register takes.

    Raises:
        Refused: validation_failed: a number is none, a header has no colon.
    """
    size = values["batch_size"].strip() or "1"
    if not (size.isascii() and size.isdigit() and len(size) < 6):
        raise invalid(Fault("/batch_size", "out_of_range", f"a number from 1 to {MOST_IN_BATCH}"))
    headers = {}
    for line in filter(None, map(str.strip, values["headers"].splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise invalid(Fault("/headers", "invalid_header", "one header a line, as in Authorization: Bearer …"))
        headers[name.strip()] = value.strip()
    events = [EVERY] if EVERY in values["events"] else values["events"]
    return {
        "url": values["url"].strip(), "description": values["description"].strip(), "events": events, "streams": values["streams"],
        "batch_size": int(size), "headers": headers,
    }  # fmt: skip


def _shown(view: View) -> dict[str, Any]:
    webhook = view.webhook
    return {
        "url": webhook.url, "description": webhook.description, "events": list(webhook.events), "streams": list(webhook.streams),
        "batch_size": str(webhook.batch_size), "headers": "", "no_headers": "",
    }  # fmt: skip


def _range(form: Mapping[str, str]) -> Range:
    if form.get("what") == "failed":
        return Range(only_failed=True)
    since, until = _moment(form, "since"), _moment(form, "until")
    if since is None and until is None:
        raise invalid(Fault("/since", "required", "say from when, or until when"))
    return Range(since=since, until=until)


def _moment(form: Mapping[str, str], name: str) -> Instant | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise invalid(Fault(f"/{name}", "invalid_time", "this is no time such as 2026-11-24T02:00")) from None
    return int((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _status(refusal: Refused | None) -> int:
    if refusal is not None and refusal.code not in _SHOWN:
        raise refusal
    return refusal.kind.status if refusal else 200


def _faults(refusal: Refused | None) -> dict[str, str]:
    """Say beside each field what is wrong with it: the place of one event is that of all of them."""
    found: dict[str, str] = {}
    for place, text in (faults_of(refusal) if refusal else {}).items():
        top, slash, rest = place.partition("/")
        told = f"{rest}: {text}" if slash and top == "headers" else text
        found.setdefault(top if top in _PLACES else "", told)
    return found


def _id(request: AnyRequest) -> str:
    return str(request.path_params["webhook_id"])[:100]


def _back(request: AnyRequest, done: str) -> Redirect:
    return Redirect(f"/webhooks/{_id(request)}?done={done}", status_code=303)


_ONE = "/webhooks/{webhook_id:str}"
PAGES = (
    Page(method="GET", path="/webhooks", run=WebhookPages.listing, scope=Scope.WEBHOOKS_READ),
    Page(method="POST", path="/webhooks", run=WebhookPages.make, scope=Scope.WEBHOOKS_WRITE),
    Page(method="GET", path=_ONE, run=WebhookPages.show, scope=Scope.WEBHOOKS_READ),
    Page(method="POST", path=_ONE, run=WebhookPages.change, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/switch", run=WebhookPages.switch, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/test", run=WebhookPages.test, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/rotate", run=WebhookPages.rotate, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/remove", run=WebhookPages.remove, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/replay", run=WebhookPages.replay, scope=Scope.WEBHOOKS_WRITE),
    Page(method="POST", path=f"{_ONE}/deliveries/{{event_id:str}}/replay", run=WebhookPages.replay_one, scope=Scope.WEBHOOKS_WRITE),
)
