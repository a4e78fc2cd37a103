"""The feed of events: in the order of commits, and nothing is ever skipped."""

import asyncio
import threading

from gatepost import ids
from gatepost.domain.event import Event, EventType
from gatepost.store import facts, feed
from gatepost.store.feed import START, Wanted
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock

ALL = Wanted()


def an_event(tenant_id: str = "ten_a", kind: EventType = EventType.SUPPRESSION_ADDED) -> Event:
    return Event(id=ids.new("evt"), type=kind, tenant_id=tenant_id, at=0)


async def read_on(engine, place, wanted=ALL, limit=100, tenant_id="ten_a"):
    return await engine.read(lambda conn: feed.after(conn, tenant_id, place, wanted, limit))


def test_what_is_committed_late_is_not_skipped(make_engine):
    """An older transaction that ends after a younger one: its events come afterwards, and are not lost."""

    async def run() -> None:
        engine, other = make_engine(), make_engine()
        await open_store(engine, FakeClock())
        await engine.write(lambda conn: facts.insert_events(conn, [an_event()]))
        seen = await read_on(engine, START)
        assert len(seen.ids) == 1
        early, late = an_event(), an_event()
        may_end, is_begun = threading.Event(), threading.Event()

        def slow(conn):
            facts.insert_events(conn, [early])
            is_begun.set()
            if engine.dialect == "sqlite":
                may_end.wait(5)

        if engine.dialect == "sqlite":
            # writers queue: whoever has the earlier place has committed before anybody reads a later one
            writing = asyncio.ensure_future(engine.write(slow))
            await asyncio.to_thread(is_begun.wait, 5)
            second = asyncio.ensure_future(other.write(lambda conn: facts.insert_events(conn, [late])))
            assert (await read_on(engine, seen.place)).ids == ()
            may_end.set()
            await asyncio.gather(writing, second)
        else:
            # the older transaction has its number, and its event, and then waits
            async with engine._engine.connect() as conn:
                await conn.run_sync(slow)
                await other.write(lambda conn: facts.insert_events(conn, [late]))
                part = await read_on(other, seen.place)
                assert part.ids == (), "the younger event is not shown while the older may still come before it"
                assert part.place == seen.place
                await conn.commit()
        assert early.id < late.id
        part = await read_on(engine, seen.place)
        assert part.ids == [early.id, late.id]
        await engine.close()
        await other.close()

    asyncio.run(run())


def test_an_id_that_is_older_than_its_commit_is_not_skipped(make_engine):
    """Ids are made before commits: one that is smaller than what was read already still comes."""

    async def run() -> None:
        engine = make_engine()
        await open_store(engine, FakeClock())
        older, newer = an_event(), an_event()
        await engine.write(lambda conn: facts.insert_events(conn, [newer]))
        seen = await read_on(engine, START)
        assert seen.ids == [newer.id]
        await engine.write(lambda conn: facts.insert_events(conn, [older]))
        assert older.id < newer.id
        assert (await read_on(engine, seen.place)).ids == [older.id]
        await engine.close()

    asyncio.run(run())


def test_writers_at_once_and_a_reader_that_follows_miss_nothing(make_engine):
    """Six writers commit in whatever order they come; a reader that polls meanwhile sees each event once."""

    async def run() -> None:
        engines = [make_engine() for _ in range(3)]
        await open_store(engines[0], FakeClock())
        made: list[str] = []
        is_over = asyncio.Event()

        async def write(n: int) -> None:
            for _ in range(25):
                events = [an_event() for _ in range(3)]
                await asyncio.sleep(0)
                await engines[n % 3].write(lambda conn, events=events: facts.insert_events(conn, events))
                made.extend(event.id for event in events)

        async def follow() -> list[str]:
            found, place = [], START
            while True:
                was_over = is_over.is_set()
                part = await read_on(engines[0], place, limit=7)
                found += part.ids
                place = part.place
                if was_over and not part.ids:
                    return found
                await asyncio.sleep(0)

        reader = asyncio.ensure_future(follow())
        await asyncio.gather(*[write(n) for n in range(6)])
        is_over.set()
        found = await reader
        assert len(found) == len(set(found)) == 450
        assert set(found) == set(made)
        for engine in engines:
            await engine.close()

    asyncio.run(run())


def test_the_feed_is_a_tenants_own_and_filters_move_on(make_engine):
    """Another tenant's events are not in it; a filter that finds nothing leads behind what it passed over."""

    async def run() -> None:
        engine = make_engine()
        await open_store(engine, FakeClock())
        events = [an_event(), an_event("ten_b"), an_event(kind=EventType.DOMAIN_FAILING), an_event("ten_b")]
        await engine.write(lambda conn: facts.insert_events(conn, events))
        assert (await read_on(engine, START)).ids == [events[0].id, events[2].id]
        assert (await read_on(engine, START, tenant_id="ten_b")).ids == [events[1].id, events[3].id]
        part = await read_on(engine, START, Wanted(types=[EventType.BOUNCED.value]))
        assert part.ids == []
        assert part.place.event_id == events[2].id
        first = await read_on(engine, START, limit=1)
        assert (first.has_more, first.place.event_id) == (True, events[0].id)
        place = await engine.read(lambda conn: feed.place_of(conn, "ten_a", events[0].id))
        assert (await read_on(engine, place)).ids == [events[2].id]
        assert await engine.read(lambda conn: feed.place_of(conn, "ten_b", events[0].id)) is None
        end = await engine.write(lambda conn: feed.end(conn, "ten_a"))
        assert (await read_on(engine, end)).ids == ()
        (late,) = [an_event()]
        await engine.write(lambda conn: facts.insert_events(conn, [late]))
        assert (await read_on(engine, end)).ids == [late.id]
        await engine.close()

    asyncio.run(run())


def test_a_restored_dump_goes_on_where_it_was(postgres_url, tmp_path):
    """Transaction numbers of another server are moved before those of this one: order, cursors and webhooks' places stay."""
    import sqlalchemy as sa

    from gatepost.store.opening import create_engine
    from gatepost.store.schema import event, webhook_state
    from tests.webhooks.house import consuming, opened, run_until, settle_down

    async def run() -> None:
        async with opened(lambda: create_engine(postgres_url, tmp_path)) as house, consuming() as consumer:
            await house.make(consumer.url())
            old = [(await house.happen(house.event()))[0] for _ in range(3)]
            loop = house.loop()
            await run_until(loop, lambda: len(consumer.calls) == 3)
            await settle_down(loop)
            await loop.close()
            far = 10**12  # as if the server that wrote them had lived for long
            for table in (event, webhook_state):
                await house.engine.write(lambda conn, table=table: conn.execute(sa.update(table).values(feed=table.c.feed + far)))
            (new,) = await house.happen(house.event())
            assert (await read_on(house.engine, START, tenant_id=house.tenant_id)).ids == [new], "the trouble is real"
            loop = house.loop("node-2")
            await run_until(loop, lambda: len(consumer.calls) == 4)
            await settle_down(loop)
            await loop.close()
            assert (set(consumer.ids[:3]), consumer.ids[3:]) == (set(old), [new])
            assert (await read_on(house.engine, START, tenant_id=house.tenant_id)).ids == [*old, new]
            assert await house.engine.write(feed.renumber) == 0

    asyncio.run(run())


def test_the_feed_is_read_along_its_index(tmp_path):
    """However many events there are: a part is a seek, and so is a new event's place."""
    from sqlalchemy.dialects import sqlite

    from gatepost.store.opening import create_engine

    async def run() -> None:
        engine = create_engine("", tmp_path)
        await open_store(engine, FakeClock())

        def plans(conn):
            statement = feed.insertion("sqlite").compile(dialect=sqlite.dialect())
            yield from conn.exec_driver_sql("EXPLAIN QUERY PLAN " + str(statement), ("",) * len(statement.positiontup)).all()
            place = "SELECT id FROM event WHERE tenant_id = 'a' AND (feed, id) > (1, 'b') ORDER BY feed, id LIMIT 5"
            yield from conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {place}").all()

        details = [row[3] for row in await engine.read(lambda conn: list(plans(conn)))]
        assert any("ix_event_tenant_id_feed_id" in one for one in details)
        assert not any("SCAN" in one and "CONSTANT" not in one for one in details), details
        assert not any("TEMP B-TREE" in one for one in details), details
        await engine.close()

    asyncio.run(run())
