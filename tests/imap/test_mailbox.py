"""Abuse mailboxes: each mail is stored once, the mailbox is told afterwards, and only what is proved counts; on both engines."""

import asyncio
import contextlib

import msgspec
import pytest

from gatepost.app.imap import create_account
from gatepost.observe import maillog
from gatepost.returns.mailbox import LEFT, READ, AbuseMailbox
from gatepost.serve import mailbox_checks
from gatepost.settings import InvalidSettings, Loaded, Mailbox, Settings, parse_imap_url
from gatepost.settings.checks import check
from gatepost.store import health, inbound, mailboxes
from gatepost.store.errors import StorageUnavailable
from tests.imap.dovecot import PASSWORD
from tests.imap.hostile import HostileServer
from tests.returns import letters
from tests.returns.test_loop import Returns
from tests.returns.test_reported import run


class Post:
    """An abuse mailbox and who reads it."""

    def __init__(self, house, options, most_bytes=20_000):
        self.house, self.options, self.most_bytes = house, options, most_bytes
        self.returns = Returns(house)

    def reader(self, owner="one", engine=None):
        """A process that reads it."""
        account = create_account("mailboxes", "abuse", self.options, self.house.clock)
        folder = parse_imap_url(self.options.url).folder or "INBOX"
        return AbuseMailbox(
            engine or self.house.engine, self.house.clock, "abuse", self.options, account, folder, most_bytes=self.most_bytes, owner=owner
        )

    async def state(self):
        return (await self.house.engine.read(mailboxes.states)).get("abuse")

    async def waiting(self):
        return (await self.house.engine.read(inbound.counts)).get("waiting", 0)


def run_post(make_engine, options, work, **more):
    async def with_post(house):
        await work(house, Post(house, options, **more))

    run(make_engine, with_post)


def options(dovecot, user, **more):
    return Mailbox(url=dovecot.url(user), secret=PASSWORD, ca_file=dovecot.ca_file, timeout_s=5.0, **more)


async def in_thread(work, *arguments):
    return await asyncio.to_thread(work, *arguments)


def test_a_complaint_in_a_mailbox_counts_like_one_at_our_own_door(make_engine, dovecot, user):
    """Read, stored, settled: who complained is suppressed, and the mailbox shows that the mail was read."""

    async def work(house, post):
        [row] = await house.delivered(stream="bulk")
        await in_thread(dovecot.put, user, letters.complaint("abuse@acme.example", post.returns.path(row)))
        await post.reader().step()
        assert await post.waiting() == 1
        await post.returns.loop.step()
        assert await house.suppressed() == [("user0@example.net", "bulk", "complaint")]
        [(_, flags)] = (await in_thread(dovecot.contents, user)).values()
        assert READ.encode() in flags
        assert b"\\Seen" not in flags
        state = await post.state()
        assert (state.failures, state.detail, state.due_at) == (0, "", house.clock.now() + 60_000)

    run_post(make_engine, options(dovecot, user), work)


def test_forged_mail_in_a_mailbox_changes_nothing(make_engine, dovecot, user):
    """THREATS 40 to 46: whom a mail names does not count, guessed and several return paths neither; nothing is answered."""

    async def work(house, post):
        [row] = await house.delivered(stream="bulk")
        [other] = await house.delivered(tenant_id="ten_b", stream="bulk", domains=("victim.example",))
        genuine = post.returns.path(row)
        guessed = genuine[:10] + ("a" if genuine[10] != "a" else "b") + genuine[11:]
        for content in (
            letters.complaint("abuse@acme.example", "shop@acme.example"),
            letters.complaint("abuse@acme.example", guessed),
            letters.complaint("abuse@acme.example", f"{genuine}> <{post.returns.path(other)}"),
            letters.bounce("abuse@acme.example", "user0@victim.example"),
            letters.VACATION,
            b"Subject: buy\r\n\r\nthis\r\n",
        ):
            await in_thread(dovecot.put, user, content)
        await post.reader().step()
        assert await post.waiting() == 6
        await post.returns.loop.step()
        assert (await house.suppressed(), await house.suppressed("ten_b")) == ([], [])
        assert [(await house.state(one)).status for one in (row, other)] == ["delivered", "delivered"]
        await in_thread(dovecot.put, user, letters.complaint("abuse@acme.example", genuine, recipient="user0@victim.example"))
        house.clock.advance(61)
        await post.reader().step()
        await post.returns.loop.step()
        assert (await house.suppressed(), await house.suppressed("ten_b")) == ([("user0@example.net", "bulk", "complaint")], [])

    run_post(make_engine, options(dovecot, user), work)


@pytest.mark.parametrize("when_read", ["move", "delete"])
def test_read_mail_can_be_moved_or_deleted(make_engine, dovecot, user, when_read):
    """The folder is made where it is missing; nothing else of the mailbox is touched."""

    async def work(house, post):
        await in_thread(dovecot.put, user, letters.VACATION)
        await in_thread(dovecot.put, user, b"Subject: old\r\n\r\nx\r\n", "INBOX", (b"\\Deleted",))
        await post.reader().step()
        assert await post.waiting() == 1
        left = await in_thread(dovecot.contents, user)
        assert [content for content, _ in left.values()] == [b"Subject: old\r\n\r\nx\r\n"]
        if when_read == "move":
            moved = await in_thread(dovecot.contents, user, "Read/by Gatepost")
            assert [content for content, _ in moved.values()] == [letters.VACATION]

    move_to = "Read/by Gatepost" if when_read == "move" else ""
    run_post(make_engine, options(dovecot, user, when_read=when_read, move_to=move_to), work)


class DyingEngine:
    """An engine whose process dies after a number of writes: what was written stays, the rest never happens."""

    def __init__(self, engine, writes):
        self.read, self._engine, self._left = engine.read, engine, writes

    async def write(self, work):
        if self._left == 0:
            raise StorageUnavailable("killed")
        self._left -= 1
        return await self._engine.write(work)


@pytest.mark.parametrize("when_read", ["flag", "delete"])
def test_a_process_that_dies_loses_nothing_and_reads_nothing_twice(make_engine, dovecot, user, when_read):
    """Killed at each of its commits, again and again, while mail comes: in the end each mail was stored once, and the mailbox knows."""

    async def work(house, post):
        deaths = (0, 1, 2, 3, 4, 1, 2, 3, 5, 2)
        for n, writes in enumerate(deaths, 1):
            await in_thread(dovecot.put, user, b"Subject: mail %d\r\n\r\nx\r\n" % n)
            with contextlib.suppress(StorageUnavailable):
                await post.reader(engine=DyingEngine(house.engine, writes)).step()
            stored = await post.waiting()
            left = await in_thread(dovecot.contents, user)
            told = n - len(left) if when_read == "delete" else sum(READ.encode() in flags for _, flags in left.values())
            assert told <= stored, "the mailbox was told before the commit"
        await post.reader().step()
        assert await post.waiting() == len(deaths)
        left = await in_thread(dovecot.contents, user)
        assert all(READ.encode() in flags for _, flags in left.values())
        assert len(left) == (0 if when_read == "delete" else len(deaths))

    run_post(make_engine, options(dovecot, user, when_read=when_read), work)


def test_what_cannot_be_marked_is_still_read_once(make_engine, dovecot, user):
    """A folder that cannot be made keeps no mail from being read; it is stored once, the trouble shows, and later all is moved."""

    async def work(house, post):
        await in_thread(dovecot.put, user, b"Subject: one\r\n\r\nx\r\n")
        await post.reader().step()
        state = await post.state()
        assert (await post.waiting(), state.failures) == (1, 1)
        assert "refuses" in state.detail
        await in_thread(dovecot.put, user, b"Subject: two\r\n\r\nx\r\n")
        await post.reader().step()
        assert await post.waiting() == 2
        post.options = options(dovecot, user, when_read="move", move_to="Read")
        await post.reader().step()
        assert (await post.waiting(), (await post.state()).failures) == (2, 0)
        assert len(await in_thread(dovecot.contents, user, "Read")) == 2

    run_post(make_engine, options(dovecot, user, when_read="move", move_to="a//b"), work)


def test_new_uids_of_the_same_mail_are_not_read_again(make_engine):
    """RFC 3501 §2.3.1.1: after a new UIDVALIDITY the same contents are known, and new mail is read."""
    contents = {1: b"Subject: one\r\n\r\nx\r\n", 2: b"Subject: two\r\n\r\nx\r\n"}
    validity = [7]

    def fetch(tag):
        size = b"".join(b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (uid, uid, len(one)) for uid, one in contents.items())
        return (
            size
            + b"".join(b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)\r\n" % (uid, uid, len(one), one) for uid, one in contents.items())
            + tag
            + b" OK done\r\n"
        )

    script = {
        "SELECT": lambda tag: (
            b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] x\r\n* OK [PERMANENTFLAGS (\\Seen)] x\r\n%b OK done\r\n"
            % (len(contents), validity[0], tag)
        ),
        "UID SEARCH": lambda tag: b"* SEARCH " + b" ".join(b"%d" % uid for uid in contents) + b"\r\n" + tag + b" OK done\r\n",
        "UID FETCH": fetch,
    }

    async def work(house, post):
        for at, stored in ((7, 2), (7, 2), (8, 2)):
            validity[0] = at
            await post.reader().step()
            assert await post.waiting() == stored
        contents[3] = b"Subject: three\r\n\r\nx\r\n"
        await post.reader().step()
        assert await post.waiting() == 3
        assert (await post.state()).failures == 0

    with HostileServer(script) as server:
        run_post(make_engine, Mailbox(url=f"imap://ann@127.0.0.1:{server.port}/?tls=never", secret="x"), work)


def test_too_large_mail_is_left_and_told_once(make_engine, dovecot, user, capfd):
    """Its size is asked first: it is flagged for people, never fetched, and others are read."""
    maillog.configure(level="info", mask_addresses=True, process="test")

    async def work(house, post):
        await in_thread(dovecot.put, user, b"Subject: big\r\n\r\n" + b"x" * 30_000 + b"\r\n")
        await in_thread(dovecot.put, user, b"Subject: small\r\n\r\nx\r\n")
        for _ in range(2):
            await post.reader().step()
        assert await post.waiting() == 1
        found = await in_thread(dovecot.contents, user)
        flags = next(flags for content, flags in found.values() if b"big" in content)
        assert {b"\\Flagged", LEFT.encode()} <= set(flags)
        assert (await post.state()).failures == 0

    run_post(make_engine, options(dovecot, user, when_read="delete"), work)
    assert capfd.readouterr().err.count("is left there") == 1


def test_a_mail_that_cannot_be_had_does_not_keep_the_others(make_engine):
    """Tried three times, then left there: what came after it is read from the beginning."""
    good = b"Subject: good\r\n\r\nx\r\n"

    def fetch(tag):
        asked = server.said[-1]
        if b"SIZE" in asked:
            return b"* 1 FETCH (UID 1 RFC822.SIZE 10)\r\n* 2 FETCH (UID 2 RFC822.SIZE 10)\r\n" + tag + b" OK done\r\n"
        if b"FETCH 1 " in asked:
            return tag + b" NO it is broken\r\n"
        return b"* 2 FETCH (UID 2 BODY[] {%d}\r\n%b)\r\n" % (len(good), good) + tag + b" OK done\r\n"

    async def work(house, post):
        reader = post.reader()
        for waiting, failures in ((1, 1), (1, 2), (1, 3), (1, 0)):
            await reader.step()
            assert (await post.waiting(), (await post.state()).failures) == (waiting, failures)
            house.clock.advance(3601)

    with HostileServer({"UID SEARCH": b"* SEARCH 1 2\r\n", "UID FETCH": fetch}) as server:
        run_post(make_engine, Mailbox(url=f"imap://ann@127.0.0.1:{server.port}/?tls=never", secret="x"), work)


def test_a_mailbox_that_fails_is_asked_ever_less(make_engine, dovecot, user):
    """A server that is away shows with its cause, waits double each time up to an hour, and is over with the first success."""

    async def work(house, post):
        reader, waits = post.reader(), []
        for _ in range(8):
            await reader.step()
            state = await post.state()
            waits.append((state.due_at - state.checked_at) // 1000)
            await reader.step()
            assert (await post.state()).checked_at == state.checked_at, "it was asked too early"
            house.clock.advance(waits[-1])
        assert waits == [120, 240, 480, 960, 1920, 3600, 3600, 3600]
        assert "Connection refused" in state.detail
        assert state.failing_since < state.checked_at
        post.options = options(dovecot, user)
        await post.reader().step()
        assert (await post.state()).failing_since is None

    run_post(make_engine, Mailbox(url="imap://ann@127.0.0.1:1/?tls=never", secret="x"), work)


def test_one_process_of_several_reads_a_mailbox(make_engine, dovecot, user):
    """Who has the lease reads; another takes over when it gives it back."""

    async def work(house, post):
        await in_thread(dovecot.put, user, letters.VACATION)
        one, two = post.reader("one"), post.reader("two")
        await asyncio.gather(one.step(), two.step())
        assert await post.waiting() == 1
        owners = {await house.engine.read(lambda conn: conn.exec_driver_sql("SELECT owner FROM watch_lease").scalar_one())}
        await in_thread(dovecot.put, user, b"Subject: next\r\n\r\nx\r\n")
        house.clock.advance(61)
        loser = two if owners == {"one"} else one
        await loser.step()
        assert await post.waiting() == 1
        await house.engine.write(lambda conn: health.let_go(conn, owners.pop()))
        house.clock.advance(61)
        await loser.step()
        assert await post.waiting() == 2

    run_post(make_engine, options(dovecot, user), work)


def test_options_that_make_no_sense_are_refused():
    """Passwords in URLs, folders that are read and moved to, mailboxes without return paths: said at the start, without secrets."""
    for url in (
        "http://u@h",
        "imaps://h/x",
        "imaps://u:hunter2@h",
        "imap://u@far.example?tls=never",
        "imaps://u@h?tls=never",
        "imaps://u@h?x=1",
        "imaps://u%0a@h",
    ):
        with pytest.raises(ValueError) as caught:
            parse_imap_url(url)
        assert "hunter2" not in str(caught.value)
    good = {"inbound": {"bounce_domain": "b.example"}, "mailboxes": {"abuse": {"url": "imaps://u@h", "secret": "x"}}}
    check(msgspec.convert(good, Settings))
    for name, changes in (
        ("move_to", {"mailboxes": {"abuse": {"url": "imaps://u@h", "move_to": "x"}}}),
        ("move_to", {"mailboxes": {"abuse": {"url": "imaps://u@h/Abuse", "when_read": "move", "move_to": "abuse"}}}),
        ("bounce_domain", {"inbound": {}}),
        ("seeds.a.url", {"seeds": {"a": {"url": "imaps://u@h/INBOX", "address": "u@h.example"}}}),
        ("placement.daily", {"placement": {"daily": ["a@b.example"]}}),
    ):
        with pytest.raises(InvalidSettings, match=name):
            check(msgspec.convert(good | changes, Settings))
    with pytest.raises(InvalidSettings, match="secret"):
        create_account("mailboxes", "abuse", Mailbox(url="imaps://u@h"), None)


def test_the_doctor_opens_every_mailbox(make_engine, dovecot, user, tmp_path):
    """What is wrong with a mailbox, a seed or its folder of spam stands beside its name; nothing is read or marked, no secret is shown."""
    dovecot.put(user, letters.VACATION)
    good = {"url": dovecot.url(user), "secret": PASSWORD, "ca_file": dovecot.ca_file}
    seed = {**good, "address": "a@seed.example"}
    data = {
        "inbound": {"bounce_domain": "b.example"},
        "mailboxes": {"good": good, "wrong": {**good, "secret": "hunter2"}, "no-folder": {**good, "url": dovecot.url(user, "Nowhere")}},
        "seeds": {"good": seed, "away": {**seed, "url": "imap://u@127.0.0.1:1/?tls=never"}, "untrusted": {**seed, "ca_file": ""}},
    }
    loaded = Loaded(settings=msgspec.convert(data, Settings), origins={}, data_dir=tmp_path / "data2")
    found = {one.check: one for one in mailbox_checks.examine(loaded)}
    assert {name: one.status for name, one in found.items()} == {
        "mailbox good": "ok", "mailbox wrong": "failed", "mailbox no-folder": "failed", "seed good": "ok", "seed away": "failed", "seed untrusted": "failed",
    }  # fmt: skip
    assert (found["mailbox good"].detail, found["seed good"].detail) == ("INBOX: 1 messages", "INBOX: 1 messages; spam: Junk")
    assert "does not take us" in found["mailbox wrong"].detail
    assert "certificate" in found["seed untrusted"].detail
    assert "hunter2" not in repr(found)
    [(_, flags)] = dovecot.contents(user).values()
    assert set(flags) <= {b"\\Recent"}
