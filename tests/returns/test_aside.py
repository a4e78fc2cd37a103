"""What came back and was put aside: kept, bounded, worked on again, on both databases."""

import pytest

from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.returns.aside import AsideRegister
from gatepost.store import inbound
from gatepost.store.inbound import Arrived
from tests.returns.test_loop import run_returns


def test_the_newest_of_each_kind_are_kept(make_engine, monkeypatch):
    """Strangers may write what nobody can read as often as they like: the list and the disk stay bounded."""
    monkeypatch.setattr(inbound, "MOST_ASIDE", 3)

    async def work(house, returns):
        made = []
        for number in range(5):
            arrived = Arrived(kind="mail", details={"recipients": []}, body=f"number {number}".encode())
            made.append(await house.engine.write(lambda conn, arrived=arrived: inbound.put(conn, arrived, house.clock.now())))
            await house.engine.write(lambda conn: inbound.set_aside(conn, made[-1], "unread", "nobody can read it"))
            house.clock.advance(1)
        register = AsideRegister(house.engine, house.clock)
        rows = await register.list(10)
        assert [row.id for row in rows] == made[:1:-1]
        assert (rows[0].body, rows[0].is_open, rows[0].detail) == (b"number 4", True, "nobody can read it")
        assert [row.id for row in await register.list(1, after=made[4])] == [made[3]]
        assert [row.id for row in await register.list(1, before=made[2])] == [made[3]]
        assert await register.list(10, state="unmatched") == []

    run_returns(make_engine, work)


def test_it_is_worked_on_again_or_forgotten(make_engine):
    """An operator's wish changes the row once; a second time it is not there, and neither is another's that still waits."""

    async def work(house, returns):
        put = [
            await house.engine.write(
                lambda conn: inbound.put(conn, Arrived(kind="mail", details={"recipients": []}, body=b"x"), house.clock.now())
            )
            for _ in range(3)
        ]
        for one in put[:2]:
            await house.engine.write(lambda conn, one=one: inbound.set_aside(conn, one, "unmatched", "why"))
        register = AsideRegister(house.engine, house.clock)
        await register.work_again(put[0], by=GATEWAY)
        await register.forget(put[1], by=GATEWAY)
        assert await register.counts() == {"waiting": 2}
        for wish in (register.work_again, register.forget, register.look):
            for one in put:
                with pytest.raises(Refused, match="put aside"):
                    await wish(one, by=GATEWAY)

    run_returns(make_engine, work)


def test_a_large_one_is_listed_without_its_content(make_engine):
    """A list opens nothing large; looking at the one does."""

    async def work(house, returns):
        large = Arrived(kind="mail", details={"recipients": []}, body=bytes(range(256)) * 2_000)
        made = await house.engine.write(lambda conn: inbound.put(conn, large, house.clock.now()))
        await house.engine.write(lambda conn: inbound.set_aside(conn, made, "unread", "why"))
        register = AsideRegister(house.engine, house.clock)
        [row] = await register.list(5)
        assert (row.is_open, row.body) == (False, b"")
        assert (await register.look(made, by=GATEWAY)).body == large.body

    run_returns(make_engine, work)
