"""The SMTP door when more comes than it can take, and behind a proxy: 421 and 451 4.3.2, as early as can be."""

import asyncio
import base64

import pytest
from tests.doors.smtp_rig import SECRET, RawClient, Rig, running_door

from gatepost.domain.errors import Refused
from gatepost.domain.message import RawSubmission

MB = 1024 * 1024
AUTH = b"AUTH PLAIN " + base64.b64encode(b"\0u\0" + SECRET.encode()) + b"\r\n"
ENVELOPE = b"MAIL FROM:<a@acme.example>\r\nRCPT TO:<b@example.net>\r\n"
MESSAGE = b"From: a@acme.example\r\n\r\nhi\r\n.\r\n"


def _press(rig: Rig, lag_s: float) -> None:
    rig.door._admission.note("lag", lag_s)
    rig.door._admission.review()


async def _greeting(port: int, first: bytes = b"") -> tuple[str, RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    if first:
        writer.write(first)
    return await client.reply(), client


async def _open_data(rig: Rig, command: bytes = b"DATA\r\n") -> RawClient:
    client = await rig.connect()
    client.writer.write(b"EHLO x\r\n" + ENVELOPE + command)
    for _ in range(4):
        await client.reply()
    return client


async def _until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_when_nothing_is_taken_clients_hear_so_before_they_send() -> None:
    """New connections get 421 4.3.2, open ones 451 4.3.2 at MAIL, both with a time; afterwards all is as before."""

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            client = await rig.connect()
            await client.say(b"EHLO x\r\n")
            _press(rig, 1.0)
            refusal, refused = await _greeting(rig.port)
            assert refusal.startswith("421 4.3.2 Too busy; try again in ")
            assert await refused.is_ended()
            assert (await client.say(ENVELOPE[:28])).startswith("451 4.3.2 Too busy; try again in ")
            _press(rig, 0.0)
            client.writer.write(ENVELOPE + b"DATA\r\n")
            assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            assert await client.say(MESSAGE) == "250 2.0.0 Ok: queued as msg_1"
            assert [name for name, _ in rig.events] == []

    asyncio.run(run())


def test_a_shed_message_ends_neither_dialogue_nor_patience() -> None:
    """451 4.3.2 for this message, a moment of rest, and the next one is taken in the same connection."""

    async def run() -> None:
        async def shed(submission: RawSubmission) -> None:
            if b"bulk" in submission.content:
                raise Refused("overloaded", "more comes than can be taken now", retry_after_s=3)

        async with running_door(trusts=True) as rig:
            rig.acceptor.before = shed
            client = await _open_data(rig)
            assert (await client.say(b"X-Gatepost-Stream: bulk\r\n" + MESSAGE)).startswith("451 4.3.2 ")
            client.writer.write(ENVELOPE + b"DATA\r\n")
            assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            assert await client.say(MESSAGE) == "250 2.0.0 Ok: queued as msg_1"
            assert rig.door._admission._resting == 0

    asyncio.run(run())


@pytest.mark.parametrize("by_chunks", [False, True])
def test_content_in_memory_is_bounded_by_bytes(by_chunks: bool) -> None:
    """Of two clients that send more than there is room for, one hears 421 4.3.2 and lets go; small mail goes on."""

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            rig.door.bodies._limit_bytes = 10 * MB
            command = b"BDAT 9000000 LAST\r\n" if by_chunks else b"DATA\r\n"
            first, second = await _open_data(rig, command if not by_chunks else b"NOOP\r\n"), await rig.connect()
            if by_chunks:
                first.writer.write(command)
            first.writer.write(b"x" * 5 * MB)
            await _until(lambda: rig.door.bodies.used_bytes >= 5 * MB)
            assert (await second.say(b"EHLO x\r\n"))[:3] == "250"
            assert (await second.say(b"MAIL FROM:<a@acme.example> SIZE=4000000\r\n")).startswith("451 4.3.2 Too busy")
            second.writer.write(ENVELOPE + b"DATA\r\n")
            for _ in range(3):
                await second.reply()
            assert (await second.say(MESSAGE))[:3] == "250"
            second.writer.write(ENVELOPE + b"DATA\r\n")
            for _ in range(3):
                await second.reply()
            second.writer.write(b"y" * 4 * MB)
            assert (await second.reply()).startswith("421 4.3.2 Too busy")
            await _until(lambda: 5 * MB <= rig.door.bodies.used_bytes < 5.2 * MB)
            first.close()
            await _until(lambda: rig.door.bodies.used_bytes == 0)

    asyncio.run(run())


def test_a_message_that_is_being_stored_counts_until_it_is_answered() -> None:
    """What waits for its commit is still in memory."""

    async def run() -> None:
        committed = asyncio.Event()

        async def commit(_submission: RawSubmission) -> None:
            await committed.wait()

        async with running_door(trusts=True) as rig:
            rig.acceptor.before = commit
            client = await _open_data(rig)
            client.writer.write(b"From: a@acme.example\r\n\r\n" + b"x" * 500_000 + b"\r\n.\r\n")
            await _until(lambda: rig.door.bodies.used_bytes >= 500_000)
            await asyncio.sleep(0.05)
            assert rig.door.bodies.used_bytes >= 500_000
            committed.set()
            assert (await client.reply())[:3] == "250"
            assert rig.door.bodies.used_bytes == 0

    asyncio.run(run())


def test_a_stranger_who_lingers_makes_room() -> None:
    """THREATS 9: when every place is taken, who has been here longest without a key goes; who has one stays."""

    async def run() -> None:
        async with running_door(max_connections=3) as rig:
            known = await rig.connect()
            await known.say(b"EHLO x\r\n")
            assert (await known.say(AUTH))[:3] == "235"
            strangers = [await rig.connect() for _ in range(2)]
            assert (await _greeting(rig.port))[0].startswith("421 4.3.2 Too many connections; try again in ")
            rig.clock.ahead_s += 3
            greeting, newcomer = await _greeting(rig.port)
            assert greeting.startswith("220")
            assert await strangers[0].is_ended()
            assert (await strangers[1].say(b"NOOP\r\n"))[:3] == "250"
            assert (await known.say(b"NOOP\r\n"))[:3] == "250"
            assert (await newcomer.say(b"NOOP\r\n"))[:3] == "250"
            assert len(rig.door._connections) == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 25\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 25]),
    ],
)
def test_a_trusted_proxy_says_who_the_client_is(header: bytes) -> None:
    """The client's own address counts for caps, lock-outs and the log, whatever came in the same segment."""

    async def run() -> None:
        async with running_door(trusted_proxies=["127.0.0.1/32"], max_connections_per_peer=2) as rig:
            clients = []
            for end in (len(header), 5):
                reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
                writer.write(header[:end])
                await asyncio.sleep(0.02)
                client = RawClient(reader, writer)
                clients.append(client)
                writer.write(header[end:] + b"EHLO x\r\n")
                assert (await client.reply()).startswith("220")
                assert (await client.reply()).startswith("250-")
            refusal, _ = await _greeting(rig.port, header)
            assert refusal.startswith("421 4.7.0 Too many connections")
            assert ("smtp_connection_refused", "203.0.113.7") in [(name, fields["peer"]) for name, fields in rig.events]
            assert {connection.peer.name for connection in rig.door._connections} == {"203.0.113.7"}

    asyncio.run(run())


def test_a_trusted_proxy_that_says_nothing_is_cut() -> None:
    """What comes from there without a header would count as from there: it does not get in."""

    async def run() -> None:
        async with running_door(trusted_proxies=["127.0.0.0/8"]) as rig:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"EHLO x\r\n")
            with pytest.raises((ConnectionError, AssertionError)):
                assert await reader.read() != b""
            assert not rig.door._connections

    asyncio.run(run())


def test_a_strangers_proxy_header_is_no_command() -> None:
    """Nobody chooses an address for themselves."""

    async def run() -> None:
        async with running_door() as rig:
            client = await rig.connect()
            assert (await client.say(b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 25\r\n"))[:3] == "500"
            assert {connection.peer.name for connection in rig.door._connections} == {"127.0.0.1"}

    asyncio.run(run())
