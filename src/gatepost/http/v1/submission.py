"""
The JSON of a message becomes a `Submission`.

Arrives: a decoded body. Leaves: submissions; or one refusal with every fault, its pointer leading into the body as sent.
Standards: RFC 4648 §4 (base64, strict), RFC 3339 (times).
Not here: whether the content may be sent (mime.checks, accept).
"""

import binascii
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from gatepost.clock import Instant, parse_iso
from gatepost.domain.address import MAX_NAME, Address, InvalidAddress, Mailbox, parse_address, parse_mailbox
from gatepost.domain.engagement import TrackingWish
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Attachment, Steering, Submission
from gatepost.http.v1 import bodies
from gatepost.mime.checks import check_submission, text_faults
from gatepost.mime.variables import TemplateFault, render_variables
from gatepost.settings import Limits

_NOBODY = Mailbox(Address("nobody", "invalid.invalid"))
"""Stands in for an address that cannot be read, so that the other fields can still be checked."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_MODIFIABLE = ("to", "cc", "bcc", "subject", "headers", "metadata", "variables")


@dataclass(slots=True)
class _Reader:
    """Reads fields and collects their faults."""

    faults: list[Fault] = field(default_factory=list)

    def mailbox(self, value: bodies.Mailbox, at: str) -> Mailbox:
        try:
            if isinstance(value, str):
                return parse_mailbox(value)
            return Mailbox(parse_address(value.email), self.name(value.name or "", f"{at}/name"))
        except InvalidAddress as error:
            self.faults.append(Fault(at if isinstance(value, str) else f"{at}/email", "invalid_address", str(error)))
            return _NOBODY

    def name(self, text: str, at: str) -> str:
        faults = text_faults(at, text, MAX_NAME)
        self.faults += faults
        return "" if faults else text

    def mailboxes(self, values: Sequence[bodies.Mailbox] | None, at: str) -> tuple[Mailbox, ...]:
        if not values:
            return ()
        return tuple([self.mailbox(value, f"{at}/{n}") for n, value in enumerate(values)])

    def attachment(self, body: bodies.AttachmentBody, at: str) -> Attachment:
        return Attachment(
            filename=body.filename,
            content=self.base64(body.content, f"{at}/content"),
            content_type=body.content_type.lower(),
            is_inline=body.disposition == "inline",
            content_id=body.content_id,
        )

    def base64(self, text: str, at: str) -> bytes:
        try:
            content = binascii.a2b_base64(text, strict_mode=True)
            why = "" if _ends_canonically(text) else "bits after the end of the data"
        except ValueError as error:  # binascii.Error is one
            content, why = b"", str(error).lower()
        if why:
            self.faults.append(Fault(at, "invalid_base64", f"this is not base64 (RFC 4648 §4): {why}"))
        return content

    def moment(self, text: str | None, at: str) -> Instant | None:
        if text is None:
            return None
        if _MOMENT.fullmatch(text):
            with contextlib.suppress(ValueError, OverflowError):
                return parse_iso(text.upper())
        self.faults.append(Fault(at, "invalid_time", "give date, time and offset as in 2026-11-24T02:00:00Z"))
        return None

    def unsupported(self, body: bodies.MessageBody) -> None:
        if body.template is not None:
            self.faults.append(Fault("/template", "unsupported", "this is not supported yet; leave it out"))

    def tracking(self, body: bodies.MessageBody) -> TrackingWish | None:
        asked = body.tracking
        if asked is None and body.unsubscribe is None:
            return None
        if body.unsubscribe and body.headers and any(name.lower().startswith("list-unsubscribe") for name in body.headers):
            self.faults.append(Fault("/unsubscribe", "conflicting", "the message has a List-Unsubscribe of its own"))
        if asked is None:
            return TrackingWish(unsubscribe=body.unsubscribe)
        return TrackingWish(
            opens=asked.opens, clicks=asked.clicks, text=asked.text, unsubscribe=body.unsubscribe, is_forced=asked.force
        )  # fmt: skip


def _ends_canonically(text: str) -> bool:
    """Tell whether the unused bits of the last character are zero (RFC 4648 §3.5)."""
    last = text[-4:]
    return not last.endswith("=") or binascii.b2a_base64(binascii.a2b_base64(last), newline=False).decode() == last


def submission_of(body: bodies.MessageBody, limits: Limits, now: Instant) -> Submission:
    """
    Turn one message's body into a submission, variables applied.

    Raises:
        Refused: validation_failed with every fault.
    """
    reader = _Reader()
    submission = _read(reader, body, now)
    if body.subject is None:
        reader.faults.append(Fault("/subject", "required", "a message needs a subject; it may be empty"))
    _raise(reader, submission, limits)
    return submission if body.variables is None else _rendered(submission, body.variables)


def submissions_of(body: bodies.SendBody, limits: Limits, now: Instant) -> list[Submission]:
    """
    Turn a body with personalizations into one submission for each.

    Raises:
        Refused: validation_failed with every fault.
    """
    assert body.personalizations is not None
    reader = _Reader()
    shared = _read(reader, body, now)
    reader.faults += [
        Fault(f"/{name}", "conflicting", "give to, cc and bcc in the personalizations, or no personalizations")
        for name in ("to", "cc", "bcc")
        if getattr(body, name)
    ]
    if len(body.personalizations) > limits.batch_messages:
        reader.faults.append(Fault("/personalizations", "too_many", f"at most {limits.batch_messages} are taken at once"))
    made = [_personalized(reader, shared, one, n) for n, one in enumerate(body.personalizations)]
    if body.subject is None:
        reader.faults += [
            Fault(f"/personalizations/{n}/subject", "required", "a message needs a subject, here or for all")
            for n, one in enumerate(body.personalizations)
            if one.subject is None
        ]
    if reader.faults:
        raise invalid(*reader.faults)
    faults = [fault for n, one in enumerate(made) for fault in relocated(check_submission(one, limits), body, n)]
    if faults:
        raise invalid(*dict.fromkeys(faults))
    return [_rendered_for(one, body, n) for n, one in enumerate(made)]


def relocate(refusal: Refused, body: bodies.SendBody) -> Refused:
    """Turn the pointers of a strict batch, `/messages/N/…`, into pointers to the personalizations or what they share."""
    faults: list[Fault] = []
    for fault in refusal.faults:
        _, head, *rest = [*fault.pointer.split("/", 3), ""]
        if head == "messages" and rest[0].isdigit():
            faults += relocated([replace(fault, pointer=f"/{rest[1]}" if rest[1] else "")], body, int(rest[0]))
        else:
            faults.append(fault)
    return Refused(refusal.code, refusal.detail, tuple(dict.fromkeys(faults)), refusal.retry_after_s)


def moment_of(text: str | None, at: str) -> Instant | None:
    """
    Read a time.

    Raises:
        Refused: validation_failed when it is none.
    """
    reader = _Reader()
    found = reader.moment(text, at)
    if reader.faults:
        raise invalid(*reader.faults)
    return found


def _read(reader: _Reader, body: bodies.MessageBody, now: Instant) -> Submission:
    if body.template is not None or body.tracking is not None or body.unsubscribe is not None or body.require_tls:
        reader.unsupported(body)
    return Submission(
        sender=reader.mailbox(body.sender, "/from"),
        to=reader.mailboxes(body.to, "/to"),
        cc=reader.mailboxes(body.cc, "/cc"),
        bcc=reader.mailboxes(body.bcc, "/bcc"),
        reply_to=reader.mailboxes(body.reply_to, "/reply_to"),
        subject=body.subject or "",
        text=body.text,
        html=body.html,
        attachments=tuple([reader.attachment(one, f"/attachments/{n}") for n, one in enumerate(body.attachments)])
        if body.attachments
        else (),
        headers=tuple(body.headers.items()) if body.headers else (),
        steering=_steering(reader, body, now),
    )


def _steering(reader: _Reader, body: bodies.MessageBody, now: Instant) -> Steering:
    scheduled_at = reader.moment(body.scheduled_at, "/scheduled_at")
    expires_at = reader.moment(body.expires_at, "/expires_at")
    if body.ttl_s is not None:
        if expires_at is not None:
            reader.faults.append(Fault("/ttl_s", "conflicting", "give ttl_s or expires_at, not both"))
        expires_at = (scheduled_at or now) + body.ttl_s * 1000
    return Steering(
        stream=body.stream, tags=tuple(body.tags or ()), metadata=body.metadata or {}, scheduled_at=scheduled_at, expires_at=expires_at,
        requires_tls=bool(body.require_tls), route=body.route, tracking=reader.tracking(body),
    )  # fmt: skip


def _raise(reader: _Reader, submission: Submission, limits: Limits) -> None:
    if reader.faults:
        told = {fault.pointer for fault in reader.faults}
        more = [fault for fault in check_submission(submission, limits) if fault.pointer not in told]
        raise invalid(*reader.faults, *more)


def _personalized(reader: _Reader, shared: Submission, one: bodies.Personalization, n: int) -> Submission:
    at = f"/personalizations/{n}"
    steering = shared.steering
    if one.metadata is not None:
        steering = msgspec.structs.replace(steering, metadata={**steering.metadata, **one.metadata})
    return msgspec.structs.replace(
        shared,
        to=reader.mailboxes(one.to, f"{at}/to"),
        cc=reader.mailboxes(one.cc, f"{at}/cc"),
        bcc=reader.mailboxes(one.bcc, f"{at}/bcc"),
        subject=shared.subject if one.subject is None else one.subject,
        headers=shared.headers if one.headers is None else tuple({**dict(shared.headers), **one.headers}.items()),
        steering=steering,
    )


def relocated(faults: Sequence[Fault], body: bodies.SendBody, n: int) -> list[Fault]:
    """
    Turn pointers into one of several messages into pointers into the body.

    They lead to the personalization where it gave the field, else to the field that all share.
    """
    assert body.personalizations is not None
    one, at = body.personalizations[n], f"/personalizations/{n}"
    return [replace(fault, pointer=at + fault.pointer) if _is_own(one, fault.pointer) else fault for fault in faults]


def _is_own(one: bodies.Personalization, place: str) -> bool:
    name, _, key = place.strip("/").partition("/")
    if name not in _MODIFIABLE:
        return not name
    if name in {"headers", "metadata", "variables"} and key:
        given: Mapping[str, Any] = getattr(one, name) or {}
        key = key.partition("/")[0]
        return key.replace("~1", "/").replace("~0", "~") in given
    return name in {"to", "cc", "bcc"} or getattr(one, name) is not None


def _rendered_for(submission: Submission, body: bodies.SendBody, n: int) -> Submission:
    assert body.personalizations is not None
    own = body.personalizations[n].variables
    if own is None and body.variables is None:
        return submission
    try:
        return _rendered(submission, {**(body.variables or {}), **(own or {})})
    except Refused as refusal:
        raise Refused(refusal.code, refusal.detail, tuple(relocated(refusal.faults, body, n))) from None


def _rendered(submission: Submission, variables: dict[str, Any]) -> Submission:
    faults: list[Fault] = []

    def render(name: str, template: str) -> str:
        try:
            return render_variables(template, variables, html=name == "html")
        except TemplateFault as fault:
            faults.append(Fault(f"/{name}", fault.code, fault.detail))
            return ""

    rendered = msgspec.structs.replace(
        submission,
        subject=render("subject", submission.subject),
        text=None if submission.text is None else render("text", submission.text),
        html=None if submission.html is None else render("html", submission.html),
        variables=variables,
    )
    if faults:
        raise invalid(*faults)
    return rendered
