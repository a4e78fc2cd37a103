"""The real resolver against a real DNS server on loopback: DNSSEC's bit, aliases, long answers, outages, many questions at once."""

import asyncio

from tests.egress.test_dns import Clock

from gatepost.net import dns_asking
from gatepost.net.dns import (
    STALE_S,
    Addresses,
    DnsResolver,
    MxHosts,
    Names,
    NoDomain,
    NoMx,
    NoTlsa,
    ResolverFailed,
    Texts,
    TlsaRecords,
)
from gatepost.net.families import Families
from gatepost.testing.fake_dns import DnsServer, FakeResolver, Zone

TLSA = "3 1 1 " + "ab" * 32
ZONE: Zone = {
    "acme.test": {"MX": ["10 mx1.acme.test"], "TXT": ['"v=spf1 -all"']},
    "mx1.acme.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1", "2001:db8::2"]},
    "alias.test": {"CNAME": ["mx1.acme.test"]},
    "_25._tcp.mx1.acme.test": {"TLSA": [TLSA]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mx1.acme.test"]},
}


def ask(check, zone: Zone = ZONE, ttl_s: int = 100, **options):
    async def run() -> None:
        async with DnsServer(zone, ttl_s=ttl_s) as server:
            clock = Clock()
            await check(DnsResolver(server=server.address, timeout_s=0.4, clock=clock, **options), server, clock)

    asyncio.run(run())


def test_the_ad_bit_is_believed_only_from_a_resolver_that_is_trusted() -> None:
    """A resolver on this machine is; with `never` nothing is secure, whatever the answer says; TLSA records then do not exist."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        server.secure |= {"acme.test", "_25._tcp.mx1.acme.test", "gone.test"}
        assert (await resolver.mx("acme.test")).is_secure
        assert not (await resolver.addresses("mx1.acme.test")).is_secure
        assert await resolver.mx("gone.test") == NoDomain(is_secure=True)
        found = await resolver.tlsa("mx1.acme.test", 25)
        assert isinstance(found, TlsaRecords)
        assert str(found.records[0]) == TLSA
        assert await resolver.tlsa("alias.test", 25) == NoTlsa()
        distrusting = DnsResolver(server=server.address, timeout_s=0.4, clock=clock, trust_ad="never")
        assert not (await distrusting.mx("acme.test")).is_secure
        assert await distrusting.tlsa("mx1.acme.test", 25) == NoTlsa()

    ask(check)


def test_an_alias_is_followed_and_told() -> None:
    """RFC 7672 needs both: where a host's name leads, and whether the alias itself is vouched for."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        found = await resolver.addresses("alias.test")
        assert isinstance(found, Addresses)
        assert found.name == "mx1.acme.test"
        assert (await resolver.addresses("mx1.acme.test")).name == ""
        assert not await resolver.is_secure_alias("alias.test")
        assert not await resolver.is_secure_alias("mx1.acme.test")
        server.secure.add("alias.test")
        clock.at = 101
        assert await resolver.is_secure_alias("alias.test")

    ask(check)


def test_names_of_an_address_and_texts_are_remembered() -> None:
    """PTR and TXT answers count for their TTL; verification asks past the memory."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        for _ in range(3):
            assert await resolver.ptr("192.0.2.1") == Names(("mx1.acme.test",))
            assert await resolver.known_txt("acme.test") == Texts(("v=spf1 -all",))
        assert server.asked["1.2.0.192.in-addr.arpa", "PTR"] == 1
        assert server.asked["acme.test", "TXT"] == 1
        await resolver.txt("acme.test")
        assert server.asked["acme.test", "TXT"] == 2
        assert await resolver.ptr("mx1.acme.test") == NoDomain()
        assert await resolver.ptr("192.0.2.99") == NoDomain()

    ask(check)


def test_an_answer_that_does_not_fit_is_fetched_over_tcp() -> None:
    """A datagram without room has the TC bit; the whole answer comes over TCP."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        server.truncated.add("acme.test")
        assert await resolver.mx("acme.test") == MxHosts(((10, "mx1.acme.test"),))
        assert server.over_tcp["acme.test", "MX"] == 1

    ask(check)


def test_a_resolver_that_does_not_know_edns_is_asked_without() -> None:
    """FORMERR to EDNS is no failure: the question is asked again in the old way, and from then on at once."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        server.knows_edns = False
        assert isinstance(await resolver.mx("acme.test"), MxHosts)
        assert server.asked["acme.test", "MX"] == 2
        await resolver.addresses("mx1.acme.test")
        assert server.asked["mx1.acme.test", "A"] == 1

    ask(check)


def test_negative_answers_last_as_long_as_the_zone_says() -> None:
    """The SOA's minimum counts (RFC 2308), for fifteen minutes at most and half a minute at least."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        for minimum, lasting in ((120, 120), (86_400, 900), (1, 30)):
            server.negative_ttl_s = minimum
            server.asked.clear()
            name = f"none-{minimum}.test"
            for at in (0, lasting - 1, lasting + 1):
                clock.at = at
                assert await resolver.mx(name) == NoDomain()
            assert server.asked[name, "MX"] == 2, minimum
            clock.at = 0

    ask(check)


def test_ttls_are_bounded() -> None:
    """An answer for one second is kept for half a minute, one for a week an hour."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        for ttl_s, lasting in ((1, 30), (604_800, 3_600)):
            server.ttl_s = ttl_s
            server.zone[f"ttl-{ttl_s}.test"] = {"MX": ["1 mx.test"]}
            for at in (0, lasting - 1, lasting + 1):
                clock.at = at
                found = await resolver.mx(f"ttl-{ttl_s}.test")
                assert isinstance(found, MxHosts)
                assert found.ttl_s == ttl_s
            assert server.asked[f"ttl-{ttl_s}.test", "MX"] == 2
            clock.at = 0

    ask(check)


def test_a_silent_resolver_costs_a_known_domain_no_wait_for_long() -> None:
    """The last good answer is given although the question still runs; an unknown domain's failure says so."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        good = await resolver.mx("acme.test")
        server.is_silent = True
        clock.at = 200
        slow = DnsResolver(server=server.address, timeout_s=30, clock=clock)
        slow._cache = resolver._cache
        async with asyncio.timeout(5):
            assert await slow.mx("acme.test") == good
        assert isinstance(await resolver.mx("other.test"), ResolverFailed)
        for task in list(slow._cache._asking.values()):
            task.cancel()

    ask(check)


def test_an_old_answer_is_not_given_after_a_day() -> None:
    """What was true a day ago is a guess."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        await resolver.mx("acme.test")
        server.is_silent = True
        clock.at = STALE_S + 1
        assert isinstance(await resolver.mx("acme.test"), ResolverFailed)

    ask(check)


def test_both_families_take_turns_and_a_broken_one_goes_last() -> None:
    """IPv6 first, then IPv4 (RFC 8305); after a connection that found no way, IPv6 goes last for minutes, then is tried again."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        clock.at = 1
        found = await resolver.addresses("mx1.acme.test")
        assert isinstance(found, Addresses)
        assert [":" in one for one in found.addresses] == [True, False, True, False]
        resolver.families.failed("2001:db8::1", OSError(101, "Network is unreachable"))
        assert [":" in one for one in (await resolver.addresses("mx1.acme.test")).addresses] == [False, False, True, True]
        clock.at += 301
        assert [":" in one for one in (await resolver.addresses("mx1.acme.test")).addresses] == [True, False, True, False]

    ask(check, use_ipv6=True)


def test_silence_counts_only_when_many_addresses_of_a_family_are_silent() -> None:
    """One dead host is no broken family; five in a row without a connection are; a refusal proves that the way is good."""
    families = Families(Clock())
    families._clock.at = 1
    for n in range(4):
        families.failed(f"2001:db8::{n}", TimeoutError())
    families.failed("2001:db8::3", TimeoutError())
    assert not families.is_broken(is_six=True)
    families.worked("2001:db8::9")
    for n in range(4):
        families.failed(f"2001:db8::{n}", TimeoutError())
    assert not families.is_broken(is_six=True)
    families.failed("2001:db8::8", TimeoutError())
    assert families.is_broken(is_six=True)
    assert not families.is_broken(is_six=False)
    families.failed("192.0.2.1", ConnectionRefusedError(111, "refused"))
    assert not families.is_broken(is_six=False)


def test_half_an_answer_is_an_answer() -> None:
    """When the question for IPv6 fails, the IPv4 addresses serve; when nothing was found, the failure shows."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        families = {"six": ResolverFailed("x"), "four": Addresses(("192.0.2.1",))}
        assert resolver._both(families["six"], families["four"]) == Addresses(("192.0.2.1",))
        assert isinstance(resolver._both(Addresses(("2001:db8::1",)), ResolverFailed("x")), Addresses)
        assert isinstance(resolver._both(ResolverFailed("x"), NoDomain()), ResolverFailed)

    ask(check, use_ipv6=True)


def test_questions_at_once_are_bounded() -> None:
    """A thousand domains at once are answered with at most so many questions open."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        open_now = most = 0
        resolve = resolver._asking._answer

        async def counted(*arguments):
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            try:
                return await resolve(*arguments)
            finally:
                open_now -= 1

        resolver._asking._answer = counted
        answers = await asyncio.gather(*[resolver.mx(f"d{n}.test") for n in range(600)])
        assert all(isinstance(answer, NoMx) for answer in answers)
        assert most == dns_asking.CONCURRENCY

    ask(check, zone={f"d{n}.test": {"A": ["192.0.2.1"]} for n in range(600)})


def test_the_fake_resolver_knows_the_same_questions() -> None:
    """What tests of others rely on answers as the real one does."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        server.secure |= {"_25._tcp.mx1.acme.test", "alias.test"}
        fake = FakeResolver(ZONE, secure=["_25._tcp.mx1.acme.test", "alias.test"])
        for one in (resolver, fake):
            assert isinstance(await one.tlsa("mx1.acme.test", 25), TlsaRecords)
            assert await one.known_txt("acme.test") == Texts(("v=spf1 -all",))
            assert await one.ptr("192.0.2.1") == Names(("mx1.acme.test",))
            assert await one.is_secure_alias("alias.test")
            assert (await one.family("alias.test", "A")).name == "mx1.acme.test"

    ask(check)
