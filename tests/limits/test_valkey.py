"""Sliding limits counted by a real Valkey or Redis server, and what happens while it is away."""

import asyncio
import random
import shutil
import socket
import subprocess
import time

import pytest
import sqlalchemy as sa

from gatepost.clock import SystemClock
from gatepost.net.valkey import Need, Valkey, ValkeyAway
from gatepost.observe import maillog
from gatepost.policy.quota import EMPTY, Meter
from tests.limits.house import count_passed, play, refusal_of, wanted


class Server:
    """A server process on loopback that keeps nothing on disk."""

    def __init__(self):
        self.program = shutil.which("valkey-server") or shutil.which("redis-server")
        assert self.program, "a valkey-server or redis-server is needed"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def stop(self):
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def server():
    """A running server."""
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def database_url(request):
    """Only SQLite: what is counted here is not in the database, see test_reserving for that."""
    return ""


def play_with(server, make_engine, tmp_path, work, **settings):
    """Run a test with two nodes that share the server."""

    async def with_nodes(house):
        nodes = [await house.new_node(Valkey(server.url, 2.0)) for _ in range(2)]
        await work(house, nodes)

    play(make_engine, tmp_path, with_nodes, **settings)


def test_two_processes_are_exact_to_the_last_one(server, make_engine, tmp_path):
    """600 requests race for 500 over two processes: exactly 500 pass at once, without a transaction for any of them."""

    async def work(house, nodes):
        who = house.caller("messages=500/hour", "bytes=1000000/minute")
        passed, codes = await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(300) for node in nodes)
        assert (passed, codes) == (500, {"rate_limited"})
        refused = await refusal_of(nodes[0].limits.reserve(who, [wanted()]))
        assert refused.retry_after_s == 8
        house.clock.advance(7.3)
        assert (await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(5) for node in nodes))[0] == 1

        assert (await house.engine.read(lambda conn: conn.execute(sa.text("SELECT count(*) FROM quota")).scalar_one())) == 0

    play_with(server, make_engine, tmp_path, work)


def test_the_script_and_the_house_agree(server):
    """The server's arithmetic is the one of policy.gcra: same waits, same refusals, over a thousand random steps."""

    async def run():
        valkey, chance, now = Valkey(server.url, 2.0), random.Random(7), SystemClock().now()
        meter = Meter(per=None, amount=37, window_ms=60_000)
        level = EMPTY
        for _ in range(1000):
            now += chance.choice((0, 1, 17, 1000, 1621, 1622, 9000, -5))
            count = chance.choice((1, 1, 2, 5, -1))
            fits = count < 0 or meter.wait_ms(level, count, now) == 0
            reading = await valkey.take([Need("k", 37, 60_000, count)], now)
            assert (reading.full is None) == fits
            if fits:
                level = meter.taken(level, count, now)
            assert abs(reading.levels[0][0] * 60_000 - meter.taken(level, 0, now).filled) < 1
        await valkey.close()

    asyncio.run(run())


def test_cancelled_reservations_go_back_to_the_server(server, make_engine, tmp_path):
    """What one process gives back another can take."""

    async def work(house, nodes):
        who = house.caller("messages=3/hour")
        taken = await nodes[0].limits.reserve(who, [wanted()] * 3)
        assert await refusal_of(nodes[1].limits.reserve(who, [wanted()])) is not None
        await taken.cancel()
        await nodes[0].limits._shared.close()
        house.clock.advance(0.2)
        await nodes[1].limits.reserve(who, [wanted()] * 3)

    play_with(server, make_engine, tmp_path, work)


def test_a_server_that_is_away_makes_nothing_unlimited_and_is_used_again_when_back(server, make_engine, tmp_path, capsys):
    """The database counts meanwhile: one more burst at most in all, and every process still keeps to the limit by itself."""

    maillog.configure(level="warning", mask_addresses=True, process="test")

    async def work(house, nodes):
        who = house.caller("messages=10/hour", "messages=1000/day")
        passed, _ = await count_passed(nodes[0].limits.reserve(who, [wanted()]) for _ in range(6))
        assert passed == 6
        server.stop()
        assert (await count_passed(nodes[0].limits.reserve(who, [wanted()]) for _ in range(20)))[0] == 4
        assert (await count_passed(nodes[1].limits.reserve(who, [wanted()]) for _ in range(20)))[0] <= 6
        assert "valkey is away" in capsys.readouterr().err
        server.start()
        house.clock.advance(2)
        for node in nodes:
            await node.limits.step()
        assert not any(node.limits._shared._is_away for node in nodes)
        other = house.caller("messages=4/hour", key_id="key_b")
        assert (await count_passed(node.limits.reserve(other, [wanted()]) for _ in range(9) for node in nodes))[0] == 4

    play_with(server, make_engine, tmp_path, work)


def test_days_and_months_are_in_the_database_whatever_becomes_of_the_server(server, make_engine, tmp_path):
    """A server that forgets everything forgets no quota."""

    async def work(house, nodes):
        who = house.caller("messages=5/day", "messages=100/minute")
        assert (await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(2) for node in nodes))[0] == 4
        server.stop()
        server.start()
        assert (await count_passed(node.limits.reserve(who, [wanted()]) for _ in range(5) for node in nodes))[0] == 1

    play_with(server, make_engine, tmp_path, work)


def test_what_is_left_is_read_from_the_server(server, make_engine, tmp_path):
    """`GET /v1/limits` at one process knows what another one gave out."""

    async def work(house, nodes):
        who = house.caller("messages=10/minute", "recipients=20/day")
        for node in nodes:
            await node.limits.reserve(who, [wanted(2)])
        left = {one.limit.resource: one.remaining for one in await nodes[0].limits.remaining(who, [])}
        assert left == {"messages": 8, "recipients": 16}

    play_with(server, make_engine, tmp_path, work)


def test_a_silent_server_is_given_up_in_time():
    """A server that takes connections and says nothing counts as away."""

    async def run():
        async def keep(reader, writer):
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(keep, "127.0.0.1", 0)
        valkey = Valkey(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}", 0.05)
        with pytest.raises(ValkeyAway):
            await valkey.take([Need("k", 1, 1000, 1)], 0)
        await valkey.close()
        silent.close()

    asyncio.run(run())


def test_a_wrong_url_is_refused_at_the_start():
    """Only schemes that name such a server."""
    with pytest.raises(ValueError):
        Valkey("http://127.0.0.1", 1.0)
