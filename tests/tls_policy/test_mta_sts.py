"""MTA-STS on the way out: a policy is fetched by its rules, kept to its end, and nothing is delivered past it (RFC 8461, THREATS 52)."""

import asyncio
from typing import Self

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered
from gatepost.egress.smtp import mta_sts
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import SERVFAIL, FakeResolver
from gatepost.testing.scripted_peer import MappedDialer, ScriptedPeer
from tests.tls_policy.conftest import Names
from tests.tls_policy.house import DictStore, PolicyHost, Post, counted, open_post, policy_text, server_context

DOMAIN = "sts.example"
TXT = '"v=STSv1; id=1;"'


def zone(**more) -> dict:
    found = {
        DOMAIN: {"MX": ["10 mx.sts.example"]},
        "mx.sts.example": {"A": ["192.0.2.1"]},
        "mx2.sts.example": {"A": ["192.0.2.2"]},
        "_mta-sts.sts.example": {"TXT": [TXT]},
        "mta-sts.sts.example": {"A": ["127.0.0.1"]},
    }
    return found | more


class World:
    """One domain with a policy, one mail host, and a courier on the way to it."""

    def __init__(self, names: Names, *, host: str = "good", policy_host: str = "policies", offers_tls: bool = True, **scripts) -> None:
        self.names = names
        self.resolver = FakeResolver(zone())
        self.host = PolicyHost(server_context(names.pairs[policy_host], names.folder), policy_text("mx.sts.example"))
        tls = server_context(names.pairs[host], names.folder) if offers_tls else None
        self.peer = ScriptedPeer(scripts.get("script"), tls=tls)
        self.store = DictStore()
        self.clock = FakeClock()
        self.post: Post

    def open(self, clock=None, **more) -> Post:
        return open_post(
            resolver=self.resolver, dialer=MappedDialer({"192.0.2.1": self.peer.port, "192.0.2.2": self.peer.port}),
            authority=self.names.file, store=self.store, https_port=self.host.port, clock=clock, **more,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.host.__aenter__()
        await self.peer.start()
        self.post = self.open()
        return self

    async def __aexit__(self, *_) -> None:
        await self.post.courier.close()
        await self.peer.stop()
        await self.host.__aexit__()


def in_world(names: Names, work, **more):
    async def run():
        async with World(names, **more) as world:
            return await work(world)

    return asyncio.run(run())


async def send(world: World):
    return await world.post.send(DOMAIN)


def test_a_host_that_fulfils_the_policy_gets_its_mail(names):
    """The certificate is verified, and the attempt tells by which policy."""

    async def work(world):
        outcome = await send(world)
        assert isinstance(outcome, Delivered), outcome
        assert outcome.exchange.tls_policy == "sts:enforce"
        assert world.host.requests == ["GET /.well-known/mta-sts.txt HTTP/1.1"]
        assert counted(world.post) == {("sts", "ok"): 1}

    in_world(names, work)


@pytest.mark.parametrize(
    ("host", "result"),
    [("expired", "certificate-expired"), ("stranger", "certificate-not-trusted"), ("elsewhere", "certificate-host-mismatch")],
)
def test_under_enforce_a_bad_certificate_gets_nothing(names, host, result):
    """THREATS 52, 54: expired, unknown, or somebody else's: no MAIL is said, and the sentence says which policy is not fulfilled."""

    async def work(world):
        outcome = await send(world)
        assert isinstance(outcome, Deferred)
        assert outcome.category is Category.NETWORK
        assert outcome.detail.startswith("no mail host of sts.example fulfils its MTA-STS policy (fetched 20")
        assert "enforce): mx.sts.example (192.0.2.1) port 25: TLS failed, the certificate is not valid" in outcome.detail
        assert outcome.counts
        assert outcome.exchange.tls_policy == "sts:enforce"
        assert not any(command.startswith("MAIL") for command in world.peer.commands)
        assert counted(world.post) == {("sts", result): 1}

    in_world(names, work, host=host)


def test_under_enforce_no_starttls_means_no_mail(names):
    """THREATS 5: an offer that was stripped is no way to plain text."""

    async def work(world):
        outcome = await send(world)
        assert isinstance(outcome, Deferred)
        assert "does not offer TLS" in outcome.detail
        assert world.peer.messages == []
        assert counted(world.post) == {("sts", "starttls-not-supported"): 1}

    in_world(names, work, offers_tls=False)


def test_a_host_that_the_policy_does_not_name_is_not_even_called(names):
    """An attacker who answers for DNS names his own host in the MX; the policy does not (RFC 8461 §4.1)."""

    async def work(world):
        world.resolver.zone[DOMAIN] = {"MX": ["10 mx2.sts.example"]}
        outcome = await send(world)
        assert isinstance(outcome, Deferred)
        assert outcome.detail.endswith("mx2.sts.example is not among the hosts that the policy names")
        assert world.peer.connections == []
        assert counted(world.post) == {("sts", "validation-failure"): 1}

    in_world(names, work)


def test_the_next_host_is_tried(names):
    """One bad host does not keep mail from a good one (RFC 8461 §5.1)."""

    async def work(world):
        world.resolver.zone[DOMAIN] = {"MX": ["5 mx2.sts.example", "10 mx.sts.example"]}
        outcome = await send(world)
        assert isinstance(outcome, Delivered)
        assert outcome.exchange.host == "mx.sts.example"

    in_world(names, work)


def test_testing_reports_and_delivers(names):
    """Under `testing` a failure is counted and the mail goes all the same (RFC 8461 §5)."""

    async def work(world):
        world.host.body = policy_text("mx.sts.example", mode="testing")
        outcome = await send(world)
        assert isinstance(outcome, Delivered)
        assert outcome.exchange.tls_policy == "sts:testing"
        assert outcome.exchange.tls
        assert counted(world.post) == {("sts", "certificate-not-trusted"): 1}

    in_world(names, work, host="stranger")


def test_none_is_no_policy(names):
    """A domain that takes its policy back is free again."""

    async def work(world):
        world.host.body = policy_text(mode="none")
        outcome = await send(world)
        assert isinstance(outcome, Delivered)
        assert outcome.exchange.tls_policy == "opportunistic"

    in_world(names, work, host="stranger")


@pytest.mark.parametrize("policy_host", ["expired", "stranger", "elsewhere"])
def test_a_policy_host_must_prove_its_name(names, policy_host):
    """THREATS 52: a policy over a bad certificate is none (RFC 8461 §3.3)."""

    async def work(world):
        outcome = await send(world)
        assert isinstance(outcome, Delivered)
        assert outcome.exchange.tls_policy == "opportunistic"
        assert world.store.kept == {}
        assert counted(world.post)["sts", "sts-webpki-invalid"] == 1

    in_world(names, work, policy_host=policy_host)


@pytest.mark.parametrize(
    ("field", "value", "result"),
    [
        ("status", "301 Moved\r\nLocation: https://mta-sts.sts.example/other", "sts-policy-fetch-error"),
        ("status", "404 Not Found", "sts-policy-fetch-error"),
        ("status", "204 No Content", "sts-policy-fetch-error"),
        ("content_type", "text/html", "sts-policy-fetch-error"),
        ("content_type", "application/json", "sts-policy-fetch-error"),
        ("body", policy_text("mx.sts.example") + b"x: " + b"a" * 65_536, "sts-policy-fetch-error"),
        ("body", b"<html>", "sts-policy-invalid"),
        ("body", b"", "sts-policy-invalid"),
    ],
)
def test_what_is_not_fetched_by_the_rules_is_no_policy(names, field, value, result):
    """THREATS 52: redirects, other statuses, other types and more than 64 KiB (RFC 8461 §3.3)."""

    async def work(world):
        setattr(world.host, field, value)
        outcome = await send(world)
        assert isinstance(outcome, Delivered)
        assert outcome.exchange.tls_policy == "opportunistic"
        assert len(world.host.requests) == 1
        assert counted(world.post)["sts", result] == 1

    in_world(names, work, host="stranger")


def test_a_failing_policy_host_is_left_alone_for_a_while(names):
    """It is asked once in five minutes, not with every connection; then again."""

    async def work(world):
        world.host.status = "500 No"
        post = world.open(world.clock, fetch_timeout_s=5)
        for _ in range(3):
            await post.send(DOMAIN)
            world.clock.advance(90)
            post.policies._known.clear()
        assert len(world.host.requests) == 1
        world.clock.advance(mta_sts.PAUSE_S)
        await post.send(DOMAIN)
        assert len(world.host.requests) == 2
        await post.courier.close()

    in_world(names, work)


@pytest.mark.parametrize("taken_away", ["record", "servfail", "host", "broken"])
def test_who_takes_the_record_away_does_not_take_the_policy_away(names, taken_away):
    """THREATS 52, downgrade: within max_age the kept policy holds, whatever DNS and the policy host say (RFC 8461 §10.2)."""

    async def work(world):
        assert isinstance(await send(world), Delivered)
        change = {
            "record": {"_mta-sts.sts.example": {}, "mta-sts.sts.example": {}},
            "servfail": {"_mta-sts.sts.example": SERVFAIL},
            "host": {"_mta-sts.sts.example": {"TXT": ['"v=STSv1; id=2;"']}, "mta-sts.sts.example": SERVFAIL},
            "broken": {"_mta-sts.sts.example": {"TXT": ['"v=STSv1; id"']}},
        }[taken_away]
        world.resolver.zone |= change
        later = world.open(site_limit=5)  # a restart: nothing in memory but what is kept
        world.peer._tls = server_context(names.pairs["stranger"], names.folder)
        outcome = await later.send(DOMAIN)
        assert isinstance(outcome, Deferred), outcome
        assert outcome.exchange.tls_policy == "sts:enforce"
        await later.courier.close()

    in_world(names, work)


def test_a_policy_ends_with_its_time(names):
    """After max_age without a new fetch the domain is free: a policy is no prison (RFC 8461 §3.2)."""

    async def work(world):
        world.host.body = policy_text("mx.sts.example", max_age=3600)
        post = world.open(world.clock)
        assert (await post.send(DOMAIN)).exchange.tls_policy == "sts:enforce"
        world.resolver.zone["_mta-sts.sts.example"] = {}
        world.clock.advance(3500)
        assert (await post.send(DOMAIN)).exchange.tls_policy == "sts:enforce"
        world.clock.advance(200)
        assert (await post.send(DOMAIN)).exchange.tls_policy == "opportunistic"
        await post.courier.close()

    in_world(names, work)


def test_a_new_id_brings_the_new_policy(names):
    """The id is how a domain says that its policy changed; the same id asks for nothing (RFC 8461 §3.1)."""

    async def work(world):
        post = world.open(world.clock)
        await post.send(DOMAIN)
        world.host.body = policy_text("mx.sts.example", mode="testing")
        world.clock.advance(400)
        assert (await post.send(DOMAIN)).exchange.tls_policy == "sts:enforce"
        assert len(world.host.requests) == 1
        world.resolver.zone["_mta-sts.sts.example"] = {"TXT": ['"v=STSv1; id=2;"']}
        world.clock.advance(400)
        assert (await post.send(DOMAIN)).exchange.tls_policy == "sts:testing"
        assert world.store.kept[DOMAIN].record_id == "2"
        await post.courier.close()

    in_world(names, work)


def test_before_mail_is_held_up_a_new_policy_is_looked_for(names):
    """A domain that moved its mail and its policy gets its mail at once (RFC 8461 §5.1)."""

    async def work(world):
        post = world.open(world.clock, idle_s=0)
        await post.send(DOMAIN)
        world.resolver.zone |= {DOMAIN: {"MX": ["10 mx2.sts.example"]}, "_mta-sts.sts.example": {"TXT": ['"v=STSv1; id=9;"']}}
        world.host.body = policy_text("mx2.sts.example")
        assert post.policies.known(DOMAIN) is not None
        outcome = await post.send(DOMAIN)
        assert isinstance(outcome, Delivered), outcome
        assert outcome.exchange.host == "mx2.sts.example"

    in_world(names, work)


def test_mail_under_a_policy_never_uses_a_connection_that_was_opened_without(names):
    """Connections of one site are shared between domains only as far as what they have shown suffices."""

    async def work(world):
        world.resolver.zone |= {"free.example": {"MX": ["10 mx.sts.example"]}}
        first = await world.post.send("free.example", site="shared")
        second = await world.post.send(DOMAIN, site="shared")
        third = await world.post.send(DOMAIN, site="shared")
        fourth = await world.post.send("free.example", site="shared")
        assert [one.exchange.tls_policy for one in (first, second, third, fourth)] == [
            "opportunistic", "sts:enforce", "sts:enforce", "opportunistic",
        ]  # fmt: skip
        assert len(world.peer.connections) == 2

    in_world(names, work)


def test_with_all_connections_in_use_the_wrong_one_makes_room(names):
    """A message that needs another kind of connection waits for one to end; it neither starves nor goes over the limit."""

    async def work(world):
        world.resolver.zone |= {"free.example": {"MX": ["10 mx.sts.example"]}}
        await world.post.courier.close()
        post = world.open(site_limit=1)
        sends = [post.send(domain, site="shared") for domain in ("free.example", DOMAIN, "free.example", DOMAIN)]
        outcomes = await asyncio.gather(*sends)
        assert all(isinstance(one, Delivered) for one in outcomes), outcomes
        assert [one.exchange.tls_policy for one in outcomes] == ["opportunistic", "sts:enforce", "opportunistic", "sts:enforce"]
        assert len(world.peer.connections) == 2
        await post.courier.close()

    in_world(names, work)


def test_what_is_known_of_a_domain_costs_no_further_question(names):
    """On an open connection neither DNS nor the policy host is asked again."""

    async def work(world):
        world.resolver.zone |= {"free.example": {"MX": ["10 mx.sts.example"]}}
        await world.post.send("free.example")
        asked = len(world.resolver.asked)
        for _ in range(20):
            assert isinstance(await world.post.send("free.example"), Delivered)
        assert len(world.resolver.asked) == asked
        assert len(world.peer.connections) == 1

    in_world(names, work)
