"""Rate and quota of a relay: exact, honest about when there is room, and not forgotten by a restart."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from gatepost.clock import DAY, HOUR, parse_iso
from gatepost.dispatch.relay_ledger import RelayLedger
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Outcome, Reply, Unknown
from gatepost.egress.courier import Batch, Probe
from gatepost.egress.pacing import LedgerAway, MemoryLedger, PacedCourier, parse_allowance, window_of
from gatepost.settings import Settings
from gatepost.store.opening import open_store
from gatepost.tenants.relay_list import list_relays
from gatepost.testing.batches import make_batch
from gatepost.testing.fake_clock import FakeClock

NOON = parse_iso("2026-11-24T12:00:00Z")


class Inner:
    """A courier that notes when it was asked for how many."""

    def __init__(self, clock: FakeClock, kind: str = "delivered") -> None:
        self.clock = clock
        self.kind = kind
        self.sent: list[tuple[float, int]] = []

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        self.sent.append((self.clock.monotonic(), len(batch.recipients)))
        exchange = Exchange(route="main", started_at=0, finished_at=0)
        outcomes: dict[str, Outcome] = {
            "delivered": Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"), final=False),
            "unknown": Unknown(exchange=exchange, detail="?"),
            "deferred": Deferred(exchange=exchange, category=Category.NETWORK, detail="no"),
        }
        return {one.n: outcomes[self.kind] for one in batch.recipients}

    async def probe(self) -> Probe:
        return Probe(is_reachable=True, is_authenticated=True, latency_ms=1)

    async def close(self) -> None:
        pass


def paced(clock: FakeClock, *, rate: str = "", quota: str = "", ledger=None, kind: str = "delivered") -> tuple[PacedCourier, Inner]:
    inner = Inner(clock, kind)
    courier = PacedCourier(
        inner, name="main", clock=clock, ledger=ledger or MemoryLedger(), rate=parse_allowance(rate), quota=parse_allowance(quota)
    )
    return courier, inner


def addresses(count: int) -> list[str]:
    return [f"u{n}@acme.test" for n in range(count)]


def test_no_window_of_a_second_has_more_than_the_rate():
    """Fourteen a second, a hundred messages at once: waited here as long as it is short, and sent away with a time after that."""

    async def run() -> None:
        clock = FakeClock(NOON)
        courier, inner = paced(clock, rate="14/second")
        tasks = [asyncio.ensure_future(courier.deliver(make_batch())) for _ in range(100)]
        for _ in range(6000):
            await asyncio.sleep(0)
            clock.advance(0.001)
        outcomes = [(await task)[0] for task in tasks]
        times = [at for at, _ in inner.sent]
        assert all(sum(at <= other < at + 0.998 for other in times) <= 14 for at in times), "the clock counts whole milliseconds"
        sent_away = [one for one in outcomes if isinstance(one, Deferred)]
        assert len(times) == 71  # five seconds of places, and the first
        assert len(sent_away) == 29
        assert all(one.counts is False and one.category is Category.RATE_LIMITED for one in sent_away)
        assert "at its rate of 14/second" in sent_away[0].detail
        promised = [one.retry_at for one in sent_away if one.retry_at is not None]
        assert len(promised) == len(set(promised)) == 29, "each has a time of its own"
        assert promised == sorted(promised)
        assert promised[0] > NOON + 5_000

    asyncio.run(run())


def test_a_message_with_more_recipients_than_the_rate_goes_in_parts():
    """Recipients count, not messages: that is what providers count."""

    async def run() -> None:
        clock = FakeClock(NOON)
        courier, inner = paced(clock, rate="5/second")
        task = asyncio.ensure_future(courier.deliver(make_batch(*addresses(12))))
        for _ in range(400):
            await asyncio.sleep(0)
            clock.advance(0.01)
        outcomes = await task
        assert sorted(outcomes) == list(range(12))
        assert [count for _, count in inner.sent] == [5, 5, 2]
        assert inner.sent[1][0] - inner.sent[0][0] >= 0.99

    asyncio.run(run())


def test_a_quota_ends_and_begins_again_at_midnight():
    """Ten a day: the eleventh waits for the next day, and costs no retry."""

    async def run() -> None:
        clock = FakeClock(NOON)
        courier, inner = paced(clock, quota="10/day")
        for _ in range(10):
            assert isinstance((await courier.deliver(make_batch()))[0], Delivered)
        outcome = (await courier.deliver(make_batch()))[0]
        assert isinstance(outcome, Deferred)
        assert (outcome.counts, outcome.retry_at) == (False, NOON + DAY // 2)
        assert "quota of 10/day" in outcome.detail
        clock.advance(DAY // 2 / 1000)
        assert isinstance((await courier.deliver(make_batch()))[0], Delivered)
        assert len(inner.sent) == 11

    asyncio.run(run())


def test_what_did_not_go_out_uses_up_nothing():
    """A refused mail gives its place back; one that may have gone out does not."""

    async def run() -> None:
        clock = FakeClock(NOON)
        ledger = MemoryLedger()
        courier, inner = paced(clock, quota="3/day", ledger=ledger, kind="deferred")
        for _ in range(20):
            await courier.deliver(make_batch())
        inner.kind = "unknown"
        for _ in range(3):
            assert isinstance((await courier.deliver(make_batch()))[0], Unknown)
        assert isinstance((await courier.deliver(make_batch()))[0], Deferred)
        assert len(inner.sent) == 23
        assert ledger.used == {"main": 3}

    asyncio.run(run())


def test_a_ledger_that_cannot_be_written_sends_nothing():
    """What cannot be counted is not sent: the quota may be a contract."""

    class Away(MemoryLedger):
        async def take(self, relay: str, window: str, wanted: int, limit: int) -> int:
            raise LedgerAway("the disk is full")

    async def run() -> None:
        courier, inner = paced(FakeClock(NOON), quota="3/day", ledger=Away())
        outcome = (await courier.deliver(make_batch()))[0]
        assert isinstance(outcome, Deferred)
        assert outcome.counts is False
        assert inner.sent == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("per", "window", "ends"),
    [
        ("hour", "2026-11-24T12", NOON + HOUR),
        ("day", "2026-11-24", NOON + DAY // 2),
        ("month", "2026-11", parse_iso("2026-12-01T00:00:00Z")),
    ],
)
def test_windows_are_the_calendars(per: str, window: str, ends: int):
    """In UTC."""
    assert window_of(per, NOON) == (window, ends)
    assert window_of("month", parse_iso("2026-12-31T23:59:59Z"))[1] == parse_iso("2027-01-01T00:00:00Z")


def test_a_quota_survives_a_crash_and_is_never_exceeded(make_engine, tmp_path: Path):
    """Two owners one after the other, the first of which never said goodbye: together at most the quota, on both databases."""

    async def run() -> None:
        clock = FakeClock(NOON)
        engine = make_engine()
        await open_store(engine, clock)
        sent = 0
        for _ in range(3):  # each a process that is killed after its deliveries
            courier, _ = paced(clock, quota="400/day", ledger=RelayLedger(engine, clock))
            for _ in range(150):
                sent += isinstance((await courier.deliver(make_batch()))[0], Delivered)
        assert 390 < sent <= 400
        again, _ = paced(clock, quota="400/day", ledger=RelayLedger(engine, clock))
        assert isinstance((await again.deliver(make_batch()))[0], Deferred)
        await engine.close()

    asyncio.run(run())


def test_what_was_sent_is_shown_by_day(make_engine):
    """Exactly, for quotas of any window; nothing of it is lost by a database that was away."""

    async def run() -> None:
        clock = FakeClock(NOON)
        engine = make_engine()
        await open_store(engine, clock)
        settings = Settings(relays=_relays())
        ledger = RelayLedger(engine, clock)
        courier, _ = paced(clock, quota="1000/month", ledger=ledger)
        for _ in range(7):
            await courier.deliver(make_batch(*addresses(3)))
        await ledger.flush()
        await ledger.flush()
        (free, main) = await list_relays(engine, settings, clock)
        assert (main.name, main.used_today, main.quota, main.rate) == ("main", 21, "1000/month", "14/second")
        assert main.quota_left is not None
        assert 960 < main.quota_left <= 979
        assert (free.name, free.used_today, free.quota_left, free.host) == ("free", 0, None, "api.resend.com")
        clock.advance(DAY / 1000)
        assert [one.used_today for one in await list_relays(engine, settings, clock)] == [0, 0]
        await engine.close()

    asyncio.run(run())


def _relays():
    from gatepost.settings import Relay

    return {"main": Relay(url="smtp://relay.example", rate="14/second", quota="1000/month"), "free": Relay(url="resend://:k@")}


def test_a_probe_costs_nothing_of_the_quota():
    """Watching a relay does not use it up."""

    async def run() -> None:
        ledger = MemoryLedger()
        courier, _ = paced(FakeClock(NOON), quota="1/day", ledger=ledger)
        assert (await courier.probe()).is_good
        assert ledger.taken == {}

    asyncio.run(run())
