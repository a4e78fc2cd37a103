"""A provider's own suppression list and ours: read, told, resumed, held back; over HTTP to a list on loopback, on both engines."""

import asyncio

import pytest

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE, SECOND
from gatepost.domain.access import GATEWAY
from gatepost.domain.address import parse_address
from gatepost.domain.relay_list import ListState
from gatepost.domain.tenant import Tenant
from gatepost.returns.relay_lists.loop import RelayListLoop
from gatepost.store import relay_lists, suppressions
from gatepost.store import tenants as stored_tenants
from gatepost.store.schema import event
from gatepost.tenants.suppressions import Suppression, Suppressions
from tests.relays.peer import Says
from tests.returns.list_peer import ListPeer, rounds_of
from tests.returns.test_reported import run
from tests.store.rows import NOW

TENANTS = ("ten_a", "ten_b", "ten_c")


def with_list(make_engine, work, **options):
    async def main(house):
        await set_time(house, later())  # identifiers have the time of the machine
        await house.engine.write(lambda conn: [stored_tenants.insert_tenant(conn, tenant(name)) for name in TENANTS])
        async with ListPeer(**options) as peer:
            await work(house, peer)

    run(make_engine, main)


def tenant(name):
    return Tenant(id=name, name=name, created_at=NOW)


async def mailed(house, tenant_id="ten_a", domain="example.net", route="main", **more):
    """Let a tenant's mail to user0@DOMAIN go by a road."""
    await house.delivered(final=False, provider_id=ids.new("evt"), route=route, source=None, tenant_id=tenant_id, domains=(domain,), **more)


async def state_of(house):
    return await house.engine.read(lambda conn: relay_lists.get(conn, "main"))


def later():
    return ids.time_of(ids.new("evt")) + SECOND


def test_a_bounce_on_the_list_suppresses_for_whoever_mailed_it_that_way(make_engine):
    """Two tenants mailed the address by this relay, a third by another: the two have it now, with reason, source and event; no more, however often."""

    async def work(house, peer):
        await mailed(house, "ten_a")
        await mailed(house, "ten_b")
        await mailed(house, "ten_c", route="mx")
        peer.add("USER0@Example.NET", at=NOW)
        peer.add("stranger@example.net", at=NOW)
        rounds = rounds_of(house, peer)
        found = (await rounds.run()).state
        assert (found.seen, found.taken, found.nobody, found.error) == (2, 2, 1, "")
        for tenant_id in ("ten_a", "ten_b"):
            assert await house.suppressed(tenant_id) == [("user0@example.net", "", "invalid_recipient")]
        assert await house.suppressed("ten_c") == []
        row = await house.engine.read(lambda conn: suppressions.get(conn, "ten_a", "user0@example.net"))
        assert row.source == "relay:main"
        again = (await rounds.run(is_full=True)).state
        assert (again.taken, again.known) == (0, 2)
        events = await house.engine.read(lambda conn: conn.execute(event.select().where(event.c.type == "suppression.added")).all())
        assert sorted(one.tenant_id for one in events) == ["ten_a", "ten_b"]
        await rounds.client.close()

    with_list(make_engine, work)


def test_a_complaint_is_taken_by_the_stream_of_the_last_mail_before_it_alone(make_engine):
    """Who complained meant one mail: the other tenant's goes on, and so do the other streams."""

    async def work(house, peer):
        await mailed(house, "ten_a", stream="transactional")
        await asyncio.sleep(0.003)
        await mailed(house, "ten_b", stream="bulk")
        peer.add("user0@example.net", "COMPLAINT", at=later())
        rounds = rounds_of(house, peer)
        await set_time(house, later() + MINUTE)
        assert (await rounds.run()).state.taken == 1
        assert await house.suppressed("ten_a") == []
        assert await house.suppressed("ten_b") == [("user0@example.net", "bulk", "complaint")]
        await rounds.client.close()

    with_list(make_engine, work)


def test_a_complaint_that_a_hook_told_already_is_not_held_against_another_tenant(make_engine):
    """The hook knew whose mail it was; the list only repeats it."""

    async def work(house, peer):
        await mailed(house, "ten_a")
        await mailed(house, "ten_b")
        wanted = Suppression(address=parse_address("user0@example.net"), reason="complaint", stream="transactional")
        await Suppressions(house.engine, house.clock).add("ten_a", [wanted], by=GATEWAY)
        peer.add("user0@example.net", "COMPLAINT", at=later())
        rounds = rounds_of(house, peer)
        found = (await rounds.run()).state
        assert (found.taken, found.known) == (0, 1)
        assert await house.suppressed("ten_b") == []
        await rounds.client.close()

    with_list(make_engine, work)


def test_what_a_person_lifted_stays_lifted_until_the_provider_says_it_anew(make_engine):
    """An entry from before the lifting changes nothing, in no full round; a later one does."""

    async def work(house, peer):
        await mailed(house)
        peer.add("user0@example.net", at=NOW - HOUR)
        rounds = rounds_of(house, peer)
        assert (await rounds.run()).state.taken == 1
        await Suppressions(house.engine, house.clock).lift("ten_a", parse_address("user0@example.net"), by=GATEWAY)
        found = (await rounds.run(is_full=True)).state
        assert (found.taken, found.lifted) == (0, 1)
        peer.add("user0@example.net", at=house.clock.now() + MINUTE)
        house.clock.advance(120)
        assert (await rounds.run(is_full=True)).state.taken == 1
        await rounds.client.close()

    with_list(make_engine, work)


def test_garbage_never_blocks_a_whole_tenant(make_engine):
    """A list with everybody on it is held back as a whole and shown to a person, who may take it; other tenants get theirs."""

    async def work(house, peer):
        for n in range(120):
            await mailed(house, domain=f"d{n}.example")
            peer.add(f"user0@d{n}.example", at=NOW)
        await mailed(house, "ten_b", domain="d0.example")
        for n in range(300):
            peer.add(f"\x00not an address {n}", at=NOW)
        rounds = rounds_of(house, peer)
        found = (await rounds.run()).state
        assert found.held == {"ten_a": 120}
        assert (found.taken, found.invalid) == (1, 300)
        assert await house.suppressed("ten_a") == []
        assert len(await house.suppressed("ten_b")) == 1
        found = (await rounds.run(is_accepted=True)).state
        assert (found.taken, found.held) == (120, {})
        assert len(await house.suppressed("ten_a")) == 100, "as many as one look at the list shows"
        await rounds.client.close()

    with_list(make_engine, work)


def test_a_round_goes_on_where_another_process_left_it(make_engine):
    """The provider breaks in the third of five pages: after the wait a new process asks for the third page, and takes every entry once."""

    async def work(house, peer):
        for n in range(10):
            await mailed(house, domain=f"d{n}.example")
            peer.add(f"user0@d{n}.example", at=NOW)
        first = rounds_of(house, peer)
        peer.page_size = 2
        await first.client.read("suppressed", "", 0)
        peer.got.clear()
        answer = peer.answer
        peer.answer = lambda got: Says(503, "away") if len(peer.got) == 3 else answer(got)
        stored = await first.run()
        assert (stored.state.failures, stored.state.taken, stored.cursor) == (1, 4, "4")
        assert stored.due_at == house.clock.now() + MINUTE
        peer.answer = answer
        second = rounds_of(house, peer)
        found = (await second.run()).state
        assert (found.taken, found.failures, found.error, found.pages) == (10, 0, "", 5)
        assert [one.partition("?")[2].partition("&")[0] for one in peer.asked[3:]] == ["NextToken=4", "NextToken=6", "NextToken=8"]
        for one in (first, second):
            await one.client.close()

    with_list(make_engine, work)


def test_a_cursor_that_the_provider_knows_no_more_begins_its_list_anew(make_engine):
    """Tokens end: the round starts over instead of failing for ever."""

    async def work(house, peer):
        await mailed(house)
        peer.add("user0@example.net", at=NOW)
        begun = ListState(began_at=NOW, pages=1)
        await house.engine.write(lambda conn: relay_lists.put(conn, "main", begun, "old", 0, NOW))
        peer.refusals = [Says(400, {"message": "NextToken is not valid"})]
        rounds = rounds_of(house, peer)
        assert (await rounds.run()).state.taken == 1
        await rounds.client.close()

    with_list(make_engine, work)


def test_later_rounds_ask_for_what_is_new_and_once_a_week_for_everything(make_engine):
    """StartDate is a little before the last round; the eighth day asks without one."""

    async def work(house, peer):
        rounds = rounds_of(house, peer)
        assert (await rounds.run()).due_at == house.clock.now() + HOUR
        house.clock.advance(DAY // SECOND)
        await rounds.run()
        house.clock.advance(7 * DAY // SECOND)
        await rounds.run()
        assert ["StartDate" in one for one in peer.asked] == [False, True, False]
        await rounds.client.close()

    with_list(make_engine, work)


@pytest.mark.parametrize(
    ("refusal", "first_s"),
    [(Says(429, "", {"Retry-After": "1800"}), 1800), (Says(403, {"message": "secret"}), 60), (Says(500, "<html>"), 60)],
)
def test_failures_back_off_and_say_why_without_the_key(make_engine, refusal, first_s):
    """Twice as long each time, as long as the provider wants at least, a day at most; the next good round ends it."""

    async def work(house, peer):
        rounds = rounds_of(house, peer)
        waits = []
        for _ in range(14):
            peer.refusals = [refusal]
            stored = await rounds.run()
            waits.append((stored.due_at - house.clock.now()) // SECOND)
        assert waits[0] == first_s
        assert waits[-1] == DAY // SECOND
        assert waits == sorted(waits)
        assert stored.state.failures == 14
        assert stored.state.error
        assert "secret" not in stored.state.error
        assert (await rounds.run()).state.failures == 0
        await rounds.client.close()

    with_list(make_engine, work)


def test_the_provider_is_told_of_ours_when_it_is_wanted(make_engine):
    """Hard bounces and complaints once, in order; not what came from there, not what it does not take, not other tenants'; off by default."""

    async def work(house, peer):
        def put(conn):
            for n, (tenant_id, reason, source) in enumerate(
                [
                    ("ten_a", "invalid_recipient", ""), ("ten_a", "complaint", "mail"), ("ten_a", "unsubscribed", ""),
                    ("ten_a", "manual", ""), ("ten_a", "invalid_recipient", "relay:main"), ("ten_b", "invalid_domain", ""),
                ]
            ):  # fmt: skip
                row = {
                    "tenant_id": tenant_id, "address": f"x{n}@example.net", "stream": "", "id": ids.new("sup"), "reason": reason, "note": "",
                    "source": source, "created_at": house.clock.now(), "expires_at": None,
                }  # fmt: skip
                suppressions.put(conn, row)

        await house.engine.write(put)
        await set_time(house, later() + MINUTE)
        silent = rounds_of(house, peer)
        await silent.run()
        assert peer.entries == {}
        rounds = rounds_of(house, peer, pushes=["bounces", "complaints"], tenants=["ten_a"])
        assert (await rounds.run()).state.told == 2
        assert {name: reason for name, (reason, _) in peer.entries.items()} == {"x0@example.net": "BOUNCE", "x1@example.net": "COMPLAINT"}
        peer.got.clear()
        assert (await rounds.run()).state.told == 2
        assert not [one for one in peer.got if one.method == "PUT"]
        for one in (silent, rounds):
            await one.client.close()

    with_list(make_engine, work)


def test_one_address_that_the_provider_refuses_does_not_keep_the_others_from_being_told(make_engine):
    """It says 400 to one of five: four are told, and the round ends well."""

    async def work(house, peer):
        def put(conn):
            for n in range(5):
                row = {
                    "tenant_id": "ten_a", "address": f"x{n}@example.net", "stream": "", "id": ids.new("sup"),
                    "reason": "invalid_recipient", "note": "", "created_at": house.clock.now(), "expires_at": None,
                }  # fmt: skip
                suppressions.put(conn, row)

        await house.engine.write(put)
        await set_time(house, later() + MINUTE)
        answer = peer.answer
        peer.answer = lambda got: Says(400, {"message": "no"}) if got.method == "PUT" and "x2@" in got.json["EmailAddress"] else answer(got)
        rounds = rounds_of(house, peer, pulls=False, pushes=["bounces"])
        found = (await rounds.run()).state
        assert found.error == ""
        assert sorted(peer.entries) == [f"x{n}@example.net" for n in (0, 1, 3, 4)]
        await rounds.client.close()

    with_list(make_engine, work)


def test_what_is_lifted_here_is_lifted_there_when_it_is_wanted_and_nobody_else_suppresses_it(make_engine):
    """Off by default; what another tenant suppresses stays on the provider's list; what was lifted before the wish stays, too."""

    async def work(house, peer):
        lists = Suppressions(house.engine, house.clock)
        for name in ("old", "one", "two"):
            peer.add(f"{name}@example.net", at=NOW)
            await lists.add("ten_a", [Suppression(address=parse_address(f"{name}@example.net"), reason="manual")], by=GATEWAY)
        await lists.add("ten_b", [Suppression(address=parse_address("two@example.net"), reason="manual")], by=GATEWAY)
        await lists.lift("ten_a", parse_address("old@example.net"), by=GATEWAY)
        await set_time(house, later() - SECOND)
        rounds = rounds_of(house, peer, pulls=False, removes=True)
        await rounds.run()
        assert len(peer.entries) == 3
        await asyncio.sleep(0.003)
        for name in ("one", "two"):
            await lists.lift("ten_a", parse_address(f"{name}@example.net"), by=GATEWAY)
        await set_time(house, later() + 2 * MINUTE)
        assert (await rounds.run()).state.lifted_there == 1
        assert sorted(peer.entries) == ["old@example.net", "two@example.net"]
        await rounds.client.close()

    with_list(make_engine, work)


def test_of_two_processes_one_reads_a_list_and_the_other_goes_on_when_it_is_gone(make_engine):
    """Both look every few seconds: each page is asked for once; a process that died with the lease is followed after its end."""

    async def work(house, peer):
        loops = [RelayListLoop(house.engine, house.clock, {"main": rounds_of(house, peer)}, f"node{n}") for n in range(2)]
        for _ in range(3):
            await asyncio.gather(*[loop.step() for loop in loops])
            await asyncio.gather(*[loop.finish() for loop in loops])
        assert len(peer.got) == 1
        house.clock.advance(HOUR // SECOND)
        await asyncio.gather(*[loop.step() for loop in loops])
        await asyncio.gather(*[loop.finish() for loop in loops])
        assert len(peer.got) == 2
        for loop in loops:
            await loop.close()

    with_list(make_engine, work)


async def set_time(house, at):
    house.clock.advance((at - house.clock.now()) / 1000)
