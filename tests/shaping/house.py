"""Real dispatch with real shaping and a real courier against a busy site on loopback, in virtual time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa

from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.roads import WatchedRoads
from gatepost.dispatch.shaping import SiteShaping
from gatepost.domain.route import shard_of
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import SocketDialer
from gatepost.settings import Egress, Retry, Settings
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine, open_store
from gatepost.store.schema import queue
from gatepost.testing.busy_site import BusySite
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.virtual_time import LoopClock
from tests.store.rows import NOW, put_message

SITE = "example.net"
ZONE = {SITE: {"MX": [f"10 mx.{SITE}"]}, f"mx.{SITE}": {"A": ["127.0.0.1"]}}


class Unsigned:
    """A directory of signing keys without any."""

    def signers(self, _tenant_id, _domain):
        return []


class House:
    """A dispatcher and what it stands on."""

    def __init__(self, engine: Any, settings: Settings, clock: LoopClock, blobs: Any) -> None:
        self.engine, self.settings, self.clock = engine, settings, clock
        self.courier = SmtpCourier(
            route="mx",
            settings=settings,
            relay=None,
            resolver=FakeResolver(ZONE),
            dialer=SocketDialer(),
            clock=clock,
            hostname="gw.acme.example",
        )
        self.shaping = SiteShaping(settings, engine)
        self.ownership = Ownership(engine, clock, "node_a", "host", 1, lease_s=60)
        self.dispatcher = Dispatcher(
            engine=engine, blobs=blobs, signing=Unsigned(), couriers={"mx": self.courier}, settings=settings, clock=clock, ownership=self.ownership,
            chance=random.Random(1), shaping=self.shaping, roads=WatchedRoads(engine, settings, clock, {"mx": self.courier}, machine="host"),
        )  # fmt: skip

    async def put(self, count: int, recipients: int = 1, *, pool: str = "default", route: str = "mx") -> None:
        """Queue messages for the site."""

        def work(conn):
            for _ in range(count):
                put_message(conn, domains=(SITE,) * recipients, expires_at=NOW + 10**9, route=route)
            conn.execute(sa.update(queue).values(pool=pool, shard=shard_of(pool, SITE)))

        await self.engine.write(work)

    async def run(self, seconds: float) -> None:
        """Dispatch for so long."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while loop.time() < ends:
            await self.dispatcher.wait(min(await self.dispatcher.step(), 0.1))


@contextlib.asynccontextmanager
async def house(tmp_path: Any, site: BusySite, *, egress: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[House]:
    """Start a house whose mail goes to the site."""
    clock = LoopClock(NOW)
    options = Egress(**{"mx_port": site.port, "default_route": "mx", **(egress or {})})
    chosen = Settings(egress=options, retry=Retry(schedule=[1, 1, 1], jitter=0), **settings)
    engine = create_engine("", tmp_path / "data")
    await open_store(engine, clock)
    opened = House(engine, chosen, clock, LocalBlobs(tmp_path / "blobs"))
    try:
        yield opened
    finally:
        await opened.dispatcher.stop(5)
        await opened.courier.close()
        await opened.shaping.close(clock.now())
        await engine.close()
