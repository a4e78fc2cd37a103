"""Two processes over one database, with keys and OAuth clients: what the tests of identity stand on."""

import asyncio
from dataclasses import dataclass, field

from gatepost import ids
from gatepost.domain.access import Actor, KeyMode, PrincipalKind, Restrictions, Scope
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import Tenant
from gatepost.settings import OAuth, Settings
from gatepost.store import tenants
from gatepost.store.opening import open_store
from gatepost.tenants.client_authentication import OAuthRefused, Shown
from gatepost.tenants.client_register import Clients
from gatepost.tenants.directory import Directory
from gatepost.tenants.identity import create_identity
from gatepost.tenants.key_register import Keys
from gatepost.testing.fake_clock import FakeClock

BY = Actor(kind=PrincipalKind.LOCAL, id="local", name="test")
ISSUER = "https://gate.example"
PEER = "192.0.2.7"


@dataclass
class Process:
    """What one door process knows."""

    engine: object
    directory: Directory
    identity: object

    async def tick(self):
        """What happens every second."""
        await self.directory.refresh()
        await self.identity.refresh()

    async def tried(self, secret, peer=PEER):
        """Return the code that a secret is refused with; None when it is good."""
        try:
            await self.identity.authenticator.authenticate(secret, peer)
        except Refused as refused:
            return refused.code
        return None

    async def token(self, shown, scope=None, peer=PEER, grant_type="client_credentials"):
        return (await self.identity.authorization.token(shown, peer, grant_type, scope)).text

    async def refused_token(self, shown, scope=None, peer=PEER, grant_type="client_credentials"):
        """Return the error that a request for a token ends in; None when it does not."""
        try:
            await self.token(shown, scope, peer, grant_type)
        except OAuthRefused as refused:
            return refused.error
        return None


@dataclass
class House:
    make_engine: object
    settings: Settings = field(default_factory=lambda: Settings(oauth=OAuth(issuer=ISSUER)))
    clock: FakeClock = field(default_factory=FakeClock)

    async def __aenter__(self):
        self.processes = []
        self.here = self.start()
        self.tenant_id = await open_store(self.here.engine, self.clock)
        self.other_id = ids.new("ten")
        other = Tenant(id=self.other_id, name="other", created_at=self.clock.now())
        await self.here.engine.write(lambda conn: tenants.insert_tenant(conn, other))
        self.there = self.start()
        self.keys = Keys(self.here.engine, self.clock)
        self.clients = Clients(self.here.engine, self.clock)
        await self.tick()
        return self

    async def __aexit__(self, *_):
        for process in self.processes:
            await process.engine.close()

    def start(self, settings=None):
        """Start one more process over the same database."""
        engine = self.make_engine()
        directory = Directory(engine, self.clock)
        made = Process(engine, directory, create_identity(engine, directory, self.clock, settings or self.settings))
        self.processes.append(made)
        return made

    async def tick(self, seconds=1.0):
        """Let time pass; every process looks a moment before it is over."""
        self.clock.advance(seconds - 0.1)
        for process in self.processes:
            await process.tick()
        self.clock.advance(0.1)

    async def key(self, tenant_id=None, mode=KeyMode.LIVE, trust=(), **restrictions):
        return await self.keys.create(
            tenant_id or self.tenant_id, "k", mode, Restrictions(**restrictions), by=BY, maker=None, trust_networks=trust
        )

    async def client(self, tenant_id=None, jwks=None, scopes=(Scope.MESSAGES_SEND, Scope.MESSAGES_READ), **restrictions):
        """Make a client; return it with what it shows."""
        narrowed = Restrictions(scopes=frozenset(scopes), **restrictions)
        made = await self.clients.create(tenant_id or self.tenant_id, "c", KeyMode.LIVE, narrowed, by=BY, maker=None, jwks=jwks)
        return made.credential, Shown(client_id=made.credential.id, secret=made.secret)

    async def suspend(self, tenant_id, at):
        await self.here.engine.write(lambda conn: tenants.set_suspended(conn, tenant_id, at))


def run(make_engine, work, **house):
    async def main():
        async with House(make_engine, **house) as opened:
            await work(opened)

    asyncio.run(main())
