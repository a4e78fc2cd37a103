"""Mail systems are found out once, remembered by everybody, and DNS trouble costs no attempt."""

import asyncio

import pytest

from gatepost.clock import DAY, HOUR
from gatepost.dispatch import resolving
from gatepost.dispatch.ports import Unresolved
from gatepost.dispatch.resolving import Following, Resolving, SystemMap
from gatepost.policy.sites import load
from gatepost.store import systems
from gatepost.store.opening import open_store
from gatepost.store.systems import KnownSystem
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import SERVFAIL, FakeResolver

SITES = load()
GOOGLE = {"MX": ["1 aspmx.l.google.com", "5 alt1.aspmx.l.google.com"]}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine a thousand rows may take longer than a delivery would wait for them; what waiting does has tests of its own."""
    monkeypatch.setattr(resolving, "_PATIENCE_S", 60.0)


class House:
    def __init__(self, make_engine, zone):
        self.engine = make_engine()
        self.clock = FakeClock()
        self.dns = FakeResolver(zone)
        self.systems = self.another()

    def another(self):
        """One more process."""
        return Resolving(self.engine, self.dns, SITES, self.clock)

    async def row(self, domain):
        return (await self.engine.read(lambda conn: systems.find(conn, [domain]))).get(domain)

    def asked(self, domain):
        return self.dns.asked.count(("MX", domain))


def run(make_engine, zone, work):
    async def main():
        house = House(make_engine, zone)
        await open_store(house.engine, house.clock)
        try:
            await work(house)
        finally:
            await house.systems.close()
            await house.engine.close()

    asyncio.run(main())


def test_thousands_of_domains_at_one_system_share_one_site(make_engine):
    """Google hosts a domain: its mail uses Google's budget, whatever the domain is called."""

    async def work(house):
        found = await asyncio.gather(*[house.systems.find(f"d{n}.example") for n in range(1000)])
        assert set(found) == {"google"}
        later = await asyncio.gather(*[house.systems.find(f"d{n}.example") for n in range(1000, 2000)])
        assert set(later) == {"google"}
        assert all(house.systems.known(f"d{n}.example", house.clock.now()) == "google" for n in range(2000))

    run(make_engine, {f"d{n}.example": GOOGLE for n in range(2000)}, work)


def test_each_kind_of_answer_has_its_site(make_engine):
    """No MX, a null MX and no such domain are the domain's own site: the courier delivers there, or fails the mail at once."""
    zone = {"bare.example": {"A": ["192.0.2.1"]}, "null.example": {"MX": ["0 ."]}, "own.example": {"MX": ["1 mx.own.example"]}}

    async def work(house):
        for domain in (*zone, "gone.example"):
            assert await house.systems.find(domain) == domain

    run(make_engine, zone, work)


def test_an_answer_is_for_all_processes_and_over_restarts(make_engine):
    """A second process asks the table, not DNS."""

    async def work(house):
        assert await house.systems.find("a.example") == "google"
        assert await house.another().find("a.example") == "google"
        assert house.asked("a.example") == 1

    run(make_engine, {"a.example": GOOGLE}, work)


def test_one_lookup_serves_all_who_wait(make_engine):
    """A newsletter to a new domain is one question."""

    async def work(house):
        await asyncio.gather(*[house.systems.find("a.example") for _ in range(200)])
        assert house.asked("a.example") == 1

    run(make_engine, {"a.example": GOOGLE}, work)


async def settled(house):
    """Let what runs in the background end."""
    await asyncio.gather(*house.systems._looking.values())


def test_an_old_answer_counts_while_a_new_one_is_looked_up_and_a_move_is_noticed(make_engine):
    """After the TTL, but an hour at least: the old site at once, the new one a moment later."""

    async def work(house):
        await house.systems.find("a.example")
        house.dns.zone["a.example"] = {"MX": ["1 mx.elsewhere.example"]}
        house.clock.advance(3_599)
        assert house.systems.known("a.example", house.clock.now()) == "google"
        assert not house.systems._looking
        house.clock.advance(2)
        assert house.systems.known("a.example", house.clock.now()) == "google"
        assert not house.systems.is_elsewhere("a.example", "google", house.clock.now())
        await settled(house)
        assert house.systems.known("a.example", house.clock.now()) == "elsewhere.example"
        assert house.systems.is_elsewhere("a.example", "google", house.clock.now())
        assert house.asked("a.example") == 2

    run(make_engine, {"a.example": GOOGLE}, work)


def test_a_process_with_an_older_answer_asks_before_it_moves_mail(make_engine):
    """Mail that one process filed by a newer answer is not filed back by another."""

    async def work(house):
        other = house.another()
        await other.find("a.example")
        house.clock.advance(1)
        newer = KnownSystem("a.example", "new.example", house.clock.now(), house.clock.now() + HOUR)
        await house.engine.write(lambda conn: systems.record(conn, [newer]))
        assert other.is_elsewhere("a.example", "new.example", house.clock.now())
        assert await other.find("a.example") == "new.example"
        assert not other.is_elsewhere("a.example", "new.example", house.clock.now())
        older = newer._replace(site="old.example", asked_at=newer.asked_at - 5)
        await house.engine.write(lambda conn: systems.record(conn, [older]))
        assert (await house.row("a.example")).site == "new.example"

    run(make_engine, {"a.example": GOOGLE}, work)


def test_a_failing_domain_waits_longer_and_longer_and_says_since_when(make_engine):
    """Ten seconds at first, five minutes at most; the failure stands in the table until there is an answer."""

    async def work(house):
        start = house.clock.now()
        first = await house.systems.find("a.example")
        assert isinstance(first, Unresolved)
        assert first.until == start + 10_000
        assert "since 2025-11-24T16:00:00.000Z" in first.detail
        assert await house.systems.find("a.example") == first
        assert house.asked("a.example") == 1
        house.clock.advance(600)
        assert (await house.systems.find("a.example")).until == house.clock.now() + 150_000
        house.clock.advance(DAY // 1000)
        again = await house.another().find("a.example")
        assert again.until == house.clock.now() + 300_000
        assert "since 2025-11-24T16:00" in again.detail
        failing = await house.engine.read(lambda conn: systems.failing(conn, ["a.example", "b.example"]))
        assert failing["a.example"].failing_since == start
        house.dns.zone["a.example"] = GOOGLE
        house.clock.advance(301)
        assert await house.systems.find("a.example") == "google"
        assert (await house.row("a.example")).failing_since is None

    run(make_engine, {"a.example": SERVFAIL}, work)


def test_the_last_good_answer_serves_for_a_day_of_outage(make_engine):
    """A day after its end it does not any more."""

    async def work(house):
        await house.systems.find("a.example")
        house.dns.zone["a.example"] = SERVFAIL
        house.clock.advance(3_601 + DAY // 1000 - 60)
        assert await house.systems.find("a.example") == "google"
        house.clock.advance(120)
        assert isinstance(await house.another().find("a.example"), Unresolved)
        assert (await house.row("a.example")).site is None

    run(make_engine, {"a.example": GOOGLE}, work)


def test_a_slow_lookup_keeps_nobody_waiting_and_goes_on(make_engine, monkeypatch):
    """Who waits for a dead name server is told to come back; the answer is there when it comes."""
    monkeypatch.setattr(resolving, "_PATIENCE_S", 0.05)

    async def work(house):
        gate = asyncio.Event()
        ask = house.dns.mx

        async def slow(domain):
            await gate.wait()
            return await ask(domain)

        house.dns.mx = slow
        told = await house.systems.find("a.example")
        assert isinstance(told, Unresolved)
        assert told.until == house.clock.now() + 5_000
        gate.set()
        await settled(house)
        assert house.systems.known("a.example", house.clock.now()) == "google"

    run(make_engine, {"a.example": GOOGLE}, work)


def test_lookups_are_bounded(make_engine, monkeypatch):
    """A flood of new domains while DNS is silent takes no more than so many places."""
    monkeypatch.setattr(resolving, "_PATIENCE_S", 0.02)

    async def work(house):
        async def silent(domain):
            await asyncio.Event().wait()

        house.dns.mx = silent
        found = await asyncio.gather(*[house.systems.find(f"d{n}.example") for n in range(1_500)])
        assert all(isinstance(one, Unresolved) for one in found)
        assert len(house.systems._looking) == 1_000

    run(make_engine, {}, work)


def test_a_door_learns_what_the_dispatchers_found_out(make_engine):
    """The first mail to a domain has no site yet, the next one does; nothing is loaded that nobody wanted."""

    async def work(house):
        door = Following(house.engine, house.clock)
        assert door.system_of("a.example") is None
        await door.step()
        await house.systems.find("a.example")
        await house.systems.find("b.example")
        assert door.system_of("a.example") is None
        await door.step()
        assert door.system_of("a.example") == "google"
        assert len(door._map) == 1
        house.dns.zone["a.example"] = {"MX": ["1 mx.new.example"]}
        house.clock.advance(3_601)
        await house.systems.find("a.example")
        assert door.system_of("a.example") == "google"
        await door.step()
        assert door.system_of("a.example") == "new.example"

    run(make_engine, {"a.example": GOOGLE, "b.example": GOOGLE}, work)


def test_domains_that_got_no_mail_for_a_month_are_forgotten(make_engine):
    """The table does not grow for ever."""

    async def work(house):
        await house.systems.find("a.example")
        house.clock.advance(29 * 86_400)
        await house.engine.write(lambda conn: systems.purge(conn, house.clock.now()))
        assert await house.row("a.example") is not None
        house.clock.advance(2 * 86_400)
        await house.engine.write(lambda conn: systems.purge(conn, house.clock.now()))
        assert await house.row("a.example") is None

    run(make_engine, {"a.example": GOOGLE}, work)


def test_memory_holds_the_most_recently_used_domains():
    """What is used stays, what is not is forgotten; there is never more than was asked for."""
    known = SystemMap(size=100)
    known.learn(KnownSystem("kept.example", "google", 1, 2))
    for n in range(1_000):
        known.learn(KnownSystem(f"d{n}.example", "x", 1, 2))
        assert known.get("kept.example") is not None
        assert len(known) <= 100
    assert known.get("d1.example") is None
