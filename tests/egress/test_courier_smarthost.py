"""Delivery to a smarthost: one connection for many messages, every recipient with its own outcome."""

import asyncio
import re
from typing import Any

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome
from gatepost.testing.batches import CONTENT, make_batch, make_courier
from gatepost.testing.scripted_peer import DROP, SILENCE, Late, ScriptedPeer


async def once(peer: ScriptedPeer, *addresses: str, **egress: Any) -> dict[int, Outcome]:
    courier = make_courier(f"smtp://127.0.0.1:{peer.port}", **egress)
    outcomes = await courier.deliver(make_batch(*addresses))
    await courier.close()
    return dict(outcomes)


def test_several_recipients_share_a_transaction_and_have_their_own_outcomes() -> None:
    """One DATA for all; the refused one fails with the server's words."""

    async def run() -> None:
        async with ScriptedPeer({"RCPT:eve@acme.test": "550 5.1.1 no such user", "RCPT:tom@acme.test": "450 4.2.0 later"}) as peer:
            outcomes = await once(peer, "bob@acme.test", "eve@acme.test", "tom@acme.test")
        assert [type(outcomes[n]) for n in range(3)] == [Delivered, Failed, Deferred]
        assert peer.messages[0].recipients == ["bob@acme.test"]
        assert peer.messages[0].content == CONTENT
        delivered, failed = outcomes[0], outcomes[1]
        assert isinstance(delivered, Delivered)
        assert not delivered.final
        assert isinstance(failed, Failed)
        assert (failed.category, str(failed.reply)) == (Category.INVALID_RECIPIENT, "550 5.1.1 no such user")
        exchange = delivered.exchange
        assert (exchange.route, exchange.host, exchange.peer, exchange.tls) == ("main", "127.0.0.1", f"127.0.0.1:{peer.port}", None)
        assert exchange.started_at <= exchange.finished_at
        assert "C: RCPT TO:<eve@acme.test>" in exchange.transcript

    asyncio.run(run())


def test_a_connection_serves_many_messages_and_ends_with_quit() -> None:
    """Messages one after the other use one connection, up to the limit per connection."""

    async def run() -> None:
        async with ScriptedPeer() as peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}", messages_per_connection=3)
            for _ in range(4):
                await courier.deliver(make_batch())
            await courier.close()
        assert [connection.commands.count("DATA") for connection in peer.connections] == [3, 1]
        assert [connection.commands[-1] for connection in peer.connections] == ["QUIT", "QUIT"]

    asyncio.run(run())


def test_no_more_connections_than_allowed_and_everyone_gets_a_turn() -> None:
    """Thirty deliveries at once over two connections."""

    async def run() -> None:
        async with ScriptedPeer({".": Late(0.01, "250 ok")}) as peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}", connections_per_relay=2)
            outcomes = await asyncio.gather(*[courier.deliver(make_batch()) for _ in range(30)])
            await courier.close()
        assert all(isinstance(outcome[0], Delivered) for outcome in outcomes)
        assert (len(peer.connections), len(peer.messages)) == (2, 30)

    asyncio.run(run())


def test_an_idle_connection_is_closed_after_a_while() -> None:
    """With nothing to send for `idle_connection_s`, QUIT is said."""

    async def run() -> None:
        async with ScriptedPeer() as peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}", idle_connection_s=1)
            await courier.deliver(make_batch())
            await asyncio.sleep(0.5)
            assert peer.commands[-1] == "DATA"
            await asyncio.sleep(1)
            assert peer.commands[-1] == "QUIT"
            assert isinstance((await courier.deliver(make_batch()))[0], Delivered)
            await courier.close()
        assert len(peer.connections) == 2

    asyncio.run(run())


def test_a_kept_connection_that_died_is_replaced_within_the_attempt() -> None:
    """EOF, 421 or silence at MAIL on a used connection costs no attempt: the mail goes out on a new one."""

    async def run() -> None:
        for death in (DROP, "421 4.4.2 idle too long", SILENCE):
            async with ScriptedPeer({"MAIL": ["250 ok", death, "250 ok"]}) as peer:
                courier = make_courier(f"smtp://127.0.0.1:{peer.port}", timeout_scale=0.001)
                for _ in range(2):
                    outcome = (await courier.deliver(make_batch()))[0]
                    assert isinstance(outcome, Delivered), outcome
                await courier.close()
            assert [len(peer.connections), len(peer.messages)] == [2, 2]
            assert "connection used again" in outcome.exchange.transcript

    asyncio.run(run())


def test_a_server_that_is_gone_while_idle_is_noticed() -> None:
    """A connection closed by the server between messages is not tried at all."""

    async def run() -> None:
        async with ScriptedPeer({"NOOP": DROP}) as peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}")
            await courier.deliver(make_batch())
            await peer.stop()
            await asyncio.sleep(0.05)
            outcome = (await courier.deliver(make_batch()))[0]
            assert isinstance(outcome, Deferred)
            assert (outcome.category, outcome.counts) == (Category.NETWORK, True)
            await courier.close()

    asyncio.run(run())


def test_a_relay_that_refuses_us_defers_the_mail() -> None:
    """A smarthost's word about us at the greeting, or about our password, fails nobody's mail."""

    async def run() -> None:
        for script, counts in (({"GREETING": "554 go away"}, True), ({"MAIL": "530 5.7.0 authentication required"}, False)):
            async with ScriptedPeer(script) as peer:
                outcome = (await once(peer))[0]
            assert isinstance(outcome, Deferred)
            assert outcome.counts is counts

    asyncio.run(run())


def test_a_relay_whose_name_is_unknown_costs_no_attempt() -> None:
    """A wrong name in our settings, or a resolver that is away, is our trouble."""

    async def run() -> None:
        courier = make_courier("smtp://relay.invalid:25")
        outcome = (await courier.deliver(make_batch()))[0]
        assert isinstance(outcome, Deferred)
        assert (outcome.category, outcome.counts) == (Category.NETWORK, False)

    asyncio.run(run())


def test_an_internal_error_loses_nobody() -> None:
    """A courier is total: even a fault of ours ends in an outcome, and gives its place back."""

    class Broken:
        async def connect(self, *_: object, **__: object) -> None:
            raise RuntimeError("boom")

        async def start_tls(self, *_: object, **__: object) -> None:
            raise RuntimeError("boom")

    async def run() -> None:
        courier = make_courier("smtp://127.0.0.1:1", dialer=Broken(), connections_per_relay=1)  # type: ignore[arg-type]
        for _ in range(3):
            outcome = (await courier.deliver(make_batch()))[0]
            assert isinstance(outcome, Deferred)
            assert not outcome.counts
            assert "boom" not in outcome.detail
        await courier.close()

    asyncio.run(run())


def test_cancelling_a_delivery_frees_its_place() -> None:
    """A cancelled delivery cuts its connection; the next one gets the slot."""

    async def run() -> None:
        async with ScriptedPeer({".": [SILENCE, "250 ok"]}) as peer:
            courier = make_courier(f"smtp://127.0.0.1:{peer.port}", connections_per_relay=1)
            first = asyncio.ensure_future(courier.deliver(make_batch()))
            waiting = asyncio.ensure_future(courier.deliver(make_batch()))
            await asyncio.sleep(0.1)
            waiting.cancel()
            first.cancel()
            await asyncio.wait([first, waiting])
            assert first.cancelled()
            assert isinstance((await courier.deliver(make_batch()))[0], Delivered)
            await courier.close()

    asyncio.run(run())


def test_a_large_message_to_a_slow_reader_is_not_cut_off() -> None:
    """While bytes keep flowing each block has its own time (RFC 5321 §4.5.3.2.5)."""

    async def run() -> None:
        received = 0

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal received
            writer.write(b"220 slow\r\n")
            await reader.readuntil(b"\r\n")
            writer.write(b"250-slow\r\n250 PIPELINING\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
            tail = b""
            while not tail.endswith(b"\r\n.\r\n"):
                data = await reader.read(262_144)
                received += len(data)
                tail = (tail + data)[-5:]
                await asyncio.sleep(0.02)
            writer.write(b"250 ok\r\n")
            await reader.read()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        # The blocks' time is 180 s times 0.002; all of it takes several times as long.
        courier = make_courier(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_scale=0.002)
        outcome = (await courier.deliver(make_batch(content=b"x" * 998 + b"\r\n" + (b"y" * 998 + b"\r\n") * 30_000)))[0]
        assert isinstance(outcome, Delivered), outcome
        assert received > 30_000_000
        await courier.close()
        server.close()

    asyncio.run(run())


def test_smuggling_sequences_leave_as_one_message() -> None:
    """THREATS 2: of content with bare CR and LF around dots, no bare one reaches the peer, and it sees one message."""

    async def run() -> None:
        async with ScriptedPeer() as peer:
            for end in ("\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n\0.\r\n"):
                content = (
                    b"Subject: x\r\n\r\nbody" + end.encode() + b"MAIL FROM:<evil@evil.test>\r\nRCPT TO:<eve@acme.test>\r\nDATA\r\nx\r\n"
                )
                courier = make_courier(f"smtp://127.0.0.1:{peer.port}")
                assert isinstance((await courier.deliver(make_batch(content=content)))[0], Delivered)
                await courier.close()
        assert len(peer.messages) == len(peer.connections) == 9
        assert not any(re.search(rb"\r(?!\n)|(?<!\r)\n|\0", bytes(connection.raw)) for connection in peer.connections)
        assert all(connection.commands.count("DATA") == 1 for connection in peer.connections)

    asyncio.run(run())
