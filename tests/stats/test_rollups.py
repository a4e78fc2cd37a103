"""Rollups: bounded names, old rows, two processes at once, edges of days; on both engines."""

import asyncio

import pytest

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE, parse_iso
from gatepost.control import Control
from gatepost.domain.access import GATEWAY
from gatepost.domain.outcome import Delivered, Exchange, Reply
from gatepost.domain.recipient import Status
from gatepost.domain.statement import Said
from gatepost.domain.stats import FIELDS, Counts, Labels, Step, of_values, values_of, waited
from gatepost.policy.retry import RetrySchedule
from gatepost.settings import Settings, Stats
from gatepost.settle import Result, decide, new_event_id, settle
from gatepost.store import counting, folding, leases, messages, queue, rollups
from gatepost.store.counting import Deltas
from gatepost.store.folding import BY_SITE, BY_TAG, BY_TEMPLATE, Names
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.upkeep.rollups import Rollups
from tests.store.rows import NOW, put_message

LABELS = Labels("acme.example", "bulk", "", "", NOW)


def run(make_engine, work):
    async def main():
        engine, clock = make_engine(), FakeClock(NOW)
        tenant_id = await open_store(engine, clock)
        try:
            await work(engine, clock, tenant_id)
        finally:
            await engine.close()

    asyncio.run(main())


def put(conn, tenant_id, *, at=NOW, site="google", labels=LABELS, names=("delivered",), n=1, road="mx"):
    deltas = Deltas()
    deltas.add(tenant_id, labels, road, "ip1", site, at, names, n)
    deltas.write(conn)


def delivered(conn, tenant_id, **fields):
    span = {"start": 0, "end": NOW + 400 * DAY, **fields}
    return {row.key[0] if row.key else row.at: row.counts.delivered for row in rollups.read(conn, tenant=tenant_id, **span)}


def test_names_are_bounded_and_their_sum_is_exact(make_engine):
    """The names beyond a day's bound stand together; another process that folds later knows the same names."""

    async def work(engine, clock, tenant_id):
        names = Names({BY_SITE: 3, BY_TAG: 2, BY_TEMPLATE: 2})
        tagged = [Labels("acme.example", "bulk", counting.tags_text((f"order-{n}",)), "", NOW) for n in range(6)]
        for n in range(6):
            await engine.write(lambda conn, n=n: put(conn, tenant_id, site=f"s{n}.example", labels=tagged[n]))
            fresh = names if n < 3 else Names(names.bounds)
            await engine.write(lambda conn, fresh=fresh: folding.fold(conn, fresh))
        by_site = await engine.read(lambda conn: delivered(conn, tenant_id, group_by=["site"]))
        assert by_site == {"s0.example": 1, "s1.example": 1, "s2.example": 1, "*": 3}
        assert await engine.read(lambda conn: delivered(conn, tenant_id, group_by=["tag"])) == {"order-0": 1, "order-1": 1, "*": 4}
        await engine.write(lambda conn: put(conn, tenant_id, site="s9.example", at=NOW + DAY))
        await engine.write(lambda conn: folding.fold(conn, names))
        assert (await engine.read(lambda conn: delivered(conn, tenant_id, group_by=["site"])))["s9.example"] == 1

    run(make_engine, work)


def test_two_processes_fold_each_delta_once(make_engine):
    """Whoever comes first takes it; nothing is counted twice, nothing is left."""

    async def work(engine, clock, tenant_id):
        other = make_engine()
        for n in range(60):
            await engine.write(lambda conn, n=n: put(conn, tenant_id, n=n))

        async def fold(one):
            while await one.write(lambda conn: folding.fold(conn, Names(), 4)):
                pass

        await asyncio.gather(fold(engine), fold(other), fold(engine))
        await other.close()
        assert not await engine.read(folding.has_deltas)
        assert await engine.read(lambda conn: delivered(conn, tenant_id)) == {None: sum(range(60))}

    run(make_engine, work)


def test_what_is_rolled_back_was_never_counted(make_engine):
    """The count and the fact share their transaction."""

    async def work(engine, clock, tenant_id):
        def fail(conn):
            put(conn, tenant_id)
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            await engine.write(fail)
        assert await engine.read(lambda conn: delivered(conn, tenant_id)) == {None: 0}

    run(make_engine, work)


def test_old_short_rows_go_and_the_sums_stay(make_engine):
    """Ten days later the five minutes are gone, hours and days still say the same; a time that needs them begins with its hour."""

    async def work(engine, clock, tenant_id):
        start = NOW - NOW % HOUR
        for n in range(12):
            await engine.write(lambda conn, n=n: put(conn, tenant_id, at=start + n * 5 * MINUTE))
        upkeep = Rollups(engine, clock, Stats(keep_5m_days=2, keep_hours_days=7), "node_a")
        assert await upkeep.step() == 12
        five = await engine.read(lambda conn: delivered(conn, tenant_id, start=start, end=start + HOUR, step=Step.FIVE_MINUTES))
        assert len(five) == 12
        for days in (3, 3.1):
            clock.advance(days * 86_400)
            await upkeep.step()
        span = {"start": start + 20 * MINUTE, "end": start + HOUR}
        assert await engine.read(lambda conn: delivered(conn, tenant_id, **span)) == {None: 12}
        for days in (8, 0.1):
            clock.advance(days * 86_400)
            await upkeep.step()
        assert await engine.read(lambda conn: delivered(conn, tenant_id, start=start - DAY, end=start + 2 * DAY)) == {None: 12}
        assert await engine.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM rollup WHERE span < 2").scalar()) == 0

    run(make_engine, work)


def test_one_process_does_the_upkeep_and_an_idle_gateway_writes_nothing(make_engine):
    """The second waits while the first is there, and takes over when it is silent."""

    async def work(engine, clock, tenant_id):
        first, second = (Rollups(engine, clock, Stats(), name) for name in ("node_a", "node_b"))
        await first.step()
        await engine.write(lambda conn: put(conn, tenant_id))
        assert await second.step() == 0
        assert await first.step() == 1
        writes = []
        write = engine.write
        engine.write = lambda work: writes.append(work) or write(work)
        assert await first.step() == 0
        assert writes == []
        engine.write = write
        await engine.write(lambda conn: put(conn, tenant_id))
        clock.advance(120)
        assert await second.step() == 1

    run(make_engine, work)


def test_who_asks_for_less_gets_the_same_of_the_rest(make_engine):
    """Without bounces by category and without waits the other numbers are the same, folded or not."""

    async def work(engine, clock, tenant_id):
        names = ("delivered", "bounced", "bounced_spam_content", waited(700))
        for _ in range(2):
            await engine.write(lambda conn: put(conn, tenant_id, names=names))
            for fields in ({}, {"group_by": ["stream"]}):
                span = {"tenant": tenant_id, "start": 0, "end": NOW + DAY, **fields}
                full = await engine.read(lambda conn, span=span: rollups.read(conn, **span))
                less = await engine.read(lambda conn, span=span: rollups.read(conn, **span, has_bounces=False, has_waits=False))
                assert (less[0].counts.delivered, less[0].counts.bounced) == (full[0].counts.delivered, full[0].counts.bounced)
                assert (less[0].counts.bounces, sum(less[0].counts.waits)) == ({}, 0)
                assert sum(full[0].counts.bounces.values()) == sum(full[0].counts.waits) > 0
            await engine.write(lambda conn: folding.fold(conn, Names()))

    run(make_engine, work)


def test_the_sandbox_can_be_left_out_of_every_question(make_engine):
    """Test mail does not improve the rates of the real one, whatever numbers are divided by."""

    async def work(engine, clock, tenant_id):
        labels = LABELS._replace(tags='["a"]')
        for is_folded in (False, True):
            if is_folded:
                await engine.write(lambda conn: folding.fold(conn, Names()))
            else:
                await engine.write(lambda conn: put(conn, tenant_id, labels=labels))
                await engine.write(lambda conn: put(conn, tenant_id, labels=labels, road="sandbox", n=5))
            for by in ((), ("stream",), ("tag",), ("site",), ("relay",)):
                for mode, count in (("live", 1), ("sandbox", 5)):
                    found = await engine.read(
                        lambda conn, by=by, mode=mode: delivered(conn, tenant_id, group_by=by, where={"mode": [mode]})
                    )
                    assert list(found.values()) == [count]

    run(make_engine, work)


def test_engagement_is_counted_once_for_people_and_apart_for_machines(make_engine):
    """A first opening, another one, a scanner's; a message that nobody knows, or of another tenant, is not counted."""

    async def work(engine, clock, tenant_id):
        [row] = await engine.write(lambda conn: put_message(conn, tenant_id=tenant_id, tags=("news",)))
        for said, is_first, is_machine in (
            (Said.OPENED, True, False),
            (Said.OPENED, False, False),
            (Said.CLICKED, False, True),
            (Said.UNSUBSCRIBED, True, False),
        ):
            for message_id, of in ((row.message_id, tenant_id), (ids.new("msg"), tenant_id), (row.message_id, "ten_other")):
                await engine.write(
                    lambda conn, said=said, is_first=is_first, is_machine=is_machine, message_id=message_id, of=of: rollups.count_engagement(
                        conn, tenant_id=of, message_id=message_id, n=0, said=said, at=NOW, is_first=is_first, is_machine=is_machine
                    )
                )  # fmt: skip
        [found] = await engine.read(lambda conn: rollups.read(conn, tenant=tenant_id, start=0, end=NOW + DAY, where={"tag": ["news"]}))
        counts = found.counts
        assert (counts.opened, counts.opens, counts.clicked, counts.clicks, counts.machine_clicks, counts.unsubscribed) == (
            1,
            2,
            0,
            0,
            1,
            1,
        )

    run(make_engine, work)


def test_what_was_delivered_while_it_was_cancelled_and_retried_is_not_sent_again(make_engine):
    """The delivery that ran all the while ends it: the new try is taken out of the queue, and it is counted once."""

    async def work(engine, clock, tenant_id):
        [row] = await engine.write(lambda conn: put_message(conn, tenant_id=tenant_id))
        control = Control(engine, Settings(), clock)
        await control.cancel(None, row.message_id, by=GATEWAY)
        await control.retry(None, row.message_id, by=GATEWAY)

        def end(conn):
            leases.heartbeat(conn, "node_a", "host", 1, NOW)
            leases.take(conn, "node_a", [row.shard], NOW, NOW + DAY)
            exchange = Exchange(route="mx", started_at=NOW, finished_at=NOW)
            outcome = Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"))
            decision = decide(row, outcome, RetrySchedule(waits_s=[60], jitter=0), NOW, 0.5)
            epoch = leases.fenced(conn, "node_a", [row.shard])[row.shard]
            settle(conn, [Result(due=row, epoch=epoch, outcome=outcome, decision=decision, event_id=new_event_id(), at=NOW)], "node_a")

        await engine.write(end)
        assert await engine.read(lambda conn: queue.of_message(conn, row.message_id)) == []
        states = await engine.read(lambda conn: messages.statuses(conn, [(row.message_id, 0)]))
        assert states == {(row.message_id, 0): Status.DELIVERED}
        [found] = await engine.read(lambda conn: rollups.read(conn, tenant=tenant_id, start=0, end=NOW + DAY))
        counts = found.counts
        assert (counts.delivered, counts.cancelled, counts.left_cancelled, counts.retried) == (1, 1, 1, 1)

    run(make_engine, work)


@pytest.mark.parametrize(
    ("zone", "lengths"),
    [("Europe/Berlin", [24, 25, 24]), ("America/New_York", [24, 24, 24]), ("Asia/Kolkata", [24, 24, 24]), ("UTC", [24, 24, 24])],
)
def test_days_are_those_of_the_zone(zone, lengths):
    """The day on which summer time ends has 25 hours, where it ends on that day."""
    offset = {"Europe/Berlin": "+02:00", "America/New_York": "-04:00", "Asia/Kolkata": "+05:30", "UTC": "Z"}[zone]
    start = parse_iso(f"2026-10-24T00:00:00{offset}")
    edges = rollups.edges_of(start, start + 76 * HOUR, Step.DAY, zone)
    assert [(b - a) / HOUR for a, b in zip(edges, edges[1:4], strict=False)] == lengths


def test_weeks_begin_on_mondays_and_months_on_the_first():
    """And the ends of the time cut the first and the last."""
    start, end = parse_iso("2026-11-05T07:03:00Z"), parse_iso("2026-12-03T00:00:00Z")
    weeks = rollups.edges_of(start, end, Step.WEEK, "UTC")
    assert weeks[0] == parse_iso("2026-11-05T07:00:00Z")
    assert weeks[1] == parse_iso("2026-11-09T00:00:00Z")
    assert rollups.edges_of(start, end, Step.MONTH, "UTC") == [weeks[0], parse_iso("2026-12-01T00:00:00Z"), end]
    with pytest.raises(ValueError, match="steps"):
        rollups.edges_of(start, end, Step.FIVE_MINUTES, "UTC")


def test_percentiles_come_from_sums_of_histograms():
    """Half of two spans together lies between their halves; nobody waits for nothing."""
    quick = of_values(1000 if name == waited(400) else 0 for name in FIELDS)
    slow = of_values(1000 if name == waited(50_000) else 0 for name in FIELDS)
    both = quick + slow
    assert Counts().wait_ms(0.5) is None
    assert 250 < quick.wait_ms(0.5) <= 500
    assert quick.wait_ms(0.99) <= both.wait_ms(0.5) <= 500
    assert 45_000 < both.wait_ms(0.95) <= 60_000
    assert waited(10**9) == "wait_32"
    assert of_values(values_of(both)) == both


def test_rates_stay_between_nothing_and_all():
    """A bounce of yesterday's delivery does not make today's rate more than everything; of nothing there is no rate."""
    assert Counts().delivery_rate is None
    late = Counts(delivered=1, bounced=3, left_delivered=3, bounces={"spam_content": 3})
    assert (late.delivery_rate, late.bounce_rate) == (0.0, 1.0)
    retried = Counts(delivered=2, bounced=1, left_bounced=1)
    assert (retried.delivery_rate, retried.bounce_rate, retried.failed) == (1.0, 0.0, 0)
