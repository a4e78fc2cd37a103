"""The client: trusted connections only, and bounds that no server can leave."""

import asyncio
import time

import pytest

from gatepost.clock import SystemClock
from gatepost.net.imap import ImapAccount, ImapTrouble, Secret, open_mailbox
from tests.imap.dovecot import PASSWORD
from tests.imap.hostile import HostileServer

CLOCK = SystemClock()


def account(port, tls="never", user="ann", *, host="localhost", password=PASSWORD, ca_file="", timeout_s=5.0, is_token=False):
    async def secret():
        return Secret(text=password, is_token=is_token)

    return ImapAccount(host=host, port=port, user=user, tls=tls, secret=secret, ca_file=ca_file, timeout_s=timeout_s)


def use(account, work, session_s=20.0):
    async def main():
        async with open_mailbox(account, CLOCK, session_s) as session:
            return await work(session)

    return asyncio.run(main())


def trouble(account, work=None, session_s=20.0):
    async def nothing(session):
        return None

    with pytest.raises(ImapTrouble) as caught:
        use(account, work or nothing, session_s)
    assert str(caught.value).isprintable()
    assert PASSWORD not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_mailbox_is_read_over_verified_tls(dovecot, user, tls):
    """Both ways of TLS with a trusted certificate: folders, search, size, content, header, flags, moving, deleting."""
    dovecot.put(user, b"Subject: one\r\nX-Mark: m1\r\n\r\nhello\r\n")
    dovecot.put(user, b"Subject: two\r\n\r\nhello again\r\n")
    port = dovecot.tls_port if tls == "implicit" else dovecot.plain_port

    async def work(session):
        folder = await session.select("INBOX")

        async def every(uids):
            return list(uids)

        assert (folder.messages, folder.keeps_keywords) == (2, True)
        assert await session.search(folder, ["UNDELETED"], 10, every) == [1, 2]
        assert await session.sizes([1, 2, 3]) == {1: 35, 2: 29}
        assert await session.content(2, 1_000) == b"Subject: two\r\n\r\nhello again\r\n"
        assert await session.content(3, 1_000) is None
        head = await session.head(1)
        assert head.content == b"Subject: one\r\nX-Mark: m1\r\n\r\n"
        assert abs(head.arrived_at - CLOCK.now()) < 3_600_000
        assert await session.find(["HEADER", "X-Mark", "m1"]) == [1]
        assert await session.junk_folders() == ["Junk"]
        await session.flag(1, ["Mine"])
        await session.move(1, "Done & dusted")
        await session.delete(2)

    use(account(port, tls, user, ca_file=dovecot.ca_file), work)
    assert dovecot.contents(user) == {}
    [(content, flags)] = dovecot.contents(user, "Done & dusted").values()
    assert content.startswith(b"Subject: one")
    assert b"Mine" in flags


def test_nothing_is_said_to_a_server_that_cannot_be_trusted(dovecot):
    """A certificate of a stranger, of another name, or no STARTTLS at all: no password leaves."""
    assert "certificate" in str(trouble(account(dovecot.tls_port, "implicit")))
    assert "certificate" in str(trouble(account(dovecot.plain_port, "starttls")))
    wrong_name = account(dovecot.tls_port, "implicit", host="127.0.0.2", ca_file=dovecot.ca_file)
    assert str(trouble(wrong_name))
    with HostileServer({}) as plain:
        assert "STARTTLS" in str(trouble(account(plain.port, "starttls", ca_file=dovecot.ca_file)))
    with HostileServer({}, b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome\r\n") as signed_in:
        trouble(account(signed_in.port, "starttls", ca_file=dovecot.ca_file))
    for server in (plain, signed_in):
        assert not any(b"AUTHENTICATE" in line or b"LOGIN" in line for line in server.said)


def test_a_wrong_password_is_told_apart(dovecot, user):
    """Refused is not unreachable: an operator has to do something."""
    assert trouble(account(dovecot.tls_port, "implicit", user, password="wrong", ca_file=dovecot.ca_file)).is_refused
    assert not trouble(account(1)).is_refused


def test_tokens_and_old_servers_are_spoken_to_in_their_own_way():
    """XOAUTH2 for tokens; LOGIN, quoted, where PLAIN is not offered; nothing where neither is."""
    with HostileServer({}) as server:
        use(account(server.port, password="tok", is_token=True), lambda session: session.select("INBOX"))
        assert b"AUTHENTICATE XOAUTH2" in b"".join(server.said)
    old = b"* OK [CAPABILITY IMAP4rev1] hi\r\n"
    with HostileServer({"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n"}, old) as server:
        use(account(server.port, user='a"b', password='p"w\\d'), lambda session: session.select("INBOX"))
        assert b'LOGIN "a\\"b" "p\\"w\\\\d"' in b"".join(server.said)
    with HostileServer({"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\n"}, old) as server:
        assert trouble(account(server.port)).is_refused


def _literal(size):
    return lambda tag: b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % size + b"x" * 1000


HOSTILE = {
    "a literal of a terabyte": {"UID FETCH": _literal(10**12)},
    "a literal of more digits than numbers have": {"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {" + b"9" * 5000 + b"}\r\n"},
    "more than was announced": {"UID FETCH": b"* 1 FETCH (UID 1 RFC822.SIZE 5 BODY[] {9000}\r\n" + b"x" * 9000 + b")\r\n"},
    "a line without end": {"UID FETCH": lambda tag: b"* 1 FETCH (UID 1 BODY[] " + b"a" * 3_000_000},
    "answers without end": {"UID FETCH": lambda tag: b"* OK ENDLESS of nothing\r\n" * 1000},
    "parentheses without end": {"UID FETCH": b"* 1 FETCH " + b"(" * 100_000 + b"\r\n"},
    "noise": {"UID FETCH": b"\x00\xff\xfe nothing at all\r\n"},
    "an end in the middle": {"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {100}\r\nshort"},
    "goodbye": {"UID FETCH": b"* BYE for now\r\n"},
    "a refusal": {"UID FETCH": lambda tag: tag + b" NO I will \x1b[31mnot\r\n"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_server_takes_more_than_it_may(name):
    """Whatever is answered to a fetch of at most 5,000 bytes becomes a trouble in words, with no more than some megabytes in memory."""

    async def fetch(session):
        await session.select("INBOX")
        await session.content(1, 5_000)

    with HostileServer(HOSTILE[name]) as server:
        found = trouble(account(server.port, timeout_s=0.5), fetch, session_s=3.0)
        assert any(b"UID FETCH" in line for line in server.said)
    assert str(found)


def test_a_server_that_never_ends_is_left_in_time():
    """A byte now and then does not keep a session alive beyond its time: in the greeting, in an answer, in silence."""

    def drip(tag):
        time.sleep(0.05)
        return b"* OK drip\r\n"

    for script, greeting in (
        ({"SELECT": drip}, b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n"),
        ({"SELECT": lambda tag: None}, b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n"),
        ({}, b"* OK no end of line"),
    ):
        with HostileServer(script, greeting) as server:
            assert "longer" in str(
                found := trouble(account(server.port, timeout_s=0.4), lambda session: session.select("INBOX"), session_s=0.6)
            ) or "in time" in str(found)


def test_other_messages_than_the_one_asked_for_are_not_believed():
    """UIDs that are none, and contents of other messages, are passed over."""
    script = {
        "UID SEARCH": b"* SEARCH 0 3 99999999999 3\r\n",
        "UID FETCH": b"* 9 FETCH (UID 77 RFC822.SIZE 4 BODY[] {4}\r\nabcd)\r\n",
    }

    async def work(session):
        await session.select("INBOX")
        return await session.find(["ALL"]), await session.sizes([3]), await session.content(3, 100)

    with HostileServer(script) as server:
        assert use(account(server.port), work) == ([3], {}, None)
    for select in (b"* 1 EXISTS\r\n", b"* OK [UIDVALIDITY 0] x\r\n", b"* OK [UIDVALIDITY 99999999999] x\r\n"):
        with HostileServer({"SELECT": select}) as server:
            assert "UIDVALIDITY" in str(trouble(account(server.port), lambda session: session.select("INBOX")))
