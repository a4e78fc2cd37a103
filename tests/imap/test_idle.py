"""Abuse mailboxes whose server tells of new mail (RFC 2177): it is read as it comes, and polling is there when that ends."""

import asyncio
import contextlib
import time

import pytest

from gatepost.returns import mailbox
from gatepost.returns.mailbox import READ
from gatepost.settings import Mailbox
from gatepost.store import health
from tests.imap.dovecot import PASSWORD
from tests.imap.hostile import HostileServer
from tests.imap.test_mailbox import in_thread, options, run_post
from tests.returns import letters


async def until(check, house=None):
    """Wait for something that a real server does; a fake clock goes on so little that nothing is polled."""
    deadline = time.monotonic() + 15
    while not (found := await check()):
        assert time.monotonic() < deadline, "it does not happen"
        if house is not None:
            house.clock.advance(0.1)
        await asyncio.sleep(0.02)
    return found


@contextlib.asynccontextmanager
async def watching(reader):
    task = asyncio.create_task(reader.watch())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_mail_is_read_as_it_comes(make_engine, dovecot, user):
    """A real Dovecot tells of each mail: stored and flagged long before the mailbox would have been polled; a complaint counts at once."""

    async def work(house, post):
        [row] = await house.delivered(stream="bulk")
        began = house.clock.now()
        async with watching(post.reader()) as task:
            await until(post.state)
            for n, content in enumerate((letters.complaint("abuse@acme.example", post.returns.path(row)), letters.VACATION), 1):
                await in_thread(dovecot.put, user, content)
                await until(lambda n=n: _is(post.waiting, n), house)
            assert house.clock.now() - began < 30_000, "nothing was polled: that is once a minute"
            flags = [flags for _, flags in (await in_thread(dovecot.contents, user)).values()]
            assert all(READ.encode() in one for one in flags)
            assert not task.done()
        await post.returns.loop.step()
        assert await house.suppressed() == [("user0@example.net", "bulk", "complaint")]
        assert (await post.state()).failures == 0

    run_post(make_engine, options(dovecot, user), work)


async def _is(count, wanted):
    return await count() == wanted


def test_a_wait_that_is_over_begins_anew(make_engine, dovecot, user, monkeypatch):
    """Many short waits in one session: what comes in between is read, and how the mailbox does is written down."""
    monkeypatch.setattr(mailbox, "_WAIT_S", 0.05)

    async def work(house, post):
        async with watching(post.reader()):
            first = await until(post.state)
            await asyncio.sleep(0.3)
            house.clock.advance(61)
            await until(lambda: _later(post, first.checked_at))
            await in_thread(dovecot.put, user, letters.VACATION)
            await until(lambda: _is(post.waiting, 1), house)

    run_post(make_engine, options(dovecot, user), work)


async def _later(post, checked_at):
    return (await post.state()).checked_at > checked_at


def test_who_lost_the_mailbox_stops_waiting(make_engine, dovecot, user, monkeypatch):
    """Another process took it over: the first one leaves the server, and stores nothing more."""
    monkeypatch.setattr(mailbox, "_WAIT_S", 0.05)

    async def work(house, post):
        async with watching(post.reader("one")) as task:
            await until(post.state)
            now = house.clock.now()
            await house.engine.write(lambda conn: health.let_go(conn, "one"))
            assert await house.engine.write(lambda conn: health.hold(conn, "mailbox abuse", "two", now, now + 10**9))
            house.clock.advance(25)
            await asyncio.wait_for(task, 10)
        await in_thread(dovecot.put, user, letters.VACATION)
        house.clock.advance(70)
        await post.reader("one").watch()
        assert await post.waiting() == 0

    run_post(make_engine, options(dovecot, user), work)


def test_it_can_be_switched_off(make_engine, dovecot, user):
    """With idle = false the mailbox is asked now and then, as where the server tells of nothing."""

    async def work(house, post):
        await in_thread(dovecot.put, user, letters.VACATION)
        await asyncio.wait_for(post.reader().watch(), 10)
        assert await post.waiting() == 1
        assert (await post.state()).due_at == house.clock.now() + 60_000

    run_post(make_engine, options(dovecot, user, idle=False), work)


GREETING = b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS IDLE] hello\r\n"
CAPABILITY = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS IDLE\r\n"}


def once(text):
    """Say something once and nothing of the usual."""
    said = []

    def answer(tag):
        if said:
            return None
        said.append(tag)
        return text.replace(b"TAG", tag)

    return answer


@pytest.mark.parametrize(
    ("script", "greeting"),
    [
        ({}, b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS] hello\r\n"),
        ({**CAPABILITY, "IDLE": once(b"TAG NO not now\r\n")}, GREETING),
        ({**CAPABILITY, "IDLE": once(b"TAG OK already done\r\n")}, GREETING),
        ({**CAPABILITY, "IDLE": once(b"+ idling\r\n* BYE going down\r\nTAG OK\r\n* 1 EXISTS\r\n")}, GREETING),
        ({**CAPABILITY, "IDLE": once(b"+ idling\r\n" + b"* 1 EXISTS\r\n" * 300_000)}, GREETING),
        ({**CAPABILITY, "IDLE": once(b"+ idling\r\n" + b"x" * 3_000_000)}, GREETING),
    ],
    ids=["not offered", "refused", "ended at once", "ended", "news without end", "a line without end"],
)  # fmt: skip
def test_where_it_ends_polling_goes_on(make_engine, script, greeting):
    """Whatever the server does with our waiting is no failure of the mailbox: it is asked again in its time."""

    async def work(house, post):
        reader = post.reader()
        await asyncio.wait_for(reader.watch(), 20)
        state = await post.state()
        assert (state.failures, state.detail) == (0, "")
        for seconds, looks in ((30, 1), (31, 2)):
            house.clock.advance(seconds)
            await asyncio.wait_for(reader.step(), 20)
            assert sum(b"SELECT" in line for line in server.said) == looks

    with HostileServer(script, greeting) as server:
        wanted = Mailbox(url=f"imap://ann@localhost:{server.port}/?tls=never", secret=PASSWORD, timeout_s=1.0)
        run_post(make_engine, wanted, work)
