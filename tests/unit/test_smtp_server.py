"""The SMTP server machine: the same bytes give the same events however they are cut, and no bytes break it."""

import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialogs.server_player import OPTIONS, Played, machine, play, run

from gatepost.wire.smtp_server_content import ContentFault, DataCollector, fault_of
from gatepost.wire.smtp_server_dialogue import Phase
from gatepost.wire.smtp_server_events import Authenticate, Closed, CloseReason, MessageReceived, ServerOptions

FUZZ = Path(__file__).parents[2] / "../shared/corpora/smtp-fuzz"

PIECES = [
    b"EHLO x\r\n", b"HELO x\r\n", b"AUTH PLAIN AHUAZ29vZA==\r\n", b"AUTH LOGIN\r\n", b"dQ==\r\n", b"YmFk\r\n", b"*\r\n",
    b"STARTTLS\r\n",
    b"MAIL FROM:<a@x.example>\r\n", b"MAIL FROM:<> SIZE=9 SMTPUTF8\r\n", b"RCPT TO:<b@x.example>\r\n", b"RCPT TO:<\xc3\xbc@x.example>\r\n",
    b"DATA\r\n", b"hi\r\n", b"..x\r\n", b".\r\n", b"\r\n.\r\n", b".", b"\r", b"\n", b"\r\n", b"\0", b"\xff",
    b"BDAT 5\r\n", b"BDAT 3 LAST\r\n",
    b"abc", b"NOOP\r\n", b"RSET\r\n", b"QUIT\r\n", b"FOO\n", b"x" * 700, b"A" * 2100 + b"\r\n",
]  # fmt: skip
STREAMS = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=40).map(b"".join)
PEERS = st.sampled_from(["trusted", "", "trusted tls", "remote starttls"])


@settings(max_examples=300, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 3000), max_size=30), peer=PEERS)
def test_how_the_bytes_are_cut_makes_no_difference(stream: bytes, cuts: list[int], peer: str) -> None:
    """Any split of a byte stream gives the same events and the same replies as the whole; TLS is left unanswered here."""
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    whole, cut = _play_without_tls([stream], peer), _play_without_tls(chunks, peer)
    assert cut.events == whole.events
    assert cut.output == whole.output


@settings(max_examples=100, deadline=None)
@given(stream=STREAMS, peer=PEERS)
def test_single_bytes_make_no_difference_either(stream: bytes, peer: str) -> None:
    """One byte at a time gives the same events and replies as everything at once."""
    whole, single = _play_without_tls([stream], peer), _play_without_tls([stream[i : i + 1] for i in range(len(stream))], peer)
    assert (single.events, single.output) == (whole.events, whole.output)


def _play_without_tls(chunks: list[bytes], peer: str) -> Played:
    server, played = machine(*peer.split()), Played()
    for chunk in [b"", *chunks]:
        server.feed(chunk)
        run(server, played, answers_tls=False)
    return played


@settings(max_examples=300, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b"\r\n..", b"x" * 30]), max_size=60).map(b"".join),
    size=st.integers(1, 9),
)
def test_a_stuffed_message_arrives_as_it_was(content: bytes, size: int) -> None:
    """Whatever a client stuffs with dots, in whatever chunks, comes out as it was before."""
    content = content + b"\r\n"
    wire = b"\r\n" + (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\nNOOP"
    collector, buffer, result = DataCollector(10_000), bytearray(), None
    for start in range(0, len(wire), size):
        buffer += wire[start : start + size]
        result = result if result is not None else collector.take(buffer)
    assert result == content
    assert bytes(buffer) == b"NOOP"


@given(content=st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"]), max_size=8).map(b"".join))
def test_every_bare_newline_is_found(content: bytes) -> None:
    """The fast check for bare CR and LF agrees with the obvious one."""
    rest = content.replace(b"\r\n", b"")
    assert (fault_of(content) is not None) == (b"\r" in rest or b"\n" in rest)


@settings(max_examples=300, deadline=None)
@given(stream=st.binary(max_size=400), peer=PEERS)
def test_random_bytes_never_raise(stream: bytes, peer: str) -> None:
    """THREATS 12: garbage gets replies, never an exception."""
    play(b"EHLO x\r\n" + stream, stream + b"\r\n", peer=peer)


def test_the_fuzz_corpus_never_raises() -> None:
    """THREATS 12: dialogues that once broke other servers are answered, mutated ones too."""
    if not FUZZ.exists():
        pytest.skip("the corpus is not here")
    files = [path.read_bytes() for path in FUZZ.rglob("*") if path.is_file()]
    assert files
    for text in files:
        for stream in (text, text.replace(b"\\n", b"\r\n"), text.replace(b"\n", b"\r\n")):
            for peer in ("trusted", "", "remote starttls"):
                play(stream, peer=peer)
                play(*[stream[i : i + 7] for i in range(0, len(stream), 7)], peer=peer)


def test_commands_behind_a_message_wait_for_its_answer() -> None:
    """RFC 2920: nothing pipelined behind the final dot is looked at before the message is answered."""
    server = machine("trusted")
    server.feed(b"HELO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert isinstance(server.next_event(), MessageReceived)
    server.take_output()
    assert server.next_event() is None
    assert server.take_output() == b""
    assert server.phase is Phase.ANSWER
    server.accept_message("msg_7")
    assert server.next_event() == Closed(CloseReason.QUIT)
    assert server.take_output() == b"250 2.0.0 Ok: queued as msg_7\r\n250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n"
    assert server.next_event() is None


def test_secrets_and_content_do_not_show() -> None:
    """Events can be logged: neither key nor content is in their text."""
    assert "hush" not in repr(Authenticate(mechanism="PLAIN", authcid="u", secret="hush"))
    assert "hush" not in repr(MessageReceived(envelope_from=None, recipients=(), content=b"hush"))


def test_a_refusal_is_one_line_whatever_it_says() -> None:
    """A refusal's words cannot start a second reply."""
    server, played = machine("trusted"), Played()
    server.feed(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n.\r\n")
    while server.next_event() is None:
        pass
    server.take_output()
    server.refuse(554, "5.6.0", "bad\r\n250 2.0.0 Ok\u2028\x1b[31m" + "x" * 5000)
    run(server, played)
    assert len(played.replies) == 1
    assert played.replies[0].startswith("554 5.6.0 bad??250 2.0.0 Ok??[31mxxx")
    assert len(played.replies[0]) <= 510


def test_too_many_errors_end_the_dialogue() -> None:
    """The twentieth faulty command gets 421; nothing is answered after it."""
    played = play(b"FOO\r\n" * 50)
    assert played.codes == [220] + [500] * 19 + [421]
    assert played.events == [Closed(CloseReason.TOO_MANY_ERRORS)]


def test_a_flood_of_idle_commands_ends_the_dialogue() -> None:
    """THREATS 8: NOOP, RSET, VRFY or EHLO without end get 421."""
    for flood in (b"NOOP\r\nRSET\r\nVRFY x\r\n", b"EHLO x\r\n"):
        played = play(flood * 1000)
        assert played.codes[-1] == 421
        assert len(played.codes) < 200


def test_a_failed_mail_with_many_pipelined_recipients_is_no_flood_of_errors() -> None:
    """RFC 2920: a client whose sender was refused has already sent its recipients; it keeps its connection."""
    played = play(b"HELO x\r\nMAIL FROM:<bad>\r\n" + b"RCPT TO:<b@x.example>\r\n" * 50 + b"DATA\r\nNOOP\r\n")
    assert played.codes == [220, 250, 553] + [503] * 51 + [250]


def test_a_long_command_is_refused_in_flat_memory() -> None:
    """THREATS 8: 10 MB without a line end get one 500; the next line is understood again."""
    server, played = machine("trusted"), Played()
    tracemalloc.start()
    for _ in range(1_000):
        server.feed(b"x" * 10_000)
        run(server, played)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    server.feed(b"\r\nNOOP\r\n")
    run(server, played)
    assert played.codes == [220, 500, 250]
    assert peak < 200_000


def test_a_message_that_is_too_large_is_refused_in_flat_memory() -> None:
    """THREATS 8: after a SIZE that lied 20 MB are read and dropped, and 552 is said once, after the true end."""
    server, played = machine("trusted"), Played()
    server.feed(b"HELO x\r\nMAIL FROM:<> SIZE=10\r\nRCPT TO:<b@x.example>\r\nDATA\r\n")
    tracemalloc.start()
    for _ in range(2_000):
        server.feed(b"y" * 9_996 + b"\r\n..")
        run(server, played)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    server.feed(b"\r\n.\r\nNOOP\r\n")
    run(server, played)
    assert played.codes == [220, 250, 250, 250, 354, 552, 250]
    assert played.messages == []
    assert peak < 200_000


@pytest.mark.parametrize(("size", "code"), [(1_000, 250), (1_001, 552)])
@pytest.mark.parametrize("line", [b"x", b"."])
def test_the_size_limit_counts_the_message_not_its_stuffing(size: int, code: int, line: bytes) -> None:
    """RFC 1870 §5: the size is that of the message with its line ends, without the dots added for transport."""
    content = b"y" * (size % 3) + (line + b"\r\n") * (size // 3)
    assert len(content) == size
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    played = play(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n" + stuffed + b".\r\n")
    assert played.codes[-1] == code


def test_many_tiny_chunks_cost_linear_time() -> None:
    """A 300 KB message byte by byte costs at most a few times as much per byte as a 30 KB one."""
    per_byte = []
    for size in (30_000, 300_000):
        options = ServerOptions(hostname="mx.example", max_message_bytes=1_000_000, max_recipients=3)
        server, played = machine("trusted", options=options), Played()
        server.feed(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n")
        run(server, played)
        content = (b"x" * 98 + b"\r\n") * (size // 100) + b".\r\n"
        started = time.process_time()
        for i in range(len(content)):
            server.feed(content[i : i + 1])
            server.next_event()
        per_byte.append((time.process_time() - started) / size)
        assert server.phase is Phase.ANSWER
    assert per_byte[1] < 4 * per_byte[0]


def test_thousands_of_tiny_chunks_are_bounded() -> None:
    """THREATS 3: BDAT in one-byte chunks is taken up to a number, then refused."""
    options = ServerOptions(hostname="mx.example", max_message_bytes=100_000, max_recipients=3, max_chunks=50)
    start = b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\n"
    assert play(start + b"BDAT 1\r\nx" * 49 + b"BDAT 0 LAST\r\n", options=options).codes[-1] == 250
    played = play(start + b"BDAT 1\r\nx" * 5_000, options=options)
    assert played.codes[:55] == [220, 250, 250, 250, *[250] * 50, 554]
    assert played.codes[-1] == 421
    assert played.messages == []


@pytest.mark.parametrize("limit", [2_048, 12_288])
def test_an_auth_line_may_be_longer_than_other_commands(limit: int) -> None:
    """RFC 4954 §4: 12,288 octets for AUTH, 2,048 for the rest."""
    word = b"AUTH PLAIN " if limit == 12_288 else b"NOOP "
    fits, too_long = word + b"A" * (limit - len(word) - 2) + b"\r\n", word + b"A" * (limit - len(word) - 1) + b"\r\n"
    assert "Line too long" not in play(b"EHLO x\r\n" + fits, peer="").replies[-1]
    assert play(b"EHLO x\r\n" + too_long, peer="").replies[-1] == "500 5.5.6 Line too long"


def test_a_content_fault_is_not_a_message() -> None:
    """The machine's options are honest: a fault never comes out as content."""
    assert isinstance(DataCollector(10).take(bytearray(b"\r\nhello world\r\n.\r\n")), ContentFault)
    assert OPTIONS.max_message_bytes == 1_000
