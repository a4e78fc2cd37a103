"""Tokens of an outside issuer: a real one on loopback that signs with RSA, and everything that must not be taken."""

import asyncio
import json
from dataclasses import dataclass, field

import joserfc.jwk
import joserfc.jwt
import pytest
from aiohttp import web

from gatepost.domain.access import KeyMode, PrincipalKind, Scope
from gatepost.settings import InvalidSettings, Issuer, OAuth, Settings, load
from gatepost.store import last_use
from gatepost.store.opening import create_engine
from gatepost.tenants.identity import create_identity
from gatepost.tenants.issuers import TrustedIssuer
from tests.identity.house import ISSUER, PEER, House

AUDIENCE = "gatepost"
_KEYS = [joserfc.jwk.RSAKey.generate_key(2048, {"kid": f"rsa{n}", "use": "sig"}) for n in range(2)]


@dataclass
class Provider:
    """An issuer with its key set at a URL; it may be told to misbehave."""

    url: str = ""
    keys: list = field(default_factory=lambda: [_KEYS[0]])
    asked: int = 0
    answer: web.Response | None = None

    async def show_keys(self, _request):
        self.asked += 1
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers={"location": "/elsewhere"})
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})

    def token(self, house, key=None, header=None, **changes):
        now_s = house.clock.now() // 1000
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "svc-orders",
            "exp": now_s + 600,
            "iat": now_s,
            "scope": "messages:send",
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        signer = key or self.keys[0]
        return joserfc.jwt.encode(
            {"alg": "RS256", "typ": "at+jwt", "kid": signer.kid, **(header or {})}, claims, signer, algorithms=["RS256"]
        )


def issuing(make_engine, work, **settings):
    """Run `work` with a gateway that trusts a running issuer."""

    async def main():
        provider = Provider()
        app = web.Application()
        app.router.add_get("/jwks", provider.show_keys)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        wanted = {"tenant": "other", "max_scopes": ["messages:send", "messages:read"], **settings}
        if not wanted.get("jwks_file"):
            wanted["jwks_url"] = f"{provider.url}/jwks"
        issuer = Issuer(url=provider.url, audience=AUDIENCE, **wanted)
        try:
            async with House(make_engine, settings=Settings(oauth=OAuth(issuer=ISSUER, issuers={"corp": issuer}))) as house:
                await work(house, provider)
        finally:
            await runner.cleanup()

    asyncio.run(main())


def sqlite(folder):
    return lambda: create_engine("", folder / "data")


async def who(house, token):
    return await house.here.identity.authenticator.authenticate(token, PEER)


def test_a_token_of_a_trusted_issuer_acts_in_the_tenant_it_is_set_up_for(make_engine):
    """Its subject is the principal; its last use is not noted, for there is no end of subjects."""

    async def work(house, provider):
        principal = await who(house, provider.token(house))
        assert (principal.id, principal.kind, principal.tenant_id) == ("corp:svc-orders", PrincipalKind.CLIENT, house.other_id)
        assert principal.scopes == {Scope.MESSAGES_SEND}
        await house.here.identity.authenticator.write_uses(house.here.engine)
        assert await house.here.engine.read(lambda conn: last_use.of(conn, ["corp:svc-orders"])) == {}
        await house.suspend(house.other_id, house.clock.now())
        await house.tick()
        assert await house.here.tried(provider.token(house)) == "tenant_suspended"

    issuing(make_engine, work)


@pytest.mark.parametrize(
    ("claim", "value", "words", "scopes"),
    [
        ("scope", "messages:send messages:read domains:write admin operator", {}, {Scope.MESSAGES_SEND, Scope.MESSAGES_READ}),
        ("scope", "admin", {}, {Scope.MESSAGES_SEND, Scope.MESSAGES_READ}),
        ("roles", ["mailer", "janitor"], {"mailer": ["messages:send"]}, {Scope.MESSAGES_SEND}),
        ("roles", ["boss"], {"boss": ["admin"]}, {Scope.MESSAGES_SEND, Scope.MESSAGES_READ}),
        ("roles", ["messages:send"], {"mailer": ["messages:send"]}, None),
        ("scope", "openid profile", {}, None),
        ("scope", "operator", {}, None),
        ("scope", {"messages:send": True}, {}, None),
        ("scope", None, {}, None),
    ],
)
def test_an_outside_token_has_what_its_claim_gives_within_the_maximum(tmp_path, claim, value, words, scopes):
    """Whatever the issuer writes into it, the settings bound it; a token that gives nothing is refused."""

    async def work(house, provider):
        token = provider.token(house, **{"scope": None, claim: value})
        if scopes is None:
            assert await house.here.tried(token) == "authentication_failed"
        else:
            assert (await who(house, token)).scopes == scopes

    issuing(sqlite(tmp_path), work, scope_claim=claim, scopes=words)


def test_outside_tokens_that_are_not_good_are_refused(tmp_path):
    """Another audience, issuer, type, key or time; and an ID token is no access token."""

    async def work(house, provider):
        now_s = house.clock.now() // 1000
        stranger = joserfc.jwk.RSAKey.generate_key(2048, {"kid": "rsa0"})
        tried = {
            "audience": provider.token(house, aud="another-service"),
            "no audience": provider.token(house, aud=None),
            "issuer": provider.token(house, iss=provider.url + "/"),
            "our own name": provider.token(house, iss=ISSUER),
            "id token": provider.token(house, header={"typ": "JWT"}),
            "key": provider.token(house, key=stranger),
            "key by URL": provider.token(house, key=stranger, header={"jku": "http://127.0.0.1:1/jwks", "kid": "x"}),
            "expired": provider.token(house, exp=now_s),
            "not yet": provider.token(house, nbf=now_s + 600),
            "no end": provider.token(house, exp=None),
            "nobody": provider.token(house, sub=None),
            "odd subject": provider.token(house, sub="a\nb"),
            "long subject": provider.token(house, sub="a" * 201),
        }
        found = {name: await house.here.tried(token) for name, token in tried.items()}
        assert found == dict.fromkeys(tried, "authentication_failed")
        assert await house.here.tried(provider.token(house, aud=["another-service", AUDIENCE])) is None

    issuing(sqlite(tmp_path), work)


def test_restrictions_of_an_issuer_hold_for_its_tokens(tmp_path):
    """Mode, domains, networks and the type of its tokens are set beside it."""

    async def work(house, provider):
        token = provider.token(house, header={"typ": "JWT"})
        principal = await who(house, token)
        assert (principal.mode, principal.domains) == (KeyMode.TEST, {"acme.example"})
        assert await house.here.tried(token, "198.51.100.1") == "permission_denied"
        assert await house.here.tried(provider.token(house)) == "authentication_failed"

    issuing(sqlite(tmp_path), work, mode="test", domains=["acme.example"], networks=["192.0.2.0/24"], typ="JWT")


def test_an_issuer_is_asked_for_its_keys_seldom_and_not_by_every_guess(tmp_path):
    """Once at first; for an unknown key at most once a minute; new keys are found, dropped ones are forgotten."""

    async def work(house, provider):
        assert provider.asked == 0
        for _ in range(5):
            assert await house.here.tried(provider.token(house, jti=str(_))) is None
        assert provider.asked == 1
        new = _KEYS[1]
        for n in range(5):
            assert await house.here.tried(provider.token(house, key=new, jti=str(n))) == "authentication_failed"
        assert provider.asked == 1
        provider.keys = [new]
        house.clock.advance(61)
        assert await house.here.tried(provider.token(house)) is None
        assert provider.asked == 2
        assert await house.here.tried(provider.token(house, key=_KEYS[0], jti="dropped")) == "authentication_failed"

    issuing(sqlite(tmp_path), work)


def test_an_issuer_that_drops_a_key_is_believed_though_tokens_are_remembered(tmp_path):
    """A remembered token is looked at again after five minutes, with keys that are at most ten minutes old."""

    async def work(house, provider):
        token = provider.token(house, exp=house.clock.now() // 1000 + 7200)
        assert await house.here.tried(token) is None
        provider.keys = [_KEYS[1]]
        house.clock.advance(601)
        await house.here.tried(token)  # the keys are renewed meanwhile
        for _ in range(100):
            await asyncio.sleep(0.01)
            if provider.asked == 2:
                break
        await asyncio.sleep(0.05)
        house.clock.advance(301)
        assert await house.here.tried(token) == "authentication_failed"

    issuing(sqlite(tmp_path), work)


@pytest.mark.parametrize(
    "answer",
    [web.Response(status=500), web.Response(status=302), web.Response(body=b"{"), web.Response(body=b"{}"), web.Response(body=b"[" * 100_000),
     web.Response(body=b'{"keys": ' + b"[" * 100_000),
     web.Response(body=b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'), web.Response(body=b" " * (1024 * 1024 + 1))],
)  # fmt: skip
def test_an_issuer_that_answers_nonsense_lets_nobody_in_and_keeps_who_was_in(tmp_path, answer):
    """Keys that were good stay good for a day; redirects are not followed."""

    async def work(house, provider):
        provider.answer = answer
        assert await house.here.tried(provider.token(house, jti="a")) == "authentication_failed"
        provider.answer = None
        house.clock.advance(61)
        assert await house.here.tried(provider.token(house, jti="b")) is None
        provider.answer = answer
        house.clock.advance(700)
        assert await house.here.tried(provider.token(house, jti="c")) is None
        await asyncio.sleep(0.1)
        assert await house.here.tried(provider.token(house, jti="d")) is None
        house.clock.advance(86_400)
        assert await house.here.tried(provider.token(house, jti="e")) == "authentication_failed"

    issuing(sqlite(tmp_path), work)


def test_keys_may_stand_in_a_file(tmp_path):
    """For issuers that this machine cannot reach."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_KEYS[0].as_dict(private=False)]}))

    async def work(house, provider):
        assert await house.here.tried(provider.token(house)) is None
        assert provider.asked == 0

    issuing(sqlite(tmp_path), work, jwks_file=str(path))


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"jwks_url": ""}, "oauth.issuers.corp"),
        ({"jwks_file": "/x"}, "oauth.issuers.corp"),
        ({"jwks_url": "http://id.example/jwks"}, "oauth.issuers.corp.jwks_url"),
        ({"jwks_url": "file:///etc/passwd"}, "oauth.issuers.corp.jwks_url"),
        ({"networks": ["10.0.0.0/99"]}, "oauth.issuers.corp.networks"),
        ({"max_scopes": []}, "max_scopes"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, changes, option):
    """At the start, with the option's name."""
    issuer = {
        "url": "https://id.example",
        "audience": "a",
        "tenant": "default",
        "max_scopes": ["messages:send"],
        "jwks_url": "https://id.example/jwks",
    }
    flags = {f"oauth.issuers.corp.{name}": value for name, value in {**issuer, **changes}.items()}
    with pytest.raises(InvalidSettings, match=option):
        load(tmp_path, environ={}, flags=flags)


def test_an_outside_token_is_no_operator_but_in_the_default_tenant(tmp_path):
    """THREATS 28: what no key and no client of another tenant can have, its issuer cannot give either."""

    async def elsewhere(house, provider):
        assert await house.here.tried(provider.token(house, scope="operator")) == "authentication_failed"
        assert (await who(house, provider.token(house, scope="operator stats:read"))).scopes == {Scope.STATS_READ}

    issuing(sqlite(tmp_path / "a"), elsewhere, max_scopes=["operator", "stats:read"])

    async def here(house, provider):
        assert (await who(house, provider.token(house, scope="operator"))).scopes == {Scope.OPERATOR}

    issuing(sqlite(tmp_path / "b"), here, max_scopes=["operator"], tenant="default")


@pytest.mark.parametrize("url", ["https://id.example", ISSUER])
def test_two_issuers_of_one_name_are_refused_at_the_start(tmp_path, url):
    """The name in a token decides whose it is: of two, or of ours and another, one would silently never be asked."""
    common = {"audience": "a", "tenant": "default", "max_scopes": ["messages:send"], "jwks_url": "https://id.example/jwks"}
    issuers = {"a": Issuer(url="https://id.example", **common), "b": Issuer(url=url, **common)}
    with pytest.raises(InvalidSettings, match=r"oauth\.issuers\.b\.url"):
        create_identity(None, None, None, Settings(oauth=OAuth(issuer=ISSUER, issuers=issuers)))


def test_an_issuer_with_an_unknown_scope_is_refused_at_the_start():
    """A typo must not silently give less, or more."""
    issuer = Issuer(
        url="https://id.example", audience="a", tenant="default", max_scopes=["messages:sned"], jwks_url="https://id.example/jwks"
    )
    with pytest.raises(InvalidSettings, match="messages:sned"):
        TrustedIssuer("corp", issuer, None, None)
