"""Limits over SMTP: the same codes as everywhere, and an end for who does not listen."""

import asyncio
import base64

from gatepost.domain.errors import Fault, Refused
from tests.doors.smtp_rig import SECRET, running_door

LOGIN = b"AUTH PLAIN " + base64.b64encode(f"\0x\0{SECRET}".encode()) + b"\r\n"


def limited(code="rate_limited", detail="key messages=2/minute is used up"):
    return Refused(code, detail, (Fault("", "limit_reached", detail),), 30)


async def send(client):
    """Send one message; return the answer to its content."""
    for line in (b"MAIL FROM:<shop@acme.example>\r\n", b"RCPT TO:<ann@example.net>\r\n", b"DATA\r\n"):
        answer = await client.say(line)
        assert answer[0] in "23", answer
    return await client.say(b"Subject: x\r\n\r\nx\r\n.\r\n")


def play(work):
    async def run():
        async with running_door() as rig:
            client = await rig.connect()
            await client.say(b"EHLO c.example\r\n")
            assert (await client.say(LOGIN)).startswith("235")
            await work(rig, client)
            client.close()

    asyncio.run(run())


def test_a_reached_limit_is_452_with_its_name_and_the_dialogue_goes_on():
    """All three codes are for now (4xx), so that a mail server tries again by itself."""

    async def work(rig, client):
        for refused in (
            limited(),
            limited("quota_exceeded", "tenant recipients=9/day is used up"),
            Refused("insufficient_balance", "no balance"),
        ):

            async def refuse(_, refused=refused):
                raise refused

            rig.acceptor.before = refuse
            answer = await send(client)
            assert answer.startswith("452 4.7.1 ")
            assert refused.detail in answer
        rig.acceptor.before = None
        assert (await send(client)).startswith("250 ")

    play(work)


def test_a_client_that_keeps_hammering_is_sent_away_with_421():
    """After ten messages in a row that a limit refused; one that passes, or another refusal, begins anew."""

    async def work(rig, client):
        async def refuse(_):
            raise limited()

        for _ in range(3):
            rig.acceptor.before = refuse
            for _ in range(9):
                assert (await send(client)).startswith("452 4.7.1")
            rig.acceptor.before = None
            assert (await send(client)).startswith("250 ")
        rig.acceptor.before = refuse
        answers = [(await send(client))[:9] for _ in range(10)]
        assert answers == ["452 4.7.1"] * 9 + ["421 4.7.0"]
        assert await client.is_ended()
        assert ("smtp_closed", "over_limit") in [(name, event.get("reason")) for name, event in rig.events]

    play(work)
