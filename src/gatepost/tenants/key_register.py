"""
The register of API keys: made, listed, changed, rotated, revoked.

A rotated key keeps its identifier, its limits and its history: it has a new secret, and the old one is taken until the
overlap ends. Every change stands in the audit log, in its own transaction.
Not here: how a secret looks (keys), who may give what (grants), what a request brings (authentication), the SQL
(store.tenants).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Clock, Instant
from gatepost.domain.access import Actor, KeyMode, Network, Principal
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import DEFAULT_TENANT, ApiKey
from gatepost.observe import maillog
from gatepost.store import audit, last_use, tenants
from gatepost.store.engine import Engine
from gatepost.store.last_use import LastUse
from gatepost.store.restrictions import Restricted, columns_of
from gatepost.tenants import grants
from gatepost.tenants.directory import Directory
from gatepost.tenants.grants import Restrictions
from gatepost.tenants.keys import describe, hash_secret, make_secret

LONGEST_OVERLAP = 30 * DAY
"""How long two secrets of one key may live side by side."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key with its secret, which is shown this once."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to change of a key; None leaves it as it is."""

    name: str | None = None
    restrictions: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Keys:
    """The keys of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, directory: Directory | None = None) -> None:
        """
        Args:
            directory: Told at once what changed; other processes look every second.
        """
        self._engine = engine
        self._clock = clock
        self._directory = directory

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
    ) -> MadeKey:
        """
        Make a key.

        Args:
            maker: Who gives of their own rights; None is the command line, which may give all.

        Raises:
            Refused: permission_denied when it would go beyond its maker.
            StorageUnavailable: Nothing changed.
        """
        if maker is not None:
            restrictions = grants.inherit(maker, restrictions)
            grants.check(maker, restrictions, mode)
        now = self._clock.now()
        secret = make_secret(mode)
        made = describe(
            secret, tenant_id=tenant_id, name=name, mode=mode, now=now, trust_networks=trust_networks, restrictions=restrictions
        )
        await self._engine.write(lambda conn: _insert(conn, made, hash_secret(secret), by, now))
        await self._tell("key_made", made, by)
        return MadeKey(made, secret)

    async def list(self, tenant_id: str) -> list[ApiKey]:
        """
        List a tenant's keys, revoked ones too, the oldest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return [key for key, _ in await self._engine.read(lambda conn: tenants.keys(conn, tenant_id))]

    async def get(self, tenant_id: str, key_id: str) -> ApiKey:
        """
        Return a key.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: _find(conn, tenant_id, key_id))

    async def tenant_of(self, key_id: str) -> str | None:
        """
        Return the id of the tenant that a key belongs to.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: tenants.tenant_of_key(conn, key_id))

    async def uses(self, keys: Sequence[ApiKey]) -> dict[str, LastUse]:
        """
        Look up when keys were used last; it may lag by half a minute.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: last_use.of(conn, [key.id for key in keys]))

    async def update(self, tenant_id: str, key_id: str, changes: Changes, *, by: Actor, maker: Principal | None) -> ApiKey:
        """
        Give a key another name or other restrictions; it works on with the same secret.

        Raises:
            Refused: not_found; conflict when it is revoked; permission_denied when it is, or would be, more than its maker.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        changed = await self._engine.write(lambda conn: _update(conn, tenant_id, key_id, changes, maker, by, now))
        await self._tell("key_changed", changed, by)
        return changed

    async def rotate(self, tenant_id: str, key_id: str, overlap_ms: int, *, by: Actor, maker: Principal | None) -> MadeKey:
        """
        Give a key a new secret; the old one is taken for the overlap, one that is older still no more.

        Raises:
            Refused: not_found; conflict when the key is over; permission_denied when it can do more than its maker.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        rotated = await self._engine.write(lambda conn: _rotate(conn, tenant_id, key_id, overlap_ms, maker, by, now))
        await self._tell("key_rotated", rotated.key, by)
        return rotated

    async def revoke(self, tenant_id: str, key_id: str, *, by: Actor) -> None:
        """
        Revoke a key: refused from the next request on, within a second in every other process.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        revoked = await self._engine.write(lambda conn: _revoke(conn, tenant_id, key_id, by, now))
        await self._tell("key_revoked", revoked, by)

    async def _tell(self, what: str, key: ApiKey, by: Actor) -> None:
        maillog.changed(what, tenant_id=key.tenant_id, key_id=key.id, mode=key.mode.value, by=by.id)
        if self._directory is not None:
            await self._directory.refresh()


def facts_of(one: Restricted, name: str) -> dict[str, Any]:
    """Return what the audit log keeps of a key or client."""
    facts = {"name": name, **columns_of(one)}
    return {**facts, "limits": [str(limit) for limit in one.limits]}


def check_operator(conn: Connection, one: Restricted, tenant_id: str) -> None:
    """
    Refuse the scope `operator` outside the default tenant.

    Raises:
        Refused: permission_denied.
    """
    grants.check_operator(one.scopes, tenant_id, tenants.by_name(conn, DEFAULT_TENANT) or "")


def _insert(conn: Connection, made: ApiKey, secret_hash: bytes, by: Actor, now: Instant) -> None:
    check_operator(conn, made, made.tenant_id)
    tenants.insert_key(conn, made, secret_hash)
    after = {**facts_of(made, made.name), "mode": made.mode.value, "trust_networks": [str(one) for one in made.trust_networks]}
    audit.append(conn, by, audit.Change(action="key.created", object_id=made.id, tenant_id=made.tenant_id, after=after), now)


def _find(conn: Connection, tenant_id: str, key_id: str) -> ApiKey:
    found = tenants.find_key(conn, tenant_id, key_id) if ids.is_valid(key_id, "key") else None
    if found is None:
        raise Refused("not_found", "there is no such key")
    return found


def _find_usable(conn: Connection, tenant_id: str, key_id: str, maker: Principal | None, now: Instant) -> ApiKey:
    """Find a key that is not over, and that its maker could have made: whoever gets its secret gets its rights."""
    found = _find(conn, tenant_id, key_id)
    if found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
        raise Refused("conflict", "the key is revoked or has expired; make a new one")
    if maker is not None:
        grants.check(maker, restrictions_of(found), found.mode)
    return found


def restrictions_of(one: Restricted) -> Restrictions:
    """Return a key's restrictions by themselves."""
    return Restrictions(**{field.name: getattr(one, field.name) for field in dataclasses.fields(Restrictions)})


def _update(conn: Connection, tenant_id: str, key_id: str, changes: Changes, maker: Principal | None, by: Actor, now: Instant) -> ApiKey:
    old = _find_usable(conn, tenant_id, key_id, maker, now)
    new = dataclasses.replace(old, name=old.name if changes.name is None else changes.name, **changes.restrictions)
    if maker is not None:
        grants.check(maker, restrictions_of(new), new.mode)
    check_operator(conn, new, tenant_id)
    tenants.update_key(conn, new)
    before, after = facts_of(old, old.name), facts_of(new, new.name)
    names = [name for name, value in after.items() if before[name] != value]
    change = audit.Change(
        action="key.changed",
        object_id=key_id,
        tenant_id=tenant_id,
        before={name: before[name] for name in names},
        after={name: after[name] for name in names},
    )
    audit.append(conn, by, change, now)
    return new


def _rotate(conn: Connection, tenant_id: str, key_id: str, overlap_ms: int, maker: Principal | None, by: Actor, now: Instant) -> MadeKey:
    old = _find_usable(conn, tenant_id, key_id, maker, now)
    secret = make_secret(old.mode)
    new = dataclasses.replace(old, hint=secret[-4:], previous_until=now + overlap_ms)
    tenants.replace_key_secret(conn, key_id, hash_secret(secret), new.hint, now + overlap_ms)
    change = audit.Change(
        action="key.rotated",
        object_id=key_id,
        tenant_id=tenant_id,
        before={"hint": old.hint},
        after={"hint": new.hint, "previous_until": new.previous_until},
    )
    audit.append(conn, by, change, now)
    return MadeKey(new, secret)


def _revoke(conn: Connection, tenant_id: str, key_id: str, by: Actor, now: Instant) -> ApiKey:
    found = _find(conn, tenant_id, key_id)
    if found.revoked_at is None:
        tenants.revoke_key(conn, tenant_id, key_id, now)
        change = audit.Change(action="key.revoked", object_id=key_id, tenant_id=tenant_id, after={"revoked_at": now})
        audit.append(conn, by, change, now)
    return found
