"""
The register of API keys: how they are made; what they share with OAuth clients is in `credential_register`.

Not here: how a secret looks (keys).
"""

from gatepost.domain.access import Actor, KeyMode, Network, Principal, Restrictions
from gatepost.domain.tenant import ApiKey
from gatepost.tenants.credential_register import Made, Register, within
from gatepost.tenants.keys import describe, make_secret


class Keys(Register[ApiKey]):
    """The keys of all tenants."""

    kind = ApiKey
    prefix = "key"
    noun = "key"
    log_name = "key"

    async def create(
        self,
        tenant_id: str,
        name: str,
        mode: KeyMode,
        restrictions: Restrictions,
        *,
        by: Actor,
        maker: Principal | None,
        trust_networks: tuple[Network, ...] = (),
    ) -> Made[ApiKey]:
        """
        Make a key.

        Args:
            maker: Who gives of their own rights; None is the command line, which may give all.

        Raises:
            Refused: permission_denied when it would go beyond its maker.
            StorageUnavailable: Nothing changed.
        """
        given, now, secret = within(maker, restrictions, mode), self._clock.now(), make_secret(mode)
        made = describe(secret, tenant_id=tenant_id, name=name, mode=mode, now=now, trust_networks=trust_networks, restrictions=given)
        return await self._add(made, secret, {"trust_networks": [str(one) for one in trust_networks]}, by)

    def _new_secret(self, one: ApiKey) -> str:
        return make_secret(one.mode)
