"""Failover in the queue runner: couriers that do as they are told, and real SMTP peers that die."""

import asyncio
import random
from collections import Counter

from gatepost.clock import SystemClock
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.dispatch.roads import WatchedRoads
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.route import shard_of
from gatepost.egress.courier import Probe
from gatepost.egress.smtp.courier import SmtpCourier
from gatepost.net.dial import SocketDialer
from gatepost.settings import Relay, Retry, Routing, Settings
from gatepost.store import facts, messages, queue, roads
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.scripted_peer import DROP, ScriptedPeer
from tests.flow.test_dispatcher import Unsigned
from tests.store.rows import NOW, put_message


class Told:
    """A courier that answers what it is told."""

    def __init__(self, clock, name, says="delivered", probe=True):
        self.clock, self.name, self.says, self.probe_is_good = clock, name, says, probe
        self.handed = Counter()
        self.probes = 0

    async def deliver(self, batch):
        exchange = Exchange(route=batch.route, started_at=self.clock.now(), finished_at=self.clock.now(), host=self.name)
        outcomes = {}
        for one in batch.recipients:
            self.handed[batch.message_id, one.n] += 1
            says = self.says(one) if callable(self.says) else self.says
            outcomes[one.n] = outcome_of(says, exchange)
        return outcomes

    async def probe(self):
        self.probes += 1
        return Probe(is_reachable=self.probe_is_good, is_authenticated=None, latency_ms=1)

    async def close(self):
        pass


def outcome_of(says, exchange):
    match says:
        case "delivered":
            return Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"))
        case "down":
            return Deferred(exchange=exchange, category=Category.NETWORK, detail="connection refused")
        case "denied":
            return Failed(
                exchange=exchange, category=Category.RELAY_DENIED, detail="no", reply=Reply(code=554, enhanced="5.7.1", text="relay denied")
            )
        case "unknown user":
            return Failed(
                exchange=exchange, category=Category.INVALID_RECIPIENT, detail="no", reply=Reply(code=550, enhanced="5.1.1", text="no")
            )
        case "grey":
            return Deferred(
                exchange=exchange,
                category=Category.RATE_LIMITED,
                detail="greylisted",
                reply=Reply(code=451, enhanced="4.7.1", text="greylisted"),
            )
        case "unknown":
            return Unknown(exchange=exchange, detail="broke after the dot")
    raise AssertionError(says)


class House:
    def __init__(self, make_engine, tmp_path, couriers=("a", "b"), **routing):
        self.clock = FakeClock(NOW)
        self.make_engine, self.tmp_path, self.routing = make_engine, tmp_path, Routing(**routing)
        self.couriers = {name: Told(self.clock, name) for name in (*couriers, "mx")}

    async def __aenter__(self):
        self.engine = self.make_engine()
        await open_store(self.engine, self.clock)
        self.start()
        return self

    async def __aexit__(self, *_):
        await self.roads.close()
        await self.engine.close()

    def start(self, name="node_a"):
        settings = Settings(retry=Retry(schedule=[60, 300], jitter=0), routing=self.routing)
        self.ownership = Ownership(self.engine, self.clock, name, "host", 1, lease_s=15)
        self.roads = WatchedRoads(self.engine, settings, self.clock, self.couriers, machine="host")
        self.dispatcher = Dispatcher(
            engine=self.engine, blobs=LocalBlobs(self.tmp_path / "blobs"), signing=Unsigned(), couriers=self.couriers, settings=settings,
            clock=self.clock, ownership=self.ownership, chance=random.Random(1), roads=self.roads,
        )  # fmt: skip

    async def put(self, route="a,b", **more):
        more = {"due_at": self.clock.now(), **more}
        rows = await self.engine.write(lambda conn: put_message(conn, route=route, **more))
        return rows[0].message_id

    async def run(self, steps=6):
        for _ in range(steps):
            await self.dispatcher.step()
            await self.dispatcher.finish()

    async def advance(self, seconds):
        """Let time pass; leases must be renewed on the way."""
        self.clock.advance(seconds)
        await self.run()

    async def statuses(self):
        return await self.engine.read(lambda conn: messages.counts_by_status(conn, None))

    async def attempts(self, message_id):
        found = await self.engine.read(lambda conn: facts.attempts_of(conn, message_id))
        return [(row.route, row.outcome) for row in found]

    async def site(self, message_id):
        return (await self.engine.read(lambda conn: messages.recipients_of(conn, [message_id])))[message_id][0].site

    async def events(self, kind=None):
        import sqlalchemy as sa

        from gatepost.store.schema import event

        found = await self.engine.read(lambda conn: facts.opened_events(conn, sa.select(event).order_by(event.c.id)))
        return [(row.type, row.data) for row in found if kind is None or row.type == kind]


def go(make_engine, tmp_path, work, **options):
    async def main():
        async with House(make_engine, tmp_path, **options) as house:
            await work(house)

    asyncio.run(main())


def test_a_dead_road_is_left_at_once(make_engine, tmp_path):
    """a is down: b delivers without any wait, and events, recipient and attempts tell of it."""

    async def work(house):
        house.couriers["a"].says = "down"
        message_id = await house.put()
        await house.run()
        assert await house.statuses() == {"delivered": 1}
        assert await house.attempts(message_id) == [("a", "deferred"), ("b", "delivered")]
        assert await house.site(message_id) == "relay:b"
        (deferred,) = await house.events("recipient.deferred")
        assert (deferred[1]["next_road"], deferred[1]["cause"], deferred[1]["next_attempt_at"]) == ("b", "network", NOW)

    go(make_engine, tmp_path, work)


def test_a_refused_recipient_is_never_asked_for_elsewhere(make_engine, tmp_path):
    """a says that there is no such user: it bounces, and b never hears of it."""

    async def work(house):
        house.couriers["a"].says = "unknown user"
        await house.put()
        await house.run()
        assert await house.statuses() == {"bounced": 1}
        assert not house.couriers["b"].handed

    go(make_engine, tmp_path, work)


def test_what_may_be_delivered_stays_on_its_road(make_engine, tmp_path):
    """a breaks after the dot, then is down: b gets nothing until unsure_attempts, and then the event says that it may be a duplicate."""

    async def work(house):
        house.couriers["a"].says = "unknown"
        message_id = await house.put()
        await house.run()
        house.couriers["a"].says = "down"
        await house.advance(61)
        await house.advance(301)
        assert await house.attempts(message_id) == [("a", "unknown"), ("a", "deferred"), ("a", "deferred")]
        assert not house.couriers["b"].handed
        await house.advance(301)
        assert (await house.attempts(message_id))[-1] == ("b", "delivered")
        assert (await house.events("recipient.deferred"))[-1][1]["possible_duplicate"] is True

    go(make_engine, tmp_path, work, unsure_attempts=4)


def test_when_all_roads_are_down_it_waits_by_the_schedule_and_begins_anew(make_engine, tmp_path):
    """One attempt on each road, then the schedule's first wait, then a again."""

    async def work(house):
        house.couriers["a"].says = house.couriers["b"].says = "down"
        message_id = await house.put()
        await house.run()
        assert await house.attempts(message_id) == [("a", "deferred"), ("b", "deferred")]
        (row,) = await house.engine.read(lambda conn: queue.of_message(conn, message_id))
        assert (row.due_at, row.retries, row.tried, row.site) == (NOW + 60_000, 1, 0, "relay:a")
        assert await house.site(message_id) == "relay:a"
        house.couriers["a"].says = "delivered"
        await house.advance(61)
        assert (await house.attempts(message_id))[-1] == ("a", "delivered")

    go(make_engine, tmp_path, work)


def test_relays_that_all_deny_us_bounce(make_engine, tmp_path):
    """5xx about us from one relay goes to the next; from the last one it is the end."""

    async def work(house):
        house.couriers["a"].says = house.couriers["b"].says = "denied"
        message_id = await house.put()
        await house.run()
        assert await house.statuses() == {"bounced": 1}
        assert await house.attempts(message_id) == [("a", "failed"), ("b", "failed")]

    go(make_engine, tmp_path, work)


def test_greylisting_waits_on_its_road_until_patience_ends(make_engine, tmp_path):
    """Two attempts on the same road, after the third the next one."""

    async def work(house):
        house.couriers["mx"].says = "grey"
        message_id = await house.put("mx,b")
        await house.run()
        assert await house.attempts(message_id) == [("mx", "deferred")]
        await house.advance(61)
        assert not house.couriers["b"].handed
        await house.advance(301)
        assert (await house.attempts(message_id))[-2:] == [("mx", "deferred"), ("b", "delivered")]

    go(make_engine, tmp_path, work)


def test_a_breaker_opens_keeps_mail_away_and_closes_after_a_probe(make_engine, tmp_path):
    """Five failures: the road is not tried any more, mail takes the other one; a good probe opens it, with its two events."""

    async def work(house):
        a, b = house.couriers["a"], house.couriers["b"]
        a.says, a.probe_is_good = "down", False
        for _ in range(5):
            await house.put()
        await house.run()
        tried = sum(a.handed.values())
        await house.put()
        await house.run()
        assert sum(a.handed.values()) == tried == 5
        assert sum(b.handed.values()) == 6
        await house.advance(1)
        view = await house.engine.read(lambda conn: roads.view(conn, "a", house.clock.now()))
        assert (view.state, view.score, view.reason) == ("open", 0, "network: 5 failures in a row")
        assert [data["relay"] for _, data in await house.events("relay.unhealthy")] == ["a"]
        await house.advance(10)
        await house.advance(1)
        assert a.probes == 1
        a.says, a.probe_is_good = "delivered", True
        await house.advance(21)
        await house.advance(1)
        assert a.probes == 2
        await house.advance(1)
        assert len(await house.events("relay.recovered")) == 1
        message_id = await house.put()
        await house.run()
        assert await house.attempts(message_id) == [("a", "delivered")]

    go(make_engine, tmp_path, work)


def test_without_another_road_mail_waits_and_uses_up_no_attempt(make_engine, tmp_path):
    """Its breaker is open: nothing is tried until then, and one message tries it first."""

    async def work(house):
        a = house.couriers["a"]
        a.says, a.probe_is_good = "down", False
        for _ in range(5):
            await house.put("a")
        await house.run()
        waiting = await house.put("a")
        await house.run()
        assert await house.attempts(waiting) == []
        wait = house.roads.blocked(next(iter(_roads("a"))), house.clock.now())
        assert (wait.cause, wait.until) == ("breaker_open", NOW + 10_000)
        a.says = "delivered"
        a.probe_is_good = True
        await house.advance(11)
        await house.advance(1)
        await asyncio.sleep(1.1)  # the loop's own timer looks again each second
        await house.run()
        assert await house.attempts(waiting) == [("a", "delivered")]

    go(make_engine, tmp_path, work)


def _roads(text):
    from gatepost.domain.route import roads_of

    return roads_of(text)


def test_the_state_of_a_road_outlives_the_process(make_engine, tmp_path):
    """A new process finds the breaker open, and tries nothing before its time."""

    async def work(house):
        a = house.couriers["a"]
        a.says, a.probe_is_good = "down", False
        for _ in range(5):
            await house.put()
        await house.run()
        await house.advance(1)
        await house.ownership.release()
        tried = sum(a.handed.values())
        house.start("node_b")
        await house.put()
        await house.run()
        assert sum(a.handed.values()) == tried
        assert await house.statuses() == {"delivered": 6}

    go(make_engine, tmp_path, work)


def test_a_road_that_a_person_switched_off_gets_nothing(make_engine, tmp_path):
    """Mail turns to the next road without an attempt; switched on again, it is used."""

    async def work(house):
        await house.engine.write(lambda conn: roads.disable(conn, "a", NOW, "invoice not paid"))
        await house.run()
        first = await house.put()
        await house.run()
        assert await house.attempts(first) == [("b", "delivered")]
        assert await house.site(first) == "relay:b"
        await house.engine.write(lambda conn: roads.enable(conn, "a"))
        await house.advance(2)
        second = await house.put()
        await house.run()
        assert await house.attempts(second) == [("a", "delivered")]

    go(make_engine, tmp_path, work)


def test_mail_with_one_road_does_not_stand_in_the_way_of_mail_with_two(make_engine, tmp_path):
    """Six hundred messages wait for a relay that is switched off; one behind them that may take another road takes it."""

    async def work(house):
        await house.engine.write(lambda conn: roads.disable(conn, "a", NOW, ""))
        await house.engine.write(lambda conn: [put_message(conn, route="a") for _ in range(600)])
        behind = await house.put("a,b", due_at=NOW + 1)
        house.clock.advance(1)
        for _ in range(40):
            await house.run(4)
            house.clock.advance(250)
            await asyncio.sleep(0.11)
            if await house.attempts(behind):
                break
        assert await house.attempts(behind) == [("b", "delivered")]
        assert (await house.statuses())["queued"] == 600

    go(make_engine, tmp_path, work)


def test_recipients_may_have_routes_of_their_own(make_engine, tmp_path):
    """One message, two recipients, two routes: each fails over along its own."""

    async def work(house):
        house.couriers["a"].says = house.couriers["mx"].says = "down"
        message_id = await house.put("a,b", domains=("one.example", "two.example"))

        def reroute(conn):
            import sqlalchemy as sa

            from gatepost.store.schema import recipient

            conn.execute(sa.update(recipient).where(recipient.c.n == 1).values(route="mx,c"))
            rows = [row for row in queue.of_message(conn, message_id) if row.n == 1]
            queue.delete(conn, rows)
            queue.insert(conn, [{**row._asdict(), "site": "two.example", "shard": shard_of("default", "two.example")} for row in rows])

        await house.engine.write(reroute)
        await house.run()
        assert await house.statuses() == {"delivered": 2}
        assert house.couriers["b"].handed == {(message_id, 0): 1}
        assert house.couriers["c"].handed == {(message_id, 1): 1}

    go(make_engine, tmp_path, work, couriers=("a", "b", "c"))


def test_every_recipient_ends_once_whatever_roads_do(make_engine, tmp_path):
    """Random answers of four roads: one terminal state for everybody, and twice delivered only where an unsure attempt was counted."""

    async def work(house):
        chance = random.Random(3)
        kinds = ["delivered", "down", "denied", "unknown user", "grey", "unknown"]
        really = Counter()

        def says(name):
            def answer(one):
                kind = chance.choice(kinds)
                really[one.address] += kind == "delivered" or (kind == "unknown" and chance.random() < 0.5)
                return kind

            return answer

        for name, courier in house.couriers.items():
            courier.says = says(name)
        routes = ["a,b", "b,a,mx", "mx,a", "a", "c,b,a"]
        ids = [await house.put(chance.choice(routes), domains=(f"d{n}.example",), expires_at=NOW + 3_600_000) for n in range(25)]
        for _ in range(20):
            await house.run(3)
            house.clock.advance(10)
            await house.dispatcher.step()
            house.clock.advance(90)
        await asyncio.sleep(1.05)
        house.clock.advance(3_600)
        for _ in range(3):
            await house.run(6)
            await asyncio.sleep(1.05)
        assert set(await house.statuses()) <= {"delivered", "bounced", "expired"}
        assert (await house.engine.read(lambda conn: queue.depth(conn, house.clock.now())))[0] == 0
        for n, message_id in enumerate(ids):
            tried = await house.attempts(message_id)
            good = [route for route, outcome in tried if outcome == "delivered"]
            unsure = [route for route, outcome in tried if outcome == "unknown"]
            assert len(good) <= 1
            assert really[f"user0@d{n}.example"] <= 1 + len(unsure)

    go(make_engine, tmp_path, work, couriers=("a", "b", "c"))


def real(name, peer):
    """An SMTP courier to a loopback peer."""
    return SmtpCourier(
        route=name, settings=Settings(), relay=Relay(url=f"smtp://127.0.0.1:{peer.port}"), resolver=FakeResolver(), dialer=SocketDialer(), clock=SystemClock(),
        hostname="gw.acme.example",
    )  # fmt: skip


def test_real_relays_die_one_after_the_other(make_engine, tmp_path):
    """Three real SMTP peers, the first two die under load: nothing is lost, nobody gets it twice but for counted unknowns."""

    async def main():
        async with House(make_engine, tmp_path, couriers=("a", "b", "c")) as house:
            peers = {name: ScriptedPeer() for name in "abc"}
            for name, peer in peers.items():
                await peer.start()
                house.couriers[name] = real(name, peer)
            total = 0
            for dead in ("", "a", "b"):
                await house.engine.write(
                    lambda conn: [put_message(conn, route="a,b,c", domains=("x.example",), due_at=house.clock.now()) for _ in range(60)]
                )
                total += 60
                steps = asyncio.ensure_future(house.run(3))
                await asyncio.sleep(0.03)
                if dead:
                    await peers[dead].stop()
                await steps
                await house.run(12)
            for _ in range(8):
                await house.advance(61)
            statuses = await house.statuses()
            got = sum(len(peer.messages) for peer in peers.values())
            unknown = sum(
                1 for _, data in await house.events("recipient.deferred") if data.get("possible_duplicate")
            )  # fmt: skip
            assert sum(statuses.values()) == total
            assert set(statuses) <= {"sent", "deferred"}
            assert statuses["sent"] >= total - unknown
            assert got <= total + unknown
            for courier in house.couriers.values():
                await courier.close()
            await peers["c"].stop()

    asyncio.run(main())


def test_a_break_after_the_dot_stays_on_its_relay(make_engine, tmp_path):
    """A real peer takes the content and drops the connection: the other relay is never asked."""

    async def main():
        async with House(make_engine, tmp_path) as house, ScriptedPeer({".": [DROP, "250 ok"]}) as first, ScriptedPeer() as second:
            for name, peer in (("a", first), ("b", second)):
                house.couriers[name] = real(name, peer)
            message_id = await house.put()
            await house.run()
            await house.advance(61)
            assert await house.attempts(message_id) == [("a", "unknown"), ("a", "delivered")]
            assert second.messages == []
            for courier in house.couriers.values():
                await courier.close()

    asyncio.run(main())
