"""The people of a tenant: who they are, who is invited, what each may do."""

from typing import Any

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.desk import Desk
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Role, Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Purpose, scopes_of

_DONE = {
    "role": "The role is changed. Their sessions have ended.",
    "removed": "They do not belong to this tenant any more.",
    "withdrawn": "The invitation is withdrawn.",
}
_ROLES = {
    Role.OWNER: "everything, owners included",
    Role.ADMIN: "everything but owners",
    Role.DEVELOPER: "sends, reads and retries mail",
    Role.VIEWER: "reads",
}


class PeoplePages:
    """The pages about a tenant's people."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        self._shell = shell
        self._desk = desk

    async def show(self, request: AnyRequest) -> Response[Any]:
        """List people and invitations."""
        return await self._people(request)

    async def invite(self, request: AnyRequest) -> Response[Any]:
        """Make an invitation, and show its link this once."""
        form, caller = await read_form(request), viewer_of(request).caller
        try:
            made = await self._desk.people.invite(caller, caller.tenant_id, form.get("email", ""), _role(form.get("role", "")))
        except Refused as refusal:
            return await self._people(request, refusal, {"email": form.get("email", "")[:254], "role": form.get("role", "")})
        link = f"{self._desk.access.address(request)}/{Purpose.INVITATION.value}/{made.token}"
        return self._shell.page(
            request, "link.html", address=link, email=made.link.email, expires_at=made.link.expires_at, purpose="invitation"
        )

    async def change_role(self, request: AnyRequest) -> Response[Any]:
        """Give somebody another role."""
        form, viewer = await read_form(request), viewer_of(request)
        session_id = viewer.signed_in.session.id if viewer.signed_in is not None else None
        try:
            await self._desk.people.change_role(
                viewer.caller, viewer.caller.tenant_id, _person_id(request), _role(form.get("role", "")), session_id=session_id
            )
        except Refused as refusal:
            return await self._people(request, refusal)
        return Redirect("/people?done=role", status_code=303)

    async def remove(self, request: AnyRequest) -> Response[Any]:
        """Take somebody out of the tenant."""
        viewer = viewer_of(request)
        session_id = viewer.signed_in.session.id if viewer.signed_in is not None else None
        try:
            await self._desk.people.remove(viewer.caller, viewer.caller.tenant_id, _person_id(request), session_id=session_id)
        except Refused as refusal:
            return await self._people(request, refusal)
        is_oneself = _person_id(request) == viewer.subject
        return Redirect("/account" if is_oneself else "/people?done=removed", status_code=303)

    async def withdraw(self, request: AnyRequest) -> Response[Any]:
        """Make an invitation worthless."""
        form, caller = await read_form(request), viewer_of(request).caller
        await self._desk.people.withdraw(caller, caller.tenant_id, form.get("invitation", ""))
        return Redirect("/people?done=withdrawn", status_code=303)

    async def reset(self, request: AnyRequest) -> Response[Any]:
        """Make a link with which somebody chooses a new password, and show it this once."""
        viewer = viewer_of(request)
        members = await self._desk.people.members(viewer.caller.tenant_id)
        person = next((one.person for one in members if one.person.id == _person_id(request)), None)
        if person is None:
            raise Refused("not_found", "there is no such person in this tenant")
        _, token = await self._desk.links.make_reset(viewer.caller, person.email)
        link = f"{self._desk.access.address(request)}/{Purpose.RESET.value}/{token}"
        return self._shell.page(request, "link.html", address=link, email=person.email, expires_at=None, purpose="reset")

    async def _people(self, request: AnyRequest, refusal: Refused | None = None, values: dict[str, str] | None = None) -> Response[Any]:
        principal = viewer_of(request).principal
        if refusal is not None and refusal.code not in {"validation_failed", "conflict", "permission_denied"}:
            raise refusal
        given = [role for role in Role if scopes_of(role, is_operator=False) <= principal.scopes]
        return self._shell.page(
            request, "people.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            values=values or {}, members=await self._desk.people.members(principal.tenant_id),
            invitations=await self._desk.people.invitations(principal.tenant_id), roles=_ROLES, given=given,
            done=_DONE.get(request.query_params.get("done", ""), ""),
        )  # fmt: skip


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise invalid(Fault("/role", "unknown_role", f"choose one of {', '.join(Role)}")) from None


def _person_id(request: AnyRequest) -> str:
    return str(request.path_params["person_id"])[:100]


_ONE = "/people/{person_id:str}"
PAGES = (
    Page(method="GET", path="/people", run=PeoplePages.show, scope=Scope.PEOPLE_READ),
    Page(method="POST", path="/people", run=PeoplePages.invite, scope=Scope.PEOPLE_WRITE, is_recent=True),
    Page(method="POST", path="/people/withdraw", run=PeoplePages.withdraw, scope=Scope.PEOPLE_WRITE),
    Page(method="POST", path=f"{_ONE}/role", run=PeoplePages.change_role, scope=Scope.PEOPLE_WRITE, is_recent=True),
    Page(method="POST", path=f"{_ONE}/remove", run=PeoplePages.remove, scope=Scope.PEOPLE_WRITE, is_recent=True),
    Page(method="POST", path=f"{_ONE}/reset", run=PeoplePages.reset, scope=Scope.OPERATOR, is_recent=True),
)
