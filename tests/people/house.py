"""Everything that people sign in with, over a real store, a clock that stands still, and hashing that costs little."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from gatepost import ids
from gatepost.domain.access import Principal, PrincipalKind, Role, Scope
from gatepost.domain.person import Person, SignedIn
from gatepost.domain.tenant import Caller, Tenant
from gatepost.settings import Settings
from gatepost.store import people as stored
from gatepost.store import tenants
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store
from gatepost.store.schema import audit
from gatepost.tenants.accounts import Accounts, Changing
from gatepost.tenants.one_time_links import Joining, OneTimeLinks
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People
from gatepost.tenants.sessions import Entered, Sessions, Visit
from gatepost.tenants.sign_in import SignIn
from gatepost.tenants.sign_in_pace import Pacing
from gatepost.tenants.sign_in_tickets import Tickets
from gatepost.testing.fake_clock import FakeClock

PASSWORD = "tulip anchor violet"
OTHER = "seven mossy kettles"


class CountedPasswords(Passwords):
    """Cheap hashing that counts its checks."""

    def __init__(self) -> None:
        super().__init__(memory_kib=64, passes=1)
        self.checks = 0

    def _check(self, stored: str | None, password: str) -> bool:
        self.checks += 1
        return super()._check(stored, password)


def visit(peer: str = "192.0.2.1", **more: Any) -> Visit:
    """Come from an address."""
    return Visit(peer=peer, agent="Mozilla/5.0", request_id="req_1", **more)


def operator(tenant_id: str) -> Caller:
    """Sit at the machine."""
    principal = Principal(id="local", kind=PrincipalKind.LOCAL, tenant_id=tenant_id, name="root", scopes=frozenset(Scope))
    return Caller(principal=principal, peer="", request_id="")


@dataclass
class House:
    """The parts, made as the pages make them."""

    engine: Engine
    tenant_id: str
    settings: Settings = field(default_factory=Settings)
    clock: FakeClock = field(default_factory=FakeClock)
    passwords: CountedPasswords = field(default_factory=CountedPasswords)

    def __post_init__(self) -> None:
        engine, clock, settings = self.engine, self.clock, self.settings
        self.tickets = Tickets(engine, clock)
        self.sign_in = SignIn(engine, clock, settings, self.passwords, Pacing(clock), self.tickets)
        self.links = OneTimeLinks(engine, clock, settings, self.passwords)
        self.people = People(engine, clock, settings)
        self.sessions = Sessions(engine, clock, settings)
        self.accounts = Accounts(engine, clock, self.passwords, self.tickets)

    async def set_up(self, email: str = "ann@acme.example", name: str = "Ann Lee") -> Entered:
        """Make the first person."""
        return await self.links.set_up(await self.links.make_setup(), Joining(email=email, name=name, password=PASSWORD), visit())

    async def join(self, email: str, role: Role, tenant_id: str = "") -> Entered:
        """Invite somebody, who accepts."""
        made = await self.people.invite(operator(self.tenant_id), tenant_id or self.tenant_id, email, role)
        return await self.links.accept(made.token, Joining(name="Somebody Else", password=PASSWORD), visit())

    async def signed_in(self, entered: Entered) -> SignedIn:
        """Look a session up as a page would."""
        found = await self.sessions.find(entered.token, is_use=True)
        assert found is not None
        return found

    async def caller(self, entered: Entered) -> Caller:
        """Act as somebody who signed in."""
        return Caller(principal=(await self.signed_in(entered)).principal, peer="192.0.2.1", request_id="req_1")

    async def changing(self, entered: Entered) -> Changing:
        """Change something about oneself."""
        return Changing(by=await self.caller(entered), signed_in=await self.signed_in(entered))

    async def person(self, email: str = "ann@acme.example") -> Person:
        """Read a person."""
        found = await self.engine.read(lambda conn: stored.by_email(conn, email))
        assert found is not None
        return found

    async def make_tenant(self, name: str) -> str:
        """Add a tenant."""
        tenant_id = ids.new("ten")
        await self.engine.write(lambda conn: tenants.insert_tenant(conn, Tenant(id=tenant_id, name=name, created_at=self.clock.now())))
        return tenant_id

    async def audited(self) -> list[str]:
        """List the actions in the audit log that are about people and sessions."""
        rows = await self.engine.read(lambda conn: conn.execute(sa.select(audit.c.action).order_by(audit.c.seq)).scalars().all())
        return [row for row in rows if row.startswith(("person.", "session"))]


def in_house(make_engine: Callable[[], Engine], work: Callable[[House], Awaitable[None]], **settings: Any) -> None:
    """Run a test's work in a fresh house."""

    async def main() -> None:
        engine = make_engine()
        clock = FakeClock()
        tenant_id = await open_store(engine, clock)
        house = House(engine, tenant_id, Settings(**settings), clock)
        try:
            await work(house)
        finally:
            house.passwords.close()
            await engine.close()

    asyncio.run(main())
