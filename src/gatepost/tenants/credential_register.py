"""
What the registers of API keys and of OAuth clients have in common: list, look up, change, rotate, revoke.

A credential whose secret is rotated keeps its identifier, its limits and its history: it has a new secret, and the old one
is taken until the overlap ends. Whoever may change credentials changes only those that they could have made: who gets a
new secret gets its rights. Every change stands in the audit log, in its own transaction.
Not here: what is made (key_register, client_register), who may give what (grants), what a request brings
(authentication, client_authentication), the SQL (store.credentials).
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Clock, Instant
from gatepost.domain.access import Actor, KeyMode, Principal, Restrictions
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import DEFAULT_TENANT, Credential
from gatepost.observe import maillog
from gatepost.store import audit, credentials, last_use, tenants
from gatepost.store.engine import Engine
from gatepost.store.last_use import LastUse
from gatepost.store.restrictions import columns_of
from gatepost.tenants import grants
from gatepost.tenants.directory import Directory
from gatepost.tenants.keys import hash_secret

C = TypeVar("C", bound=Credential)

LONGEST_OVERLAP = 30 * DAY
"""How long two secrets of one credential may live side by side."""


@dataclass(frozen=True, slots=True)
class Made(Generic[C]):
    """A credential with its new secret, which is shown this once; None when it has none."""

    credential: C
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to change of a credential; None leaves its name as it is, a restriction that is not named stays, too."""

    name: str | None = None
    restrictions: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Register(ABC, Generic[C]):
    """The credentials of one kind, of all tenants."""

    kind: type[C]
    prefix: ClassVar[str]
    """How their ids begin."""
    noun: ClassVar[str]
    """How people call one."""
    log_name: ClassVar[str]
    """How its actions in the audit log begin."""

    def __init__(self, engine: Engine, clock: Clock, directory: Directory | None = None) -> None:
        """
        Args:
            directory: Told at once what changed; other processes look every second.
        """
        self._engine = engine
        self._clock = clock
        self._directory = directory

    async def list(self, tenant_id: str) -> list[C]:
        """
        List a tenant's credentials, revoked ones too, the oldest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: credentials.of_tenant(conn, self.kind, tenant_id))

    async def get(self, tenant_id: str, identity: str) -> C:
        """
        Return a credential.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: self._find(conn, tenant_id, identity))

    async def tenant_of(self, identity: str) -> str | None:
        """
        Return the id of the tenant that a credential belongs to.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: credentials.tenant_of(conn, self.kind, identity))

    async def uses(self, found: Sequence[C]) -> dict[str, LastUse]:
        """
        Look up when credentials were used last; it may lag by half a minute.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: last_use.of(conn, [one.id for one in found]))

    async def update(self, tenant_id: str, identity: str, changes: Changes, *, by: Actor, maker: Principal | None) -> C:
        """
        Give a credential another name or other restrictions; it works on with the same secret.

        Raises:
            Refused: not_found; conflict when it is over; permission_denied when it is, or would be, more than its maker.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()

        def write(conn: Connection) -> C:
            old = self._find_usable(conn, tenant_id, identity, maker, now)
            new = dataclasses.replace(old, name=old.name if changes.name is None else changes.name, **changes.restrictions)
            if maker is not None:
                grants.check(maker, new, new.mode)
            check_operator(conn, new)
            credentials.update(conn, new)
            was, is_now = _facts_of(old), _facts_of(new)
            told = [name for name, value in is_now.items() if was[name] != value]
            self._record(conn, by, "changed", new, now, {name: was[name] for name in told}, {name: is_now[name] for name in told})
            return new

        changed = await self._engine.write(write)
        await self._tell("changed", changed, by)
        return changed

    async def rotate(self, tenant_id: str, identity: str, overlap_ms: int, *, by: Actor, maker: Principal | None) -> Made[C]:
        """
        Give a credential a new secret; the old one is taken for the overlap, one that is older still no more.

        Raises:
            Refused: not_found; conflict when it is over or has no secret; permission_denied when it can do more than its
                maker.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()

        def write(conn: Connection) -> Made[C]:
            old = self._find_usable(conn, tenant_id, identity, maker, now)
            secret = self._new_secret(old)
            new = dataclasses.replace(old, hint=secret[-4:], previous_until=now + overlap_ms)
            credentials.replace_secret(conn, new, hash_secret(secret))
            after = {"hint": new.hint, "previous_until": new.previous_until}
            self._record(conn, by, "rotated", new, now, {"hint": old.hint}, after)
            return Made(new, secret)

        rotated = await self._engine.write(write)
        await self._tell("rotated", rotated.credential, by)
        return rotated

    async def revoke(self, tenant_id: str, identity: str, *, by: Actor) -> None:
        """
        Revoke a credential, a client with all tokens that it has: refused from the next request on, within a second everywhere.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()

        def write(conn: Connection) -> C:
            found = self._find(conn, tenant_id, identity, is_locking=True)
            if found.revoked_at is None:
                credentials.revoke(conn, found, now)
                self._record(conn, by, "revoked", found, now, None, {"revoked_at": now})
            return found

        await self._tell("revoked", await self._engine.write(write), by)

    async def _add(self, made: C, secret: str | None, own: Mapping[str, Any], by: Actor) -> Made[C]:
        """
        Store a new credential.

        Args:
            own: What the audit log keeps of it that others do not have.

        Raises:
            Refused: permission_denied: it may not have the scope operator.
        """

        def write(conn: Connection) -> None:
            check_operator(conn, made)
            credentials.insert(conn, made, None if secret is None else hash_secret(secret))
            after = {**_facts_of(made), "mode": made.mode.value, **own}
            self._record(conn, by, "created", made, made.created_at, None, after)

        await self._engine.write(write)
        await self._tell("made", made, by)
        return Made(made, secret)

    @abstractmethod
    def _new_secret(self, one: C) -> str:
        """
        Make another secret.

        Raises:
            Refused: conflict: it has none.
        """

    def _find(self, conn: Connection, tenant_id: str, identity: str, *, is_locking: bool = False) -> C:
        is_id = ids.is_valid(identity, self.prefix)
        found = credentials.find(conn, self.kind, tenant_id, identity, is_locking=is_locking) if is_id else None
        if found is None:
            raise Refused("not_found", f"there is no such {self.noun}")
        return found

    def _find_usable(self, conn: Connection, tenant_id: str, identity: str, maker: Principal | None, now: Instant) -> C:
        """Find, to change it, one that is not over, and that its maker could have made."""
        found = self._find(conn, tenant_id, identity, is_locking=True)
        if found.is_over(now):
            raise Refused("conflict", f"the {self.noun} is revoked or has expired; make a new one")
        if maker is not None:
            grants.check(maker, found, found.mode)
        return found

    def _record(
        self, conn: Connection, by: Actor, verb: str, one: C, now: Instant, before: Mapping[str, Any] | None, after: Mapping[str, Any]
    ) -> None:
        action = f"{self.log_name}.{verb}"
        change = audit.Change(action=action, object_id=one.id, tenant_id=one.tenant_id, before=before, after=after)
        audit.append(conn, by, change, now)

    async def _tell(self, verb: str, one: C, by: Actor) -> None:
        maillog.changed(
            f"{self.log_name}_{verb}", tenant_id=one.tenant_id, mode=one.mode.value, by=by.id, **{f"{one.kind.value}_id": one.id}
        )  # fmt: skip
        if self._directory is not None:
            await self._directory.refresh()


def within(maker: Principal | None, wanted: Restrictions, mode: KeyMode) -> Restrictions:
    """
    Return what a new credential gets: what is left open is taken over from its maker.

    Args:
        maker: Who gives of their own rights; None is the command line, which may give all.

    Raises:
        Refused: permission_denied when it would go beyond its maker.
    """
    if maker is None:
        return wanted
    inherited = grants.inherit(maker, wanted)
    grants.check(maker, inherited, mode)
    return inherited


def check_operator(conn: Connection, one: Credential) -> None:
    """
    Refuse the scope `operator` outside the default tenant.

    Raises:
        Refused: permission_denied.
    """
    grants.check_operator(one.scopes, one.tenant_id, tenants.by_name(conn, DEFAULT_TENANT) or "")


def _facts_of(one: Credential) -> dict[str, Any]:
    """Return what the audit log keeps of what every credential has."""
    return {"name": one.name, **columns_of(one), "limits": [str(limit) for limit in one.limits]}
