"""
A whole HTTP door for tests: real store on SQLite, real acceptor, real uvicorn on an ephemeral port of loopback.

The loop runs in a thread of its own, so that tests, and schemathesis, can speak plain blocking HTTP to it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import sqlalchemy as sa

from gatepost import ids
from gatepost.accept import Acceptor
from gatepost.accept.admission import AdmissionControl
from gatepost.clock import SystemClock
from gatepost.control import Control
from gatepost.domain.access import GATEWAY
from gatepost.domain.tenant import KeyMode, Tenant
from gatepost.engaged import Counting
from gatepost.http.app import HttpDeps, create_app
from gatepost.http.server import HttpDoor
from gatepost.net.dns import NoDomain, TextAnswer
from gatepost.policy.visitors import load_rules
from gatepost.screening.screener import Screener
from gatepost.settings import Settings
from gatepost.store import credentials, tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine, open_store
from gatepost.suppressing import Suppressing
from gatepost.tenants import keys
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.identity import create_identity
from gatepost.tenants.limits import Limits
from gatepost.tenants.policies import Policies
from gatepost.tenants.routing import Routing
from gatepost.tenants.source_health import SourceHealth
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.fake_lookup import DictLookup
from gatepost.tracking.desk import TrackingDesk, TrackingOptions
from gatepost.wire.tracking_token import TrackingTokens

T = TypeVar("T")
DOMAIN = "acme.example"
TOKENS = TrackingTokens(key=b"a key of tests")
"""What the door believes in pixels, links and pages."""


class EmptyDns:
    """A resolver that knows no name."""

    async def txt(self, name: str) -> TextAnswer:
        """Answer that there is none."""
        return NoDomain()


@dataclass
class Rig:
    """A running door and what is behind it."""

    deps: HttpDeps
    door: HttpDoor
    admission: AdmissionControl
    loop: asyncio.AbstractEventLoop
    key: str
    test_key: str
    other_key: str
    other_tenant_id: str
    problems: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    @property
    def engine(self) -> Engine:
        return self.deps.engine

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine on the door's loop."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(_await(work), self.loop)
        return future.result(timeout=60)

    def client(self, key: str | None = "") -> httpx.Client:
        """Make a client with a key; None is without."""
        headers = {} if key is None else {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, limits=httpx.Limits(max_connections=100))

    def count(self, table: str) -> int:
        """Count a table's rows."""
        return int(self.run(self.engine.read(lambda conn: conn.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())))


async def _await(work: Awaitable[T]) -> T:
    return await work


@contextlib.contextmanager
def running_door(directory: Path, settings: Settings | None = None, *, has_limits: bool = False) -> Iterator[Rig]:
    """Run a door until the block ends; with limits it also caps what one recipient gets."""
    settings = settings or Settings()
    settings = msgspec.structs.replace(settings, http=msgspec.structs.replace(settings.http, listen="127.0.0.1:0"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    rig = asyncio.run_coroutine_threadsafe(_start(directory, settings, loop, has_limits=has_limits), loop).result(timeout=60)
    try:
        yield rig
    finally:
        asyncio.run_coroutine_threadsafe(_stop(rig), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)


async def _start(directory: Path, settings: Settings, loop: asyncio.AbstractEventLoop, *, has_limits: bool) -> Rig:
    clock = SystemClock()
    engine = create_engine("", directory)
    tenant_id = await open_store(engine, clock)
    other_tenant_id = ids.new("ten")
    other = Tenant(id=other_tenant_id, name="other", created_at=clock.now())
    await engine.write(lambda conn: tenants.insert_tenant(conn, other))
    directory_ = Directory(engine, clock)
    domains = Domains(engine, clock, EmptyDns(), directory_)
    await domains.add(tenant_id, DOMAIN, by=GATEWAY, is_trusted=True)
    await domains.add(other_tenant_id, "other.example", by=GATEWAY, is_trusted=True)
    wanted = ((tenant_id, KeyMode.LIVE), (tenant_id, KeyMode.TEST), (other_tenant_id, KeyMode.LIVE))
    made = [await _key(engine, one, mode) for one, mode in wanted]
    await directory_.refresh()
    blobs = LocalBlobs(directory / "blobs")
    admission = AdmissionControl(settings.admission, clock, chance=lambda: 0.0)
    limits = Limits(engine, clock, settings) if has_limits else None
    routing = Routing(engine, directory_, settings, clock)
    await routing.refresh()
    acceptor = Acceptor(
        engine=engine, blobs=blobs, directory=directory_, settings=settings, clock=clock, hostname="gate.example", admission=admission,
        screening=Screener(settings=settings, policies=directory_, resolver=FakeResolver(), clock=clock),
        limits=limits, routing=routing,
    )  # fmt: skip
    problems: list[str] = []
    lookup = DictLookup({})
    deps = HttpDeps(
        domain_health=DomainHealth(engine, clock, lookup, domains, SourceHealth(engine, clock, lookup, [], []), settings),
        engine=engine, blobs=blobs, acceptor=acceptor, control=Control(engine, settings, clock), directory=directory_, domains=domains,
        identity=create_identity(engine, directory_, clock, settings), policies=Policies(engine, clock, settings.screening, directory_),
        settings=settings, clock=clock, default_tenant_id=tenant_id, is_ready=_ready(problems), limits=limits, routing=routing,
        tracking=TrackingDesk(engine, clock, TOKENS, Suppressing(), TrackingOptions(how=Counting(rules=load_rules(soon_ms=0)))),
    )  # fmt: skip
    door = HttpDoor(create_app(deps), settings, admission=admission)
    await door.start()
    return Rig(
        deps=deps,
        door=door,
        admission=admission,
        loop=loop,
        key=made[0],
        test_key=made[1],
        other_key=made[2],
        other_tenant_id=other_tenant_id,
        problems=problems,
    )


def _ready(problems: list[str]) -> Callable[[], Awaitable[list[str]]]:
    async def is_ready() -> list[str]:
        return list(problems)

    return is_ready


async def _key(engine: Engine, tenant_id: str, mode: KeyMode) -> str:
    secret = keys.make_secret(mode)
    made = keys.describe(secret, tenant_id=tenant_id, name="test", mode=mode, now=SystemClock().now())
    await engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret)))
    return secret


async def _stop(rig: Rig) -> None:
    await rig.door.stop()
    await rig.deps.acceptor.drain()
    await rig.engine.close()


def message(**changes: Any) -> dict[str, Any]:
    """Make a message's JSON."""
    body: dict[str, Any] = {"from": f"Acme <shop@{DOMAIN}>", "to": ["ann@example.net"], "subject": "Order 42", "text": "Hi"}
    return {**body, **changes}
