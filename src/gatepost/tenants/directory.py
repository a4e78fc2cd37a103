"""
Who is who, in memory: keys by their hash, domains by tenant and name, signing keys by domain.

An immutable snapshot is loaded whenever the configuration's version number changes; every process looks once a second. A
key or a domain that the snapshot does not know causes a look at once, so what was made a moment ago works a moment later.
"""

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost.clock import Clock
from gatepost.domain.tenant import ApiKey, DkimKey, Domain, Network
from gatepost.store import tenants
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants import keys

_MISS_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One version of the configuration."""

    version: int
    keys: Mapping[bytes, ApiKey] = field(default_factory=dict)
    trusted: tuple[tuple[Network, ApiKey], ...] = ()
    domains: Mapping[tuple[str, str], Domain] = field(default_factory=dict)
    signing: Mapping[tuple[str, str], tuple[DkimKey, ...]] = field(default_factory=dict)


class Directory:
    """The snapshot in use, kept fresh."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._snapshot = Snapshot(version=-1)
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def authenticate(self, secret: str) -> ApiKey | None:
        """Return the key that a secret belongs to; None when there is none or it is revoked."""
        if not keys.looks_like_key(secret):
            return None
        digest = keys.hash_secret(secret)
        found = self._snapshot.keys.get(digest)
        if found is None and await self._look_again():
            found = self._snapshot.keys.get(digest)
        return found

    def trusted_key(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ApiKey | None:
        """Return the key with which SMTP clients from an address act without authenticating."""
        for network, key in self._snapshot.trusted:
            if address in network:
                return key
        return None

    async def domain(self, tenant_id: str, name: str) -> Domain | None:
        """Return a tenant's domain by name (lower-case A-labels)."""
        found = self._snapshot.domains.get((tenant_id, name))
        if (found is None or found.status != "verified") and await self._look_again():
            found = self._snapshot.domains.get((tenant_id, name))
        return found

    def signing_keys(self, tenant_id: str, name: str) -> tuple[DkimKey, ...]:
        """Return the active DKIM keys of a tenant's domain; RSA first."""
        return self._snapshot.signing.get((tenant_id, name), ())

    async def refresh(self) -> bool:
        """
        Load the configuration if its version changed; return whether it did.

        Raises:
            StorageUnavailable: The database cannot be used now; the old snapshot stays.
        """
        async with self._lock:
            self._looked_at = self._clock.monotonic()
            version = await self._engine.read(tenants.version)
            if version == self._snapshot.version:
                return False
            self._snapshot = await self._engine.read(_load)
            return True

    async def _look_again(self) -> bool:
        """Refresh after a miss, but not for every guess of an attacker."""
        if self._clock.monotonic() - self._looked_at < _MISS_INTERVAL_S:
            return False
        try:
            return await self.refresh()
        except StorageUnavailable:
            return False


def _load(conn: Connection) -> Snapshot:
    version = tenants.version(conn)
    valid = [(key, digest) for key, digest in tenants.keys(conn) if key.revoked_at is None]
    domains = tenants.domains(conn)
    signing: dict[str, list[DkimKey]] = {}
    for key in tenants.dkim_keys(conn, [domain.id for domain in domains]):
        if key.status == "active":
            signing.setdefault(key.domain_id, []).append(key)
    return Snapshot(
        version=version,
        keys={digest: key for key, digest in valid},
        trusted=tuple((network, key) for key, _ in valid for network in key.trust_networks),
        domains={(domain.tenant_id, domain.name): domain for domain in domains},
        signing={
            (domain.tenant_id, domain.name): tuple(sorted(signing.get(domain.id, ()), key=lambda key: key.algorithm != "rsa-sha256"))
            for domain in domains
        },
    )
