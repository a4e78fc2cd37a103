"""Access tokens: given to clients that prove themselves, taken while they are good, on both engines."""

import asyncio
import base64
import hashlib
import hmac
import json

import joserfc.jwk
import joserfc.jwt
import pytest

from gatepost.domain.access import PrincipalKind, Scope
from gatepost.domain.errors import Refused
from gatepost.settings import OAuth, Settings
from gatepost.store import audit
from gatepost.store import tokens as stored
from gatepost.store.tenants import bump_version
from gatepost.tenants.client_authentication import Shown
from gatepost.tenants.client_register import Clients
from gatepost.wire import jwt
from tests.identity.house import BY, ISSUER, PEER, run


def claims_of(token):
    return dict(jwt.parse(token).claims)


def encode(part):
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def signing(house):
    """Return the private key that signs now, with its id."""
    (key,) = await house.here.engine.read(lambda conn: stored.keys(conn, house.clock.now()))
    return key, json.loads(await house.here.engine.read(lambda conn: stored.private_of(conn, key.id)))


def test_a_token_is_taken_by_every_process_as_its_client(make_engine):
    """It carries the client's tenant, and no more scopes than were asked for."""

    async def work(house):
        client, shown = await house.client(house.other_id, domains=frozenset({"a.example"}))
        await house.tick()
        token = await house.here.token(shown, "messages:send")
        who = await house.there.identity.authenticator.authenticate(token, PEER)
        assert (who.id, who.kind, who.tenant_id, who.scopes) == (client.id, PrincipalKind.CLIENT, house.other_id, {Scope.MESSAGES_SEND})
        assert who.domains == {"a.example"}
        header, claims = jwt.parse(token).header, claims_of(token)
        assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
        assert (claims["iss"], claims["aud"], claims["sub"], claims["client_id"]) == (ISSUER, ISSUER, client.id, client.id)
        assert claims["exp"] - claims["iat"] == 900

    run(make_engine, work)


@pytest.mark.parametrize(
    ("scope", "error"),
    [(None, None), ("messages:send messages:read", None), ("domains:read", "invalid_scope"), ("admin", "invalid_scope"), ("operator", "invalid_scope"),
     ("nonsense", "invalid_scope"), ("messages:send  messages:read", "invalid_scope")],
)  # fmt: skip
def test_a_client_gets_a_part_of_its_scopes_and_no_other(make_engine, scope, error):
    """RFC 6749 §3.3; what is implied may be asked for, what is not known may not."""

    async def work(house):
        _, shown = await house.client()
        await house.tick()
        assert await house.here.refused_token(shown, scope) == error

    run(make_engine, work)


def test_a_token_ends_at_its_time_and_with_its_client(make_engine):
    """Expiry, the client's revocation and its expiry are asked at each request, though the signature is remembered."""

    async def work(house):
        client, shown = await house.client()
        _, ending = await house.client(expires_at=house.clock.now() + 100_000)
        await house.tick()
        token, other = await house.here.token(shown), await house.here.token(ending)
        for process in house.processes:
            assert [await process.tried(one) for one in (token, other)] == [None, None]
        house.clock.advance(100)
        assert [await house.there.tried(one) for one in (token, other)] == [None, "authentication_failed"]
        house.clock.advance(800)
        assert await house.there.tried(token) == "authentication_failed"
        fresh = await house.here.token(shown)
        await house.tick()
        assert await house.there.tried(fresh) is None
        await house.clients.revoke(house.tenant_id, client.id, by=BY)
        await house.tick()
        assert [await process.tried(fresh) for process in house.processes] == ["authentication_failed"] * 2
        assert await house.there.refused_token(shown) == "invalid_client"

    run(make_engine, work)


def test_a_revoked_token_is_refused_everywhere_within_a_second(make_engine):
    """RFC 7009: only by its own client, again without harm; its other tokens stay."""

    async def work(house):
        _, shown = await house.client()
        _, stranger = await house.client(house.other_id)
        await house.tick()
        token, other = await house.here.token(shown), await house.here.token(shown)
        for process in house.processes:
            assert await process.tried(token) is None
        with pytest.raises(Exception, match="unauthorized_client"):
            await house.here.identity.authorization.revoke(stranger, PEER, token)
        await house.here.identity.authorization.revoke(shown, PEER, token)
        assert await house.here.tried(token) == "authentication_failed"
        await house.tick(1.0)
        assert [await house.there.tried(one) for one in (token, other)] == ["authentication_failed", None]
        fresh = house.start()
        await house.tick()
        assert await fresh.tried(token) == "authentication_failed"
        for text in (token, "nonsense", "a.b.c"):
            await house.there.identity.authorization.revoke(shown, PEER, text)
        house.clock.advance(1000)
        await house.here.engine.write(lambda conn: stored.purge(conn, house.clock.now()))
        assert await house.here.engine.read(lambda conn: stored.revoked(conn, 0)) == frozenset()

    run(make_engine, work)


def test_the_end_of_a_token_stands_in_the_audit_log_once(make_engine):
    """Which client ended it, and from where."""

    async def work(house):
        client, shown = await house.client(house.other_id)
        await house.tick()
        token = await house.here.token(shown)
        for process in house.processes:
            await process.identity.authorization.revoke(shown, PEER, token)
        wanted = audit.Wanted(tenant_id=house.other_id, action="access_token.revoked")
        (entry,) = await house.here.engine.read(lambda conn: audit.page(conn, wanted, 10))
        told = (entry.object_id, entry.actor_kind, entry.actor_id, entry.peer)
        assert told == (claims_of(token)["jti"], "client", client.id, PEER)

    run(make_engine, work)


def test_introspection_tells_a_tenant_of_its_own_tokens_only(make_engine):
    """RFC 7662 §2.2: everything else is not active, and nothing more is said."""

    async def work(house):
        client, shown = await house.client()
        _, colleague = await house.client()
        _, stranger = await house.client(house.other_id)
        await house.tick()
        token = await house.here.token(shown, "messages:send")
        server = house.there.identity.authorization
        found = await server.introspect(colleague, PEER, token)
        assert (found["active"], found["client_id"], found["scope"], found["token_type"]) == (True, client.id, "messages:send", "Bearer")
        key = await house.key()
        for text in (token[:-4] + "AAAA", "nonsense", key.secret, ""):
            assert await server.introspect(colleague, PEER, text) == {"active": False}
        assert await server.introspect(stranger, PEER, token) == {"active": False}
        house.clock.advance(900)
        assert await server.introspect(shown, PEER, token) == {"active": False}

    run(make_engine, work)


def test_changes_of_a_client_reach_the_tokens_that_it_has(make_engine):
    """A token never has more than its client has now, though its signature is remembered."""

    async def work(house):
        import sqlalchemy as sa

        _, shown = await house.client()
        await house.tick()
        token = await house.here.token(shown)
        assert (await house.here.identity.authenticator.authenticate(token, PEER)).may(Scope.MESSAGES_SEND)
        statement = sa.text("UPDATE oauth_client SET scopes = '[\"messages:read\"]'")
        await house.there.engine.write(lambda conn: (conn.execute(statement), bump_version(conn)))
        await house.tick()
        assert (await house.here.identity.authenticator.authenticate(token, PEER)).scopes == {Scope.MESSAGES_READ}

    run(make_engine, work)


def test_signing_keys_are_exchanged_by_one_process_and_known_before_they_sign(make_engine):
    """However many processes see that a key is due, one is made; tokens of the old one are taken until they end."""

    async def work(house):
        _, shown = await house.client()
        await house.tick()
        first = await asyncio.gather(*[process.token(shown) for process in house.processes])
        assert len({jwt.parse(one).header["kid"] for one in first}) == 1
        old = jwt.parse(first[0]).header["kid"]
        await house.tick(30 * 86_400)
        during = await asyncio.gather(*[process.token(shown) for process in house.processes])
        assert {jwt.parse(one).header["kid"] for one in during} == {old}
        published = (await house.there.identity.authorization.key_set())["keys"]
        assert len(published) == 2
        assert {"d"} & {name for key in published for name in key} == set()
        await house.tick(601)
        after = await asyncio.gather(*[process.token(shown) for process in house.processes])
        (new,) = {jwt.parse(one).header["kid"] for one in after}
        assert new != old
        assert [await process.tried(during[0]) for process in house.processes] == [None, None]
        await house.tick(2 * 86_400)
        assert [key["kid"] for key in (await house.here.identity.authorization.key_set())["keys"]] == [new]
        rows = await house.here.engine.read(lambda conn: stored.keys(conn, 0))
        assert len(rows) == 2
        await house.here.engine.write(lambda conn: stored.purge(conn, house.clock.now()))
        assert [key.id for key in await house.here.engine.read(lambda conn: stored.keys(conn, 0))] == [new]

    run(make_engine, work)


def test_a_token_of_a_key_that_another_process_just_made_is_taken(make_engine):
    """A key that is not known causes a look."""

    async def work(house):
        _, shown = await house.client()
        await house.tick()
        house.clock.advance(0.5)
        token = await house.here.token(shown)
        assert await house.there.tried(token) is None

    run(make_engine, work)


def test_a_client_that_was_made_a_moment_ago_uses_its_token_in_every_process(make_engine):
    """What is made, got and used within a second works at whichever process the request arrives; at several requests at once, too."""

    async def work(house):
        _, shown = await house.client()
        house.clock.advance(0.2)
        token = await house.here.token(shown)
        assert await asyncio.gather(*[house.there.tried(token) for _ in range(3)]) == [None] * 3

    run(make_engine, work)


TWO_NAMES = b'{"alg":"EdDSA","alg":"none"}'


async def forged(house, shown):
    """Make every kind of token that must not be taken."""
    token = await house.here.token(shown)
    key, private = await signing(house)
    header, payload, signature = token.split(".")
    claims, now_s = claims_of(token), house.clock.now() // 1000
    public = dict(key.public_jwk)
    stranger, _ = jwt.generate_key(key.id)

    def signed(typ="at+jwt", kid=key.id, private=private, **changes):
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.sign(changed, typ=typ, kid=kid, private_jwk=private)

    def hmac_signed(secret):
        start = f"{encode({'alg': 'HS256', 'typ': 'at+jwt', 'kid': key.id})}.{payload}"
        return f"{start}.{encode(hmac.digest(secret, start.encode(), hashlib.sha256))}"

    raw_public = base64.urlsafe_b64decode(public["x"] + "=")
    assert await house.here.tried(signed()) is None
    return {
        "alg none": f"{encode({'alg': 'none', 'typ': 'at+jwt', 'kid': key.id})}.{payload}.",
        "alg none with a signature": f"{encode({'alg': 'none', 'typ': 'at+jwt', 'kid': key.id})}.{payload}.{signature}",
        "HMAC under the public key": hmac_signed(raw_public),
        "HMAC under the public key as JSON": hmac_signed(json.dumps(public).encode()),
        "HMAC under its text": hmac_signed(public["x"].encode()),
        "another key under our kid": signed(private=stranger),
        "unknown kid": signed(kid="tkey_01m86jxq1me0080vy7pfr0f9j6"),
        "no kid": f"{encode({'alg': 'EdDSA', 'typ': 'at+jwt'})}.{payload}.{signature}",
        "kid of another kind": signed(kid="../../etc/passwd"),
        "embedded key": f"{encode({'alg': 'EdDSA', 'typ': 'at+jwt', 'kid': 'x', 'jwk': public})}.{payload}.{signature}",
        "critical extension": f"{encode({'alg': 'EdDSA', 'typ': 'at+jwt', 'kid': key.id, 'crit': ['b64'], 'b64': False})}.{payload}.{signature}",
        "payload changed": f"{header}.{encode({**claims, 'scope': 'admin'})}.{signature}",
        "signature cut": token[:-4],
        "no signature": f"{header}.{payload}.",
        "wrong issuer": signed(iss="https://evil.example"),
        "no issuer": signed(iss=None),
        "wrong audience": signed(aud="https://evil.example"),
        "no audience": signed(aud=None),
        "an ID token": signed(typ="JWT"),
        "no type": signed(typ=""),
        "expired": signed(exp=now_s),
        "no end": signed(exp=None),
        "an end that is no time": signed(exp="tomorrow"),
        "an end beyond all time": signed(exp=10**30),
        "not yet": signed(nbf=now_s + 3600),
        "issued in the future": signed(iat=now_s + 3600),
        "no client": signed(client_id=None),
        "a client that is not there": signed(client_id="oac_01m86jtp0se00bmp11g0d7dsr2"),
        "no id": signed(jti=None),
        "five parts": f"{header}.{payload}.{signature}.a.b",
        "two names": f"{encode(TWO_NAMES)}.{payload}.{signature}",
        "too long": token + "a" * 10_000,
        "no base64": f"{header}.ä!.{signature}",
        "deep": f"{header}.{encode(b'[' * 5000)}.{signature}",
        "empty": "..",
    }  # fmt: skip


def test_forged_tokens_are_refused(make_engine):
    """THREATS 36, RFC 8725: no algorithm, confusion, other keys, other purposes, other times."""

    async def work(house):
        _, shown = await house.client()
        await house.tick()
        tried = await forged(house, shown)
        assert {name: await house.here.tried(token) for name, token in tried.items()} == dict.fromkeys(tried, "authentication_failed")
        assert {name: await house.there.tried(token) for name, token in tried.items()} == dict.fromkeys(tried, "authentication_failed")

    run(make_engine, work)


def assertion(client_id, key, now_s, **changes):
    """Sign an assertion (RFC 7523 §3) with a key of joserfc's."""
    claims = {"iss": client_id, "sub": client_id, "aud": f"{ISSUER}/oauth/token", "exp": now_s + 60, "iat": now_s, "jti": "one", **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    algorithm = "ES256" if isinstance(key, joserfc.jwk.ECKey) else "RS256"
    return joserfc.jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_a_client_proves_itself_by_assertions_it_signs_each_good_once(make_engine, kind):
    """RFC 7523: issuer, subject, audience and end are checked; a used one is refused by every process."""
    key = joserfc.jwk.ECKey.generate_key("P-256", {"kid": "c1"}) if kind == "EC" else joserfc.jwk.RSAKey.generate_key(2048, {"kid": "c1"})
    stranger = joserfc.jwk.ECKey.generate_key("P-256", {"kid": "c1"})

    async def work(house):
        client, shown = await house.client(jwks={"keys": [key.as_dict(private=False)]})
        other, _ = await house.client(jwks={"keys": [stranger.as_dict(private=False)]})
        await house.tick()
        assert shown.secret is None
        now_s = house.clock.now() // 1000
        good = assertion(client.id, key, now_s)
        assert await house.here.refused_token(Shown(assertion=good)) is None
        assert await house.there.refused_token(Shown(assertion=good)) == "invalid_client"
        assert (
            await house.here.refused_token(Shown(client_id=client.id, assertion=assertion(client.id, key, now_s, jti="two", aud=ISSUER)))
            is None
        )
        bad = {
            "other audience": assertion(client.id, key, now_s, jti="3", aud="https://evil.example"),
            "other issuer": assertion(client.id, key, now_s, jti="4", iss="evil"),
            "other subject": assertion(client.id, key, now_s, jti="5", sub=other.id),
            "expired": assertion(client.id, key, now_s, jti="6", exp=now_s),
            "no end": assertion(client.id, key, now_s, jti="7", exp=None),
            "lives for days": assertion(client.id, key, now_s, jti="8", exp=now_s + 86_400),
            "not yet": assertion(client.id, key, now_s, jti="9", nbf=now_s + 600),
            "no id": assertion(client.id, key, now_s, jti=None),
            "another's key": assertion(client.id, stranger, now_s, jti="10"),
        }
        assert {name: await house.here.refused_token(Shown(assertion=one)) for name, one in bad.items()} == dict.fromkeys(
            bad, "invalid_client"
        )
        assert (
            await house.here.refused_token(Shown(client_id=other.id, assertion=assertion(client.id, key, now_s, jti="11")))
            == "invalid_client"
        )
        assert await house.here.refused_token(Shown(client_id=client.id, secret="")) == "invalid_client"
        assert await house.here.refused_token(Shown(client_id=client.id, secret="None")) == "invalid_client"

    run(make_engine, work)


@pytest.mark.parametrize(
    "jwks",
    [{}, {"keys": []}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": "x"}, {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
     {"keys": [joserfc.jwk.ECKey.generate_key("P-256").as_dict(private=True)]}, {"keys": [{"kty": "EC", "crv": "secp256k1", "x": "a", "y": "b"}]}],
)  # fmt: skip
def test_a_client_is_made_with_public_keys_only(make_engine, jwks):
    """Private, symmetric, weak and unreadable keys are refused with their place."""

    async def work(house):
        with pytest.raises(Refused, match="/jwks"):
            await house.client(jwks=jwks)

    run(make_engine, work)


def test_a_clients_secret_is_rotated_with_an_overlap(make_engine):
    """Both secrets work until it ends; tokens stay good."""

    async def work(house):
        client, old = await house.client()
        await house.tick()
        token = await house.here.token(old)
        made = await Clients(house.here.engine, house.clock).rotate(house.tenant_id, client.id, 60_000, by=BY, maker=None)
        new = Shown(client_id=client.id, secret=made.secret)
        await house.tick()
        assert [await house.there.refused_token(one) for one in (old, new)] == [None, None]
        house.clock.advance(59)
        assert [await house.there.refused_token(one) for one in (old, new)] == ["invalid_client", None]
        assert await house.there.tried(token) is None

    run(make_engine, work)


def test_guessing_is_throttled_and_locks_no_client_out(make_engine):
    """After thirty failures an address hears 429; a right secret works all the same, from there and from elsewhere."""

    async def work(house):
        client, shown = await house.client()
        await house.tick()
        guess = Shown(client_id=client.id, secret="gp_oauth_wrong")
        answers = [await house.here.refused_token(guess) for _ in range(35)]
        assert answers == ["invalid_client"] * 30 + ["temporarily_unavailable"] * 5
        assert await house.here.refused_token(shown) is None
        assert await house.here.refused_token(shown, peer="198.51.100.1") is None
        assert await house.here.refused_token(guess, peer="198.51.100.1") == "invalid_client"
        house.clock.advance(60)
        assert await house.here.refused_token(guess) == "invalid_client"

    run(make_engine, work)


def test_a_client_works_only_from_its_networks(make_engine):
    """At the token endpoint, and its tokens at the doors."""
    import ipaddress

    async def work(house):
        _, shown = await house.client(networks=(ipaddress.ip_network("192.0.2.0/24"),))
        await house.tick()
        token = await house.here.token(shown)
        assert await house.here.refused_token(shown, peer="198.51.100.1") == "unauthorized_client"
        assert [await house.here.tried(token, peer) for peer in (PEER, "198.51.100.1")] == [None, "permission_denied"]

    run(make_engine, work)


def test_another_gateways_tokens_are_not_taken(make_engine):
    """The issuer's name decides, even over the same database."""

    async def work(house):
        _, shown = await house.client()
        await house.tick()
        elsewhere = house.start(Settings(oauth=OAuth(issuer="https://other.example")))
        await house.tick()
        assert await house.here.tried(await elsewhere.token(shown)) == "authentication_failed"

    run(make_engine, work)


def test_a_throttled_address_gets_no_more_signatures_checked_but_known_clients_do(make_engine):
    """Checking costs; who proved itself from there before is checked all the same, whoever else guesses there."""
    key = joserfc.jwk.ECKey.generate_key("P-256", {"kid": "c1"})

    async def work(house):
        known, _ = await house.client(jwks={"keys": [key.as_dict(private=False)]})
        new, _ = await house.client(jwks={"keys": [key.as_dict(private=False)]})
        await house.tick()
        now_s = house.clock.now() // 1000
        assert await house.here.refused_token(Shown(assertion=assertion(known.id, key, now_s))) is None
        for _ in range(30):
            assert await house.here.refused_token(Shown(client_id=known.id, secret="x")) == "invalid_client"
        assert await house.here.refused_token(Shown(assertion=assertion(new.id, key, now_s))) == "temporarily_unavailable"
        assert await house.here.refused_token(Shown(assertion=assertion(known.id, key, now_s, jti="two"))) is None
        assert await house.here.refused_token(Shown(assertion=assertion(new.id, key, now_s)), peer="198.51.100.1") is None

    run(make_engine, work)
