"""The loop over domains: one process works, all domains get their turn, one's trouble stays its own; on both databases."""

import asyncio

import pytest

from gatepost.clock import HOUR
from gatepost.domain.access import GATEWAY
from gatepost.settings import Egress, Settings, Watch
from gatepost.store import health
from gatepost.store.opening import open_store
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.source_health import SourceHealth, senders_of
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_lookup import DictLookup, FakeTexts
from gatepost.watch.domains import DomainWatch
from tests.watch.zones import ADDRESS, HOSTNAME, good_zone

SETTINGS = Settings(egress=Egress(default_route="mx", hostname=HOSTNAME), watch=Watch(addresses=[ADDRESS], blocklists=[], concurrency=3))


class Counting(DictLookup):
    """Lets three domains be looked at at once, and counts them; with fewer it would wait for ever."""

    at_once = most = 0

    def __init__(self, zone) -> None:
        super().__init__(zone)
        self.barrier = asyncio.Barrier(3)

    async def records(self, name, kind, *, may_be_kept=False):
        is_first = name.startswith("_smtp._tls.")
        if is_first:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await self.barrier.wait()
            self.at_once -= 1
        return await super().records(name, kind, may_be_kept=may_be_kept)


@pytest.mark.parametrize("count", [6])
def test_one_process_looks_at_every_domain_once_an_hour(make_engine, count: int) -> None:
    """Two gateways on one database: each domain is looked at once, three at a time at most; after an hour again, by either."""

    async def main() -> None:
        first, second, clock, lookup = make_engine(), make_engine(), FakeClock(), Counting({})
        tenant_id = await open_store(first, clock)
        domains = Domains(first, clock, FakeTexts(lookup))
        for n in range(count):
            view = await domains.add(tenant_id, f"d{n}.test", by=GATEWAY)
            lookup.zone.update(good_zone(view, f"d{n}.test"))
        watches = []
        for name, engine in (("a", first), ("b", second)):
            sources = SourceHealth(engine, clock, lookup, senders_of(SETTINGS), [])
            looking = DomainHealth(engine, clock, lookup, Domains(engine, clock, FakeTexts(lookup)), sources, SETTINGS, chance=lambda: 0.0)
            watches.append(DomainWatch(engine, clock, looking, sources, SETTINGS.watch, name))
        assert await watches[0].step() == count
        assert await watches[1].step() == 0
        assert lookup.most == 3
        rows = await first.read(lambda conn: health.tenant_rows(conn, tenant_id))
        assert {row.state for row in rows.values()} == {"ok"}
        assert set(await first.read(health.sources)) == {ADDRESS}
        assert all(view.domain.status == "verified" for view in await domains.list(tenant_id))
        clock.advance(600)
        assert [await watch.step() for watch in watches] == [0, 0]
        clock.advance(HOUR / 1000)
        assert await watches[1].step() == count
        await watches[1].close()
        clock.advance(HOUR / 1000)
        assert await watches[0].step() == count
        await first.close()
        await second.close()

    asyncio.run(main())


def test_it_can_be_switched_off(make_engine) -> None:
    """`watch.domains_every_s = 0` asks nobody anything."""

    async def main() -> None:
        engine, clock, lookup = make_engine(), FakeClock(), DictLookup({})
        tenant_id = await open_store(engine, clock)
        domains = Domains(engine, clock, FakeTexts(lookup))
        await domains.add(tenant_id, "acme.test", by=GATEWAY)
        options = Settings(watch=Watch(domains_every_s=0))
        sources = SourceHealth(engine, clock, lookup, [], [])
        looking = DomainHealth(engine, clock, lookup, domains, sources, options)
        assert await DomainWatch(engine, clock, looking, sources, options.watch, "a").step() == 0
        assert lookup.asked == []
        await engine.close()

    asyncio.run(main())
