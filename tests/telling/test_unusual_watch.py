"""Unusual changes over a real store: found once, told as events, closed when they are over."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from gatepost.clock import DAY, HOUR
from gatepost.domain.unusual import UnusualChange
from gatepost.settings import Unusual as Options
from gatepost.store import folding, unusual
from gatepost.store.counting import Deltas, Labels
from gatepost.store.schema import watch_lease
from gatepost.upkeep.unusual import UnusualWatch
from tests.telling.house import BEGIN, in_house


def watch(house, name: str = "one") -> UnusualWatch:
    return UnusualWatch(house.engine, house.clock, Options(), name)


@pytest.fixture
def weeks():
    """Writes all hours of a history in one transaction: hundreds of commits are not what is tested."""

    async def fill(house):
        deltas, now = Deltas(), house.clock.now()
        for hour in range(2, 16 * 24):
            labels = Labels("acme.example", "bulk", "", "", now)
            for names, n in (
                (["accepted"], 200),
                (["attempted"], 200),
                (["delivered"], 198),
                (["bounced", "bounced_invalid_recipient"], 2),
            ):
                deltas.add(house.tenant_id, labels, "mx", "", "far.example", now - hour * HOUR, names, n)
        await house.engine.write(deltas.write)
        names = folding.Names()
        while await house.engine.write(lambda conn: folding.fold(conn, names)):
            pass

    return fill


def test_a_burst_of_bounces_is_found_told_once_and_closed(make_engine, tmp_path, weeks):
    """From the bounces to the event: one change of the narrowest side; silence until it is over; then an event of its end."""

    async def work(house):
        await weeks(house)
        watching = watch(house)
        assert await watching.step() == 0
        await house.note(house.clock.now() - HOUR // 2, accepted=400, attempted=400, delivered=200, bounced_invalid_recipient=200)
        house.clock.advance(301)
        assert await watching.step() >= 1
        found = await house.engine.read(lambda conn: unusual.still_open(conn, house.tenant_id))
        assert [(one.metric, one.scope, one.name, one.span) for one in found] == [("bounces", "domain", "acme.example", "hour")]
        assert await watch(house, "two").step() == 0  # the lease keeps others away
        assert found[0].seen > 0.3
        assert "usual is 1" in found[0].detail
        events = await house.events("sending.unusual")
        assert [one["change_id"] for one in events] == [one.id for one in found]
        for _ in range(3):
            house.clock.advance(301)
            await watching.step()
        assert len(await house.events("sending.unusual")) == len(events)
        for _ in range(4):
            house.clock.advance(3_600)
            await house.note(house.clock.now() - HOUR // 2, accepted=200, attempted=200, delivered=198, bounced_invalid_recipient=2)
            await watching.step()
        assert await house.engine.read(unusual.still_open) == []
        assert {one["change_id"] for one in await house.events("sending.usual")} == {one.id for one in found}
        assert all(one["lasted_s"] > 0 for one in await house.events("sending.usual"))
        told = await house.engine.read(lambda conn: unusual.page(conn, house.tenant_id, 10, is_open=False))
        assert {one.id for one in told} == {one.id for one in found}

    in_house(make_engine, tmp_path, work)


def test_silence_is_no_recovery_but_not_for_ever(make_engine, tmp_path, weeks):
    """A change lasts while there is no mail to say otherwise, two days at most."""

    async def work(house):
        await weeks(house)
        watching = watch(house)
        await house.note(house.clock.now() - HOUR // 2, accepted=400, attempted=400, delivered=100, bounced_reputation_block=300)
        assert await watching.step() >= 1
        house.clock.advance(DAY / 1000 + 3_600)
        await watching.step()
        open_ = [one.metric for one in await house.engine.read(unusual.still_open)]
        assert "blocks" in open_
        assert "volume" in open_  # hours without any mail are news of their own
        house.clock.advance(2 * DAY / 1000)
        await watching.step()
        assert [one.metric for one in await house.engine.read(unusual.still_open)] == ["volume"]

    in_house(make_engine, tmp_path, work)


@pytest.fixture
def weeks_of_sites():
    """Two weeks of mail of one domain to five sites, alike in every hour."""

    async def fill(house):
        deltas, now = Deltas(), house.clock.now()
        labels = Labels("acme.example", "bulk", "", "", now)
        for hour in range(2, 16 * 24):
            for site in SITES:
                for names, n in ((["accepted"], 200), (["attempted"], 200), (["deferred", "deferred_first"], 4), (["delivered"], 200)):
                    deltas.add(house.tenant_id, labels, "mx", "", "" if "accepted" in names else site, now - hour * HOUR, names, n)
        await house.engine.write(deltas.write)
        names = folding.Names()
        while await house.engine.write(lambda conn: folding.fold(conn, names)):
            pass

    return fill


SITES = ("google", "microsoft", "yahoo", "apple", "proofpoint")


async def an_hour(house, deferred, **where):
    """What five sites do with an hour's mail, by how many first attempts each defers."""
    at = house.clock.now() - HOUR // 2
    for site in SITES:
        n = deferred.get(site, 4)
        await house.note(at, site=site, attempted=200, deferred_first=n, deferred=n, delivered=200, **where)
        await house.note(at, site="", accepted=200, **where)


async def found_in(house):
    return {(one.metric, one.scope, one.name) for one in await house.engine.read(unusual.still_open)}


def test_a_site_that_defers_is_named(make_engine, tmp_path, weeks_of_sites):
    """One mail system out of five: it, and not the domain whose mail it defers; told once, and closed when it is over."""

    async def work(house):
        await weeks_of_sites(house)
        watching = watch(house)
        await an_hour(house, {"google": 190})
        house.clock.advance(301)
        assert await watching.step() == 1
        assert await found_in(house) == {("deferrals", "site", "google")}
        for _ in range(3):
            house.clock.advance(301)
            assert await watching.step() == 0
        [told] = await house.events("sending.unusual")
        assert (told["scope"], told["name"], told["metric"]) == ("site", "google", "deferrals")
        for _ in range(3):
            house.clock.advance(3_600)
            await an_hour(house, {})
            await watching.step()
        assert await found_in(house) == set()

    in_house(make_engine, tmp_path, work)


def test_what_all_sites_do_is_told_of_the_domain(make_engine, tmp_path, weeks_of_sites):
    """Every site defers as much: the mail has something in common, and five alarms would hide it."""

    async def work(house):
        await weeks_of_sites(house)
        await an_hour(house, dict.fromkeys(SITES, 150))
        house.clock.advance(301)
        assert await watch(house).step() == 1
        assert await found_in(house) == {("deferrals", "domain", "acme.example")}
        house.clock.advance(301)
        assert await watch(house).step() == 0

    in_house(make_engine, tmp_path, work)


def test_two_domains_are_two_things(make_engine, tmp_path):
    """That one domain has more trouble does not hide the other's."""

    async def work(house):
        deltas, now = Deltas(), house.clock.now()
        for domain in ("acme.example", "brand.example"):
            labels = Labels(domain, "bulk", "", "", now)
            for hour in range(2, 16 * 24):
                for names, n in ((["accepted", "attempted"], 400), (["delivered"], 396), (["bounced", "bounced_invalid_recipient"], 4)):
                    deltas.add(house.tenant_id, labels, "mx", "", f"of {domain}", now - hour * HOUR, names, n)
        await house.engine.write(deltas.write)
        names = folding.Names()
        while await house.engine.write(lambda conn: folding.fold(conn, names)):
            pass
        for domain, bounced in (("acme.example", 300), ("brand.example", 100)):
            counts = {"accepted": 400, "attempted": 400, "delivered": 400 - bounced, "bounced_invalid_recipient": bounced}
            await house.note(house.clock.now() - HOUR // 2, domain=domain, site=f"of {domain}", **counts)
        house.clock.advance(301)
        await watch(house).step()
        assert {("bounces", "domain", "acme.example"), ("bounces", "domain", "brand.example")} <= await found_in(house)

    in_house(make_engine, tmp_path, work)


def test_a_thing_is_open_once_and_closed_once(make_engine, tmp_path):
    """Should two processes look at the same time: the second one's row is not written, and nothing is closed twice."""

    async def work(house):
        found = UnusualChange(
            id="unc_1", tenant_id=house.tenant_id, metric="bounces", scope="domain", name="acme.example", span="hour", opened_at=BEGIN,
            seen_at=BEGIN, expected=0.01, seen=0.5, part=50, whole=100, detail="", advice="",
        )  # fmt: skip
        assert await house.engine.write(lambda conn: unusual.open_change(conn, found))
        assert not await house.engine.write(lambda conn: unusual.open_change(conn, replace(found, id="unc_2")))
        assert await house.engine.write(lambda conn: unusual.close_change(conn, "unc_1", BEGIN + 1))
        assert not await house.engine.write(lambda conn: unusual.close_change(conn, "unc_1", BEGIN + 2))
        assert await house.engine.write(lambda conn: unusual.open_change(conn, replace(found, id="unc_2")))
        await house.engine.write(lambda conn: unusual.purge(conn, BEGIN + 5))
        assert [one.id for one in await house.engine.read(lambda conn: unusual.page(conn, house.tenant_id, 10))] == ["unc_2"]

    in_house(make_engine, tmp_path, work)


def test_an_idle_gateway_writes_nothing(make_engine, tmp_path):
    """Without mail there is not even a lease."""

    async def work(house):
        assert await watch(house).step() == 0
        assert await house.engine.read(lambda conn: conn.execute(select(watch_lease)).all()) == []

    in_house(make_engine, tmp_path, work)
