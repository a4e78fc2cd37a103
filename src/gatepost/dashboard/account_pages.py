"""One's own account: name, password, second factors, sessions. Secrets are shown once, on the page that made them."""

from collections.abc import Awaitable
from typing import Any

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, signed_in_of, viewer_of
from gatepost.dashboard.desk import Desk
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.page import own_page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.team_report import ReportKind
from gatepost.tenants import second_factors
from gatepost.tenants.accounts import Changing

_DONE = {
    "name": "Your name is changed.",
    "password": "Your password is changed. Your other sessions have ended.",
    "totp": "The authenticator is not asked for any more. Your other sessions have ended.",
    "passkey": "The passkey is removed. Your other sessions have ended.",
    "added": "The passkey is added. Your other sessions have ended.",
    "session": "The session has ended.",
    "reports": "Your reports by mail are changed.",
    "sessions": "Your other sessions have ended.",
}
_ISSUER = "Gatepost"


class AccountPages:
    """The pages about oneself."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        self._shell = shell
        self._desk = desk

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show everything."""
        return await self._account(request)

    async def rename(self, request: AnyRequest) -> Response[Any]:
        """Change the name."""
        form = await read_form(request)
        return await self._try(request, "name", self._desk.accounts.rename(_who(request), form.get("name", "")))

    async def change_password(self, request: AnyRequest) -> Response[Any]:
        """Change the password; who has one gives it once more."""
        form, signed_in = await read_form(request), signed_in_of(request)
        if signed_in.person.password_hash is None and not self._desk.sessions.is_recent(signed_in.session):
            return Redirect("/confirm?next=/account", status_code=303)

        async def change() -> None:
            if signed_in.person.password_hash is not None:
                visit = await self._desk.access.visit(request)
                try:
                    await self._desk.sign_in.check_password(signed_in.person, form.get("current", ""), visit)
                except Refused as refusal:
                    raise _at("current", refusal) from None
            await self._desk.accounts.change_password(_who(request), form.get("password", ""))

        return await self._try(request, "password", change())

    async def totp_form(self, request: AnyRequest) -> Response[Any]:
        """Show a new secret for an authenticator."""
        return self._totp(request, second_factors.make_totp_secret())

    async def add_totp(self, request: AnyRequest) -> Response[Any]:
        """Take the first code of an authenticator; show the recovery codes."""
        form = await read_form(request)
        secret = form.get("secret", "")
        try:
            codes = await self._desk.accounts.add_totp(_who(request), secret, form.get("code", "")[:100])
        except Refused as refusal:
            if not second_factors.is_totp_secret(secret):
                raise
            return self._totp(request, secret, refusal)
        return self._codes(request, codes, "Your authenticator is asked for from now on. Your other sessions have ended.")

    async def remove_totp(self, request: AnyRequest) -> Response[Any]:
        """Ask for the authenticator no more."""
        return await self._try(request, "totp", self._desk.accounts.remove_totp(_who(request)))

    async def renew_codes(self, request: AnyRequest) -> Response[Any]:
        """Show new recovery codes."""
        codes = await self._desk.accounts.renew_recovery_codes(_who(request))
        return self._codes(request, codes, "The codes that you had before are worth nothing any more.")

    async def passkey_form(self, request: AnyRequest) -> Response[Any]:
        """Ask the browser for a new passkey."""
        return await self._passkey(request)

    async def add_passkey(self, request: AnyRequest) -> Response[Any]:
        """Take a new passkey; with the first second factor, show recovery codes."""
        form, site = await read_form(request), self._desk.access.passkey_site(request)
        if site is None:
            raise Refused("conflict", "passkeys cannot be used at this address")
        try:
            codes = await self._desk.accounts.add_passkey(
                _who(request), site, form.get("ticket", ""), form.get("credential", ""), form.get("name", "")
            )
        except Refused as refusal:
            return await self._passkey(request, refusal)
        if codes:
            return self._codes(request, codes, "The passkey is added. Your other sessions have ended.")
        return Redirect("/account?done=added", status_code=303)

    async def remove_passkey(self, request: AnyRequest) -> Response[Any]:
        """Forget a passkey."""
        form = await read_form(request)
        return await self._try(request, "passkey", self._desk.accounts.remove_passkey(_who(request), form.get("passkey", "")))

    async def change_reports(self, request: AnyRequest) -> Response[Any]:
        """Begin, change and end one's own reports by mail."""
        form, viewer, person = await read_form(request), viewer_of(request), signed_in_of(request).person
        if not viewer.may(Scope.STATS_READ):
            raise Refused("permission_denied", f"it needs the scope {Scope.STATS_READ.value}")
        tenant_id, actor, reports = viewer.caller.tenant_id, viewer.caller.actor, self._desk.reports
        hour = form.get("hour", "")
        values = {"zone": form.get("zone", "").strip(), "hour": int(hour) if hour.isascii() and hour.isdigit() and len(hour) < 3 else 24}

        async def change() -> None:
            has = await reports.of_person(tenant_id, person.id)
            for kind in ReportKind:
                if kind.value in form:
                    await reports.subscribe_oneself(tenant_id, person, kind.value, values, by=actor)
                elif kind.value in has:
                    await reports.remove(tenant_id, has[kind.value].id, by=actor, person_id=person.id)

        return await self._try(request, "reports", change())

    async def end_sessions(self, request: AnyRequest) -> Response[Any]:
        """End one session, or all others."""
        form, own = await read_form(request), signed_in_of(request).session.id
        caller = viewer_of(request).caller
        if form.get("session"):
            await self._desk.sessions.end(caller, form["session"])
            return Redirect("/login" if form["session"] == own else "/account?done=session", status_code=303)
        await self._desk.sessions.end_others(caller, own)
        return Redirect("/account?done=sessions", status_code=303)

    async def _try(self, request: AnyRequest, done: str, work: Awaitable[None]) -> Response[Any]:
        try:
            await work
        except Refused as refusal:
            return await self._account(request, refusal)
        return Redirect(f"/account?done={done}", status_code=303)

    async def _account(self, request: AnyRequest, refusal: Refused | None = None) -> Response[Any]:
        signed_in = signed_in_of(request)
        account = await self._desk.accounts.get(signed_in.person)
        viewer, tenant_id = viewer_of(request), signed_in.session.tenant_id
        may = tenant_id is not None and viewer.may(Scope.STATS_READ)
        return self._shell.page(
            request, "account.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            account=account, signed_in=signed_in, sessions=await self._desk.sessions.list(signed_in.person.id),
            may_have_reports=may, are_reports_sent=bool(self._shell.settings.reports.sender),
            reports=await self._desk.reports.of_person(viewer.caller.tenant_id, signed_in.person.id) if may else {},
            can_have_passkeys=self._desk.access.passkey_site(request) is not None,
            done=_DONE.get(request.query_params.get("done", ""), ""),
        )  # fmt: skip

    def _totp(self, request: AnyRequest, secret: str, refusal: Refused | None = None) -> Response[Any]:
        uri = second_factors.totp_uri(secret, signed_in_of(request).person.email, _ISSUER)
        grouped = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
        return self._shell.page(
            request, "totp.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            secret=secret, grouped=grouped, qr=second_factors.totp_qr(uri),
        )  # fmt: skip

    async def _passkey(self, request: AnyRequest, refusal: Refused | None = None) -> Response[Any]:
        site = self._desk.access.passkey_site(request)
        if site is None:
            raise Refused("conflict", "passkeys need these pages under a name, over HTTPS or as http://localhost; see dashboard.url")
        options, ticket = await self._desk.accounts.ask_for_passkey(_who(request), site)
        return self._shell.page(
            request, "passkey.html", status=refusal.kind.status if refusal else 200, faults=faults_of(refusal) if refusal else {},
            options=options, ticket=ticket,
        )  # fmt: skip

    def _codes(self, request: AnyRequest, codes: list[str], done: str) -> Response[Any]:
        return self._shell.page(request, "codes.html", codes=codes, done=done)


def _who(request: AnyRequest) -> Changing:
    return Changing(by=viewer_of(request).caller, signed_in=signed_in_of(request))


def _at(field: str, refusal: Refused) -> Refused:
    """Say a refusal beside a field."""
    return Refused(refusal.code, refusal.detail, (Fault(f"/{field}", refusal.code, refusal.detail),), refusal.retry_after_s)


PAGES = (
    own_page("GET", "/account", AccountPages.show),
    own_page("POST", "/account/name", AccountPages.rename),
    own_page("POST", "/account/password", AccountPages.change_password),
    own_page("GET", "/account/totp", AccountPages.totp_form, is_recent=True),
    own_page("POST", "/account/totp", AccountPages.add_totp, is_recent=True),
    own_page("POST", "/account/totp/remove", AccountPages.remove_totp, is_recent=True),
    own_page("POST", "/account/recovery", AccountPages.renew_codes, is_recent=True),
    own_page("GET", "/account/passkeys/new", AccountPages.passkey_form, is_recent=True),
    own_page("POST", "/account/passkeys", AccountPages.add_passkey, is_recent=True),
    own_page("POST", "/account/passkeys/remove", AccountPages.remove_passkey, is_recent=True),
    own_page("POST", "/account/reports", AccountPages.change_reports),
    own_page("POST", "/account/sessions", AccountPages.end_sessions),
)
