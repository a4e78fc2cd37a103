"""A small server of the pages alone: own thread, own loop, own data directory, an ephemeral port of 127.0.0.1."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from litestar import Litestar

from gatepost.clock import Clock, SystemClock
from gatepost.control import Control
from gatepost.dashboard.routes import routes
from gatepost.settings import Egress, Http, Settings
from gatepost.store.blobs import Blobs, LocalBlobs
from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.source_health import SourceHealth
from gatepost.testing.fake_lookup import DictLookup, FakeTexts

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the pages need, as the HTTP door gives it."""

    engine: Engine
    blobs: Blobs
    control: Control
    directory: Directory
    domains: Domains
    domain_health: DomainHealth
    settings: Settings
    clock: Clock
    default_tenant_id: str
    routing: Any = None
    probe_relay: Any = None
    placement: Any = None


class Site:
    """A running server of pages."""

    def __init__(self, directory: Path, settings: Settings, host: str = "127.0.0.1") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)  # with no protocol named, asyncio would leave Nagle on
        self._socket.bind((host, 0))
        self.ids: dict[str, str] = {}
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.deps = self.run(self._open(directory, settings))
        self.app = app = Litestar(route_handlers=routes(self.deps, Passwords(memory_kib=64, passes=1)), openapi_config=None)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, log_level="error", lifespan="on", timeout_graceful_shutdown=1, proxy_headers=False
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._running = asyncio.run_coroutine_threadsafe(self._server.serve(sockets=[self._socket]), self._loop)
        while not self._server.started:
            self.run(asyncio.sleep(0.01))

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine on the server's loop."""

        async def wait() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(30)

    def write(self, work: Callable[[Any], T]) -> T:
        """Run a query that writes."""
        return self.run(self.deps.engine.write(work))

    def stop(self) -> None:
        """Stop the server and close the database."""
        self.app.state.is_closing = True
        self._server.should_exit = True
        self._running.result(10)
        with contextlib.suppress(Exception):
            self.run(self.deps.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @staticmethod
    async def _open(directory: Path, settings: Settings) -> Deps:
        clock = SystemClock()
        engine = create_engine("", directory)
        tenant_id = await open_store(engine, clock)
        directory_of_keys = Directory(engine, clock)
        await directory_of_keys.refresh()
        lookup = DictLookup({})
        domains = Domains(engine, clock, FakeTexts(lookup), directory_of_keys)
        health = DomainHealth(engine, clock, lookup, domains, SourceHealth(engine, clock, lookup, [], []), settings)
        return Deps(
            domains=domains, domain_health=health,
            engine=engine, blobs=LocalBlobs(directory / "blobs"), control=Control(engine, settings, clock), directory=directory_of_keys,
            settings=settings, clock=clock, default_tenant_id=tenant_id,
        )  # fmt: skip


@contextlib.contextmanager
def running_site(directory: Path, *, show_content: bool = False, route: str = "sandbox", **more: Any) -> Iterator[Site]:
    """
    Run the pages over a data directory.

    Args:
        more: Further sections of the settings.
    """
    site = Site(directory, Settings(http=Http(show_content=show_content), egress=Egress(default_route=route), **more))
    try:
        yield site
    finally:
        site.stop()
