"""Suppressed addresses: add one or many, list, read, lift. Accept leaves them out of every message."""

from collections.abc import Collection, Sequence
from urllib.parse import unquote

from gatepost.domain.access import Scope
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.stream import NAME
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import SuppressionBody, SuppressionsBody
from gatepost.http.v1.submission import moment_of
from gatepost.mime.checks import text_faults
from gatepost.observe import maillog
from gatepost.store import suppressions
from gatepost.tenants.suppressions import Added, Suppression, Suppressions

_BYTES = 2 * 1024 * 1024
_PREFIX = b"/v1/suppressions/"


async def add(request: Request) -> Answer:
    """Suppress an address; 201 when it is new, 200 when it was there and is renewed."""
    body = decode.read_json(await decode.read_body(request, _BYTES), SuppressionBody)
    faults: list[Fault] = []
    wanted = _wanted(body, "", faults, await _streams(request))
    added = await _add(request, [wanted] if wanted else [], faults)
    return as_json(writing.suppression(added.rows[0]), 201 if added.new else 200)


async def add_many(request: Request) -> Answer:
    """Suppress several addresses in one transaction."""
    body = decode.read_json(await decode.read_body(request, _BYTES), SuppressionsBody)
    faults: list[Fault] = []
    streams = await _streams(request)
    wanted = [_wanted(one, f"/suppressions/{n}", faults, streams) for n, one in enumerate(body.suppressions)]
    added = await _add(request, [one for one in wanted if one], faults)
    return as_json(answers.SuppressionsAdded(added=added.new, renewed=len(wanted) - added.new))


async def list_suppressions(request: Request) -> Answer:
    """List suppressions, the newest first."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "sup")
    tenant_id = request.caller.tenant_id
    rows = await request.deps.engine.read(lambda conn: suppressions.page(conn, tenant_id, cursor.limit + 1, cursor.after, cursor.before))
    rows, has_more = paging.trim(rows, cursor)
    page = answers.SuppressionPage(data=[writing.suppression(row) for row in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return the suppression of an address: for every stream, or for the one asked for."""
    stream = _stream(request) or suppressions.EVERY_STREAM
    address, tenant_id = _address(request), request.caller.tenant_id
    row = await request.deps.engine.read(lambda conn: suppressions.get(conn, tenant_id, address.key, stream))
    if row is None:
        raise _not_found()
    return as_json(writing.suppression(row))


async def remove(request: Request) -> Answer:
    """Lift the suppressions of an address: all, or the one for a stream."""
    stream, address, tenant_id = _stream(request), _address(request), request.caller.tenant_id
    await Suppressions(request.deps.engine, request.deps.clock).lift(tenant_id, address, stream, by=request.caller.actor)
    maillog.changed("suppression_removed", tenant_id=tenant_id, address=maillog.mask(address.key), by_key_id=request.caller.principal.id)
    return NO_CONTENT


async def _streams(request: Request) -> Collection[str]:
    directory = request.deps.directory
    await directory.refresh()
    return directory.streams(request.caller.tenant_id)


def _wanted(body: SuppressionBody, at: str, faults: list[Fault], streams: Collection[str]) -> Suppression | None:
    """Read one suppression; its faults are added to the list, and None stands for one whose address is no address."""
    address, expires_at = None, None
    try:
        address = parse_address(body.address)
    except InvalidAddress as error:
        faults.append(Fault(f"{at}/address", "invalid_address", str(error)))
    if body.stream is not None and body.stream not in streams:
        faults.append(Fault(f"{at}/stream", "unknown_stream", f"there is no such stream; there are {', '.join(streams)}"))
    faults += text_faults(f"{at}/note", body.note, 1000)
    try:
        expires_at = moment_of(body.expires_at, f"{at}/expires_at")
    except Refused as refusal:
        faults += refusal.faults
    return Suppression(address=address, reason=body.reason, stream=body.stream, note=body.note, expires_at=expires_at) if address else None


async def _add(request: Request, wanted: Sequence[Suppression], faults: Sequence[Fault]) -> Added:
    if faults:
        raise invalid(*faults)
    tenant_id = request.caller.tenant_id
    added = await Suppressions(request.deps.engine, request.deps.clock).add(tenant_id, wanted, by=request.caller.actor)
    renewed = len(wanted) - added.new
    maillog.changed("suppressions_added", tenant_id=tenant_id, added=added.new, renewed=renewed, by_key_id=request.caller.principal.id)
    return added


def _address(request: Request) -> Address:
    """Read the address from the path as it was sent: a local part may have an encoded slash."""
    try:
        text = unquote(request.raw_path.removeprefix(_PREFIX).decode("ascii"), errors="strict")
        return parse_address(text)
    except (UnicodeDecodeError, InvalidAddress):
        raise _not_found() from None


def _stream(request: Request) -> str | None:
    stream = request.query("stream").get("stream")
    if stream is not None and not NAME.fullmatch(stream):
        raise invalid(Fault("stream", "unknown_stream", "a stream's name has small letters, digits, - and _"))
    return stream


def _not_found() -> Refused:
    return Refused("not_found", "this address is not suppressed")


_ADDRESS = Parameter(
    name="address",
    place="path",
    description="the address, percent-encoded",
    is_required=True,
    schema={"type": "string", "minLength": 3, "maxLength": 254},
)
_STREAM = Parameter(name="stream", place="query", description="only for this stream", schema={"type": "string", "maxLength": 40})
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_ONE = "/v1/suppressions/{address:path}"

ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/suppressions",
        run=add,
        name="addSuppression",
        scope=Scope.SUPPRESSIONS_WRITE,
        summary="Suppress an address",
        tag="suppressions",
        body=SuppressionBody,
        answers={201: answers.SuppressionAnswer, 200: answers.SuppressionAnswer},
        codes=_BODY_CODES,
    ),
    Endpoint(
        method="POST",
        path="/v1/suppressions/bulk",
        run=add_many,
        name="addSuppressions",
        scope=Scope.SUPPRESSIONS_WRITE,
        summary="Suppress several addresses",
        tag="suppressions",
        body=SuppressionsBody,
        answers={200: answers.SuppressionsAdded},
        codes=_BODY_CODES,
    ),
    Endpoint(
        method="GET",
        path="/v1/suppressions",
        run=list_suppressions,
        name="listSuppressions",
        scope=Scope.SUPPRESSIONS_READ,
        summary="List suppressions",
        tag="suppressions",
        answers={200: answers.SuppressionPage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("sup"),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET",
        path=_ONE,
        run=get,
        name="getSuppression",
        scope=Scope.SUPPRESSIONS_READ,
        summary="Read the suppression of an address",
        tag="suppressions",
        answers={200: answers.SuppressionAnswer},
        parameters=(_ADDRESS, _STREAM),
        codes=("not_found", "validation_failed"),
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        run=remove,
        name="removeSuppression",
        scope=Scope.SUPPRESSIONS_WRITE,
        summary="Lift the suppressions of an address",
        tag="suppressions",
        answers={204: None},
        parameters=(_ADDRESS, _STREAM),
        codes=("not_found", "validation_failed"),
    ),
]
