"""
A finished message is taken as it is: checked, its steering read, the fewest fields removed and added.

Arrives: a `RawSubmission`, from SMTP or from the raw call. Leaves: a `Draft`.
Removed: Bcc, Return-Path, X-Gatepost-…. Added: Date and Message-ID where they lack (RFC 6409 §8.2, §8.3). Nothing else
changes, because a signature of the caller's own may lie over the rest.
Standards: RFC 5322 §3.6, RFC 6409, RFC 8689 §3, RFC 6854 is not followed: From is exactly one mailbox, never a group.
Not here: fields as JSON (checks, compose); whether the sender may use the From domain (accept).
"""

import re
from dataclasses import replace

import msgspec

from gatepost.clock import Instant, parse_iso
from gatepost.domain.address import InvalidAddress, Mailbox, parse_mailbox
from gatepost.domain.engagement import TrackingWish
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Draft, RawSubmission, Steering
from gatepost.mime.checks import check_steering
from gatepost.mime.compose import date_text, message_id_for, unique_recipients
from gatepost.mime.fields import Field, MalformedHeader, read_fields
from gatepost.mime.headers import decode_text
from gatepost.mime.structure import check_structure
from gatepost.settings import Limits

_SINGLE = frozenset(
    [
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "message-id",
        "in-reply-to",
        "references",
        "subject",
        "date",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-id",
        "content-description",
    ]
)
_REMOVED = frozenset({"bcc", "return-path"})
_STEERING = "x-gatepost-"
_MESSAGE_ID = re.compile(r"<([!-;=?-~]{1,900})>")
_DIGITS = re.compile(r"[0-9]{1,9}")
_MAX_SUBJECT = 998
_MAX_HOPS = 100  # RFC 5321 §6.3
_MAX_PASSES = 3
"""Times that a message may have come through this gateway before: mail is forwarded by systems that send through it, too."""
_OWN_HOP = re.compile(r"by (\S+) \(Gatepost\)[^;]{0,40} id (msg_[0-9a-z]{26})")


def adopt(raw: RawSubmission, *, message_id: str, hostname: str, now: Instant, limits: Limits) -> Draft:
    """
    Take a finished message.

    Args:
        message_id: Our identifier, `msg_…`; the Message-ID is made from it where the message has none.
        hostname: Domain of such a Message-ID.

    Raises:
        Refused: payload_too_large, mail_loop; or validation_failed with a fault for each thing wrong, whose pointer is a header's name.
    """
    content = raw.content
    if len(content) > limits.message_bytes:
        raise Refused("payload_too_large", f"the message is larger than {limits.message_bytes} bytes")
    _check_octets(content, limits)
    fields, body_at = _read(content, limits)
    by_name = _index(fields)
    faults = _repeated(by_name) + _encoding_faults(content, body_at, fields)
    earlier_ids = _stop_loops(by_name, raw, hostname)
    sender = _sender(by_name, faults)
    header_id = _message_id(by_name, faults)
    outside = msgspec.structs.replace(raw.steering, ignores_tls_policy=True) if _is_tls_optional(by_name) else raw.steering
    steering = _steering([field for field in fields if field.lower.startswith(_STEERING)], outside, now, faults)
    types = by_name.get("content-type", [])
    if len(types) < 2:
        fault = check_structure(content, body_at, types[0].raw if types else None, limits)
        faults += [fault] if fault else []
    if faults or sender is None:
        raise invalid(*faults)
    added = "" if "date" in by_name else f"Date: {date_text(now // 1000)}\r\n"
    if header_id is None:
        header_id = message_id_for(message_id, hostname, sender)
        added += f"Message-ID: <{header_id}>\r\n"
    final = _assemble(content, fields, body_at, added.encode())
    subject = by_name.get("subject")
    return Draft(
        id=message_id,
        envelope_from=raw.envelope_from,
        header_from=sender,
        recipients=unique_recipients(raw.recipients),
        subject=decode_text(subject[0].text())[:_MAX_SUBJECT] if subject else "",
        message_id_header=header_id,
        content=final,
        is_8bit=not final.isascii(),
        is_smtputf8=_needs_smtputf8(raw, fields),
        steering=steering,
        ret=raw.ret,
        envid=raw.envid,
        earlier_ids=earlier_ids,
    )


def _stop_loops(by_name: dict[str, list[Field]], raw: RawSubmission, hostname: str) -> tuple[str, ...]:
    """
    Refuse what goes round; return our identifiers of a message that came through here before.

    Raises:
        Refused: mail_loop.
    """
    received = by_name.get("received", [])
    if len(received) >= _MAX_HOPS:
        raise _loop("Received", f"the message came through {len(received)} servers: it runs in a loop")
    delivered_to = {field.text().lower() for field in by_name.get("delivered-to", ())}
    for recipient in raw.recipients if delivered_to else ():
        if str(recipient.address).lower() in delivered_to:
            raise _loop("Delivered-To", f"the message was delivered to {recipient.address} already: it runs in a loop")
    hops = [found for field in received if (found := _OWN_HOP.search(field.text())) is not None and found[1].lower() == hostname.lower()]
    if len(hops) >= _MAX_PASSES:
        raise _loop("Received", f"the message came through this gateway {len(hops)} times already: it runs in a loop")
    return tuple(found[2] for found in hops)


def _loop(place: str, detail: str) -> Refused:
    return Refused("mail_loop", detail, (Fault(place, "mail_loop", detail),))


def _check_octets(content: bytes, limits: Limits) -> None:
    """Refuse what SMTP cannot carry (RFC 5321 §4.5.2, §2.3.8), before anything else looks at the message."""
    if b"\0" in content:
        raise invalid(Fault("", "nul", "the message has a NUL"))
    breaks = content.count(b"\r\n")
    if content.count(b"\n") != breaks or content.count(b"\r") != breaks:
        raise invalid(Fault("", "bare_line_break", "the message has a CR or an LF that stands alone; lines end in CRLF"))
    at, end, reach = 0, len(content), limits.line_bytes + 2
    while end - at > reach:  # the last line break within reach: jumps over as many short lines as fit
        found = content.rfind(b"\n", at, at + reach)
        if found < 0:
            raise invalid(Fault("", "line_too_long", f"a line is longer than {limits.line_bytes} bytes"))
        at = found + 1
    last = content.rfind(b"\n", at) + 1 or at
    if end - last > limits.line_bytes:
        raise invalid(Fault("", "line_too_long", f"a line is longer than {limits.line_bytes} bytes"))


def _read(content: bytes, limits: Limits) -> tuple[list[Field], int]:
    try:
        return read_fields(content, limits)
    except MalformedHeader as error:
        raise invalid(error.fault) from None


def _index(fields: list[Field]) -> dict[str, list[Field]]:
    by_name: dict[str, list[Field]] = {}
    for field in fields:
        by_name.setdefault(field.lower, []).append(field)
    return by_name


def _repeated(by_name: dict[str, list[Field]]) -> list[Fault]:
    """Two of these are read as the first by some programs and as the last by others."""
    return [
        Fault(fields[0].name, "duplicate_header", f"{fields[0].name} is there {len(fields)} times")
        for name, fields in by_name.items()
        if len(fields) > 1 and name in _SINGLE
    ]


def _encoding_faults(content: bytes, body_at: int, fields: list[Field]) -> list[Fault]:
    if content[:body_at].isascii():
        return []
    bad = [field for field in fields if not field.raw.isascii() and not _is_utf8(field.raw)]
    return [Fault(field.name, "invalid_encoding", "has octets above 127 that are not UTF-8") for field in bad]


def _sender(by_name: dict[str, list[Field]], faults: list[Fault]) -> Mailbox | None:
    """Read From: exactly one field with exactly one mailbox, so that what we check is what every reader shows."""
    fields = by_name.get("from", [])
    if len(fields) != 1:
        if not fields:
            faults.append(Fault("From", "required", "the message has no From"))
        return None
    box = _mailbox(fields[0], faults)
    for field in by_name.get("sender", [])[:1]:
        other = _mailbox(field, faults)
        if box and other and other.address.domain != box.address.domain:
            faults.append(Fault(field.name, "sender_mismatch", "Sender has another domain than From"))
    return Mailbox(box.address, decode_text(box.name)) if box else None


def _mailbox(field: Field, faults: list[Fault]) -> Mailbox | None:
    try:
        return parse_mailbox(field.text())
    except InvalidAddress as error:
        faults.append(Fault(field.name, "invalid_address", str(error)))
    return None


def _is_tls_optional(by_name: dict[str, list[Field]]) -> bool:
    """Tell whether the sender would rather have the message arrive in plain text than not at all (RFC 8689 §3)."""
    fields = by_name.get("tls-required", [])
    return len(fields) == 1 and fields[0].text().strip().lower() == "no"


def _message_id(by_name: dict[str, list[Field]], faults: list[Fault]) -> str | None:
    fields = by_name.get("message-id", [])
    if not fields:
        return None
    found = _MESSAGE_ID.fullmatch(fields[0].text())
    if found is None:
        faults.append(Fault("Message-ID", "invalid_message_id", "not one identifier in angle brackets"))
        return None
    return found[1]


def _steering(fields: list[Field], outside: Steering, now: Instant, faults: list[Fault]) -> Steering:
    """Read the steering fields; each wins over what came from outside the content."""
    if not fields:
        faults += _steering_faults(outside)
        return outside
    tags: list[str] = []
    metadata = dict(outside.metadata)
    values: dict[str, str] = {}
    places: dict[str, str] = {}
    for field in fields:
        what, text = field.lower.removeprefix(_STEERING), decode_text(field.text())
        if what == "tag":
            tags.append(text)
        elif what in values:
            faults.append(Fault(field.name, "duplicate_header", f"{field.name} is there twice"))
        elif what in {"template", "variables"}:
            faults.append(Fault(field.name, "unsupported", "templates are not supported here"))
        elif what in _ONCE or what.startswith("metadata-"):
            values[what], places[what] = text, field.name
            if what.startswith("metadata-"):
                metadata[field.name[len(_STEERING) + len("metadata-") :]] = text
        else:
            faults.append(Fault(field.name, "unknown_header", "there is no such steering header"))
    steering = msgspec.structs.replace(
        outside,
        stream=values.get("stream", outside.stream),
        tags=tuple(tags) or outside.tags,
        metadata=metadata,
        idempotency_key=values.get("idempotency-key", outside.idempotency_key),
        route=values.get("route", outside.route),
        requires_tls=_yes_or_no(values["require-tls"], places["require-tls"], faults) if "require-tls" in values else outside.requires_tls,
    )
    if not _TRACKING.keys().isdisjoint(values):
        asked = {name: _yes_or_no(values[what], places[what], faults) for what, name in _TRACKING.items() if what in values}
        steering = msgspec.structs.replace(steering, tracking=replace(outside.tracking or TrackingWish(), **asked))
    faults += _steering_faults(steering)
    return _timed(steering, values, places, now, faults)


_TRACKING = {
    "track-opens": "opens", "track-clicks": "clicks", "track-text": "text", "track-force": "is_forced", "unsubscribe": "unsubscribe",
}  # fmt: skip
_ONCE = frozenset({"stream", "scheduled-at", "ttl", "idempotency-key", "require-tls", "route", *_TRACKING})


def _yes_or_no(text: str, place: str, faults: list[Fault]) -> bool:
    if text.lower() not in {"true", "false"}:
        faults.append(Fault(place, "invalid_value", "give true or false"))
    return text.lower() == "true"


_PLACES = (("/stream", "Stream"), ("/tags", "Tag"), ("/idempotency_key", "Idempotency-Key"), ("/route", "Route"))


def _steering_faults(steering: Steering) -> list[Fault]:
    """Name the header where JSON would have a pointer."""
    return [Fault(_place(fault.pointer), fault.code, fault.detail) for fault in check_steering(steering)]


def _place(pointer: str) -> str:
    for start, name in _PLACES:
        if pointer.startswith(start):
            return f"X-Gatepost-{name}"
    return "X-Gatepost-Metadata-" + pointer.removeprefix("/metadata/").replace("~1", "/").replace("~0", "~")


def _timed(steering: Steering, values: dict[str, str], places: dict[str, str], now: Instant, faults: list[Fault]) -> Steering:
    scheduled_at, expires_at = steering.scheduled_at, steering.expires_at
    if "scheduled-at" in values:
        try:
            scheduled_at = parse_iso(values["scheduled-at"])
        except (ValueError, OverflowError):
            faults.append(
                Fault(places["scheduled-at"], "invalid_time", "not an ISO 8601 date-time with offset, such as 2026-11-24T02:00:00Z")
            )
    if "ttl" in values:
        if not _DIGITS.fullmatch(values["ttl"]) or int(values["ttl"]) < 1:
            faults.append(Fault(places["ttl"], "invalid_ttl", "not a whole number of seconds above 0"))
        else:
            expires_at = max(scheduled_at or now, now) + int(values["ttl"]) * 1000
    return msgspec.structs.replace(steering, scheduled_at=scheduled_at, expires_at=expires_at)


def _assemble(content: bytes, fields: list[Field], body_at: int, added: bytes) -> bytes:
    """Cut out what must not travel and put in what is missing; the very same object where there is nothing to do."""
    cut = [field for field in fields if _is_removed(field)]
    if not cut and not added:
        return content
    kept, at = [], 0
    for field in cut:
        kept.append(content[at : field.start])
        at = field.end
    return b"".join([*kept, content[at:body_at], added, content[body_at:]])


def _is_removed(field: Field) -> bool:
    return field.lower in _REMOVED or field.lower.startswith(_STEERING)


def _needs_smtputf8(raw: RawSubmission, fields: list[Field]) -> bool:
    envelope = [recipient.address for recipient in raw.recipients] + ([raw.envelope_from] if raw.envelope_from else [])
    return any(address.needs_smtputf8 for address in envelope) or any(
        not field.raw.isascii() and not _is_removed(field) for field in fields
    )


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
