"""
Send finished MIME: `message/rfc822` in the body, the envelope in headers.

Standards: RFC 5322 (the content), RFC 5321 §4.1.1.2, §4.1.1.3 (the envelope). Not here: what is checked in it (mime.adopt).
"""

from dataclasses import replace

from gatepost.accept import AcceptedMessage
from gatepost.domain.access import Scope
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.message import DEFAULT_STREAM, EnvelopeRecipient, RawSubmission, Source, Steering
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.sending import IDEMPOTENCY_KEY, SENDING_CODES, idempotency_of, replayed
from gatepost.mime.checks import check_steering

_FROM = "Gatepost-Envelope-From"
_TO = "Gatepost-Envelope-To"
_STREAM = "Gatepost-Stream"
_TAG = "Gatepost-Tag"
_PLACES = {"/stream": _STREAM, "/tags": _TAG}


async def send_raw(request: Request) -> Answer:
    """Accept one finished message."""
    deps = request.deps
    content = await decode.read_body(request, deps.settings.limits.message_bytes, "message/rfc822")
    key = idempotency_of(request, repr(_envelope(request)).encode(), content)
    submission = _submission(request, content)
    accepted = await deps.acceptor.submit_finished(request.caller, submission, Source.HTTP, key)
    result = accepted.results[0]
    assert isinstance(result, AcceptedMessage)
    return as_json(writing.sent(result), 202, replayed(accepted))


def _envelope(request: Request) -> tuple[str | None, list[str], str | None, list[str]]:
    return request.header(_key(_FROM)), _listed(request, _TO), request.header(_key(_STREAM)), _listed(request, _TAG)


def _key(name: str) -> bytes:
    return name.lower().encode()


def _listed(request: Request, name: str) -> list[str]:
    """Return the values of a header that may be repeated, or hold several with commas."""
    return [part.strip() for value in request.headers(_key(name)) for part in value.split(",") if part.strip()]


def _submission(request: Request, content: bytes) -> RawSubmission:
    sender, to, stream, tags = _envelope(request)
    faults: list[Fault] = []
    steering = Steering(stream=_utf8(stream or DEFAULT_STREAM, _STREAM, faults), tags=tuple(_utf8(tag, _TAG, faults) for tag in tags))
    faults += [replace(fault, pointer=_PLACES.get("/" + fault.pointer.split("/")[1], fault.pointer)) for fault in check_steering(steering)]
    if not to:
        faults.append(Fault(_TO, "required", "name the recipients in this header"))
    recipients = [_address(text, _TO, faults) for text in to]
    if sender is None:
        faults.append(Fault(_FROM, "required", "name the envelope sender in this header; <> is the null sender"))
    envelope_from = _address(sender, _FROM, faults) if sender and sender.strip() != "<>" else None
    if faults:
        raise invalid(*faults)
    return RawSubmission(
        envelope_from=envelope_from,
        recipients=tuple(EnvelopeRecipient(address=address) for address in recipients if address),
        content=content,
        steering=steering,
    )


def _address(text: str, place: str, faults: list[Fault]) -> Address | None:
    text = _utf8(text.strip(), place, faults)
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        return parse_address(text)
    except InvalidAddress as error:
        faults.append(Fault(place, "invalid_address", str(error)))
        return None


def _utf8(text: str, place: str, faults: list[Fault]) -> str:
    """Read a header as UTF-8 (RFC 6532 addresses); ASGI hands headers over byte by byte."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        faults.append(Fault(place, "invalid_text", "it is no UTF-8 text"))
        return ""


def _parameter(name: str, description: str, *, is_required: bool = False) -> Parameter:
    return Parameter(name=name, place="header", description=description, is_required=is_required)


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/messages/raw",
        run=send_raw,
        name="sendRaw",
        scope=Scope.MESSAGES_SEND,
        summary="Send a finished MIME message",
        tag="messages",
        description="The content is stored as it is, but for Bcc and X-Gatepost-… header fields, which are removed.",
        body=bytes,
        body_type="message/rfc822",
        answers={202: answers.SentMessage},
        answer_headers={"Idempotent-Replayed": "`true` where this is the answer of an earlier request"},
        parameters=(
            _parameter(_FROM, "envelope sender; <> is the null sender", is_required=True),
            _parameter(_TO, "envelope recipients; repeat it or use commas", is_required=True),
            _parameter(_STREAM, "codes, transactional or bulk"),
            _parameter(_TAG, "words to find the message by; repeat it or use commas"),
            IDEMPOTENCY_KEY,
        ),
        codes=SENDING_CODES,
        is_sending=True,
    )
]
