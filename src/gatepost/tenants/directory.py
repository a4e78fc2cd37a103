"""
Who is who, in memory: principals by the hash of their secret, OAuth clients, tenants, domains, signing keys.

An immutable snapshot is loaded whenever the configuration's version number changes; every process looks once a second. A
key, a client or a domain that the snapshot does not know causes a look at once, so what was made a moment ago works a
moment later. Principals are built when the snapshot is loaded, not for each request.
Secrets are found by their SHA-256 in a hash table: what an attacker sends decides nothing about how long that takes.
Not here: whether a principal may act now (authentication).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.access import Principal
from gatepost.domain.stream import DEFAULTS, Stream
from gatepost.domain.tenant import ApiKey, DkimKey, Domain, Network, OAuthClient, Tenant
from gatepost.store import credentials, policies, streams, tenants
from gatepost.store.credentials import Stored
from gatepost.store.engine import Engine
from gatepost.tenants import keys
from gatepost.tenants.second_look import SecondLook

_NO_POLICY: Mapping[str, str] = {}
NEVER: Instant = 2**62
"""When something ends that has no end."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    A principal as a secret leads to it.

    Attributes:
        until: From then on the secret leads nowhere.
    """

    principal: Principal
    until: Instant
    key: ApiKey


@dataclass(frozen=True, slots=True)
class HeldClient:
    """
    An OAuth client with the hashes of its secrets.

    Attributes:
        until: From then on it gets no tokens, and those that it has are not taken.
        secrets: Hash and end of each secret.
    """

    principal: Principal
    until: Instant
    client: OAuthClient
    secrets: tuple[tuple[bytes, Instant], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One version of the configuration."""

    version: int
    secrets: Mapping[bytes, Held] = field(default_factory=dict)
    trusted: tuple[tuple[Network, Held], ...] = ()
    clients: Mapping[str, HeldClient] = field(default_factory=dict)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    domains: Mapping[tuple[str, str], Domain] = field(default_factory=dict)
    signing: Mapping[tuple[str, str], tuple[DkimKey, ...]] = field(default_factory=dict)
    streams: Mapping[str, Mapping[str, Stream]] = field(default_factory=dict)


class Directory:
    """The snapshot in use, kept fresh."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._snapshot = Snapshot(version=-1)
        self._looks = SecondLook(clock, self._load)

    def held(self, digest: bytes) -> Held | None:
        """Return what the hash of a secret leads to; whether it has ended is for the caller to ask."""
        return self._snapshot.secrets.get(digest)

    async def find(self, digest: bytes) -> Held | None:
        """Return the same, after a look into the database when it is not known."""
        found = self._snapshot.secrets.get(digest)
        if found is None and await self._looks.after_miss():
            found = self._snapshot.secrets.get(digest)
        return found

    async def authenticate(self, secret: str) -> ApiKey | None:
        """Return the key that a secret belongs to; None when there is none, or it is revoked or has expired."""
        if not keys.looks_like_key(secret):
            return None
        found = await self.find(keys.hash_secret(secret))
        return found.key if found is not None and self._clock.now() < found.until else None

    def trusting(self) -> tuple[tuple[Network, Held], ...]:
        """Return the networks whose SMTP clients need no AUTH, with the principal that they act as."""
        return self._snapshot.trusted

    def client(self, client_id: str) -> HeldClient | None:
        """Return an OAuth client that is not revoked."""
        return self._snapshot.clients.get(client_id)

    async def find_client(self, client_id: str) -> HeldClient | None:
        """Return the same, after a look into the database when it is not known."""
        found = self._snapshot.clients.get(client_id)
        if found is None and await self._looks.after_miss():
            found = self._snapshot.clients.get(client_id)
        return found

    def tenant(self, tenant_id: str) -> Tenant | None:
        """Return a tenant by id."""
        return self._snapshot.tenants.get(tenant_id)

    def tenant_named(self, id_or_name: str) -> Tenant | None:
        """Return a tenant by id or by name."""
        found = self._snapshot.tenants.get(id_or_name)
        return found or next((one for one in self._snapshot.tenants.values() if one.name == id_or_name), None)

    def is_suspended(self, tenant_id: str) -> bool:
        """Tell whether a tenant is suspended."""
        return tenant_id in self._snapshot.suspended

    def policy(self, tenant_id: str) -> Mapping[str, str]:
        """Return what a tenant changed of the gateway's policy on content; the same object until it changes."""
        return self._snapshot.policies.get(tenant_id, _NO_POLICY)

    def streams(self, tenant_id: str) -> Mapping[str, Stream]:
        """Return a tenant's streams by name."""
        return self._snapshot.streams.get(tenant_id, DEFAULTS)

    async def stream(self, tenant_id: str, name: str) -> Stream | None:
        """Return one of them, after a look into the database when it is not known."""
        found = self.streams(tenant_id).get(name)
        if found is None and await self._looks.after_miss():
            found = self.streams(tenant_id).get(name)
        return found

    async def domain(self, tenant_id: str, name: str) -> Domain | None:
        """Return a tenant's domain by name (lower-case A-labels)."""
        found = self._snapshot.domains.get((tenant_id, name))
        if (found is None or found.status != "verified") and await self._looks.after_miss():
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
        return await self._looks.look()

    async def _load(self) -> bool:
        if await self._engine.read(tenants.version) == self._snapshot.version:
            return False
        self._snapshot = await self._engine.read(_load)
        return True


def _load(conn: Connection) -> Snapshot:
    version = tenants.version(conn)
    every = tenants.all_tenants(conn)
    secrets: dict[bytes, Held] = {}
    trusted: list[tuple[Network, Held]] = []
    for stored in credentials.valid(conn, ApiKey):
        key, end = stored.credential, _end(stored.credential.expires_at)
        held = Held(key.principal(), end, key)
        for digest, until in _secrets_of(stored):
            secrets[digest] = held if until >= end else Held(held.principal, until, key)
        trusted += [(network, held) for network in key.trust_networks]
    return Snapshot(
        version=version,
        secrets=secrets,
        trusted=tuple(trusted),
        clients={one.credential.id: _hold(one) for one in credentials.valid(conn, OAuthClient)},
        tenants={one.id: one for one in every},
        suspended=frozenset(one.id for one in every if one.suspended_at is not None),
        policies=policies.every(conn),
        streams={tenant_id: {**DEFAULTS, **own} for tenant_id, own in streams.every(conn).items()},
        **_load_domains(conn),
    )


def _hold(stored: Stored[OAuthClient]) -> HeldClient:
    client = stored.credential
    return HeldClient(client.principal(), _end(client.expires_at), client, tuple(_secrets_of(stored)))


def _secrets_of(stored: Stored[Any]) -> Iterator[tuple[bytes, Instant]]:
    """List the hashes of a credential's secrets, each with its end."""
    if stored.secret_hash is not None:
        yield stored.secret_hash, NEVER
    if stored.previous_hash is not None and stored.credential.previous_until is not None:
        yield stored.previous_hash, stored.credential.previous_until


def _end(expires_at: Instant | None) -> Instant:
    return NEVER if expires_at is None else expires_at


def _load_domains(conn: Connection) -> dict[str, Any]:
    domains = tenants.domains(conn)
    signing: dict[str, list[DkimKey]] = {}
    for key in tenants.dkim_keys(conn, [domain.id for domain in domains]):
        if key.status == "active":
            signing.setdefault(key.domain_id, []).append(key)
    return {
        "domains": {(domain.tenant_id, domain.name): domain for domain in domains},
        "signing": {
            (domain.tenant_id, domain.name): tuple(sorted(signing.get(domain.id, ()), key=lambda key: key.algorithm != "rsa-sha256"))
            for domain in domains
        },
    }
