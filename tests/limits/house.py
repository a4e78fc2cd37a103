"""An acceptor with limits on a fresh database: what the tests of limits stand on."""

import asyncio
import contextlib
from dataclasses import replace

import msgspec

from gatepost import ids
from gatepost.accept import AcceptedMessage, Acceptor
from gatepost.domain.access import Actor, KeyMode, Principal, PrincipalKind, parse_limit
from gatepost.domain.address import parse_mailbox
from gatepost.domain.allowance import Wanted
from gatepost.domain.errors import Refused
from gatepost.domain.message import Lane, Steering, Submission
from gatepost.domain.tenant import Caller, Domain, DomainStatus, Tenant
from gatepost.settings import Rates, Settings
from gatepost.store import tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.tenants.directory import Directory
from gatepost.tenants.limits import Limits
from gatepost.tenants.metering import Metering
from gatepost.testing.fake_clock import FakeClock

BY = Actor(kind=PrincipalKind.LOCAL, id="local", name="test")


def principal(tenant_id="ten_a", key_id="key_a", limits=(), mode=KeyMode.LIVE):
    return Principal(
        id=key_id, kind=PrincipalKind.KEY, tenant_id=tenant_id, name="test", mode=mode, limits=tuple(parse_limit(one) for one in limits)
    )


def caller(*args, **kwargs):
    return Caller(principal=principal(*args, **kwargs), peer="127.0.0.1", request_id=ids.new("req"))


def wanted(recipients=1, size=100, domain="acme.example"):
    return Wanted(
        recipients=[f"r{n}@example.net" for n in range(recipients)], size_bytes=size, stream="transactional", lane=Lane.TRANSACTIONAL,
        domain=domain, route="sandbox",
    )  # fmt: skip


def submission(*to, stream="transactional", sender="shop@acme.example", **fields):
    fields = {"subject": "Hi", "text": "Hello", **fields}
    steering = Steering(stream=stream)
    return Submission(
        sender=parse_mailbox(sender), to=tuple(parse_mailbox(one) for one in to or ("ann@example.net",)), steering=steering, **fields
    )


async def refusal_of(awaitable):
    """Return the refusal that something ends in; None when it does not."""
    try:
        await awaitable
    except Refused as refused:
        return refused
    return None


async def count_passed(awaitables):
    """Run all at once; return how many were not refused, with the codes of the others."""
    answers = await asyncio.gather(*awaitables, return_exceptions=True)
    refusals = [one for one in answers if isinstance(one, BaseException)]
    for one in refusals:
        if not isinstance(one, Refused):
            raise one
    return len(answers) - len(refusals), {one.code for one in refusals}


class Node:
    """One door process: its own engine, directory, limits and acceptor, on the database that all share."""

    def __init__(self, house, valkey=None):
        self.engine = house.make_engine()
        self.limits = Limits(self.engine, house.clock, house.settings, valkey)
        self.directory = Directory(self.engine, house.clock)
        self.acceptor = Acceptor(
            engine=self.engine, blobs=LocalBlobs(house.tmp_path / "blobs"), directory=self.directory, settings=house.settings,
            clock=house.clock, hostname="gw.example", limits=self.limits, node=f"node{len(house.nodes)}",
        )  # fmt: skip

    async def refresh(self):
        await self.directory.refresh()
        await self.limits.refresh()

    async def close(self):
        await self.acceptor.drain()
        await self.limits.close()
        await self.engine.close()

    async def crash(self):
        """End without giving anything back."""
        await self.acceptor.drain()
        await self.engine.close()


class House:
    """A database with the default tenant, a verified domain, and as many nodes as are asked for."""

    def __init__(self, make_engine, tmp_path, clock=None, **rates):
        self.make_engine = make_engine
        self.tmp_path = tmp_path
        self.clock = clock or FakeClock()
        self.settings = msgspec.structs.replace(Settings(), rates=msgspec.structs.replace(Rates(), **rates))
        self.nodes = []

    async def __aenter__(self):
        self.engine = self.make_engine()
        self.tenant_id = await open_store(self.engine, self.clock)
        await self.add_domain(self.tenant_id, "acme.example")
        self.metering = Metering(self.engine, self.clock)
        self.node = await self.new_node()
        return self

    async def __aexit__(self, *_):
        for node in self.nodes:
            await node.close()
        await self.engine.close()

    async def new_node(self, valkey=None):
        node = Node(self, valkey)
        self.nodes.append(node)
        await node.refresh()
        return node

    async def add_tenant(self, name):
        tenant = Tenant(id=ids.new("ten"), name=name, created_at=self.clock.now())
        await self.engine.write(lambda conn: tenants.insert_tenant(conn, tenant))
        await self.add_domain(tenant.id, f"{name}.example")
        return tenant.id

    async def add_domain(self, tenant_id, name):
        domain = Domain(
            id=ids.new("dom"), tenant_id=tenant_id, name=name, status=DomainStatus.VERIFIED, is_trusted=True, created_at=self.clock.now()
        )
        await self.engine.write(lambda conn: tenants.insert_domain(conn, domain))

    def caller(self, *limits, tenant_id=None, key_id="key_a", mode=KeyMode.LIVE):
        return caller(tenant_id or self.tenant_id, key_id, limits, mode)

    async def set_limits(self, *texts):
        await self.metering.change_limits(self.tenant_id, [parse_limit(text) for text in texts], BY)
        for node in self.nodes:
            await node.refresh()


def play(make_engine, tmp_path, work, **settings):
    """Run a test's coroutine in a house."""

    async def run():
        async with House(make_engine, tmp_path, **settings) as house:
            await asyncio.wait_for(work(house), 90)

    asyncio.run(run())


__all__ = [
    "BY",
    "AcceptedMessage",
    "House",
    "Node",
    "caller",
    "contextlib",
    "count_passed",
    "play",
    "principal",
    "refusal_of",
    "replace",
    "submission",
    "wanted",
]
