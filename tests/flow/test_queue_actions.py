"""Hold, release, reroute, cancel by query: everything that matches, nothing else, once, also across a restart."""

import asyncio

import pytest

from gatepost.clock import HOUR
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.queue_action import Filter, Kind
from gatepost.explain import explain
from gatepost.settings import Relay, Settings
from gatepost.store import audit, facts, queue, queue_actions
from gatepost.tenants.queue_actions import QueueActions
from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message

LATER = NOW + HOUR // 2
SETTINGS = Settings(relays={"main": Relay(url="smtp://127.0.0.1:1")})


def put_many(conn, count, **more):
    return [put_message(conn, **more)[0] for _ in range(count)]


async def ask(house, kind, tenant_id=None, route=None, **wanted):
    asked = QueueActions(house.engine, house.clock, SETTINGS)
    if kind is not Kind.REROUTE and route is not None:
        wanted["route"], route = route, None
    return await asked.ask(tenant_id, kind, Filter(**wanted), by=GATEWAY, route=route, note="why", is_operator=True)


async def look(house, times=3):
    for _ in range(times):
        house.clock.advance(1)
        await house.dispatcher.step()
        await house.dispatcher.finish()


async def state(house, action):
    return (await house.engine.read(lambda conn: queue_actions.latest(conn, None, action_id=action.id)))[0]


def test_held_mail_stays_and_goes_on_after_the_release(make_engine, tmp_path):
    """Of two sites' mail the held one's stays, says who holds it, and leaves after the release, once."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 700, domains=("a.example", "b.example"), due_at=LATER))
        held = await ask(house, Kind.HOLD, site="a.example")
        await look(house)
        assert (await state(house, held)).changed == 700
        assert (await state(house, held)).finished_at is not None
        house.clock.advance(1_800)
        await house.run_until_idle()
        assert {batch.site for batch in house.courier.batches} == {"b.example"}
        one = house.courier.batches[0].message_id
        told = (await explain(house.engine, house.clock, None, one)).recipients[0]
        assert told.cause == "held"
        assert "why" in told.sentence
        await ask(house, Kind.RELEASE, site="a.example")
        await look(house)
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 1_400}
        assert len(house.courier.batches) == 1_400

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    "wanted",
    [{"stream": "bulk"}, {"tag": "june"}, {"recipient": "b.example"}, {"route": "main"}, {"before": NOW + 500, "site": "c.example"}],
)
def test_each_part_of_a_filter_chooses_its_mail(make_engine, tmp_path, wanted):
    """Cancelled is what matches, with its event; the rest is delivered."""

    async def work(house):
        def put(conn):
            put_message(conn, domains=("a.example",), due_at=LATER)
            put_message(conn, domains=("a.example",), due_at=LATER, stream="bulk", lane=2)
            put_message(conn, domains=("a.example",), due_at=LATER, tags=("june", "july"))
            put_message(conn, domains=("b.example",), due_at=LATER)
            put_message(conn, domains=("a.example",), due_at=LATER, route="main")
            put_message(conn, domains=("c.example",), due_at=LATER)

        await house.engine.write(put)
        house.clock.advance(1)
        asked = QueueActions(house.engine, house.clock, SETTINGS)
        assert await asked.count(None, Kind.CANCEL, Filter(**wanted), by=GATEWAY) == (1, True)
        action = await ask(house, Kind.CANCEL, **wanted)
        await look(house)
        assert await house.statuses() == {"queued": 5, "cancelled": 1}
        assert (await state(house, action)).changed == 1

    run(make_engine, tmp_path, work)


def test_a_tenants_action_reaches_only_its_own_mail(make_engine, tmp_path):
    """The same filter, another tenant's mail: untouched; and every action stands in the audit log."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 3, due_at=LATER))
        await house.engine.write(lambda conn: put_many(conn, 2, due_at=LATER, tenant_id="ten_b"))
        await ask(house, Kind.CANCEL, "ten_b", site="example.net")
        await look(house)
        assert await house.statuses() == {"queued": 3, "cancelled": 2}
        entry = await house.engine.read(lambda conn: audit.page(conn, audit.Wanted(tenant_id="ten_b", action="queue.cancel"), 5)[0])
        assert (entry.tenant_id, entry.actor_id) == ("ten_b", GATEWAY.id)

    run(make_engine, tmp_path, work)


def test_what_is_being_delivered_ends_once_and_what_waits_in_memory_is_held(make_engine, tmp_path):
    """Three are on the network, the rest in memory: the three are delivered, the rest is held; nothing twice after the release."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 20))
        house.courier.gate.clear()
        await house.dispatcher.step()
        await asyncio.sleep(0.02)
        action = await ask(house, Kind.HOLD, site="example.net")
        for _ in range(3):
            house.clock.advance(1)
            await house.dispatcher.step()
        assert (await state(house, action)).finished_at is None
        house.courier.gate.set()
        await house.dispatcher.finish()
        await look(house)
        assert (await state(house, action)).finished_at is not None
        assert await house.statuses() == {"delivered": 3, "queued": 17}
        await ask(house, Kind.RELEASE, site="example.net")
        await look(house)
        await house.run_until_idle()
        assert await house.statuses() == {"delivered": 20}
        assert len(house.courier.batches) == 20

    run(make_engine, tmp_path, work)


def test_another_process_goes_on_where_the_first_one_stopped(make_engine, tmp_path):
    """Progress is on disk: what was begun is ended after a restart, and nothing is counted twice."""

    async def work(house):
        await house.engine.write(lambda conn: put_many(conn, 3_200, due_at=LATER))
        action = await ask(house, Kind.HOLD, site="example.net")
        house.clock.advance(1)
        await house.dispatcher.step()
        begun = (await state(house, action)).changed
        assert 0 < begun < 3_200
        await house.dispatcher.stop(1)
        house.dispatcher = house.dispatch("node_b")
        await look(house, 6)
        found = await state(house, action)
        assert (found.changed, found.finished_at is not None) == (3_200, True)

    run(make_engine, tmp_path, work)


def test_rerouted_mail_leaves_by_the_new_road(make_engine, tmp_path):
    """Due or not yet: its queue row lies at the relay's site, and sandboxed mail never leaves the sandbox."""

    async def work(house):
        rows = await house.engine.write(lambda conn: put_many(conn, 5, due_at=LATER))
        (captured,) = await house.engine.write(lambda conn: put_many(conn, 1, due_at=LATER, route="sandbox"))
        await ask(house, Kind.REROUTE, route="main", stream="transactional")
        await look(house)
        for row in rows:
            (found,) = await house.engine.read(lambda conn, row=row: queue.of_message(conn, row.message_id))
            assert (found.site, found.due_at) == ("relay:main", LATER)
        (kept,) = await house.engine.read(lambda conn: queue.of_message(conn, captured.message_id))
        assert kept.site == "sandbox"
        with pytest.raises(Refused, match="is none of"):
            await ask(house, Kind.REROUTE, route="nowhere", site="example.net")
        with pytest.raises(Refused, match="not captured"):
            await ask(house, Kind.REROUTE, route="sandbox", site="example.net")

    run(make_engine, tmp_path, work)


def test_a_cancelled_recipient_says_which_action_did_it(make_engine, tmp_path):
    """The event names the action."""

    async def work(house):
        (row,) = await house.engine.write(lambda conn: put_many(conn, 1, due_at=LATER))
        action = await ask(house, Kind.CANCEL, site="example.net")
        await look(house)
        events = await house.engine.read(lambda conn: facts.events_of(conn, row.message_id))
        assert [event.data["by"] for event in events if event.type == "message.cancelled"] == [action.id]

    run(make_engine, tmp_path, work)
