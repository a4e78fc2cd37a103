"""A tenant with webhooks, real consumers on loopback, and the loop that delivers, one step at a time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.event import Event, EventType
from gatepost.domain.tenant import Tenant
from gatepost.domain.webhook import Webhook
from gatepost.settings import Settings, Webhooks
from gatepost.store import facts, tenants
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store
from gatepost.tenants.webhooks import WebhookRegister
from gatepost.testing.fake_clock import FakeClock
from gatepost.webhooks.loop import HookLoop
from tests.store.rows import put_message


@dataclass
class Call:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Consumer:
    """A server that keeps what comes, and answers what it is told to."""

    answer: Callable[[Call], Any] = lambda call: 200
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def ids(self) -> list[str]:
        return [call.id for call in self.calls]

    async def handle(self, request: web.Request) -> web.Response:
        call = Call(request.path, {name.lower(): value for name, value in request.headers.items()}, await request.read())
        answer = self.answer(call)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, web.Response):
            return answer
        self.calls.append(call)
        return web.Response(status=answer, text="" if answer < 300 else "no, sorry")


@contextlib.asynccontextmanager
async def consuming(answer: Callable[[Call], Any] = lambda call: 200) -> AsyncIterator[Consumer]:
    """Run a consumer on a free port."""
    consumer = Consumer(answer)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", consumer.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    consumer.port = runner.addresses[0][1]
    try:
        yield consumer
    finally:
        await runner.cleanup()


@dataclass
class House:
    """One tenant with what is behind its webhooks."""

    engine: Engine
    clock: FakeClock
    settings: Settings
    tenant_id: str
    register: WebhookRegister

    def loop(self, node_id: str = "node-1", resolver: Any = None) -> HookLoop:
        return HookLoop(self.engine, self.clock, self.settings, resolver, node_id)

    async def make(self, url: str, **values: Any) -> Webhook:
        return await self.register.create(self.tenant_id, {"url": url, **values}, by=GATEWAY)

    async def message(self, **values: Any) -> str:
        rows = await self.engine.write(lambda conn: put_message(conn, tenant_id=self.tenant_id, **values))
        return rows[0].message_id

    def event(
        self, kind: EventType = EventType.SUPPRESSION_ADDED, message_id: str | None = None, n: int | None = None, **data: Any
    ) -> Event:
        return Event(id=ids.new("evt"), type=kind, tenant_id=self.tenant_id, at=self.clock.now(), message_id=message_id, n=n, data=data)

    async def happen(self, *events: Event) -> list[str]:
        await self.engine.write(lambda conn: facts.insert_events(conn, events))
        return [event.id for event in events]


def settings(**options: Any) -> Settings:
    """Settings that let webhooks lead to loopback."""
    return msgspec.structs.replace(Settings(), webhooks=Webhooks(**{"allow_networks": ["127.0.0.0/8"], "timeout_s": 5.0, **options}))


@contextlib.asynccontextmanager
async def opened(make_engine: Callable[[], Engine], **options: Any) -> AsyncIterator[House]:
    """Open a store with a tenant."""
    engine, clock = make_engine(), FakeClock(SystemClock().now())
    await open_store(engine, clock)
    tenant = Tenant(id=ids.new("ten"), name="acme", created_at=clock.now())
    await engine.write(lambda conn: tenants.insert_tenant(conn, tenant))
    wanted = settings(**options)
    try:
        yield House(engine, clock, wanted, tenant.id, WebhookRegister(engine, clock, wanted))
    finally:
        await engine.close()


async def run_until(loop: HookLoop, condition: Callable[[], Any], *, clock: FakeClock | None = None, seconds: float = 30) -> None:
    """Step until a condition holds; with a clock, let a second pass at each step."""
    async with asyncio.timeout(seconds):
        while not condition():
            if clock is not None:
                clock.advance(1)
            await loop.step()
            await asyncio.sleep(0.01)


async def settle_down(loop: HookLoop) -> None:
    """Step until nothing is under way and nothing is due."""
    async with asyncio.timeout(30):
        quiet = 0
        while quiet < 3:
            await loop.step()
            await asyncio.sleep(0.01)
            quiet = quiet + 1 if loop.is_idle else 0
