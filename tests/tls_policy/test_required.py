"""Messages that require TLS, messages that would rather arrive without, and policies that are kept away from both (RFC 8689)."""

import asyncio
from typing import Any

import pytest

from gatepost.clock import SystemClock
from gatepost.domain.address import parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, RawSubmission, Steering
from gatepost.domain.outcome import Category, Deferred, Delivered, Failed
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.mime.adopt import adopt
from gatepost.net.dial import SocketDialer
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress, Limits, Relay, Settings
from gatepost.testing.batches import make_batch
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.scripted_peer import DEFAULT_EXTENSIONS, MappedDialer, ScriptedPeer
from tests.tls_policy.house import open_post, server_context, tlsa

ZONE = {"plain.example": {"MX": ["10 mx.plain.example"]}, "mx.plain.example": {"A": ["192.0.2.1"]}}


def meet(
    names, *sends: dict[str, Any], pair: str | None = "good", extensions=DEFAULT_EXTENSIONS, zone=ZONE, secure=(), domain="plain.example"
):
    """Send messages one after the other to one domain; return outcomes and peer."""

    async def run():
        context = None if pair is None else server_context(names.pairs[pair], names.folder)
        async with ScriptedPeer(tls=context, extensions=extensions) as peer:
            resolver = FakeResolver(zone, secure=secure)
            post = open_post(resolver=resolver, dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file)
            outcomes = [await post.send(domain, **fields) for fields in sends]
            await post.courier.close()
            return outcomes, peer

    return asyncio.run(run())


def test_a_message_that_requires_tls_goes_over_a_verified_connection(names):
    """Without any policy of the domain the certificate must be valid for the mail host."""
    (outcome,), _ = meet(names, {"requires_tls": True})
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls_policy == "required"


@pytest.mark.parametrize("pair", ["expired", "stranger", "elsewhere", "address", None])
def test_else_it_waits(names, pair):
    """THREATS 54: self-signed, expired, for another host, for an address, or no TLS at all."""
    (outcome,), peer = meet(names, {"requires_tls": True}, pair=pair)
    assert isinstance(outcome, Deferred)
    assert outcome.category is Category.NETWORK
    assert outcome.detail.startswith("no mail host of plain.example has the verified TLS that the message requires: mx.plain.example")
    assert not any(command.startswith("MAIL") for command in peer.commands)


def test_it_never_travels_over_a_connection_that_was_opened_without(names):
    """The pool knows what each connection has shown; the other way round a verified one serves everybody."""
    outcomes, peer = meet(names, {}, {"requires_tls": True}, {}, {"requires_tls": True})
    assert [outcome.exchange.tls_policy for outcome in outcomes] == ["opportunistic", "required", "opportunistic", "required"]
    assert len(peer.connections) == 2
    outcomes, peer = meet(names, {}, {"requires_tls": True}, pair="stranger")
    assert isinstance(outcomes[0], Delivered)
    assert isinstance(outcomes[1], Deferred)
    assert len(peer.messages) == 1


def test_a_connection_to_somebody_elses_host_is_none(names):
    """Verified or not: what one domain's host has shown is nothing to a domain that has another host, though both are one site's."""
    zone = ZONE | {"other.example": {"MX": ["10 mx2.sts.example"]}, "mx2.sts.example": {"A": ["192.0.2.1"]}}

    async def run():
        async with ScriptedPeer(tls=server_context(names.pairs["good"], names.folder)) as peer:
            post = open_post(resolver=FakeResolver(zone), dialer=MappedDialer({"192.0.2.1": peer.port}), authority=names.file)
            hosts = [
                (await post.send(domain, site="shared", requires_tls=True)).exchange.host for domain in ("plain.example", "other.example")
            ]
            await post.courier.close()
            return hosts

    assert asyncio.run(run()) == ["mx.plain.example", "mx2.sts.example"]


def test_dane_is_verification_enough(names):
    """A certificate that TLSA records vouch for needs no authority (RFC 8689 §4.2.1)."""
    zone = ZONE | {"_25._tcp.mx.plain.example": {"TLSA": [tlsa(3, 1, 1, names.pairs["stranger"].certificate)]}}
    (outcome,), _ = meet(names, {"requires_tls": True}, pair="stranger", zone=zone, secure=tuple(zone))
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls_policy == "dane"


def test_requiretls_is_passed_on_where_it_is_offered(names):
    """The next server hears what the sender asks for (RFC 8689 §4.2.1)."""
    offering = (*DEFAULT_EXTENSIONS, "REQUIRETLS")
    _, peer = meet(names, {"requires_tls": True}, extensions=offering)
    assert peer.messages[0].mail.endswith(" REQUIRETLS")
    _, peer = meet(names, {}, extensions=offering)
    assert "REQUIRETLS" not in peer.messages[0].mail


def test_who_asks_for_requiretls_over_smtp_gets_no_less(names):
    """A server without REQUIRETLS cannot promise anything: the message comes back with 5.7.30 (RFC 8689 §4.2.1)."""
    wanted = {"requires_tls": True, "needs_requiretls": True}
    (outcome,), peer = meet(names, wanted)
    assert isinstance(outcome, Failed)
    assert outcome.category is Category.POLICY_REJECTED
    assert outcome.detail.startswith("5.7.30 ")
    assert peer.messages == []
    (outcome,), peer = meet(names, wanted, extensions=(*DEFAULT_EXTENSIONS, "REQUIRETLS"))
    assert isinstance(outcome, Delivered)
    assert peer.messages[0].mail.endswith(" REQUIRETLS")


def test_who_would_rather_have_it_arrive_is_kept_from_policies(names):
    """`TLS-Required: No`: neither TLSA records nor a broken resolver stand in the way (RFC 8689 §4.2.2)."""
    wrong = tlsa(3, 1, 1, names.pairs["elsewhere"].certificate)
    zone = ZONE | {"_25._tcp.mx.plain.example": {"TLSA": [wrong]}}
    outcomes, _ = meet(names, {}, {"ignores_tls_policy": True}, {}, zone=zone, secure=tuple(zone))
    assert [type(outcome) for outcome in outcomes] == [Deferred, Delivered, Deferred]
    assert outcomes[1].exchange.tls_policy == "opportunistic"
    outcomes, peer = meet(names, {"ignores_tls_policy": True}, zone=zone, secure=tuple(zone), pair=None)
    assert isinstance(outcomes[0], Delivered)
    assert not peer.connections[0].is_encrypted


def relay_courier(names, url: str) -> SmtpCourier:
    return SmtpCourier(
        route="main", settings=Settings(egress=Egress()), relay=Relay(url=url), resolver=FakeResolver(), dialer=SocketDialer(),
        clock=SystemClock(), hostname="gw.acme.example", tls=ClientTls(str(names.file)),
    )  # fmt: skip


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_relay_is_held_to_it_too(names, is_trusted):
    """A message that requires TLS reaches a relay that may do without only over a verified connection."""
    pair = names.authority.issue("localhost") if is_trusted else names.pairs["stranger"]

    async def run():
        async with ScriptedPeer(tls=server_context(pair, names.folder)) as peer:
            courier = relay_courier(names, f"smtp://localhost:{peer.port}")
            first = (await courier.deliver(make_batch()))[0]
            second = (await courier.deliver(make_batch(requires_tls=True)))[0]
            await courier.close()
            return first, second, peer

    first, second, peer = asyncio.run(run())
    assert isinstance(first, Delivered)
    assert isinstance(second, Delivered if is_trusted else Deferred), second
    assert second.exchange.tls_policy == "required"
    assert len(peer.connections) == 2


HEAD = b"From: ann@acme.example\r\nTo: bob@plain.example\r\nSubject: hi\r\nMessage-ID: <1@acme.example>\r\nDate: Tue, 24 Nov 2026 02:00:00 +0000\r\n"


def steering_of(*lines: bytes, outside: Steering | None = None) -> Steering:
    content = HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\nhello\r\n"
    raw = RawSubmission(
        envelope_from=parse_address("ann@acme.example"), recipients=(EnvelopeRecipient(address=parse_address("bob@plain.example")),),
        content=content, steering=outside or Steering(),
    )  # fmt: skip
    draft = adopt(raw, message_id="msg_1", hostname="gw.acme.example", now=0, limits=Limits())
    assert (b"X-Gatepost" in draft.content, b"TLS-Required" in draft.content) == (False, any(b"TLS-Required" in line for line in lines))
    return draft.steering


def test_the_raw_headers_are_read():
    """`X-Gatepost-Require-TLS` steers and is removed; `TLS-Required: No` steers and travels on (RFC 8689 §3)."""
    assert steering_of(b"X-Gatepost-Require-TLS: true").requires_tls
    assert not steering_of(b"X-Gatepost-Require-TLS: False", outside=Steering(requires_tls=True)).requires_tls
    assert not steering_of().requires_tls
    assert steering_of(b"TLS-Required: No").ignores_tls_policy
    assert steering_of(b"TLS-Required: no", b"X-Gatepost-Stream: bulk").ignores_tls_policy
    assert not steering_of(b"TLS-Required: Yes").ignores_tls_policy
    assert not steering_of(b"TLS-Required: No", b"TLS-Required: No").ignores_tls_policy
    with pytest.raises(Refused):
        steering_of(b"X-Gatepost-Require-TLS: maybe")
