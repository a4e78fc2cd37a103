"""What is said of a recipient afterwards: states, events and suppressions, once, on both engines."""

import asyncio

import pytest

from gatepost import ids
from gatepost.clock import DAY
from gatepost.domain.outcome import Category, Delivered, Exchange, Failed, Reply
from gatepost.domain.recipient import TRANSITIONS, Status
from gatepost.domain.severity import Severity
from gatepost.domain.statement import About, Said, Statement
from gatepost.policy.retry import RetrySchedule
from gatepost.policy.suppressing import Act, act_on
from gatepost.reported import Told, decide_report, settle_statement
from gatepost.settle import Result, decide, new_event_id, settle
from gatepost.store import facts, leases, messages, shaping, suppressions
from gatepost.store.opening import open_store
from gatepost.suppressing import Suppressing
from gatepost.testing.fake_clock import FakeClock
from tests.store.rows import NOW, put_message

SCHEDULE = RetrySchedule(waits_s=[60], jitter=0)


class House:
    """A store with mail that was handed over."""

    def __init__(self, engine, clock):
        self.engine, self.clock, self.suppressing, self.numbers = engine, clock, Suppressing(), iter(range(10_000))

    async def delivered(self, *, final=True, provider_id=None, route="mx", source="default", refused=None, **fields):
        """Put a message and settle its delivery, or its refusal."""
        rows = await self.engine.write(lambda conn: put_message(conn, **fields))
        shards = sorted({row.shard for row in rows})

        def work(conn):
            leases.heartbeat(conn, "node_a", "host", 1, NOW)
            leases.take(conn, "node_a", shards, NOW, NOW + DAY)
            epochs = leases.fenced(conn, "node_a", shards)
            names = {(one.message_id, one.n): one.address for one in messages.addresses(conn, [row.message_id for row in rows]).values()}
            results = []
            for row in rows:
                exchange = Exchange(
                    route=route, started_at=NOW, finished_at=NOW, host="mx.far.example", source=source, provider_id=provider_id
                )
                if refused is None:
                    outcome = Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"), final=final)
                else:
                    outcome = Failed(exchange=exchange, category=refused, detail="no", reply=Reply(code=550, enhanced="5.1.1", text="no"))
                decision = decide(row, outcome, SCHEDULE, NOW, 0.5)
                results.append(
                    Result(
                        due=row,
                        epoch=epochs[row.shard],
                        outcome=outcome,
                        decision=decision,
                        event_id=new_event_id(),
                        at=self.clock.now(),
                        address=names[row.message_id, row.n],
                    )
                )
            done = settle(conn, results, "node_a", None, self.suppressing)
            assert not any(one.is_fenced for one in done)

        await self.engine.write(work)
        return rows

    async def say(self, said, about, *, known_as=None, by="mail", category=None, stated=None):
        statement = Statement(
            id=known_as or f"report/{next(self.numbers)}",
            said=said,
            about=about,
            by=by,
            at=self.clock.now(),
            category=category,
            stated=stated,
            reply=Reply(code=550, enhanced="5.1.1", text="no such user") if said is Said.BOUNCED else None,
        )
        return await self.engine.write(lambda conn: settle_statement(conn, statement, self.suppressing, self.clock.now()))

    async def state(self, row):
        return (await self.engine.read(lambda conn: messages.recipients_of(conn, [row.message_id])))[row.message_id][row.n]

    async def events(self, row):
        return [one for one in await self.engine.read(lambda conn: facts.events_of(conn, row.message_id)) if one.n == row.n]

    async def suppressed(self, tenant_id="ten_a"):
        rows = await self.engine.read(lambda conn: suppressions.page(conn, tenant_id, 100))
        return sorted((row.address, row.stream, row.reason) for row in rows)


def run(make_engine, work):
    async def main():
        engine, clock = make_engine(), FakeClock(NOW)
        await open_store(engine, clock)
        try:
            await work(House(engine, clock))
        finally:
            await engine.close()

    asyncio.run(main())


def of(row):
    return About(message_id=row.message_id, n=row.n)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("said", list(Said))
def test_no_statement_leads_to_an_unlawful_state(status, said):
    """Whatever is said, whenever: a recipient only becomes what the one table of states allows, and a bounce stays a bounce."""
    change = decide_report(status, said)
    if change is not None and change.status is not None:
        assert change.status in TRANSITIONS[status]
        assert status is not Status.BOUNCED


@pytest.mark.parametrize("category", list(Category))
def test_a_block_never_suppresses_and_only_dead_addresses_do_at_once(category):
    """The taxonomy's severities decide: hard at once, blocks never, inactive mailboxes are counted."""
    act = act_on(Said.BOUNCED, category)
    assert (act is Act.SUPPRESS) == (category in {Category.INVALID_RECIPIENT, Category.INVALID_DOMAIN})
    assert (act is Act.COUNT) == (category is Category.MAILBOX_INACTIVE)


def test_a_bounce_that_comes_later_ends_the_recipient_once(make_engine):
    """DELIVERED becomes BOUNCED with one event and one suppression of every stream, however often the report comes."""

    async def work(house):
        [row] = await house.delivered()
        assert await house.say(Said.BOUNCED, of(row), known_as="r1", category=Category.INVALID_RECIPIENT) is Told.DONE
        assert await house.say(Said.BOUNCED, of(row), known_as="r1", category=Category.INVALID_RECIPIENT) is Told.REPEATED
        assert await house.say(Said.DELIVERED, of(row)) is Told.DONE
        found = await house.state(row)
        assert (found.status, found.reason, found.last_reply) == ("bounced", "invalid_recipient", "550 5.1.1 no such user")
        assert [one.type for one in await house.events(row)].count("recipient.bounced") == 1
        assert await house.suppressed() == [("user0@example.net", "", "invalid_recipient")]
        assert await house.suppressed("ten_b") == []

    run(make_engine, work)


def test_what_a_relay_took_is_delivered_when_it_says_so(make_engine):
    """SENT becomes DELIVERED by the relay's own id of the message; another relay's same id is somebody else's."""

    async def work(house):
        [row] = await house.delivered(final=False, provider_id="abc", route="main", source=None)
        assert (await house.state(row)).status == "sent"
        assert await house.say(Said.DELIVERED, About(provider_ids=("abc",), relay="other"), by="other") is Told.UNKNOWN
        assert await house.say(Said.DELIVERED, About(provider_ids=("abc",), relay="main"), by="main") is Told.DONE
        assert (await house.state(row)).status == "delivered"

    run(make_engine, work)


def test_of_several_recipients_only_the_one_named_is_meant(make_engine):
    """A relay gives one id to a message for three: the address decides, and an address that it did not go to is nobody."""

    async def work(house):
        rows = await house.delivered(
            final=False, provider_id="abc", route="main", source=None, domains=("a.example", "b.example", "c.example")
        )
        about = About(provider_ids=("abc",), relay="main", address="USER1@b.example")
        assert await house.say(Said.BOUNCED, about, by="main", category=Category.INVALID_RECIPIENT) is Told.DONE
        stranger = About(provider_ids=("abc",), relay="main", address="user1@c.example")
        assert await house.say(Said.BOUNCED, stranger, by="main", category=Category.INVALID_RECIPIENT) is Told.UNKNOWN
        assert [(await house.state(row)).status for row in rows] == ["sent", "bounced", "sent"]

    run(make_engine, work)


def test_a_report_that_overtakes_its_delivery_waits(make_engine):
    """A hook may come before the delivery is written down: it is put off, not lost, and not counted as said."""

    async def work(house):
        [row] = await house.engine.write(lambda conn: put_message(conn))
        assert await house.say(Said.BOUNCED, of(row), known_as="r", category=Category.INVALID_RECIPIENT) is Told.TOO_EARLY
        assert await house.suppressed() == []
        [other] = await house.delivered(domains=("later.example",))
        assert await house.say(Said.BOUNCED, of(other), known_as="r", category=Category.INVALID_RECIPIENT) is Told.DONE

    run(make_engine, work)


def test_who_complains_gets_no_more_of_that_stream(make_engine):
    """A complaint suppresses its stream; not-spam takes nothing away, and the delivery stays a delivery."""

    async def work(house):
        [row] = await house.delivered(stream="bulk")
        assert await house.say(Said.COMPLAINED, of(row), category=Category.COMPLAINT, stated=Severity.INFO) is Told.DONE
        assert await house.suppressed() == []
        assert await house.say(Said.COMPLAINED, of(row), category=Category.COMPLAINT) is Told.DONE
        assert await house.suppressed() == [("user0@example.net", "bulk", "complaint")]
        assert (await house.state(row)).status == "delivered"
        assert [one.type for one in await house.events(row)].count("recipient.complained") == 2

    run(make_engine, work)


def test_an_inactive_mailbox_is_suppressed_after_three_in_thirty_days(make_engine):
    """Two bounces, or three with the first one long ago, are no reason yet; the suppression ends by itself."""

    async def work(house):
        for wait_days in (31, 1, 1):
            await house.delivered(refused=Category.MAILBOX_INACTIVE)
            assert await house.suppressed() == []
            house.clock.advance(wait_days * 86_400)
        [row] = await house.delivered()
        await house.say(Said.BOUNCED, of(row), category=Category.MAILBOX_INACTIVE)
        assert await house.suppressed() == [("user0@example.net", "", "mailbox_inactive")]
        [kept] = await house.engine.read(lambda conn: suppressions.page(conn, "ten_a", 10))
        assert kept.expires_at == house.clock.now() + 90 * DAY

    run(make_engine, work)


def test_a_refusal_at_delivery_suppresses_in_the_same_transaction(make_engine):
    """550 5.1.1 at RCPT and a report of it later are the same to the list."""

    async def work(house):
        [row] = await house.delivered(refused=Category.INVALID_RECIPIENT)
        assert await house.suppressed() == [("user0@example.net", "", "invalid_recipient")]
        assert (await house.state(row)).status == "bounced"
        [sandboxed] = await house.delivered(refused=Category.INVALID_RECIPIENT, route="sandbox", domains=("s.example",))
        assert (await house.state(sandboxed)).status == "bounced"
        assert len(await house.suppressed()) == 1

    run(make_engine, work)


def test_a_block_tells_and_rests_the_source_but_suppresses_nobody(make_engine):
    """One report only tells, once an hour; five addresses of a site that say so let the source rest there for a while."""

    async def work(house):
        rows = []
        for n in range(5):
            rows += await house.delivered(domains=("example.net",) * (n + 1), source="one")
        chosen = {row.n: row for row in rows}
        for row in chosen.values():
            assert await house.engine.read(lambda conn: shaping.rule(conn, "one", "example.net").suspended_until) is None
            assert await house.say(Said.BOUNCED, of(row), category=Category.REPUTATION_BLOCK) is Told.DONE
        assert await house.suppressed() == []
        told = [one for row in chosen.values() for one in await house.events(row) if one.type == "sending.blocked"]
        assert [one.data["category"] for one in told] == ["reputation_block"]
        rule = await house.engine.read(lambda conn: shaping.rule(conn, "one", "example.net"))
        assert rule.suspended_until == house.clock.now() + 900_000

    run(make_engine, work)


def test_one_person_cannot_rest_a_source(make_engine):
    """THREATS 42: whoever gets our mail may write reports about it; a hundred of them from one address hold up nobody else."""

    async def work(house):
        for _ in range(6):
            [row] = await house.delivered(source="one")
            await house.say(Said.BOUNCED, of(row), category=Category.REPUTATION_BLOCK)
        assert (await house.engine.read(lambda conn: shaping.rule(conn, "one", "example.net"))).suspended_until is None

    run(make_engine, work)


def test_a_report_about_a_message_that_never_was_changes_nothing(make_engine):
    """A token may be genuine and its message gone: unknown, and nothing is remembered of it."""

    async def work(house):
        assert (
            await house.say(Said.BOUNCED, About(message_id=ids.new_message_id(), n=0), category=Category.INVALID_RECIPIENT) is Told.UNKNOWN
        )
        assert await house.suppressed() == []

    run(make_engine, work)
