"""Policies are kept over restarts, shared between processes, and fetched again in time, on both databases."""

import asyncio

from gatepost.clock import DAY, HOUR
from gatepost.egress.smtp.mta_sts import MtaSts
from gatepost.net.mta_sts_fetch import PolicyUnavailable, Trouble
from gatepost.store import tls_policies
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import START, FakeClock
from gatepost.testing.fake_dns import FakeResolver
from gatepost.upkeep.policy_shelf import PolicyShelf
from gatepost.wire.mta_sts import KeptPolicy, Mode, Policy

RECORD = {"_mta-sts.sts.example": {"TXT": ['"v=STSv1; id=1;"']}}


def kept(domain: str = "sts.example", *, at: int = START, age_s: int = 604_800, mode: Mode = Mode.ENFORCE) -> KeptPolicy:
    return KeptPolicy(domain=domain, record_id="1", policy=Policy(mode=mode, hosts=("mx.sts.example",), max_age_s=age_s), fetched_at=at)


class Host:
    """A policy host that answers as it is told."""

    def __init__(self) -> None:
        self.answer: Policy | None = kept().policy
        self.asked: list[str] = []

    async def fetch(self, domain: str) -> Policy:
        self.asked.append(domain)
        if self.answer is None:
            raise PolicyUnavailable(Trouble.FETCH, "it does not answer")
        return self.answer


def run(make_engine, work) -> None:
    async def main() -> None:
        engines = [make_engine(), make_engine()]
        clock = FakeClock()
        await open_store(engines[0], clock)
        try:
            await work(engines, clock)
        finally:
            for engine in engines:
                await engine.close()

    asyncio.run(main())


def test_what_one_process_fetched_every_process_knows_also_after_a_restart(make_engine):
    """A policy is in memory of whoever follows, and nothing but the database carries it there."""

    async def work(engines, clock):
        first, second = PolicyShelf(engines[0], clock, 86_400), PolicyShelf(engines[1], clock, 86_400)
        await second.follow()
        await first.keep(kept())
        assert first.find("sts.example") == kept()
        assert second.find("sts.example") is None
        await second.follow()
        assert second.find("sts.example") == kept()
        await first.keep(kept(at=START + HOUR, mode=Mode.TESTING))
        await first.keep(kept(at=START))  # an older one comes late
        clock.advance(3_700)
        await second.follow()
        restarted = PolicyShelf(engines[1], clock, 86_400)
        await restarted.follow()
        assert second.find("sts.example") == restarted.find("sts.example") == kept(at=START + HOUR, mode=Mode.TESTING)

    run(make_engine, work)


def test_a_policy_is_fetched_again_in_time_by_one_process(make_engine):
    """Once a day, or after half of its time; its end moves on though its id is the same (RFC 8461 §10.2)."""

    async def work(engines, clock):
        shelves = [PolicyShelf(engine, clock, 86_400) for engine in engines]
        host = Host()
        sts = [MtaSts(resolver=FakeResolver(RECORD), fetcher=host, store=shelf, clock=clock) for shelf in shelves]
        await shelves[0].keep(kept())
        await shelves[0].keep(kept("short.example", age_s=3_600))
        clock.advance(1_700)
        assert await shelves[0].refresh(sts[0]) == 0
        clock.advance(200)
        claimed = await asyncio.gather(shelves[0].refresh(sts[0]), shelves[1].refresh(sts[1]))
        assert sorted(claimed) == [0, 1]
        assert host.asked == []  # its record is gone
        clock.advance(86_400)
        claimed = await asyncio.gather(shelves[0].refresh(sts[0]), shelves[1].refresh(sts[1]))
        assert sorted(claimed) == [0, 1]
        assert host.asked == ["sts.example"]
        state = await engines[0].read(lambda conn: tls_policies.of(conn, "sts.example"))
        assert state.kept.fetched_at == clock.now()
        assert state.failing_since is None

    run(make_engine, work)


def test_a_policy_that_cannot_be_fetched_again_holds_and_is_told_of(make_engine):
    """Trouble is noted with its beginning; what is kept stays as it was (RFC 8461 §10.2)."""

    async def work(engines, clock):
        shelf, host = PolicyShelf(engines[0], clock, 86_400), Host()
        sts = MtaSts(resolver=FakeResolver(RECORD), fetcher=host, store=shelf, clock=clock)
        host.answer = None
        await shelf.keep(kept())
        clock.advance(90_000)
        began = clock.now()
        assert await shelf.refresh(sts) == 1
        clock.advance(4_000)
        assert await shelf.refresh(sts) == 1
        state = await engines[0].read(lambda conn: tls_policies.of(conn, "sts.example"))
        assert (state.failing_since, state.error, state.kept) == (began, "it does not answer", kept())
        assert shelf.find("sts.example") == kept()
        host.answer = kept().policy
        clock.advance(4_000)
        assert await shelf.refresh(sts) == 1
        state = await engines[0].read(lambda conn: tls_policies.of(conn, "sts.example"))
        assert (state.failing_since, state.error) == (None, "")

    run(make_engine, work)


def test_policies_of_long_ago_are_dropped(make_engine):
    """Those that hold stay."""

    async def work(engines, clock):
        shelf = PolicyShelf(engines[0], clock, 86_400)
        await shelf.keep(kept(at=START - 60 * DAY, age_s=60))
        await shelf.keep(kept("other.example"))
        await shelf.forget()
        assert shelf.find("sts.example") is None
        assert await engines[0].read(lambda conn: tls_policies.of(conn, "sts.example")) is None
        assert shelf.find("other.example") is not None

    run(make_engine, work)
