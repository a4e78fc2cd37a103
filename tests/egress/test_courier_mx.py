"""Straight to the recipients' mail hosts: which hosts, in which order, and when to give up."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.fake_dns import SERVFAIL, FakeResolver, Zone
from gatepost.testing.scripted_peer import DROP, Drop, MappedDialer, ScriptedPeer

TWO: Zone = {
    "acme.test": {"MX": ["20 mx2.acme.test", "10 mx1.acme.test"]},
    "mx1.acme.test": {"A": ["192.0.2.1"]},
    "mx2.acme.test": {"A": ["192.0.2.2"]},
}


async def meet(zone: Zone, peers: dict[str, ScriptedPeer]) -> tuple[Outcome, MappedDialer]:
    async with AsyncExitStack() as stack:
        for peer in peers.values():
            await stack.enter_async_context(peer)
        dialer = MappedDialer({address: peer.port for address, peer in peers.items()})
        courier = make_courier(resolver=FakeResolver(zone), dialer=dialer, timeout_scale=0.001)
        outcomes = await courier.deliver(make_batch("bob@acme.test", "eve@acme.test", route="mx", site="acme.test"))
        await courier.close()
        assert set(outcomes) == {0, 1}
        return outcomes[0], dialer


def test_the_preferred_host_gets_the_mail() -> None:
    """Lowest preference first; the recipient's own host makes the delivery final."""
    peers = {"192.0.2.1": ScriptedPeer(), "192.0.2.2": ScriptedPeer()}
    outcome, dialer = asyncio.run(meet(TWO, peers))
    assert isinstance(outcome, Delivered), outcome
    assert outcome.final
    assert (outcome.exchange.host, dialer.dialled) == ("mx1.acme.test", ["192.0.2.1"])


@pytest.mark.parametrize(
    "first",
    [
        None,
        ScriptedPeer({"GREETING": "421 4.3.2 busy"}),
        ScriptedPeer({"GREETING": "450 later"}),
        ScriptedPeer({"GREETING": "554 not you"}),
        ScriptedPeer({"EHLO": DROP}),
        ScriptedPeer({"MAIL": Drop("421 4.7.0 slow down")}),
        ScriptedPeer({"RCPT": DROP}),
    ],
)
def test_the_next_host_is_tried_when_one_cannot_be_spoken_to(first: ScriptedPeer | None) -> None:
    """No connection, a refusing greeting, 421, or a break before the content: on to the next host."""
    second = ScriptedPeer()
    peers = {"192.0.2.2": second} | ({"192.0.2.1": first} if first else {})
    outcome, dialer = asyncio.run(meet(TWO, peers))
    assert isinstance(outcome, Delivered), outcome
    assert dialer.dialled == ["192.0.2.1", "192.0.2.2"]
    assert "# mx1.acme.test" in outcome.exchange.transcript
    assert len(second.messages) == 1


@pytest.mark.parametrize(("script", "kind"), [({"RCPT": "450 greylisted"}, Deferred), ({"RCPT": "550 no"}, Failed), ({".": DROP}, None)])
def test_an_answer_about_the_mail_is_final_for_this_attempt(script: dict[str, object], kind: type[Outcome] | None) -> None:
    """A host that judged the mail, or may have taken it, is not bypassed."""
    outcome, dialer = asyncio.run(meet(TWO, {"192.0.2.1": ScriptedPeer(script), "192.0.2.2": ScriptedPeer()}))  # type: ignore[arg-type]
    assert kind is None or isinstance(outcome, kind)
    assert not isinstance(outcome, Delivered)
    assert dialer.dialled == ["192.0.2.1"]


def test_no_host_answers() -> None:
    """All hosts unreachable: deferred, and it counts."""
    outcome, dialer = asyncio.run(meet(TWO, {}))
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts, len(dialer.dialled)) == (Category.NETWORK, True, 2)


def test_every_host_refuses_us_for_good() -> None:
    """When all greet with 5yz it is a failure; with one merely unreachable it is not."""
    refusing = {"GREETING": "554 5.7.1 blocked"}
    outcome, _ = asyncio.run(meet(TWO, {"192.0.2.1": ScriptedPeer(refusing), "192.0.2.2": ScriptedPeer(refusing)}))
    assert isinstance(outcome, Failed), outcome
    for reachable in ("192.0.2.1", "192.0.2.2"):
        outcome, _ = asyncio.run(meet(TWO, {reachable: ScriptedPeer(refusing)}))
        assert isinstance(outcome, Deferred)


def test_all_addresses_of_a_host_are_tried() -> None:
    """A host with a dead address is reached at its other one."""
    zone: Zone = {"acme.test": {"MX": ["10 mx.acme.test"]}, "mx.acme.test": {"A": ["192.0.2.8", "192.0.2.9"]}}
    outcome, dialer = asyncio.run(meet(zone, {"192.0.2.9": ScriptedPeer()}))
    assert isinstance(outcome, Delivered)
    assert dialer.dialled == ["192.0.2.8", "192.0.2.9"]


def test_a_domain_without_mx_is_reached_at_its_own_address() -> None:
    """The implicit MX."""
    outcome, _ = asyncio.run(meet({"acme.test": {"A": ["192.0.2.1"]}}, {"192.0.2.1": ScriptedPeer()}))
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.host == "acme.test"


@pytest.mark.parametrize(
    ("zone", "kind", "detail", "counts"),
    [
        ({}, Failed, "5.1.2", True),
        ({"acme.test": {"MX": ["0 ."]}}, Failed, "5.1.10", True),
        ({"acme.test": {"TXT": ["x"]}}, Failed, "5.4.4", True),
        ({"acme.test": SERVFAIL}, Deferred, "DNS did not answer", False),
        ({"acme.test": {"MX": ["10 mx.acme.test"]}, "mx.acme.test": SERVFAIL}, Deferred, "DNS did not answer", False),
        ({"acme.test": {"MX": ["10 mx.acme.test"]}}, Deferred, "4.4.4", True),
    ],
)
def test_dns_decides_before_anything_is_dialled(zone: Zone, kind: type[Outcome], detail: str, counts: bool) -> None:
    """NXDOMAIN and null MX are for good; a failing resolver is our trouble and costs no attempt (R12)."""
    outcome, dialer = asyncio.run(meet(zone, {}))
    assert isinstance(outcome, kind)
    assert isinstance(outcome, Failed | Deferred)
    assert outcome.detail.startswith(detail)
    assert getattr(outcome, "counts", True) is counts
    assert (outcome.category is Category.INVALID_DOMAIN) == counts
    assert dialer.dialled == []


def test_connections_are_kept_per_site() -> None:
    """The second message to a domain needs neither DNS nor a new connection."""

    async def run() -> None:
        async with ScriptedPeer() as peer:
            resolver = FakeResolver(TWO)
            courier = make_courier(resolver=resolver, dialer=MappedDialer({"192.0.2.1": peer.port}))
            for _ in range(2):
                await courier.deliver(make_batch(route="mx", site="acme.test"))
            await courier.close()
            assert (len(peer.connections), len(peer.messages), resolver.asked.count(("MX", "acme.test"))) == (1, 2, 1)

    asyncio.run(run())
