"""The SMTP client's state machine, played by hand: what the server says, what the client then writes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.smtp_client import Credentials, Phase, SmtpClient, TlsLevel
from gatepost.wire.smtp_client_verdict import Fault, Stage

ALL = "250-mx.test\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n250 DSN"
LOCKSTEP = "250-mx.test\n250 8BITMIME"


@dataclass(frozen=True)
class To:
    address: str
    notify: str | None = None
    orcpt: str | None = None


@dataclass(frozen=True)
class Letter:
    recipients: tuple[To, ...] = (To("bob@mx.test"),)
    envelope_from: str = "ann@acme.example"
    content: bytes = b"Subject: hi\r\n\r\nbody\r\n"
    is_8bit: bool = False
    is_smtputf8: bool = False
    requires_tls: bool = False
    ret: str | None = None
    envid: str | None = None


def say(client: SmtpClient, *replies: str) -> bytes:
    return b"".join(client.receive(reply.replace("\n", "\r\n").encode() + b"\r\n") for reply in replies)


def ready(hello: str = ALL, **options: object) -> SmtpClient:
    client = SmtpClient(hostname="gw.acme.example", **options)  # type: ignore[arg-type]
    say(client, "220 mx.test ESMTP", hello)
    assert client.phase is Phase.READY
    return client


def codes(client: SmtpClient) -> list[int | str]:
    return [verdict.reply.code if verdict.reply else verdict.fault.value for verdict in client.verdicts]  # type: ignore[union-attr]


def test_a_session_starts_with_ehlo_and_falls_back_to_helo() -> None:
    """A server that does not know EHLO is greeted with HELO (RFC 5321 §3.2)."""
    client = SmtpClient(hostname="gw.acme.example")
    assert say(client, "220 mx.test") == b"EHLO gw.acme.example\r\n"
    assert say(client, "502 what?") == b"HELO gw.acme.example\r\n"
    say(client, "250 mx.test")
    assert client.phase is Phase.READY


def test_with_pipelining_the_envelope_is_one_write() -> None:
    """MAIL, every RCPT and DATA go out together (RFC 2920 §3.1), content and final dot likewise."""
    client = ready()
    out = client.send(Letter(recipients=(To("bob@mx.test"), To("eve@mx.test"))))
    assert out == b"MAIL FROM:<ann@acme.example> SIZE=21\r\nRCPT TO:<bob@mx.test>\r\nRCPT TO:<eve@mx.test>\r\nDATA\r\n"
    assert say(client, "250 ok\n250 ok\n250 ok\n354 go") == b"Subject: hi\r\n\r\nbody\r\n.\r\n"
    say(client, "250 2.0.0 queued")
    assert client.phase is Phase.READY
    assert codes(client) == [250, 250]


def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    """A server that did not offer PIPELINING sees one command at a time."""
    client = ready(LOCKSTEP)
    assert client.send(Letter(recipients=(To("bob@mx.test"), To("eve@mx.test")))) == b"MAIL FROM:<ann@acme.example>\r\n"
    assert say(client, "250 ok") == b"RCPT TO:<bob@mx.test>\r\n"
    assert say(client, "250 ok") == b"RCPT TO:<eve@mx.test>\r\n"
    assert say(client, "550 5.1.1 no") == b"DATA\r\n"
    assert say(client, "354 go").endswith(b".\r\n")
    say(client, "250 ok")
    assert codes(client) == [250, 550]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (["250 ok", "550 5.1.1 no", "250 ok", "354 go", "250 ok"], [550, 250]),
        (["250 ok", "450 later", "250 ok", "354 go", "554 spam"], [450, 554]),
        (["250 ok", "250 ok", "550 no", "451 later"], [451, 550]),
        (["550 no", "503 no", "503 no", "503 no"], [550, 550]),
        (["250 ok", "550 a", "551 b", "554 no valid recipients"], [550, 551]),
        (["250 ok", "550 a", "551 b", "354 go", "250 nothing done"], [550, 551]),
        (["250 ok", "250 ok", "421 bye"], [421, 421]),
        (["250 ok", "250 ok", "250 ok", "354 go", "421 bye"], [421, 421]),
    ],
)
def test_every_recipient_gets_the_reply_that_decided_it(replies: list[str], expected: list[int]) -> None:
    """The first refusal on a recipient's way counts, else the reply to the content."""
    client = ready()
    client.send(Letter(recipients=(To("bob@mx.test"), To("eve@mx.test"))))
    say(client, *replies)
    assert codes(client) == expected


def test_a_lone_dot_follows_when_all_recipients_were_refused_but_data_was_not() -> None:
    """The content is not sent to nobody (RFC 2920 §3.1)."""
    client = ready()
    client.send(Letter())
    assert say(client, "250 ok\n550 no\n354 go") == b".\r\n"
    say(client, "554 no recipients")
    assert (client.phase, codes(client)) == (Phase.READY, [550])


@pytest.mark.parametrize("hello", [ALL, LOCKSTEP])
def test_a_transaction_left_open_is_reset_before_the_next(hello: str) -> None:
    """After a refused DATA, or none, RSET comes first."""
    client = ready(hello)
    client.send(Letter())
    say(client, "250 ok", "550 no", *(["503 no recipients"] if hello == ALL else []))
    assert client.phase is Phase.READY
    assert client.send(Letter()).startswith(b"RSET\r\n")
    out = say(client, "250 reset", "250 ok", "250 ok") if hello == LOCKSTEP else say(client, "250 reset", "250 ok", "250 ok", "354 go")
    assert out.endswith(b"DATA\r\n") if hello == LOCKSTEP else out.endswith(b".\r\n")


def test_parameters_go_only_to_servers_that_offer_them() -> None:
    """SIZE, BODY, SMTPUTF8 and DSN parameters appear exactly where EHLO offered them."""
    letter = Letter(
        recipients=(To("bob@mx.test", "FAILURE", "rfc822;bob@mx.test"),), is_8bit=True, is_smtputf8=True, ret="HDRS", envid="id1"
    )
    assert ready().send(letter).splitlines()[:2] == [
        b"MAIL FROM:<ann@acme.example> SIZE=21 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id1",
        b"RCPT TO:<bob@mx.test> NOTIFY=FAILURE ORCPT=rfc822;bob@mx.test",
    ]
    bare = ready("250 mx.test")
    assert bare.send(Letter(recipients=letter.recipients, is_8bit=True, ret="HDRS", envid="id1")) == b"MAIL FROM:<ann@acme.example>\r\n"
    assert "no 8BITMIME here" in str(bare.transcript)


def test_a_message_over_the_announced_size_is_refused_here() -> None:
    """Nothing is sent that the server said it would not take (RFC 1870 §6.1)."""
    client = ready()
    assert client.send(Letter(content=b"x" * 1001)) == b""
    assert (client.phase, codes(client)) == (Phase.READY, [Fault.TOO_LARGE])


def test_utf8_addresses_need_the_offer_of_smtputf8() -> None:
    """Without SMTPUTF8 only the recipients that need it fail (RFC 6531 §3.2); UTF-8 headers fail all."""
    client = ready(LOCKSTEP)
    out = client.send(Letter(recipients=(To("bob@mx.test"), To("jürgen@mx.test")), is_smtputf8=True))
    assert out == b"MAIL FROM:<ann@acme.example>\r\n"
    say(client, "250 ok", "250 ok", "354 go", "250 ok")
    assert codes(client) == [250, Fault.NEEDS_SMTPUTF8]
    assert client.send(Letter(content="Subject: grüße\r\n\r\nx\r\n".encode(), is_smtputf8=True)) == b""
    assert codes(client) == [Fault.NEEDS_SMTPUTF8]
    assert "RCPT TO:<jürgen@mx.test>" in ready().send(Letter(recipients=(To("jürgen@mx.test"),))).decode()


BREAKERS = ["\r", "\n", "\r\n", "\0", "\x0b", "\x85", "\u2028", "\ud800", " ", ">"]


@pytest.mark.parametrize("breaker", BREAKERS)
def test_nothing_can_break_out_of_a_command(breaker: str) -> None:
    """THREATS 13: CR, LF, NUL and their friends never reach the wire from host name, addresses or parameters."""
    with pytest.raises(ValueError, match="EHLO"):
        SmtpClient(hostname=f"gw{breaker}MAIL")
    client = ready()
    assert client.send(Letter(recipients=(To(f"bob{breaker}RCPT@mx.test"), To(f"bob@mx{breaker}.test")))) == b""
    assert client.send(Letter(envelope_from=f"ann@acme{breaker}.example")) == b""
    assert codes(client) == [Fault.BAD_ADDRESS]
    if breaker != ">":
        out = client.send(
            Letter(recipients=(To("bob@mx.test", f"NEVER{breaker}X", f"a{breaker}b"),), ret=f"H{breaker}D", envid=f"a{breaker}")
        )
        assert out == b"MAIL FROM:<ann@acme.example> SIZE=21\r\nRCPT TO:<bob@mx.test>\r\nDATA\r\n"


def test_a_quoted_local_part_goes_out_as_it_is() -> None:
    """RFC 5321 §4.1.2 allows spaces in quotes."""
    assert b'RCPT TO:<"john doe"@mx.test>\r\n' in ready().send(Letter(recipients=(To('"john doe"@mx.test'),)))


STARTTLS = "250-mx.test\n250-AUTH PLAIN LOGIN\n250 STARTTLS"


def test_starttls_is_taken_and_ehlo_said_again() -> None:
    """What was offered before the handshake is forgotten (RFC 3207 §4.2)."""
    client = SmtpClient(hostname="gw.test", tls=TlsLevel.MUST)
    assert say(client, "220 mx", STARTTLS).endswith(b"STARTTLS\r\n")
    say(client, "220 go")
    assert client.phase is Phase.HANDSHAKE
    assert client.encrypted() == b"EHLO gw.test\r\n"
    say(client, "250 mx")
    assert (client.phase, client.extensions) == (Phase.READY, {})


@pytest.mark.parametrize("level", [TlsLevel.MAY, TlsLevel.MUST])
@pytest.mark.parametrize("extra", ["250 SIZE 1\r\n", "250-SIZE 1\r\n", "2", "\r\n", "junk"])
def test_plain_text_after_the_answer_to_starttls_ends_the_connection(level: TlsLevel, extra: str) -> None:
    """THREATS 5: an injected answer is never taken for one that came through TLS."""
    client = SmtpClient(hostname="gw.test", tls=level)
    say(client, "220 mx", STARTTLS)
    client.receive(b"220 go\r\n" + extra.encode())
    assert client.phase is Phase.CLOSED
    assert client.refusal is not None
    assert client.refusal.fault in {Fault.INJECTION, Fault.LOST}


def test_plain_text_that_comes_before_the_handshake_ends_the_connection() -> None:
    """The same injection in a segment of its own."""
    client = SmtpClient(hostname="gw.test")
    say(client, "220 mx", STARTTLS, "220 go")
    client.receive(b"250 SIZE 1\r\n")
    assert client.refusal is not None
    assert client.refusal.fault is Fault.INJECTION


@pytest.mark.parametrize("answers", [["250 mx"], [STARTTLS, "454 not now"]])
def test_without_tls_a_route_that_demands_it_delivers_nothing(answers: list[str]) -> None:
    """THREATS 5: a stripped or refused STARTTLS under `must` ends the session; under `may` it goes on."""
    strict = SmtpClient(hostname="gw.test", tls=TlsLevel.MUST)
    out = say(strict, "220 mx", *answers)
    assert strict.refusal is not None
    assert strict.refusal.fault is Fault.NO_TLS
    assert b"MAIL" not in out
    lenient = SmtpClient(hostname="gw.test", tls=TlsLevel.MAY)
    say(lenient, "220 mx", *answers)
    assert lenient.phase is Phase.READY


def test_passwords_are_sent_by_plain_or_login_and_never_shown() -> None:
    """AUTH PLAIN first, LOGIN where there is nothing else (RFC 4954); the transcript has `<secret>`."""
    secret = Credentials("user", "pässword")
    plain = SmtpClient(hostname="gw.test", tls=TlsLevel.NEVER, credentials=secret)
    assert say(plain, "220 mx", "250-mx\n250 AUTH LOGIN PLAIN").endswith(b"AUTH PLAIN AHVzZXIAcMOkc3N3b3Jk\r\n")
    say(plain, "235 ok")
    assert plain.phase is Phase.READY
    login = SmtpClient(hostname="gw.test", tls=TlsLevel.NEVER, credentials=secret)
    assert say(login, "220 mx", "250-mx\n250 AUTH=LOGIN").endswith(b"AUTH LOGIN\r\n")
    assert say(login, "334 VXNlcm5hbWU6") == b"dXNlcg==\r\n"
    assert say(login, "334 UGFzc3dvcmQ6") == b"cMOkc3N3b3Jk\r\n"
    say(login, "535 5.7.8 no")
    assert login.refusal is not None
    assert (login.refusal.stage, login.refusal.reply and login.refusal.reply.code) == (Stage.AUTH, 535)
    for client in (plain, login):
        assert "<secret>" in str(client.transcript)
        assert "cMOk" not in str(client.transcript)
        assert "pässword" not in repr(client.__dict__)


def test_a_password_never_goes_out_unencrypted_unless_asked_for() -> None:
    """Under `may` a server without TLS gets no password; only `never` says that this is meant."""
    client = SmtpClient(hostname="gw.test", tls=TlsLevel.MAY, credentials=Credentials("user", "secret"))
    assert b"AUTH" not in say(client, "220 mx", "250-mx\n250 AUTH PLAIN")
    assert client.refusal is not None
    assert client.refusal.fault is Fault.NO_TLS


@pytest.mark.parametrize("answers", [["250 ok"], ["250 ok", "250 ok"], ["250 ok", "250 ok", "354 go"]])
def test_the_end_of_the_connection_is_unsure_only_after_the_final_dot(answers: list[str]) -> None:
    """Before, nothing can have been delivered; after, nobody knows (RFC 1047)."""
    client = ready()
    client.send(Letter())
    say(client, *answers)
    client.lost("gone")
    assert codes(client) == [Fault.UNSURE if len(answers) == 3 else Fault.LOST]


def test_a_final_dot_that_never_left_is_no_doubt() -> None:
    """With bytes of ours still in the buffer the server cannot have seen the end."""
    client = ready()
    client.send(Letter())
    say(client, "250 ok", "250 ok", "354 go")
    client.lost("gone", is_all_sent=False)
    assert codes(client) == [Fault.LOST]


@pytest.mark.parametrize("nonsense", ["354 what", "hello", "99 x", "250 ok\nfoo"])
def test_nonsense_after_the_final_dot_is_unsure(nonsense: str) -> None:
    """An answer that cannot be understood says nothing about the mail."""
    client = ready()
    client.send(Letter())
    say(client, "250 ok", "250 ok", "354 go", nonsense)
    assert client.phase is Phase.CLOSED
    assert codes(client)[0] in {Fault.UNSURE, 250}


@pytest.mark.parametrize(("early", "verdict"), [("250 thanks", Fault.LOST), ("554 no", 554), ("421 bye", 421)])
def test_an_answer_before_the_content_was_sent_is_never_a_delivery(early: str, verdict: int | str) -> None:
    """A 250 in the same read as the 354 cannot be about content that nobody has seen."""
    client = ready()
    client.send(Letter())
    assert say(client, f"250 ok\n250 ok\n354 go\n{early}") == b""
    assert (client.phase, codes(client)) == (Phase.CLOSED, [verdict])


def test_a_word_out_of_turn_makes_the_connection_unusable() -> None:
    """Answers that nobody asked for would be taken for those to the next mail."""
    client = ready()
    say(client, "250 huh")
    assert client.phase is Phase.CLOSED


def test_chunking_is_used_on_request() -> None:
    """With BDAT the content goes out unstuffed, after a recipient was accepted (RFC 3030)."""
    client = ready("250-mx\n250-PIPELINING\n250 CHUNKING", use_chunking=True)
    assert client.send(Letter(content=b".a\r\n")) == b"MAIL FROM:<ann@acme.example>\r\nRCPT TO:<bob@mx.test>\r\n"
    assert say(client, "250 ok", "250 ok") == b"BDAT 4 LAST\r\n.a\r\n"
    say(client, "250 ok")
    assert codes(client) == [250]


def test_the_transcript_has_no_content_and_stays_small() -> None:
    """`C:` and `S:` lines; content is a count of bytes; a long dialogue keeps its ends."""
    client = ready()
    client.send(Letter(content=b"Subject: secret plan\r\n\r\nx\r\n"))
    say(client, "250 ok", "250 ok", "354 go", "250 2.0.0 queued")
    text = str(client.transcript)
    assert "C: <27 bytes of content>\nS: 250 2.0.0 queued" in text
    assert "secret plan" not in text
    client.send(Letter(recipients=tuple(To(f"recipient-{i}@mx.test") for i in range(500))))
    say(client, *["250 ok"] * 501, "354 go", "250 2.0.0 queued")
    assert len(str(client.transcript)) < 4_200
    assert str(client.transcript).endswith("S: 250 2.0.0 queued")


@given(st.lists(st.integers(1, 200), max_size=30))
def test_replies_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    """However the stream is cut, the same bytes lead to the same commands and verdicts."""
    stream = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n"
    later = b"250 ok\r\n550-5.1.1 no\r\n550 5.1.1 really\r\n250 ok\r\n354 go\r\n"
    client = SmtpClient(hostname="gw.test")
    feed(client, stream, cuts)
    assert client.phase is Phase.READY
    client.send(Letter(recipients=(To("bob@mx.test"), To("eve@mx.test"))))
    out = feed(client, later, cuts)
    assert out.endswith(b".\r\n")
    feed(client, b"250 2.0.0 queued\r\n", cuts)
    assert codes(client) == [550, 250]
    assert client.verdicts[0] is not None
    assert str(client.verdicts[0].reply) == "550 5.1.1 no really"


def feed(client: SmtpClient, data: bytes, cuts: list[int]) -> bytes:
    out = b""
    for size in [*cuts, len(data)]:
        if data[:size]:
            out += client.receive(data[:size])
        data = data[size:]
    return out


@given(
    st.lists(
        st.sampled_from(
            [
                b"250 ok\r\n",
                b"550 no\r\n",
                b"354 go\r\n",
                b"421 bye\r\n",
                b"220 x\r\n",
                b"334 \r\n",
                b"250-a\r\n",
                b"junk\r\n",
                b"\r",
                b"\n",
                b"2",
            ]
        ),
        max_size=25,
    )
)
def test_no_server_can_make_it_raise_or_forget_a_recipient(words: list[bytes]) -> None:
    """Whatever is said, there is no exception, and leaving BUSY means that every recipient has a verdict."""
    client = SmtpClient(hostname="gw.test")
    for word in words:
        client.receive(word)
        if client.phase is Phase.READY:
            client.send(Letter(recipients=(To("bob@mx.test"), To("eve@mx.test"))))
        if client.phase is not Phase.BUSY:
            assert None not in client.verdicts
    client.lost("end")
    assert None not in client.verdicts
