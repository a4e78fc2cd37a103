"""What a provider takes off its own list is lifted here when the operator wants it; what others say of the address stays."""

import pytest

from gatepost.app.relay_lists import check_list
from gatepost.clock import DAY, HOUR
from gatepost.domain.access import GATEWAY
from gatepost.domain.address import parse_address
from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.settings import InvalidSettings, Relay, RelaySuppressions
from gatepost.store import suppressions
from gatepost.store.schema import audit, event, relay_listed
from gatepost.suppressing import Fact, Suppressing
from gatepost.tenants.suppressions import Suppression, Suppressions
from tests.relays.peer import Says
from tests.returns.list_peer import URL, rounds_of
from tests.returns.test_relay_lists import later, mailed, with_list
from tests.store.rows import NOW


async def rows_of(house, table):
    return await house.engine.read(lambda conn: conn.execute(table.select()).all())


async def followed(house, peer, **wishes):
    """A list with one address that two tenants mailed, taken."""
    await mailed(house, "ten_a")
    await mailed(house, "ten_b")
    peer.add("user0@example.net", at=NOW)
    rounds = rounds_of(house, peer, follows=True, **wishes)
    assert (await rounds.run()).state.taken == 2
    return rounds


def test_what_vanished_from_the_whole_list_is_lifted_for_whoever_had_it_from_there(make_engine):
    """With an event and an entry in the audit log that says why, once; and it may be taken again when the provider says it anew."""

    async def work(house, peer):
        rounds = await followed(house, peer)
        del peer.entries["user0@example.net"]
        house.clock.advance(HOUR / 1000)
        found = (await rounds.run(is_full=True)).state
        assert (found.gone, found.gone_held, found.seen) == (2, 0, 0)
        assert (await house.suppressed("ten_a"), await house.suppressed("ten_b")) == ([], [])
        entries = [one for one in await rows_of(house, audit) if one.action == "suppression.removed"]
        assert [(one.actor_id, one.after) for one in entries] == [("local", {"why": "relay:main took it off its list"})] * 2
        assert sorted(one.tenant_id for one in entries) == ["ten_a", "ten_b"]
        assert sorted(one.tenant_id for one in await rows_of(house, event) if one.type == "suppression.removed") == ["ten_a", "ten_b"]
        assert await rows_of(house, relay_listed) == []
        peer.add("user0@example.net", at=NOW)
        house.clock.advance(HOUR / 1000)
        again = (await rounds.run(is_full=True)).state
        assert (again.taken, again.lifted, again.gone) == (2, 0, 0)
        await rounds.client.close()

    with_list(make_engine, work)


def test_nothing_is_lifted_unless_it_is_wanted_and_the_whole_list_was_read(make_engine):
    """By default entries stay; a round that reads what is new, and one that fails midway, lift nothing either."""

    async def work(house, peer):
        rounds = await followed(house, peer)
        del peer.entries["user0@example.net"]
        house.clock.advance(HOUR / 1000)
        assert (await rounds.run()).state.gone == 0, "only what is new was read"
        rounds.wishes = type(rounds.wishes)()
        assert (await rounds.run(is_full=True)).state.gone == 0, "it is not wanted"
        rounds.wishes = type(rounds.wishes)(follows=True)
        peer.refusals = [Says(500, {})]
        house.clock.advance(HOUR / 1000)
        assert (await rounds.run(is_full=True)).state.gone == 0
        assert len(await house.suppressed("ten_a")) == 1
        house.clock.advance(HOUR / 1000)
        assert (await rounds.run()).state.gone == 2, "the round that failed was of the whole list, and goes on"
        await rounds.client.close()

    with_list(make_engine, work)


def test_entries_that_are_there_stay_on_whichever_page(make_engine):
    """Three pages; of five addresses the one that is gone is lifted."""

    async def work(house, peer):
        for n in range(5):
            await mailed(house, domain=f"d{n}.example")
            peer.add(f"user0@d{n}.example", at=NOW)
        rounds = rounds_of(house, peer, follows=True)
        assert (await rounds.run()).state.taken == 5
        del peer.entries["user0@d3.example"]
        for _ in range(2):
            house.clock.advance(HOUR / 1000)
            await rounds.run(is_full=True)
        assert [address for address, _, _ in await house.suppressed("ten_a")] == [f"user0@d{n}.example" for n in (0, 1, 2, 4)]
        await rounds.client.close()

    with_list(make_engine, work, page_size=2)


@pytest.mark.parametrize("how", ["person", "bounce", "hook"])
def test_what_others_say_of_the_address_stays(make_engine, how):
    """A person who suppressed it too, our own mail's bounce, what a hook told of it: the provider's change of mind is not theirs."""

    async def work(house, peer):
        rounds = await followed(house, peer)
        if how == "person":
            wanted = Suppression(address=parse_address("user0@example.net"), reason="manual")
            await Suppressions(house.engine, house.clock).add("ten_a", [wanted], by=GATEWAY)
        else:
            fact = Fact(
                tenant_id="ten_a", message_id="msg_x", n=0, address="user0@example.net", said=Said.BOUNCED,
                category=Category.INVALID_RECIPIENT, at=house.clock.now(), stream="bulk", told_by="relay:main" if how == "hook" else "",
            )  # fmt: skip
            await house.engine.write(lambda conn: Suppressing().act(conn, fact))
        del peer.entries["user0@example.net"]
        house.clock.advance(HOUR / 1000)
        assert (await rounds.run(is_full=True)).state.gone == 1
        assert len(await house.suppressed("ten_a")) == 1
        assert await house.suppressed("ten_b") == []
        await rounds.client.close()

    with_list(make_engine, work)


def test_own_suppressions_never_came_from_the_list(make_engine):
    """An address that was suppressed here before the list had it stays, however often it comes and goes there."""

    async def work(house, peer):
        await mailed(house, "ten_a")
        wanted = Suppression(address=parse_address("user0@example.net"), reason="invalid_recipient")
        await Suppressions(house.engine, house.clock).add("ten_a", [wanted], by=GATEWAY)
        rounds = rounds_of(house, peer, follows=True)
        for is_there in (True, False, True, False):
            peer.entries.clear()
            if is_there:
                peer.add("user0@example.net", at=NOW)
            house.clock.advance(HOUR / 1000)
            assert (await rounds.run(is_full=True)).state.gone == 0
        assert len(await house.suppressed("ten_a")) == 1
        await rounds.client.close()

    with_list(make_engine, work)


def test_a_list_that_is_suddenly_empty_lifts_nothing_until_a_person_accepts_it(make_engine):
    """Another account's key, an outage that answers with nothing: more than a quarter waits for somebody to look."""

    async def work(house, peer):
        for n in range(30):
            await mailed(house, domain=f"d{n}.example")
            peer.add(f"user0@d{n}.example", at=NOW)
        rounds = rounds_of(house, peer, follows=True)
        assert (await rounds.run()).state.taken == 30
        peer.entries.clear()
        house.clock.advance(HOUR / 1000)
        found = (await rounds.run(is_full=True)).state
        assert (found.gone, found.gone_held) == (0, 30)
        assert len(await house.suppressed("ten_a")) == 30
        house.clock.advance(HOUR / 1000)
        found = (await rounds.run(is_accepted=True)).state
        assert (found.gone, found.gone_held) == (30, 0)
        assert await house.suppressed("ten_a") == []
        await rounds.client.close()

    with_list(make_engine, work)


def test_what_a_person_lifted_is_forgotten_here_and_no_provider_is_told_of_what_vanished(make_engine):
    """A lifting of ours is not told to the provider as a person's would be; a person's leaves nothing to be lifted."""

    async def work(house, peer):
        rounds = await followed(house, peer, removes=True)
        await Suppressions(house.engine, house.clock).lift("ten_b", parse_address("user0@example.net"), by=GATEWAY)
        del peer.entries["user0@example.net"]
        house.clock.advance(HOUR / 1000)
        found = (await rounds.run(is_full=True)).state
        assert found.gone == 1
        lifts = await house.engine.read(lambda conn: suppressions.lifts_after(conn, "", later() + DAY, 10))
        assert [tenant_id for _, tenant_id, _ in lifts] == ["ten_b"]
        await rounds.client.close()

    with_list(make_engine, work)


def test_following_needs_reading() -> None:
    """Settings that could never do anything are refused."""
    with pytest.raises(InvalidSettings, match=r"relays\.main\.suppressions\.follow_removals"):
        check_list("main", Relay(url=URL, suppressions=RelaySuppressions(follow_removals=True)))
    check_list("main", Relay(url=URL, suppressions=RelaySuppressions(follow_removals=True, pull=True)))
