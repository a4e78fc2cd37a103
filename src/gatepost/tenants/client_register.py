"""
The register of OAuth clients: how they are made; what they share with API keys is in `credential_register`.

A client proves itself by a secret, of which only a SHA-256 is kept, or by assertions that it signs (private_key_jwt); then
it has no secret.
Not here: how a client proves itself (client_authentication), what it gets (authorization).
"""

from collections.abc import Mapping
from typing import Any

from gatepost import ids
from gatepost.domain.access import Actor, KeyMode, Principal, Restrictions
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.tenant import OAuthClient
from gatepost.tenants.credential_register import Made, Register, within
from gatepost.tenants.keys import with_checksum
from gatepost.wire import jwt

_PREFIX = "gp_oauth_"


class Clients(Register[OAuthClient]):
    """The OAuth clients of all tenants."""

    kind = OAuthClient
    prefix = "oac"
    noun = "OAuth client"
    log_name = "oauth_client"

    async def create(
        self,
        tenant_id: str,
        name: str,
        mode: KeyMode,
        restrictions: Restrictions,
        *,
        by: Actor,
        maker: Principal | None,
        jwks: Mapping[str, Any] | None = None,
    ) -> Made[OAuthClient]:
        """
        Make a client.

        Args:
            maker: Who gives of their own rights; None is the command line, which may give all.
            jwks: Public keys of a client that signs assertions; None gives it a secret.

        Raises:
            Refused: permission_denied when it would go beyond its maker; validation_failed when `jwks` is no key set.
            StorageUnavailable: Nothing changed.
        """
        given = within(maker, restrictions, mode)
        if jwks is not None:
            _check_keys(jwks)
        secret = with_checksum(_PREFIX) if jwks is None else None
        made = OAuthClient(
            id=ids.new("oac"),
            tenant_id=tenant_id,
            name=name,
            mode=mode,
            hint="" if secret is None else secret[-4:],
            created_at=self._clock.now(),
            jwks=jwks,
            **given.fields(),
        )
        return await self._add(made, secret, {"has_jwks": jwks is not None}, by)

    def _new_secret(self, one: OAuthClient) -> str:
        if one.jwks is not None:
            raise Refused("conflict", "the client signs assertions and has no secret")
        return with_checksum(_PREFIX)


def _check_keys(jwks: Mapping[str, Any]) -> None:
    try:
        jwt.read_keys(jwks)
    except ValueError as error:
        raise invalid(Fault("/jwks", "invalid_keys", str(error))) from None
