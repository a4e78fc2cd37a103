"""Scores over a real store: measured from counts, written down once a day by one process, explained day by day."""

from gatepost.clock import DAY, HOUR
from gatepost.policy.deliverability import Component, Direction
from gatepost.policy.quota import day_of
from gatepost.store import scores
from gatepost.upkeep.scores import ScoreKeeping
from tests.telling.house import BEGIN, in_house


def keeping(house, name: str = "one") -> ScoreKeeping:
    return ScoreKeeping(house.engine, house.clock, house.measuring, house.settings.deliverability, name)


async def rows(house):
    return await house.engine.read(lambda conn: scores.of_domain(conn, house.domain_id, "2000-01-01"))


def test_each_day_has_one_row_and_the_reason_why_it_moved(make_engine, tmp_path):
    """Clean mail, then a day of bounces: the score falls, the bounces say why, and the days before stay as they were."""

    async def work(house):
        keeper = keeping(house)
        for day in range(4):
            await house.note(house.clock.now(), accepted=2_000, attempted=2_000, delivered=2_000)
            if day == 3:
                await house.note(house.clock.now(), attempted=3_000, bounced_invalid_recipient=3_000)
            for _ in range(3):
                assert await keeper.step() in {0, 1}
                house.clock.advance(3_600)
            house.clock.advance((DAY - 3 * HOUR) / 1000)
        found = await rows(house)
        assert [one.day for one in found] == [day_of(BEGIN + n * DAY) for n in range(4)]
        told = await house.measuring.trend(house.tenant_id, "acme.example", 30)
        assert [one.score for one in told.days][:3] == [100, 100, 100]
        assert told.days[3].score < 80
        worst = told.days[3].changes[0]
        assert (worst.component, worst.points < -15) == (Component.BOUNCES, True)
        assert "3,000" in worst.after
        assert "confirm" in worst.advice
        assert told.direction is Direction.FALLING
        assert told.days[-1].day == day_of(house.clock.now())
        assert [one.score for one in (await house.measuring.trend(house.tenant_id, house.domain_id, 2)).days] == [
            one.score for one in told.days[-2:]
        ]

    in_house(make_engine, tmp_path, work)


def test_mail_in_the_sandbox_and_of_other_tenants_does_not_count(make_engine, tmp_path):
    """Only what really left for this domain of this tenant is judged."""

    async def work(house):
        await house.note(house.clock.now(), road="sandbox", attempted=1_000, bounced_invalid_recipient=1_000)
        await house.note(house.clock.now(), tenant="ten_other", attempted=1_000, bounced_invalid_recipient=1_000)
        await house.note(house.clock.now(), domain="other.example", attempted=1_000, bounced_invalid_recipient=1_000)
        assert (await house.measuring.measure(house.tenant_id))[0].score.score is None

    in_house(make_engine, tmp_path, work)


def test_of_several_processes_one_writes(make_engine, tmp_path):
    """The lease lasts as long as the pause; when its owner is silent, the other one goes on."""

    async def work(house):
        await house.note(house.clock.now(), attempted=500, delivered=500)
        one, two = keeping(house, "one"), keeping(house, "two")
        assert await one.step() == 1
        assert [await one.step(), await two.step()] == [0, 0]
        house.clock.advance(3_601)
        assert await two.step() == 1
        assert await one.step() == 0
        await two.close()
        assert await one.step() == 1

    in_house(make_engine, tmp_path, work)


def test_a_domain_that_is_gone_leaves_nothing(make_engine, tmp_path):
    """Its rows go with the next round, and nothing is written for it."""

    async def work(house):
        keeper = keeping(house)
        await keeper.step()
        other = await house.domains.add(house.tenant_id, "more.example", by=GATEWAY, is_trusted=True)
        await house.domains.remove(house.tenant_id, house.domain_id, by=GATEWAY)
        house.clock.advance(3_601)
        assert await keeper.step() == 1
        assert await rows(house) == []
        assert len(await house.engine.read(lambda conn: scores.of_domain(conn, other.domain.id, "2000-01-01"))) == 1

    from gatepost.domain.access import GATEWAY

    in_house(make_engine, tmp_path, work)
