"""TLS on the way out: taken where offered, demanded where told, and never a way to fool us."""

import asyncio
from collections.abc import Iterator

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Outcome
from gatepost.net.tls import ClientTls
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.certificates import Certificates
from gatepost.testing.scripted_peer import Action, Raw, ScriptedPeer


@pytest.fixture
def trusting(certificates: Certificates) -> Iterator[ClientTls]:
    """Contexts that trust our own certificate."""
    tls = ClientTls()
    tls.verified.load_verify_locations(certificates.ca_file)
    yield tls


def meet(url: str, peer: ScriptedPeer, tls: ClientTls | None = None) -> Outcome:
    async def run() -> Outcome:
        async with peer:
            courier = make_courier(url.format(port=peer.port), tls=tls)
            outcome = (await courier.deliver(make_batch()))[0]
            await courier.close()
            return outcome

    return asyncio.run(run())


def test_offered_tls_is_taken_without_asking_who_it_is(certificates: Certificates) -> None:
    """Under `may` a self-signed certificate is better than nothing (RFC 7435)."""
    peer = ScriptedPeer(tls=certificates.server)
    outcome = meet("smtp://127.0.0.1:{port}", peer)
    assert isinstance(outcome, Delivered), outcome
    assert (outcome.exchange.tls or "").startswith("TLSv1.3 ")
    assert peer.commands.count("EHLO gw.acme.example") == 2
    assert peer.connections[0].is_encrypted


def test_demanded_tls_needs_a_valid_certificate(certificates: Certificates, trusting: ClientTls) -> None:
    """Under `must` an unknown or wrong certificate means no delivery (THREATS 54)."""
    peer = ScriptedPeer(tls=certificates.server)
    refused = meet("smtp://127.0.0.1:{port}?tls=must", peer)
    assert isinstance(refused, Deferred)
    assert refused.category is Category.NETWORK
    assert "certificate" in refused.detail
    assert not any(command.startswith("MAIL") for command in peer.commands)
    trusted = meet("smtp://localhost:{port}?tls=must", ScriptedPeer(tls=certificates.server), trusting)
    assert isinstance(trusted, Delivered), trusted


def test_tls_from_the_first_byte(certificates: Certificates, trusting: ClientTls) -> None:
    """`smtps://` encrypts before the greeting (RFC 8314)."""
    outcome = meet("smtps://localhost:{port}", ScriptedPeer(tls=certificates.server, is_implicit_tls=True), trusting)
    assert isinstance(outcome, Delivered), outcome
    assert outcome.exchange.tls


@pytest.mark.parametrize(
    "script",
    [
        {"STARTTLS": "454 4.7.0 not now"},
        {"STARTTLS": Raw(b"220 go\r\n250 injected\r\n")},
        {"STARTTLS": Raw(b"220 go\r\nMAIL")},
        {"STARTTLS": Raw(b"220 go\r\nno TLS follows, this is no handshake at all\r\n")},
    ],
)
def test_under_must_no_trick_gets_mail_in_plain_text(certificates: Certificates, trusting: ClientTls, script: dict[str, Action]) -> None:
    """THREATS 5: refused STARTTLS and injected answers end in a deferral, and no MAIL was said."""
    peer = ScriptedPeer(script, tls=certificates.server)
    outcome = meet("smtp://localhost:{port}?tls=must", peer, trusting)
    assert isinstance(outcome, Deferred)
    assert not any(command.startswith("MAIL") for command in peer.commands)


def test_a_stripped_offer_is_not_enough_under_must(trusting: ClientTls) -> None:
    """THREATS 5: without STARTTLS in the EHLO reply nothing is delivered."""
    outcome = meet("smtp://localhost:{port}?tls=must", ScriptedPeer(), trusting)
    assert isinstance(outcome, Deferred)
    assert "does not offer TLS" in outcome.detail


def test_optional_tls_that_fails_is_tried_without() -> None:
    """A server whose handshake is broken still gets its mail, on a new connection (RFC 7435 §3)."""
    peer = ScriptedPeer(extensions=("PIPELINING", "STARTTLS"))  # answers 220 and then waits for a command

    async def run() -> Outcome:
        async with peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}", timeout_scale=0.005)
            return (await courier.deliver(make_batch()))[0]

    outcome = asyncio.run(run())
    assert isinstance(outcome, Delivered), outcome
    assert (len(peer.connections), outcome.exchange.tls) == (2, None)
    assert "TLS failed" in outcome.exchange.transcript


def test_the_password_goes_out_encrypted_and_stays_out_of_the_transcript(certificates: Certificates, trusting: ClientTls) -> None:
    """AUTH follows TLS; neither transcript nor outcome shows the secret."""
    peer = ScriptedPeer(tls=certificates.server, extensions=("PIPELINING", "AUTH PLAIN"))
    outcome = meet("smtp://user:hunter2@localhost:{port}", peer, trusting)
    assert isinstance(outcome, Delivered), outcome
    assert "AUTH PLAIN AHVzZXIAaHVudGVyMg==" in peer.commands
    assert "AHVzZXIAaHVudGVyMg" not in repr(outcome)
    assert "C: AUTH PLAIN <secret>" in outcome.exchange.transcript


def test_a_wrong_password_costs_no_attempt() -> None:
    """The fault is in our settings: the mail waits for them to be mended."""
    outcome = meet("smtp://user:hunter2@127.0.0.1:{port}?tls=never", ScriptedPeer({"AUTH": "535 5.7.8 no"}, extensions=("AUTH LOGIN",)))
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts) == (Category.AUTH_FAILURE, False)


def test_sessions_are_resumed(certificates: Certificates, trusting: ClientTls) -> None:
    """The second connection to a name starts from the first one's ticket, which costs half."""

    async def run() -> None:
        async with ScriptedPeer(tls=certificates.server) as peer:
            courier = make_courier(f"smtp://localhost:{peer.port}?tls=must", tls=trusting, idle_connection_s=0)
            for _ in range(2):
                assert isinstance((await courier.deliver(make_batch()))[0], Delivered)
            await courier.close()

    asyncio.run(run())
    assert certificates.server.session_stats()["hits"] >= 1
