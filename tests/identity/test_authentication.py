"""Who is let in, at every door alike; on both engines, with two processes."""

import asyncio
import ipaddress

import pytest

from gatepost.domain.access import KeyMode, Scope
from gatepost.domain.errors import Refused
from gatepost.store import audit, last_use
from gatepost.tenants import keys
from gatepost.tenants.credential_register import Changes
from gatepost.tenants.key_register import Keys
from tests.identity.house import BY, PEER, run


def net(text):
    return ipaddress.ip_network(text)


def test_a_key_that_was_made_a_moment_ago_works_in_every_process(make_engine):
    """What a process does not know it looks up, before its next look at the clock."""

    async def work(house):
        made = await house.key()
        house.clock.advance(0.2)
        assert [await process.tried(made.secret) for process in house.processes] == [None, None]

    run(make_engine, work)


def test_requests_at_the_same_moment_share_the_look_for_a_new_key(make_engine):
    """Those that come while one looks wait for what it sees, instead of being refused."""

    async def work(house):
        made = await house.key()
        house.clock.advance(0.2)
        assert await asyncio.gather(*[house.there.tried(made.secret) for _ in range(5)]) == [None] * 5

    run(make_engine, work)


def test_a_revoked_key_is_refused_everywhere_within_a_second(make_engine):
    """The process that revoked it at once, the others with their next look."""

    async def work(house):
        made = await house.key()
        await house.tick()
        assert await house.there.tried(made.secret) is None
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        await house.tick(1.0)
        assert [await process.tried(made.secret) for process in house.processes] == ["authentication_failed"] * 2

    run(make_engine, work)


def test_a_proof_kept_for_a_connection_is_worth_nothing_after_the_revocation(make_engine):
    """SMTP connections are long: what was shown at AUTH is asked again with each message."""

    async def work(house):
        made = await house.key()
        await house.tick()
        door = house.there.identity.authenticator
        proof = await door.prove(made.secret)
        assert door.check(proof, PEER).id == made.credential.id
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        await house.tick()
        with pytest.raises(Refused, match="authentication_failed"):
            door.check(proof, PEER)

    run(make_engine, work)


def test_a_key_ends_at_its_time_without_any_look_at_the_database(make_engine):
    """Expiry is asked at each request, not when the snapshot is loaded."""

    async def work(house):
        made = await house.key(expires_at=house.clock.now() + 60_000)
        await house.tick()
        assert await house.here.tried(made.secret) is None
        house.clock.advance(58.9)
        assert await house.here.tried(made.secret) is None
        house.clock.advance(0.1)
        assert await house.here.tried(made.secret) == "authentication_failed"

    run(make_engine, work)


@pytest.mark.parametrize(
    ("peer", "code"),
    [
        ("192.0.2.7", None),
        ("::ffff:192.0.2.7", None),
        ("2001:db8::1", None),
        ("192.0.3.7", "permission_denied"),
        ("2001:db9::1", "permission_denied"),
        ("", "permission_denied"),
        ("unix", "permission_denied"),
    ],
)
def test_a_key_works_only_from_its_networks(make_engine, peer, code):
    """The same code at every door; an IPv4 address mapped into IPv6 is the IPv4 address."""

    async def work(house):
        made = await house.key(networks=(net("192.0.2.0/24"), net("2001:db8::/64")))
        await house.tick()
        assert await house.here.tried(made.secret, peer) == code

    run(make_engine, work)


def test_nothing_is_taken_from_a_suspended_tenant_until_it_is_resumed(make_engine):
    """By key, by token and by network, in every process; other tenants do not notice."""

    async def work(house):
        made = await house.key(house.other_id, trust=(net("192.0.2.0/24"),))
        mine = await house.key()
        _, shown = await house.client(house.other_id)
        await house.tick()
        token = await house.here.token(shown)
        await house.suspend(house.other_id, house.clock.now())
        await house.tick()
        door = house.there.identity.authenticator
        for secret in (made.secret, token):
            assert await house.there.tried(secret) == "tenant_suspended"
        with pytest.raises(Refused, match="tenant_suspended"):
            door.check(door.trusted(PEER), PEER)
        assert await house.there.refused_token(shown) == "unauthorized_client"
        assert await house.there.tried(mine.secret) is None
        await house.suspend(house.other_id, None)
        await house.tick()
        assert [await house.there.tried(secret) for secret in (made.secret, token)] == [None, None]

    run(make_engine, work)


def test_a_trusted_network_ends_with_its_key(make_engine):
    """Expiry and revocation count for clients that show nothing, too; also on a connection that is open."""

    async def work(house):
        ending = await house.key(trust=(net("192.0.2.0/24"),), expires_at=house.clock.now() + 60_000)
        await house.tick()
        door = house.here.identity.authenticator
        proof = door.trusted(PEER)
        assert door.check(proof, PEER).id == ending.credential.id
        assert door.trusted("192.0.3.1") is None
        house.clock.advance(60)
        assert door.trusted(PEER) is None
        with pytest.raises(Refused, match="authentication_required"):
            door.check(proof, PEER)
        revoked = await house.key(trust=(net("192.0.2.0/24"),))
        await house.tick()
        assert door.check(door.trusted(PEER), PEER).id == revoked.credential.id
        await house.keys.revoke(house.tenant_id, revoked.credential.id, by=BY)
        await house.tick()
        assert door.trusted(PEER) is None

    run(make_engine, work)


def test_a_rotated_key_has_two_secrets_until_the_overlap_ends(make_engine):
    """One key, one id: the new secret works at once, the old one as long as agreed, the one before no more."""

    async def work(house):
        first = await house.key()
        second = await house.keys.rotate(house.tenant_id, first.credential.id, 3_600_000, by=BY, maker=None)
        await house.tick()
        assert second.credential.id == first.credential.id
        assert [await house.there.tried(one.secret) for one in (first, second)] == [None, None]
        house.clock.advance(3598.9)
        assert await house.there.tried(first.secret) is None
        house.clock.advance(0.1)
        assert [await house.there.tried(one.secret) for one in (first, second)] == ["authentication_failed", None]
        third = await house.keys.rotate(house.tenant_id, first.credential.id, 3_600_000, by=BY, maker=None)
        fourth = await house.keys.rotate(house.tenant_id, first.credential.id, 0, by=BY, maker=None)
        await house.tick()
        tried = [await house.there.tried(one.secret) for one in (second, third, fourth)]
        assert tried == ["authentication_failed", "authentication_failed", None]

    run(make_engine, work)


def test_what_is_over_cannot_be_rotated_and_what_is_strange_is_not_there(make_engine):
    """A revoked key does not come back by rotation; another tenant's key does not exist."""

    async def work(house):
        made = await house.key()
        for key_id, tenant_id in ((made.credential.id, house.other_id), ("key_nope", house.tenant_id)):
            with pytest.raises(Refused, match="not_found"):
                await house.keys.rotate(tenant_id, key_id, 0, by=BY, maker=None)
            with pytest.raises(Refused, match="not_found"):
                await house.keys.revoke(tenant_id, key_id, by=BY)
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        with pytest.raises(Refused, match="conflict"):
            await house.keys.rotate(house.tenant_id, made.credential.id, 0, by=BY, maker=None)

    run(make_engine, work)


def test_the_last_use_is_written_now_and_then_and_never_goes_back(make_engine):
    """Not on the way of a request; and the later of two processes wins, whoever writes last."""

    async def work(house):
        made = await house.key()
        _, shown = await house.client()
        await house.tick()
        token = await house.here.token(shown)
        used = house.clock.now()
        assert await house.here.tried(made.secret, "192.0.2.1") is None
        assert await house.here.tried(token, "192.0.2.1") is None
        assert await house.keys.uses([made.credential]) == {}
        house.clock.advance(5)
        assert await house.there.tried(made.secret, "192.0.2.2") is None
        await house.there.identity.authenticator.write_uses(house.there.engine)
        await house.here.identity.authenticator.write_uses(house.here.engine)
        found = (await house.keys.uses([made.credential]))[made.credential.id]
        assert (found.used_at, found.peer) == (used + 5_000, "192.0.2.2")
        assert (await house.here.engine.read(lambda conn: last_use.of(conn, [shown.client_id])))[shown.client_id].used_at == used

    run(make_engine, work)


def test_changes_of_a_key_at_the_same_time_do_not_undo_each_other(make_engine):
    """Somebody narrows it while somebody else renames it, in another process: both stay, so a right that was taken is gone."""

    async def work(house):
        theirs = Keys(house.there.engine, house.clock)
        for n in range(10):
            made = await house.key()
            narrowing = Changes(restrictions={"scopes": frozenset({Scope.STATS_READ})})
            await asyncio.gather(
                house.keys.update(house.tenant_id, made.credential.id, narrowing, by=BY, maker=None),
                theirs.update(house.tenant_id, made.credential.id, Changes(name=f"n{n}"), by=BY, maker=None),
            )
            found = await house.keys.get(house.tenant_id, made.credential.id)
            assert (found.scopes, found.name) == ({Scope.STATS_READ}, f"n{n}")

    run(make_engine, work)


def test_every_change_of_a_key_stands_in_the_audit_log(make_engine):
    """Who did what; never the secret."""

    async def work(house):
        made = await house.key()
        rotated = await house.keys.rotate(house.tenant_id, made.credential.id, 0, by=BY, maker=None)
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        rows = await house.here.engine.read(lambda conn: audit.page(conn, audit.Wanted(object_id=made.credential.id), 10))
        assert [row.action for row in reversed(rows)] == ["key.created", "key.rotated", "key.revoked"]
        assert {row.actor_name for row in rows} == {"test"}
        assert not [secret for secret in (made.secret, rotated.secret) if secret in str(rows)]

    run(make_engine, work)


def test_unknown_and_wrong_secrets_take_the_same_path(make_engine):
    """THREATS 32: what is looked up is a SHA-256, so that what a guess has in common with a key decides nothing."""

    async def work(house):
        made = await house.key(mode=KeyMode.LIVE)
        await house.tick()
        start = made.secret[:39] + ("x" if made.secret[39] != "x" else "y")
        near = start + keys._checksum(start)
        looked_up = []
        find = house.here.directory.find

        async def watched(digest):
            looked_up.append(digest)
            return await find(digest)

        house.here.directory.find = watched
        strange = keys.make_secret(KeyMode.LIVE)
        assert await house.here.tried(strange) == "authentication_failed"
        assert await house.here.tried(near) == "authentication_failed"
        assert looked_up == [keys.hash_secret(strange), keys.hash_secret(near)]
        assert all(len(digest) == 32 and digest not in made.secret.encode() for digest in looked_up)
        snapshot = repr(house.here.directory._snapshot)
        assert made.secret not in snapshot

    run(make_engine, work)


def test_keys_and_clients_of_a_newer_release_do_not_stop_an_older_one(make_engine):
    """A scope that is not known gives nothing, and the directory is loaded all the same."""

    async def work(house):
        import sqlalchemy as sa

        made = await house.key(scopes=frozenset({Scope.MESSAGES_SEND}))
        await house.here.engine.write(lambda conn: conn.execute(sa.text('UPDATE api_key SET scopes = \'["messages:send", "teleport"]\'')))
        await house.tick()
        principal = await house.there.identity.authenticator.authenticate(made.secret, PEER)
        assert principal.scopes == {Scope.MESSAGES_SEND}

    run(make_engine, work)
