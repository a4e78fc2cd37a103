"""
Coming in: password, second factor, passkey, single sign-on, and the links that are used once.

Not here: whether somebody may come in (tenants.sign_in and its neighbours), what they see then.
"""

import secrets
from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.datastructures import Cookie
from litestar.response import Redirect

from gatepost.clock import HOUR
from gatepost.dashboard.access import KEY_SESSION_LIFETIME, AnyRequest, signed_in_of, viewer_of
from gatepost.dashboard.cookies import DEVICE, PROVIDER, SESSION, VISIT, make_cookie, read_cookie, take_back
from gatepost.dashboard.desk import Desk
from gatepost.dashboard.forms import faults_of, own_path, read_form
from gatepost.dashboard.page import Needs, Page, open_page, own_page
from gatepost.dashboard.shell import Shell
from gatepost.domain.errors import Refused
from gatepost.domain.person import OneTimeLink, Purpose, SignedIn
from gatepost.tenants.one_time_links import Joining
from gatepost.tenants.sessions import Entered
from gatepost.tenants.sign_in_oidc import FLOW_MS

PLACES = {
    name: f"/{name}"
    for name in (
        "account", "people", "keys", "domains", "q", "confirm", "suppressions", "webhooks", "streams", "routes", "relays", "sites",
        "returned",
    )
}  # fmt: skip
"""Where to go back to after a form could not be taken, by the first part of its path."""
_SHOWN = {"validation_failed", "authentication_failed", "rate_limited", "overloaded", "conflict"}
"""Refusals that are told beside the form; others are a page of their own."""


class EntryPages:
    """The pages of who is not in yet."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        self._shell = shell
        self._desk = desk

    async def login_form(self, request: AnyRequest) -> Response[Any]:
        """Ask who it is."""
        target = own_path(request.query_params.get("next", "/"))
        if await self._desk.access.has_people() and await self._desk.access.viewer(request) is not None:
            return Redirect(target, status_code=303)
        return await self._login(request, target)

    async def login(self, request: AnyRequest) -> Response[Any]:
        """Take a password; or, while nobody has been set up, an admin key."""
        form, access = await read_form(request), self._desk.access
        target = own_path(form.get("next", "/"))
        if not await access.has_people():
            return await self._login_with_key(request, form.get("key", "")[:200], target)
        try:
            entered = await self._desk.sign_in.with_password(form.get("email", ""), form.get("password", ""), await access.visit(request))
        except Refused as refusal:
            return await self._login(request, target, refusal, {"email": form.get("email", "")[:254]})
        if entered.needs_second_factor:
            return await self._enter(request, entered, "/login/second?" + urlencode({"next": target}))
        return await self._enter(request, entered, target)

    async def passkey(self, request: AnyRequest) -> Response[Any]:
        """Take a passkey in place of a password."""
        form, access = await read_form(request), self._desk.access
        target, site = own_path(form.get("next", "/")), access.passkey_site(request)
        binding = read_cookie(request, self._desk.settings, VISIT)
        if site is None or not binding:
            raise Refused("authentication_failed", "passkeys cannot be used at this address")
        try:
            entered = await self._desk.sign_in.with_passkey(
                site, form.get("ticket", ""), binding, form.get("credential", ""), await access.visit(request)
            )
        except Refused as refusal:
            return await self._login(request, target, refusal)
        return await self._enter(request, entered, target)

    async def second_form(self, request: AnyRequest) -> Response[Any]:
        """Ask for the second factor of who gave the password."""
        waiting = await self._desk.access.waiting(request)
        if waiting is None:
            return Redirect("/login", status_code=303)
        return await self._second(request, waiting, own_path(request.query_params.get("next", "/")))

    async def second(self, request: AnyRequest) -> Response[Any]:
        """Take a code, a recovery code, or a passkey."""
        form, access, sign_in = await read_form(request), self._desk.access, self._desk.sign_in
        waiting = await access.waiting(request)
        if waiting is None:
            return Redirect("/login", status_code=303)
        target, visit, site = own_path(form.get("next", "/")), await access.visit(request), access.passkey_site(request)
        try:
            if site is not None and form.get("credential"):
                entered = await sign_in.with_passkey(site, form.get("ticket", ""), waiting.session.id, form["credential"], visit)
            else:
                entered = await sign_in.with_code(waiting, form.get("code", "")[:100], visit)
        except Refused as refusal:
            return await self._second(request, waiting, target, refusal)
        return await self._enter(request, entered, target)

    async def provider(self, request: AnyRequest) -> Response[Any]:
        """Send the browser to the provider of single sign-on."""
        self._check_single_sign_on()
        target = own_path(request.query_params.get("next", "/"))
        url, ticket = await self._desk.single_sign_on.begin(self._return_address(request), target)
        cookie = make_cookie(request, self._desk.settings, PROVIDER, ticket, FLOW_MS)
        return Redirect(url, status_code=303, cookies=[cookie])

    async def provider_return(self, request: AnyRequest) -> Response[Any]:
        """Take who comes back from the provider."""
        self._check_single_sign_on()
        ticket, visit = read_cookie(request, self._desk.settings, PROVIDER), await self._desk.access.visit(request)
        query = dict(request.query_params)
        gone = take_back(request, self._desk.settings, PROVIDER)
        try:
            entered, target = await self._desk.single_sign_on.finish(query, ticket, self._return_address(request), visit)
        except Refused as refusal:
            response = await self._login(request, "/", refusal)
            response.cookies.append(gone)
            return response
        return await self._enter(request, entered, own_path(target), gone)

    async def logout(self, request: AnyRequest) -> Response[Any]:
        """End the session."""
        viewer = viewer_of(request)
        if viewer.signed_in is not None:
            await self._desk.sessions.end(viewer.caller, viewer.signed_in.session.id)
        return Redirect("/login", status_code=303, cookies=[take_back(request, self._desk.settings, SESSION)])

    async def confirm_form(self, request: AnyRequest) -> Response[Any]:
        """Ask for the password again, before something that matters."""
        return self._confirm(request, own_path(request.query_params.get("next", "/account")))

    async def confirm(self, request: AnyRequest) -> Response[Any]:
        """Take the password again."""
        form = await read_form(request)
        target = own_path(form.get("next", "/account"))
        try:
            visit = await self._desk.access.visit(request)
            await self._desk.sign_in.prove(signed_in_of(request), form.get("password", ""), visit)
        except Refused as refusal:
            return self._confirm(request, target, refusal)
        return Redirect(target, status_code=303)

    async def choose_tenant(self, request: AnyRequest) -> Response[Any]:
        """Look at another of one's tenants."""
        form = await read_form(request)
        await self._desk.sessions.choose_tenant(signed_in_of(request), form.get("tenant", ""))
        return Redirect("/", status_code=303)

    async def forgot(self, request: AnyRequest) -> Response[Any]:
        """Say how to get a new password."""
        return self._shell.page(request, "forgot.html")

    async def setup_form(self, request: AnyRequest) -> Response[Any]:
        """Show the form for the first person; looking does not use the link up."""
        await self._setup_link(request)
        return self._joining(request, "setup", None)

    async def setup(self, request: AnyRequest) -> Response[Any]:
        """Make the first person."""
        await self._setup_link(request)
        form = await read_form(request)
        joining = Joining(email=form.get("email", ""), name=form.get("name", ""), password=form.get("password", ""))
        try:
            entered = await self._desk.links.set_up(_token(request), joining, await self._desk.access.visit(request))
        except Refused as refusal:
            return self._joining(request, "setup", None, refusal, form)
        return await self._enter(request, entered, "/account")

    async def invitation_form(self, request: AnyRequest) -> Response[Any]:
        """Show an invitation; looking does not use it up."""
        link = await self._desk.links.find(_token(request), Purpose.INVITATION)
        if await self._desk.links.is_known(link):
            return await self._join_form(request, link)
        return self._joining(request, "invitation", link)

    async def invitation(self, request: AnyRequest) -> Response[Any]:
        """Accept an invitation: as somebody new, or with the account that one has."""
        link, form = await self._desk.links.find(_token(request), Purpose.INVITATION), await read_form(request)
        if await self._desk.links.is_known(link):
            return await self._join(request, form)
        joining = Joining(name=form.get("name", ""), password=form.get("password", ""))
        try:
            entered = await self._desk.links.accept(_token(request), joining, await self._desk.access.visit(request))
        except Refused as refusal:
            return self._joining(request, "invitation", link, refusal, form)
        return await self._enter(request, entered, "/")

    async def reset_form(self, request: AnyRequest) -> Response[Any]:
        """Show the form for a new password; looking does not use the link up."""
        return self._joining(request, "reset", await self._desk.links.find(_token(request), Purpose.RESET))

    async def reset(self, request: AnyRequest) -> Response[Any]:
        """Take a new password; then one signs in with it."""
        link, form = await self._desk.links.find(_token(request), Purpose.RESET), await read_form(request)
        try:
            await self._desk.links.reset(_token(request), form.get("password", ""), await self._desk.access.visit(request))
        except Refused as refusal:
            return self._joining(request, "reset", link, refusal, form)
        return Redirect("/login?done=reset", status_code=303)

    async def _login(
        self, request: AnyRequest, target: str, refusal: Refused | None = None, values: dict[str, str] | None = None
    ) -> Response[Any]:
        access, single_sign_on = self._desk.access, self._desk.single_sign_on
        has_people, site, options, ticket, cookies = await access.has_people(), access.passkey_site(request), "", "", []
        if has_people and site is not None:
            visit = read_cookie(request, self._desk.settings, VISIT) or secrets.token_urlsafe(24)
            cookies.append(make_cookie(request, self._desk.settings, VISIT, visit, HOUR))
            options, ticket = await self._desk.sign_in.ask_for_passkey(site, visit, None)
        return self._form(
            request, "login.html", refusal, cookies, next=target, values=values or {}, has_people=has_people, options=options,
            ticket=ticket, provider=self._desk.settings.oidc.name if single_sign_on.is_on else "",
            done=request.query_params.get("done", "") == "reset",
        )  # fmt: skip

    async def _login_with_key(self, request: AnyRequest, secret: str, target: str) -> Response[Any]:
        session = await self._desk.access.open_key_session(request, secret)
        if session is None:
            return await self._login(request, target, Refused("authentication_failed", "that is no valid admin key"))
        cookie = make_cookie(request, self._desk.settings, SESSION, session, KEY_SESSION_LIFETIME)
        return Redirect(target, status_code=303, cookies=[cookie])

    async def _second(self, request: AnyRequest, waiting: SignedIn, target: str, refusal: Refused | None = None) -> Response[Any]:
        site, options, ticket = self._desk.access.passkey_site(request), "", ""
        account = await self._desk.accounts.get(waiting.person)
        if site is not None and account.passkeys:
            options, ticket = await self._desk.sign_in.ask_for_passkey(site, waiting.session.id, waiting)
        return self._form(
            request, "second.html", refusal, next=target, options=options, ticket=ticket, has_totp=waiting.person.has_totp,
            has_passkeys=bool(account.passkeys),
        )  # fmt: skip

    def _confirm(self, request: AnyRequest, target: str, refusal: Refused | None = None) -> Response[Any]:
        has_password = signed_in_of(request).person.password_hash is not None
        return self._form(request, "confirm.html", refusal, next=target, has_password=has_password)

    async def _join_form(self, request: AnyRequest, link: OneTimeLink) -> Response[Any]:
        request.state.viewer = await self._desk.access.viewer(request)
        return self._shell.page(request, "join.html", invitation=link, back=request.url.path)

    async def _join(self, request: AnyRequest, form: dict[str, str]) -> Response[Any]:
        viewer = request.state.viewer = await self._desk.access.viewer(request)
        if viewer is None or viewer.signed_in is None:
            return Redirect("/login?" + urlencode({"next": request.url.path}), status_code=303)
        self._desk.access.check_click(request, viewer, form.get("token", ""))
        tenant_id = await self._desk.links.join(_token(request), viewer.caller)
        found = await self._desk.access.viewer(request)
        if found is not None and found.signed_in is not None:
            await self._desk.sessions.choose_tenant(found.signed_in, tenant_id)
        return Redirect("/", status_code=303)

    def _joining(
        self,
        request: AnyRequest,
        purpose: str,
        link: OneTimeLink | None,
        refusal: Refused | None = None,
        form: dict[str, str] | None = None,
    ) -> Response[Any]:
        values = {name: value[:254] for name, value in (form or {}).items() if name in {"email", "name"}}
        return self._form(request, "joining.html", refusal, purpose=purpose, invitation=link, values=values, action=request.url.path)

    async def _setup_link(self, request: AnyRequest) -> None:
        await self._desk.links.find(_token(request), Purpose.SETUP)
        if await self._desk.access.has_people():
            raise Refused("conflict", "the gateway has been set up: sign in, or ask for an invitation")

    def _form(
        self, request: AnyRequest, template: str, refusal: Refused | None, cookies: list[Cookie] | None = None, **values: Any
    ) -> Response[Any]:
        """Show a form, with what was wrong with it the last time."""
        if refusal is not None and refusal.code not in {*_SHOWN, "permission_denied"}:
            raise refusal
        status = 200 if refusal is None else refusal.kind.status
        faults = {} if refusal is None else faults_of(refusal)
        response = self._shell.page(request, template, status=status, **{"faults": faults, **values})
        if refusal is not None and refusal.retry_after_s is not None:
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        response.cookies.extend(cookies or [])
        return response

    async def _enter(self, request: AnyRequest, entered: Entered, target: str, *more: Cookie) -> Response[Any]:
        """Give the browser its session; once all factors were shown, remember the device, too."""
        settings, access = self._desk.settings, self._desk.access
        lifetime_ms = entered.session.expires_at - entered.session.created_at
        cookies = [make_cookie(request, settings, SESSION, entered.token, lifetime_ms), *more]
        if not entered.needs_second_factor:
            value, lifetime_ms = await access.device_for(await access.visit(request), entered.person.id)
            cookies.append(make_cookie(request, settings, DEVICE, value, lifetime_ms))
        return Redirect(target, status_code=303, cookies=cookies)

    def _check_single_sign_on(self) -> None:
        if not self._desk.single_sign_on.is_on:
            raise Refused("not_found", "single sign-on is not configured")

    def _return_address(self, request: AnyRequest) -> str:
        return f"{self._desk.access.address(request)}/login/provider/return"


def _token(request: AnyRequest) -> str:
    return str(request.path_params["secret"])[:100]


PAGES = (
    open_page("GET", "/login", EntryPages.login_form),
    open_page("POST", "/login", EntryPages.login),
    open_page("POST", "/login/passkey", EntryPages.passkey),
    open_page("GET", "/login/second", EntryPages.second_form),
    open_page("POST", "/login/second", EntryPages.second),
    open_page("GET", "/login/provider", EntryPages.provider),
    open_page("GET", "/login/provider/return", EntryPages.provider_return),
    open_page("GET", "/forgot", EntryPages.forgot),
    open_page("GET", "/setup/{secret:str}", EntryPages.setup_form),
    open_page("POST", "/setup/{secret:str}", EntryPages.setup),
    open_page("GET", "/invitation/{secret:str}", EntryPages.invitation_form),
    open_page("POST", "/invitation/{secret:str}", EntryPages.invitation),
    open_page("GET", "/reset/{secret:str}", EntryPages.reset_form),
    open_page("POST", "/reset/{secret:str}", EntryPages.reset),
    Page(method="POST", path="/logout", run=EntryPages.logout, needs=Needs.SESSION),
    own_page("GET", "/confirm", EntryPages.confirm_form),
    own_page("POST", "/confirm", EntryPages.confirm),
    own_page("POST", "/tenant", EntryPages.choose_tenant),
)
