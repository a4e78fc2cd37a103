"""
Tenants: made, suspended, resumed; each change with its entry in the audit log.

From a suspended tenant nothing is taken at any door, and what it has in the queue is held: it is neither tried nor failed
until the tenant is resumed.
Not here: who refuses (the doors, by the directory), who holds (dispatch.holding), the SQL (store.tenants).
"""

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.tenant import Tenant
from gatepost.observe import maillog
from gatepost.store import audit, tenants
from gatepost.store.engine import Engine

LONGEST_NAME = 200


class Tenants:
    """All tenants, as the operator sees them."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def create(self, name: str, by: Actor) -> Tenant:
        """
        Make a tenant.

        Raises:
            Refused: validation_failed when the name is none; conflict when another tenant has it.
            StorageUnavailable: Nothing changed.
        """
        made = Tenant(id=ids.new("ten"), name=canonical_name(name), created_at=self._clock.now())
        try:
            await self._engine.write(lambda conn: _insert(conn, made, by))
        except IntegrityError:
            raise Refused("conflict", "there is a tenant with this name already") from None
        maillog.changed("tenant_created", tenant_id=made.id, by=by.id)
        return made

    async def list(self) -> list[Tenant]:
        """
        List all tenants, the oldest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(tenants.all_tenants)

    async def get(self, id_or_name: str) -> Tenant:
        """
        Return a tenant.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: tenants.named(conn, id_or_name))

    async def suspend(self, id_or_name: str, by: Actor) -> Tenant:
        """
        Take nothing more from a tenant, and hold its mail; suspending it again changes nothing.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        return await self._set(id_or_name, by, self._clock.now())

    async def resume(self, id_or_name: str, by: Actor) -> Tenant:
        """
        Let a suspended tenant go on, and its mail with it; resuming it again changes nothing.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        return await self._set(id_or_name, by, None)

    async def _set(self, id_or_name: str, by: Actor, suspended_at: Instant | None) -> Tenant:
        now = self._clock.now()
        found = await self._engine.write(lambda conn: _set(conn, id_or_name, suspended_at, by, now))
        what = "tenant_resumed" if suspended_at is None else "tenant_suspended"
        maillog.changed(what, tenant_id=found.id, by=by.id)
        return found


def canonical_name(name: str) -> str:
    """
    Check a tenant's name; spaces around it do not count.

    Raises:
        Refused: validation_failed when it is empty, too long, or could be taken for an id.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name.startswith("ten_"):
        what = f"give the tenant a name of at most {LONGEST_NAME} printable characters that does not start with ten_"
        raise invalid(Fault("/name", "invalid_name", what))
    return name


def _insert(conn: Connection, made: Tenant, by: Actor) -> None:
    tenants.insert_tenant(conn, made)
    change = audit.Change(action="tenant.created", object_id=made.id, tenant_id=made.id, after={"name": made.name})
    audit.append(conn, by, change, made.created_at)


def _set(conn: Connection, id_or_name: str, suspended_at: Instant | None, by: Actor, now: Instant) -> Tenant:
    before = tenants.named(conn, id_or_name)
    if not tenants.set_suspended(conn, before.id, suspended_at):
        return before
    after = tenants.named(conn, before.id)
    change = audit.Change(
        action="tenant.resumed" if suspended_at is None else "tenant.suspended", object_id=after.id, tenant_id=after.id,
        before={"suspended_at": before.suspended_at}, after={"suspended_at": after.suspended_at},
    )  # fmt: skip
    audit.append(conn, by, change, now)
    return after
