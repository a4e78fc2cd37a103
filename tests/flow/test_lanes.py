"""Whose turn it is: lanes, tenants and sites side by side; what is too late; all by counting, not by the clock."""

import asyncio
from collections import Counter

import pytest

from gatepost.clock import HOUR, MINUTE
from gatepost.domain.route import shard_of
from gatepost.store import facts, queue, sites
from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message

SITE = "example.net"
BESIDE = next(name for n in range(10_000) if (name := f"s{n}.example") and shard_of("default", name) == shard_of("default", SITE))
"""A site in the same shard."""


def put_rows(conn, count, site=SITE, tenant_id="ten_a", lane=1, due_at=NOW - HOUR):
    """Insert queue rows alone, without messages: they must never be loaded."""
    row = {
        "shard": shard_of("default", site), "lane": lane, "due_at": due_at, "tenant_id": tenant_id, "pool": "default", "site": site, "attempt": 1, "retries": 0,
        "expires_at": NOW + 100 * HOUR, "tried": 0, "n": 0,
    }  # fmt: skip
    for start in range(0, count, 5_000):
        queue.insert(conn, [{**row, "message_id": f"msg_{site}{n:08}"} for n in range(start, min(start + 5_000, count))])


def put_many(conn, count, **more):
    return [put_message(conn, **more)[0] for _ in range(count)]


def test_a_dead_sites_backlog_in_the_same_shard_costs_the_others_nothing(make_engine, tmp_path):
    """20,000 older rows of a site that gets nothing: another site's mail leaves with the first look, and no look reads the backlog."""

    async def work(house):
        await house.engine.write(lambda conn: sites.pause(conn, SITE, NOW))
        await house.engine.write(lambda conn: put_rows(conn, 20_000))
        await house.engine.write(lambda conn: put_many(conn, 5, domains=(BESIDE,)))
        await house.dispatcher.step()
        await house.dispatcher.finish()
        assert [batch.site for batch in house.courier.batches] == [BESIDE] * 5
        for _ in range(3):
            house.clock.advance(1)
            await house.engine.write(lambda conn: put_many(conn, 5, domains=(BESIDE,), due_at=house.clock.now()))
            await house.dispatcher.step()
            await house.dispatcher.finish()
        assert len(house.courier.batches) == 20

    run(make_engine, tmp_path, work)


def test_one_tenants_backlog_lets_anothers_ten_through(make_engine, tmp_path):
    """Of two tenants with mail for the same site in the same lane, the one with ten is done within some twenty of the other's."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 1_000, due_at=NOW - HOUR))
        house.courier.gate.clear()
        for _ in range(3):
            await house.dispatcher.step()
        await house.engine.write(lambda conn: put_many(conn, 10, tenant_id="ten_b"))
        await house.dispatcher.step()
        started = len(house.courier.batches)
        house.courier.gate.set()
        await house.run_until_idle()
        owners = await _tenants_of(house, house.courier.batches[started:])
        assert max(n for n, owner in enumerate(owners) if owner == "ten_b") < 30
        assert Counter(owners)["ten_b"] == 10
        assert await house.statuses() == {"delivered": 1_010}

    run(make_engine, tmp_path, work)


async def _tenants_of(house, batches):
    from gatepost.store import messages

    found = {}

    def read(conn):
        for batch in batches:
            found[batch.message_id] = messages.get(conn, None, batch.message_id).tenant_id

    await house.engine.read(read)
    return [found[batch.message_id] for batch in batches]


def test_bulk_gets_its_share_beside_transactional_mail_and_no_more(make_engine, tmp_path):
    """Both lanes wait for one site: four of five are transactional, and bulk is never left out."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 400, lane=2, due_at=NOW - HOUR))
        await house.engine.write(lambda conn: put_many(conn, 400, lane=1))
        house.courier.gate.clear()
        for _ in range(3):
            await house.dispatcher.step()
        started = len(house.courier.batches)
        house.courier.gate.set()
        await house.run_until_idle()
        first = Counter(batch.lane for batch in house.courier.batches[started : started + 200])
        assert 120 <= first[1] <= 180
        assert 20 <= first[2] <= 80
        assert await house.statuses() == {"delivered": 800}

    run(make_engine, tmp_path, work)


def test_where_codes_are_expected_a_connection_is_kept_for_them(make_engine, tmp_path):
    """After one code, bulk never takes all three connections: the next code begins at once, whatever the others wait for."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 1, lane=0))
        await house.run_until_idle()
        await house.engine.write(lambda conn: put_many(conn, 50, lane=2))
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        assert house.courier.at_once == 2
        (code,) = await house.engine.write(lambda conn: put_many(conn, 1, lane=0))
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        assert house.courier.batches[-1].message_id == code.message_id
        assert house.courier.at_once == 3
        house.courier.gate.set()
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 52}

    run(make_engine, tmp_path, work)


def test_many_sites_are_all_served_though_few_fit_into_memory(make_engine, tmp_path):
    """3,000 sites with a message each, more than memory holds: each is delivered once."""

    async def work(house):
        def put(conn):
            for n in range(3_000):
                put_message(conn, domains=(f"d{n}.example",), due_at=NOW - MINUTE)

        await house.engine.write(put)
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 3_000}
        assert len({batch.site for batch in house.courier.batches}) == len(house.courier.batches) == 3_000

    run(make_engine, tmp_path, work)


def test_rows_of_one_due_time_are_all_read(make_engine, tmp_path):
    """A campaign that was scheduled for one instant: more rows of the same due time than one look reads."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 1_500, due_at=NOW - MINUTE, lane=2))
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 1_500}

    run(make_engine, tmp_path, work)


def test_a_commit_that_comes_late_is_seen(make_engine, tmp_path):
    """A row that is due before what the cursors read already is found, a little before by them, long before by the scan."""

    async def work(house):
        await house.run_until_idle()
        for back in (200, 4_000, 100_000):
            house.clock.advance(2)
            await house.dispatcher.step()
            await house.engine.write(lambda conn, back=back: put_message(conn, due_at=house.clock.now() - back))
            house.clock.advance(2)
            await house.run_until_idle()
        assert await house.statuses() == {"delivered": 3}

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize("age", [10 * MINUTE, 30 * HOUR])
def test_mail_for_a_paused_site_expires_at_its_end(make_engine, tmp_path, age):
    """It gets nothing, and says so with its event when its time is over: soon or late."""

    async def work(house):
        await house.engine.write(lambda conn: sites.pause(conn, SITE, NOW))
        (due,) = await house.engine.write(lambda conn: put_message(conn, expires_at=NOW + age))
        await house.run_until_idle()
        house.clock.advance(age / 1000 - 1)
        await house.run_until_idle()
        assert await house.statuses() == {"queued": 1}
        house.clock.advance(1)
        await house.dispatcher.step()
        house.clock.advance(31)
        await house.dispatcher.step()
        await house.dispatcher.finish()
        assert await house.statuses() == {"expired": 1}
        types = [row.type for row in await house.engine.read(lambda conn: facts.events_of(conn, due.message_id))]
        assert types == ["recipient.expired"]
        assert house.courier.batches == []

    run(make_engine, tmp_path, work)


def test_what_waits_in_memory_too_long_is_not_sent(make_engine, tmp_path):
    """All connections hang; a message that waits behind them ends at its end and is never handed over."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 3, due_at=NOW - MINUTE))
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        (late,) = await house.engine.write(lambda conn: put_many(conn, 1, expires_at=NOW + 5_000))
        await house.dispatcher.step()
        house.clock.advance(6)
        await house.dispatcher.step()
        house.courier.gate.set()
        await house.dispatcher.finish()
        assert await house.statuses() == {"delivered": 3, "expired": 1}
        assert late.message_id not in {batch.message_id for batch in house.courier.batches}

    run(make_engine, tmp_path, work)
