"""
Refusals as problem details.

Arrives: a `Refused`. Leaves: the body of an `application/problem+json` answer and the headers that go with it.
Standards: RFC 9457, RFC 6901 (pointers), RFC 9110 §10.2.3 (Retry-After), §11.6.1 (WWW-Authenticate).
Not here: the codes (domain.errors).
"""

from collections.abc import Sequence

import msgspec

from gatepost.domain.errors import Fault, Refused

CONTENT_TYPE = b"application/problem+json"
TYPE = "https://gatepost.dev/problems/"


class ProblemError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault: a JSON pointer into the body, or the name of a header or parameter; `hint` is what may have been meant."""

    pointer: str
    code: str
    detail: str
    hint: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemError] = msgspec.field(default_factory=list)


_encoder = msgspec.json.Encoder()
_SHOWN = 200


def body_of(refusal: Refused, instance: str, request_id: str) -> bytes:
    """Encode a refusal; text that no UTF-8 can hold is replaced."""
    kind = refusal.kind
    problem = Problem(
        type=TYPE + kind.code,
        title=kind.title,
        status=kind.status,
        code=kind.code,
        detail=_text(refusal.detail or kind.advice),
        instance=_text(instance)[:1000],
        request_id=request_id,
        errors=errors_of(refusal),
    )
    return _encoder.encode(problem)


def errors_of(refusal: Refused) -> list[ProblemError]:
    """Write the faults of a refusal; at most 200, so that an answer is never larger than what caused it."""
    return [ProblemError(_text(fault.pointer), fault.code, _text(fault.detail), _text(fault.hint)) for fault in refusal.faults[:_SHOWN]]


def warnings_of(warnings: Sequence[Fault]) -> list[ProblemError]:
    """Write what a sender is warned of, as faults are written."""
    return [ProblemError(_text(one.pointer), one.code, _text(one.detail), _text(one.hint)) for one in warnings[:_SHOWN]]


def headers_of(refusal: Refused) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with a refusal."""
    headers = []
    if refusal.code == "authentication_required":
        headers.append((b"www-authenticate", b'Bearer realm="gatepost"'))
    elif refusal.code == "authentication_failed":
        headers.append((b"www-authenticate", b'Bearer realm="gatepost", error="invalid_token"'))
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    return headers


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
