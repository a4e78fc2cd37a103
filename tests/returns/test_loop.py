"""Mail that comes back, from the door to the recipient's state: what is believed, what is not, and what breaks nothing; on both engines."""

import asyncio

import pytest

from gatepost import ids
from gatepost.domain.access import Principal, PrincipalKind
from gatepost.domain.address import parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, RawSubmission
from gatepost.domain.tenant import Caller
from gatepost.returns.listening import Listening
from gatepost.returns.loop import FeedbackLoop
from gatepost.returns.mail import MailReader
from gatepost.store import inbound, messages
from gatepost.store.inbound import Arrived
from gatepost.suppressing import Suppressing
from gatepost.wire.return_path import ReturnPaths
from tests.returns import letters
from tests.returns.test_reported import run
from tests.store.rows import put_message

PATHS = ReturnPaths(key=b"k" * 16, domain="bounces.example", by_sender={"acme.example": "bounces.acme.example"})
STRANGER = Caller(
    principal=Principal(id="inbound", kind=PrincipalKind.LOCAL, tenant_id="", name="inbound"), peer="192.0.2.7", request_id="req_1"
)


class Returns:
    """The way of mail that comes back."""

    def __init__(self, house):
        self.house = house
        self.listening = Listening(house.engine, house.clock, PATHS, per_minute=50)
        self.loop = FeedbackLoop(house.engine, house.clock, Suppressing(), {"mail": self.read})
        self.poison = set()

    async def read(self, row):
        if row.body in self.poison:
            raise RuntimeError("poison")
        return await MailReader(self.house.engine, PATHS).read(row)

    def path(self, row, n=None):
        return PATHS.address_for(row.message_id, row.n if n is None else n, "", self.house.clock.now())

    async def arrive(self, content, *to, peer=STRANGER):
        """Take a message as the door does, and work on it."""
        for one in to:
            if (reason := self.listening.why_not_to(parse_address(one))) is not None:
                return reason
        recipients = tuple(EnvelopeRecipient(address=parse_address(one)) for one in to)
        await self.listening.submit_raw(peer, RawSubmission(envelope_from=None, recipients=recipients, content=content))
        await self.loop.step()
        return None

    async def rows(self):
        return await self.house.engine.read(inbound.counts)


def run_returns(make_engine, work):
    async def with_returns(house):
        await work(house, Returns(house))

    run(make_engine, with_returns)


def test_a_bounce_at_a_return_path_bounces_its_recipient(make_engine):
    """Stored before 250, then read: the recipient is bounced and suppressed, and nothing is left over."""

    async def work(house, returns):
        [row] = await house.delivered()
        assert await returns.arrive(letters.bounce(returns.path(row), "user0@example.net"), returns.path(row)) is None
        found = await house.state(row)
        assert (found.status, found.reason, found.last_reply) == ("bounced", "invalid_recipient", "550 5.1.1 no such user")
        assert await house.suppressed() == [("user0@example.net", "", "invalid_recipient")]
        assert await returns.rows() == {}
        await returns.arrive(letters.bounce(returns.path(row), "user0@example.net"), returns.path(row))
        assert [one.type for one in await house.events(row)].count("recipient.bounced") == 1

    run_returns(make_engine, work)


def test_a_delay_bounces_nobody(make_engine):
    """RFC 3464 §2.3.3: delayed is no failure."""

    async def work(house, returns):
        [row] = await house.delivered()
        content = letters.bounce(returns.path(row), "user0@example.net", action="delayed", status="4.4.1", text="451 4.4.1 later")
        await returns.arrive(content, returns.path(row))
        assert (await house.state(row)).status == "delivered"
        assert await house.suppressed() == []

    run_returns(make_engine, work)


def test_a_guessed_or_old_return_path_is_refused_while_the_sender_is_connected(make_engine):
    """THREATS 41 and 45: 550 at RCPT, so nothing is ever bounced later, and nobody is suppressed."""

    async def work(house, returns):
        [row] = await house.delivered()
        genuine = returns.path(row)
        guessed = genuine[:10] + ("a" if genuine[10] != "a" else "b") + genuine[11:]
        content = letters.bounce(genuine, "user0@example.net")
        assert "No such mailbox" in await returns.arrive(content, guessed)
        assert "No such mailbox" in await returns.arrive(content, "shop@bounces.example")
        assert "No such mailbox" in await returns.arrive(content, genuine.replace("bounces.example", "elsewhere.example"))
        house.clock.advance(32 * 86_400)
        assert "No such mailbox" in await returns.arrive(content, genuine)
        assert (await house.state(row)).status == "delivered"
        assert (await house.suppressed(), await returns.rows()) == ([], {})

    run_returns(make_engine, work)


def test_a_bounce_speaks_of_its_own_recipient_whomever_it_names(make_engine):
    """THREATS 42: who holds one return path cannot suppress another tenant's recipient, nor another one of the same message."""

    async def work(house, returns):
        mine, other = await house.delivered(domains=("example.net", "far.example"))
        [theirs] = await house.delivered(tenant_id="ten_b", domains=("victim.example",))
        await returns.arrive(letters.bounce(returns.path(mine), "user0@victim.example"), returns.path(mine))
        assert [(await house.state(row)).status for row in (mine, other, theirs)] == ["bounced", "delivered", "delivered"]
        assert await house.suppressed("ten_b") == []
        assert await house.suppressed() == [("user0@example.net", "", "invalid_recipient")]

    run_returns(make_engine, work)


def test_a_complaint_counts_when_it_quotes_our_return_path(make_engine):
    """At the office for complaints only what quotes exactly one return path of ours is acted on; the stream is suppressed."""

    async def work(house, returns):
        [row] = await house.delivered(stream="bulk")
        [other] = await house.delivered(stream="bulk", domains=("far.example",))
        forged = [letters.complaint("fbl@bounces.example", path) for path in ("shop@acme.example", "b+" + "a" * 45 + "@bounces.example")]
        both = letters.complaint("fbl@bounces.example", f"{returns.path(row)}> <{returns.path(other)}")
        for content in (*forged, both):
            await returns.arrive(content, "fbl@bounces.example")
        assert await house.suppressed() == []
        await returns.arrive(
            letters.complaint("fbl@bounces.acme.example", returns.path(row), recipient="someone@else.example"), "FBL@bounces.acme.example"
        )
        assert await house.suppressed() == [("user0@example.net", "bulk", "complaint")]
        assert (await house.state(row)).status == "delivered"

    run_returns(make_engine, work)


def test_opting_out_is_no_complaint_and_ends_the_stream(make_engine):
    """RFC 5965 §7.1: opt-out."""

    async def work(house, returns):
        [row] = await house.delivered(stream="bulk")
        await returns.arrive(letters.complaint(returns.path(row), returns.path(row), "opt-out"), returns.path(row))
        assert await house.suppressed() == [("user0@example.net", "bulk", "unsubscribed")]

    run_returns(make_engine, work)


@pytest.mark.parametrize("content", [letters.VACATION, b"\r\n", b"Subject: hello\r\n\r\nbuy this\r\n", b"\xff\xfe\x00" * 99])
def test_other_mail_changes_nothing(make_engine, content):
    """Automatic answers, spam and noise at a return path: no state, no suppression; what nobody can read is put aside, nothing else kept."""

    async def work(house, returns):
        [row] = await house.delivered()
        await returns.arrive(content, returns.path(row))
        assert (await house.state(row)).status == "delivered"
        assert (await house.suppressed(), await returns.rows()) == ([], {} if content == letters.VACATION else {"unread": 1})

    run_returns(make_engine, work)


def test_nothing_that_comes_back_is_ever_answered(make_engine):
    """THREATS 45 and 46: neither a bounce, nor a bounce of a bounce, nor a stranger makes the gateway send anything."""

    async def work(house, returns):
        [row] = await house.delivered()
        before = await house.engine.read(lambda conn: messages.page(conn, None, messages.Filter(), 100))
        inner = letters.bounce(returns.path(row), "user0@example.net")
        nested = letters.bounce(
            returns.path(row), "MAILER-DAEMON@mx.far.example", returned=inner.decode().partition("\r\n\r\n")[0].replace("\r\n", "\n") + "\n"
        )
        for content in (inner, nested, letters.VACATION, b"spam\r\n"):
            await returns.arrive(content, returns.path(row))
        after = await house.engine.read(lambda conn: messages.page(conn, None, messages.Filter(), 100))
        assert [one.id for one in after] == [one.id for one in before]

    run_returns(make_engine, work)


def test_mail_that_runs_in_circles_is_refused(make_engine):
    """RFC 5321 §6.3: more than a hundred Received fields are a loop."""

    async def work(house, returns):
        [row] = await house.delivered()
        with pytest.raises(Refused, match="100 servers"):
            await returns.arrive(b"Received: from a by b; now\r\n" * 101 + letters.VACATION, returns.path(row))
        assert await returns.rows() == {}

    run_returns(make_engine, work)


def test_one_peer_cannot_flood(make_engine):
    """More than the rate is refused for now; another peer is not affected, and a minute later it goes on."""

    async def work(house, returns):
        [row] = await house.delivered()
        submission = RawSubmission(
            envelope_from=None, recipients=(EnvelopeRecipient(address=parse_address(returns.path(row))),), content=b"x\r\n"
        )
        for _ in range(50):
            await returns.listening.submit_raw(STRANGER, submission)
        with pytest.raises(Refused) as refusal:
            await returns.listening.submit_raw(STRANGER, submission)
        assert refusal.value.code == "rate_limited"
        await returns.listening.submit_raw(Caller(principal=STRANGER.principal, peer="192.0.2.8", request_id="r"), submission)
        house.clock.advance(61)
        await returns.listening.submit_raw(STRANGER, submission)

    run_returns(make_engine, work)


def test_poison_is_put_aside_and_the_rest_goes_on(make_engine):
    """What breaks the reader three times is kept for people to look at; what came after it is worked on at once."""

    async def work(house, returns):
        [row] = await house.delivered()
        returns.poison.add(b"poison\r\n")
        await returns.arrive(b"poison\r\n", returns.path(row))
        await returns.arrive(letters.bounce(returns.path(row), "user0@example.net"), returns.path(row))
        assert (await house.state(row)).status == "bounced"
        for _ in range(4):
            house.clock.advance(121)
            await returns.loop.step()
        assert await returns.rows() == {"quarantined": 1}
        house.clock.advance(31 * 86_400)
        await house.engine.write(lambda conn: inbound.purge(conn, house.clock.now() - 30 * 86_400_000))
        assert await returns.rows() == {}

    run_returns(make_engine, work)


def test_what_ends_the_process_each_time_is_put_aside_too(make_engine):
    """A row is claimed before it is read: begun three times and never ended, it is not begun again."""

    async def work(house, returns):
        [row] = await house.delivered()
        arrived = Arrived(kind="mail", details={"recipients": [returns.path(row)]}, body=letters.VACATION)
        await house.engine.write(lambda conn: inbound.put(conn, arrived, house.clock.now()))
        for _ in range(3):
            assert len(await house.engine.write(lambda conn: inbound.claim(conn, house.clock.now(), 5))) == 1
            house.clock.advance(121)
        await returns.loop.step()
        assert await returns.rows() == {"quarantined": 1}

    run_returns(make_engine, work)


def test_two_processes_never_work_on_the_same_row(make_engine):
    """A claimed row is nobody else's until its claim ends."""

    async def work(house, returns):
        arrived = Arrived(kind="mail", details={"recipients": []}, body=b"x")
        for _ in range(8):
            await house.engine.write(lambda conn: inbound.put(conn, arrived, house.clock.now()))
        now = house.clock.now()
        claimed = await asyncio.gather(*[house.engine.write(lambda conn: inbound.claim(conn, now, 3)) for _ in range(4)])
        assert len({row.id for rows in claimed for row in rows}) == 8 == sum(map(len, claimed))

    run_returns(make_engine, work)


def test_a_bounce_that_overtakes_its_delivery_is_looked_at_again(make_engine):
    """The other side may be quicker than our own commit: the bounce waits a moment and then counts."""

    async def work(house, returns):
        [row] = await house.engine.write(lambda conn: put_message(conn))
        await returns.arrive(letters.bounce(returns.path(row), "user0@example.net"), returns.path(row))
        assert await returns.rows() == {"waiting": 1}
        for _ in range(8):
            house.clock.advance(86_401)
            await returns.loop.step()
        assert (await returns.rows(), await house.suppressed()) == ({"unmatched": 1}, [])

    run_returns(make_engine, work)


def test_what_came_back_is_sealed(make_engine):
    """Who has only the disk reads neither addresses nor contents of what waits."""

    async def work(house, returns):
        [row] = await house.delivered()
        submission = RawSubmission(
            envelope_from=None, recipients=(EnvelopeRecipient(address=parse_address(returns.path(row))),), content=letters.VACATION
        )
        await returns.listening.submit_raw(STRANGER, submission)
        rows = await house.engine.read(lambda conn: conn.exec_driver_sql("SELECT * FROM inbound").all())
        shown = b" ".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
        assert len(rows) == 1
        assert b"Monday" not in shown
        assert b"bounces.example" not in shown

    run_returns(make_engine, work)


def test_a_token_of_a_message_that_is_gone_changes_nothing(make_engine):
    """A genuine token whose message is no longer there: put aside, and nobody is suppressed."""

    async def work(house, returns):
        path = PATHS.address_for(ids.new_message_id(), 0, "", house.clock.now())
        await returns.arrive(letters.bounce(path, "user0@example.net"), path)
        assert (await returns.rows(), await house.suppressed()) == ({"unmatched": 1}, [])

    run_returns(make_engine, work)
