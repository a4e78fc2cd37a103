"""Smarthosts that take access tokens (XOAUTH2), as Microsoft 365 and Google do: aiosmtpd on one side, an authority on the other."""

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwk, jwt

from gatepost.app import parts
from gatepost.clock import SystemClock
from gatepost.domain.outcome import Category, Deferred, Delivered, Outcome
from gatepost.egress.courier import Probe
from gatepost.net.tls import ClientTls
from gatepost.settings import Egress, InvalidSettings, Relay, RelayOAuth, Settings
from gatepost.testing.batches import make_batch
from gatepost.testing.certificates import Certificates, make_certificates
from tests.relays.peer import Peer, Says

USER = "robot@acme.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@dataclass
class Smarthost:
    """What aiosmtpd takes: one user, some tokens."""

    tokens: set[str] = field(default_factory=set)
    envelopes: list[Envelope] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    port: int = 0

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        user, bearer = ([*base64.b64decode(args[1]).decode().split("\x01"), ""])[:2]
        token = bearer.removeprefix("auth=Bearer ")
        self.tried.append(token)
        if user == f"user={USER}" and token in self.tokens:
            return AuthResult(success=True, auth_data=USER)
        await server.push("334 " + base64.b64encode(b'{"status":"400","schemes":"bearer"}').decode())
        assert await server._reader.readline() == b"\r\n", "a client answers the error with an empty line"
        return AuthResult(success=False, handled=False)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 kept"


@contextlib.contextmanager
def smarthost(certificates: Certificates, *tokens: str) -> Iterator[Smarthost]:
    handler = Smarthost(set(tokens))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        handler.port = int(probe.getsockname()[1])
    context = certificates.server
    controller = Controller(
        handler, hostname="127.0.0.1", port=handler.port, tls_context=context, auth_required=True, auth_exclude_mechanism=["PLAIN", "LOGIN"]
    )  # fmt: skip
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


def couriers(port: int, oauth: RelayOAuth, trusted: ssl.SSLContext) -> Any:
    relay = Relay(url=f"smtp://{USER.replace('@', '%40')}@127.0.0.1:{port}?tls=must", oauth=oauth)
    settings = parts.with_hostnames(Settings(egress=Egress(timeout_scale=0.02, idle_connection_s=0), relays={"main": relay}))
    made = parts.create_couriers(settings, SystemClock())["main"]
    made._inner._opener._tls = trusted  # type: ignore[attr-defined]
    return made


def trusting(certificates: Certificates) -> ClientTls:
    tls = ClientTls()
    tls.verified.load_verify_locations(certificates.ca_file)
    return tls


def token(text: str, **more: Any) -> Says:
    return Says(200, {"access_token": text, "token_type": "Bearer", "expires_in": 3600, **more})


async def send(courier: Any, times: int = 1) -> list[Outcome]:
    return [(await courier.deliver(make_batch()))[0] for _ in range(times)]


def fields(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def test_client_credentials_get_one_token_for_many_messages(certificates: Certificates):
    """Microsoft 365 for an application: asked once, used until its end, never shown."""

    async def run() -> None:
        async with Peer(token("tok-1")) as authority:
            with smarthost(certificates, "tok-1") as host:
                oauth = RelayOAuth(token_url=authority.url + "/token", client_id="app", client_secret="hush")
                courier = couriers(host.port, oauth, trusting(certificates))
                outcomes = await send(courier, 3)
                await courier.close()
        assert all(isinstance(one, Delivered) and not one.final for one in outcomes), outcomes
        assert len(authority.got) == 1
        assert fields(authority.got[0].body) == {
            "grant_type": "client_credentials", "client_id": "app", "client_secret": "hush",
            "scope": "https://outlook.office365.com/.default",
        }  # fmt: skip
        assert len(host.envelopes) == 3
        assert "tok-1" not in outcomes[0].exchange.transcript
        assert "AUTH XOAUTH2 <secret>" in outcomes[0].exchange.transcript

    asyncio.run(run())


def test_a_refused_token_is_replaced_at_the_next_attempt(certificates: Certificates):
    """Revoked before its end: the attempt waits without using up a retry, the next one asks for a new token."""

    async def run() -> None:
        async with Peer(token("old"), token("new", refresh_token="r2"), token("newest")) as authority:
            with smarthost(certificates, "new", "newest") as host:
                oauth = RelayOAuth(token_url=authority.url, client_id="app", refresh_token="r1")
                courier = couriers(host.port, oauth, trusting(certificates))
                first, second = await send(courier, 2)
                courier._inner._tokens.forget()
                third = (await send(courier))[0]
                await courier.close()
        assert isinstance(first, Deferred)
        assert (first.category, first.counts) == (Category.AUTH_FAILURE, False)
        assert isinstance(second, Delivered)
        assert isinstance(third, Delivered)
        assert [fields(one.body)["refresh_token"] for one in authority.got] == ["r1", "r1", "r2"]
        assert fields(authority.got[0].body)["scope"] == "https://outlook.office.com/SMTP.Send offline_access"

    asyncio.run(run())


def test_a_service_account_signs_for_the_mailbox(certificates: Certificates, tmp_path: Path):
    """Google: an assertion under the account's key, for the user in the URL (RFC 7523)."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_email": "gw@proj.iam.example", "private_key": pem, "private_key_id": "k1"}))

    async def run() -> None:
        async with Peer(token("ya29")) as authority:
            with smarthost(certificates, "ya29") as host:
                oauth = RelayOAuth(token_url=authority.url, service_account_file=str(file))
                courier = couriers(host.port, oauth, trusting(certificates))
                outcome = (await send(courier))[0]
                await courier.close()
            url = authority.url
        assert isinstance(outcome, Delivered)
        asked = fields(authority.got[0].body)
        assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        public = jwk.RSAKey.import_key(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        read = jwt.decode(asked["assertion"], public, algorithms=["RS256"])
        claims = read.claims
        assert read.header["kid"] == "k1"
        assert (claims["iss"], claims["sub"], claims["aud"], claims["scope"]) == (
            "gw@proj.iam.example",
            USER,
            url,
            "https://mail.google.com/",
        )
        assert claims["exp"] - claims["iat"] == 3600

    asyncio.run(run())


def test_an_authority_that_refuses_or_is_away_costs_no_retry(certificates: Certificates):
    """Our own trouble, told apart: a refused client is a matter of settings, an authority that is away one of the network."""

    async def run() -> None:
        async with Peer(Says(401, {"error": "invalid_client", "error_description": "AADSTS7000215: bad secret"})) as authority:
            with smarthost(certificates) as host:
                oauth = RelayOAuth(token_url=authority.url, client_id="app", client_secret="hush")
                courier = couriers(host.port, oauth, trusting(certificates))
                refused, probe = (await send(courier))[0], await courier.probe()
                await courier.close()
        away = couriers(host.port, oauth, trusting(certificates))
        gone = (await send(away))[0]
        assert isinstance(refused, Deferred)
        assert (refused.category, refused.counts) == (Category.AUTH_FAILURE, False)
        assert "AADSTS7000215" in refused.detail
        assert "hush" not in repr(refused)
        assert (probe.is_good, probe.is_authenticated) == (False, False)
        assert isinstance(gone, Deferred)
        assert (gone.category, gone.counts) == (Category.NETWORK, False)
        assert host.tried == []

    asyncio.run(run())


def test_a_probe_authenticates_and_sends_nothing(certificates: Certificates):
    """Good token, bad token, nobody there."""

    async def run() -> tuple[Probe, Probe, Probe]:
        async with Peer(token("good"), token("bad")) as authority:
            with smarthost(certificates, "good") as host:
                oauth = RelayOAuth(token_url=authority.url, client_id="app", client_secret="hush")
                courier = couriers(host.port, oauth, trusting(certificates))
                good = await courier.probe()
                courier._inner._tokens.forget()
                bad = await courier.probe()
            assert host.envelopes == []
            gone = await courier.probe()
            await courier.close()
        return good, bad, gone

    good, bad, gone = asyncio.run(run())
    assert (good.is_good, good.is_authenticated, good.host) == (True, True, "127.0.0.1")
    assert good.tls is not None
    assert (bad.is_good, bad.is_reachable, bad.is_authenticated) == (False, True, False), bad
    assert (gone.is_good, gone.is_reachable, gone.is_authenticated) == (False, False, None), gone


def test_a_token_is_never_said_as_a_password(certificates: Certificates):
    """A server without XOAUTH2 gets nothing: PLAIN would show the token to whoever asks for passwords."""
    from gatepost.testing.scripted_peer import ScriptedPeer

    async def run() -> None:
        async with Peer(token("tok")) as authority, ScriptedPeer(extensions=["AUTH PLAIN LOGIN"], tls=certificates.server) as peer:
            oauth = RelayOAuth(token_url=authority.url, client_id="app", client_secret="hush")
            courier = couriers(peer.port, oauth, trusting(certificates))
            outcome = (await send(courier))[0]
            await courier.close()
            assert not [one for one in peer.commands if one.startswith("AUTH")]
        assert isinstance(outcome, Deferred)
        assert (outcome.category, outcome.counts) == (Category.AUTH_FAILURE, False)

    asyncio.run(run())


@pytest.mark.parametrize("content", ["no json", "{}", '{"client_email": 1}'])
def test_a_key_file_that_is_none_is_refused_at_the_start(tmp_path: Path, content: str):
    """Not at three in the morning, when the first mail goes out."""
    file = tmp_path / "key.json"
    file.write_text(content)
    relay = Relay(url=f"smtp://{USER.replace('@', '%40')}@smtp.gmail.com:587", oauth=RelayOAuth(service_account_file=str(file)))
    with pytest.raises(InvalidSettings, match="service_account_file"):
        parts.create_couriers(parts.with_hostnames(Settings(relays={"main": relay})), SystemClock())
