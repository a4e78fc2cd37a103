"""A suspended tenant's mail is held: neither tried nor failed, in nobody's way, and it goes on when the tenant is resumed."""

import asyncio
from collections import Counter

from gatepost.clock import DAY, HOUR
from gatepost.control import Control
from gatepost.domain.access import GATEWAY
from gatepost.domain.outcome import Category, Deferred, Reply
from gatepost.domain.tenant import Tenant
from gatepost.explain import explain
from gatepost.settings import Settings
from gatepost.store import queue, tenants
from gatepost.tenants.tenants import Tenants
from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message


async def prepared(house):
    """Make two tenants in the house."""

    def make(conn):
        for name in ("a", "b"):
            tenants.insert_tenant(conn, Tenant(id=f"ten_{name}", name=name, created_at=NOW))

    await house.engine.write(make)
    return Tenants(house.engine, house.clock)


async def due(house):
    """Read which tenants' rows a look at the queue meets."""
    rows = await house.engine.read(
        lambda conn: queue.due(conn, [(shard, lane, 10_000) for shard in range(64) for lane in range(3)], house.clock.now())
    )
    return Counter(row.tenant_id for row in rows)


def put_many(conn, tenant_id, count, **more):
    for _ in range(count):
        put_message(conn, tenant_id=tenant_id, **more)


async def look(house, times=1):
    for _ in range(times):
        await house.dispatcher.step()
        await house.dispatcher.finish()


def test_held_mail_is_not_tried_and_goes_on_after_the_resume(make_engine, tmp_path):
    """Of two tenants with mail for the same site only the active one's leaves; resumed, the other's does, once each."""

    async def work(house):
        people = await prepared(house)
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 5))
        await house.engine.write(lambda conn: put_many(conn, "ten_b", 5))
        await people.suspend("ten_a", GATEWAY)
        await look(house, 3)
        assert await house.statuses() == {"delivered": 5, "queued": 5}
        assert await house.engine.read(queue.held_by_tenant) == {"ten_a": 5}
        await people.resume("ten_a", GATEWAY)
        await look(house, 3)
        assert await house.statuses() == {"delivered": 10}
        handed = Counter((batch.message_id, one.n) for batch in house.courier.batches for one in batch.recipients)
        assert set(handed.values()) == {1}

    run(make_engine, tmp_path, work)


def test_a_suspended_tenants_full_queue_is_in_nobodys_way(make_engine, tmp_path):
    """Thousands of older rows at the head of the same shard: another's mail leaves with the first look, and soon no look meets them."""

    async def work(house):
        people = await prepared(house)
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 3_000, due_at=NOW - HOUR))
        await house.engine.write(lambda conn: put_many(conn, "ten_b", 3, due_at=NOW))
        await people.suspend("ten_a", GATEWAY)
        await look(house)
        assert await house.statuses() == {"delivered": 3, "queued": 3_000}
        assert await due(house) == {}
        assert await house.engine.read(queue.held_by_tenant) == {"ten_a": 3_000}
        await people.resume("ten_a", GATEWAY)
        await look(house)
        assert await house.engine.read(queue.held_by_tenant) == {}
        handed = sum(len(batch.recipients) for batch in house.courier.batches)
        assert (await due(house))["ten_a"] + handed == 3_003

    run(make_engine, tmp_path, work)


def test_a_process_that_starts_later_lets_go_what_was_resumed_meanwhile(make_engine, tmp_path):
    """Who held the rows may be dead: what lies aside is in the database, and its new owner looks."""

    async def work(house):
        people = await prepared(house)
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 5))
        await people.suspend("ten_a", GATEWAY)
        await look(house, 2)
        await house.dispatcher.stop(1)
        await people.resume("ten_a", GATEWAY)
        house.dispatcher = house.dispatch("node_b")
        await look(house, 3)
        assert await house.statuses() == {"delivered": 5}

    run(make_engine, tmp_path, work)


def test_what_is_being_delivered_at_the_suspension_ends_once(make_engine, tmp_path):
    """In flight it is settled; waiting in memory it is let go; nothing is sent twice after the resume."""

    async def work(house):
        people = await prepared(house)
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 10))
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.05)  # three slots are taken, seven wait in memory
        await people.suspend("ten_a", GATEWAY)
        await house.dispatcher.step()
        house.courier.gate.set()
        await house.dispatcher.finish()
        await look(house, 2)
        assert await house.statuses() == {"delivered": 3, "queued": 7}
        await people.resume("ten_a", GATEWAY)
        await look(house, 3)
        assert await house.statuses() == {"delivered": 10}
        handed = Counter((batch.message_id, one.n) for batch in house.courier.batches for one in batch.recipients)
        assert set(handed.values()) == {1}

    run(make_engine, tmp_path, work)


def test_a_deferred_recipient_is_held_when_its_retry_comes_due(make_engine, tmp_path):
    """A retry of a suspended tenant waits, uses up no attempt, and is tried after the resume."""

    async def work(house):
        people = await prepared(house)
        house.courier.answer = lambda _one, exchange: Deferred(
            exchange=exchange, category=Category.GREYLISTED, detail="later", reply=Reply(code=451, enhanced=None, text="later")
        )
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 1))
        await look(house)
        await people.suspend("ten_a", GATEWAY)
        house.clock.advance(120)
        await look(house, 2)
        assert len(house.courier.batches) == 1
        house.courier.answer = None
        await people.resume("ten_a", GATEWAY)
        await look(house, 2)
        assert await house.statuses() == {"delivered": 1}

    run(make_engine, tmp_path, work)


def test_mail_does_not_expire_while_it_is_held(make_engine, tmp_path):
    """It gets the time back; but a message whose sender chose its end keeps that end: a late code is worse than none."""

    async def work(house):
        people = await prepared(house)
        long = NOW + Settings().retry.max_age_s * 1000
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 1, expires_at=long))
        await house.engine.write(lambda conn: put_many(conn, "ten_a", 1, expires_at=NOW + HOUR))
        await people.suspend("ten_a", GATEWAY)
        await look(house, 2)
        house.clock.advance(30 * DAY / 1000)
        await look(house, 2)
        assert await house.statuses() == {"queued": 2}
        await people.resume("ten_a", GATEWAY)
        await look(house, 3)
        assert await house.statuses() == {"delivered": 1, "expired": 1}

    run(make_engine, tmp_path, work)


def test_explain_says_that_the_tenant_is_suspended(make_engine, tmp_path):
    """Before and after it was put aside; and the usual words again after the resume."""

    async def work(house):
        people = await prepared(house)
        (row,) = await house.engine.write(lambda conn: put_message(conn, tenant_id="ten_a"))

        async def told():
            return (await explain(house.engine, house.clock, "ten_a", row.message_id)).recipients[0]

        await people.suspend("ten_a", GATEWAY)
        for _ in range(2):
            found = await told()
            assert (found.cause, found.next_attempt_at) == ("tenant_suspended", None)
            assert "the tenant was suspended" in found.sentence
            await look(house)
        await people.resume("ten_a", GATEWAY)
        assert (await told()).cause == "turn"

    run(make_engine, tmp_path, work)


def test_held_mail_can_be_cancelled(make_engine, tmp_path):
    """The operator, or the tenant after its resume, finds the row wherever it lies."""

    async def work(house):
        people = await prepared(house)
        (row,) = await house.engine.write(lambda conn: put_message(conn, tenant_id="ten_a"))
        await people.suspend("ten_a", GATEWAY)
        await look(house, 2)
        assert await Control(house.engine, Settings(), house.clock).cancel("ten_a", row.message_id, by=GATEWAY) == 1
        await people.resume("ten_a", GATEWAY)
        await look(house, 2)
        assert await house.statuses() == {"cancelled": 1}
        assert house.courier.batches == []

    run(make_engine, tmp_path, work)
