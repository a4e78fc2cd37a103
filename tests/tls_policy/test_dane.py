"""DANE on the way out, with a zone that is really signed and a resolver that really validates (RFC 7672, THREATS 53)."""

import asyncio

import pytest

from gatepost.clock import SystemClock
from gatepost.domain.outcome import Category, Deferred, Delivered
from gatepost.net.dns import Addresses, DnsResolver, MxHosts, NoTlsa, ResolverFailed, TlsaRecords
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.scripted_peer import MappedDialer, ScriptedPeer
from tests.tls.authority import Authority
from tests.tls_policy.house import PolicyHost, SignedZone, counted, der, open_post, policy_text, server_context, sub_authority, tlsa


def resolver_of(zone, trust_ad: str = "auto") -> DnsResolver:
    return DnsResolver(server=zone.address, timeout_s=3, clock=SystemClock(), trust_ad=trust_ad)


def meet(names, zone, domain: str, *, pair: str = "good", trust_ad: str = "auto", tls=True, script=None, **fields):
    """Deliver one message to a domain of the zone; return the outcome, the peer, and what was counted."""

    async def run():
        context = server_context(names.pairs[pair], names.folder) if tls else None
        async with ScriptedPeer(script, tls=context) as peer:
            post = open_post(resolver=resolver_of(zone, trust_ad), dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file)
            outcome = await post.send(domain, **fields)
            await post.courier.close()
            return outcome, peer, counted(post)

    return asyncio.run(run())


def has_said_mail(peer: ScriptedPeer) -> bool:
    return any(command.startswith("MAIL") for command in peer.commands)


def test_what_the_resolver_vouches_for_is_told_apart(zone):
    """Signed answers are secure, unsigned ones are not, forged ones are failures; a resolver that is not trusted vouches for nothing."""

    async def work():
        resolver = resolver_of(zone)
        assert await resolver.mx("good.test") == MxHosts(((10, "mx.good.test"),), is_secure=True)
        assert (await resolver.mx("plain.example")).is_secure is False
        alias = await resolver.addresses("mx.alias.test")
        assert (alias.is_secure, alias.name) == (True, "mx.good.test")
        half = await resolver.addresses("mx.alias2.test")
        assert (half.is_secure, half.name) == (False, "mx.plain.example")
        assert await resolver.is_secure_alias("mx.alias2.test")
        assert isinstance(await resolver.tlsa("mx.good.test", 25), TlsaRecords)
        assert isinstance(await resolver.tlsa("mx.bogus.test", 25), ResolverFailed)
        assert not isinstance(await resolver.tlsa("mx.plain.example", 25), TlsaRecords)
        assert (await resolver_of(zone, "never").mx("good.test")).is_secure is False

    asyncio.run(work())


def test_that_there_was_no_record_is_not_believed_while_nobody_can_say(tmp_path):
    """A resolver that fails after its answer's time leaves a gap, not the old "there is none": mail waits (RFC 7672 §2.1.2)."""
    zone = SignedZone(tmp_path / "zone", {"mx.bare.test.": ["A 192.0.2.1"]})
    zone.start()

    async def work():
        clock = FakeClock()
        resolver = DnsResolver(server=zone.address, timeout_s=0.3, clock=clock)
        assert isinstance(await resolver.tlsa("mx.bare.test", 25), NoTlsa)
        assert isinstance(await resolver.addresses("mx.bare.test"), Addresses)
        zone.stop()
        clock.advance(3_700)
        assert isinstance(await resolver.tlsa("mx.bare.test", 25), ResolverFailed)
        assert isinstance(await resolver.addresses("mx.bare.test"), Addresses)

    try:
        asyncio.run(work())
    finally:
        zone.stop()


def test_a_certificate_that_matches_is_authentic(names, zone):
    """DANE-EE: delivered, and the attempt says so; the authority that signed it is asked nothing."""
    outcome, peer, results = meet(names, zone, "good.test")
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls_policy == "dane"
    assert peer.connections[0].is_encrypted
    assert results == {("tlsa", "ok"): 1}


@pytest.mark.parametrize("domain", ["wrong.test", "direct.test"])
def test_a_certificate_that_does_not_match_gets_no_mail(names, zone, domain):
    """THREATS 53: a wrong TLSA record, or a wrong certificate, delays; nothing is sent, in plain text or otherwise."""
    outcome, peer, results = meet(names, zone, domain)
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts) == (Category.NETWORK, True)
    assert outcome.detail.startswith(f"no mail host of {domain} can be authenticated by its TLSA records: ")
    assert outcome.detail.endswith("DANE: the certificate matches no TLSA record")
    assert outcome.exchange.tls_policy == "dane"
    assert not has_said_mail(peer)
    assert len(peer.connections) == 1
    assert results == {("tlsa", "validation-failure"): 1}


@pytest.mark.parametrize("script", [{"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": "220 go\n250 injected"}])
def test_tricks_with_starttls_end_in_a_delay(names, zone, script):
    """THREATS 5, 53: refused and tampered STARTTLS."""
    outcome, peer, _ = meet(names, zone, "good.test", script=script)
    assert isinstance(outcome, Deferred)
    assert not has_said_mail(peer)


def test_a_stripped_starttls_ends_in_a_delay(names, zone):
    """THREATS 5, 53: no offer of TLS where TLSA records stand is an attack, or a fault; both wait."""
    outcome, peer, results = meet(names, zone, "good.test", tls=False)
    assert isinstance(outcome, Deferred)
    assert not has_said_mail(peer)
    assert results == {("tlsa", "starttls-not-supported"): 1}


def test_forged_records_delay_and_nothing_is_connected_to(names, zone):
    """THREATS 53: SERVFAIL about TLSA rules the host out for now, and uses up no retry."""
    outcome, peer, results = meet(names, zone, "bogus.test")
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts) == (Category.NETWORK, False)
    assert outcome.detail.startswith("DNS did not answer about the TLSA records of mx.bogus.test")
    assert peer.connections == []
    assert results == {("tlsa", "dnssec-invalid"): 1}


def test_records_that_cannot_be_used_still_demand_encryption(names, zone):
    """Without a usable record TLS is demanded, whoever shows whatever certificate (RFC 7672 §2.2)."""
    outcome, _, results = meet(names, zone, "unusable.test", pair="stranger")
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls
    assert results["tlsa", "tlsa-invalid"] == 1
    outcome, peer, _ = meet(names, zone, "unusable.test", tls=False)
    assert isinstance(outcome, Deferred)
    assert not has_said_mail(peer)


def test_unsigned_records_say_nothing(names, zone):
    """A TLSA record that DNSSEC does not vouch for is anybody's: opportunistic, and delivered (RFC 7672 §2.2)."""
    outcome, _, _ = meet(names, zone, "plain.example")
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.tls_policy == "opportunistic"
    outcome, _, _ = meet(names, zone, "half.example")  # its host is signed, but who says that it is its host?
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.tls_policy == "opportunistic"


def test_a_resolver_that_is_not_trusted_brings_no_dane(names, zone):
    """Its AD bit could be anybody's."""
    outcome, _, _ = meet(names, zone, "wrong.test", trust_ad="never")
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.tls_policy == "opportunistic"


@pytest.mark.parametrize("domain", ["alias.test", "alias2.test"])
def test_aliases_are_followed_as_far_as_they_are_signed(names, zone, domain):
    """THREATS 53: records where the alias leads count first; where that is not signed, those of the alias (RFC 7672 §2.2.2)."""
    outcome, _, _ = meet(names, zone, domain)
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls_policy == "dane"
    outcome, peer, _ = meet(names, zone, domain, pair="stranger")
    assert isinstance(outcome, Deferred)
    assert not has_said_mail(peer)


def test_a_signed_domain_without_records_is_opportunistic(names, zone):
    """DNSSEC alone demands nothing."""
    outcome, _, results = meet(names, zone, "bare.test", pair="stranger")
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.tls_policy == "opportunistic"
    assert results == {("no-policy-found", "ok"): 1}


def test_dane_goes_before_mta_sts(names, zone):
    """Where both stand, DANE decides: a policy must neither loosen nor break it (RFC 8461 §2)."""

    async def run(pair: str, policy: bytes):
        host = PolicyHost(server_context(names.pairs["policies"], names.folder), policy)
        async with host, ScriptedPeer(tls=server_context(names.pairs[pair], names.folder)) as peer:
            post = open_post(
                resolver=resolver_of(zone), dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file, https_port=host.port,
            )  # fmt: skip
            outcome = await post.send("both.test")
            await post.courier.close()
            assert len(host.requests) == 1
            return outcome

    lax, strict = policy_text("mx.both.test", mode="testing"), policy_text("mx.elsewhere.example")
    refused = asyncio.run(run("stranger", lax))
    assert isinstance(refused, Deferred)
    assert refused.exchange.tls_policy == "dane"
    taken = asyncio.run(run("good", strict))
    assert isinstance(taken, Delivered), taken
    assert taken.exchange.tls_policy == "dane"


def test_an_authority_in_the_record_is_enough(names):
    """DANE-TA in a real handshake: a chain to the authority that the record names, which no system trusts."""
    root = Authority("DANE Root")
    middle = sub_authority(root, "DANE Middle")
    right, other = middle.issue("mx.ta.test"), middle.issue("mx.elsewhere.example")
    records = {
        "ta.test": {"MX": ["10 mx.ta.test"]},
        "mx.ta.test": {"A": ["192.0.2.1"]},
        "_25._tcp.mx.ta.test": {"TLSA": [tlsa(2, 1, 1, middle.certificate)]},
    }
    resolver = FakeResolver(records, secure=tuple(records))

    async def run(pair):
        async with ScriptedPeer(tls=server_context(pair, names.folder, middle.pem)) as peer:
            post = open_post(resolver=resolver, dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file)
            outcome = await post.send("ta.test")
            await post.courier.close()
            return outcome

    assert isinstance(asyncio.run(run(right)), Delivered)
    refused = asyncio.run(run(other))
    assert isinstance(refused, Deferred)
    assert "the certificate is for mx.elsewhere.example, not for mx.ta.test or ta.test" in refused.detail
    assert der(right.certificate) != der(other.certificate)


def test_dane_connections_are_shared_only_with_those_who_may_use_them(names):
    """A connection that was opened without a look at TLSA records is none for a signed domain at the same host."""
    good = names.pairs["good"].certificate
    records = {
        "one.example": {"MX": ["10 mx.good.test"]},
        "two.test": {"MX": ["10 mx.good.test"]},
        "three.test": {"MX": ["10 mx.good.test"]},
        "mx.good.test": {"A": ["192.0.2.1"]},
        "_25._tcp.mx.good.test": {"TLSA": [tlsa(3, 1, 1, good)]},
    }
    resolver = FakeResolver(records, secure=("two.test", "three.test", "mx.good.test", "_25._tcp.mx.good.test"))

    async def run():
        async with ScriptedPeer(tls=server_context(names.pairs["good"], names.folder)) as peer:
            post = open_post(resolver=resolver, dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file)
            told = [(await post.send(domain, site="shared")).exchange.tls_policy for domain in ("one.example", "two.test", "three.test")]
            await post.courier.close()
            return told, len(peer.connections)

    assert asyncio.run(run()) == (["opportunistic", "dane", "dane"], 2)
