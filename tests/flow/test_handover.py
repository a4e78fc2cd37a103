"""What a door hands over to dispatch: the same as the queue says, never twice, and only a hint."""

import asyncio
import random

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from gatepost.accept.handing import Handing
from gatepost.dispatch.claiming import _load
from gatepost.domain.access import GATEWAY
from gatepost.domain.address import parse_address
from gatepost.domain.message import EnvelopeRecipient, Steering
from gatepost.domain.queue_action import Filter, Kind
from gatepost.domain.stats import Labels
from gatepost.settings import Settings
from gatepost.store import queue, schema
from gatepost.store.handover import LARGEST, LATEST_S, Handed, packed, unpacked
from gatepost.tenants.queue_actions import QueueActions
from tests.flow.test_accept import RAW, raw, submission
from tests.flow.test_accept import House as Door
from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message


class Remembering:
    """In the place of Handing: keeps what it was given."""

    def __init__(self):
        self.messages, self.calls = [], []

    def add(self, messages, _since_s, *, is_all):
        self.messages += messages
        self.calls.append(is_all)


def accepting(make_engine, tmp_path, work, **settings):
    async def main():
        async with Door(make_engine, tmp_path, **settings) as house:
            house.handed = house.acceptor._handing = Remembering()
            await work(house)

    asyncio.run(main())


async def queued(house, message_id):
    """What a look at the queue would have found."""
    rows = await house.engine.read(lambda conn: queue.of_message(conn, message_id))
    materials, addresses = await house.engine.read(lambda conn: _load(conn, [message_id], []))
    return rows, materials[message_id], addresses


async def assert_same(house, message):
    """Compare it with what is in the database, after the way through a socket."""
    (message,) = unpacked(packed([message], 1.0), 1.0)
    rows, material, addresses = await queued(house, message.id)
    assert message.rows == rows
    assert message.material() == material
    assert message.addresses() == {key: fact for key, fact in addresses.items() if key[1] in {row.n for row in rows}}


def test_what_is_handed_over_is_what_the_queue_says(make_engine, tmp_path):
    """Every field of row, message and address, whatever the message asks for."""

    async def work(house):
        await house.suppress("eve@example.net")
        plain = submission(
            "ann@example.net", "eve@example.net", "zoë@exämple.org", steering=Steering(tags=("a", "b"), metadata={"order": "42"})
        )
        await house.acceptor.submit(house.caller, plain)
        recipients = (
            EnvelopeRecipient(address=parse_address("bob@example.org"), notify="SUCCESS,FAILURE", orcpt="rfc822;bob@example.org"),
            EnvelopeRecipient(address=parse_address("kim@other.example")),
        )
        content = RAW.replace(b"\r\n\r\n", "\r\n\r\nGrüße ".encode(), 1)
        await house.acceptor.submit_raw(house.caller, replace(raw(content), recipients=recipients, ret="HDRS", envid="x-1"))
        await house.acceptor.submit_raw(house.caller, raw(envelope_from=""))
        assert len(house.handed.messages) == 3
        assert house.handed.calls == [True] * 3
        for message in house.handed.messages:
            await assert_same(house, message)

    accepting(make_engine, tmp_path, work)


def test_what_is_not_due_or_too_large_is_left_to_the_queue(make_engine, tmp_path):
    """A scheduled message, and one whose body would fill the socket; the others of its batch are handed over."""

    async def work(house):
        await house.acceptor.submit(house.caller, submission(steering=Steering(scheduled_at=house.clock.now() + 60_000)))
        noise = random.Random(1).randbytes(LARGEST).hex()
        batch = [submission(subject="small"), submission(subject="large", text=noise)]
        await house.acceptor.submit_batch(house.caller, batch, "strict")
        assert house.handed.calls == [False, False]
        assert len(house.handed.messages) == 1
        await assert_same(house, house.handed.messages[0])

    accepting(make_engine, tmp_path, work)


@pytest.mark.parametrize("data", [b"", b"!!", b"\x92\x01\x02", b"\xff" * 50, packed([], 1.0)[:-1]])
def test_what_makes_no_sense_is_nothing(data):
    """Whatever comes over the socket, dispatch looks at the queue instead."""
    assert unpacked(data, 1.0) is None


def test_what_comes_late_or_from_the_future_is_nothing():
    """It may have been read, delivered and forgotten meanwhile."""
    data = packed([], 10.0)
    assert unpacked(data, 10.0 + LATEST_S) == []
    assert unpacked(data, 10.1 + LATEST_S) is None
    assert unpacked(data, 9.9) is None


class FakeBell:
    """Remembers what is sent; `owned` says who owns what."""

    def __init__(self, owned=None):
        self.owned = owned or {}
        self.rings, self.sent, self.is_full = 0, [], False

    def ring(self):
        self.rings += 1

    def owner(self, shard):
        return self.owned.get(shard)

    def hand(self, owner, data):
        if not self.is_full:
            self.sent.append((owner, data))
        return not self.is_full


def handed(rows, data=b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"):
    """What a door hands over of rows that `put_message` made."""
    labels = Labels("acme.example", "transactional", "", "", NOW)
    facts = [(None, f"user{row.n}@{row.site}", None, None) for row in rows]
    first = rows[0]
    return Handed(
        first.message_id, first.tenant_id, NOW, "http", "acme.example", False, False, "mx", "zstd", data, "a@acme.example", {}, labels, list(rows), facts
    )  # fmt: skip


def test_all_of_one_round_goes_in_few_datagrams_and_no_ring(make_engine, tmp_path):
    """Each owner gets what lies in its shards; a ring comes only where something has to be read."""

    async def work(house):
        rows = await house.engine.write(lambda conn: [put_message(conn, domains=(f"d{n}.example",)) for n in range(40)])
        shards = {row.shard for one in rows for row in one}
        bell = FakeBell(dict.fromkeys(shards, "a"))
        handing = Handing(bell)
        for one in rows:
            handing.add([handed(one)], 1.0, is_all=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (len(bell.sent), bell.rings) == (1, 0)
        handing.add([handed(one, bytes(40_000)) for one in rows], 1.0, is_all=True)
        await asyncio.sleep(0)
        assert len(bell.sent) == 41
        assert all(len(data) < 150_000 for _, data in bell.sent)
        handing.add([], 1.0, is_all=False)
        await asyncio.sleep(0)
        assert bell.rings == 1
        bell.is_full = True
        handing.add([handed(rows[0])], 1.0, is_all=True)
        await asyncio.sleep(0)
        assert bell.rings == 2
        bell.owned = {}
        handing.add([handed(rows[0])], 1.0, is_all=True)
        await asyncio.sleep(0)
        assert bell.rings == 3

    run(make_engine, tmp_path, work)


def test_each_process_gets_its_own_and_what_nobody_here_owns_is_rung_for(make_engine, tmp_path):
    """With several dispatch processes, or machines: one message for others keeps no other one from being handed over."""

    async def work(house):
        rows = await house.engine.write(lambda conn: [put_message(conn, domains=(f"d{n}.example", f"e{n}.example")) for n in range(20)])
        shards = sorted({row.shard for one in rows for row in one})
        bell = FakeBell({shard: "abc"[n % 3] for n, shard in enumerate(shards) if n % 3 < 2})
        handing = Handing(bell)
        for one in rows:
            handing.add([handed(one)], 1.0, is_all=True)
        await asyncio.sleep(0)
        got = {owner: {message.id for message in unpacked(data, 1.0)} for owner, data in bell.sent}
        for owner in "ab":
            assert got[owner] == {one[0].message_id for one in rows if owner in {bell.owner(row.shard) for row in one}}
        assert bell.rings == 1

    run(make_engine, tmp_path, work)


async def put(house, count=1, **fields):
    return await house.engine.write(lambda conn: [put_message(conn, **fields) for _ in range(count)])


def take_in(house, groups, age_s=0.0):
    house.dispatcher.take_in(packed([handed(rows) for rows in groups], house.clock.monotonic() - age_s))


def times_delivered(house):
    return sorted((batch.message_id, one.n) for batch in house.courier.batches for one in batch.recipients)


def test_what_is_handed_over_is_delivered_without_a_look_at_the_queue(make_engine, tmp_path):
    """Delivered and settled by this alone; the looks that follow find nothing to do."""

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 5, domains=("a.example", "b.example"))
        await house.engine.write(lambda conn: conn.execute(sa.delete(schema.body)))  # nothing of it can be read
        take_in(house, groups)
        await house.dispatcher.finish()
        assert await house.statuses() == {"delivered": 10}
        assert {batch.content[-7:] for batch in house.courier.batches} == {b"hello\r\n"}
        await house.run_until_idle()
        assert times_delivered(house) == sorted({(row.message_id, row.n) for rows in groups for row in rows})

    run(make_engine, tmp_path, work)


def test_handed_over_twice_or_after_it_was_read_it_is_delivered_once(make_engine, tmp_path):
    """In flight, just settled, or known from the queue: a row that was here within the last second is not taken again."""

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 3)
        house.courier.gate.clear()
        take_in(house, groups)
        take_in(house, groups)
        await house.dispatcher.step()
        take_in(house, groups)
        house.courier.gate.set()
        await house.dispatcher.finish()
        take_in(house, groups)
        house.clock.advance(1.0)
        await house.dispatcher.step()
        take_in(house, groups, age_s=LATEST_S)
        await house.run_until_idle()
        assert len(times_delivered(house)) == 3
        assert await house.statuses() == {"delivered": 3}

    run(make_engine, tmp_path, work)


def test_what_comes_late_or_belongs_to_others_is_read_from_the_queue(make_engine, tmp_path):
    """Late, before the first look, broken, or in a shard of another process: nothing is begun, nothing is lost."""

    async def work(house):
        groups = await put(house, 2)
        take_in(house, groups)
        assert not house.courier.batches
        await house.dispatcher.step()
        await house.dispatcher.finish()
        later = await put(house, 2)
        take_in(house, later, age_s=LATEST_S + 0.1)
        house.dispatcher.take_in(b"nonsense")
        foreign = house.dispatch("node_b")
        foreign.take_in(packed([handed(rows) for rows in later], house.clock.monotonic()))
        await asyncio.sleep(0.01)
        assert len(times_delivered(house)) == 2
        await house.run_until_idle()
        assert len(times_delivered(house)) == 4

    run(make_engine, tmp_path, work)


def test_more_than_fits_waits_its_turn_with_its_content_kept(make_engine, tmp_path):
    """A burst to one site: what does not fit into memory is read row by row; its content was handed over and need not be read."""

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 700)
        await house.engine.write(lambda conn: conn.execute(sa.delete(schema.body)))
        for start in range(0, 700, 20):
            take_in(house, groups[start : start + 20])
        take_in(house, groups[-20:])  # kept already: it counts once
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 700}
        assert len(set(times_delivered(house))) == len(times_delivered(house)) == 700
        claiming = house.dispatcher._claiming
        assert (claiming._kept, claiming._kept_bytes) == ({}, 0)

    run(make_engine, tmp_path, work)


def test_what_is_kept_has_an_end(make_engine, tmp_path, monkeypatch):
    """The oldest is let go of first, and read from the database when its turn comes."""
    monkeypatch.setattr("gatepost.dispatch.claiming._MOST_KEPT", 50 * 2_100)

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 400)
        take_in(house, groups)
        assert 0 < len(house.dispatcher._claiming._kept) <= 52
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 400}
        assert len(times_delivered(house)) == 400

    run(make_engine, tmp_path, work)


def test_an_action_on_the_queue_reaches_what_was_handed_over(make_engine, tmp_path):
    """Held while its content waits in memory: it stays where it is until it is let go, and is read anew then."""

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 300)
        house.courier.gate.clear()
        take_in(house, groups)
        actions = QueueActions(house.engine, house.clock, Settings())
        await actions.ask(None, Kind.HOLD, Filter(site="example.net"), by=GATEWAY)
        house.clock.advance(2)
        for _ in range(3):
            await house.dispatcher.step()
        assert not house.dispatcher._claiming._kept
        take_in(house, groups[-1:])  # it is held in the queue, and this comes after it was
        house.courier.gate.set()
        await house.dispatcher.finish()
        begun = len(times_delivered(house))
        assert begun < 10
        await actions.ask(None, Kind.RELEASE, Filter(site="example.net"), by=GATEWAY)
        house.clock.advance(2)
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 300}
        assert len(times_delivered(house)) == 300

    run(make_engine, tmp_path, work)


def test_a_process_that_stops_takes_nothing_in(make_engine, tmp_path):
    """What is handed over during the stop is the next process's."""

    async def work(house):
        await house.dispatcher.step()
        groups = await put(house, 2)
        await house.dispatcher.stop(1)
        take_in(house, groups)
        assert not house.courier.batches

    run(make_engine, tmp_path, work)
