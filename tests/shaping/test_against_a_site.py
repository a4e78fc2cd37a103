"""Real dispatch against a site that takes so much and answers 421 above: never over by more than 1 %, at least 95 % of it used."""

from gatepost.clock import DAY
from gatepost.settings import SiteLimits, SourceAddress, SourcePool
from gatepost.store import shaping as stored
from gatepost.testing.busy_site import BusySite
from gatepost.testing.virtual_time import run_in_virtual_time
from tests.shaping.house import SITE, house
from tests.store.rows import NOW


def limits(**values):
    return {SITE: SiteLimits(**values)}


def test_the_rate_of_a_site_is_kept_and_used(tmp_path):
    """100 messages a second over 5 connections of 20 messages: for five seconds none is too many, and 95 % go."""

    async def work():
        async with BusySite(connections=5, per_second=100, per_connection=20) as site:
            shaping = limits(connections=5, messages_per_second=100, messages_per_connection=20)
            async with house(tmp_path, site, shaping=shaping) as opened:
                await opened.put(750)
                await opened.run(6)
            return site

    site = run_in_virtual_time(work())
    assert site.refused <= 0.01 * len(site.accepted)
    assert site.most_connections <= 5
    assert 95 <= site.rate(1, 6) <= 100


def test_the_connections_of_a_site_are_kept_and_used(tmp_path):
    """Six connections whose every message takes 50 ms: never a seventh, and the six are busy 95 % of the time."""

    async def work():
        async with BusySite(connections=6, latency_s=0.05) as site:
            async with house(tmp_path, site, shaping=limits(connections=6)) as opened:
                await opened.put(1_000)
                await opened.run(7)
            return site

    site = run_in_virtual_time(work())
    assert (site.too_many_connections, site.most_connections) == (0, 6)
    assert site.rate(1, 7) >= 0.95 * 6 / 0.05


def test_limits_that_nobody_told_us_are_found(tmp_path):
    """A site that takes three connections, where we think of ten: few refusals, and its limit is used soon."""

    async def work():
        async with BusySite(connections=3, latency_s=0.05) as site:
            async with house(tmp_path, site) as opened:
                await opened.put(2_000)
                await opened.run(25)
                states = await opened.engine.read(lambda conn: stored.states(conn, sites=[SITE]))
            return site, states

    site, states = run_in_virtual_time(work())
    assert site.refused <= 0.02 * len(site.accepted)
    assert site.rate(15, 25) >= 0.6 * 3 / 0.05
    assert [(one.source, one.signal_id) for one in states] == [("default", "connections")]
    assert "too many connections" in states[0].signal_text


def test_two_sources_have_a_budget_each(tmp_path):
    """Sources of a pool share its mail by weight, each with its own connections, address and EHLO name."""

    async def work():
        async with BusySite(latency_s=0.05) as site:
            sources = {
                "a": SourceAddress(address="127.0.0.2", hostname="a.acme.example"),
                "b": SourceAddress(address="127.0.0.3", hostname="b.acme.example"),
            }
            pools = {"default": SourcePool(sources=["a", "b"], weights={"a": 3})}
            async with house(
                tmp_path, site, sources=sources, pools=pools, shaping=limits(connections=4, messages_per_connection=1)
            ) as opened:
                await opened.put(30)
                await opened.run(0.4)
                most = site.most_connections
            return site, most

    site, most = run_in_virtual_time(work())
    assert most == 8
    assert set(site.hellos) == {"a.acme.example", "b.acme.example"}
    assert set(site.peers) == {"127.0.0.2", "127.0.0.3"}


def test_a_message_to_many_is_split(tmp_path):
    """25 recipients at a site that takes ten in one transaction: three transactions, everybody served."""

    async def work():
        async with BusySite() as site:
            async with house(tmp_path, site, shaping=limits(recipients_per_transaction=10)) as opened:
                await opened.put(1, recipients=25)
                await opened.run(1)
            return site

    site = run_in_virtual_time(work())
    assert (len(site.accepted), site.most_recipients) == (3, 10)


def test_mail_above_a_warm_up_takes_the_next_road(tmp_path):
    """A new source gets twenty messages on its first day, exactly; the rest goes by the old one at once."""

    async def work():
        async with BusySite() as site:
            warm = {"*": SiteLimits(warm_up_from="2025-11-24", warm_up=[20, 40])}
            sources = {"new": SourceAddress(address="127.0.0.2", shaping=warm), "old": SourceAddress(address="127.0.0.3")}
            pools = {"fresh": SourcePool(sources=["new"]), "default": SourcePool(sources=["old"])}
            egress = {"default_route": "mx:fresh,mx"}
            async with house(
                tmp_path, site, egress=egress, sources=sources, pools=pools, shaping=limits(messages_per_connection=1)
            ) as opened:
                await opened.put(60, pool="fresh", route="mx:fresh,mx")
                await opened.run(8)
                counted = await opened.engine.read(lambda conn: stored.used(conn, [("new", SITE)], NOW // DAY))
            return site, counted

    site, counted = run_in_virtual_time(work())
    assert dict(site.peers) == {"127.0.0.2": 20, "127.0.0.3": 40}
    assert counted == {("new", SITE): 20}
