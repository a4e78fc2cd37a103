"""
The authorization server: access tokens for clients, what a token is worth, and the end of a token.

Arrives: a client's proof and what it wants. Leaves: a token; what is known of one; or `OAuthRefused`.
Only the client-credentials grant exists: there is no user whom a client could act for.
Standards: RFC 6749 §4.4 and §5, RFC 7662 (introspection), RFC 7009 (revocation), RFC 8414 (metadata), RFC 9700.
Not here: forms and headers (http.public.oauth), how a client proves itself (client_authentication), how a token looks
(tokens).
"""

from collections.abc import Mapping
from typing import Any, Final

from gatepost.clock import Clock
from gatepost.domain.access import Actor, Scope
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.tenants.authentication import is_inside
from gatepost.tenants.client_authentication import ClientAuthentication, OAuthRefused, Shown
from gatepost.tenants.directory import Directory, HeldClient
from gatepost.tenants.token_verifier import AccessTokens
from gatepost.tenants.tokens import Issued, Tokens
from gatepost.wire import jwt

GRANT: Final = "client_credentials"
TOKEN: Final = "/oauth/token"  # noqa: S105 - a path
INTROSPECT: Final = "/oauth/introspect"
REVOKE: Final = "/oauth/revoke"
KEYS: Final = "/.well-known/jwks.json"
METHODS: Final = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
_SCOPES: Final = frozenset(scope.value for scope in Scope)
_INACTIVE: Final[Mapping[str, Any]] = {"active": False}


class AuthorizationServer:
    """One for a process."""

    def __init__(
        self, tokens: Tokens, access: AccessTokens, authentication: ClientAuthentication, directory: Directory, clock: Clock
    ) -> None:
        self._tokens = tokens
        self._access = access
        self._authentication = authentication
        self._directory = directory
        self._clock = clock

    async def token(self, shown: Shown, peer: str, grant_type: str | None, scope: str | None) -> Issued:
        """
        Give a client an access token.

        Args:
            scope: Words with spaces between; None is all that the client has.

        Raises:
            OAuthRefused: With the error of RFC 6749 §5.2.
            StorageUnavailable: The database cannot be used now.
        """
        if grant_type is None:
            raise OAuthRefused("invalid_request", "grant_type is missing")
        held = await self._proven(shown, peer)
        if grant_type != GRANT:
            raise OAuthRefused("unsupported_grant_type", f"only {GRANT} is supported")
        issued = await self._tokens.issue(held, _granted(held, scope))
        maillog.changed("token_issued", tenant_id=held.client.tenant_id, client_id=held.client.id, peer=peer)
        return issued

    async def introspect(self, shown: Shown, peer: str, token: str | None) -> Mapping[str, Any]:
        """
        Tell a client what a token of its tenant is worth; of others it hears that they are not active.

        Raises:
            OAuthRefused: invalid_client, invalid_request.
            StorageUnavailable: The database cannot be used now.
        """
        held = await self._proven(shown, peer)
        if token is None:
            raise OAuthRefused("invalid_request", "token is missing")
        found = await self._access.own(token)
        if found is None:
            return _INACTIVE
        try:
            who = found.principal(self._clock.now())
        except Refused:
            return _INACTIVE
        if who.tenant_id != held.client.tenant_id or self._directory.is_suspended(who.tenant_id):
            return _INACTIVE
        names = ("iss", "sub", "aud", "iat", "exp", "jti", "client_id")
        scopes = " ".join(sorted(scope.value for scope in found.scopes & who.scopes))
        return {"active": True, "token_type": "Bearer", "scope": scopes, **{name: found.claims[name] for name in names}}

    async def revoke(self, shown: Shown, peer: str, token: str | None) -> None:
        """
        End a client's own token; one that is none, or has ended, needs no end.

        Raises:
            OAuthRefused: invalid_client, invalid_request; unauthorized_client when the token is another client's.
            StorageUnavailable: The token may be taken still.
        """
        held = await self._proven(shown, peer)
        if token is None:
            raise OAuthRefused("invalid_request", "token is missing")
        found = await self._access.own(token)
        if found is None:
            return
        if found.client_id != held.client.id:
            raise OAuthRefused("unauthorized_client", "the token was issued to another client")
        who = held.principal
        await self._tokens.revoke(found, Actor(kind=who.kind, id=who.id, name=who.name, peer=peer), who.tenant_id)

    async def key_set(self) -> Mapping[str, Any]:
        """
        Return the public keys that verify our tokens.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return {"keys": await self._tokens.public_keys()}

    def metadata(self) -> Mapping[str, Any]:
        """Describe this server (RFC 8414 §2)."""
        issuer = self._tokens.issuer
        proof = {"auth_methods_supported": METHODS, "auth_signing_alg_values_supported": list(jwt.ALGORITHMS)}
        return {
            "issuer": issuer,
            "token_endpoint": issuer + TOKEN,
            "introspection_endpoint": issuer + INTROSPECT,
            "revocation_endpoint": issuer + REVOKE,
            "jwks_uri": issuer + KEYS,
            "response_types_supported": [],
            "grant_types_supported": [GRANT],
            "scopes_supported": sorted(_SCOPES),
            **{f"{place}_endpoint_{name}": value for place in ("token", "introspection", "revocation") for name, value in proof.items()},
            "service_documentation": issuer + "/docs",
        }

    async def _proven(self, shown: Shown, peer: str) -> HeldClient:
        held = await self._authentication.authenticate(shown, peer)
        if held.principal.networks and not is_inside(peer, held.principal.networks):
            raise _unauthorized(held, peer, "the client may not be used from this address")
        if self._directory.is_suspended(held.client.tenant_id):
            raise _unauthorized(held, peer, "this tenant is suspended")
        return held


def _unauthorized(held: HeldClient, peer: str, detail: str) -> OAuthRefused:
    maillog.security("client_refused", source="http", peer=peer, client_id=held.client.id, why=detail)
    return OAuthRefused("unauthorized_client", detail)


def _granted(held: HeldClient, scope: str | None) -> frozenset[Scope]:
    """
    Return what a token may do: what was asked for, when the client has all of it.

    Raises:
        OAuthRefused: invalid_scope.
    """
    if scope is None:
        return held.client.scopes
    words = scope.split(" ")
    if not set(words) <= _SCOPES:
        raise OAuthRefused("invalid_scope", "a scope is unknown")
    wanted = frozenset(Scope(word) for word in words)
    if not wanted <= held.principal.scopes:
        raise OAuthRefused("invalid_scope", "the client does not have every scope that was asked for")
    return wanted
