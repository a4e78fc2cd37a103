"""The real resolver against a real DNS server on loopback."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gatepost.net.dns import STALE_S, Addresses, DnsResolver, MxHosts, NoAddresses, NoDomain, NoMx, NullMx, ResolverFailed
from gatepost.testing.fake_dns import SERVFAIL, TIMEOUT, DnsServer, FakeResolver, Zone

ZONE: Zone = {
    "acme.test": {"MX": ["10 MX1.acme.test", "20 mx2.acme.test"]},
    "mx1.acme.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "bare.test": {"A": ["192.0.2.3"]},
    "null.test": {"MX": ["0 ."]},
    "broken.test": SERVFAIL,
    "silent.test": TIMEOUT,
}


class Clock:
    """Monotonic time that only moves when told."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def ask(check: Callable[[DnsResolver, DnsServer, Clock], Awaitable[None]], **options: bool) -> None:
    async def run() -> None:
        async with DnsServer(ZONE, ttl_s=100) as server:
            clock = Clock()
            await check(DnsResolver(server=server.address, timeout_s=0.3, clock=clock, **options), server, clock)

    asyncio.run(run())


def test_answers_that_must_not_be_confused_are_kept_apart() -> None:
    """MX, implicit MX, null MX, NXDOMAIN, SERVFAIL and silence each have their own answer."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        mx = await resolver.mx("acme.test")
        assert isinstance(mx, MxHosts)
        assert sorted(mx.hosts) == [(10, "mx1.acme.test"), (20, "mx2.acme.test")]
        assert await resolver.mx("bare.test") == NoMx()
        assert await resolver.mx("null.test") == NullMx()
        assert await resolver.mx("missing.test") == NoDomain()
        assert isinstance(await resolver.mx("broken.test"), ResolverFailed)
        assert isinstance(await resolver.mx("silent.test"), ResolverFailed)
        assert await resolver.mx("x" * 64 + ".test") == NoDomain()

    ask(check)


def test_addresses_of_a_host() -> None:
    """A records; AAAA too when IPv6 is used; an address is its own answer."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        found = await resolver.addresses("mx1.acme.test")
        assert isinstance(found, Addresses)
        assert sorted(found.addresses) == ["192.0.2.1", "192.0.2.2"]
        assert await resolver.addresses("acme.test") == NoAddresses()
        assert await resolver.addresses("missing.test") == NoDomain()
        assert await resolver.addresses("127.0.0.1") == Addresses(("127.0.0.1",))

    async def check6(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        found = await resolver.addresses("mx1.acme.test")
        assert isinstance(found, Addresses)
        assert "2001:db8::1" in found.addresses
        assert await resolver.addresses("bare.test") == Addresses(("192.0.2.3",))

    ask(check)
    ask(check6, use_ipv6=True)


def test_answers_are_remembered_for_their_ttl_and_asked_once_at_a_time() -> None:
    """Fifty deliveries to a new domain are one question; after the TTL there is another."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        await asyncio.gather(*[resolver.mx("acme.test") for _ in range(50)])
        clock.at = 99
        await resolver.mx("acme.test")
        assert server.asked["acme.test", "MX"] == 1
        clock.at = 101
        await resolver.mx("acme.test")
        assert server.asked["acme.test", "MX"] == 2

    ask(check)


def test_negative_answers_are_remembered_for_a_while() -> None:
    """NXDOMAIN is asked for again after a minute, a failure after seconds (RFC 2308)."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        for at in (0, 59, 61):
            clock.at = at
            assert await resolver.mx("missing.test") == NoDomain()
        assert server.asked["missing.test", "MX"] == 2
        server.zone["late.test"] = SERVFAIL
        assert isinstance(await resolver.mx("late.test"), ResolverFailed)
        server.zone["late.test"] = {"MX": ["10 mx.test"]}
        clock.at += 6
        assert await resolver.mx("late.test") == MxHosts(((10, "mx.test"),))

    ask(check)


def test_the_last_good_answer_serves_while_the_resolver_fails() -> None:
    """For up to a day after it was learned; then the failure shows."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        good = await resolver.mx("acme.test")
        server.zone["acme.test"] = SERVFAIL
        clock.at = STALE_S - 10
        assert await resolver.mx("acme.test") == good
        clock.at = STALE_S + 10
        assert isinstance(await resolver.mx("acme.test"), ResolverFailed)

    ask(check)


def test_the_server_must_be_an_address_with_a_port() -> None:
    """A wrong setting shows at the start, not at the first delivery."""
    with pytest.raises(ValueError, match="does not appear"):
        DnsResolver(server="resolver:53", timeout_s=1, clock=Clock())


def test_the_fake_resolver_answers_as_the_real_one() -> None:
    """The dict and the server agree on every name of the zone."""

    async def check(resolver: DnsResolver, server: DnsServer, clock: Clock) -> None:
        fake = FakeResolver(ZONE)
        for name in [*ZONE, "missing.test"]:
            assert type(await fake.mx(name)) is type(await resolver.mx(name)), name
            assert type(await fake.addresses(name)) is type(await resolver.addresses(name)), name

    ask(check)
