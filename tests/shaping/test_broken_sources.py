"""Of a pool's sources those take the mail whose breakers are closed; on both engines."""

from gatepost.clock import SECOND
from gatepost.dispatch.roads import WatchedRoads
from gatepost.dispatch.shaping import SiteShaping
from gatepost.domain.outcome import Category, Deferred, Exchange
from gatepost.domain.route import Source, road_at
from gatepost.settings import Settings, SourceAddress, SourcePool
from gatepost.testing.fake_clock import FakeClock
from tests.shaping.test_keeping import EPOCHS, NOW, OK, PLACE, run

ROAD = road_at(*PLACE)


def dead(at):
    return [Deferred(exchange=Exchange(route="mx", started_at=at, finished_at=at), category=Category.NETWORK, detail="no route")]


def test_a_source_that_reaches_nobody_is_left_out_until_one_message_shows_that_it_works(make_engine):
    """Its breaker is open: the other source gets all. When its time has come it is tried with one message, and by success gets its share."""

    async def work(engine):
        settings = Settings(
            sources={"a": SourceAddress(), "b": SourceAddress()}, pools={"default": SourcePool(sources=["a", "b"])}
        )  # fmt: skip
        clock = FakeClock(NOW)
        roads = WatchedRoads(engine, settings, clock, {"mx": object()}, machine="host")
        owner = SiteShaping(settings, engine)
        owner.heed(roads)
        await owner.step(EPOCHS, NOW)

        def transact(now, outcomes=OK):
            permit = owner.take(PLACE, now)
            owner.give_back(permit, OK, now)
            roads.report(ROAD, permit.source, outcomes, now, PLACE[1])
            return permit.source.name

        assert {transact(NOW) for _ in range(4)} == {"a", "b"}
        for n in range(6):
            roads.report(ROAD, Source(name="a"), dead(NOW), NOW, f"site{n}")
        assert roads.is_source_shut(ROAD, Source(name="a"), NOW)
        assert roads.blocked(ROAD, NOW) is None
        assert {transact(NOW) for _ in range(6)} == {"b"}
        later = NOW + 11 * SECOND
        held = [owner.take(PLACE, later) for _ in range(6)]
        assert [one.source.name for one in held].count("a") == 1, "one message tries it"
        for one in held:
            owner.give_back(one, OK, later)
            roads.report(ROAD, one.source, OK, later, PLACE[1])
        assert {transact(later) for _ in range(4)} == {"a", "b"}
        for name in ("a", "b"):
            for n in range(6):
                roads.report(ROAD, Source(name=name), dead(later), later, f"site{n}")
        assert roads.blocked(ROAD, later) is not None, "no source works"

    run(make_engine, work)
