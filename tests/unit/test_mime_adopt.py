"""Finished messages: taken as they are, or refused with the place. THREATS 2, 7, 11, 13, 15, 17."""

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gatepost.domain.address import Address, Mailbox, parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import Draft, EnvelopeRecipient, RawSubmission, Steering
from gatepost.mime.adopt import adopt
from gatepost.settings import Limits

NOW = 1_764_000_000_000
ID = "msg_01jdgenq3vfyz8w2m0s5t0000g"
ANN = EnvelopeRecipient(address=Address("ann", "example.net"))
FULL = (
    b"From: Shop <shop@acme.example>\r\nTo: ann@example.net\r\nSubject: Hello\r\nDate: Mon, 24 Nov 2025 16:00:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\n\r\nHi\r\n"
)
MULTI = b"From: a@acme.example\r\nContent-Type: multipart/mixed; boundary=b\r\n"


def _adopt(content: bytes, limits: Limits | None = None, **fields: Any) -> Draft:
    raw = RawSubmission(envelope_from=Address("bounce", "acme.example"), recipients=(ANN,), content=content)
    return adopt(replace(raw, **fields), message_id=ID, hostname="mail.acme.example", now=NOW, limits=limits or Limits())


def _faults(content: bytes, limits: Limits | None = None) -> set[tuple[str, str]]:
    with pytest.raises(Refused) as refusal:
        _adopt(content, limits)
    assert refusal.value.code == "validation_failed"
    return {(fault.pointer, fault.code) for fault in refusal.value.faults}


def _with(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n" + FULL


def test_a_complete_message_is_not_touched() -> None:
    """Nothing is re-written: the very same bytes are stored."""
    draft = _adopt(FULL)
    assert draft.content is FULL
    assert draft.header_from == Mailbox(Address("shop", "acme.example"), "Shop")
    assert (draft.subject, draft.message_id_header, draft.is_8bit, draft.is_smtputf8) == ("Hello", "1@acme.example", False, False)


def test_date_and_message_id_are_added_where_they_lack() -> None:
    """RFC 6409 §8: the submission server completes a message, and changes nothing else."""
    draft = _adopt(b"From: a@acme.example\r\n\r\nHi\r\n")
    assert draft.content == (
        b"From: a@acme.example\r\nDate: Mon, 24 Nov 2025 16:00:00 +0000\r\n"
        b"Message-ID: <01jdgenq3vfyz8w2m0s5t0000g@mail.acme.example>\r\n\r\nHi\r\n"
    )
    assert draft.message_id_header == "01jdgenq3vfyz8w2m0s5t0000g@mail.acme.example"


def test_bcc_and_steering_headers_do_not_travel() -> None:
    """Bcc, Return-Path and X-Gatepost-… are cut out, folded lines and all; the rest stays byte for byte."""
    draft = _adopt(
        _with(
            b"Return-Path: <x@y.example>",
            b"bCC: secret@example.org,",
            b" other@example.org",
            b"X-Gatepost-Tag: a",
            b"Bcc: third@example.org",
        )
    )
    assert draft.content == FULL


def test_steering_headers_win_over_outside_options() -> None:
    """Stream, tags, metadata, times and key are read from the content, and the rest from outside."""
    content = _with(
        b"X-Gatepost-Stream: codes",
        b"X-Gatepost-Tag: a",
        b"x-gatepost-tag: =?utf-8?q?=C3=A4?=",
        b"X-Gatepost-Metadata-Order: 42",
        b"X-Gatepost-Scheduled-At: 2025-11-25T00:00:00Z",
        b"X-Gatepost-TTL: 60",
        b"X-Gatepost-Idempotency-Key: k",
    )
    outside = Steering(stream="bulk", tags=("out",), metadata={"Order": "0", "other": "1"}, idempotency_key="o", expires_at=1)
    steering = _adopt(content, steering=outside).steering
    assert (steering.stream, steering.tags, steering.idempotency_key) == ("codes", ("a", "ä"), "k")
    assert steering.metadata == {"Order": "42", "other": "1"}
    assert steering.scheduled_at == 1_764_028_800_000
    assert steering.expires_at == 1_764_028_860_000
    assert _adopt(FULL, steering=outside).steering == outside


@pytest.mark.parametrize(
    ("line", "place", "code"),
    [
        (b"X-Gatepost-Strem: codes", "X-Gatepost-Strem", "unknown_header"),
        (b"X-Gatepost-Template: t", "X-Gatepost-Template", "unsupported"),
        (b"X-Gatepost-Variables: {}", "X-Gatepost-Variables", "unsupported"),
        (b"X-Gatepost-Stream: no such", "X-Gatepost-Stream", "unknown_stream"),
        (b"X-Gatepost-TTL: -1", "X-Gatepost-TTL", "invalid_ttl"),
        (b"X-Gatepost-TTL: 0", "X-Gatepost-TTL", "invalid_ttl"),
        (b"X-Gatepost-Scheduled-At: tomorrow", "X-Gatepost-Scheduled-At", "invalid_time"),
        (b"X-Gatepost-Scheduled-At: 2025-11-25T00:00:00", "X-Gatepost-Scheduled-At", "invalid_time"),
        (b"X-Gatepost-Tag: " + b"x" * 129, "X-Gatepost-Tag", "too_long"),
        (b"X-Gatepost-Metadata-A: " + b"x" * 900 + b"\r\n " + b"x" * 200, "X-Gatepost-Metadata-A", "too_long"),
        (b"X-Gatepost-Metadata-: x", "X-Gatepost-Metadata-", "required"),
        (b"X-Gatepost-Metadata-A: x\r\nX-Gatepost-Metadata-a: y", "X-Gatepost-Metadata-a", "duplicate_header"),
        (b"X-Gatepost-Idempotency-Key: \xc3\xa4", "X-Gatepost-Idempotency-Key", "invalid_idempotency_key"),
    ],
)
def test_wrong_steering_is_refused(line: bytes, place: str, code: str) -> None:
    """A typo must not silently change how mail is sent."""
    assert _faults(_with(line)) == {(place, code)}


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b"<>",
        b"a@acme.example, b@evil.example",
        b"a@acme.example (comment)",
        b"(b@evil.example) a@acme.example",
        b"group: a@acme.example;",
        b"undisclosed:;",
        b"=?utf-8?q?a=40evil.example=3e=00?=@acme.example",
        b'"b@evil.example x"@acme.example',
        b"<b@evil.example>@acme.example",
        b"b@evil.example <a@acme.example>",
        b"<a@acme.example> <b@evil.example>",
        b"@r.example:a@acme.example",
        b"a@acme.example\xff",
        b"a@[192.0.2.1]",
        b"a",
        b"Acme, Inc. <a@acme.example>",
    ],
)
def test_from_is_one_mailbox_that_everyone_reads_alike(sender: bytes) -> None:
    """No lists, groups, comments, routes, encoded addresses, nothing empty."""
    assert ("From", "invalid_address") in _faults(b"From: " + sender + b"\r\nSubject: x\r\n\r\nHi\r\n")


def test_there_is_one_from() -> None:
    """None or two are refused, wherever the second stands and however it is spelled."""
    assert _faults(b"To: a@b.example\r\n\r\nx\r\n") == {("From", "required")}
    assert _faults(_with(b"FROM: b@evil.example")) == {("FROM", "duplicate_header")}
    assert {code for _, code in _faults(_with(b"From : b@evil.example"))} == {"malformed_header"}
    assert {code for _, code in _faults(_with(b"\0From: b@evil.example"))} == {"nul"}


def test_sender_has_the_domain_of_from() -> None:
    """Sender of a foreign domain is refused, of the same domain taken."""
    assert _faults(_with(b"Sender: b@evil.example")) == {("Sender", "sender_mismatch")}
    assert _adopt(_with(b"Sender: b@ACME.example")).header_from.address.local == "shop"


@pytest.mark.parametrize(
    "name",
    [
        b"Subject",
        b"To",
        b"Cc",
        b"Date",
        b"Message-ID",
        b"Content-Type",
        b"MIME-Version",
        b"Reply-To",
        b"Sender",
        b"References",
        b"Content-Transfer-Encoding",
    ],
)
def test_fields_that_are_unique_are_there_once(name: bytes) -> None:
    """Programs differ in which of two they take, so two are refused (RFC 5322 §3.6)."""
    value = b": <a@acme.example>\r\n" if name in {b"Message-ID", b"Sender"} else b": text/plain\r\n"
    found = _faults(b"From: a@acme.example\r\n" + name + value + name.lower() + value + b"\r\nx\r\n")
    assert {code for _, code in found} == {"duplicate_header"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "malformed_header"),
        (b"\r\nFrom: a@acme.example\r\n\r\nx\r\n", "malformed_header"),
        (b"just text", "malformed_header"),
        (b"From: a@acme.example\r\nno colon here\r\n\r\nx\r\n", "malformed_header"),
        (b" From: a@acme.example\r\n\r\nx\r\n", "malformed_header"),
        (b"From: a@acme.example\r\nSubject: a\r\n \t\r\nX: y\r\n\r\nx\r\n", "malformed_header"),
        (b"From: a@acme.example\r\nS\xc3\xbcbject: a\r\n\r\nx\r\n", "malformed_header"),
        (b"From: a@acme.example\r\nSubject: \xff\r\n\r\nx\r\n", "invalid_encoding"),
        (b"From: a@acme.example\r\nMessage-ID: abc\r\n\r\nx\r\n", "invalid_message_id"),
        (b"From: a@acme.example\r\nMessage-ID: <a b>\r\n\r\nx\r\n", "invalid_message_id"),
        (FULL + b"a\nb\r\n", "bare_line_break"),
        (FULL + b"a\rb\r\n", "bare_line_break"),
        (FULL + b"a\r\r\n.\r\n", "bare_line_break"),
        (FULL + b"\n.\n", "bare_line_break"),
        (FULL + b"\r", "bare_line_break"),
        (FULL + b"a\0b\r\n", "nul"),
        (FULL + b"x" * 999 + b"\r\n", "line_too_long"),
        (FULL + b"x" * 999, "line_too_long"),
        (FULL + b"\r\nx\r\n" * 500 + b"x" * 999 + b"\r\nx", "line_too_long"),
        (FULL + b"x" * 1_000_001, "line_too_long"),
    ],
)
def test_malformed_messages_are_refused(content: bytes, code: str) -> None:
    """Broken headers, octets that SMTP cannot carry, over-long lines."""
    assert code in {found for _, found in _faults(content)}


def test_the_limits_are_exact() -> None:
    """998 octets are a line, 999 are not; sizes and counts likewise."""
    for end in (b"\r\n", b""):
        assert _adopt(FULL + b"x" * 998 + end)
        assert _adopt(FULL + b"a\r\n" * 900 + b"x" * 998 + end)
    assert _adopt(FULL, Limits(headers=5))
    assert _faults(FULL, Limits(headers=4)) == {("", "too_many")}
    assert _faults(b"From: a@acme.example\r\n" + b"X: y\r\n" * 200 + b"\r\nx\r\n", Limits(header_bytes=1024)) == {("", "too_large")}
    with pytest.raises(Refused) as refusal:
        _adopt(FULL + b"x" * 998 + b"\r\n", Limits(message_bytes=1024))
    assert refusal.value.code == "payload_too_large"


def test_a_header_alone_is_a_message() -> None:
    """RFC 5322 §3.5: the body is optional."""
    assert _adopt(FULL.replace(b"\r\nHi\r\n", b"")).subject == "Hello"


def test_8bit_and_utf8_are_told_apart() -> None:
    """Octets above 127 in the body need 8BITMIME, in headers that travel SMTPUTF8, in removed headers nothing."""
    body = _adopt(FULL + "ä\r\n".encode("latin-1"))
    assert (body.is_8bit, body.is_smtputf8) == (True, False)
    header = _adopt(_with("X-Foo: ä".encode()))
    assert (header.is_8bit, header.is_smtputf8) == (True, True)
    removed = _adopt(_with("X-Gatepost-Tag: ä".encode()))
    assert (removed.is_8bit, removed.is_smtputf8) == (False, False)
    envelope = _adopt(FULL, recipients=(EnvelopeRecipient(address=Address("jörg", "example.net")),))
    assert (envelope.is_8bit, envelope.is_smtputf8) == (False, True)


def test_the_subject_is_shown_decoded() -> None:
    """Encoded words, folds and control characters are gone; a long subject is cut."""
    head = b"From: =?utf-8?q?J=C3=B6rg?= <a@acme.example>\r\nSubject: "
    draft = _adopt(head + b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_an=0D=0A?= alle\r\n\r\nx\r\n")
    assert (draft.header_from.name, draft.subject) == ("Jörg", "Grüße an   alle")
    assert len(_adopt(head + (b"x" * 900 + b"\r\n ") * 5 + b"x\r\n\r\nx\r\n").subject) == 998


def _nested(depth: int) -> bytes:
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=x%dy\r\n\r\n--x%dy\r\n" % (n, n) for n in range(depth))
    return b"From: a@acme.example\r\n" + parts + b"\r\nx\r\n"


def test_nesting_and_parts_are_counted_exactly() -> None:
    """The limit passes, one more does not; parts after an inner multipart's end belong to the outer one."""
    assert _adopt(_nested(20)) and _faults(_nested(21)) == {("Content-Type", "mime_too_deep")}
    parts = MULTI + b"\r\n" + b"--b\r\n\r\nx\r\n" * 500 + b"--b--\r\n"
    assert _adopt(parts)
    assert _faults(parts.replace(b"--b--", b"--b\r\n\r\n\r\n--b--")) == {("Content-Type", "mime_too_many_parts")}
    inner = b"--b\r\nContent-Type: multipart/alternative; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--bb\r\n\r\ny\r\n--bb--\r\n"
    assert _adopt(MULTI + b"\r\n" + inner * 10 + b"--b--\r\n", Limits(mime_parts=30))
    assert _faults(MULTI + b"\r\n" + inner * 10 + b"--b--\r\n", Limits(mime_parts=29)) == {("Content-Type", "mime_too_many_parts")}


def test_messages_within_messages_count_as_nesting() -> None:
    """message/rfc822 is a level of its own, also around multiparts."""
    forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n"
    assert _adopt(b"From: a@acme.example\r\n" + forwarded * 3 + b"\r\nx\r\n", Limits(mime_depth=3))
    assert _faults(b"From: a@acme.example\r\n" + forwarded * 4 + b"\r\nx\r\n", Limits(mime_depth=3)) == {("Content-Type", "mime_too_deep")}


@pytest.mark.parametrize(
    "kind",
    [
        b"multipart/mixed",
        b"multipart/mixed; boundary=",
        b"multipart/mixed; boundary=a; boundary=b",
        b"multipart/mixed; boundary*0=a; boundary*1=b",
        b"multipart/mixed; boundary=" + b"x" * 71,
        b"multipart(x)/mixed; boundary=a",
        b'multipart/mixed; name="; boundary=x"; boundary=y',
        b"multipart",
    ],
)
def test_ambiguous_multiparts_are_refused(kind: bytes) -> None:
    """Where two readers would see two messages, neither gets one."""
    assert _faults(b"From: a@acme.example\r\nContent-Type: " + kind + b"\r\n\r\nx\r\n") == {("Content-Type", "mime_ambiguous")}


def test_a_part_has_one_type() -> None:
    """Two Content-Type fields in a part are two messages in one."""
    two = MULTI + b"\r\n--b\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx\r\n--b--\r\n"
    assert _faults(two) == {("Content-Type", "mime_ambiguous")}


BOMBS = {
    "depth": _nested(10_000),
    "messages": b"From: a@acme.example\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"x\r\n",
    "parts": MULTI + b"\r\n" + b"--b\r\n\r\n" * 1_000_000,
    "loop": MULTI + b"\r\n" + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 10_000,
    "prefixes": MULTI + b"\r\n" + b"--bb\r\n" * 1_000_000,
    "fields": b"From: a@acme.example\r\n" + b"A:\r\n" * 60_000 + b"\r\nx\r\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_mime_bombs_are_refused_cheaply(bomb: str) -> None:
    """Depth 10,000, a million parts, boundary loops: refused within 100 ms and without memory."""
    tracemalloc.start()
    started = time.thread_time()
    _faults(BOMBS[bomb])
    took, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.2  # tracing doubles the time; 100 ms is the promise
    assert peak < 5_000_000


def test_a_huge_header_is_refused_cheaply() -> None:
    """100 MB of header: refused within 100 ms, without a copy."""
    content = b"From: a@acme.example\r\n" + (b"X-A: " + b"y" * 900 + b"\r\n") * 110_000
    limits = Limits(message_bytes=200_000_000)
    started = time.thread_time()
    assert _faults(content, limits) == {("", "too_large")}
    assert time.thread_time() - started < 0.3


@given(
    st.lists(
        st.sampled_from(
            [
                b"From: a@acme.example",
                b"Subject: x",
                b" fold",
                b"\tfold",
                b"",
                b"--b",
                b"--b--",
                b"--bb",
                b"Content-Type: multipart/mixed; boundary=b",
                b"x" * 997,
                b"Content-Type: message/rfc822",
                b"Content-Type: multipart/mixed; boundary=bb",
                b"Bcc: x@y.example",
                b"X-Gatepost-Tag: a",
                "Süß: ä".encode(),
                b":",
                b"\xff",
            ]
        ),
        max_size=30,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_lines_are_taken_or_refused(lines: list[bytes]) -> None:
    """Whatever arrives: a draft without Bcc and steering, or a refusal; never another error."""
    try:
        content = _adopt(b"\r\n".join(lines) + b"\r\n").content
    except Refused:
        return
    head = b"\r\n" + content.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nbcc:" not in head and b"\r\nx-gatepost-" not in head
    assert head.count(b"\r\nfrom:") == head.count(b"\r\nmessage-id:") == head.count(b"\r\ndate:") == 1


def test_a_message_that_runs_in_a_loop_is_stopped():
    """RFC 5321 §6.3: a hundred Received fields are a loop; one fewer may be an honest way."""
    head = b"From: a@acme.example\r\nSubject: x\r\n\r\nx\r\n"
    assert adopt_hops(99, head).id
    with pytest.raises(Refused) as caught:
        adopt_hops(100, head)
    assert caught.value.code == "mail_loop"
    assert [fault.code for fault in caught.value.faults] == ["mail_loop"]


def adopt_hops(count, head):
    raw = RawSubmission(
        envelope_from=None,
        recipients=(EnvelopeRecipient(address=parse_address("b@example.net")),),
        content=b"Received: by x; y\r\n" * count + head,
    )
    return adopt(raw, message_id="msg_01j00000000000000000000000", hostname="gw.example", now=1_764_000_000_000, limits=Limits())
