"""What every engine must do: the same tests on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from gatepost.clock import SystemClock
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.route import SHARDS
from gatepost.policy.retry import RetrySchedule
from gatepost.settle import Result, decide, new_event_id, settle
from gatepost.store import facts, idempotency, leases, messages, queue, sites, suppressions, tenants, tokens
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.opening import open_store
from gatepost.store.queue import Due
from tests.store.rows import NOW, put_message

EXCHANGE = Exchange(route="mx", started_at=NOW, finished_at=NOW + 5, host="mx.example.net", transcript="S: 220 hi")
DELIVERED = Delivered(exchange=EXCHANGE, reply=Reply(code=250, enhanced="2.0.0", text="ok"))
DEFERRED = Deferred(
    exchange=EXCHANGE, category=Category.RATE_LIMITED, detail="later", reply=Reply(code=451, enhanced="4.7.1", text="later")
)
FAILED = Failed(exchange=EXCHANGE, category=Category.INVALID_RECIPIENT, detail="no", reply=Reply(code=550, enhanced="5.1.1", text="no"))
UNKNOWN = Unknown(exchange=EXCHANGE, detail="the connection broke")
SCHEDULE = RetrySchedule(waits_s=[60, 300], jitter=0)

MakeEngine = Callable[[], Engine]


def run(make_engine: MakeEngine, work) -> None:
    async def main() -> None:
        engine = make_engine()
        await open_store(engine, SystemClock())
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def result_of(due: Due, outcome, epoch: int = 1) -> Result:
    return Result(due=due, epoch=epoch, outcome=outcome, decision=decide(due, outcome, SCHEDULE, NOW, 0.5), event_id=new_event_id(), at=NOW)


async def take_all(engine: Engine, owner: str = "a", now: int = NOW) -> None:
    await engine.write(lambda conn: leases.take(conn, owner, range(SHARDS), now, now + 15_000))


def test_a_failed_transaction_leaves_nothing(make_engine):
    """A fault in the middle takes back what came before it."""

    async def work(engine):
        def fail(conn):
            put_message(conn)
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            await engine.write(fail)
        assert await engine.read(lambda conn: queue.shards_with_rows(conn)) == []

    run(make_engine, work)


def test_due_reads_only_what_is_due_in_the_wanted_shards_oldest_first(make_engine):
    """Scheduled rows, other shards, other lanes, paused sites and rows beyond the limit stay."""

    async def work(engine):
        (first,) = await engine.write(lambda conn: put_message(conn, due_at=NOW - 10))
        (second,) = await engine.write(lambda conn: put_message(conn, due_at=NOW - 5))
        await engine.write(lambda conn: put_message(conn, due_at=NOW + 1))
        await engine.write(lambda conn: put_message(conn, lane=2))
        (other,) = await engine.write(lambda conn: put_message(conn, domains=("other.example",)))
        assert other.shard != first.shard
        found = await engine.read(lambda conn: queue.due(conn, [(first.shard, 1, 10)], NOW))
        assert found == [first, second]
        assert await engine.read(lambda conn: queue.due(conn, [(first.shard, 1, 1)], NOW)) == [first]
        assert await engine.read(lambda conn: queue.due(conn, [(first.shard, 1, 10)], NOW, ["example.net"])) == []
        both = await engine.read(lambda conn: queue.due(conn, [(first.shard, 1, 10), (other.shard, 1, 10)], NOW))
        assert set(both) == {first, second, other}
        assert sorted(await engine.read(queue.shards_with_rows)) == sorted({first.shard, other.shard})

    run(make_engine, work)


@pytest.mark.parametrize(
    ("outcome", "status", "event", "is_queued"),
    [
        (DELIVERED, "delivered", "recipient.delivered", False),
        (FAILED, "bounced", "recipient.bounced", False),
        (DEFERRED, "deferred", "recipient.deferred", True),
        (UNKNOWN, "deferred", "recipient.deferred", True),
    ],
)
def test_settle_writes_state_attempt_event_and_queue_together(make_engine, outcome, status, event, is_queued):
    """One transaction moves everything that an outcome touches."""

    async def work(engine):
        (due,) = await engine.write(put_message)
        await take_all(engine)
        await engine.write(lambda conn: settle(conn, [result_of(due, outcome)], "a"))
        recipients = await engine.read(lambda conn: messages.recipients_of(conn, [due.message_id]))
        assert recipients[due.message_id][0].status == status
        assert recipients[due.message_id][0].attempts == 1
        assert [row.type for row in await engine.read(lambda conn: facts.events_of(conn, due.message_id))] == [event]
        assert [row.number for row in await engine.read(lambda conn: facts.attempts_of(conn, due.message_id))] == [1]
        rows = await engine.read(lambda conn: queue.of_message(conn, due.message_id))
        assert [(row.due_at, row.attempt, row.retries) for row in rows] == ([(NOW + 60_000, 2, 1)] if is_queued else [])

    run(make_engine, work)


def test_a_late_result_is_refused_by_the_fence(make_engine):
    """A process that lost its shard, or has it again under a new epoch, writes nothing."""

    async def work(engine):
        (due,) = await engine.write(put_message)
        await take_all(engine, "a", NOW)
        assert await engine.write(lambda conn: leases.take(conn, "b", range(SHARDS), NOW + 14_999, NOW + 30_000)) == 0
        assert await engine.write(lambda conn: leases.take(conn, "b", range(SHARDS), NOW + 15_000, NOW + 30_000)) == SHARDS
        for owner, epoch in (("a", 1), ("a", 2), ("b", 1)):
            (settled,) = await engine.write(lambda conn, owner=owner, epoch=epoch: settle(conn, [result_of(due, DELIVERED, epoch)], owner))
            assert settled.is_fenced
        assert await engine.read(lambda conn: facts.attempts_of(conn, due.message_id)) == []
        (settled,) = await engine.write(lambda conn: settle(conn, [result_of(due, DELIVERED, 2)], "b"))
        assert not settled.is_fenced

    run(make_engine, work)


def test_settling_again_after_an_unknown_commit_changes_nothing(make_engine):
    """The same results twice leave one attempt, one event and one queue row each."""

    async def work(engine):
        (one,) = await engine.write(put_message)
        (two,) = await engine.write(put_message)
        await take_all(engine)
        results = [result_of(one, DELIVERED), result_of(two, DEFERRED)]
        await engine.write(lambda conn: settle(conn, results, "a"))
        await engine.write(lambda conn: settle(conn, results, "a"))
        for due, queued in ((one, 0), (two, 1)):
            assert len(await engine.read(lambda conn, due=due: facts.attempts_of(conn, due.message_id))) == 1
            assert len(await engine.read(lambda conn, due=due: facts.events_of(conn, due.message_id))) == 1
            assert len(await engine.read(lambda conn, due=due: queue.of_message(conn, due.message_id))) == queued

    run(make_engine, work)


def test_groups_commit_together_and_one_bad_item_fails_alone(make_engine):
    """A group that fails is tried one by one: only the faulty item hears of it."""

    async def work(engine):
        def insert(conn, items):
            for item in items:
                conn.execute(sa.text("INSERT INTO site_state (site, note) VALUES (:site, '')"), {"site": item})
            return [item.upper() for item in items]

        commits = GroupCommit(engine, insert)
        results = await asyncio.gather(*[commits.submit(name) for name in ("a", "b", "a", "c")], return_exceptions=True)
        assert results[0] == "A"
        assert results[1] == "B"
        assert isinstance(results[2], sa.exc.IntegrityError)
        assert results[3] == "C"

    run(make_engine, work)


def test_two_processes_share_one_queue_of_writers(make_engine):
    """Two engines on one database write at the same time without an error and without a lost row."""

    async def work(engine):
        other = make_engine()
        try:
            await asyncio.gather(*[one.write(put_message) for one in (engine, other) for _ in range(40)])
        finally:
            await other.close()
        assert (await engine.read(lambda conn: queue.depth(conn, NOW)))[0] == 80

    run(make_engine, work)


def test_suppressions_are_found_by_tenant_stream_and_time(make_engine):
    """Another tenant's, another stream's and expired ones do not count."""

    async def work(engine):
        def add(conn, tenant_id, stream, expires_at):
            row = {"tenant_id": tenant_id, "address": "a@b.example", "stream": stream, "id": f"sup_{tenant_id}{stream}", "reason": "manual", "note": "",
                   "created_at": NOW, "expires_at": expires_at}  # fmt: skip
            return suppressions.put(conn, row)

        assert await engine.write(lambda conn: add(conn, "t1", "", None))
        assert not await engine.write(lambda conn: add(conn, "t1", "", None))
        assert await engine.write(lambda conn: add(conn, "t2", "bulk", NOW))
        wanted = [("t1", "a@b.example"), ("t2", "a@b.example"), ("t3", "a@b.example")]
        assert await engine.read(lambda conn: suppressions.matching(conn, wanted, NOW)) == {("t1", "a@b.example"): [("", "manual")]}
        assert set(await engine.read(lambda conn: suppressions.matching(conn, wanted, NOW - 1))) == {
            ("t1", "a@b.example"),
            ("t2", "a@b.example"),
        }
        assert await engine.write(lambda conn: suppressions.remove(conn, "t1", "a@b.example")) == 1

    run(make_engine, work)


def test_idempotency_keys_expire_and_can_be_used_again(make_engine):
    """A key is known until its end and free afterwards."""

    async def work(engine):
        row = {"tenant_id": "t", "key_hash": b"k" * 32, "request_hash": b"r" * 32, "response": "{}", "expires_at": NOW + 10}
        await engine.write(lambda conn: idempotency.insert(conn, [row], NOW))
        key = ("t", b"k" * 32)
        assert await engine.read(lambda conn: idempotency.find(conn, [key], NOW + 9)) == {key: (b"r" * 32, "{}")}
        assert await engine.read(lambda conn: idempotency.find(conn, [key], NOW + 10)) == {}
        with pytest.raises(sa.exc.IntegrityError):
            await engine.write(lambda conn: idempotency.insert(conn, [row], NOW))
        await engine.write(lambda conn: idempotency.insert(conn, [{**row, "expires_at": NOW + 99}], NOW + 10))
        assert await engine.write(lambda conn: idempotency.purge(conn, NOW + 99)) == 1

    run(make_engine, work)


def test_listing_filters_and_pages_are_exact(make_engine):
    """Every filter finds its message, and pages meet without a gap or an overlap."""

    async def work(engine):
        rows = [
            await engine.write(
                lambda conn, n=n: put_message(conn, domains=(f"d{n}.example",), tags=("odd",) if n % 2 else (), subject=f"Number {n}%")
            )
            for n in range(7)
        ]
        await engine.write(lambda conn: put_message(conn, tenant_id="ten_b", tags=("odd",)))
        every = [row[0].message_id for row in reversed(rows)]

        async def page(limit=50, after=None, before=None, **filters):
            found = await engine.read(lambda conn: messages.page(conn, "ten_a", messages.Filter(**filters), limit, after, before))
            return [row.id for row in found]

        assert await page() == every
        assert await page(3) == every[:3]
        assert await page(3, after=every[2]) == every[3:6]
        assert await page(3, before=every[6]) == every[3:6]
        assert await page(tag="odd") == every[1::2]
        assert await page(address_key="user0@d3.example") == [every[3]]
        assert await page(text="number 5%") == [every[1]]
        assert await page(text="USER0@D2.") == [every[4]]
        assert await page(text="_") == []
        assert await page(status="queued") == every
        assert await page(status="bounced") == []
        assert await page(stream="bulk") == []

    run(make_engine, work)


def test_paused_sites_and_counts_by_site(make_engine):
    """A site can be paused twice and resumed once; the queue is counted by site."""

    async def work(engine):
        await engine.write(lambda conn: put_message(conn, domains=("a.example", "a.example", "b.example")))
        await engine.write(lambda conn: put_message(conn, domains=("a.example",), due_at=NOW + 5))
        for _ in range(2):
            await engine.write(lambda conn: sites.pause(conn, "a.example", NOW, "test"))
        assert await engine.read(sites.paused) == {"a.example": NOW}
        assert await engine.write(lambda conn: sites.resume(conn, "a.example"))
        assert not await engine.write(lambda conn: sites.resume(conn, "a.example"))
        counts = await engine.read(lambda conn: queue.counts_by_site(conn, NOW))
        assert counts == [("a.example", 2, 1, 0, NOW), ("b.example", 1, 0, 0, NOW)]
        assert await engine.read(lambda conn: queue.depth(conn, NOW)) == (4, 3, NOW)

    run(make_engine, work)


def test_every_change_of_configuration_counts_the_version_up(make_engine):
    """Other processes learn of a change by its number."""

    async def work(engine):
        before = await engine.read(tenants.version)
        await engine.write(tenants.bump_version)
        assert await engine.read(tenants.version) == before + 1

    run(make_engine, work)


def test_what_is_taken_once_is_taken_by_one(make_engine):
    """Of many that spend an id at the same moment one wins; the others are told so, and their transactions go on."""

    async def work(engine):
        def spend(conn):
            is_first = tokens.spend(conn, "ticket:1", NOW)
            sites.pause(conn, f"{id(conn)}.example", NOW, "")
            return is_first

        found = await asyncio.gather(*[engine.write(spend) for _ in range(8)])
        assert sorted(found) == [False] * 7 + [True]
        assert not await engine.write(spend)

    run(make_engine, work)
