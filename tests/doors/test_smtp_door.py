"""The SMTP door on a real socket: answers, refusals, TLS, limits, timeouts and the graceful stop."""

import asyncio
import base64
import resource
import socket
from pathlib import Path

import pytest
import uvloop
from tests.doors.smtp_rig import SECRET, RawClient, certificate, running_door, trusting

from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import RawSubmission
from gatepost.settings import Limits
from gatepost.smtpd.throttle import AuthThrottle, parse_peer

ENVELOPE = b"MAIL FROM:<a@acme.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
MESSAGE = b"From: a@acme.example\r\n\r\nhi\r\n.\r\n"
GOOD = b"AUTH PLAIN " + base64.b64encode(b"\0u\0" + SECRET.encode()) + b"\r\n"
BAD = b"AUTH PLAIN " + base64.b64encode(b"\0u\0wrong") + b"\r\n"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def _replies(client: RawClient, count: int) -> list[str]:
    return [await client.reply() for _ in range(count)]


def _run_on(new_loop: object, main: object) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(main())  # type: ignore[operator]


async def _envelope(client: RawClient) -> None:
    client.writer.write(b"EHLO x\r\n" + ENVELOPE)
    assert [reply[:3] for reply in await _replies(client, 4)] == ["250", "250", "250", "354"]


def test_the_answer_comes_after_the_commit() -> None:
    """250 with the message's id is said once the acceptor has returned, not before; then the pipelined rest goes on."""

    async def run() -> None:
        committed = asyncio.Event()

        async def commit(_submission: RawSubmission) -> None:
            await committed.wait()

        async with running_door(trusts=True) as rig:
            rig.acceptor.before = commit
            client = await rig.connect()
            await _envelope(client)
            client.writer.write(MESSAGE + b"NOOP\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.readline(), 0.2)
            committed.set()
            assert await _replies(client, 2) == ["250 2.0.0 Ok: queued as msg_1", "250 2.0.0 Ok"]
            client.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Refused("domain_not_verified", "acme.example is not verified"), "550 5.7.1 acme.example is not verified"),
        (Refused("storage_unavailable"), "451 4.3.1 The message cannot be stored now"),
        (invalid(Fault("Subject", "header_injection", "a line\r\nbreak"), Fault("To", "x", "y")), "554 5.6.0 Subject: a line??break"),
        (RuntimeError("gp_live_secret"), "451 4.3.0 Something went wrong here; try again later"),
    ],
)
def test_a_refusal_is_said_in_the_catalogues_words(error: Exception, reply: str) -> None:
    """The refusal's SMTP code, with its first fault or its detail, on one line; an exception says nothing of itself."""

    async def refuse(_submission: RawSubmission) -> None:
        raise error

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            rig.acceptor.before = refuse
            client = await rig.connect()
            await _envelope(client)
            assert await client.say(MESSAGE) == reply
            assert await client.say(b"MAIL FROM:<a@acme.example>\r\n") == "250 2.1.0 Ok"
            assert [name for name, _ in rig.events] == ["smtp_refused" if isinstance(error, Refused) else "smtp_failed"]
            assert SECRET not in repr(rig.events)
            client.close()

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_commands_sent_before_the_handshake_are_gone(tmp_path: Path, new_loop: object) -> None:
    """THREATS 4: `STARTTLS` and commands in one segment, then a handshake: inside TLS nothing of them is known."""

    async def run() -> None:
        async with running_door(context=certificate(tmp_path)) as rig:
            client = await rig.connect()
            client.writer.write(b"EHLO x\r\nSTARTTLS\r\nEHLO evil\r\n" + GOOD + b"MAIL FROM:<evil@acme.example>\r\n")
            assert (await client.reply()).startswith("250-")
            assert await client.reply() == "220 2.0.0 Ready to start TLS"
            await client.start_tls()
            assert await client.say(b"NOOP\r\n") == "250 2.0.0 Ok"
            assert await client.say(GOOD) == "503 5.5.1 AUTH is not possible now"
            assert await client.say(b"MAIL FROM:<a@acme.example>\r\n") == "530 5.7.0 Authentication required"
            assert "STARTTLS" not in await client.say(b"EHLO x\r\n")
            assert await client.say(GOOD) == "235 2.7.0 Authentication successful"
            client.close()
        assert rig.acceptor.taken == []

    _run_on(new_loop, run)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_handshake_that_fails_ends_the_connection(tmp_path: Path, new_loop: object) -> None:
    """Text instead of a ClientHello closes the connection, and the door forgets it."""

    async def run() -> None:
        async with running_door(context=certificate(tmp_path)) as rig:
            client = await rig.connect()
            assert await client.say(b"STARTTLS\r\n") == "220 2.0.0 Ready to start TLS"
            client.writer.write(b"MAIL FROM:<a@acme.example>\r\n" * 10)
            await asyncio.wait_for(client.reader.read(), 10)
            await asyncio.sleep(0.05)
            assert [name for name, _ in rig.events] == ["smtp_tls_failed"]
            assert not rig.door._connections

    _run_on(new_loop, run)


def test_brute_force_is_slowed_and_locked_out() -> None:
    """THREATS 10: three tries a connection, each slower; after 20 failures of a peer no key is looked at for a minute."""

    async def run() -> None:
        async with running_door() as rig:
            for _ in range(7):
                client = await rig.connect()
                client.writer.write(b"EHLO x\r\n" + BAD + BAD + BAD)
                replies = await _replies(client, 4)
                assert [reply[:9] for reply in replies[1:]] == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]
                assert await client.is_ended()
            assert rig.authenticator.tries == 20
            assert rig.clock.slept[:3] == [0.5, 1.0, 2.0]
            client = await rig.connect()
            await client.say(b"EHLO x\r\n")
            assert (await client.say(GOOD)).startswith("454 4.7.0")
            rig.clock.ahead_s += 61
            assert (await client.say(GOOD)).startswith("235 ")
            client.close()

    asyncio.run(run())


def test_the_lockout_remembers_a_bounded_number_of_peers() -> None:
    """THREATS 10: a million addresses fill no memory, and one IPv6 site is one peer."""
    throttle = AuthThrottle(max_failures=2)
    for number in range(12_000):
        throttle.failed(parse_peer(f"10.0.{number >> 8}.{number & 255}"), 0.0)
    assert len(throttle._failures) == 10_000
    throttle.failed(parse_peer("2001:db8::1"), 0.0)
    throttle.failed(parse_peer("2001:db8::2"), 1.0)
    assert throttle.is_locked(parse_peer("2001:db8::3"), 2.0)
    assert not throttle.is_locked(parse_peer("2001:db8:0:1::3"), 2.0)
    assert not throttle.is_locked(parse_peer("2001:db8::3"), 62.0)


def test_a_slow_client_is_cut_and_others_do_not_notice() -> None:
    """THREATS 9: 200 sockets that drip bytes end with 421 at their time, however they drip; another client is served."""

    async def run() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        async with running_door(command_timeout_s=60) as rig:
            slow = [await rig.connect() for _ in range(200)]
            for _ in range(3):
                rig.clock.ahead_s += 19
                for client in slow:
                    client.writer.write(b"N")
                await asyncio.sleep(0.05)
                rig.door.sweep()
            good = await rig.connect()
            assert (await good.say(b"EHLO x\r\n")).startswith("250-")
            rig.clock.ahead_s += 4
            rig.door.sweep()
            assert {await client.reply() for client in slow} == {"421 4.4.2 Timeout; closing"}
            assert await good.say(b"NOOP\r\n") == "250 2.0.0 Ok"
            good.close()

    asyncio.run(run())


def test_small_talk_does_not_keep_a_stranger_connected() -> None:
    """THREATS 9: without a key NOOPs win no time."""

    async def run() -> None:
        async with running_door(command_timeout_s=60) as rig:
            client = await rig.connect()
            for _ in range(3):
                assert (await client.say(b"NOOP\r\n"))[:3] == "250"
                rig.clock.ahead_s += 20.1
            rig.door.sweep()
            assert await client.reply() == "421 4.4.2 Timeout; closing"
            assert await client.is_ended()

    asyncio.run(run())


def test_a_message_has_its_own_time() -> None:
    """THREATS 9: content that drips in ends with 421 after the data timeout, a command's time does not cut it short."""

    async def run() -> None:
        async with running_door(trusts=True, command_timeout_s=60, data_timeout_s=600) as rig:
            client = await rig.connect()
            await _envelope(client)
            for _ in range(5):
                rig.clock.ahead_s += 119
                client.writer.write(b"x\r\n")
                await asyncio.sleep(0.02)
                rig.door.sweep()
            rig.clock.ahead_s += 6
            rig.door.sweep()
            assert await client.reply() == "421 4.4.2 Timeout; closing"

    asyncio.run(run())


def test_chunks_win_no_time() -> None:
    """THREATS 3, 9: the data timeout counts from the first chunk of a message to its last."""

    async def run() -> None:
        async with running_door(trusts=True, data_timeout_s=100) as rig:
            client = await rig.connect()
            client.writer.write(b"EHLO x\r\n" + ENVELOPE.replace(b"DATA\r\n", b""))
            await _replies(client, 3)
            for _ in range(3):
                assert await client.say(b"BDAT 1\r\nx") == "250 2.0.0 Ok"
                rig.clock.ahead_s += 34
            rig.door.sweep()
            assert await client.reply() == "421 4.4.2 Timeout; closing"

    asyncio.run(run())


def test_too_many_connections_are_turned_away() -> None:
    """The connection beyond the cap gets 421 and is closed; when one leaves, the next is let in."""

    async def run() -> None:
        async with running_door(max_connections=2) as rig:
            clients = [await rig.connect() for _ in range(2)]
            reader, _writer = await asyncio.open_connection("127.0.0.1", rig.port)
            assert (await reader.read()).startswith(b"421 4.3.2 Too many connections")
            assert await clients[0].say(b"QUIT\r\n") == "221 2.0.0 Bye"
            assert await clients[0].is_ended()
            await asyncio.sleep(0.05)
            assert (await (await rig.connect()).say(b"NOOP\r\n"))[:3] == "250"
            assert [name for name, _ in rig.events] == ["smtp_connection_refused"]

    asyncio.run(run())


def test_a_graceful_stop_finishes_what_has_begun() -> None:
    """Idle clients hear 421 4.3.2; a message in progress is accepted and answered first; new clients are not let in."""

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            idle, busy = await rig.connect(), await rig.connect()
            await _envelope(busy)
            closing = asyncio.create_task(rig.door.close(10.0))
            assert await idle.reply() == "421 4.3.2 Service is shutting down"
            assert await idle.is_ended()
            busy.writer.write(MESSAGE + ENVELOPE)
            assert await _replies(busy, 2) == ["250 2.0.0 Ok: queued as msg_1", "421 4.3.2 Service is shutting down"]
            assert await busy.is_ended()
            await asyncio.wait_for(closing, 5)
            assert len(rig.acceptor.taken) == 1
            with pytest.raises(OSError):
                await rig.connect()

    asyncio.run(run())


def test_a_stop_does_not_wait_for_ever() -> None:
    """A client that goes on with its message for ever is cut when the drain time is over."""

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            client = await rig.connect()
            await _envelope(client)
            await asyncio.wait_for(rig.door.close(0.1), 5)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await client.reader.read() != b""

    asyncio.run(run())


def test_a_client_that_leaves_during_the_commit_loses_nothing() -> None:
    """The message is accepted although nobody hears the answer; the door forgets the connection afterwards."""

    async def run() -> None:
        committed = asyncio.Event()

        async def commit(_submission: RawSubmission) -> None:
            await committed.wait()

        async with running_door(trusts=True) as rig:
            rig.acceptor.before = commit
            client = await rig.connect()
            await _envelope(client)
            client.writer.write(MESSAGE)
            await client.writer.drain()
            await asyncio.sleep(0.05)
            client.close()
            await asyncio.sleep(0.05)
            committed.set()
            await asyncio.sleep(0.05)
            assert len(rig.acceptor.taken) == 1
            assert not rig.door._connections

    asyncio.run(run())


def test_a_client_that_only_shut_down_its_side_gets_its_answer() -> None:
    """`printf … | nc -N`: the end of the client's stream does not swallow the answer to its message."""

    async def run() -> None:
        async def commit(_submission: RawSubmission) -> None:
            await asyncio.sleep(0.1)

        async with running_door(trusts=True) as rig:
            rig.acceptor.before = commit
            client = await rig.connect()
            await _envelope(client)
            client.writer.write(MESSAGE)
            client.writer.write_eof()
            assert await client.reply() == "250 2.0.0 Ok: queued as msg_1"
            assert await client.is_ended()

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_flood_behind_a_message_is_held_back(new_loop: object) -> None:
    """THREATS 8: while a message is being accepted, at most about 64 KB more are read from that client; then all is done."""

    async def run() -> None:
        committed = asyncio.Event()

        async def commit(_submission: RawSubmission) -> None:
            await committed.wait()

        async with running_door(trusts=True, limits=Limits(message_bytes=8_000_000)) as rig:
            rig.acceptor.before = commit
            client = await rig.connect()
            await _envelope(client)
            second = ENVELOPE.replace(b"DATA\r\n", b"BDAT 6000000 LAST\r\n") + b"y" * 6_000_000
            client.writer.write(MESSAGE + second)
            await asyncio.sleep(0.3)
            (connection,) = rig.door._connections
            assert connection._machine.buffered_bytes < 600_000
            committed.set()
            assert await _replies(client, 4) == [
                "250 2.0.0 Ok: queued as msg_1", "250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok: queued as msg_2",
            ]  # fmt: skip
            client.close()

    _run_on(new_loop, run)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_client_that_reads_no_replies_is_not_read_from(new_loop: object) -> None:
    """THREATS 8: while the transport is full of replies that nobody reads, no command is read; afterwards all are."""

    async def run() -> None:
        async with running_door() as rig:
            client = await rig.connect()
            (connection,) = rig.door._connections
            connection.pause_writing()
            client.writer.write(b"NOOP\r\n" * 3)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.readline(), 0.2)
            connection.resume_writing()
            assert await _replies(client, 3) == ["250 2.0.0 Ok"] * 3
            client.close()

    _run_on(new_loop, run)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_door_takes_a_bound_socket(tmp_path: Path, new_loop: object) -> None:
    """A socket that the process already holds serves with TLS from the first byte; without a certificate it is refused."""

    async def run() -> None:
        async with running_door(context=certificate(tmp_path)) as rig:
            sock = socket.create_server(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            await rig.door.start_on(sock, implicit_tls=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
            client = RawClient(reader, writer)
            assert await client.reply() == "220 mx.example ESMTP Gatepost"
            assert "STARTTLS" not in await client.say(b"EHLO x\r\n")
            client.close()
        async with running_door() as rig:
            with pytest.raises(ValueError, match="certificate"):
                await rig.door.start("127.0.0.1", 0, implicit_tls=True)

    _run_on(new_loop, run)


def test_a_remote_client_needs_tls_and_a_key(tmp_path: Path) -> None:
    """Only loopback may authenticate without TLS; a mapped IPv4 loopback address is loopback too."""
    assert parse_peer("::ffff:127.0.0.1").is_loopback
    assert not parse_peer("192.0.2.1").is_loopback
    assert parse_peer("fe80::1%eth0").name == "fe80::1"

    async def run() -> None:
        async with running_door(context=certificate(tmp_path)) as rig:
            client = await rig.connect()
            assert "AUTH PLAIN LOGIN" in await client.say(b"EHLO x\r\n")
            client.close()

    asyncio.run(run())
