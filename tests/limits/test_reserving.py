"""Limits of keys, tenants and domains: exact in one process, never exceeded by several; on both engines."""

import asyncio

import sqlalchemy as sa

from gatepost.clock import DAY, HOUR
from gatepost.domain.allowance import Unused
from gatepost.store import quota
from gatepost.store.quota import Place
from tests.limits.house import BY, count_passed, play, refusal_of, wanted


async def used(house, subject, resource="messages", per="day", starts_at=None):
    start = house.clock.now() // DAY * DAY if starts_at is None else starts_at
    place = Place(subject, resource, per, start)
    return (await house.engine.read(lambda conn: quota.read(conn, [place])))[place].filled


def test_a_hundred_at_once_at_quota_minus_one_give_exactly_one(make_engine, tmp_path):
    """A quota that has one left lets one through, however many come at once."""

    async def work(house):
        who = house.caller("messages=30/day")
        for _ in range(29):
            await house.node.limits.reserve(who, [wanted()])
        assert await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(100)) == (1, {"quota_exceeded"})
        assert await used(house, who.principal.id) == 30

    play(make_engine, tmp_path, work)


def test_several_processes_together_never_exceed_and_reach_the_quota(make_engine, tmp_path):
    """Three processes race for 500 with 200 requests each: exactly 500 pass once slices that lie idle are back."""

    async def work(house):
        nodes = [house.node, await house.new_node(), await house.new_node()]
        who = house.caller("messages=500/day")
        passed, codes = await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(200) for node in nodes)
        assert codes <= {"quota_exceeded"}
        assert 480 <= passed <= 500
        house.clock.advance(6)
        for node in nodes:
            await node.limits.step()
        more, _ = await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(20) for node in nodes)
        assert passed + more == 500
        assert await used(house, who.principal.id) == 500

    play(make_engine, tmp_path, work)


def test_two_processes_at_quota_minus_one_let_one_through(make_engine, tmp_path):
    """The last one is taken by one process, not by each."""

    async def work(house):
        other = await house.new_node()
        who = house.caller("messages=8/day", "recipients=9/month")
        for _ in range(7):
            await house.node.limits.reserve(who, [wanted()])
        asked = [node.limits.reserve(who, [wanted()]) for _ in range(50) for node in (house.node, other)]
        assert await count_passed(asked) == (1, {"quota_exceeded"})

    play(make_engine, tmp_path, work)


def test_quotas_and_rates_survive_a_restart(make_engine, tmp_path):
    """A new process knows what the old one took, by the day and by the hour."""

    async def work(house):
        who = house.caller("messages=5/day", "recipients=7/hour")
        await house.node.limits.reserve(who, [wanted(3)])
        await house.node.limits.reserve(who, [wanted(2)])
        await house.node.close()
        house.nodes.clear()
        node = await house.new_node()
        assert (await refusal_of(node.limits.reserve(who, [wanted(3)]))).code == "rate_limited"
        await node.limits.reserve(who, [wanted(2)])
        await node.limits.reserve(house.caller("messages=5/day"), [wanted(2)])
        await node.limits.reserve(house.caller("messages=5/day"), [wanted()])
        assert (await refusal_of(node.limits.reserve(house.caller("messages=5/day"), [wanted()]))).code == "quota_exceeded"

    play(make_engine, tmp_path, work)


def test_a_crash_loses_at_most_one_slice_and_a_stop_loses_nothing(make_engine, tmp_path):
    """What a process held and did not give out is gone with it, but it is a small part of what was left; close gives it back."""

    async def work(house):
        who = house.caller("messages=1000/day")
        for _ in range(100):
            await house.node.limits.reserve(who, [wanted()])
        taken = await used(house, who.principal.id)
        assert 100 < taken <= 100 + 900 // 16
        await house.node.crash()
        house.nodes.clear()
        other = await house.new_node()
        for _ in range(100):
            await other.limits.reserve(who, [wanted()])
        await other.close()
        house.nodes.clear()
        assert await used(house, who.principal.id) == taken + 100

    play(make_engine, tmp_path, work)


def test_with_a_slice_at_hand_the_database_is_not_asked(make_engine, tmp_path):
    """A busy key costs a transaction now and then, not one for each request; no limits cost none at all."""

    async def work(house):
        node, count = house.node, 0
        write = node.engine.write

        async def counting(job):
            nonlocal count
            count += 1
            return await write(job)

        node.engine.write = counting
        for _ in range(50):
            await node.limits.reserve(house.caller(), [wanted()])
            await node.limits.count_request(house.caller())
        assert count == 0
        who = house.caller("messages=100000/day", "bytes=1000000000/hour", "requests=100000/minute")
        for _ in range(1000):
            await node.limits.reserve(who, [wanted()])
            await node.limits.count_request(who)
        assert count < 60

    play(make_engine, tmp_path, work)


def test_nothing_is_taken_of_one_limit_when_another_is_full(make_engine, tmp_path):
    """All or nothing: a refused request leaves no trace in the limits that had room."""

    async def work(house):
        await house.set_limits("messages=100/day")
        who = house.caller("recipients=4/day")
        await house.node.limits.reserve(who, [wanted(3)])
        assert "key recipients=4/day" in (await refusal_of(house.node.limits.reserve(who, [wanted(2)]))).detail
        await house.node.limits.close()
        house.nodes.clear()
        assert await used(house, house.tenant_id) == 1
        assert await used(house, who.principal.id, "recipients") == 3

    play(make_engine, tmp_path, work)


def test_a_cancelled_reservation_is_as_if_it_had_never_been(make_engine, tmp_path):
    """Replays and failed commits use nothing; cancelling twice gives back once."""

    async def work(house):
        who = house.caller("messages=3/day", "messages=3/minute")
        for _ in range(10):
            taken = await house.node.limits.reserve(who, [wanted(), wanted(), wanted()])
            assert (await refusal_of(house.node.limits.reserve(who, [wanted()]))) is not None
            await taken.cancel()
            await taken.cancel()
        await house.node.limits.reserve(who, [wanted(), wanted(), wanted()])
        assert (await refusal_of(house.node.limits.reserve(who, [wanted()]))) is not None

    play(make_engine, tmp_path, work)


def test_suppressed_recipients_are_given_back(make_engine, tmp_path):
    """A part of a reservation can be returned: by its resource, and only to the domain that it was for."""

    async def work(house):
        who = house.caller("recipients=10/day", "messages=9/day")
        taken = await house.node.limits.reserve(who, [wanted(6), wanted(4, domain="other.example")])
        await taken.give_back([Unused(domain="acme.example", recipients=5)])
        await house.node.limits.reserve(who, [wanted(5)])
        assert (await refusal_of(house.node.limits.reserve(who, [wanted()]))).code == "quota_exceeded"
        (domain,) = [one for one in await house.node.limits.remaining(who, ["acme.example"]) if one.kind == "domain"]
        assert domain.remaining == 1000 - 6 + 5 - 5

    play(make_engine, tmp_path, work, per_domain=["recipients=1000/hour"])


def test_no_more_is_given_back_than_was_taken(make_engine, tmp_path):
    """Neither in parts, nor in parts and then by cancelling."""

    async def work(house):
        who = house.caller("recipients=10/day", "recipients=10/minute")
        for _ in range(2):
            taken = await house.node.limits.reserve(who, [wanted(4)])
            for _ in range(3):
                await taken.give_back([Unused(domain="acme.example", recipients=3)])
            await taken.cancel()
        await house.node.limits.reserve(who, [wanted(6)])
        taken = await house.node.limits.reserve(who, [wanted(4)])
        await taken.give_back([Unused(domain="acme.example", recipients=3)])
        await taken.cancel()
        await house.node.limits.reserve(who, [wanted(4)])
        assert await refusal_of(house.node.limits.reserve(who, [wanted()])) is not None

    play(make_engine, tmp_path, work)


def test_a_request_larger_than_its_limit_is_told_that_waiting_is_useless(make_engine, tmp_path):
    """No Retry-After where no wait would do."""

    async def work(house):
        refused = await refusal_of(house.node.limits.reserve(house.caller("messages=10/minute"), [wanted()] * 11))
        assert (refused.code, refused.retry_after_s) == ("rate_limited", None)
        assert "key messages=10/minute never allows" in refused.detail

    play(make_engine, tmp_path, work)


def test_retry_after_is_honest(make_engine, tmp_path):
    """A second earlier it is refused, after the time that was told it passes; a day's quota renews at midnight UTC."""

    async def work(house):
        who = house.caller("messages=10/minute")
        await house.node.limits.reserve(who, [wanted()] * 10)
        refused = await refusal_of(house.node.limits.reserve(who, [wanted()] * 3))
        assert (refused.code, refused.retry_after_s) == ("rate_limited", 18)
        house.clock.advance(17)
        assert (await refusal_of(house.node.limits.reserve(who, [wanted()] * 3))) is not None
        house.clock.advance(1)
        await house.node.limits.reserve(who, [wanted()] * 3)

        daily = house.caller("messages=2/day", key_id="key_daily")
        await house.node.limits.reserve(daily, [wanted()] * 2)
        refused = await refusal_of(house.node.limits.reserve(daily, [wanted()]))
        midnight = (house.clock.now() // DAY + 1) * DAY
        assert refused.code == "quota_exceeded"
        assert 0 <= refused.retry_after_s - (midnight - house.clock.now()) / 1000 < 1
        house.clock.advance(refused.retry_after_s)
        await house.node.limits.reserve(daily, [wanted()] * 2)

    play(make_engine, tmp_path, work)


def test_the_smaller_of_a_burst_and_a_sustained_limit_holds(make_engine, tmp_path):
    """5 a second and 100 an hour: bursts of five, until the hour's hundred are used up."""

    async def work(house):
        who, passed = house.caller("messages=5/second", "messages=100/hour"), 0
        for _ in range(60):
            now_passed, _ = await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(8))
            assert now_passed <= 5
            passed += now_passed
            house.clock.advance(1)
        assert 100 <= passed <= 102  # the hour's rate yields one more in 36 seconds

    play(make_engine, tmp_path, work)


def test_a_tenants_limit_holds_for_all_its_keys_and_a_domains_for_all_tenants(make_engine, tmp_path):
    """Many keys do not make a limit larger."""

    async def work(house):
        await house.set_limits("messages=5/hour")
        asked = [house.node.limits.reserve(house.caller(key_id=f"key_{n}"), [wanted(domain=f"d{n}.example")]) for n in range(20)]
        assert (await count_passed(asked))[0] == 5
        tenants = [await house.add_tenant(f"t{n}") for n in range(4)]
        asked = [
            house.node.limits.reserve(house.caller(tenant_id=one), [wanted(domain="one.example")]) for one in tenants for _ in range(3)
        ]
        passed, codes = await count_passed(asked)
        assert (passed, codes) == (7, {"rate_limited"})

    play(make_engine, tmp_path, work, per_domain=["messages=7/hour"])


def test_defaults_hold_unless_there_is_a_limit_of_its_own(make_engine, tmp_path):
    """Settings give every key and tenant a limit; an own one for the same resource and window takes its place."""

    async def work(house):
        reserve = house.node.limits.reserve
        assert (await count_passed(reserve(house.caller(), [wanted()]) for _ in range(10)))[0] == 3
        assert (await count_passed(reserve(house.caller("messages=6/hour", key_id="key_b"), [wanted()]) for _ in range(10)))[0] == 6
        other = await house.add_tenant("other")
        asked = [reserve(house.caller("messages=1000/hour", tenant_id=other, key_id="key_c"), [wanted()]) for _ in range(50)]
        assert (await count_passed(asked))[0] == 20

    play(make_engine, tmp_path, work, per_key=["messages=3/hour"], per_tenant=["messages=20/day"])


def test_a_changed_limit_is_kept_to_at_the_next_look(make_engine, tmp_path):
    """Raised, lowered, removed: each process sees it when it looks for a new version, once a second."""

    async def work(house):
        reserve = house.node.limits.reserve
        await house.set_limits("messages=2/day")
        assert (await count_passed(reserve(house.caller(), [wanted()]) for _ in range(5)))[0] == 2
        house.clock.advance(1)
        await house.set_limits("messages=5/day")
        assert (await count_passed(reserve(house.caller(), [wanted()]) for _ in range(5)))[0] == 3
        await house.set_limits("messages=1/day")
        assert (await count_passed(reserve(house.caller(), [wanted()]) for _ in range(5)))[0] == 0
        await house.metering.change_limits(house.tenant_id, [], BY, is_whole=True)
        await house.node.refresh()
        assert (await count_passed(reserve(house.caller(), [wanted()]) for _ in range(5)))[0] == 5

    play(make_engine, tmp_path, work)


def test_a_client_that_goes_away_while_waiting_takes_nothing_with_it(make_engine, tmp_path):
    """A request that is cancelled while the database is asked leaves its share to others."""

    async def work(house):
        who, passed = house.caller("messages=20/day"), 0
        for _ in range(5):
            tasks = [asyncio.ensure_future(house.node.limits.reserve(who, [wanted()])) for _ in range(4)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            passed += sum(not isinstance(one, BaseException) for one in await asyncio.gather(*tasks, return_exceptions=True))
            await asyncio.sleep(0.05)
        assert passed < 20
        assert (await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(40)))[0] == 20 - passed

    play(make_engine, tmp_path, work)


def test_clocks_that_go_back_do_not_open_a_window_twice(make_engine, tmp_path):
    """Back over midnight, the old day's quota is still as used as it was."""

    async def work(house):
        house.clock.advance((DAY - house.clock.now() % DAY) / 1000 + 1)
        house.clock.advance(-10)
        who = house.caller("messages=4/day")
        assert (await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(9)))[0] == 4
        house.clock.advance(20)
        assert (await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(9)))[0] == 4
        house.clock.advance(-20)
        assert (await count_passed(house.node.limits.reserve(who, [wanted()]) for _ in range(9)))[0] == 0

    play(make_engine, tmp_path, work)


def test_rows_of_windows_that_are_over_are_forgotten(make_engine, tmp_path):
    """The table does not grow for ever; what still counts stays."""

    async def work(house):
        for n in range(30):
            await house.node.limits.reserve(house.caller("messages=9/hour", key_id=f"key_{n}"), [wanted()])
        await house.node.limits.reserve(house.caller("messages=9/month"), [wanted()])
        house.clock.advance(3 * HOUR / 1000)
        await house.node.limits.step()
        rows = await house.engine.read(lambda conn: conn.execute(sa.text("SELECT per FROM quota")).scalars().all())
        assert list(rows) == ["month"]

    play(make_engine, tmp_path, work)
