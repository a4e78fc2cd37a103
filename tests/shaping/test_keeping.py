"""What owners keep and operators order, on both engines: across processes, crashes and shards that change hands."""

import asyncio

import pytest

from gatepost.clock import DAY, SECOND
from gatepost.dispatch.ports import Permit, Wait
from gatepost.dispatch.shaping import SiteShaping
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Reply
from gatepost.domain.route import shard_of
from gatepost.settings import Egress, Settings, SiteLimits, SourceAddress, SourcePool
from gatepost.store import audit, shaping
from gatepost.store.opening import open_store
from gatepost.tenants.site_orders import SiteOrders
from gatepost.testing.fake_clock import FakeClock

NOW = 20_000 * DAY
PLACE = ("default", "example.net")
EPOCHS = {shard_of(*PLACE): 1}
EXCHANGE = Exchange(route="mx", started_at=NOW, finished_at=NOW)
OK = [Delivered(exchange=EXCHANGE, reply=Reply(code=250, enhanced=None, text="ok"))]
WARM = {"sources": {"new": SourceAddress(shaping={"*": SiteLimits(warm_up_from="2024-10-04", warm_up=[100, 200])})}}
POOLED = {**WARM, "pools": {"default": SourcePool(sources=["new"])}}


def later(text, at=NOW):
    said = Reply(code=421, enhanced="4.7.0", text=text)
    return [
        Deferred(exchange=Exchange(route="mx", started_at=at, finished_at=at), category=Category.RATE_LIMITED, detail=str(said), reply=said)
    ]


def run(make_engine, work):
    async def main():
        engine = make_engine()
        await open_store(engine, FakeClock(NOW))
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def transact(owner, outcomes, now=NOW, place=PLACE):
    permit = owner.take(place, now)
    assert isinstance(permit, Permit), permit
    owner.give_back(permit, outcomes, now)
    return permit


def drain(owner, now, place=PLACE):
    """Take all that goes now; return how many, and the wait."""
    count = 0
    while isinstance(taken := owner.take(place, now), Permit):
        owner.give_back(taken, OK, now)
        count += 1
    return count, taken


def test_nothing_goes_before_it_is_known_what_was_known(make_engine):
    """Between getting a shard and reading its states a site waits, so that no suspension is passed over."""

    async def work(engine):
        owner = SiteShaping(Settings(), engine)
        assert owner.take(PLACE, NOW).cause == "starting"
        assert isinstance(owner.take(("default", "sandbox"), NOW), Permit)
        await owner.step(EPOCHS, NOW)
        assert isinstance(owner.take(PLACE, NOW), Permit)
        assert owner.take(("default", "elsewhere.test"), NOW).cause == "starting"

    run(make_engine, work)


def test_a_suspension_outlives_its_process(make_engine):
    """The next owner waits as long as the first would have, and tells why, word for word; others read it, too."""

    async def work(engine):
        first = SiteShaping(Settings(), engine)
        await first.step(EPOCHS, NOW)
        transact(first, later("blocked using zen.spamhaus.org: see <mailto:ann@example.net>"))
        await first.step(EPOCHS, NOW + SECOND)
        second = SiteShaping(Settings(), engine)
        await second.step({shard_of(*PLACE): 2}, NOW + 5 * SECOND)
        wait = second.take(PLACE, NOW + 5 * SECOND)
        assert (wait.cause, wait.until) == ("site_suspended", NOW + 3600 * SECOND)
        assert second.blocked(PLACE, NOW + 5 * SECOND) == Wait(until=wait.until, cause=wait.cause, detail=wait.detail)
        assert "zen.spamhaus.org" in wait.detail
        (state,) = await engine.read(shaping.states)
        assert (state.signal_id, state.suspended_until, state.source, state.pool) == ("listed", wait.until, "default", "default")
        assert "ann@example.net" in state.signal_text

    run(make_engine, work)


def test_what_a_site_said_is_not_readable_on_disk(make_engine):
    """Replies may name people: only sealed they reach the disk."""

    async def work(engine):
        owner = SiteShaping(Settings(), engine)
        await owner.step(EPOCHS, NOW)
        transact(owner, later("too many connections for ann@example.net"))
        await owner.step(EPOCHS, NOW + SECOND)
        rows = await engine.read(lambda conn: conn.exec_driver_sql("SELECT * FROM flow_state").all())
        assert len(rows) == 1
        assert "ann@" not in str(rows)

    run(make_engine, work)


def test_a_shard_that_comes_back_is_read_again(make_engine):
    """Who lost a shard and got it again starts from what the owner between learned."""

    async def work(engine):
        first, second = SiteShaping(Settings(), engine), SiteShaping(Settings(), engine)
        await first.step(EPOCHS, NOW)
        transact(first, OK)
        await first.step({}, NOW + SECOND)
        assert first.take(PLACE, NOW + SECOND).cause == "starting"
        await second.step({shard_of(*PLACE): 2}, NOW + SECOND)
        transact(second, later("blocked using zen.spamhaus.org"), NOW + SECOND)
        await second.step({shard_of(*PLACE): 2}, NOW + 2 * SECOND)
        await first.step({shard_of(*PLACE): 3}, NOW + 3 * SECOND)
        assert first.take(PLACE, NOW + 3 * SECOND).cause == "site_suspended"

    run(make_engine, work)


def test_who_lost_a_shard_writes_nothing_about_it(make_engine):
    """A transaction that was still under way when the shard went does not overwrite what the new owner knows."""

    async def work(engine):
        first, second = SiteShaping(Settings(), engine), SiteShaping(Settings(), engine)
        await first.step(EPOCHS, NOW)
        under_way = first.take(PLACE, NOW)
        await first.step({}, NOW + SECOND)
        await second.step({shard_of(*PLACE): 2}, NOW + SECOND)
        transact(second, later("blocked using zen.spamhaus.org"), NOW + SECOND)
        await second.step({shard_of(*PLACE): 2}, NOW + 2 * SECOND)
        first.give_back(under_way, later("too many connections"), NOW + 2 * SECOND)
        await first.step({}, NOW + 9 * SECOND)
        await first.close(NOW + 10 * SECOND)
        (state,) = await engine.read(shaping.states)
        assert state.signal_id == "listed"

    run(make_engine, work)


def test_what_was_counted_and_not_sent_is_given_back_only_by_its_owner(make_engine):
    """A process that ends late, when another counts already, takes nothing off its count."""

    async def work(engine):
        settings = Settings(**POOLED)
        first, second = SiteShaping(settings, engine), SiteShaping(settings, engine)
        await first.step(EPOCHS, NOW)
        first.take(PLACE, NOW)
        await first.step(EPOCHS, NOW)
        await second.step({shard_of(*PLACE): 2}, NOW)
        second.take(PLACE, NOW)
        await second.step({shard_of(*PLACE): 2}, NOW)
        before = await engine.read(lambda conn: shaping.used(conn, [("new", "example.net")], NOW // DAY))
        await first.close(NOW + SECOND)
        assert (
            await engine.read(lambda conn: shaping.used(conn, [("new", "example.net")], NOW // DAY))
            == before
            == {("new", "example.net"): 20}
        )

    run(make_engine, work)


def test_an_operators_orders_are_followed_within_a_step(make_engine):
    """Suspended for everybody, for one source, with an end; resumed; other limits: the owner follows, the audit log tells."""

    async def work(engine):
        clock = FakeClock(NOW)
        settings = Settings(egress=Egress(connections_per_site=7))
        orders, owner = SiteOrders(engine, settings, clock), SiteShaping(settings, engine)
        await owner.step(EPOCHS, NOW)
        transact(owner, OK)
        await orders.suspend("example.net", "", None, "complaints", by=GATEWAY)
        await owner.step(EPOCHS, NOW)
        wait = owner.take(PLACE, NOW)
        assert (wait.cause, wait.detail) == ("site_suspended", "suspended by an operator until it is resumed: complaints")
        await orders.resume("example.net", "", by=GATEWAY)
        await owner.step(EPOCHS, NOW)
        assert transact(owner, OK).connections == 7
        await orders.suspend("*", "default", NOW + 60 * SECOND, "", by=GATEWAY)
        await owner.step(EPOCHS, NOW)
        assert owner.take(PLACE, NOW).until == NOW + 60 * SECOND
        await owner.step(EPOCHS, NOW + 60 * SECOND)
        assert isinstance(owner.take(PLACE, NOW + 60 * SECOND), Permit)
        await orders.limit("example.net", "", SiteLimits(connections=2, messages_per_connection=5), by=GATEWAY)
        await owner.step(EPOCHS, NOW + 61 * SECOND)
        permit = owner.take(PLACE, NOW + 61 * SECOND)
        assert (permit.connections, permit.messages_per_connection) == (2, 5)
        rows = await engine.read(lambda conn: audit.page(conn, audit.Wanted(tenant_id=None, is_gateway=True), 10, None, None))
        assert [row.action for row in rows] == ["site.limits_changed", "site.suspended", "site.resumed", "site.suspended"]

    run(make_engine, work)


def test_resuming_lifts_what_the_gateway_suspended(make_engine):
    """A person who knows better ends a suspension by signal; the next signal suspends again."""

    async def work(engine):
        clock = FakeClock(NOW)
        owner, orders = SiteShaping(Settings(), engine), SiteOrders(engine, Settings(), clock)
        await owner.step(EPOCHS, NOW)
        transact(owner, later("blocked using zen.spamhaus.org"))
        await owner.step(EPOCHS, NOW)
        clock.advance(5)
        await orders.resume("example.net", "", by=GATEWAY)
        await owner.step(EPOCHS, clock.now())
        transact(owner, later("blocked using zen.spamhaus.org", clock.now()), clock.now())
        await owner.step(EPOCHS, clock.now())
        assert owner.take(PLACE, clock.now()).cause == "site_suspended"
        standing = await orders.standing("example.net")
        assert [(flow.source, flow.cause) for flow in standing.flows] == [("default", "site_suspended")]

    run(make_engine, work)


def test_orders_about_nothing_are_refused(make_engine):
    """A source that does not exist, a name that no site can have, half a warm-up plan."""

    async def work(engine):
        orders = SiteOrders(engine, Settings(), FakeClock(NOW))
        with pytest.raises(Refused, match="validation"):
            await orders.suspend("example.net", "nobody", None, "", by=GATEWAY)
        with pytest.raises(Refused):
            await orders.standing("Not A Site")
        with pytest.raises(Refused, match="validation"):
            await orders.limit("example.net", "", SiteLimits(warm_up=[1]), by=GATEWAY)

    run(make_engine, work)


def test_a_warm_up_is_exact_over_a_day_and_a_clean_stop(make_engine):
    """A hundred go on the first day, over two processes, and two hundred on the second: not one more, not one less."""

    async def work(engine):
        settings = Settings(**POOLED)
        first = SiteShaping(settings, engine)
        await first.step(EPOCHS, NOW)
        sent = 0
        for second in range(4):
            count, wait = drain(first, NOW + second * SECOND)
            sent += count
            await first.step(EPOCHS, NOW + second * SECOND)
        await first.close(NOW + 5 * SECOND)
        assert wait.cause == "starting"
        second = SiteShaping(settings, engine)
        for step in range(60):
            await second.step(EPOCHS, NOW + (10 + step) * SECOND)
            count, wait = drain(second, NOW + (10 + step) * SECOND)
            sent += count
        assert (sent, wait.cause, wait.until) == (100, "warm_up_cap", NOW + DAY)
        assert second.blocked(PLACE, NOW + 80 * SECOND) is None
        for step in range(60):
            await second.step(EPOCHS, NOW + DAY + step * SECOND)
            sent += drain(second, NOW + DAY + step * SECOND)[0]
        assert sent == 300
        await second.step(EPOCHS, NOW + 2 * DAY)
        assert drain_some(second, NOW + 2 * DAY, 500) == 500

    run(make_engine, work)


def drain_some(owner, now, most):
    count = 0
    while count < most and isinstance(taken := owner.take(PLACE, now), Permit):
        owner.give_back(taken, OK, now)
        count += 1
    return count


def test_a_crash_in_a_warm_up_never_means_more(make_engine):
    """Messages are counted up before they go: a process that dies without a word costs the day a few, and adds none."""

    async def work(engine):
        settings = Settings(**POOLED)
        sent = 0
        for life in range(30):
            owner = SiteShaping(settings, engine)
            now = NOW + life * 10 * SECOND
            await owner.step(EPOCHS, now)
            assert owner.take(PLACE, now).cause in {"starting", "warm_up_cap"}
            await owner.step(EPOCHS, now + SECOND)
            sent += drain_some(owner, now + SECOND, 7)
        assert 60 <= sent <= 100

    run(make_engine, work)


def test_sources_take_turns_by_weight_and_the_free_one_helps_out(make_engine):
    """Three to one; while one has nothing left, the other takes all; what it had then is not made up for later."""

    async def work(engine):
        sources = {"a": SourceAddress(), "b": SourceAddress(shaping={"*": SiteLimits(connections=1)})}
        settings = Settings(sources=sources, pools={"default": SourcePool(sources=["a", "b"], weights={"a": 3})})
        owner = SiteShaping(settings, engine)
        await owner.step(EPOCHS, NOW)
        assert owner.slots(PLACE) == 11
        names = [transact(owner, OK).source.name for _ in range(40)]
        assert (names.count("a"), names.count("b")) == (30, 10)
        held = owner.take(PLACE, NOW)
        while held.source.name != "b":
            owner.give_back(held, OK, NOW)
            held = owner.take(PLACE, NOW)
        assert {transact(owner, OK).source.name for _ in range(40)} == {"a"}
        owner.give_back(held, OK, NOW)
        names = [transact(owner, OK).source.name for _ in range(8)]
        assert names.count("b") <= 3
        transact_all = [owner.take(PLACE, NOW) for _ in range(12)]
        assert isinstance(transact_all[-1], Wait)
        assert sum(isinstance(one, Permit) for one in transact_all) == 11

    run(make_engine, work)


def test_pools_have_budgets_apart(make_engine):
    """Two pools at the same site: each source has its own connections, and each pool its own owner."""

    async def work(engine):
        sources = {"a": SourceAddress(), "b": SourceAddress()}
        pools = {"one": SourcePool(sources=["a"], shaping={"*": SiteLimits(connections=2)}), "two": SourcePool(sources=["b"])}
        owner = SiteShaping(Settings(sources=sources, pools=pools), engine)
        await owner.step({shard_of("one", "example.net"): 1, shard_of("two", "example.net"): 1}, NOW)
        assert [owner.slots((pool, "example.net")) for pool in ("one", "two")] == [2, 10]
        assert owner.take(("one", "example.net"), NOW).source.name == "a"
        assert owner.take(("two", "example.net"), NOW).source.name == "b"

    run(make_engine, work)


def test_only_what_is_worth_knowing_is_written(make_engine):
    """Ten thousand sites that nothing holds back are a few hundred rows, not ten thousand."""

    async def work(engine):
        owner = SiteShaping(Settings(), engine)
        places = [("default", f"s{n}.example") for n in range(3_000)]
        epochs = dict.fromkeys(range(64), 1)
        await owner.step(epochs, NOW)
        for place in places:
            transact(owner, OK, NOW, place)
        transact(owner, later("too many connections"), NOW, ("default", "busy.example"))
        await owner.step(epochs, NOW + 4 * SECOND)
        states = await engine.read(shaping.states)
        assert len(states) == 201
        assert "busy.example" in {one.site for one in states}
        await owner.step(epochs, NOW + 700 * SECOND)
        assert len(owner._flows) <= 1

    run(make_engine, work)


def test_a_database_that_is_away_is_tried_again(make_engine):
    """What could not be written is written by the next step."""

    async def work(engine):
        owner = SiteShaping(Settings(), engine)
        await owner.step(EPOCHS, NOW)
        transact(owner, later("too many connections"))
        write, engine.write = engine.write, _away
        with pytest.raises(OSError, match="away"):
            await owner.step(EPOCHS, NOW + SECOND)
        engine.write = write
        await owner.step(EPOCHS, NOW + 2 * SECOND)
        assert len(await engine.read(shaping.states)) == 1

    run(make_engine, work)


async def _away(_work):
    raise OSError("away")
