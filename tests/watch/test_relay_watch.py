"""The relay watcher over both databases, with a real SMTP peer, real TLS and a real status page on loopback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.domain.errors import Refused
from gatepost.egress.courier import Probe
from gatepost.net.http_client import HttpClient
from gatepost.net.peer_certificate import certificate_end
from gatepost.observe import metrics
from gatepost.settings import Relay, Settings, Watch
from gatepost.store import health
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store
from gatepost.testing.batches import make_courier
from gatepost.testing.certificates import make_certificates
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.scripted_peer import ScriptedPeer
from gatepost.watch import relay_reports
from gatepost.watch.relays import RelayWatch
from gatepost.wire.statuspage import NotAStatusPage, parse_summary

SUMMARY: dict[str, Any] = {
    "page": {"id": "x", "name": "Provider"},
    "status": {"indicator": "major", "description": "Partial outage"},
    "incidents": [{"name": "Delays in\u0007 Europe", "status": "investigating"}, {"name": "Old", "status": "resolved"}],
    "components": [{"name": "SMTP", "status": "partial_outage"}, {"name": "API", "status": "operational"}],
}


class Prober:
    """A courier whose probe says what it is told."""

    def __init__(self, *, is_good: bool = True, latency_ms: int = 20, **more: Any) -> None:
        self.probe_ = Probe(is_reachable=is_good, is_authenticated=None, latency_ms=latency_ms, **more)
        self.count = 0

    def turn(self, *, is_good: bool, detail: str = "") -> None:
        self.probe_ = Probe(is_reachable=is_good, is_authenticated=None, latency_ms=20, detail=detail)

    async def probe(self) -> Probe:
        self.count += 1
        return self.probe_


@pytest.fixture
def run(make_engine: Callable[[], Engine]) -> Callable[..., None]:
    """Run a check on each database engine."""

    def run_one(check: Callable[[Engine, FakeClock], Any]) -> None:
        async def main() -> None:
            engine, clock = make_engine(), FakeClock()
            await open_store(engine, clock)
            await check(engine, clock)
            await engine.close()

        asyncio.run(main())

    return run_one


def settings(*relays: str, **watch: Any) -> Settings:
    return Settings(relays={name: Relay(url="smtp://127.0.0.1:2525") for name in relays}, watch=Watch(**watch))


@contextlib.asynccontextmanager
async def status_page(body: dict[str, Any] | bytes, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve one page over HTTP."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(text)) + text)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def statuses(found: relay_reports.RelayReport) -> dict[str, str]:
    return {check.id: check.status.value for check in found.checks}


def test_several_processes_probe_once_and_another_takes_over(run) -> None:
    """The task has one owner; when it is silent for three rounds, the next one probes."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        first, second = Prober(), Prober()
        options = settings("main")
        watches = [RelayWatch(engine, clock, {"main": one}, options, None, name) for name, one in (("a", first), ("b", second))]
        for _ in range(3):
            for watch in watches:
                await watch.step()
            clock.advance(60)
        assert (first.count, second.count) == (3, 0)
        clock.advance(180)
        await watches[1].step()
        assert second.count == 1

    run(check)


def test_probes_alone_show_a_relay_that_went_down(run) -> None:
    """Without any mail: the probe fails, since when is kept, the budget burns, and both end with the trouble."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        prober, options = Prober(), settings("main")
        watch = RelayWatch(engine, clock, {"main": prober}, options, None, "a")
        for _ in range(50):
            await watch.step()
            clock.advance(60)
        found = await relay_reports.read(engine, clock, options, "main")
        assert statuses(found) == {
            "relay_probe": "ok", "relay_success": "ok", "relay_latency": "ok", "relay_certificate": "not_applicable",
            "relay_quota": "not_applicable", "relay_provider": "not_applicable",
        }  # fmt: skip
        prober.turn(is_good=False, detail="connection refused")
        began = clock.now()
        for _ in range(10):
            await watch.step()
            clock.advance(60)
        found = await relay_reports.read(engine, clock, options, "main")
        assert found.failing_since == began
        assert (statuses(found)["relay_probe"], statuses(found)["relay_success"]) == ("failed", "failed")
        assert found.checks[0].detail == "connection refused"
        row = (await engine.read(health.relays))["main"]
        assert (row.is_ok, row.failing_since) == (False, began)
        prober.turn(is_good=True)
        await watch.step()
        found = await relay_reports.read(engine, clock, options, "main")
        assert (found.failing_since, statuses(found)["relay_probe"]) == (None, "ok")
        clock.advance(HOUR / 1000)
        assert statuses(await relay_reports.read(engine, clock, options, "main"))["relay_probe"] == "unknown"

    run(check)


def test_what_became_of_mail_counts_by_whose_fault_it_was(run) -> None:
    """An unknown recipient is not the relay's fault; a network failure and a broken connection are. Each process counts for itself."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        options = settings("counted", relays_every_s=60)
        watch = RelayWatch(engine, clock, {}, options, None, "a")
        await watch.step()
        for outcome, category, count in (
            ("delivered", "", 90), ("failed", "invalid_recipient", 5), ("deferred", "network", 3), ("unknown", "", 2),
        ):  # fmt: skip
            metrics.attempts.labels("counted", outcome, category).inc(count)
        for seconds in [0.1] * 95 + [30.0] * 5:
            metrics.attempt_seconds.labels("counted").observe(seconds)
        metrics.attempts.labels("mx", "delivered", "").inc(7)
        clock.advance(60)
        await watch.step()
        minute = clock.now() // MINUTE
        expected = [health.Minute(relay="counted", minute=minute, attempts=100, failed=5, slow=5)]
        assert await engine.read(lambda conn: health.minutes(conn, 0)) == expected
        clock.advance(60)
        await watch.step()
        assert await engine.read(lambda conn: health.minutes(conn, 0)) == expected
        found = await relay_reports.read(engine, clock, options, "counted")
        success = next(one for one in found.objectives if one.name == "success")
        assert success.good_share == pytest.approx(0.95)
        assert success.burns[0].long_rate == pytest.approx(5.0)

    run(check)


def test_a_status_page_is_read_seldom_and_believed_within_bounds(run) -> None:
    """What the provider says of itself stands beside what we see; its page is asked every five minutes, not at each probe."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        async with status_page(SUMMARY) as (url, asked):
            options = Settings(relays={"main": Relay(url="smtp://127.0.0.1:2525", status_url=url)})
            pages = HttpClient(timeout_s=5)
            watch = RelayWatch(engine, clock, {"main": Prober()}, options, pages, "a")
            for _ in range(4):
                await watch.step()
                clock.advance(60)
            assert asked == ["GET /api/v2/summary.json HTTP/1.1"]
            found = await relay_reports.read(engine, clock, options, "main")
            told = next(one for one in found.checks if one.id == "relay_provider")
            assert (told.status, told.detail) == ("failed", "Partial outage; Delays in  Europe")
            clock.advance(120)
            await watch.step()
            assert len(asked) == 2
            await pages.close()

    run(check)


def test_a_page_that_is_none_is_no_trouble_of_the_relay(run) -> None:
    """A login page, or nobody: the check is unknown, and the probe counts as before."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        async with status_page(b"<html>hello</html>") as (url, _):
            pages = HttpClient(timeout_s=5)
            for address in (url, "http://127.0.0.1:1"):
                options = Settings(relays={"main": Relay(url="smtp://127.0.0.1:2525", status_url=address)})
                await RelayWatch(engine, clock, {"main": Prober()}, options, pages, "a").step()
                found = statuses(await relay_reports.read(engine, clock, options, "main"))
                assert (found["relay_provider"], found["relay_probe"]) == ("unknown", "ok")
            await pages.close()

    run(check)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"status": {"indicator": "fine"}}', b'{"status": []}', b"[" * 100_000, b'{"status": {"indicator": 1}}']
)
def test_other_pages_are_refused(body: bytes) -> None:
    """Whatever a stranger's server answers, nothing but a summary is read."""
    with pytest.raises(NotAStatusPage):
        parse_summary(body)


def test_a_summary_is_cut_to_what_is_shown() -> None:
    """Long lists and texts of strangers are bounded, control characters gone."""
    many = [{"name": "x\n" * 400, "status": "investigating"}] * 100
    found = parse_summary(json.dumps({"status": {"indicator": "minor", "description": "d"}, "incidents": many}).encode())
    assert len(found.incidents) == 5
    assert all(len(one) == 200 and one.isprintable() for one in found.incidents)


def test_a_real_relay_is_probed_and_its_certificate_read(run, tmp_path: Path) -> None:
    """The SMTP courier's own probe over TLS; the end of the certificate is known in time, though it is not trusted."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        certificates = make_certificates(tmp_path)
        async with ScriptedPeer(tls=certificates.server) as peer:
            url = f"smtp://127.0.0.1:{peer.port}"
            options, courier = Settings(relays={"main": Relay(url=url)}), make_courier(url)
            await RelayWatch(engine, clock, {"main": courier}, options, None, "a").step()
            await courier.close()
        assert peer.messages == []
        found = await relay_reports.read(engine, clock, options, "main")
        assert found.probe is not None
        assert found.probe["tls"].startswith("TLS")
        assert statuses(found)["relay_probe"] == "ok"
        assert found.certificate is not None
        assert found.certificate["expires_at"] > clock.now() - 2 * DAY
        assert next(one for one in found.checks if one.id == "relay_certificate").detail.startswith("127.0.0.1's")

    run(check)


def test_the_certificate_of_a_server_that_is_none_cannot_be_read(tmp_path: Path) -> None:
    """No STARTTLS, no TLS, nobody there: an error in words, never a wait without end."""

    async def main() -> None:
        async with ScriptedPeer(is_implicit_tls=True, tls=make_certificates(tmp_path).server) as peer:
            assert await certificate_end("127.0.0.1", peer.port, "localhost", is_smtp=False, timeout_s=5) > 0
        async with ScriptedPeer({"STARTTLS": "454 not now"}) as peer:
            with pytest.raises(OSError, match="454 not now"):
                await certificate_end("127.0.0.1", peer.port, "localhost", is_smtp=True, timeout_s=5)
        async with status_page(b"x") as (url, _):
            with pytest.raises(OSError):
                await certificate_end("127.0.0.1", int(url.rpartition(":")[2]), "localhost", is_smtp=False, timeout_s=0.3)
        with pytest.raises(OSError):
            await certificate_end("127.0.0.1", 1, "localhost", is_smtp=True, timeout_s=5)

    asyncio.run(main())


def test_a_relay_that_is_taken_out_is_forgotten(run) -> None:
    """It is not shown any more, and nobody can ask about it."""

    async def check(engine: Engine, clock: FakeClock) -> None:
        await RelayWatch(engine, clock, {"old": Prober(), "main": Prober()}, settings("old", "main"), None, "a").step()
        await RelayWatch(engine, clock, {"main": Prober()}, settings("main"), None, "a").step()
        assert set(await engine.read(health.relays)) == {"main"}
        with pytest.raises(Refused, match="not_found"):
            await relay_reports.read(engine, clock, settings("main"), "old")

    run(check)


def test_a_probe_that_fails_by_a_fault_of_ours_leaves_the_others_alone(run) -> None:
    """One courier raises; the other relay is probed all the same."""

    class Faulty:
        async def probe(self) -> Probe:
            raise RuntimeError("no")

    async def check(engine: Engine, clock: FakeClock) -> None:
        await RelayWatch(engine, clock, {"bad": Faulty(), "main": Prober()}, settings("bad", "main"), None, "a").step()
        assert set(await engine.read(health.relays)) == {"main"}

    run(check)
