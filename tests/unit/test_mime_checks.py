"""Faults of a submission, each with its place. THREATS 13, 21, 22, 26."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gatepost.domain.address import Address, Mailbox
from gatepost.domain.message import Attachment, Steering, Submission
from gatepost.mime.checks import check_steering, check_submission
from gatepost.mime.compose import compose
from gatepost.settings import Limits

LIMITS = Limits()
ANN = Address("ann", "example.net")
GOOD = Submission(
    sender=Mailbox(Address("shop", "acme.example"), "Acme"),
    to=(Mailbox(ANN, "Ann"),),
    subject="Hello",
    text="x",
    headers=(("X-Campaign", "c1"),),
    attachments=(Attachment(filename="a.pdf", content=b"x", content_type="application/pdf", content_id="a@b"),),
    steering=Steering(tags=("order",), metadata={"order": "42"}, idempotency_key="k-1"),
)
BREAKS = ["\r", "\n", "\r\n", "\0", "\x0b", "\x85", "\u2028", "\u2029", "\x7f", "\ud800"]


def _places(submission: Submission) -> set[tuple[str, str]]:
    return {(fault.pointer, fault.code) for fault in check_submission(submission, LIMITS)}


def _file(**fields: Any) -> tuple[Attachment, ...]:
    return (replace(GOOD.attachments[0], **fields),)


def _injected(text: str) -> dict[str, Submission]:
    """Put a text into every string field, by the pointer at which it must be noticed."""
    bad, steering = f"a{text}Bcc: x@y.example", GOOD.steering
    return {
        "/subject": replace(GOOD, subject=bad),
        "/from": replace(GOOD, sender=Mailbox(ANN, bad)),
        "/to/0": replace(GOOD, to=(Mailbox(ANN, bad),)),
        "/cc/0": replace(GOOD, cc=(Mailbox(ANN, bad),)),
        "/bcc/0": replace(GOOD, bcc=(Mailbox(ANN, bad),)),
        "/reply_to/0": replace(GOOD, reply_to=(Mailbox(ANN, bad),)),
        "/headers/X-Foo": replace(GOOD, headers=(("X-Foo", bad),)),
        "/attachments/0/filename": replace(GOOD, attachments=_file(filename=bad)),
        "/attachments/0/content_type": replace(GOOD, attachments=_file(content_type=f"text/{bad}")),
        "/attachments/0/content_id": replace(GOOD, attachments=_file(content_id=bad)),
        "/tags/0": replace(GOOD, steering=replace(steering, tags=(bad,))),
        "/metadata/order": replace(GOOD, steering=replace(steering, metadata={"order": bad})),
        "/idempotency_key": replace(GOOD, steering=replace(steering, idempotency_key=bad)),
        "/stream": replace(GOOD, steering=replace(steering, stream=bad)),
    }


def test_a_good_submission_has_no_faults() -> None:
    """What is fine is not complained about."""
    assert check_submission(GOOD, LIMITS) == []
    everything = replace(GOOD, subject="Grüße 🎉 \u00a0 \u200d", text="a\r\nb\tc\u2028", html="<p>\u0085</p>", sender=Mailbox(ANN, "שלום"))
    assert check_submission(everything, LIMITS) == []


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
@pytest.mark.parametrize("place", list(_injected("x")))
def test_no_field_takes_a_line_break(place: str, text: str) -> None:
    """CR, LF, NUL, VT, NEL, line separator and lone surrogates are faults in every string field, at its place."""
    assert place in {pointer for pointer, _ in _places(_injected(text)[place])}


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_no_header_or_metadata_name_takes_a_line_break(text: str) -> None:
    """Names of headers and metadata are checked like values, and the fault can be shown."""
    for submission in (replace(GOOD, headers=((f"X-A{text}Bcc", "x"),)), replace(GOOD, steering=Steering(metadata={f"a{text}b": "x"}))):
        [fault] = check_submission(submission, LIMITS)
        assert (fault.pointer + fault.detail).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "From", "fROM", "Sender", "To", "Cc", "Bcc", "BCC", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", "Content-Foo", "Return-Path", "Received", "DKIM-Signature", "ARC-Seal", "Authentication-Results",
        "X-Gatepost-Tag", "Resent-From",
    ],
)  # fmt: skip
def test_structural_headers_cannot_be_set(name: str) -> None:
    """A template or a caller cannot forge what Gatepost writes."""
    assert (f"/headers/{name}", "reserved_header") in _places(replace(GOOD, headers=((name, "x"),)))


@pytest.mark.parametrize(
    "name", ["Errors-To", "Return-Receipt-To", "Path", "Approved", "Control", "Newsgroups", "Encrypted", "Require-Recipient-Valid-Since"]
)
def test_only_headers_that_are_known_to_do_no_harm_can_be_set(name: str) -> None:
    """A field that nobody thought of stays out until the operator names it (THREATS: headers of a template)."""
    submission = replace(GOOD, headers=((name, "x"),))
    assert _places(submission) == {(f"/headers/{name}", "header_not_allowed")}
    assert check_submission(submission, msgspec.structs.replace(LIMITS, more_headers=[name.lower()])) == []


@pytest.mark.parametrize("name", ["", "X Foo", "X-Foo:", "X-Föö", "X-Foo\t", "x" * 77])
def test_a_header_name_is_a_token(name: str) -> None:
    """RFC 5322 §2.2: printable ASCII without colon."""
    assert {code for _, code in _places(replace(GOOD, headers=((name, "x"),)))} == {"invalid_header_name"}


def test_threading_and_unsubscribe_headers_are_allowed_once() -> None:
    """In-Reply-To, References and List-Unsubscribe can be set, but not twice."""
    for name in ("In-Reply-To", "References", "List-Unsubscribe", "X-Mailer"):
        assert _places(replace(GOOD, headers=((name, "<a@b>"),))) == set()
    twice = (("References", "<a@b>"), ("references", "<c@d>"))
    assert _places(replace(GOOD, headers=twice)) == {("/headers/references", "duplicate_header")}


@pytest.mark.parametrize(
    ("filename", "code"),
    [
        ("", "required"),
        ("../etc/passwd", "invalid_filename"),
        ("a\\b", "invalid_filename"),
        ("exe.\u202efdp", "invalid_filename"),
        ("x" * 256, "too_long"),
        ("a\tb", "control_characters"),
    ],
)
def test_a_filename_is_a_name(filename: str, code: str) -> None:
    """No paths, nothing that shows another type than it is."""
    assert _places(replace(GOOD, attachments=_file(filename=filename))) == {("/attachments/0/filename", code)}


def test_a_filename_with_shell_signs_stays_a_name() -> None:
    """No shell ever sees it, so it is quoted, not refused."""
    name = '"; touch x;".zip'
    submission = replace(GOOD, attachments=_file(filename=name))
    assert _places(submission) == set()
    content = compose(submission, message_id="msg_01jdgenq3vfyz8w2m0s5t0000g", hostname="h.example", now=0).content
    assert rb'filename="\"; touch x;\".zip"' in content


@pytest.mark.parametrize(
    "kind", ["", "text", "text/", "text/plain; charset=x", "text/plain\r\nX: y", "multipart/mixed", "message/rfc822", "a/b/c", "ä/b"]
)
def test_a_content_type_is_two_tokens(kind: str) -> None:
    """No parameters, no containers."""
    assert _places(replace(GOOD, attachments=_file(content_type=kind))) == {("/attachments/0/content_type", "invalid_content_type")}


def test_the_same_content_id_twice_is_a_fault() -> None:
    """Which image the HTML shows must not be a guess."""
    assert _places(replace(GOOD, attachments=GOOD.attachments * 2)) == {("/attachments/1/content_id", "duplicate_content_id")}


def test_something_must_be_sent_to_someone() -> None:
    """No recipients and no content are faults."""
    assert _places(replace(GOOD, to=(), text=None, attachments=())) == {("/to", "required"), ("/text", "required")}
    [fault] = check_submission(replace(GOOD, subject="", text="", attachments=()), LIMITS)
    assert "neither" in fault.detail
    assert _places(replace(GOOD, text=None)) == set()
    assert _places(replace(GOOD, text="a\0b")) == {("/text", "control_characters")}
    assert _places(replace(GOOD, html="a\ud800b")) == {("/html", "control_characters")}


def test_every_fault_is_named_at_once() -> None:
    """A caller who made three mistakes learns of three."""
    submission = replace(GOOD, subject="a\nb", headers=(("Bcc", "x"),), attachments=_file(filename="a/b"))
    assert {pointer for pointer, _ in _places(submission)} == {"/subject", "/headers/Bcc", "/attachments/0/filename"}


def test_limits_are_limits() -> None:
    """Counts and lengths are bounded."""
    small = Limits(attachments=1, headers=1, header_bytes=1024)
    assert {f.pointer for f in check_submission(replace(GOOD, attachments=GOOD.attachments * 2), small)} == {"/attachments"}
    assert {f.pointer for f in check_submission(replace(GOOD, headers=GOOD.headers * 2), small)} == {"/headers"}
    assert {f.pointer for f in check_submission(replace(GOOD, headers=(("X", "y" * 1024),)), small)} == {"/headers"}
    assert _places(replace(GOOD, subject="x" * 2001)) == {("/subject", "too_long")}
    assert _places(replace(GOOD, to=(Mailbox(ANN, "x" * 501),))) == {("/to/0", "too_long")}


def test_steering_is_checked_alike_for_both_doors() -> None:
    """Streams have names, tags and metadata are short, keys are printable ASCII."""
    bad = Steering(stream="no such", tags=("", "x" * 129), metadata={"a/b~": "x" * 1025, "": "x"}, idempotency_key="ä")
    assert {(f.pointer, f.code) for f in check_steering(bad)} == {
        ("/stream", "unknown_stream"), ("/tags/0", "required"), ("/tags/1", "too_long"), ("/metadata/a~1b~0", "too_long"),
        ("/metadata/", "required"), ("/idempotency_key", "invalid_idempotency_key"),
    }  # fmt: skip
    assert [f.code for f in check_steering(Steering(tags=("x",) * 51, metadata={str(n): "" for n in range(101)}))] == [
        "too_many",
        "too_many",
    ]
