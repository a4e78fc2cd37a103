"""What happens is told: once it is committed, in order, again until it is taken, signed."""

import asyncio

import pytest
from standardwebhooks import Webhook as Reference

from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.domain.event import EventType
from gatepost.store import hooks, webhooks
from gatepost.tenants.webhooks import Range
from tests.webhooks.house import consuming, opened, run_until, settle_down


def test_an_event_is_told_with_its_message_and_verified_by_the_reference_library(make_engine):
    """The body is what the documentation shows, and Standard Webhooks' own library believes it."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming() as consumer:
            webhook = await house.make(consumer.url(), headers={"X-API-Key": "abc"})
            message_id = await house.message(tags=("order",), subject="Order 42")
            details = {
                "category": "invalid_recipient",
                "severity": "hard",
                "smtp_code": 550,
                "attempt": 1,
                "route": "mx",
                "host": "mx.example.net",
            }
            (event_id,) = await house.happen(house.event(EventType.BOUNCED, message_id, 0, **details))
            loop = house.loop()
            await run_until(loop, lambda: consumer.calls)
            await loop.close()
            (call,) = consumer.calls
            house_now = house.clock.now()
            assert abs(SystemClock().now() - house_now) < 120_000
            assert Reference(webhook.secrets[0].text).verify(call.body, call.headers) == call.json
            assert call.id == event_id
            assert call.headers["x-api-key"] == "abc"
            assert call.json["type"] == "recipient.bounced"
            data = call.json["data"]
            assert data["bounce"] == details
            assert {name: data[name] for name in ("message_id", "address", "subject", "tags", "stream", "from")} == {
                "message_id": message_id, "address": "user0@example.net", "subject": "Order 42", "tags": ["order"], "stream": "transactional",
                "from": "a@acme.example",
            }  # fmt: skip
            assert data["recipient_id"].startswith("rcp_")

    asyncio.run(run())


def test_what_happened_before_is_not_told_and_nothing_is_told_to_others(make_engine):
    """A webhook hears of what is committed after it was made, of its own tenant, of the types and streams it wants."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming() as consumer:
            await house.happen(house.event())
            await house.make(consumer.url("/bounced"), events=["recipient.bounced"])
            await house.make(consumer.url("/family"), events=["recipient.*"])
            await house.make(consumer.url("/bulk"), streams=["bulk"])
            await house.make(consumer.url("/all"))
            codes, bulk = await house.message(stream="codes"), await house.message(stream="bulk")
            told = await house.happen(
                house.event(EventType.BOUNCED, codes, 0), house.event(EventType.DELIVERED, bulk, 0), house.event(EventType.DOMAIN_FAILING)
            )
            loop = house.loop()
            await run_until(loop, lambda: len(consumer.calls) >= 7)
            await settle_down(loop)
            await loop.close()
            by_path = {path: {call.id for call in consumer.calls if call.path == path} for path in ("/bounced", "/family", "/bulk", "/all")}
            assert by_path == {"/bounced": {told[0]}, "/family": set(told[:2]), "/bulk": {told[1]}, "/all": set(told)}
            assert len(consumer.calls) == 7

    asyncio.run(run())


def test_a_messages_events_come_in_order_and_wait_for_each_other(make_engine):
    """While an earlier event of a message is refused, later ones wait; another message's pass by."""

    async def run() -> None:
        async with opened(make_engine, retry_schedule=[60]) as house:
            refused: set[str] = set()

            def answer(call):
                if call.id in is_bad and call.id not in refused:
                    refused.add(call.id)
                    return 500
                return 200

            async with consuming(answer) as consumer:
                await house.make(consumer.url())
                slow, quick = await house.message(), await house.message()
                is_bad: set[str] = set()
                first = house.event(EventType.ACCEPTED, slow)
                is_bad.add(first.id)
                kinds = (EventType.DEFERRED, EventType.DELIVERED)
                slow_ids = await house.happen(first, *[house.event(kind, slow, 0) for kind in kinds])
                quick_ids = await house.happen(house.event(EventType.ACCEPTED, quick), *[house.event(kind, quick, 0) for kind in kinds])
                loop = house.loop()
                await run_until(loop, lambda: len(consumer.calls) >= 4)
                await settle_down(loop)
                assert [one for one in consumer.ids if one in slow_ids] == slow_ids[:1]
                assert [one for one in consumer.ids if one in quick_ids] == quick_ids
                await run_until(loop, lambda: len(consumer.calls) >= 7, clock=house.clock)
                await loop.close()
                assert [one for one in consumer.ids if one in slow_ids] == [slow_ids[0], *slow_ids]

    asyncio.run(run())


def test_the_schedule_is_kept_and_then_it_is_given_up_and_can_be_sent_again(make_engine):
    """Each wait is the schedule's, more or less its jitter; Retry-After counts; the log says what was answered."""

    async def run() -> None:
        async with opened(make_engine, retry_schedule=[10, 100]) as house, consuming(lambda call: 503) as consumer:
            webhook = await house.make(consumer.url())
            (event_id,) = await house.happen(house.event())
            loop = house.loop()
            for count, wait_s in ((1, 0), (2, 10), (3, 100)):
                house.clock.advance(wait_s * 0.85)
                await settle_down(loop)
                assert len(consumer.calls) == max(1, count - 1)
                house.clock.advance(wait_s * 0.3)
                await run_until(loop, lambda count=count: len(consumer.calls) == count)
                await settle_down(loop)
            house.clock.advance(10_000)
            await settle_down(loop)
            (row,) = await house.register.deliveries(house.tenant_id, webhook.id, 10)
            assert (row.id, row.status, row.attempts, row.code, row.answer) == (event_id, "failed", 3, 503, "no, sorry")
            consumer.answer = lambda call: 204
            assert await house.register.replay(house.tenant_id, webhook.id, Range(only_failed=True), by=GATEWAY) == 1
            await run_until(loop, lambda: len(consumer.calls) == 4)
            await settle_down(loop)
            (row,) = await house.register.deliveries(house.tenant_id, webhook.id, 10)
            assert (row.status, row.attempts, row.code, row.answer) == ("delivered", 1, 204, None)
            assert set(consumer.ids) == {event_id}
            await house.register.replay_one(house.tenant_id, webhook.id, event_id, by=GATEWAY)
            await run_until(loop, lambda: len(consumer.calls) == 5)
            await loop.close()

    asyncio.run(run())


def test_a_time_range_is_sent_again_in_the_order_of_each_message(make_engine):
    """A replay keeps what a consumer relies on."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming() as consumer:
            webhook = await house.make(consumer.url())
            mails = [await house.message() for _ in range(5)]
            loop = house.loop()
            told = [
                await house.happen(*[house.event(kind, mail, 0) for kind in (EventType.DEFERRED, EventType.SENT, EventType.DELIVERED)])
                for mail in mails
            ]
            await run_until(loop, lambda: len(consumer.calls) == 15)
            await settle_down(loop)
            consumer.calls.clear()
            now = SystemClock().now()
            assert await house.register.replay(house.tenant_id, webhook.id, Range(since=now + 60_000), by=GATEWAY) == 0
            assert await house.register.replay(house.tenant_id, webhook.id, Range(since=now - 60_000), by=GATEWAY) == 15
            await run_until(loop, lambda: len(consumer.calls) == 15)
            await loop.close()
            for mine in told:
                assert [one for one in consumer.ids if one in mine] == mine

    asyncio.run(run())


def test_what_is_asked_for_again_goes_before_what_still_waits(make_engine):
    """An earlier event of a message is sent again while a later one is tried: the later one waits for it."""

    async def run() -> None:
        async with opened(make_engine, retry_schedule=[10, 10, 10]) as house:
            is_asked = asyncio.Event()

            async def answer(call):
                if call.id != later or is_asked.is_set():
                    return 200 if call.id != first or not is_asked.is_set() else 500
                await house.register.replay_one(house.tenant_id, webhook.id, first, by=GATEWAY)
                is_asked.set()
                return 500

            async with consuming(answer) as consumer:
                webhook = await house.make(consumer.url())
                mail = await house.message()
                first, later = (house.event(kind, mail, 0) for kind in (EventType.SENT, EventType.DELIVERED))
                events, (first, later) = (first, later), (first.id, later.id)
                await house.happen(*events)
                loop = house.loop()
                await run_until(loop, lambda: len(consumer.calls) >= 3)
                assert consumer.ids == [first, later, first]
                house.clock.advance(9)
                await settle_down(loop)
                for _ in range(8):
                    house.clock.advance(3)
                    await settle_down(loop)
                assert set(consumer.ids[2:]) == {first}, "it waits as long as the earlier one fails"
                house.clock.advance(60)
                await run_until(loop, lambda: consumer.ids[-1] == later, clock=house.clock)
                await loop.close()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["gone", "failing"])
def test_a_webhook_that_is_gone_is_switched_off_with_notice_and_goes_on_where_it_stopped(make_engine, how):
    """410 at once, only failures after days: the audit log and the tenant's other webhooks say so, and nothing is lost."""

    async def run() -> None:
        answers = {"/bad": 410 if how == "gone" else 500}
        async with (
            opened(make_engine, retry_schedule=[3000] * 9, disable_after_s=7200) as house,
            consuming(lambda call: answers.get(call.path, 200)) as consumer,
        ):
            bad = await house.make(consumer.url("/bad"))
            await house.make(consumer.url("/good"))
            (event_id,) = await house.happen(house.event())
            loop = house.loop()

            def told():
                return [call for call in consumer.calls if call.path == "/good" and call.json["type"] == "webhook.disabled"]

            for hour in range(3 if how == "failing" else 1):
                assert not told(), hour
                await settle_down(loop)
                house.clock.advance(3600)
            await run_until(loop, told)
            assert told()[0].json["data"]["webhook_id"] == bad.id
            view = await house.register.get(house.tenant_id, bad.id)
            assert view.webhook.disabled_at is not None
            with pytest.raises(Exception, match="switched off"):
                await house.register.test(house.tenant_id, bad.id, by=GATEWAY)
            before = len([call for call in consumer.calls if call.path == "/bad"])
            (later,) = await house.happen(house.event())
            house.clock.advance(3600)
            await settle_down(loop)
            assert len([call for call in consumer.calls if call.path == "/bad"]) == before
            answers.clear()
            consumer.calls.clear()
            await house.register.change(house.tenant_id, bad.id, {"enabled": True}, by=GATEWAY)
            house.clock.advance(4000)
            await run_until(
                loop, lambda: {event_id, later} <= {call.id for call in consumer.calls if call.path == "/bad"}, clock=house.clock
            )
            await loop.close()

    asyncio.run(run())


def test_a_new_secret_signs_beside_the_old_one_for_a_while(make_engine):
    """During the overlap both verify; afterwards only the new one does."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming() as consumer:
            old = await house.make(consumer.url())
            new = await house.register.rotate(house.tenant_id, old.id, 60, by=GATEWAY)
            loop = house.loop()
            await house.happen(house.event())
            await run_until(loop, lambda: len(consumer.calls) == 1)
            for one in (old, new):
                Reference(one.secrets[0].text).verify(consumer.calls[0].body, consumer.calls[0].headers)
            house.clock.advance(61)
            await settle_down(loop)
            await house.happen(house.event())
            await run_until(loop, lambda: len(consumer.calls) == 2)
            await loop.close()
            assert len(consumer.calls[1].headers["webhook-signature"].split()) == 1
            assert len(consumer.calls[0].headers["webhook-signature"].split()) == 2

    asyncio.run(run())


def test_batches_hold_many_events_and_a_test_reaches_only_its_webhook(make_engine):
    """A batch is a list with each event's id, signed as a whole, named by what is in it."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming() as consumer:
            batched = await house.make(consumer.url("/batch"), batch_size=10)
            await house.make(consumer.url("/other"), events=["recipient.bounced"])
            told = await house.happen(*[house.event() for _ in range(25)])
            loop = house.loop()
            await run_until(loop, lambda: len(consumer.calls) == 3)
            bodies = [call.json for call in consumer.calls]
            assert [len(body["data"]) for body in bodies] == [10, 10, 5] or sorted(len(body["data"]) for body in bodies) == [5, 10, 10]
            assert {one["id"] for body in bodies for one in body["data"]} == set(told)
            assert all(call.id.startswith("bat_") for call in consumer.calls)
            Reference(batched.secrets[0].text).verify(consumer.calls[0].body, consumer.calls[0].headers)
            await settle_down(loop)
            tried = await house.register.test(house.tenant_id, batched.id, by=GATEWAY)
            await run_until(loop, lambda: len(consumer.calls) == 4)
            await settle_down(loop)
            await loop.close()
            assert [one["id"] for one in consumer.calls[3].json["data"]] == [tried]

    asyncio.run(run())


def test_one_dead_webhook_does_not_hold_up_another(make_engine):
    """While calls to one hang, another one's are made at once."""

    async def run() -> None:
        hanging, going_on = asyncio.Event(), asyncio.Event()

        async def hang(call):
            hanging.set()
            await going_on.wait()
            return 200

        async with opened(make_engine, timeout_s=60, concurrency=3) as house, consuming(hang) as dead, consuming() as alive:
            await house.make(dead.url())
            await house.make(alive.url())
            await house.happen(*[house.event() for _ in range(20)])
            loop = house.loop()
            await run_until(loop, lambda: len(alive.calls) == 20 and hanging.is_set())
            await house.happen(house.event())
            await run_until(loop, lambda: len(alive.calls) == 21)
            assert dead.calls == []
            going_on.set()
            await run_until(loop, lambda: len(dead.calls) == 21)
            await loop.close()

    asyncio.run(run())


def test_two_processes_share_the_webhooks_and_the_one_that_is_left_takes_all(make_engine):
    """Each webhook has one owner; when a process is silent for a lease, the others deliver for it."""

    async def run() -> None:
        from gatepost.store import leases

        async with opened(make_engine) as house, consuming() as consumer:
            made = [await house.make(consumer.url(f"/{n}")) for n in range(8)]
            for node in ("node-1", "node-2"):
                await house.engine.write(lambda conn, node=node: leases.heartbeat(conn, node, "host", 1, house.clock.now()))
            loops = [house.loop("node-1"), house.loop("node-2")]
            for loop in loops:
                await settle_down(loop)
            owners = {one.webhook_id: one.owner for one in await house.engine.read(webhooks.leases)}
            assert set(owners) == {one.id for one in made}
            assert set(owners.values()) == {"node-1", "node-2"}
            await house.happen(house.event())
            async with asyncio.timeout(20):
                while len(consumer.calls) < 8:
                    for loop in loops:
                        await loop.step()
                    await asyncio.sleep(0.01)
            for loop in loops:
                await settle_down(loop)
            house.clock.advance(20)
            await house.happen(house.event())
            await run_until(loops[1], lambda: len(consumer.calls) >= 16)
            assert len(consumer.calls) == 16
            stale = await house.engine.write(lambda conn: webhooks.held(conn, "node-1", [one.id for one in made]))
            assert stale == {}
            await loops[1].close()
            await loops[0].close()

    asyncio.run(run())


def test_hooks_that_are_over_are_forgotten_in_time_and_those_of_removed_webhooks_too(make_engine):
    """The log does not grow for ever; what waits is kept."""

    async def run() -> None:
        async with opened(make_engine) as house, consuming(lambda call: 200 if call.path == "/ok" else 500) as consumer:
            kept, removed = await house.make(consumer.url("/ok")), await house.make(consumer.url("/no"))
            await house.happen(*[house.event() for _ in range(3)])
            loop = house.loop()
            await settle_down(loop)
            await house.register.delete(house.tenant_id, removed.id, by=GATEWAY)
            assert await house.engine.read(webhooks.removed) == [removed.id]
            assert await house.engine.write(lambda conn: webhooks.purge(conn, removed.id, "")) == 3
            assert await house.engine.write(lambda conn: webhooks.purge(conn, kept.id, "")) == 0
            assert await house.engine.write(lambda conn: webhooks.purge(conn, kept.id, "evt_7")) == 3
            assert await house.engine.read(webhooks.removed) == []
            assert await house.engine.read(lambda conn: hooks.page(conn, kept.id, 5)) == []
            await loop.close()

    asyncio.run(run())
