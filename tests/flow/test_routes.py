"""Routes at accept: what a stored message says of its roads, who may ask for which, and codes that supersede one another."""

import asyncio
import dataclasses
import random

import pytest

from gatepost.accept import Acceptor
from gatepost.domain.access import GATEWAY, KeyMode, Restrictions, Scope, widened
from gatepost.domain.errors import Refused
from gatepost.domain.message import Steering
from gatepost.domain.routing import Choice
from gatepost.settings import Egress, Relay, RouteRule
from gatepost.store import facts, messages, queue, roads
from gatepost.store.blobs import LocalBlobs
from gatepost.tenants.road_control import RoadControl
from gatepost.tenants.routes import Asked, Routes
from gatepost.tenants.routing import Routing
from tests.flow.test_accept import RAW, House, raw, refusal, submission

RELAYS = {name: Relay(url=f"smtp://127.0.0.1:{port}", price_per_1000=price) for name, port, price in (("a", 1, 1.0), ("b", 2, 0.1))}


class Routed(House):
    """An acceptor with routing."""

    async def __aenter__(self):
        await super().__aenter__()
        self.routing = Routing(
            self.engine, self.directory, self.settings, self.clock, system_of={"known.example": "google"}.get, chance=random.Random(1)
        )
        await self.routing.refresh()
        self.acceptor = Acceptor(
            engine=self.engine, blobs=LocalBlobs(self.tmp_path / "blobs"), directory=self.directory, settings=self.settings, clock=self.clock,
            hostname="gw.example", routing=self.routing, system_of={"known.example": "google"}.get,
        )  # fmt: skip
        self.routes = Routes(self.engine, self.clock, self.settings)
        return self

    async def send(self, *to, caller=None, route=None, stream="transactional", **more):
        steering = Steering(route=route, stream=stream)
        accepted = await self.acceptor.submit(caller or self.caller, submission(*(to or ("ann@example.net",)), steering=steering, **more))
        return accepted.results[0].id

    async def actions(self):
        import sqlalchemy as sa

        return list(await self.engine.read(lambda conn: conn.execute(sa.text("SELECT action FROM audit ORDER BY seq")).scalars().all()))

    async def told(self, message_id):
        def read(conn):
            row = messages.get(conn, None, message_id)
            recipients = messages.recipients_of(conn, [message_id])[message_id]
            return (
                row.route,
                [one.route for one in recipients],
                [one.site for one in recipients],
                [(one.pool, one.site) for one in queue.of_message(conn, message_id)],
            )

        return await self.engine.read(read)


def go(make_engine, tmp_path, work, default="mx", **settings):
    async def main():
        async with Routed(make_engine, tmp_path, egress=Egress(default_route=default), relays=RELAYS, **settings) as house:
            await work(house)

    asyncio.run(main())


def test_recipients_of_one_message_go_their_own_ways(make_engine, tmp_path):
    """The message has one route, and who has another one says so; queue rows start on the first road of each."""

    async def work(house):
        await house.routes.create(Asked(name="partner", roads="a,b", match={"recipients": ["partner.example"]}), GATEWAY)
        await house.routing.refresh()
        route, others, sites, rows = await house.told(await house.send("x@known.example", "y@partner.example", "z@other.example"))
        assert (route, others) == ("mx", [None, "a,b", None])
        assert sites == ["google", "relay:a", "?other.example"]
        assert rows == [("default", "google"), ("default", "relay:a"), ("default", "?other.example")]

    go(make_engine, tmp_path, work)


def test_routes_of_the_settings_come_before_those_that_operators_make(make_engine, tmp_path):
    """And cannot be changed there; a change counts after a refresh."""

    async def work(house):
        await house.routes.create(Asked(name="mine", roads="b"), GATEWAY)
        await house.routing.refresh()
        assert (await house.told(await house.send()))[0] == "b"
        assert (await house.told(await house.send(stream="codes")))[0] == "a,mx"
        assert (await refusal(house.routes.change("fixed", {"roads": "mx"}, GATEWAY))).code == "conflict"
        assert [rule.name for rule in await house.routes.every()] == ["fixed", "mine"]

    go(make_engine, tmp_path, work, routes={"fixed": RouteRule(roads="a,mx", streams=["codes"])})


def test_changes_are_recorded_and_order_is_kept(make_engine, tmp_path):
    """Made, changed, ordered, removed: each has its entry, and refusals change nothing."""

    async def work(house):
        routes = house.routes
        first = await routes.create(Asked(name="one", roads=[Choice("a", 80), Choice("b", 20)], strategy="weighted"), GATEWAY)
        await routes.create(Asked(name="two", roads="mx", match={"senders": ["*.ACME.example"]}), GATEWAY)
        await routes.create(Asked(name="zero", roads="mx"), GATEWAY, is_first=True)
        assert [rule.name for rule in await routes.every()] == ["zero", "one", "two"]
        await routes.order(["two", first.id, "zero"], GATEWAY)
        assert [rule.name for rule in await routes.every()] == ["two", "one", "zero"]
        changed = await routes.change("two", {"match": {"streams": ["bulk"]}, "may_be_named": True}, GATEWAY)
        assert (changed.match.senders, changed.match.streams) == (("*.acme.example",), {"bulk"})
        await routes.remove("zero", GATEWAY)
        for asked, code in (
            (Asked(name="one", roads="a"), "conflict"), (Asked(name="x", roads="nowhere"), "validation_failed"),
            (Asked(name="a", roads="a"), "validation_failed"), (Asked(name="x y", roads="a"), "validation_failed"),
            (Asked(name="x", roads="a,a"), "validation_failed"), (Asked(name="x", roads="sandbox,a"), "validation_failed"),
            (Asked(name="x", roads="a", match={"recipients": ["not a domain"]}), "validation_failed"),
            (Asked(name="x", roads="a", match={"moon": ["full"]}), "validation_failed"),
        ):  # fmt: skip
            assert (await refusal(routes.create(asked, GATEWAY))).code == code, asked
        assert (await refusal(routes.order(["one"], GATEWAY))).code == "validation_failed"
        assert (await refusal(routes.remove("zero", GATEWAY))).code == "not_found"
        told = await house.actions()
        assert sorted(action for action in told if action.startswith("route")) == [
            "route.changed", "route.created", "route.created", "route.created", "route.removed", "routes.ordered",
        ]  # fmt: skip

    go(make_engine, tmp_path, work)


def test_a_message_asks_only_for_what_its_key_may_name(make_engine, tmp_path):
    """Routes that may be named, and the sandbox; roads only for operators; test keys never leave the sandbox."""

    async def work(house):
        await house.routes.create(Asked(name="open", roads="a,b", may_be_named=True, is_chosen=False), GATEWAY)
        await house.routes.create(
            Asked(name="others", roads="b", may_be_named=True, is_chosen=False, match={"tenants": ["somebody"]}), GATEWAY
        )
        await house.routes.create(Asked(name="closed", roads="b", is_chosen=False), GATEWAY)
        await house.routing.refresh()
        assert (await house.told(await house.send(route="open")))[0] == "a,b"
        assert (await house.told(await house.send(route="sandbox")))[0] == "sandbox"
        for route in ("others", "closed", "nothing", "a", "a,b", "mx"):
            refused = await refusal(house.send(route=route))
            assert [(fault.pointer, fault.code) for fault in refused.faults] == [("/route", "unknown_route")], route
        operator = dataclasses.replace(
            house.caller, principal=dataclasses.replace(house.caller.principal, scopes=widened(frozenset({Scope.ADMIN, Scope.OPERATOR})))
        )
        assert (await house.told(await house.send(route="b, mx", caller=operator)))[0] == "b,mx"
        assert (await house.told(await house.send(route="closed", caller=operator)))[0] == "b"
        assert (await refusal(house.send(route="nowhere", caller=operator))).code == "validation_failed"
        test = await house.new_caller(KeyMode.TEST)
        assert (await house.told(await house.send(route="open", caller=test)))[0] == "sandbox"
        assert Restrictions().scopes == {Scope.ADMIN}
        content = RAW.replace(b"Subject", b"X-Gatepost-Route: open\r\nSubject")
        accepted = await house.acceptor.submit_raw(house.caller, raw(content))
        assert (await house.told(accepted.id))[0] == "a,b"
        with pytest.raises(Refused):
            await house.acceptor.submit_raw(house.caller, raw(content.replace(b"open", b"closed")))

    go(make_engine, tmp_path, work)


def test_new_mail_does_not_begin_with_a_road_that_is_off(make_engine, tmp_path):
    """Switched off: it comes last; switched on: first again. The audit log tells of both."""

    async def work(house):
        control = RoadControl(house.engine, house.clock, house.settings)
        assert (await control.disable("a", "unpaid", GATEWAY)).state == "disabled"
        await house.routing.refresh()
        assert (await house.told(await house.send()))[0] == "b,mx,a"
        assert (await control.enable("a", GATEWAY)).state == "closed"
        await house.routing.refresh()
        assert (await house.told(await house.send()))[0] == "a,b,mx"
        assert (await refusal(control.disable("nowhere", "", GATEWAY))).code == "not_found"
        told = await house.actions()
        assert {"relay.disabled", "relay.enabled"} <= set(told)

    go(make_engine, tmp_path, work, default="a,b,mx")


def test_a_second_code_takes_another_road_and_supersedes_the_first(make_engine, tmp_path):
    """Within the window, from the same domain, to the same person: the first is cancelled with its event, the second goes by b."""

    async def work(house):
        first = await house.send("ann@example.net", "bob@example.net", stream="codes")
        house.clock.advance(60)
        second = await house.send("Ann@EXAMPLE.net", stream="codes")
        assert (await house.told(first))[0:2] == ("a,b", [None, None])
        route, others, sites, _ = await house.told(second)
        assert (route, others, sites) == ("a,b", ["b,a"], ["relay:b"])
        assert [row.n for row in await house.engine.read(lambda conn: queue.of_message(conn, first))] == [1]
        found = (await house.engine.read(lambda conn: messages.recipients_of(conn, [first])))[first]
        assert [(one.status, one.reason) for one in found] == [("cancelled", "superseded"), ("queued", None)]
        events = await house.engine.read(lambda conn: facts.events_of(conn, first))
        assert [(one.type, one.n, one.data) for one in events][1:] == [("message.cancelled", 0, {"reason": "superseded", "by": second})]
        third = await house.send("ann@example.net", stream="codes")
        assert (await house.told(third))[1] == [None], "the second went by b, so the third starts with a"

    go(make_engine, tmp_path, work, default="a,b")


def test_only_codes_of_the_same_sender_within_the_window_are_superseded(make_engine, tmp_path):
    """Other streams, other tenants' mail and old codes are left alone; a code that was delivered still changes the road."""

    async def work(house):
        plain = await house.send()
        code = await house.send(stream="codes")
        house.clock.advance(301)
        late = await house.send(stream="codes")
        assert (await house.told(late))[1] == [None]
        assert [len((await house.told(one))[3]) for one in (plain, code, late)] == [1, 1, 1]

    go(make_engine, tmp_path, work, default="a,b")


def test_codes_cost_other_lanes_nothing(make_engine, tmp_path):
    """A transaction without codes asks nothing about earlier ones."""

    async def work(house):
        asked = []
        from gatepost.store import codes

        real, codes.earlier = codes.earlier, lambda *args: asked.append(1) or real(*args)
        try:
            await house.send()
            assert asked == []
            await house.send(stream="codes")
            assert asked == [1]
        finally:
            codes.earlier = real

    go(make_engine, tmp_path, work, default="a,b")


def test_usage_is_counted_by_the_first_road(make_engine, tmp_path):
    """A message over two roads is one message; each road has its own recipients, and a route of several roads its first one's name."""

    async def work(house):
        from gatepost.store import usage

        await house.routes.create(Asked(name="partner", roads="b,a", match={"recipients": ["partner.example"]}), GATEWAY)
        await house.routing.refresh()
        await house.send("x@one.example", "y@partner.example", "z@partner.example")
        rows = await house.engine.read(lambda conn: usage.by_day(conn, "2000-01-01", "2100-01-01"))
        assert [(row.route, row.messages, row.recipients) for row in rows] == [("a", 1, 1), ("b", 0, 2)]

    go(make_engine, tmp_path, work, default="a,mx")


def test_a_roads_view_sums_up_sources_and_machines(make_engine, tmp_path):
    """mx is open only where every fresh source of every machine is; a relay has one row."""

    async def work(house):
        now = house.clock.now()
        row = {"since": now, "reason": "network", "retry_at": now + 9_000, "openings": 1, "score": 0, "counts": {}, "updated_at": now}
        rows = [
            {"road": "mx", "source": "one", "machine": "m1", "state": "open", **row},
            {"road": "mx", "source": "two", "machine": "m2", "state": "closed", **row, "score": 80, "reason": "", "retry_at": None},
            {"road": "a", "source": "", "machine": "", "state": "open", **row},
        ]
        await house.engine.write(lambda conn: roads.write(conn, rows))
        await house.engine.write(lambda conn: roads.write(conn, rows))
        views = await house.engine.read(lambda conn: roads.views(conn, now))
        assert (views["mx"].state, views["mx"].score, len(views["mx"].rows)) == ("closed", 80, 2)
        assert (views["a"].is_shut(now), views["a"].is_shut(now + 9_000)) == (True, False)
        stale = now + roads.FRESH_MS + 1
        assert (await house.engine.read(lambda conn: roads.views(conn, stale)))["mx"].state == "closed"

    go(make_engine, tmp_path, work)
