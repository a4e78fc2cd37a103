"""A relay that falls silent is left after seconds when there is another road, and nothing is delivered twice by that."""

import asyncio
import random

import pytest

from gatepost.clock import SystemClock
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.roads import WatchedRoads
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import SocketDialer
from gatepost.settings import Egress, Relay, Retry, Routing, Settings
from gatepost.store import facts, messages
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.scripted_peer import SILENCE, Late, ScriptedPeer
from tests.flow.test_dispatcher import Unsigned
from tests.store.rows import put_message

_SILENCE_S = 0.3


class House:
    """A queue runner in real time, with couriers to real peers."""

    def __init__(self, engine, tmp_path, peers, connections=20):
        self.engine, self.clock = engine, SystemClock()
        self.settings = Settings(
            egress=Egress(connections_per_relay=connections, default_route="a,b"), routing=Routing(silence_s=_SILENCE_S, breaker_open_s=30),
            retry=Retry(schedule=[60], jitter=0),
        )  # fmt: skip
        self.couriers = {
            name: SmtpCourier(
                route=name, settings=self.settings, relay=Relay(url=f"smtp://127.0.0.1:{peer.port}"), resolver=FakeResolver(),
                dialer=SocketDialer(), clock=self.clock, hostname="gw.acme.example",
            )
            for name, peer in peers.items()
        }  # fmt: skip
        ownership = Ownership(engine, self.clock, "node_a", "host", 1, lease_s=60)
        self.roads = WatchedRoads(engine, self.settings, self.clock, self.couriers, machine="host")
        self.dispatcher = Dispatcher(
            engine=engine, blobs=LocalBlobs(tmp_path / "blobs"), signing=Unsigned(), couriers=self.couriers, settings=self.settings,
            clock=self.clock, ownership=ownership, chance=random.Random(1), roads=self.roads,
        )  # fmt: skip

    async def put(self, count=1, route="a,b"):
        rows = await self.engine.write(
            lambda conn: [
                put_message(conn, route=route, due_at=self.clock.now(), expires_at=self.clock.now() + 10**8) for _ in range(count)
            ]
        )
        return [one[0].message_id for one in rows]

    async def run_until(self, is_done, limit_s=20.0):
        async with asyncio.timeout(limit_s):
            while not await is_done():
                await self.dispatcher.wait(min(await self.dispatcher.step(), 0.02))

    async def statuses(self):
        return await self.engine.read(lambda conn: messages.counts_by_status(conn, None))

    async def attempts(self, message_id):
        return [(row.route, row.outcome) for row in await self.engine.read(lambda conn: facts.attempts_of(conn, message_id))]

    async def close(self):
        await self.dispatcher.stop(0.1)
        await self.roads.close()
        for courier in self.couriers.values():
            await courier.close()


def go(make_engine, tmp_path, first, work, **options):
    async def main():
        engine = make_engine()
        await open_store(engine, SystemClock())
        async with ScriptedPeer(first) as a, ScriptedPeer() as b:
            house = House(engine, tmp_path, {"a": a, "b": b}, **options)
            try:
                await work(house, a, b)
            finally:
                await house.close()
                await engine.close()

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_relay_that_is_silent_before_the_content_is_left_for_the_next_road(make_engine, tmp_path, stage):
    """Nothing was handed over, so the mail goes by the other relay, long before the five minutes of RFC 5321 are over."""

    async def work(house, a, b):
        [message_id] = await house.put()
        await house.run_until(lambda: _is(house, {"sent": 1}))
        assert await house.attempts(message_id) == [("a", "deferred"), ("b", "delivered")]
        assert (len(a.messages), len(b.messages)) == (0, 1)

    go(make_engine, tmp_path, {stage: SILENCE}, work)


def test_a_kept_connection_that_falls_silent_does_not_cost_a_second_wait(make_engine, tmp_path):
    """After the silence of a connection that was open no other one to the same relay is tried."""

    async def work(house, a, b):
        await house.put()
        await house.run_until(lambda: _is(house, {"sent": 1}))
        [message_id] = await house.put()
        await house.run_until(lambda: _is(house, {"sent": 2}))
        assert await house.attempts(message_id) == [("a", "deferred"), ("b", "delivered")]
        assert len(a.connections) == 1

    go(make_engine, tmp_path, {"MAIL": ["250 ok", SILENCE]}, work)


def test_a_relay_is_waited_for_where_there_is_no_other_road(make_engine, tmp_path):
    """The same silence is no reason to give up when nobody else would take the mail."""

    async def work(house, a, b):
        [message_id] = await house.put(route="a")
        await house.run_until(lambda: _is(house, {"sent": 1}))
        assert await house.attempts(message_id) == [("a", "delivered")]
        assert b.messages == []

    go(make_engine, tmp_path, {"GREETING": Late(3 * _SILENCE_S, "220 here at last")}, work)


def test_silence_after_the_content_is_never_taken_for_a_refusal(make_engine, tmp_path):
    """Whoever has the content may have delivered it: it waits for its answer, however long, and the other relay is not asked."""

    async def work(house, a, b):
        [message_id] = await house.put()
        await house.run_until(lambda: _is(house, {"sent": 1}))
        assert await house.attempts(message_id) == [("a", "delivered")]
        assert b.messages == []

    go(make_engine, tmp_path, {".": Late(4 * _SILENCE_S, "250 ok")}, work)


def test_mail_behind_deliveries_that_all_hang_goes_on_by_the_next_road(make_engine, tmp_path):
    """Every connection waits for the answer to its content: what has not begun takes the other relay, what has stays."""

    async def work(house, a, b):
        await house.put(2)
        await house.run_until(lambda: _count(a, 2))
        message_ids = await house.put(10)
        await house.run_until(lambda: _is(house, {"sent": 10}))
        assert (len(a.messages), len(b.messages)) == (2, 10)
        assert all([await house.attempts(one) == [("b", "delivered")] for one in message_ids])

    go(make_engine, tmp_path, {".": SILENCE}, work, connections=2)


async def _is(house, wanted):
    found = await house.statuses()
    return all(found.get(name, 0) == count for name, count in wanted.items())


async def _count(peer, count):
    return len(peer.messages) >= count
