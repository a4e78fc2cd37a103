"""
What may be in a submission: every fault at once, each with its place.

Arrives: a `Submission`, from either door. Leaves: faults; none means that `compose` can write it.
Standards: RFC 5322 §2.2 (field names), RFC 2045 §5.1 (media types), RFC 2392 (Content-ID), RFC 6901 (pointers).
Not here: the number of recipients, whose refusal has a code of its own; who may send from where (accept).
"""

import re

from gatepost.domain.address import MAX_NAME, Mailbox
from gatepost.domain.errors import Fault
from gatepost.domain.message import Attachment, Steering, Submission
from gatepost.domain.stream import NAME
from gatepost.settings import Limits

MAX_SUBJECT = 2_000
MAX_HEADER = 8_000
MAX_FILENAME = 255
MAX_TAGS = 50
MAX_TAG = 128
MAX_METADATA = 100
MAX_METADATA_NAME = 128
MAX_METADATA_VALUE = 1_024
MAX_IDEMPOTENCY_KEY = 255

OURS = frozenset(
    [
        "from",
        "sender",
        "to",
        "cc",
        "bcc",
        "reply-to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "return-path",
        "received",
        "dkim-signature",
        "domainkey-signature",
        "authentication-results",
        "apparently-to",
        "delivered-to",
        "received-spf",
    ]
)
"""Fields that are written here, from fields of the request or from facts; a caller cannot set them by name."""

OUR_PREFIXES = ("content-", "x-gatepost-", "arc-", "resent-")

TAKEN = frozenset(
    [
        "archived-at",
        "auto-submitted",
        "autocrypt",
        "comments",
        "disposition-notification-to",
        "expires",
        "feedback-id",
        "importance",
        "in-reply-to",
        "keywords",
        "list-archive",
        "list-help",
        "list-id",
        "list-owner",
        "list-post",
        "list-subscribe",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "mail-followup-to",
        "message-context",
        "organization",
        "original-message-id",
        "precedence",
        "priority",
        "references",
        "sensitivity",
        "supersedes",
        "thread-index",
        "thread-topic",
        "tls-required",
        "user-agent",
    ]
)
"""Fields that a caller may set by name (RFC 5322, 2156, 2369, 2919, 3834, 8058, 8689 and what readers know), beside `X-…`."""

_ONCE = frozenset({"in-reply-to", "references", "list-unsubscribe", "list-unsubscribe-post", "list-id", "precedence", "auto-submitted"})
_ASCII_ONLY = frozenset({"in-reply-to", "references", "list-unsubscribe", "list-unsubscribe-post"})
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_BODY_CONTROL = re.compile("[\x00\ud800-\udfff]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_WORD = r"[A-Za-z0-9!#$&^_.+-]{1,100}"
_CONTENT_TYPE = re.compile(rf"{_WORD}/{_WORD}")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}")
_PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ROUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:, -]{0,199}")


def check_submission(submission: Submission, limits: Limits) -> list[Fault]:
    """
    Find every fault of a submission.

    Returns:
        Faults with JSON pointers such as `/subject` or `/attachments/0/filename`; empty when there are none.
    """
    faults = _content_faults(submission)
    faults += text_faults("/subject", submission.subject, MAX_SUBJECT)
    faults += _mailbox_faults("/from", submission.sender)
    fields = (("to", submission.to), ("cc", submission.cc), ("bcc", submission.bcc), ("reply_to", submission.reply_to))
    for field, boxes in fields:
        for n, box in enumerate(boxes):
            if box.name:
                faults += _mailbox_faults(f"/{field}/{n}", box)
    faults += _header_faults(submission.headers, limits)
    faults += _attachment_faults(submission.attachments, limits)
    return faults + check_steering(submission.steering)


def check_steering(steering: Steering) -> list[Fault]:
    """
    Find every fault of tags, metadata, stream and idempotency key.

    Returns:
        Faults with JSON pointers.
    """
    faults = []
    if not NAME.fullmatch(steering.stream):
        faults.append(Fault("/stream", "unknown_stream", "a stream's name has small letters, digits, - and _"))
    faults += _tag_faults(steering.tags)
    faults += _metadata_faults(steering.metadata)
    if steering.route is not None and not _ROUTE.fullmatch(steering.route):
        faults.append(Fault("/route", "invalid_route", "a route is named by letters, digits, - and _; roads are divided by commas"))
    key = steering.idempotency_key
    if key is not None and not (_PRINTABLE.fullmatch(key) and len(key) <= MAX_IDEMPOTENCY_KEY):
        detail = f"an idempotency key is 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
        faults.append(Fault("/idempotency_key", "invalid_idempotency_key", detail))
    return faults


def text_faults(place: str, text: str, longest: int) -> list[Fault]:
    """
    Find what keeps a text out of a header field: control characters, line breaks of any kind, lone surrogates, length.

    Returns:
        At most one fault.
    """
    if len(text) > longest:
        return [Fault(place, "too_long", f"longer than {longest} characters")]
    if text.isprintable():
        return []
    found = _CONTROL.search(text)
    return [Fault(place, "control_characters", f"has the control character U+{ord(found[0]):04X}")] if found else []


def pointer(*parts: str | int) -> str:
    """Build a JSON pointer (RFC 6901 §3)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _content_faults(submission: Submission) -> list[Fault]:
    faults = []
    if not (submission.to or submission.cc or submission.bcc):
        faults.append(Fault("/to", "required", "there is no recipient in to, cc or bcc"))
    if not (submission.text or submission.html or submission.attachments):
        detail = "there is no content: give text, html or an attachment"
        faults.append(Fault("/text", "required", detail if submission.subject else "there is neither a subject nor content"))
    for place, text in (("/text", submission.text), ("/html", submission.html)):
        found = _BODY_CONTROL.search(text) if (text and not text.isascii()) or (text and "\0" in text) else None
        if found:
            faults.append(Fault(place, "control_characters", f"has the character U+{ord(found[0]):04X}, which no mail can carry"))
    return faults


def _mailbox_faults(place: str, box: Mailbox) -> list[Fault]:
    return text_faults(place, box.name, MAX_NAME) if box.name else []


def _header_faults(headers: tuple[tuple[str, str], ...], limits: Limits) -> list[Fault]:
    if len(headers) > limits.headers:
        return [Fault("/headers", "too_many", f"more than {limits.headers} headers")]
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes:
        return [Fault("/headers", "too_large", f"more than {limits.header_bytes} bytes of headers")]
    faults: list[Fault] = []
    seen: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        place = pointer("headers", name if name.isprintable() else ascii(name)[1:-1])
        faults += _name_faults(place, name, lower, limits) or text_faults(place, value, MAX_HEADER)
        if lower in _ONCE and lower in seen:
            faults.append(Fault(place, "duplicate_header", f"{name} can only be given once"))
        if lower in _ASCII_ONLY and (not value.isascii() or len(max(value.split(), key=len, default="")) > 900):
            faults.append(Fault(place, "invalid_header", f"{name} has identifiers or links, which are ASCII and at most 900 characters"))
        seen.add(lower)
    return faults


def _name_faults(place: str, name: str, lower: str, limits: Limits) -> list[Fault]:
    if not _HEADER_NAME.fullmatch(name):
        return [Fault(place, "invalid_header_name", "a header's name is 1 to 76 printable ASCII characters without colon and space")]
    if lower in OURS or lower.startswith(OUR_PREFIXES):
        return [Fault(place, "reserved_header", f"{name} cannot be set as a header; it is made from the other fields")]
    if lower not in TAKEN and not lower.startswith("x-") and lower not in map(str.lower, limits.more_headers):
        detail = f"{name} is not among the headers that are taken; name it X-{name}, or ask the operator to add it to limits.more_headers"
        return [Fault(place, "header_not_allowed", detail)]
    return []


def _attachment_faults(attachments: tuple[Attachment, ...], limits: Limits) -> list[Fault]:
    if len(attachments) > limits.attachments:
        return [Fault("/attachments", "too_many", f"more than {limits.attachments} attachments")]
    faults: list[Fault] = []
    seen: set[str] = set()
    for n, file in enumerate(attachments):
        place = f"/attachments/{n}"
        faults += _filename_faults(f"{place}/filename", file)
        faults += _type_faults(f"{place}/content_type", file.content_type)
        if file.content_id is not None:
            faults += _content_id_faults(f"{place}/content_id", file.content_id, seen)
    return faults


def _filename_faults(place: str, file: Attachment) -> list[Fault]:
    name = file.filename
    if not name.strip() and not (file.is_inline and file.content_id):
        return [Fault(place, "required", "an attachment needs a name")]
    if len(name.encode("utf-8", "replace")) > MAX_FILENAME:
        return [Fault(place, "too_long", f"longer than {MAX_FILENAME} bytes")]
    if "\t" in name or _CONTROL.search(name):
        return [Fault(place, "control_characters", "has control characters")]
    if _BIDI.search(name):
        return [Fault(place, "invalid_filename", "has characters that change the direction of writing, which disguise a file's type")]
    if "/" in name or "\\" in name or name in {".", ".."}:
        return [Fault(place, "invalid_filename", "a file's name is not a path")]
    return []


def _type_faults(place: str, kind: str) -> list[Fault]:
    if not _CONTENT_TYPE.fullmatch(kind):
        return [Fault(place, "invalid_content_type", "not of the form type/subtype, without parameters")]
    if kind.lower().startswith(("multipart/", "message/")):
        return [Fault(place, "invalid_content_type", "a file cannot be of this type; use application/octet-stream, or send raw MIME")]
    return []


def _content_id_faults(place: str, content_id: str, seen: set[str]) -> list[Fault]:
    if not _CONTENT_ID.fullmatch(content_id):
        return [Fault(place, "invalid_content_id", "1 to 200 letters, digits and signs, without spaces and angle brackets")]
    if content_id in seen:
        return [Fault(place, "duplicate_content_id", "another attachment has this content_id")]
    seen.add(content_id)
    return []


def _tag_faults(tags: tuple[str, ...]) -> list[Fault]:
    if len(tags) > MAX_TAGS:
        return [Fault("/tags", "too_many", f"more than {MAX_TAGS} tags")]
    faults = []
    for n, tag in enumerate(tags):
        faults += text_faults(f"/tags/{n}", tag, MAX_TAG) if tag.strip() else [Fault(f"/tags/{n}", "required", "an empty tag")]
    return faults


def _metadata_faults(metadata: dict[str, str]) -> list[Fault]:
    if len(metadata) > MAX_METADATA:
        return [Fault("/metadata", "too_many", f"more than {MAX_METADATA} entries")]
    faults: list[Fault] = []
    for name, value in metadata.items():
        place = pointer("metadata", name if name.isprintable() else ascii(name)[1:-1])
        if not name:
            faults.append(Fault(place, "required", "an empty name"))
        faults += text_faults(place, name, MAX_METADATA_NAME) or text_faults(place, value, MAX_METADATA_VALUE)
    return faults
