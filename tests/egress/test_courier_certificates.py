"""THREATS 54: whom a relay with `tls=must` is not: each wrong certificate ends in a deferral before any mail was said."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest
from tests.tls.authority import Authority, Pair

from gatepost.domain.outcome import Category, Deferred, Delivered, Outcome
from gatepost.net.tls import ClientTls
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.scripted_peer import ScriptedPeer

DAY = dt.timedelta(days=1)
TRUSTED, STRANGER = Authority("Trusted"), Authority("Stranger")


def meet(folder: Path, pair: Pair, url: str, *, is_implicit: bool) -> tuple[Outcome, ScriptedPeer]:
    """Deliver to a relay that shows a certificate, trusting one authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*pair.write(folder))
    peer = ScriptedPeer(tls=server, is_implicit_tls=is_implicit)
    tls = ClientTls()
    tls.verified.load_verify_locations(cadata=TRUSTED.pem.decode())

    async def run() -> Outcome:
        async with peer:
            courier = make_courier(url.format(port=peer.port), tls=tls)
            outcome = (await courier.deliver(make_batch()))[0]
            await courier.close()
            return outcome

    return asyncio.run(run()), peer


URLS = [("smtp://{host}:{{port}}?tls=must", False), ("smtps://{host}:{{port}}", True), ("smtp://user:secret@{host}:{{port}}", False)]


@pytest.mark.parametrize(("url", "is_implicit"), URLS)
@pytest.mark.parametrize(
    ("pair", "host", "words"),
    [
        (STRANGER.issue("localhost", "127.0.0.1"), "localhost", "issuer"),
        (TRUSTED.issue("localhost", starts=-10 * DAY, ends=-DAY), "localhost", "expired"),
        (TRUSTED.issue("localhost", starts=DAY), "localhost", "not yet valid"),
        (TRUSTED.issue("relay.example"), "localhost", "Hostname mismatch"),
        (TRUSTED.issue("*.localhost"), "localhost", "Hostname mismatch"),
        (TRUSTED.issue("127.0.0.1"), "localhost", "Hostname mismatch"),
        (TRUSTED.issue("localhost"), "127.0.0.1", "IP address mismatch"),
        (TRUSTED.issue("127.0.0.2"), "127.0.0.1", "IP address mismatch"),
        (TRUSTED.issue("localhost", is_client=True), "localhost", "purpose"),
    ],
    ids=["stranger", "expired", "not-yet", "other-name", "wildcard", "address-only", "name-only", "other-address", "purpose"],
)
def test_a_wrong_certificate_gets_no_mail(tmp_path, pair, host, words, url, is_implicit):
    """Unknown authority, wrong time, wrong name, wrong address, wrong purpose: nothing is sent, no password either, and the reason is told."""
    outcome, peer = meet(tmp_path, pair, url.format(host=host), is_implicit=is_implicit)
    assert isinstance(outcome, Deferred)
    assert outcome.category is Category.NETWORK
    assert words in outcome.detail, outcome.detail
    assert not [command for command in peer.commands if command.startswith(("MAIL", "AUTH"))]


@pytest.mark.parametrize(("url", "is_implicit"), URLS[:2])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_right_certificate_gets_it(tmp_path, host, url, is_implicit):
    """By name, and by address where the certificate names the address (RFC 5280 §4.2.1.6)."""
    outcome, _ = meet(tmp_path, TRUSTED.issue("localhost", "127.0.0.1"), url.format(host=host), is_implicit=is_implicit)
    assert isinstance(outcome, Delivered), outcome


def test_a_self_signed_certificate_gets_no_mail(tmp_path):
    """Being one's own authority is not enough."""
    own = Authority("localhost")
    pair = Pair(own.certificate, own.pem, _key_of(own))
    outcome, peer = meet(tmp_path, pair, "smtp://localhost:{port}?tls=must", is_implicit=False)
    assert isinstance(outcome, Deferred)
    assert "self-signed" in outcome.detail
    assert not [command for command in peer.commands if command.startswith("MAIL")]


def _key_of(authority: Authority) -> bytes:
    from tests.tls.authority import _pem

    return _pem(authority._key)
