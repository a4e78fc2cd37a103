"""Openings, clicks and unsubscriptions as facts: unique and total, by class, once under races; on both engines."""

import asyncio
from collections import Counter

import msgspec
import pytest
import sqlalchemy as sa

from gatepost import engaged, ids
from gatepost.domain.engagement import Visitor
from gatepost.domain.statement import Said
from gatepost.engaged import Counting, Seen
from gatepost.policy.visitors import Visit, load_rules
from gatepost.store import engagement, facts, messages, suppressions
from gatepost.store.opening import open_store
from gatepost.store.schema import rollup_delta
from gatepost.suppressing import Suppressing
from gatepost.testing.fake_clock import FakeClock
from gatepost.wire.tracking_token import link_id
from tests.store.rows import NOW, put_message

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
HOW = Counting(rules=load_rules())
LATER = NOW + 60_000


class House:
    """A database with one message for two people, delivered."""

    def __init__(self, make_engine):
        self.make_engine = make_engine

    async def __aenter__(self):
        self.engine = self.make_engine()
        await open_store(self.engine, FakeClock(NOW))
        self.message_id = await self.engine.write(self._put)
        return self

    def _put(self, conn):
        due = put_message(conn, domains=("example.net", "example.org"), stream="news")
        for row in due:
            state = {"b_message_id": row.message_id, "b_n": row.n, "tenant_id": row.tenant_id, "status": "delivered", "reason": None, "attempts": 1,
                     "last_reply": "250 ok", "last_host": "mx.example.net", "updated_at": NOW, "final_at": NOW}  # fmt: skip
            messages.update_recipients(conn, [state])
        return due[0].message_id

    async def __aexit__(self, *_):
        await self.engine.close()

    def seen(self, said=Said.OPENED, n=0, at=LATER, agent=CHROME, target="", message_id=None):
        link = link_id(target).hex() if target else ""
        return Seen(
            message_id=message_id or self.message_id,
            n=n,
            visit=Visit(said=said, agent=agent, peer="203.0.113.5"),
            at=at,
            link=link,
            target=target,
        )

    async def record(self, *seen, how=HOW, engine=None):
        return await (engine or self.engine).write(lambda conn: engaged.record(conn, seen, how))

    async def events(self, *kinds):
        rows = await self.engine.read(lambda conn: facts.events_of(conn, self.message_id))
        return [row for row in rows if not kinds or row.type in kinds]

    async def totals(self):
        rows = await self.engine.read(lambda conn: engagement.of_message(conn, self.message_id))
        return {(row.n, row.kind, row.visitor, row.link): row.total for row in rows}

    async def unsubscribe(self, n=0, by="one_click", engine=None):
        return await (engine or self.engine).write(lambda conn: engaged.unsubscribe(conn, self.message_id, n, Suppressing(), LATER, by=by))


def run(make_engine, work):
    async def main():
        async with House(make_engine) as house:
            await work(house)

    asyncio.run(main())


def test_an_opening_is_unique_once_and_total_every_time(make_engine):
    """Three openings by one reader and one by another: two unique, four in all, each an event that says so."""

    async def work(house):
        first = await house.record(house.seen(), house.seen(), house.seen(n=1))
        again = await house.record(house.seen(at=LATER + 1))
        assert [one.is_first for one in first + again] == [True, False, True, False]
        events = await house.events("recipient.opened")
        assert sorted((one.n, one.data["class"], one.data["is_first"], one.data["is_counted"]) for one in events) == [
            (0, "human", False, True), (0, "human", False, True), (0, "human", True, True), (1, "human", True, True),
        ]  # fmt: skip
        assert await house.totals() == {(0, "opened", "counted", ""): 3, (1, "opened", "counted", ""): 1}

    run(make_engine, work)


def test_machines_are_counted_apart_and_never_first_for_a_person(make_engine):
    """Apple fetched it before, Gmail's proxy too: the person's opening is still the first."""

    async def work(house):
        await house.record(house.seen(agent="Mozilla/5.0"), house.seen(agent=GMAIL))
        (person,) = await house.record(house.seen())
        assert (person.visitor, person.is_first, person.is_counted) == (Visitor.HUMAN, True, True)
        kinds = {one.data["class"]: (one.data["is_counted"], one.data.get("rule")) for one in await house.events("recipient.opened")}
        assert kinds == {"prefetch": (False, "apple_mpp"), "proxy": (False, "gmail_proxy"), "human": (True, None)}
        assert await house.totals() == {(0, "opened", "prefetch", ""): 1, (0, "opened", "proxy", ""): 1, (0, "opened", "counted", ""): 1}

    run(make_engine, work)


def test_an_operator_may_count_proxies_as_people(make_engine):
    """With `tracking.counted = ["human", "proxy"]` an opening by Gmail's proxy is the first one."""

    async def work(house):
        how = Counting(rules=HOW.rules, counted=frozenset({Visitor.HUMAN, Visitor.PROXY}))
        by_proxy, by_person = await house.record(house.seen(agent=GMAIL), house.seen(), how=how)
        assert (by_proxy.visitor, by_proxy.is_counted, by_proxy.is_first) == (Visitor.PROXY, True, True)
        assert (by_person.visitor, by_person.is_first) == (Visitor.HUMAN, False)

    run(make_engine, work)


def test_what_comes_before_the_delivery_is_written_down_is_a_machine(make_engine):
    """Somebody that knows a message's pixel before the site's 250 is a scanner on the way."""

    async def work(house):
        early = await house.record(house.seen(at=NOW + 500))
        other = await house.engine.write(lambda conn: put_message(conn)[0].message_id)
        undelivered = await house.record(house.seen(message_id=other))
        assert [one.detail["rule"] for one in early + undelivered] == ["too_soon", "too_soon"]

    run(make_engine, work)


def test_clicks_are_unique_by_recipient_and_by_link(make_engine):
    """Two links: one unique clicker, two unique links, and where each led."""

    async def work(house):
        a, b = "https://x.example/a", "https://x.example/b"
        clicks = [house.seen(Said.CLICKED, target=target, at=LATER + n * 10_000) for n, target in enumerate((a, b, a))]
        for one in clicks:
            await house.record(one)
        events = await house.events("recipient.clicked")
        assert [(one.data["url"], one.data["is_first"], one.data["is_first_of_link"]) for one in events] == [
            (a, True, True),
            (b, False, True),
            (a, False, False),
        ]
        assert (await house.totals())[0, "clicked", "counted", ""] == 3
        assert (await house.totals())[0, "clicked", "counted", link_id(a).hex()] == 2

    run(make_engine, work)


def test_all_links_at_once_are_a_scanners(make_engine):
    """The third link within two seconds, and each after it, is told as a machine's."""

    async def work(house):
        seen = [house.seen(Said.CLICKED, target=f"https://x.example/{n}", at=LATER + n * 100) for n in range(6)]
        classes = [(await house.record(one))[0].visitor for one in seen]
        assert classes == [Visitor.HUMAN, Visitor.HUMAN, *[Visitor.BOT] * 4]
        (later,) = await house.record(house.seen(Said.CLICKED, target="https://x.example/0", at=LATER + 60_000))
        assert later.visitor is Visitor.HUMAN

    run(make_engine, work)


def test_two_processes_at_once_find_one_first(make_engine):
    """The same reader's openings over two connections at once: one unique, nothing lost, no deadlock, in any order."""

    async def work(house):
        others = [house.make_engine() for _ in range(3)]
        batches = [[house.seen(n=n) for n in order] for order in ((0, 1), (1, 0), (0, 1, 0), (1,))]
        answers = await asyncio.gather(
            *(house.record(*batch, engine=engine) for batch, engine in zip(batches, [house.engine, *others], strict=True))
        )
        firsts = [(one.n, one.is_first) for answer in answers for one in answer]
        assert sorted(n for n, is_first in firsts if is_first) == [0, 1]
        assert await house.totals() == {(0, "opened", "counted", ""): 4, (1, "opened", "counted", ""): 4}
        for engine in others:
            await engine.close()

    run(make_engine, work)


def test_what_is_about_nobody_is_nothing(make_engine):
    """A recipient that was removed with its day, or a number that the message never had."""

    async def work(house):
        assert await house.record(house.seen(n=9), house.seen(message_id=ids.new_message_id())) == [None, None]
        assert await house.unsubscribe(n=9) is None
        assert await house.engine.read(lambda conn: engaged.preference(conn, ids.new_message_id(), 0, LATER)) is None

    run(make_engine, work)


def test_events_have_an_end_and_counts_have_none(make_engine):
    """A program that loads a pixel for ever does not fill the tenant's events."""

    async def work(house):
        for start in range(0, 120, 40):
            await house.record(*[house.seen(at=LATER + start + n) for n in range(40)])
        assert len(await house.events("recipient.opened")) == 100
        assert (await house.totals())[0, "opened", "counted", ""] == 120

    run(make_engine, work)


def test_an_unsubscription_suppresses_one_stream_for_one_recipient_once(make_engine):
    """The suppression, its event and ours in one transaction; a second click changes nothing; the other reader is not touched."""

    async def work(house):
        done = await house.unsubscribe()
        again = await house.unsubscribe(by="page")
        assert (done.is_unsubscribed, done.is_suppressed, done.stream) == (True, True, "news")
        assert again == done
        (event,) = await house.events("recipient.unsubscribed")
        assert (event.n, event.data) == (0, {"class": "human", "is_counted": True, "is_first": True, "by": "one_click"})
        keys = [("ten_a", "user0@example.net"), ("ten_a", "user1@example.org"), ("ten_b", "user0@example.net")]
        found = await house.engine.read(lambda conn: suppressions.matching(conn, keys, LATER))
        assert found == {keys[0]: [("news", "unsubscribed")]}
        other = await house.engine.read(lambda conn: engaged.preference(conn, house.message_id, 1, LATER))
        assert not other.is_suppressed

    run(make_engine, work)


def test_two_clicks_at_once_are_one_unsubscription(make_engine):
    """Mail programs repeat themselves: one event, whatever the race."""

    async def work(house):
        other = house.make_engine()
        await asyncio.gather(house.unsubscribe(), house.unsubscribe(engine=other), house.unsubscribe())
        assert len(await house.events("recipient.unsubscribed")) == 1
        await other.close()

    run(make_engine, work)


def test_taking_it_back_lifts_only_what_the_recipient_asked_for(make_engine):
    """Another reason stays; subscribing again and unsubscribing again are two facts, of which one is the first."""

    async def work(house):
        await house.unsubscribe()
        back = await house.engine.write(lambda conn: engaged.resubscribe(conn, house.message_id, 0, LATER))
        assert (back.is_unsubscribed, back.is_suppressed) == (False, False)
        await house.unsubscribe()
        assert [one.data["is_first"] for one in await house.events("recipient.unsubscribed")] == [True, False]
        row = {"tenant_id": "ten_a", "address": "user1@example.org", "stream": "", "id": ids.new("sup"), "reason": "hard_bounce", "note": "", "created_at": NOW,
               "expires_at": None}  # fmt: skip
        await house.engine.write(lambda conn: suppressions.put(conn, row))
        kept = await house.engine.write(lambda conn: engaged.resubscribe(conn, house.message_id, 1, LATER))
        assert (kept.is_unsubscribed, kept.is_suppressed) == (False, True)

    run(make_engine, work)


@pytest.mark.parametrize("said", [Said.OPENED, Said.CLICKED, Said.UNSUBSCRIBED])
def test_numbers_are_counted_in_the_same_transaction(make_engine, said):
    """What is rolled back was neither told nor counted."""

    async def work(house):
        class Broken(Exception):  # noqa: N818
            pass

        def fail(conn):
            if said is Said.UNSUBSCRIBED:
                engaged.unsubscribe(conn, house.message_id, 0, Suppressing(), LATER, by="page")
            else:
                engaged.record(conn, [house.seen(said, target="https://x.example" if said is Said.CLICKED else "")], HOW)
            raise Broken

        with pytest.raises(Broken):
            await house.engine.write(fail)
        assert await house.totals() == {}
        assert await house.events(f"recipient.{said.value}") == []

    run(make_engine, work)


def test_people_and_machines_are_different_numbers(make_engine):
    """What statistics are made of: unique and total by people, machines apart, unsubscriptions."""

    async def work(house):
        await house.record(
            house.seen(), house.seen(), house.seen(agent="Mozilla/5.0"), house.seen(Said.CLICKED, target="https://x.example")
        )
        await house.unsubscribe()
        rows = await house.engine.read(lambda conn: conn.execute(sa.select(rollup_delta.c.data)).scalars().all())
        counts = Counter()
        for data in rows:
            for *_, found in msgspec.msgpack.decode(data):
                counts.update(found)
        assert counts == {"opened": 1, "opens": 2, "machine_opens": 1, "clicked": 1, "clicks": 1, "unsubscribed": 1}

    run(make_engine, work)


def test_links_are_sealed_and_go_when_no_token_leads_to_them(make_engine):
    """Targets may hold personal data: they are unreadable on disk, and removed in the end."""

    async def work(house):
        target = "https://x.example/?mail=ann@example.net"
        await house.engine.write(lambda conn: engagement.put_links(conn, [("ten_a", house.message_id, [target], LATER)]))
        assert await house.engine.read(lambda conn: engagement.links_of(conn, house.message_id)) == [target]
        raw = await house.engine.read(lambda conn: conn.execute(sa.text("SELECT sealed FROM message_links")).scalar_one())
        assert b"example" not in bytes(raw)
        await house.engine.write(lambda conn: engagement.purge(conn, LATER + 1, 365))
        assert await house.engine.read(lambda conn: engagement.links_of(conn, house.message_id)) == []

    run(make_engine, work)
