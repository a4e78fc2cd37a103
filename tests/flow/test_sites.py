"""Mail is filed under the system that takes it, follows a domain that moves, and waits without harm while DNS fails."""

import asyncio
import random

import pytest

from gatepost.dispatch import claiming, resolving
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.resolving import Resolving
from gatepost.domain.outcome import Category, Deferred
from gatepost.explain import explain
from gatepost.policy.sites import load
from gatepost.settings import Egress, Retry, Settings
from gatepost.store import facts, messages, queue
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import SERVFAIL, FakeResolver
from tests.flow.test_dispatcher import ToldCourier, Unsigned
from tests.store.rows import NOW, put_message

SITES = load()
GOOGLE = {"MX": ["1 aspmx.l.google.com"]}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine a thousand rows may take longer than a delivery would wait for them; what waiting does has tests of its own."""
    monkeypatch.setattr(resolving, "_PATIENCE_S", 60.0)


class House:
    def __init__(self, make_engine, tmp_path, zone):
        self.engine = make_engine()
        self.clock = FakeClock(NOW)
        self.dns = FakeResolver(zone)
        self.courier = ToldCourier(self.clock)
        self.systems = Resolving(self.engine, self.dns, SITES, self.clock)
        settings = Settings(egress=Egress(connections_per_site=3), retry=Retry(schedule=[60], jitter=0))
        self.dispatcher = Dispatcher(
            engine=self.engine, blobs=LocalBlobs(tmp_path / "blobs"), signing=Unsigned(), couriers={"mx": self.courier}, settings=settings,
            clock=self.clock, ownership=Ownership(self.engine, self.clock, "node_a", "host", 1, lease_s=1_000_000), chance=random.Random(1), systems=self.systems,
        )  # fmt: skip

    async def put(self, *domains, **more):
        """Accept a message as a door does that knows no domain yet."""
        await self.engine.write(lambda conn: _put_unresolved(conn, domains, more))

    async def run(self, rounds=12, every_s=1.0):
        for _ in range(rounds):
            await self.dispatcher.step()
            await self.dispatcher.finish()
            self.clock.advance(every_s)

    async def rows(self):
        def read(conn):
            found = []
            for shard in queue.shards_with_rows(conn):
                found += queue.due(conn, [(shard, lane, 10_000) for lane in range(3)], NOW * 2)
            return found

        return await self.engine.read(read)

    async def statuses(self):
        return await self.engine.read(lambda conn: messages.counts_by_status(conn, None))


def _put_unresolved(conn, domains, more):
    rows = put_message(conn, domains=domains, **more)
    queue.delete(conn, rows)
    sites = [f"?{domain}" for domain in domains]
    from gatepost.domain.route import shard_of

    queue.insert(conn, [row._replace(site=site, shard=shard_of("default", site))._asdict() for row, site in zip(rows, sites, strict=True)])


def run(make_engine, tmp_path, zone, work):
    async def main():
        house = House(make_engine, tmp_path, zone)
        await open_store(house.engine, house.clock)
        await house.dispatcher.step()  # it owns its shards, and sees what comes from now on
        try:
            await work(house)
        finally:
            await house.systems.close()
            await house.engine.close()

    asyncio.run(main())


def test_many_domains_at_one_system_share_its_connections(make_engine, tmp_path):
    """Three hundred domains hosted by Google are one site: its slots are all they get together."""

    async def work(house):
        house.courier.delay_s = 0.001
        for start in range(0, 300, 50):
            await house.put(*[f"d{n}.example" for n in range(start, start + 50)])
        await house.run()
        assert await house.statuses() == {"delivered": 300}
        assert {batch.site for batch in house.courier.batches} == {"google"}
        assert house.courier.most_at_once == 3

    run(make_engine, tmp_path, {f"d{n}.example": GOOGLE for n in range(300)}, work)


def test_a_resolver_outage_costs_no_attempt_and_holds_nobody_else_up(make_engine, tmp_path):
    """Unknown domains wait; known ones are delivered; afterwards everything is, with one attempt each."""

    async def work(house):
        await house.systems.find("known.example")
        for domain in [f"d{n}.example" for n in range(40)]:
            house.dns.zone[domain] = SERVFAIL
        await house.put(*[f"d{n}.example" for n in range(40)])
        await house.put("known.example")
        await house.run(3)
        assert await house.statuses() == {"delivered": 1, "queued": 40}
        assert {row.attempt for row in await house.rows()} == {1}
        for domain in [f"d{n}.example" for n in range(40)]:
            house.dns.zone[domain] = GOOGLE
        house.clock.advance(30)
        await house.run()
        assert await house.statuses() == {"delivered": 41}
        every = await house.engine.read(lambda conn: [facts.attempts_of(conn, batch.message_id) for batch in house.courier.batches])
        assert {attempt.number for attempts in every for attempt in attempts} == {1}

    run(make_engine, tmp_path, {"known.example": GOOGLE}, work)


def test_silent_name_servers_do_not_hold_up_other_sites(make_engine, tmp_path, monkeypatch):
    """Look-ups that never end take no place from mail whose system is known."""
    monkeypatch.setattr(resolving, "_PATIENCE_S", 0.3)

    async def work(house):
        ask = house.dns.mx

        async def mx(domain):
            return await (asyncio.Event().wait() if domain.startswith("dead") else ask(domain))

        house.dns.mx = mx
        for start in range(0, 500, 50):
            await house.put(*[f"dead{n}.example" for n in range(start, start + 50)])
        await house.put("fine.example", due_at=NOW + 1)
        house.clock.advance(1)
        await house.run(12, every_s=0.1)  # less than the waits of those that were not found
        assert (await house.statuses()).get("delivered") == 1

    run(make_engine, tmp_path, {"fine.example": GOOGLE}, work)


def test_explain_says_since_when_dns_fails(make_engine, tmp_path):
    """The cause has a stable code, the domain, since when, and what DNS said."""

    async def work(house):
        await house.put("a.example")
        await house.run(2)
        house.clock.advance(60)
        await house.run(2)
        (row,) = await house.rows()
        found = await explain(house.engine, house.clock, None, row.message_id)
        assert found.cause == "dns_failing"
        assert "since 2025-11-24T16:00:" in found.sentence
        assert found.recipients[0].evidence["detail"] == SERVFAIL

    run(make_engine, tmp_path, {"a.example": SERVFAIL}, work)


def test_mail_whose_dns_fails_expires_with_its_event(make_engine, tmp_path):
    """Waiting for DNS ends where the message's life ends; the sender is told."""

    async def work(house):
        await house.put("a.example", expires_at=NOW + 60_000)
        await house.run(3)
        house.clock.advance(61)
        await house.run(4)
        assert await house.statuses() == {"expired": 1}
        assert house.courier.batches == []

    run(make_engine, tmp_path, {"a.example": SERVFAIL}, work)


def test_queued_mail_follows_a_domain_that_moves(make_engine, tmp_path):
    """After a refusal for now the domain changed its mail host: the next attempt is at the new system."""

    async def work(house):
        house.courier.answer = lambda one, exchange: Deferred(exchange=exchange, category=Category.NETWORK, detail="later")
        await house.put("a.example", expires_at=NOW + 86_400_000)
        await house.run(3)
        assert [row.site for row in await house.rows()] == ["google"]
        house.dns.zone["a.example"] = {"MX": ["1 mx.elsewhere.example"]}
        house.clock.advance(3_700)
        house.systems.known("a.example", house.clock.now())
        await asyncio.gather(*house.systems._looking.values())
        house.courier.answer = None
        await house.run(6)
        assert await house.statuses() == {"delivered": 1}
        assert [batch.site for batch in house.courier.batches] == ["google", "elsewhere.example"]
        assert house.courier.batches[-1].recipients[0].attempt == 2

    run(make_engine, tmp_path, {"a.example": GOOGLE}, work)


def test_mail_to_domains_that_take_none_reaches_the_courier_which_fails_it(make_engine, tmp_path):
    """No such domain and a null MX have a site of their own; the verdict is the courier's."""

    async def work(house):
        await house.put("gone.example", "null.example")
        await house.run(4)
        assert sorted(batch.site for batch in house.courier.batches) == ["gone.example", "null.example"]

    run(make_engine, tmp_path, {"null.example": {"MX": ["0 ."]}}, work)


def test_a_domain_is_looked_up_without_reading_its_mail(make_engine, tmp_path, monkeypatch):
    """Contents are read once, when mail is about to leave: who takes a domain is told by its name."""
    read, materials = [], messages.materials
    monkeypatch.setattr(claiming.messages, "materials", lambda conn, ids, most: read.extend(ids) or materials(conn, ids, most))

    async def work(house):
        await house.put(*[f"d{n}.example" for n in range(20)])
        await house.dispatcher.step()
        await house.dispatcher.finish()
        assert read == []
        await house.run()
        assert await house.statuses() == {"delivered": 20}

    run(make_engine, tmp_path, {f"d{n}.example": GOOGLE for n in range(20)}, work)
