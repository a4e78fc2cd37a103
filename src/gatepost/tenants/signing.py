"""Signing keys at hand: a domain's DKIM keys, loaded once each, because reading a PEM costs as much as a hundred signatures."""

from collections.abc import Sequence

from gatepost.domain.tenant import DEFAULT_TENANT
from gatepost.store.errors import SealBroken
from gatepost.tenants.directory import Directory
from gatepost.wire.dkim import Signer


class Signing:
    """The signers of every domain that this process has sent for."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._signers: dict[str, Signer] = {}

    def gateway_signers(self, domain: str) -> Sequence[Signer]:
        """
        Return the signers of a domain of the gateway's own: one of the default tenant's.

        Raises:
            SealBroken: A key cannot be opened.
        """
        tenant = self._directory.tenant_named(DEFAULT_TENANT)
        return () if tenant is None else self.signers(tenant.id, domain)

    def signers(self, tenant_id: str, domain: str) -> Sequence[Signer]:
        """
        Return the signers of a tenant's domain; empty when it has no key.

        Raises:
            SealBroken: A key cannot be opened: sent without it, mail would be unsigned.
        """
        found = []
        for key in self._directory.signing_keys(tenant_id, domain):
            signer = self._signers.get(key.id)
            if signer is None:
                if not key.private_pem:
                    raise SealBroken(f"the DKIM key {key.selector} of {domain} cannot be opened")
                signer = self._signers[key.id] = Signer.from_pem(domain, key.selector, key.algorithm, key.private_pem)
            found.append(signer)
        return found
