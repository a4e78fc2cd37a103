"""What the watch's probes find of a relay that nobody's mail tries: its breaker opens before mail has to find out; on both engines."""

import pytest

from gatepost.clock import MINUTE
from gatepost.store import health, roads
from gatepost.store.health import RelayRow
from tests.flow.test_failover import go


def looked(house, *, is_ok=False, failing_for=MINUTE, is_reachable=False, checked_ago=0):
    now = house.clock.now() - checked_ago
    report = {"probe": {"is_reachable": is_reachable, "detail": "x"}}
    return RelayRow(relay="a", checked_at=now, is_ok=is_ok, failing_since=None if is_ok else now - failing_for, report=report)


async def tell(house, **more):
    await house.engine.write(lambda conn: health.put_relay(conn, looked(house, **more)))
    house.clock.advance(1)
    await house.run(2)


async def state(house):
    return (await house.engine.read(lambda conn: roads.view(conn, "a", house.clock.now()))).state


def test_two_probes_that_reach_nothing_keep_mail_away_and_one_that_does_lets_it_back(make_engine, tmp_path):
    """The first mail goes by the next road at once; when the relay answers, mail goes there again."""

    async def work(house):
        well, house.couriers["a"].probe_is_good = house.couriers["a"].says, False
        house.couriers["a"].says = "down"
        await house.run(2)
        await tell(house)
        assert await state(house) == "open"
        first = await house.put()
        await house.run()
        assert await house.attempts(first) == [("b", "delivered")]
        assert [data["relay"] for _, data in await house.events("relay.unhealthy")] == ["a"]
        house.couriers["a"].probe_is_good, house.couriers["a"].says = True, well
        for _ in range(3):
            await house.advance(11)
        assert await state(house) == "closed"
        second = await house.put()
        await house.run()
        assert await house.attempts(second) == [("a", "delivered")]

    go(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    "look", [{"failing_for": 0}, {"is_reachable": True}, {"checked_ago": 5 * MINUTE}, {"is_ok": True, "is_reachable": True}],
    ids=["once", "reached", "long ago", "well"],
)  # fmt: skip
def test_a_single_failure_a_refused_key_and_old_news_change_nothing(make_engine, tmp_path, look):
    """Mail tells more than they do."""

    async def work(house):
        await house.run(2)
        await tell(house, **look)
        assert await state(house) == "closed"

    go(make_engine, tmp_path, work)


def test_mail_that_goes_through_says_more_than_a_probe(make_engine, tmp_path):
    """A provider whose probe fails and that takes mail all the same keeps it."""

    async def work(house):
        await house.put()
        await house.run()
        await tell(house)
        assert await state(house) == "closed"

    go(make_engine, tmp_path, work)
