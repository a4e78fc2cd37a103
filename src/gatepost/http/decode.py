"""
Bodies of requests: read within bounds, JSON without surprises, every fault with its place.

Arrives: the body's chunks. Leaves: a struct; or a refusal whose faults have JSON pointers.
Twice-given keys are refused, since which one counts would be a guess; so are NaN and numbers that no double holds, and
nesting beyond the interpreter's own bound. Unknown fields are refused: a typo must not silently change a mail.
Standards: RFC 8259 §4 (names should be unique), RFC 6901 (pointers), RFC 9110 §8.4 (Content-Encoding is refused: bombs).
Not here: what the fields mean (v1).
Bugs: a body is parsed twice, once for its types and once for twice-given keys; both together cost what one pass in
Python would.
"""

import json
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.http.exchange import Request
from gatepost.http.faults import faults_of, place_of
from gatepost.mime.checks import pointer

T = TypeVar("T")

_EXPLAINED_BYTES = 512 * 1024
"""Bodies up to this size are searched for all their faults; of larger ones the first is told."""


async def read_body(request: Request, limit: int, media_type: str = "application/json") -> bytes:
    """
    Read a body that has a media type, and at most `limit` bytes.

    Raises:
        Refused: unsupported_media_type, payload_too_large; malformed_request when the client went away.
    """
    _check_media_type(request, media_type)
    return await read_bytes(request, limit)


async def read_bytes(request: Request, limit: int) -> bytes:
    """
    Read a body whatever its media type, and at most `limit` bytes.

    Raises:
        Refused: payload_too_large; malformed_request when the client went away.
    """
    declared = request.header(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refused("malformed_request", "the connection closed before the body was complete")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_json(body: bytes, kind: type[T]) -> T:
    """
    Read a JSON body into a struct.

    Raises:
        Refused: malformed_request when it is no JSON; validation_failed with every fault found.
    """
    value = _decode(body, kind)
    check_unique(body)
    return value


def read_part(raw: bytes, kind: type[T]) -> T:
    """
    Read a part of a body whose keys were checked already.

    Raises:
        Refused: As `read_json`.
    """
    return _decode(raw, kind)


def check_unique(body: bytes) -> None:
    """
    Refuse keys that are given twice in one object.

    Raises:
        Refused: validation_failed with the place of each.
    """
    doubled: list[_Doubled] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        marked = _Doubled(found)
        seen: set[str] = set()
        marked.names = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        doubled.append(marked)
        return marked

    value = _loads(body, as_object)
    if doubled:
        raise _twice(value)


def media_type_of(request: Request) -> tuple[str, dict[str, str]]:
    """Return the media type of a body in lower case, with its parameters."""
    return _media_type(request.header(b"content-type") or "")


@lru_cache(maxsize=64)
def _media_type(text: str) -> tuple[str, dict[str, str]]:
    head, *rest = text.split(";")
    pairs = [part.strip().partition("=") for part in rest if part.strip()]
    return head.strip().lower(), {name.lower(): value.strip('"').lower() for name, _, value in pairs}


class _Doubled(dict[str, Any]):
    """An object in which a key was given twice."""

    names: list[str]


def _check_media_type(request: Request, wanted: str) -> None:
    found, parameters = media_type_of(request)
    if found != wanted or parameters.get("charset", "utf-8") not in {"utf-8", "utf8", "us-ascii"}:
        raise Refused("unsupported_media_type", f"the body is {found or 'of no type'}; send {wanted}, in UTF-8 where it is text")
    encoding = request.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Refused("unsupported_media_type", "compressed bodies are not taken; send it without Content-Encoding")


def _too_large(limit: int) -> Refused:
    return Refused("payload_too_large", f"the body has more than {limit} bytes")


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        value: T = _decoder(kind).decode(body)  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        raise _invalid(body, kind, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    return value


def _invalid(body: bytes, kind: Any, error: msgspec.ValidationError) -> Refused:
    faults: list[Fault] = []
    if len(body) <= _EXPLAINED_BYTES:
        check_unique(body)
        faults = faults_of(_loads(body, dict), kind)
    return invalid(*(faults or [place_of(error)]))


def _loads(body: bytes, as_object: Any) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=None if as_object is dict else as_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as error:  # also a UnicodeDecodeError, and an integer of thousands of digits
        raise _malformed(error) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _malformed(why: object) -> Refused:
    return Refused("malformed_request", f"the body is not valid JSON: {str(why)[:200]}")


def _twice(value: Any) -> Refused:
    try:
        return invalid(*[Fault(place, "duplicate_key", "the key is given twice") for place in _places(value)])
    except RecursionError:
        return _malformed("it is nested too deeply")


def _places(value: Any, at: str = "") -> list[str]:
    """Find the twice-given keys."""
    if isinstance(value, list):
        return [place for n, item in enumerate(value) for place in _places(item, f"{at}/{n}")]
    if not isinstance(value, dict):
        return []
    own = [at + pointer(name) for name in value.names] if isinstance(value, _Doubled) else []
    return own + [place for name, item in value.items() for place in _places(item, at + pointer(name))]
