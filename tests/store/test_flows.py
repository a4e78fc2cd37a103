"""The queue by flow, on both engines: what is new, what is left, whose it is, what has ended."""

import asyncio
from collections import Counter

from gatepost.clock import DAY, HOUR
from gatepost.domain.route import shard_of
from gatepost.store import flows, queue
from gatepost.store.flows import Place, Wanted
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from tests.store.rows import NOW, put_message

ALL = list(range(64))


def run(make_engine, work):
    async def main():
        engine = make_engine()
        await open_store(engine, FakeClock(NOW))
        await engine.write(work)
        await engine.close()

    asyncio.run(main())


def test_every_flow_that_has_something_due_is_found_with_its_oldest_row(make_engine):
    """However many rows it has; what is only due later, or held, or in other shards, is not."""

    def work(conn):
        for n in range(30):
            put_message(conn, domains=("a.example",), due_at=NOW - n)
            put_message(conn, domains=("a.example",), tenant_id="ten_b", due_at=NOW - 100 - n)
            put_message(conn, domains=("b.example",), lane=2, due_at=NOW + 1)
            put_message(conn, domains=("c.example",), lane=0, due_at=NOW + queue.HELD_BY_HAND)
        found = flows.heads(conn, ALL, NOW)
        assert {(head.site, head.tenant_id, head.due_at, flows.lane_of(head.flow)) for head in found} == {
            ("a.example", "ten_a", NOW - 29, 1), ("a.example", "ten_b", NOW - 129, 1),
        }  # fmt: skip
        shard = shard_of("default", "a.example")
        assert {flows.shard_of(head.flow) for head in found} == {shard}
        assert flows.heads(conn, [one for one in ALL if one != shard], NOW) == []
        assert len(flows.heads(conn, ALL, NOW + 1)) == 3

    run(make_engine, work)


def test_a_flow_is_read_from_an_instant_on_without_the_others(make_engine):
    """In order, so many at most, one tenant's only."""

    def work(conn):
        rows = [put_message(conn, due_at=NOW - 50 + n)[0] for n in range(20)]
        for n in range(20):
            put_message(conn, tenant_id="ten_b", due_at=NOW - 50 + n)
        flow = flows.of_row(rows[0])
        found = flows.of_flows(conn, [Wanted(flow, NOW - 45, 5), Wanted(flow + 1, 0, 5)], NOW)
        assert found == {flow: rows[5:10], flow + 1: []}
        assert flows.of_flows(conn, [Wanted(flow, 0, 100)], NOW - 48) == {flow: rows[:3]}

    run(make_engine, work)


def test_what_became_due_is_read_place_by_place(make_engine):
    """From each place's own instant on, without what is known already, and no more than asked for."""

    def work(conn):
        (early,) = put_message(conn, domains=("a.example",), due_at=NOW - 10)
        (late,) = put_message(conn, domains=("a.example",), due_at=NOW - 5)
        (code,) = put_message(conn, domains=("b.example",), lane=0, due_at=NOW)
        put_message(conn, domains=("b.example",), lane=0, due_at=NOW + 1)
        places = [Place(code.shard, 0, 0), Place(early.shard, 1, NOW - 5)]
        assert flows.since(conn, places, NOW, 10) == [code, late]
        assert flows.since(conn, places, NOW, 10, [flows.of_row(late)]) == [code]
        assert len(flows.since(conn, [Place(early.shard, 1, 0)], NOW, 1)) == 1
        assert flows.since(conn, [], NOW, 10) == []

    run(make_engine, work)


def test_what_has_ended_is_found_soon_or_late(make_engine):
    """Within a day of its due time by one index, later by age; what is held or not yet due does not end."""

    def work(conn):
        (soon,) = put_message(conn, due_at=NOW - HOUR, expires_at=NOW)
        (late,) = put_message(conn, due_at=NOW - 3 * DAY, expires_at=NOW - 1)
        put_message(conn, due_at=NOW - HOUR, expires_at=NOW + 1)
        put_message(conn, due_at=NOW + queue.HELD, expires_at=NOW - 1)
        put_message(conn, due_at=NOW + queue.HELD_BY_HAND, expires_at=NOW - 1)
        assert flows.expired(conn, ALL, NOW, 10) == [soon]
        assert flows.expired_late(conn, ALL, NOW, 10) == [late]

    run(make_engine, work)


def test_flows_are_numbered_by_shard_and_lane_and_never_otherwise():
    """Rows of older releases lie under these numbers; and different flows have different ones."""
    known = flows.flow_of(5, 1, "default", "example.net", "ten_a")
    assert (flows.shard_of(known), flows.lane_of(known), known) == (5, 1, 381068866654299090)
    numbers = Counter(flows.flow_of(1, 1, "default", f"s{n}.example", "ten_a") for n in range(10_000))
    assert max(numbers.values()) == 1
    assert max(numbers) < 2**62
