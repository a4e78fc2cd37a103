"""The queue runner with a courier that does as it is told: claims, slots, lanes, leases, stops."""

import asyncio
import random
from collections import Counter

import pytest

from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.domain.access import GATEWAY
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Reply
from gatepost.settings import Egress, Retry, Settings
from gatepost.store import facts, leases, messages, queue, sites
from gatepost.store.blobs import LocalBlobs
from gatepost.store.errors import StorageUnavailable
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from tests.store.rows import NOW, put_message


class Unsigned:
    """A directory of signing keys without any."""

    def signers(self, _tenant_id, _domain):
        return []


class ToldCourier:
    """Delivers everything, remembers it, can be held back."""

    def __init__(self, clock, answer=None):
        self.clock = clock
        self.answer = answer
        self.batches = []
        self.at_once = 0
        self.delay_s = 0.0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, batch):
        self.batches.append(batch)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        await asyncio.sleep(self.delay_s)
        self.at_once -= 1
        exchange = Exchange(route=batch.route, started_at=self.clock.now(), finished_at=self.clock.now())
        delivered = Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"))
        return {one.n: self.answer(one, exchange) if self.answer else delivered for one in batch.recipients}

    async def close(self):
        pass


class House:
    """An engine with a dispatcher on it."""

    def __init__(self, make_engine, tmp_path):
        self.make_engine = make_engine
        self.tmp_path = tmp_path
        self.clock = FakeClock(NOW)
        self.courier = ToldCourier(self.clock)

    async def __aenter__(self):
        self.engine = self.make_engine()
        await open_store(self.engine, self.clock)
        self.dispatcher = self.dispatch()
        return self

    async def __aexit__(self, *_):
        await self.engine.close()

    def dispatch(self, name="node_a", engine=None, **egress):
        settings = Settings(egress=Egress(connections_per_site=3, **egress), retry=Retry(schedule=[60, 300], jitter=0))
        engine = engine or self.engine
        ownership = Ownership(engine, self.clock, name, "host", 1, lease_s=15)
        return Dispatcher(
            engine=engine, blobs=LocalBlobs(self.tmp_path / "blobs"), signing=Unsigned(), couriers={"mx": self.courier}, settings=settings, clock=self.clock,
            ownership=ownership, chance=random.Random(1),
        )  # fmt: skip

    async def run_until_idle(self, dispatcher=None):
        dispatcher = dispatcher or self.dispatcher
        for _ in range(200):
            before = len(self.courier.batches)
            await dispatcher.step()
            await dispatcher.finish()
            if len(self.courier.batches) == before:
                return
        raise AssertionError("it never became idle")

    async def statuses(self):
        return await self.engine.read(lambda conn: messages.counts_by_status(conn, None))


def run(make_engine, tmp_path, work):
    async def main():
        async with House(make_engine, tmp_path) as house:
            await work(house)

    asyncio.run(main())


def test_everything_due_is_delivered_once(make_engine, tmp_path):
    """More than fits in memory, over many sites: each recipient is handed over exactly once."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn, domains=(f"d{n % 7}.example", "x.example")) for n in range(900)])
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 1800}
        handed = Counter((batch.message_id, one.n) for batch in house.courier.batches for one in batch.recipients)
        assert set(handed.values()) == {1}
        assert (await house.engine.read(lambda conn: queue.depth(conn, NOW)))[0] == 0

    run(make_engine, tmp_path, work)


def test_recipients_of_one_message_at_one_site_travel_together(make_engine, tmp_path):
    """One body, one transaction: a batch holds all of a message's recipients of a site."""

    async def work(house):
        await house.engine.write(lambda conn: put_message(conn, domains=("a.example", "a.example", "b.example", "a.example")))
        await house.run_until_idle()
        assert sorted([one.n for one in batch.recipients] for batch in house.courier.batches) == [[0, 1, 3], [2]]

    run(make_engine, tmp_path, work)


def test_a_site_never_sees_more_connections_than_its_slots(make_engine, tmp_path):
    """Slots are exact, however much waits."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(50)])
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.05)
        assert house.courier.at_once == 3
        house.courier.gate.set()
        await house.run_until_idle()
        assert house.courier.most_at_once == 3
        assert await house.statuses() == {"delivered": 50}

    run(make_engine, tmp_path, work)


def test_a_stuck_site_does_not_hold_up_another_in_its_shard(make_engine, tmp_path):
    """With a thousand messages for a site that answers nothing, another site's mail goes at once."""

    async def work(house):
        same_shard = next(name for n in range(10_000) if (name := f"s{n}.example") and queue_shard(name) == queue_shard("example.net"))
        await house.engine.write(lambda conn: [put_message(conn, due_at=NOW - 100) for _ in range(1000)])
        house.courier.gate.clear()
        for _ in range(5):
            await house.dispatcher.step()
        await house.engine.write(lambda conn: put_message(conn, domains=(same_shard,)))
        await house.dispatcher.step()
        await asyncio.sleep(0.05)
        assert same_shard in {batch.site for batch in house.courier.batches}
        house.courier.gate.set()
        await house.run_until_idle()

    run(make_engine, tmp_path, work)


def queue_shard(name):
    from gatepost.domain.route import shard_of

    return shard_of("default", name)


def test_codes_overtake_a_full_memory_of_bulk(make_engine, tmp_path):
    """A one-time code is handed over before the bulk mail that was there first."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn, lane=2, due_at=NOW - 100) for _ in range(2000)])
        house.courier.gate.clear()
        for _ in range(3):
            await house.dispatcher.step()
        (code,) = await house.engine.write(lambda conn: put_message(conn, lane=0))
        await house.dispatcher.step()
        started = len(house.courier.batches)
        house.courier.gate.set()
        await house.dispatcher.finish()
        assert code.message_id in [batch.message_id for batch in house.courier.batches[started : started + 1]]

    run(make_engine, tmp_path, work)


def test_deferred_mail_is_tried_again_when_its_time_has_come_and_expires_at_its_end(make_engine, tmp_path):
    """The schedule is kept to the second, and the end is an event of its own."""

    def later(_recipient, exchange):
        return Deferred(exchange=exchange, category=Category.NETWORK, detail="busy", reply=Reply(code=421, enhanced="4.3.2", text="busy"))

    async def work(house):
        house.courier.answer = later
        (due,) = await house.engine.write(lambda conn: put_message(conn, expires_at=NOW + 500_000))
        for wait, attempts in ((0, 1), (59, 1), (1, 2), (299, 2), (1, 3), (139, 3)):
            house.clock.advance(wait)
            await house.run_until_idle()
            assert len(house.courier.batches) == attempts
        assert await house.statuses() == {"deferred": 1}
        house.clock.advance(2)
        await house.run_until_idle()
        assert len(house.courier.batches) == 3
        assert await house.statuses() == {"expired": 1}
        types = [row.type for row in await house.engine.read(lambda conn: facts.events_of(conn, due.message_id))]
        assert types == ["recipient.deferred"] * 3 + ["recipient.expired"]

    run(make_engine, tmp_path, work)


def test_a_paused_site_waits_and_a_resumed_one_goes_on(make_engine, tmp_path):
    """Pausing holds the mail, and nothing of it is lost."""

    async def work(house):
        await house.engine.write(lambda conn: sites.pause(conn, "example.net", NOW))
        await house.engine.write(lambda conn: put_message(conn, domains=("example.net", "other.example")))
        await house.run_until_idle()
        assert [batch.site for batch in house.courier.batches] == ["other.example"]
        await house.engine.write(lambda conn: sites.resume(conn, "example.net"))
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 2}

    run(make_engine, tmp_path, work)


def test_two_processes_share_the_shards_and_a_dead_ones_are_taken_over(make_engine, tmp_path):
    """Each delivers its own share; when one is silent for a lease, the other delivers everything."""

    async def work(house):
        engine = house.make_engine()
        other = house.dispatch("node_b", engine)
        await house.dispatcher.step()
        await other.step()
        house.clock.advance(6)
        await house.dispatcher.step()  # gives back what is node_b's
        house.clock.advance(6)
        await other.step()
        a, b = [await house.engine.read(lambda conn, name=name: leases.owned(conn, name)) for name in ("node_a", "node_b")]
        assert len(a) + len(b) == 64
        assert min(len(a), len(b)) > 15
        await house.engine.write(lambda conn: [put_message(conn, domains=(f"d{n}.example",)) for n in range(100)])
        await house.run_until_idle()
        assert 0 < len(house.courier.batches) < 100
        house.clock.advance(16)  # node_b is not heard of again
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 100}
        await engine.close()

    run(make_engine, tmp_path, work)


def test_a_process_frozen_past_its_lease_starts_nothing_and_writes_nothing(make_engine, tmp_path):
    """What it had in flight is refused by the fence; the new owner's result stands."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(10)])
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.05)
        started = len(house.courier.batches)
        assert started == 3
        house.clock.advance(20)
        await house.engine.write(lambda conn: leases.take(conn, "node_b", range(64), house.clock.now(), house.clock.now() + 60_000))
        house.courier.gate.set()
        await house.dispatcher.finish()
        assert len(house.courier.batches) == started
        assert await house.statuses() == {"queued": 10}

    run(make_engine, tmp_path, work)


def test_nothing_starts_while_results_cannot_be_written(make_engine, tmp_path):
    """Deliveries that run are finished and kept; after the database is back they are written, and the rest goes on."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(20)])
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.05)
        write, house.engine.write = house.engine.write, unavailable
        house.courier.delay_s = 0.02
        house.courier.gate.set()
        await asyncio.sleep(0.15)
        handed = len(house.courier.batches)
        await asyncio.sleep(0.1)
        assert len(house.courier.batches) == handed < 12
        house.engine.write = write
        house.clock.advance(1)
        await house.dispatcher.finish()
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 20}
        assert len(house.courier.batches) == 20

    run(make_engine, tmp_path, work)


def test_a_slow_database_bounds_what_a_crash_would_repeat(make_engine, tmp_path):
    """While results wait to be written, only so many more deliveries begin; written, all goes on."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(150)])
        write, gate = house.engine.write, asyncio.Event()

        async def slowly(work):
            await gate.wait()
            return await write(work)

        await house.dispatcher.step()
        house.engine.write = slowly
        await asyncio.sleep(0.3)
        assert 50 <= len(house.courier.batches) <= 50 + 3
        gate.set()
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 150}
        assert len(house.courier.batches) == 150

    run(make_engine, tmp_path, work)


async def unavailable(_work):
    raise StorageUnavailable("disk is full")


def test_a_graceful_stop_finishes_what_runs_and_gives_the_shards_back(make_engine, tmp_path):
    """Nothing new starts, nothing is doubled, another process can go on at once."""

    async def work(house):
        await house.engine.write(lambda conn: [put_message(conn) for _ in range(20)])
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.05)
        house.courier.gate.set()
        await house.dispatcher.stop(5)
        assert len(house.courier.batches) == 3
        assert await house.statuses() == {"queued": 17, "delivered": 3}
        other = house.dispatch("node_b")
        await house.run_until_idle(other)
        assert await house.statuses() == {"delivered": 20}
        assert len(house.courier.batches) == 20

    run(make_engine, tmp_path, work)


def test_a_relay_that_is_not_configured_any_more_holds_its_mail(make_engine, tmp_path):
    """The mail waits, and says why; no retry is used up."""

    async def work(house):
        (due,) = await house.engine.write(lambda conn: put_message(conn, route="gone"))
        await house.run_until_idle()
        rows = await house.engine.read(lambda conn: queue.of_message(conn, due.message_id))
        assert [(row.retries, row.attempt) for row in rows] == [(0, 2)]
        recipients = await house.engine.read(lambda conn: messages.recipients_of(conn, [due.message_id]))
        assert "relay gone is not configured" in recipients[due.message_id][0].last_reply

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize("when", ["in flight", "waiting"])
def test_a_cancelled_recipient_ends_once_and_truthfully(make_engine, tmp_path, when):
    """Cancelled while waiting it is never sent; cancelled while being delivered it ends as delivered."""
    from gatepost.control import Control

    async def work(house):
        control = Control(house.engine, Settings(), house.clock)
        (due,) = await house.engine.write(put_message)
        if when == "in flight":
            house.courier.gate.clear()
            await house.dispatcher.step()
            await asyncio.sleep(0.05)
        assert await control.cancel("ten_a", due.message_id, by=GATEWAY) == 1
        house.courier.gate.set()
        await house.run_until_idle()
        assert await house.statuses() == {"delivered" if when == "in flight" else "cancelled": 1}
        assert (await house.engine.read(lambda conn: queue.depth(conn, NOW)))[0] == 0

    run(make_engine, tmp_path, work)
