"""The SMTP door with the real authenticator: the same keys and tokens as over HTTP, asked again with each message."""

import asyncio
import base64
import ipaddress
from contextlib import asynccontextmanager

import pytest
from tests.doors.smtp_rig import FakeAcceptor, ManualClock, RawClient
from tests.identity.house import BY, House

from gatepost.domain.access import Scope
from gatepost.settings import Limits, Settings, Smtp
from gatepost.smtpd.door import SmtpDoor
from gatepost.store.opening import create_engine

MAIL = b"MAIL FROM:<a@acme.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
CONTENT = b"From: a@acme.example\r\n\r\nHi\r\n.\r\n"


@asynccontextmanager
async def open_door(tmp_path):
    """Run the door over a house of identity; yields both and what was accepted."""
    async with House(lambda: create_engine("", tmp_path / "data")) as house:
        acceptor, clock, events = FakeAcceptor(), ManualClock(), []
        door = SmtpDoor(
            Settings(smtp=Smtp(hostname="mx.example"), limits=Limits()), None, acceptor, house.here.identity.authenticator,
            on_event=lambda name, **fields: events.append((name, fields)), clock=clock, auth_delay_s=0,
        )  # fmt: skip
        server = await door.start("127.0.0.1", 0)
        try:
            yield house, acceptor, server.sockets[0].getsockname()[1], events
        finally:
            await door.close(1.0)


async def greet(port):
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    await client.reply()
    await client.say(b"EHLO x\r\n")
    return client


def auth(mechanism, secret):
    text = {
        "PLAIN": f"\0u\0{secret}",
        "OAUTHBEARER": f"n,a=u,\1auth=Bearer {secret}\1\1",
        "XOAUTH2": f"user=u\1auth=Bearer {secret}\1\1",
    }[mechanism]
    return f"AUTH {mechanism} {base64.b64encode(text.encode()).decode()}\r\n".encode()


async def send(client):
    """Send a message; return the last reply."""
    client.writer.write(MAIL)
    for _ in range(3):
        reply = await client.reply()
    return await client.say(CONTENT) if reply.startswith("354") else reply


def run(tmp_path, work):
    async def main():
        async with open_door(tmp_path) as opened:
            await work(*opened)

    asyncio.run(main())


@pytest.mark.parametrize("mechanism", ["PLAIN", "OAUTHBEARER", "XOAUTH2"])
def test_keys_and_tokens_are_taken_by_every_mechanism(tmp_path, mechanism):
    """The principal that accept sees is the one that HTTP would see."""

    async def work(house, acceptor, port, events):
        made = await house.key(scopes=frozenset({Scope.MESSAGES_SEND}))
        client, shown = await house.client()
        await house.tick()
        for secret, who in ((made.secret, made.credential.id), (await house.here.token(shown), client.id)):
            connection = await greet(port)
            assert (await connection.say(auth(mechanism, secret))).startswith("235 2.7.0")
            assert (await send(connection)).startswith("250 2.0.0")
            assert acceptor.taken[-1][0].principal.id == who
            connection.close()

    run(tmp_path, work)


def test_a_revoked_key_sends_no_more_on_a_connection_that_is_open(tmp_path):
    """THREATS: a spammer's connection does not outlive the key."""

    async def work(house, acceptor, port, events):
        made = await house.key()
        await house.tick()
        connection = await greet(port)
        await connection.say(auth("PLAIN", made.secret))
        assert (await send(connection)).startswith("250")
        await house.keys.revoke(house.tenant_id, made.credential.id, by=BY)
        await house.tick()
        assert (await send(connection)).startswith("535 5.7.8")
        assert len(acceptor.taken) == 1
        assert [fields["key_id"] for name, fields in events if name == "smtp_refused"] == [made.credential.id]

    run(tmp_path, work)


def test_refusals_have_the_codes_of_the_catalogue(tmp_path):
    """A key outside its networks, a suspended tenant: 550 5.7.1 at AUTH, and no lockout; a wrong token: 334, then 535."""

    async def work(house, acceptor, port, events):
        far = await house.key(networks=(ipaddress.ip_network("192.0.2.0/24"),))
        held = await house.key(house.other_id)
        await house.suspend(house.other_id, house.clock.now())
        await house.tick()
        connection = await greet(port)
        assert await connection.say(auth("PLAIN", far.secret)) == "550 5.7.1 this key may not be used from this address"
        assert (await connection.say(auth("PLAIN", held.secret))).startswith("550 5.7.1 nothing is taken from this tenant")
        connection.close()
        connection = await greet(port)
        assert (await connection.say(auth("OAUTHBEARER", "a.b.c"))).startswith("334 ")
        assert (await connection.say(b"AQ==\r\n")).startswith("535 5.7.8")
        told = [(fields["code"], fields["key_id"]) for name, fields in events if name == "smtp_authentication_failed"]
        assert told == [("permission_denied", far.credential.id), ("tenant_suspended", held.credential.id), ("authentication_failed", None)]

    run(tmp_path, work)


def test_a_trusted_network_sends_as_its_key_while_the_key_lasts(tmp_path):
    """No AUTH is needed; once the key has ended a message is refused, and a new connection must show something."""

    async def work(house, acceptor, port, events):
        made = await house.key(trust=(ipaddress.ip_network("127.0.0.0/8"),), expires_at=house.clock.now() + 60_000)
        await house.tick()
        connection = await greet(port)
        assert (await send(connection)).startswith("250")
        assert acceptor.taken[0][0].principal.id == made.credential.id
        house.clock.advance(60)
        assert (await send(connection)).startswith("530 5.7.0")
        connection.close()
        connection = await greet(port)
        assert (await send(connection)).startswith("530 5.7.0")
        assert len(acceptor.taken) == 1

    run(tmp_path, work)
