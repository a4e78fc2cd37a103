"""Single sign-on: with a real OpenID provider's process, and with one that lies (THREATS 36)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from joserfc.jwk import RSAKey

from gatepost.clock import SystemClock
from gatepost.domain.access import Role
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.settings import InvalidSettings, Oidc, Settings, load
from gatepost.store import people as stored
from gatepost.tenants.sign_in_oidc import SingleSignOn
from tests.people.house import PASSWORD, in_house, operator, visit
from tests.people.provider import CLIENT_ID, CLIENT_SECRET, Provider, query_of, running_provider
from tests.people.test_sign_in import refused

BACK = "https://gate.acme.example/login/provider/return"


@pytest.fixture(scope="module")
def real_provider() -> Iterator[str]:
    """A provider's process; its issuer."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    arguments = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"}
    )
    issuer = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            if httpx.get(f"{issuer}/.well-known/openid-configuration").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield issuer
    process.send_signal(signal.SIGTERM)
    process.wait(10)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that does what the test wants."""
    with running_provider() as running:
        yield running


def oidc(provider: Provider, **more) -> Oidc:
    """Configure a provider."""
    return Oidc(issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, **more)


def signing_on(house, provider: Provider, **more) -> SingleSignOn:
    """Make what lets people in by it."""
    return SingleSignOn(house.engine, house.clock, Settings(oidc=oidc(provider, **more)), house.tickets)


async def come_back(sso: SingleSignOn, provider: Provider, subject="ann-1", change: Callable = lambda query: query, **claims):
    """Go to the provider and come back."""
    url, ticket = await sso.begin(BACK, "/q")
    query = change(provider.authorize(url, subject, **claims))
    return await sso.finish(query, ticket, BACK, visit())


@pytest.fixture
def sqlite(tmp_path):
    """Open a database of its own."""
    from gatepost.store.opening import create_engine

    return lambda: create_engine("", tmp_path / "data")


def test_a_person_signs_in_with_a_real_provider(sqlite, real_provider):
    """Discovery, code, PKCE, nonce, signature: the whole way, with the process of an OpenID provider."""

    async def work(house):
        house.clock._now = SystemClock().now()
        await house.set_up()
        settings = Settings(oidc=Oidc(issuer=real_provider, client_id="gatepost", client_secret="x", domains=["acme.example"]))
        sso = SingleSignOn(house.engine, house.clock, settings, house.tickets)
        async with httpx.AsyncClient() as browser:
            claims = {"email": "ann@acme.example", "email_verified": True}
            await browser.put(f"{real_provider}/users/ann-at-provider", json=claims)
            for _ in range(2):  # the second time she is known by issuer and subject
                url, ticket = await sso.begin(BACK, "/q")
                assert query_of(url)["code_challenge_method"] == "S256"
                answer = await browser.post(url, data={"sub": "ann-at-provider"})
                assert answer.headers["location"].startswith(BACK)
                entered, target = await sso.finish(query_of(answer.headers["location"]), ticket, BACK, visit())
                assert entered.person.email == "ann@acme.example"
                assert target == "/q"
            await browser.put(f"{real_provider}/users/mallory", json={**claims, "email_verified": False})
            url, ticket = await sso.begin(BACK, "/")
            answer = await browser.post(url, data={"sub": "mallory"})
            assert await refused(sso.finish(query_of(answer.headers["location"]), ticket, BACK, visit())) == "permission_denied"
            answer = await browser.post(url, data={"action": "deny"})
            assert await refused(sso.finish(query_of(answer.headers["location"]), ticket, BACK, visit())) == "authentication_failed"
        assert (await house.audited()).count("person.identity_linked") == 1

    in_house(sqlite, work)


def test_an_honest_answer_opens_a_session(make_engine, provider):
    """On both databases; what was kept of the provider is not asked for again."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        for _ in range(3):
            entered, _ = await come_back(sso, provider)
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.OWNER}
        assert provider.log.count("/jwks") == provider.log.count("/.well-known/openid-configuration") == 1

    in_house(make_engine, work)


OTHER_KEY = RSAKey.generate_key(2048, parameters={"kid": "one"}, auto_kid=False)


@pytest.mark.parametrize(
    "lie",
    [
        {"claims": {"iss": "https://other.example"}}, {"claims": {"aud": "somebody-else"}}, {"claims": {"aud": [CLIENT_ID, "x"]}},
        {"claims": {"nonce": "another"}}, {"without": {"nonce"}}, {"without": {"sub"}}, {"without": {"exp"}}, {"without": {"aud"}},
        {"claims": {"exp": 1_763_999_000}}, {"claims": {"iat": 1_765_000_000}}, {"claims": {"sub": ""}}, {"claims": {"azp": "x"}},
        {"header": {"alg": "none"}}, {"header": {"alg": "HS256"}}, {"sign_with": OTHER_KEY}, {"header": {"alg": "RS256", "kid": "two"}},
    ],
    ids=["iss", "aud", "auds", "nonce", "no-nonce", "no-sub", "no-exp", "no-aud", "exp", "iat", "sub", "azp", "none", "hs256", "other-key", "kid"],
)  # fmt: skip
def test_a_statement_that_is_not_the_providers_or_not_for_us_opens_nothing(sqlite, provider, lie):
    """Issuer, audience, nonce, times, signature and algorithm: each alone is enough to be refused."""
    for name, value in lie.items():
        setattr(provider, name, value)

    async def work(house):
        await house.set_up()
        assert await refused(come_back(signing_on(house, provider), provider)) == "authentication_failed"

    in_house(sqlite, work)


@pytest.mark.parametrize(
    "change",
    [
        lambda query: {**query, "state": "guessed"}, lambda query: {"code": query["code"]}, lambda query: {"state": query["state"]},
        lambda query: {**query, "iss": "https://other.example"}, lambda query: {**query, "error": "access_denied"},
        lambda query: {**query, "code": "another"},
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_opens_nothing(sqlite, provider, change):
    """Another state, none, another provider's answer (mix-up), a refusal, another code."""

    async def work(house):
        await house.set_up()
        assert await refused(come_back(signing_on(house, provider), provider, change=change)) == "authentication_failed"

    in_house(sqlite, work)


def test_a_provider_that_promises_its_name_in_each_answer_is_held_to_it(sqlite, provider):
    """RFC 9207: without `iss` the answer is refused, with it taken."""
    provider.metadata = {"authorization_response_iss_parameter_supported": True}

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        assert await refused(come_back(sso, provider)) == "authentication_failed"
        await come_back(sso, provider, change=lambda query: {**query, "iss": provider.issuer})

    in_house(sqlite, work)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
def test_discovery_that_speaks_for_another_issuer_or_leads_out_of_tls_is_not_used(sqlite, provider, metadata):
    """Mix-up and downgrade begin there."""
    provider.metadata = metadata

    async def work(house):
        await house.set_up()
        assert await refused(signing_on(house, provider).begin(BACK, "/")) == "overloaded"

    in_house(sqlite, work)


def test_a_code_that_was_got_elsewhere_is_worth_nothing(sqlite, provider):
    """PKCE: an attacker's code, injected into the victim's way back, belongs to another verifier."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        attackers_url, _ = await sso.begin(BACK, "/")
        stolen = provider.authorize(attackers_url)["code"]
        assert await refused(come_back(sso, provider, change=lambda query: {**query, "code": stolen})) == "authentication_failed"

    in_house(sqlite, work)


def test_a_way_back_that_was_not_begun_in_this_browser_opens_nothing(sqlite, provider):
    """Without the cookie, with another one's, late, or a second time."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        url, ticket = await sso.begin(BACK, "/")
        _, other = await sso.begin(BACK, "/")
        query = provider.authorize(url)
        forged = ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BB")
        device = await house.tickets.make("device", "", 10_000)
        for wrong in ("", other, forged, device, "x.y", "."):
            assert await refused(sso.finish(query, wrong, BACK, visit())) == "authentication_failed"
        await sso.finish(query, ticket, BACK, visit())
        again = {**provider.authorize(url), "state": query["state"]}
        assert await refused(sso.finish(again, ticket, BACK, visit())) == "authentication_failed"
        url, ticket = await sso.begin(BACK, "/")
        house.clock.advance(601)
        assert await refused(sso.finish(provider.authorize(url), ticket, BACK, visit())) == "authentication_failed"

    in_house(sqlite, work)


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email_verified": None}, {"email": "no address"}, {"email": None}])
def test_an_address_that_anybody_could_claim_opens_no_account(sqlite, provider, claims):
    """Only a verified one finds a person."""

    async def work(house):
        await house.set_up()
        assert await refused(come_back(signing_on(house, provider), provider, "mallory", **claims)) == "permission_denied"

    in_house(sqlite, work)


def test_who_may_come_in(make_engine, provider):
    """Invited people with the role they were promised; others by setting; of the allowed domains only; never who is disabled."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        assert await refused(come_back(sso, provider, "bob-1", email="bob@acme.example")) == "permission_denied"
        await house.people.invite(operator(house.tenant_id), house.tenant_id, "bob@acme.example", Role.DEVELOPER)
        entered, _ = await come_back(sso, provider, "bob-1", email="bob@acme.example", name="Bob")
        assert (entered.person.name, (await house.signed_in(entered)).roles) == ("Bob", {house.tenant_id: Role.DEVELOPER})
        assert await house.people.invitations(house.tenant_id) == []
        await house.people.set_disabled(operator(house.tenant_id), "bob@acme.example", is_disabled=True)
        assert await refused(come_back(sso, provider, "bob-1", email="bob@acme.example")) == "permission_denied"
        everybody = signing_on(house, provider, invited_only=False, domains=["acme.example"])
        entered, _ = await come_back(everybody, provider, "carla-1", email="carla@acme.example")
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.VIEWER}
        assert await refused(come_back(everybody, provider, "eve-1", email="eve@evil.example")) == "permission_denied"
        assert await house.engine.read(lambda conn: stored.by_email(conn, "eve@evil.example")) is None

    in_house(make_engine, work)


def test_the_provider_gives_roles_where_it_is_asked_to_and_takes_no_last_owner(sqlite, provider):
    """The highest that the claim names, at each sign-in."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider, invited_only=False, role_claim="groups")
        entered, _ = await come_back(sso, provider, "bob-1", email="bob@acme.example", groups=["viewer", "admin", "staff"])
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.ADMIN}
        entered, _ = await come_back(sso, provider, "bob-1", email="bob@acme.example", groups="viewer")
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.VIEWER}
        entered, _ = await come_back(sso, provider, groups="viewer")
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.OWNER}

    in_house(sqlite, work)


def test_a_provider_that_is_away_is_an_honest_answer(sqlite, provider):
    """Not a fault of ours: busy, try again; and nothing of it stands in the log but its address."""
    told = []

    async def work(house):
        await house.set_up()
        sso = SingleSignOn(
            house.engine, house.clock, Settings(oidc=Oidc(issuer="http://127.0.0.1:1", client_id="x", client_secret="hush")), house.tickets
        )
        with pytest.raises(Refused) as caught:
            await sso.begin(BACK, "/")
        assert (caught.value.code, caught.value.retry_after_s) == ("overloaded", 30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maillog, "trouble", lambda what, **fields: told.append(fields))
        in_house(sqlite, work)
    assert "127.0.0.1:1" in repr(told)
    assert "hush" not in repr(told)


def test_new_keys_of_the_provider_are_found(sqlite, provider):
    """A signature by a key that is not known asks for the keys once more."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        await come_back(sso, provider)
        provider.key = RSAKey.generate_key(2048, parameters={"kid": "two"}, auto_kid=False)
        provider.header = {"kid": "two"}
        house.clock.advance(31)
        provider.claims = {"iat": house.clock.now() // 1000}
        await come_back(sso, provider)

    in_house(sqlite, work)


@pytest.mark.parametrize("issuer", ["http://id.example.com", "https://id.example.com/?x=1", "ftp://id.example.com", "id.example.com"])
def test_an_issuer_without_tls_is_refused_at_the_start(tmp_path, issuer):
    """What is read there decides who comes in."""
    with pytest.raises(InvalidSettings, match=r"oidc\.issuer"):
        load(tmp_path, environ={"GATEPOST_OIDC__ISSUER": issuer, "GATEPOST_OIDC__CLIENT_ID": "x"})


def test_the_clients_secret_comes_from_a_file(tmp_path):
    """As secrets do."""
    (tmp_path / "secret").write_text("hush\n")
    loaded = load(tmp_path, environ={"GATEPOST_OIDC__CLIENT_SECRET_FILE": str(tmp_path / "secret")})
    assert loaded.settings.oidc.client_secret == "hush"


def test_no_token_stands_in_the_log(sqlite, provider, capfd, monkeypatch):
    """Neither code, token, verifier nor secret (THREATS 36)."""

    async def work(house):
        await house.set_up()
        sso = signing_on(house, provider)
        url, ticket = await sso.begin(BACK, "/")
        query = provider.authorize(url)
        provider.without = {"nonce"}
        await refused(sso.finish(query, ticket, BACK, visit()))
        output = "".join(capfd.readouterr())
        for secret in (query["code"], query["state"], ticket, CLIENT_SECRET, PASSWORD, "eyJ"):
            assert secret not in output

    for name in ("_least", "_is_masked", "_is_info", "_process"):  # put back afterwards
        monkeypatch.setattr(maillog, name, getattr(maillog, name))
    maillog.configure(level="debug", mask_addresses=True, process="test")
    in_house(sqlite, work)
