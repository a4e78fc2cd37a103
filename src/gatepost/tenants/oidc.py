"""
What an OpenID provider says about who signs in.

Arrives: the browser's way back from the provider. Leaves: claims that are this provider's, meant for us, about this very
sign-in. State ties them to the browser, PKCE to the code, the nonce to the token, `iss` to the provider: an answer of
another provider, or to another visit, opens nothing.
Standards: OpenID Connect Core 1.0 §3.1, Discovery 1.0, RFC 7636 (PKCE, S256), RFC 9207 (iss), RFC 9700.
Not here: signatures (wire.jwt), which person that is (sign_in_oidc), how what must be remembered is kept (sign_in_tickets).
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from gatepost.clock import SECOND, Clock
from gatepost.domain.errors import Refused
from gatepost.net.json_client import FetchFailed, get_json, is_safe_url, post_form
from gatepost.observe import maillog
from gatepost.settings import Oidc
from gatepost.wire import jwt
from gatepost.wire.jwt import BadToken

_LONGEST_TOKEN = 64 * 1024
"""Some providers write all of a person's groups into it."""
_KEEP_S = 3600
_AGAIN_S = 30
_LEEWAY_S = 60
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What must be remembered until the browser comes back."""

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(slots=True)
class _Kept:
    """Something of the provider's, and when it was read."""

    value: dict[str, Any]
    at: float


class Provider:
    """The provider of the settings; one object per process, for what it keeps."""

    def __init__(self, settings: Oidc, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._metadata: _Kept | None = None
        self._keys: _Kept | None = None

    @property
    def issuer(self) -> str:
        """The provider's name for itself."""
        return self._settings.issuer

    async def begin(self, redirect_uri: str) -> tuple[str, Memory]:
        """
        Return where to send the browser, and what to remember.

        Raises:
            Refused: overloaded: the provider cannot be asked now.
        """
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415 - most gateways have no provider

        metadata = await self._read_metadata()
        memory = Memory(state=secrets.token_urlsafe(24), nonce=secrets.token_urlsafe(24), verifier=secrets.token_urlsafe(48))
        query = {
            "response_type": "code", "client_id": self._settings.client_id, "redirect_uri": redirect_uri, "scope": "openid email profile",
            "state": memory.state, "nonce": memory.nonce, "code_challenge": create_s256_code_challenge(memory.verifier),
            "code_challenge_method": "S256",
        }  # fmt: skip
        endpoint = metadata["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", memory

    async def finish(self, query: Mapping[str, str], memory: Memory, redirect_uri: str) -> dict[str, Any]:
        """
        Return the claims about who comes back.

        Args:
            query: What the browser came back with.

        Raises:
            Refused: authentication_failed; overloaded: the provider cannot be asked now.
        """
        if not hmac.compare_digest(query.get("state", "").encode(), memory.state.encode()):
            raise _failed("the answer belongs to another visit")
        metadata = await self._read_metadata()
        self._check_issuer(query, metadata)
        if "error" in query or not query.get("code"):
            raise _failed("the provider did not let you in")
        token = await self._redeem(query["code"], memory, redirect_uri, metadata)
        claims = await self._read_token(token, memory, metadata)
        if "email" not in claims and metadata.get("userinfo_endpoint") and isinstance(token.get("access_token"), str):
            claims |= await self._read_userinfo(str(metadata["userinfo_endpoint"]), token["access_token"], claims["sub"])
        return claims

    def _check_issuer(self, query: Mapping[str, str], metadata: Mapping[str, Any]) -> None:
        """Refuse an answer that another provider gave (RFC 9207 §2.4)."""
        given = query.get("iss")
        if given is None and metadata.get("authorization_response_iss_parameter_supported") is not True:
            return
        if given != self._settings.issuer:
            raise _failed("the answer comes from another provider")

    async def _redeem(self, code: str, memory: Memory, redirect_uri: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": memory.verifier}
        settings, basic = self._settings, None
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if settings.client_secret and "client_secret_basic" in methods:
            basic = (settings.client_id, settings.client_secret)
        else:
            fields["client_id"] = settings.client_id
            if settings.client_secret:
                fields["client_secret"] = settings.client_secret
        try:
            status, token = await post_form(str(metadata["token_endpoint"]), fields, timeout_s=settings.timeout_s, basic=basic)
        except FetchFailed as error:
            raise _unreachable(error) from error
        if status != 200 or not isinstance(token.get("id_token"), str):
            maillog.trouble("the OpenID provider refused a code", status=status, error=str(token.get("error", ""))[:60])
            raise _failed("the provider did not confirm who you are")
        return token

    async def _read_token(self, token: Mapping[str, Any], memory: Memory, metadata: Mapping[str, Any]) -> dict[str, Any]:
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415

        try:
            header, claims = await self._verify(token["id_token"], metadata)
            options = {
                "iss": {"essential": True, "value": self._settings.issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
                "nonce": {"essential": True, "value": memory.nonce},
            }
            params = {"nonce": memory.nonce, "client_id": self._settings.client_id, "access_token": token.get("access_token")}
            CodeIDToken(claims, header, options, params).validate(now=self._clock.now() // SECOND, leeway=_LEEWAY_S)
        except (BadToken, JoseError, ValueError, TypeError, KeyError) as error:
            maillog.security("oidc_token_refused", error=type(error).__name__, detail=str(error)[:100])
            raise _failed("the provider's statement is not valid") from error
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise _failed("the provider's statement is not valid")
        return dict(claims)

    async def _verify(self, text: str, metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        header = jwt.parse(text, _LONGEST_TOKEN).header
        if header.get("alg") not in (metadata.get("id_token_signing_alg_values_supported") or ["RS256"]):
            raise BadToken("its alg is none that the provider names")
        try:
            claims = jwt.verify(text, header, jwt.read_keys(await self._read_keys(metadata, is_fresh=False)))
        except (BadToken, ValueError):
            # the provider may have new keys; a token that is plainly wrong costs it one more question, now and then
            claims = jwt.verify(text, header, jwt.read_keys(await self._read_keys(metadata, is_fresh=True)))
        return dict(header), dict(claims)

    async def _read_userinfo(self, url: str, access_token: str, subject: str) -> dict[str, Any]:
        """Ask for what the token leaves out; an answer about somebody else is none (Core §5.3.2)."""
        try:
            found = await get_json(url, timeout_s=self._settings.timeout_s, bearer=access_token)
        except FetchFailed as error:
            raise _unreachable(error) from error
        if found.get("sub") != subject:
            raise _failed("the provider's statement is not valid")
        return {name: value for name, value in found.items() if name in {"email", "email_verified", "name", self._settings.role_claim}}

    async def _read_metadata(self) -> dict[str, Any]:
        if (kept := self._fresh(self._metadata, _KEEP_S)) is not None:
            return kept
        url = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = await get_json(url, timeout_s=self._settings.timeout_s)
        except FetchFailed as error:
            raise _unreachable(error) from error
        if found.get("issuer") != self._settings.issuer:  # Discovery §4.3; a mix-up starts here
            raise _unreachable(FetchFailed(f"{url} speaks for another issuer than oidc.issuer"))
        if not all(isinstance(found.get(name), str) and is_safe_url(found[name]) for name in _NEEDED):
            raise _unreachable(FetchFailed(f"{url} names no endpoints that can be used"))
        self._metadata = _Kept(found, self._clock.monotonic())
        return found

    async def _read_keys(self, metadata: Mapping[str, Any], *, is_fresh: bool) -> Any:
        if (kept := self._fresh(self._keys, _AGAIN_S if is_fresh else _KEEP_S)) is not None:
            return kept
        try:
            found = await get_json(str(metadata["jwks_uri"]), timeout_s=self._settings.timeout_s)
        except FetchFailed as error:
            raise _unreachable(error) from error
        self._keys = _Kept(found, self._clock.monotonic())
        return found

    def _fresh(self, kept: _Kept | None, keep_s: float) -> dict[str, Any] | None:
        return kept.value if kept is not None and self._clock.monotonic() - kept.at < keep_s else None


def _failed(why: str) -> Refused:
    return Refused("authentication_failed", why)


def _unreachable(error: FetchFailed) -> Refused:
    maillog.trouble("the OpenID provider cannot be used", error=str(error))
    return Refused("overloaded", "the provider of single sign-on cannot be used now", retry_after_s=30)
