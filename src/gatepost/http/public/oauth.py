"""
OAuth 2.0 for programs: `/oauth/token`, `/oauth/introspect`, `/oauth/revoke`, and what describes them.

Arrives: forms. Leaves: JSON as OAuth's standards want it, its own form of errors included.
Standards: RFC 6749 §2.3.1, §3.2, §5 and appendix B (forms), RFC 7523 §2.2, RFC 7662, RFC 7009, RFC 8414, RFC 7517.
Not here: who gets what (tenants.authorization).
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, unquote_plus

from msgspec import UNSET, Meta, Struct, UnsetType

from gatepost.domain.errors import Refused
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Request, as_json
from gatepost.observe import maillog, metrics
from gatepost.tenants.authorization import GRANT, INTROSPECT, KEYS, REVOKE, TOKEN
from gatepost.tenants.client_authentication import ASSERTION_TYPE, OAuthRefused, Shown

_FORM: Final = "application/x-www-form-urlencoded"
_SMALL: Final = 64 * 1024


class ClientForm(Struct, kw_only=True, omit_defaults=True):
    """How a client proves itself in a form; or by HTTP Basic with its id and secret. Other fields are ignored."""

    client_id: str | UnsetType = UNSET
    client_secret: str | UnsetType = UNSET
    client_assertion_type: Annotated[str, Meta(examples=[ASSERTION_TYPE])] | UnsetType = UNSET
    client_assertion: Annotated[str, Meta(description="a JWT that the client signed (RFC 7523)")] | UnsetType = UNSET


class TokenForm(ClientForm, kw_only=True, omit_defaults=True):
    """Ask for an access token."""

    grant_type: Annotated[str, Meta(examples=[GRANT])]
    scope: Annotated[str, Meta(description="scopes with spaces between; without it all that the client has")] | UnsetType = UNSET


class OfTokenForm(ClientForm, kw_only=True, omit_defaults=True):
    """Ask about a token, or end it."""

    token: str
    token_type_hint: str | UnsetType = UNSET


class TokenAnswer(Struct, kw_only=True, frozen=True):
    """An access token, for `Authorization: Bearer` and for SMTP's OAUTHBEARER and XOAUTH2."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


class OAuthError(Struct, kw_only=True, frozen=True):
    """An error of RFC 6749 §5.2."""

    error: str
    error_description: str


class Introspection(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a token is worth (RFC 7662 §2.2)."""

    active: bool
    scope: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    token_type: str | UnsetType = UNSET
    exp: int | UnsetType = UNSET
    iat: int | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    aud: str | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET


class KeySet(Struct, kw_only=True, frozen=True):
    """Public keys (RFC 7517)."""

    keys: list[dict[str, Any]]


Run = Callable[[Request], Awaitable[Answer]]


def _in_oauth_words(run: Run) -> Run:
    """Write refusals as RFC 6749 §5.2 has them."""

    async def answer(request: Request) -> Answer:
        try:
            return await run(request)
        except OAuthRefused as refused:
            return _refuse(request, refused)

    return answer


@_in_oauth_words
async def token(request: Request) -> Answer:
    """Give a client an access token."""
    form = await _read_form(request)
    shown = _shown(request, form)
    issued = await request.deps.identity.authorization.token(shown, request.peer, form.get("grant_type"), form.get("scope"))
    scope = " ".join(sorted(issued.scopes))
    return as_json(
        TokenAnswer(access_token=issued.text, token_type="Bearer", expires_in=issued.expires_in_s, scope=scope),  # noqa: S106
        headers=[(b"pragma", b"no-cache")],
    )


@_in_oauth_words
async def introspect(request: Request) -> Answer:
    """Tell what a token is worth."""
    form = await _read_form(request)
    found = await request.deps.identity.authorization.introspect(_shown(request, form), request.peer, form.get("token"))
    return as_json(found)


@_in_oauth_words
async def revoke(request: Request) -> Answer:
    """End a token."""
    form = await _read_form(request)
    await request.deps.identity.authorization.revoke(_shown(request, form), request.peer, form.get("token"))
    return Answer(200, b"{}")


async def metadata(request: Request) -> Answer:
    """Describe the authorization server."""
    return as_json(request.deps.identity.authorization.metadata())


async def key_set(request: Request) -> Answer:
    """Publish the keys that verify access tokens."""
    return as_json(await request.deps.identity.authorization.key_set())


async def _read_form(request: Request) -> Mapping[str, str]:
    """
    Read a form; a field without a value counts as missing, unknown ones are ignored (RFC 6749 §3.2).

    Raises:
        OAuthRefused: invalid_request.
        Refused: payload_too_large.
    """
    try:
        raw = await decode.read_body(request, _SMALL, _FORM)
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except Refused as refusal:
        if refusal.code == "payload_too_large":
            raise
        raise OAuthRefused("invalid_request", f"send a form ({_FORM}) in UTF-8") from None
    except ValueError:  # also a UnicodeDecodeError
        raise OAuthRefused("invalid_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthRefused("invalid_request", "a field stands twice")
    return {name: value for name, value in form.items() if value}


def _shown(request: Request, form: Mapping[str, str]) -> Shown:
    """
    Find how a client proves itself; in one way only (RFC 6749 §2.3).

    Raises:
        OAuthRefused: invalid_request when there are several or a broken one; invalid_client when there is none.
    """
    header = request.header(b"authorization")
    ways = [header is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise OAuthRefused("invalid_request", "prove the client in one way only")
    if header is not None:
        return _basic(header, form.get("client_id"))
    if "client_assertion" in form:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthRefused("invalid_request", "client_assertion_type is not the one of RFC 7523")
        return Shown(client_id=form.get("client_id"), assertion=form["client_assertion"])
    if "client_secret" in form and "client_id" in form:
        return Shown(client_id=form["client_id"], secret=form["client_secret"])
    raise OAuthRefused("invalid_client", "prove the client: HTTP Basic, client_secret in the form, or client_assertion", 401)


def _basic(header: str, named: str | None) -> Shown:
    """Read `Basic` with form-encoded id and secret (RFC 6749 §2.3.1)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise OAuthRefused("invalid_client", "the scheme of Authorization is Basic here", 401)
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
        client_id, secret = text.split(":", 1)
        shown = Shown(client_id=unquote_plus(client_id, errors="strict"), secret=unquote_plus(secret, errors="strict"))
    except (binascii.Error, ValueError):
        raise OAuthRefused("invalid_client", "Authorization cannot be read", 401) from None
    if named is not None and named != shown.client_id:
        raise OAuthRefused("invalid_request", "client_id and Authorization name different clients")
    return shown


def _refuse(request: Request, refused: OAuthRefused) -> Answer:
    maillog.refused(source="http", code=refused.error, request_id=request.id, peer=request.peer)
    metrics.requests_refused.labels("http", refused.error).inc()
    headers = []
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="gatepost"'))
    if refused.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refused.retry_after_s))
    return as_json(OAuthError(error=refused.error, error_description=refused.detail), refused.status, headers)


_ERRORS: Final[Mapping[int, Any]] = {400: OAuthError, 401: OAuthError, 429: OAuthError}

ENDPOINTS = [
    Endpoint(
        method="POST",
        path=TOKEN,
        run=token,
        name="issueToken",
        summary="Get an access token",
        tag="oauth",
        body=TokenForm,
        body_type=_FORM,
        answers={200: TokenAnswer, **_ERRORS},
        codes=("payload_too_large",),
        description=f"Grant type `{GRANT}`. The client proves itself by HTTP Basic, by `client_id` and `client_secret` in the form,"
        " or by an assertion that it signed (RFC 7523); each in one way only. Errors are those of RFC 6749 §5.2.",
        is_public=True,
    ),
    Endpoint(
        method="POST",
        path=INTROSPECT,
        run=introspect,
        name="introspectToken",
        summary="What is a token worth?",
        tag="oauth",
        body=OfTokenForm,
        body_type=_FORM,
        answers={200: Introspection, **_ERRORS},
        codes=("payload_too_large",),
        description="RFC 7662. The client proves itself as for a token. Tokens of other tenants are not active.",
        is_public=True,
    ),
    Endpoint(
        method="POST",
        path=REVOKE,
        run=revoke,
        name="revokeToken",
        summary="End a token",
        tag="oauth",
        body=OfTokenForm,
        body_type=_FORM,
        answers={200: dict[str, Any], **_ERRORS},
        codes=("payload_too_large",),
        description="RFC 7009. The client proves itself as for a token. Every process refuses the token within two seconds.",
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        run=metadata,
        name="oauthMetadata",
        summary="Describe the authorization server",
        tag="oauth",
        answers={200: dict[str, Any]},
        description="RFC 8414.",
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path=KEYS,
        run=key_set,
        name="oauthKeys",
        summary="The keys that verify access tokens",
        tag="oauth",
        answers={200: KeySet},
        description="RFC 7517. A key is here ten minutes before it signs, and until the last token that it signed has ended.",
        is_public=True,
    ),
]
