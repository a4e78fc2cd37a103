"""A tenant's API keys: list, make (the secret is shown once), revoke."""

from typing import TYPE_CHECKING, Any

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.desk import Desk
from gatepost.dashboard.forms import faults_of
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import KeyMode, Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.mime.checks import text_faults
from gatepost.tenants import grants

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_NAME_LENGTH = 100


class KeyPages:
    """The pages about API keys."""

    def __init__(self, deps: "DashboardDeps", shell: Shell, desk: Desk) -> None:
        self._deps = deps
        self._shell = shell
        self._desk = desk

    async def show(self, request: AnyRequest) -> Response[Any]:
        """List keys."""
        return await self._keys(request)

    async def make(self, request: AnyRequest) -> Response[Any]:
        """Make a key, and show its secret this once."""
        form, viewer = await request.form(), viewer_of(request)
        name, mode = str(form.get("name", "")).strip(), KeyMode.TEST if form.get("mode") == KeyMode.TEST.value else KeyMode.LIVE
        asked = [str(one) for one in form.getall("scopes", [])][: len(Scope)]
        try:
            if faults := text_faults("/name", name, _NAME_LENGTH) if name else [Fault("/name", "required", "say what the key is for")]:
                raise invalid(*faults)
            restrictions = grants.read(grants.Asked(scopes=asked), self._deps.clock.now())
            made = await self._desk.keys.create(
                viewer.caller.tenant_id, name, mode, restrictions, by=viewer.caller.actor, maker=viewer.principal
            )
        except Refused as refusal:
            return await self._keys(request, refusal, name)
        return self._shell.page(request, "key.html", key=made.credential, secret=made.secret)

    async def revoke(self, request: AnyRequest) -> Response[Any]:
        """Revoke a key."""
        caller = viewer_of(request).caller
        await self._desk.keys.revoke(caller.tenant_id, str(request.path_params["key_id"]), by=caller.actor)
        return Redirect("/keys?done=revoked", status_code=303)

    async def _keys(self, request: AnyRequest, refusal: Refused | None = None, name: str = "") -> Response[Any]:
        principal = viewer_of(request).principal
        if refusal is not None and refusal.code not in {"validation_failed", "permission_denied"}:
            raise refusal
        keys = list(reversed(await self._desk.keys.list(principal.tenant_id)))
        return self._shell.page(
            request, "keys.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            values={"name": name[:_NAME_LENGTH]}, keys=keys, uses=await self._desk.keys.uses(keys),
            scopes=[scope for scope in Scope if scope in principal.scopes and scope is not Scope.OPERATOR],
            done=request.query_params.get("done") == "revoked",
        )  # fmt: skip


PAGES = (
    Page(method="GET", path="/keys", run=KeyPages.show, scope=Scope.KEYS_READ),
    Page(method="POST", path="/keys", run=KeyPages.make, scope=Scope.KEYS_WRITE),
    Page(method="POST", path="/keys/{key_id:str}/revoke", run=KeyPages.revoke, scope=Scope.KEYS_WRITE),
)
