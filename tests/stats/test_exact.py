"""Numbers equal a recount from the facts, whatever happened in whatever order; on both engines."""

import asyncio

import pytest

from gatepost.clock import DAY, HOUR
from gatepost.domain.recipient import Status
from gatepost.domain.stats import Dimension, Step
from gatepost.settings import Egress
from gatepost.store import folding, rollups
from tests.flow.test_accept import House
from tests.stats.history import FIVE, History, Recount, counted, standing


def run(make_engine, tmp_path, work):
    async def main():
        async with House(make_engine, tmp_path, egress=Egress(default_route="mx")) as house:
            await work(house)

    asyncio.run(main())


def same(found, expected, what):
    assert found == expected, (
        what,
        {key: (found.get(key), expected.get(key)) for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)},
    )


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_what_the_facts_say(make_engine, tmp_path, seed):
    """Accepting, settling twice, cancelling while a delivery runs, retrying, late bounces, complaints: every sum is a recount, before and after folding."""

    async def work(house):
        history = History(house, seed)
        await history.start()
        begin = house.clock.now()
        for _ in range(130):
            await history.step()
        span = {"tenant": house.tenant_id, "start": begin, "end": house.clock.now() + FIVE}

        def check(conn, what):
            recount = Recount(conn, house.tenant_id)
            same(counted(rollups.read(conn, **span)), recount.of(lambda one: [None]), what)
            for step, length in ((Step.FIVE_MINUTES, FIVE), (Step.HOUR, HOUR), (Step.DAY, DAY)):
                if length == FIVE and span["end"] - begin > rollups.MOST_STEPS * FIVE:
                    continue
                expected = recount.of(lambda one: [None], lambda at, length=length: max(at - at % length, begin - begin % FIVE))
                same(counted(rollups.read(conn, **span, step=step)), expected, (what, step))
            for by, of in (
                (Dimension.DOMAIN, lambda one: [one.from_domain]),
                (Dimension.STREAM, lambda one: [one.stream]),
                (Dimension.TENANT, lambda one: [one.tenant_id]),
                (Dimension.TAG, lambda one: one.tags),
            ):
                same(counted(rollups.read(conn, **span, group_by=[by])), recount.of(of), (what, by))
            where = {"stream": ["bulk"], "domain": ["acme.example"]}
            same(counted(rollups.read(conn, **span, where=where)), recount.of(lambda one: [None] * (one.stream == "bulk")), (what, where))
            [row] = rollups.read(conn, **span)
            for status, count in standing(row.counts).items():
                assert count == recount.statuses()[status], (what, status)
            assert sum(row.counts.waits) == sum(
                "reported_by" not in one.data for one in recount.events if one.type in {"recipient.sent", "recipient.delivered"}
            )
            for by in (Dimension.RELAY, Dimension.SOURCE, Dimension.SITE):
                divided = rollups.read(conn, **span, group_by=[by])
                assert sum((one.counts for one in divided[1:]), divided[0].counts) == row.counts, (what, by)
            by_road = {one.key[0]: one.counts.delivered for one in rollups.read(conn, **span, group_by=["relay"]) if one.counts.delivered}
            roads = [one.data["route"] for one in recount.events if one.type == "recipient.delivered"]
            assert by_road == {road: roads.count(road) for road in roads}, what

        await house.engine.read(lambda conn: check(conn, "half of it folded"))
        while await house.engine.write(lambda conn: folding.fold(conn, history.names, 7)):
            pass
        await house.engine.read(lambda conn: check(conn, "all folded"))
        recount = await house.engine.read(lambda conn: Recount(conn, house.tenant_id))
        assert {Status.DELIVERED, Status.BOUNCED} <= set(recount.statuses())

    run(make_engine, tmp_path, work)
