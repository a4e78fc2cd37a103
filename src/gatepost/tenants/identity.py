"""What the doors need to know who asks, put together: the authenticator, access tokens, and the authorization server."""

from collections.abc import Mapping
from dataclasses import dataclass

from gatepost.clock import Clock
from gatepost.settings import InvalidSettings, Issuer, Settings
from gatepost.store.engine import Engine
from gatepost.tenants.authentication import Authenticator
from gatepost.tenants.authorization import INTROSPECT, REVOKE, TOKEN, AuthorizationServer
from gatepost.tenants.client_authentication import ClientAuthentication
from gatepost.tenants.directory import Directory
from gatepost.tenants.issuers import TrustedIssuer
from gatepost.tenants.token_verifier import AccessTokens
from gatepost.tenants.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Identity:
    """One for all doors of a process."""

    authenticator: Authenticator
    authorization: AuthorizationServer
    tokens: Tokens

    async def refresh(self) -> None:
        """
        Learn which token keys are there and which tokens were revoked; to be called every second.

        Raises:
            StorageUnavailable: What is known stays.
        """
        await self.tokens.refresh()


def create_identity(engine: Engine, directory: Directory, clock: Clock, settings: Settings) -> Identity:
    """
    Put the parts together; nothing is opened yet.

    Raises:
        InvalidSettings: An outside issuer is not set up right.
    """
    oauth = settings.oauth
    issuer = _issuer_of(settings)
    tokens = Tokens(engine, clock, directory, issuer=issuer, lifetime_s=oauth.token_lifetime_s, rotation_days=oauth.key_rotation_days)
    _check_names(issuer, oauth.issuers)
    outside = [TrustedIssuer(name, one, directory, clock) for name, one in oauth.issuers.items()]
    access = AccessTokens(tokens, outside, clock)
    audiences = [issuer, issuer + TOKEN, issuer + INTROSPECT, issuer + REVOKE]
    authentication = ClientAuthentication(engine, clock, directory, audiences)
    return Identity(
        authenticator=Authenticator(directory, clock, access, settings.https.bound()),
        authorization=AuthorizationServer(tokens, access, authentication, directory, clock),
        tokens=tokens,
    )


def _check_names(own: str, issuers: Mapping[str, Issuer]) -> None:
    taken = {own}
    for name, one in issuers.items():
        if one.url in taken:
            raise InvalidSettings(f"oauth.issuers.{name}.url: {one.url} is another issuer's here, or the gateway's own name")
        taken.add(one.url)


def _issuer_of(settings: Settings) -> str:
    """Return our name as an issuer: what is set, the pages' address, or where the HTTP door listens."""
    if named := settings.oauth.issuer or settings.dashboard.url:
        return named
    if settings.http.listen:
        return f"http://{settings.http.listen}"
    return f"https://{settings.https.listen or settings.egress.hostname}"
