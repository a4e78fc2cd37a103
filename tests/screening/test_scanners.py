"""Spam and malware, by a real rspamd and a real clamd; and what becomes of mail when they fail."""

import asyncio
import contextlib
import json

import msgspec
import pytest

from gatepost.clock import SystemClock
from gatepost.domain.errors import CATALOGUE, Refused
from gatepost.net.clamd import Clamd
from gatepost.net.rspamd import Envelope, Rspamd, ScannerFailed
from gatepost.observe import maillog, metrics
from gatepost.screening.guard import FAILURES, LONGEST_PAUSE_S, Guard
from gatepost.settings import Clamd as ClamdSettings
from gatepost.settings import Rspamd as RspamdSettings
from gatepost.settings import Scanning, Settings
from gatepost.testing.fake_clock import FakeClock
from tests.screening.daemons import EICAR, GTUBE, free_port
from tests.screening.mail import caller, check_fields, check_mime, mime, screener, submission


def scanning(rspamd="", clamd="", on_failure="open", timeout_s=10.0, **more):
    return Settings(
        scanning=Scanning(
            rspamd=RspamdSettings(url=rspamd, on_failure=on_failure, timeout_s=timeout_s),
            clamd=ClamdSettings(address=clamd, on_failure=on_failure, timeout_s=timeout_s),
            **more,
        )
    )


def run(work):
    return asyncio.run(work)


async def refusal(work):
    with pytest.raises(Refused) as caught:
        await work
    return caught.value


def codes(faults):
    return [fault.code for fault in faults]


def test_what_rspamd_rejects_is_refused_as_fields_and_as_mime(rspamd):
    """GTUBE is spam by definition: content_refused with the code spam, whatever the policy says."""

    async def work():
        checks = screener(scanning(rspamd.address), own={"spam": "off"}, clock=SystemClock())
        for attempt in (check_fields(checks, submission(text=GTUBE)), check_mime(checks, mime(text=GTUBE))):
            refused = await refusal(attempt)
            assert (refused.code, codes(refused.faults)) == ("content_refused", ["spam"])
        assert list(await check_fields(checks, submission())) == []

    run(work())


@pytest.mark.parametrize("subject", ["suspicious", "delayable"])
def test_what_rspamd_would_mark_or_delay_is_up_to_the_policy(rspamd, subject):
    """Warn tells the sender, refuse refuses, off passes."""

    async def work():
        given = submission(subject=subject)
        warned = await check_fields(screener(scanning(rspamd.address), clock=SystemClock()), given)
        assert codes(warned) == ["suspected_spam"]
        assert subject.upper() in warned[0].detail
        refused = await refusal(check_fields(screener(scanning(rspamd.address), own={"spam": "refuse"}, clock=SystemClock()), given))
        assert (refused.code, codes(refused.faults)) == ("content_refused", ["suspected_spam"])
        assert list(await check_fields(screener(scanning(rspamd.address), own={"spam": "off"}, clock=SystemClock()), given)) == []

    run(work())


def test_rspamd_is_told_the_envelope(rspamd):
    """From, each Rcpt, IP and User reach it; a name instead of an address is left out, and line breaks cannot make fields."""

    async def work():
        given = submission("a@example.net", "b@example.net", subject="shop@acme.example>2@192.0.2.1 as key_1")
        assert codes(await check_fields(screener(scanning(rspamd.address), clock=SystemClock()), given)) == ["suspected_spam"]
        content = mime(subject="x@acme.example>1@nil as evilIP: 192.0.2.9")
        envelope = Envelope(
            message_id="m", sender="x@acme.example", recipients=["a@example.net"], peer="localhost", user="evil\r\nIP: 192.0.2.9"
        )
        assert (await Rspamd(rspamd.address).check(content, envelope)).action == "add header"

    run(work())


def test_malware_is_refused_as_fields_and_as_mime(clamd):
    """A signature that meets, plain or in base64: content_refused with malware_found, by TCP and by its socket."""

    async def work():
        for address in (clamd.address, clamd.socket, f"unix:{clamd.socket}"):
            checks = screener(scanning(clamd=address), clock=SystemClock())
            file = ("report.txt", "text/plain", EICAR)
            for attempt in (check_fields(checks, submission(files=(file,))), check_mime(checks, mime(file))):
                refused = await refusal(attempt)
                assert (refused.code, codes(refused.faults)) == ("content_refused", ["malware_found"])
                assert "Eicar-Test-Signature" in refused.faults[0].detail
            assert list(await check_fields(checks, submission())) == []

    run(work())


def test_both_are_asked_and_only_for_the_streams_and_tenants_named(rspamd, clamd):
    """Other streams and tenants pass without a question."""

    async def work():
        settings = scanning(rspamd.address, clamd.address, streams=["bulk"], tenants=["ten_1"])
        checks = screener(settings, clock=SystemClock())
        spam, virus = mime(text=GTUBE), mime(("a.txt", "text/plain", EICAR))
        for content, code in ((spam, "spam"), (virus, "malware_found")):
            assert codes((await refusal(check_mime(checks, content, stream="bulk"))).faults) == [code]
            assert list(await check_mime(checks, content, stream="codes")) == []
            assert list(await check_mime(checks, content, stream="bulk", who=caller("ten_2"))) == []

    run(work())


def test_a_message_that_is_too_large_is_told_or_refused(clamd):
    """Above max_bytes nothing is scanned: a warning where scanners fail open, payload_too_large where one fails closed."""

    async def work():
        large = mime(text="x " * 2000)
        assert codes(await check_mime(screener(scanning(clamd=clamd.address, max_bytes=1024)), large)) == ["not_scanned"]
        refused = await refusal(check_mime(screener(scanning(clamd=clamd.address, max_bytes=1024, on_failure="closed")), large))
        assert refused.code == "payload_too_large"

    run(work())


def test_what_clamd_cannot_take_is_no_verdict(clamd):
    """Above clamd's own StreamMaxLength it breaks off: a failure, never a clean message."""

    async def work():
        with pytest.raises(ScannerFailed):
            await Clamd(clamd.address).scan(b"x" * 3_000_000)

    run(work())


@pytest.mark.parametrize("scanner", ["rspamd", "clamd"])
def test_a_scanner_that_is_away_loses_no_mail(scanner):
    """Open: the mail passes with a warning. Closed: 503 and 451, so that the sender keeps it and tries again."""

    async def work():
        away = f"127.0.0.1:{free_port()}"
        address = {scanner: f"http://{away}" if scanner == "rspamd" else away}
        warned = await check_fields(screener(scanning(**address)), submission())
        assert codes(warned) == ["not_scanned"]
        assert scanner in warned[0].detail
        refused = await refusal(check_fields(screener(scanning(**address, on_failure="closed")), submission()))
        assert (refused.code, refused.kind.status, refused.kind.smtp) == ("scanner_unavailable", 503, "451 4.7.1")
        assert refused.retry_after_s
        assert refused.code in CATALOGUE

    run(work())


@contextlib.asynccontextmanager
async def hanging():
    """A server that takes connections and never answers; yields its address and the number of connections."""
    count = []

    async def hold(reader, writer):
        count.append(1)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", count
    finally:
        server.close()


def test_a_scanner_that_hangs_is_soon_not_waited_for():
    """After three messages in vain the next ones do not even connect: the doors do not stand still."""

    async def work():
        async with hanging() as (address, count):
            checks = screener(scanning(clamd=address, timeout_s=0.05))
            for _ in range(FAILURES):
                assert codes(await check_fields(checks, submission())) == ["not_scanned"]
            for _ in range(20):
                assert codes(await check_fields(checks, submission())) == ["not_scanned"]
            assert len(count) == FAILURES

    run(work())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"action":',
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"action":1}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n" + b"x" * 5_000_000,
    ],
    ids=range(7),
)
def test_an_answer_that_is_none_is_a_failure(answer):
    """A broken scanner never passes for a verdict, and its answer is bounded."""

    async def work():
        async def serve(reader, writer):
            await reader.read(100)
            with contextlib.suppress(ConnectionError):
                writer.write(answer)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ScannerFailed):
            await Rspamd(f"http://127.0.0.1:{port}").check(b"x", Envelope(message_id="", sender="", recipients=[], peer="", user=""))
        if not answer.startswith(b"HTTP"):
            with pytest.raises(ScannerFailed):
                await Clamd(f"127.0.0.1:{port}").scan(b"x")
        server.close()

    run(work())


def scanner_up(name):
    return metrics.scanner_up.labels(name)._value.get()


def test_an_outage_is_told_once_and_its_end_too(capsys):
    """One trouble line at the first failure, one line when it works again; the gauge follows."""

    async def work():
        maillog.configure(level="info", mask_addresses=True, process="test")
        clock = FakeClock()
        guard = Guard("probe", timeout_s=1, concurrency=2, pause_s=5, clock=clock)
        is_broken = True
        asked = []

        async def question():
            asked.append(clock.monotonic())
            if is_broken:
                raise ScannerFailed("it is away")
            return "clean"

        for _ in range(FAILURES + 5):
            assert await guard.ask(question) is None
        assert len(asked) == FAILURES, "an open fuse is not asked"
        assert scanner_up("probe") == 0
        clock.advance(5.1)
        first, second = await asyncio.gather(guard.ask(question), guard.ask(question))
        assert (first, second) == (None, None)
        assert len(asked) == FAILURES + 1, "one message tries, half-open"
        clock.advance(5.1)
        assert await guard.ask(question) is None
        assert len(asked) == FAILURES + 1, "the pause is longer the second time"
        is_broken = False
        clock.advance(LONGEST_PAUSE_S)
        assert await guard.ask(question) == ("clean",)
        assert await guard.ask(question) == ("clean",)
        assert scanner_up("probe") == 1

    run(work())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["what"]) for line in lines] == [
        ("trouble", "a scanner does not answer"),
        ("lifecycle", "a scanner answers again"),
    ]
    assert lines[0]["scanner"] == "probe"
    maillog.configure(level="warning", mask_addresses=True, process="test")


def test_no_more_than_the_number_named_are_asked_at_once():
    """The others wait for a place, within their own time."""

    async def work():
        guard = Guard("narrow", timeout_s=5, concurrency=3, pause_s=5, clock=SystemClock())
        now, most = 0, 0

        async def question():
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return 1

        answers = await asyncio.gather(*[guard.ask(question) for _ in range(30)])
        assert (most, answers) == (3, [(1,)] * 30)

    run(work())


def test_a_busy_scanner_is_not_taken_for_a_broken_one():
    """Who found no place in time gets no verdict; that alone opens no fuse."""

    async def work():
        guard = Guard("busy", timeout_s=0.05, concurrency=1, pause_s=5, clock=SystemClock())
        release = asyncio.Event()

        async def slow():
            await release.wait()
            return 1

        held = Guard("busy", timeout_s=30, concurrency=1, pause_s=5, clock=SystemClock())
        held._places = guard._places
        holding = asyncio.ensure_future(held.ask(slow))
        await asyncio.sleep(0)
        assert await asyncio.gather(*[guard.ask(slow) for _ in range(5)]) == [None] * 5
        assert guard.is_up
        release.set()
        assert await holding == (1,)
        assert await guard.ask(slow) == (1,)

    run(work())


@pytest.mark.parametrize(
    ("option", "settings"), [("scanning.clamd.address", scanning(clamd="nowhere")), ("scanning.rspamd.url", scanning("http://"))]
)
def test_an_address_that_is_none_is_named_at_the_start(option, settings):
    """The option's name stands in the message."""
    with pytest.raises(ValueError, match=option):
        screener(settings)


def test_another_scheme_than_http_is_refused_by_the_settings():
    """https:// or a bare host would be a scanner that never answers."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"url": "https://127.0.0.1:1"}, RspamdSettings)
