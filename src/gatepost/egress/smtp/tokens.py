"""
Access tokens for smarthosts that take no passwords: Microsoft 365 and Google.

Arrives: the options of a relay. Leaves: credentials whose password is a fresh access token; or `TokenFailed`.
Ways: client credentials (an application of its own), a refresh token (a person's consent), a service account's signed assertion.
A token is asked for once, by whoever needs it first, and kept until a minute before its end; one that the server refuses is
forgotten.
Standards: RFC 6749 §4.4, §6 (client credentials, refresh), RFC 7523 §2.1 (assertions).
Sources: https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
and https://developers.google.com/identity/protocols/oauth2/service-account.
Not here: how a token is said to the server (wire.smtp_client_hello).
Bugs: a new refresh token that comes with an answer is kept in memory only; both providers let the old one live on.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gatepost.clock import Clock
from gatepost.net.json_client import FetchFailed, is_safe_url, post_form
from gatepost.settings import InvalidSettings, RelayOAuth
from gatepost.wire import jwt
from gatepost.wire.smtp_client import Credentials

_TIMEOUT_S: Final = 15.0
_EARLY_S: Final = 60.0
_USUAL_LIFE_S: Final = 3600.0
_ASSERTION: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GOOGLE: Final = "https://oauth2.googleapis.com/token"
_MICROSOFT: Final = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_GOOGLE_SCOPE: Final = "https://mail.google.com/"
_MICROSOFT_SCOPES: Final = (
    "https://outlook.office365.com/.default", "https://outlook.office.com/SMTP.Send offline_access",
    "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
)  # fmt: skip


class TokenFailed(Exception):  # noqa: N818
    """
    There is no token; the text is for an operator and holds no secret.

    Attributes:
        is_refused: The authority said no; otherwise it could not be asked.
    """

    def __init__(self, detail: str, *, is_refused: bool) -> None:
        """Say why."""
        super().__init__(detail)
        self.is_refused = is_refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """What a key file of Google's says."""

    email: str
    private_key: str = field(repr=False)
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlan:
    """How tokens are got: exactly one of the three ways."""

    user: str
    url: str
    scope: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    account: ServiceAccount | None = None


def parse_oauth(name: str, options: RelayOAuth, user: str, host: str, table: str = "relays") -> TokenPlan | None:
    """
    Read OAuth options; None where there are none.

    Args:
        name: Of the relay, or of what else has such options.
        table: Where these stand in the settings; all but relays read mail, and ask Microsoft for that.
        user: The mailbox to send as, from the relay's URL.
        host: The smarthost, which tells Google from Microsoft.

    Raises:
        InvalidSettings: They do not fit together; the text holds no secret.
    """
    if options == RelayOAuth():
        return None
    prefix = f"{table}.{name}.oauth"
    if not user:
        raise InvalidSettings(f"{table}.{name}.url: with OAuth it names the mailbox: smtp://user%40example.com@{host}")
    account = _service_account(f"{prefix}.service_account_file", options.service_account_file) if options.service_account_file else None
    if account is None and not options.client_id:
        raise InvalidSettings(f"{prefix}.client_id: missing")
    if account is None and not (options.refresh_token or options.client_secret):
        raise InvalidSettings(f"{prefix}: give refresh_token, client_secret or service_account_file")
    is_google = account is not None or host.endswith((".gmail.com", ".google.com"))
    url = options.token_url or (_GOOGLE if is_google else _MICROSOFT.format(tenant=quote(options.tenant)) if options.tenant else "")
    if not url:
        raise InvalidSettings(f"{prefix}: give tenant (Microsoft 365) or token_url")
    if not is_safe_url(url):
        raise InvalidSettings(f"{prefix}.token_url: give an https:// URL; http:// is taken on this machine only")
    asked = 0 if not options.refresh_token else 1 if table == "relays" else 2
    scope = options.scope or (_GOOGLE_SCOPE if is_google else _MICROSOFT_SCOPES[asked])
    return TokenPlan(
        user=user, url=url, scope=scope, client_id=options.client_id, client_secret=options.client_secret,
        refresh_token=options.refresh_token, account=account,
    )  # fmt: skip


def _service_account(option: str, path: str) -> ServiceAccount:
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        return ServiceAccount(
            email=str(found["client_email"]), private_key=str(found["private_key"]), key_id=str(found.get("private_key_id", ""))
        )  # fmt: skip
    except OSError as error:
        raise InvalidSettings(f"{option}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidSettings(f"{option}: it is no key file of a service account (client_email and private_key)") from None


class Tokens:
    """The token of one relay."""

    def __init__(self, plan: TokenPlan, clock: Clock) -> None:
        """Start without one."""
        self._plan = plan
        self._clock = clock
        self._refresh_token = plan.refresh_token
        self._token = ""
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def credentials(self) -> Credentials:
        """
        Return user and token.

        Raises:
            TokenFailed: There is none to be had.
        """
        async with self._asking:
            if not self._token or self._clock.monotonic() >= self._until:
                await self._ask()
            return Credentials(self._plan.user, self._token, is_token=True)

    def forget(self) -> None:
        """Ask for a new one the next time: the server did not take this one."""
        self._token = ""

    async def _ask(self) -> None:
        asked_at = self._clock.monotonic()
        try:
            status, found = await post_form(self._plan.url, self._fields(), timeout_s=_TIMEOUT_S)
        except FetchFailed as error:
            raise TokenFailed(str(error), is_refused=False) from error
        token = found.get("access_token")
        if status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise TokenFailed(f"{self._plan.url} gives no token: {status} {_reason(found)}", is_refused=status < 500)
        life = found.get("expires_in")
        life_s = float(life) if isinstance(life, int | float | str) and str(life).replace(".", "", 1).isdecimal() else _USUAL_LIFE_S
        self._token, self._until = token, asked_at + max(life_s - _EARLY_S, life_s / 2)
        if isinstance(fresh := found.get("refresh_token"), str) and fresh:
            self._refresh_token = fresh

    def _fields(self) -> dict[str, str]:
        plan = self._plan
        if plan.account is not None:
            return {"grant_type": _ASSERTION, "assertion": self._assertion(plan.account)}
        fields = {"client_id": plan.client_id, "scope": plan.scope}
        if plan.client_secret:
            fields["client_secret"] = plan.client_secret
        if self._refresh_token:
            return fields | {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        return fields | {"grant_type": "client_credentials"}

    def _assertion(self, account: ServiceAccount) -> str:
        now_s = self._clock.now() // 1000
        claims = {
            "iss": account.email, "sub": self._plan.user, "scope": self._plan.scope, "aud": self._plan.url, "iat": now_s,
            "exp": now_s + 3600,
        }  # fmt: skip
        try:
            return jwt.sign_rs256(claims, kid=account.key_id, private_pem=account.private_key)
        except ValueError as error:
            raise TokenFailed("the service account's private key cannot be used", is_refused=True) from error


def _reason(found: dict[str, Any]) -> str:
    """Give the authority's words (RFC 6749 §5.2), which name what is wrong and hold no secret of ours."""
    code, text = found.get("error"), found.get("error_description")
    words = " ".join(one for one in (code, text) if isinstance(one, str))
    return " ".join(words.split())[:300] or "no reason given"
