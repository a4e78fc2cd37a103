"""
Send: one message, several that share a body, a batch; or only check.

Arrives: JSON. Leaves: 202 with a status for each recipient, after the commit.
Not here: how a body becomes a submission (submission), whether it is accepted (accept), finished MIME (raw).
"""

import hashlib
from dataclasses import replace

import msgspec

from gatepost.accept import Accepted, AcceptedMessage, Acceptor, Idempotency
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Submission
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import BatchBody, BatchGlimpse, Glimpse, MessageBody, RawBatchBody, SendBody
from gatepost.http.v1.submission import relocate, relocated, submission_of, submissions_of
from gatepost.settings import Limits

BATCH_BYTES = 64 * 1024 * 1024
_REPLAYED = [(b"idempotent-replayed", b"true")]
_TAG = "messages"
SENDING_CODES = (
    "malformed_request",
    "domain_not_verified",
    "idempotency_in_progress",
    "idempotency_key_reused",
    "payload_too_large",
    "unsupported_media_type",
    "validation_failed",
    "all_recipients_suppressed",
    "too_many_recipients",
    "content_refused",
    "insufficient_balance",
    "scanner_unavailable",
    "overloaded",
)

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="repeating a request with the same key within 24 hours gives the first answer again and sends nothing",
    schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
)


def body_limit(limits: Limits) -> int:
    """Return the bytes that a body with one message may have: base64 is a third longer than what it holds."""
    return limits.message_bytes * 4 // 3 + 1024 * 1024


def idempotency_of(request: Request, *parts: bytes) -> Idempotency | None:
    """
    Read the idempotency key.

    Args:
        parts: What makes the request this one, besides method and path.

    Raises:
        Refused: The key is too long or not printable.
    """
    key = request.header(b"idempotency-key")
    if key is None:
        return None
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise invalid(Fault("Idempotency-Key", "invalid_idempotency_key", "it has 1 to 255 printable ASCII characters"))
    digest = hashlib.sha256(f"{request.method} {request.path}\n".encode())
    for part in parts:
        digest.update(b"%d\n" % len(part))
        digest.update(part)
    return Idempotency(key=key, request_hash=digest.digest())


def replayed(accepted: Accepted) -> list[tuple[bytes, bytes]]:
    """Return the header that marks the answer of an earlier request."""
    return _REPLAYED if accepted.is_replay else []


async def send(request: Request) -> Answer:
    """Accept one message, or one for each personalization."""
    deps = request.deps
    raw = await decode.read_body(request, body_limit(deps.settings.limits))
    _check_room(deps.acceptor, raw, Glimpse)
    key = idempotency_of(request, raw)
    body = decode.read_json(raw, SendBody)
    if body.personalizations is not None:
        return await _send_several(request, body, key)
    submission = submission_of(body, deps.settings.limits, deps.clock.now())
    accepted = await deps.acceptor.submit(request.caller, submission, key)
    result = accepted.results[0]
    assert isinstance(result, AcceptedMessage)
    return as_json(writing.sent(result), 202, replayed(accepted))


async def _send_several(request: Request, body: SendBody, key: Idempotency | None) -> Answer:
    deps = request.deps
    submissions = submissions_of(body, deps.settings.limits, deps.clock.now())
    try:
        accepted = await deps.acceptor.submit_batch(request.caller, submissions, "strict", key)
    except Refused as refusal:
        raise relocate(refusal, body) from None
    written = [
        writing.sent(msgspec.structs.replace(one, warnings=relocated(one.warnings, body, n)) if one.warnings else one)
        for n, one in enumerate(accepted.results)
        if isinstance(one, AcceptedMessage)
    ]
    return as_json(written, 202, replayed(accepted))


async def send_batch(request: Request) -> Answer:
    """Accept independent messages: all or none, or those that are valid."""
    deps = request.deps
    raw = await decode.read_body(request, BATCH_BYTES)
    _check_room(deps.acceptor, raw, BatchGlimpse)
    key = idempotency_of(request, raw)
    body = decode.read_json(raw, RawBatchBody)
    limit = deps.settings.limits.batch_messages
    if not 1 <= len(body.messages) <= limit:
        raise invalid(Fault("/messages", "out_of_range", f"a batch has 1 to {limit} messages"))
    now = deps.clock.now()
    submissions = [_part(bytes(one), deps.settings.limits, now) for one in body.messages]
    accepted = await deps.acceptor.submit_batch(request.caller, submissions, body.mode, key)
    return as_json(writing.batch(accepted.results), 202, replayed(accepted))


def _check_room(acceptor: Acceptor, raw: bytes, kind: type[Glimpse] | type[BatchGlimpse]) -> None:
    """Under pressure: refuse a request by its streams alone, at a tenth of the cost of reading it."""
    if not acceptor.is_pressed:
        return
    try:
        seen = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return  # what is wrong with it is told as always
    acceptor.check([seen.stream] if isinstance(seen, Glimpse) else [one.stream for one in seen.messages])


def _part(raw: bytes, limits: Limits, now: int) -> Submission | Refused:
    try:
        return submission_of(decode.read_part(raw, MessageBody), limits, now)
    except Refused as refusal:
        return refusal


async def validate(request: Request) -> Answer:
    """Check a message as sending would, suppressions apart; send nothing."""
    deps = request.deps
    body = decode.read_json(await decode.read_body(request, body_limit(deps.settings.limits)), SendBody)
    if body.personalizations is None:
        warnings = await deps.acceptor.validate(request.caller, submission_of(body, deps.settings.limits, deps.clock.now()))
        return as_json(writing.validation(warnings))
    found: list[Fault] = []
    for n, submission in enumerate(submissions_of(body, deps.settings.limits, deps.clock.now())):
        try:
            found += relocated(await deps.acceptor.validate(request.caller, submission), body, n)
        except Refused as refusal:
            moved = tuple(replace(fault, pointer=f"/messages/{n}{fault.pointer}") for fault in refusal.faults)
            raise relocate(Refused(refusal.code, refusal.detail, moved), body) from None
    return as_json(writing.validation(list(dict.fromkeys(found))))


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/messages",
        run=send,
        name="sendMessage",
        scope=Scope.MESSAGES_SEND,
        summary="Send a message",
        tag=_TAG,
        description="Answers after the message is durably stored. With personalizations one message is made for each of them, "
        "all or none, and the answer is a list.",
        body=SendBody,
        answers={202: answers.SentMessage | list[answers.SentMessage]},
        parameters=(IDEMPOTENCY_KEY,),
        answer_headers={"Idempotent-Replayed": "`true` where this is the answer of an earlier request"},
        codes=SENDING_CODES,
        is_sending=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/batch",
        run=send_batch,
        name="sendBatch",
        scope=Scope.MESSAGES_SEND,
        summary="Send independent messages",
        tag=_TAG,
        description="In permissive mode the answer is 202 even where no message was accepted: look at `refused`.",
        body=BatchBody,
        answers={202: answers.BatchAnswer},
        parameters=(IDEMPOTENCY_KEY,),
        answer_headers={"Idempotent-Replayed": "`true` where this is the answer of an earlier request"},
        codes=SENDING_CODES,
        is_sending=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/validate",
        run=validate,
        name="validateMessage",
        scope=Scope.MESSAGES_SEND,
        summary="Check a message without sending it",
        tag=_TAG,
        body=SendBody,
        answers={200: answers.Validation},
        codes=tuple(code for code in SENDING_CODES if not code.startswith(("idempotency", "all_", "insufficient", "over"))),
    ),
]
