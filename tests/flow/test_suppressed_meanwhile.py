"""Mail that waits for an address which is suppressed meanwhile: it does not go out, whatever runs at the same time."""

import asyncio

import pytest

from gatepost import ids
from gatepost.clock import HOUR, MINUTE
from gatepost.domain.access import GATEWAY
from gatepost.domain.address import parse_address
from gatepost.domain.outcome import Category, Deferred
from gatepost.store import facts, messages, queue, suppression_due, suppressions
from gatepost.tenants.suppressions import Suppression, Suppressions
from tests.flow.test_bounce_messages import fields
from tests.flow.test_bounce_messages import run as run_with_reports
from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message

ADDRESS = "user0@example.net"


def suppress(conn, *, stream="", address=ADDRESS, tenant_id="ten_a", reason="complaint", expires_at=None, now=NOW):
    row = {
        "tenant_id": tenant_id, "address": address, "stream": stream, "id": ids.new("sup"), "reason": reason, "note": "",
        "created_at": now, "expires_at": expires_at,
    }  # fmt: skip
    return suppressions.put(conn, row)


async def step(house, dispatcher=None):
    """Let a second pass and look once."""
    house.clock.advance(1)
    await (dispatcher or house.dispatcher).step()
    await (dispatcher or house.dispatcher).finish()


async def noted(house):
    return await house.engine.read(lambda conn: suppression_due.due(conn, house.clock.now() + HOUR, 100))


def test_what_waits_for_a_suppressed_address_never_leaves_and_the_rest_does(make_engine, tmp_path):
    """Scheduled, deferred and held mail to the address ends as suppressed with its event; other recipients, tenants and streams get theirs."""

    async def work(house):
        def put(conn):
            rows = put_message(conn, due_at=NOW + HOUR // 2, domains=("example.net", "other.example"))
            put_message(conn, due_at=NOW + HOUR // 2, tenant_id="ten_b")
            put_message(conn, due_at=NOW + HOUR // 2, stream="bulk", lane=2)
            return rows[0]

        row = await house.engine.write(put)
        await house.engine.write(lambda conn: suppress(conn, stream="transactional"))
        await step(house)
        assert await house.statuses() == {"suppressed": 1, "queued": 3}
        state = (await house.engine.read(lambda conn: messages.recipients_of(conn, [row.message_id])))[row.message_id][0]
        assert (state.status, state.reason, state.attempts) == ("suppressed", "complaint", 0)
        assert state.final_at is not None
        events = await house.engine.read(lambda conn: facts.events_of(conn, row.message_id))
        told = [one for one in events if one.type == "recipient.suppressed"]
        assert [(one.n, one.data["reason"]) for one in told] == [(0, "complaint")]
        house.clock.advance(HOUR // 2000)
        await house.run_until_idle()
        assert await house.statuses() == {"suppressed": 1, "delivered": 3}
        assert row.message_id not in {batch.message_id for batch in house.courier.batches if batch.domain == "example.net"}
        await step(house)
        assert not await noted(house), "nothing is looked for any more"

    run(make_engine, tmp_path, work)


def test_what_waits_in_memory_is_taken_out_and_what_is_on_the_network_ends_when_it_comes_back(make_engine, tmp_path):
    """Three connections are busy, seventeen messages wait in line: the seventeen never leave; a deferral of the three is no second try."""

    async def work(house):
        house.courier.answer = lambda _one, exchange: Deferred(exchange=exchange, category=Category.NETWORK, detail="later")
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(20)])
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        assert len(house.courier.batches) == 3
        await house.engine.write(suppress)
        house.clock.advance(1)
        await house.dispatcher.step()
        assert await house.statuses() == {"queued": 3, "suppressed": 17}
        house.courier.gate.set()
        await house.dispatcher.finish()
        assert await house.statuses() == {"deferred": 3, "suppressed": 17}
        for _ in range(4):
            await step(house)
        assert await house.statuses() == {"suppressed": 20}
        house.clock.advance(10 * MINUTE // 1000)
        await house.run_until_idle()
        assert len(house.courier.batches) == 3
        assert (await house.engine.read(lambda conn: queue.depth(conn, NOW)))[0] == 0

    run(make_engine, tmp_path, work)


def test_what_is_delivered_at_that_moment_stays_delivered(make_engine, tmp_path):
    """Its delivery was under way when the address was suppressed: the truth is told, once."""

    async def work(house):
        await house.engine.write(put_message)
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        await house.engine.write(suppress)
        house.clock.advance(1)
        await house.dispatcher.step()
        house.courier.gate.set()
        await house.dispatcher.finish()
        assert await house.statuses() == {"delivered": 1}
        house.clock.advance(3)
        await step(house)
        assert await house.statuses() == {"delivered": 1}

    run(make_engine, tmp_path, work)


def test_mail_that_was_accepted_at_the_same_moment_is_found_too(make_engine, tmp_path):
    """Its transaction did not see the suppression and committed after the first look: a second look ends it."""

    async def work(house):
        await house.engine.write(suppress)
        await step(house)
        await house.engine.write(lambda conn: put_message(conn, due_at=NOW + HOUR // 2))
        house.clock.advance(suppression_due.RACE_MS // 1000)
        await step(house)
        assert await house.statuses() == {"suppressed": 1}
        assert not await noted(house)

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize("how", ["lifted", "ended"])
def test_a_suppression_that_holds_no_more_ends_nothing(make_engine, tmp_path, how):
    """Lifted, or over, before anybody looked: the mail leaves."""

    async def work(house):
        await house.engine.write(put_message)
        await house.engine.write(lambda conn: suppress(conn, expires_at=NOW + 1 if how == "ended" else None))
        if how == "lifted":
            await Suppressions(house.engine, house.clock).lift("ten_a", parse_address(ADDRESS), by=GATEWAY)
        await step(house)
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 1}

    run(make_engine, tmp_path, work)


def test_each_process_ends_the_mail_of_its_own_shards(make_engine, tmp_path):
    """Two processes share the shards: between them all is ended, nothing twice, and a fenced one ends nothing."""

    async def work(house):
        def put(conn):
            for n in range(12):
                put_message(conn, domains=(f"d{n}.example",), due_at=NOW + HOUR // 2)
                suppress(conn, address=f"user0@d{n}.example")

        second_engine = house.make_engine()
        second = house.dispatch("node_b", second_engine)
        try:
            for _ in range(8):
                await step(house)
                await step(house, second)
            await house.engine.write(put)
            await step(house)
            statuses = await house.statuses()
            assert 0 < statuses["suppressed"] < 12, "one process reaches only its own"
            for _ in range(4):
                await step(house, second)
                await step(house)
            assert await house.statuses() == {"suppressed": 12}
        finally:
            await second_engine.close()

    run(make_engine, tmp_path, work)


def test_a_person_suppressing_many_addresses_ends_the_mail_of_all(make_engine, tmp_path):
    """One call with 300 addresses: mail to each of them is ended within a look, and nobody else's."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn, domains=(f"d{n}.example",), due_at=NOW + HOUR // 2) for n in range(300)])
        await house.engine.write(lambda conn: put_message(conn, due_at=NOW + HOUR // 2))
        wanted = [Suppression(address=parse_address(f"user0@d{n}.example"), reason="manual") for n in range(300)]
        await Suppressions(house.engine, house.clock).add("ten_a", wanted, by=GATEWAY)
        await step(house)
        assert await house.statuses() == {"suppressed": 300, "queued": 1}

    run(make_engine, tmp_path, work)


def test_who_submitted_it_over_smtp_is_told_that_it_will_not_be_delivered(make_engine, tmp_path):
    """What was taken with a 250 and is ended before its delivery is reported as failed, as RFC 5321 §6.1 asks."""

    async def work(house):
        house.fates["ann"] = "later"
        message_id = await house.send("ann@far.example")
        await house.run()
        await house.engine.write(
            lambda conn: suppress(conn, address="ann@far.example", tenant_id=house.tenant_id, now=house.clock.now())
        )  # fmt: skip
        house.clock.advance(1)
        await house.run()
        ((_, report),) = await house.told()
        _, each = fields(report)
        assert (each["Action"], each["Status"]) == ("failed", "5.7.1")
        assert [one.n for one in await house.events(message_id, "recipient.suppressed")] == [0]

    run_with_reports(make_engine, tmp_path, work)
