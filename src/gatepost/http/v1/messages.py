"""
Read messages and what became of them; cancel, retry, reschedule.

Another tenant's message is not there: 404, like one that never was. Nor is what a key for some domains or streams may not send.
Not here: sending (sending, raw), the changes themselves (control).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.recipient import Status
from gatepost.domain.stream import NAME
from gatepost.explain import explain as explain_message
from gatepost.http import decode, paging
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import answers, writing
from gatepost.http.v1.bodies import RescheduleBody
from gatepost.http.v1.submission import moment_of
from gatepost.store import facts, messages
from gatepost.tenants import narrowing

T = TypeVar("T")

_FILTERS = ("status", "tag", "recipient", "stream", "since", "until", "q")
_SMALL = 64 * 1024
_SAFE = (
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"content-disposition", b"attachment"),
)


async def list_messages(request: Request) -> Answer:
    """List messages, the newest first."""
    query = request.query(*_FILTERS, *paging.NAMES)
    cursor = paging.read(query, "msg")
    who = request.caller.principal
    wanted = replace(_filter(query, request.deps.settings.limits.search_messages), domains=who.domains, streams=who.streams)
    tenant_id = request.caller.tenant_id

    def load(conn: Connection) -> tuple[list[Row[Any]], bool, dict[str, list[Row[Any]]]]:
        rows = messages.page(conn, tenant_id, wanted, cursor.limit + 1, cursor.after, cursor.before)
        rows, has_more = paging.trim(rows, cursor)
        return rows, has_more, messages.recipients_of(conn, [row.id for row in rows])

    rows, has_more, recipients = await request.deps.engine.read(load)
    page = answers.MessagePage(data=[writing.message(row, recipients[row.id]) for row in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get_message(request: Request) -> Answer:
    """Return a message with its recipients."""
    row, recipients = await _load(request, lambda conn, row: messages.recipients_of(conn, [row.id])[row.id])
    return as_json(writing.message(row, recipients))


async def list_events(request: Request) -> Answer:
    """List what happened to a message."""
    _, rows = await _load(request, lambda conn, row: facts.events_of(conn, row.id))
    return as_json(answers.EventList(data=[writing.event(row) for row in rows]))


async def list_attempts(request: Request) -> Answer:
    """List the delivery attempts of a message, each with its transcript."""
    _, rows = await _load(request, lambda conn, row: facts.attempts_of(conn, row.id))
    return as_json(answers.AttemptList(data=[writing.attempt(row) for row in rows]))


async def get_raw(request: Request) -> Answer:
    """Return the source: as captured by the sandbox where it was, else as stored, which is not yet signed."""
    query = request.query("recipient")
    n = _recipient_number(request, query.get("recipient"))

    def load(conn: Connection, row: Row[Any]) -> tuple[str, bytes] | None:
        captured = facts.captured(conn, row.id, n)
        if captured is not None:
            return captured.encoding, bytes(captured.data)
        return messages.body_of(conn, row.id) if n is None else None

    row, stored = await _load(request, load)
    if stored is None:
        raise Refused("not_found", "nothing was captured for this recipient")
    if not row.is_sandbox:
        await request.deps.control.record_view(row.tenant_id, row.id, by=request.caller.actor)
    return Answer(200, request.deps.blobs.get(*stored), b"message/rfc822", _SAFE)


async def explain(request: Request) -> Answer:
    """Say where a message is, and why."""
    deps, message_id = request.deps, await _seen(request)
    found = await explain_message(deps.engine, deps.clock, request.caller.tenant_id, message_id)
    if found is None:
        raise _not_found()
    recipients = [
        answers.RecipientWhy(
            id=one.id,
            address=one.address,
            status=one.status,
            cause=one.cause,
            sentence=one.sentence,
            evidence=one.evidence,
            next_attempt_at=writing.time(one.next_attempt_at),
            attempts=one.attempts,
            last_reply=one.last_reply,
            last_host=one.last_host,
            site=one.site,
        )
        for one in found.recipients
    ]
    return as_json(
        answers.ExplanationAnswer(
            message_id=found.message_id, status=found.status, cause=found.cause, sentence=found.sentence, recipients=recipients
        )
    )


async def cancel(request: Request) -> Answer:
    """Cancel every recipient that still waits."""
    message_id = await _seen(request)
    count = await request.deps.control.cancel(request.caller.tenant_id, message_id, by=request.caller.actor)
    return as_json(answers.Changed(id=message_id, recipients=count))


async def retry(request: Request) -> Answer:
    """Try again now what is deferred, failed, expired or cancelled."""
    message_id = await _seen(request)
    count = await request.deps.control.retry(request.caller.tenant_id, message_id, by=request.caller.actor)
    return as_json(answers.Changed(id=message_id, recipients=count))


async def reschedule(request: Request) -> Answer:
    """Move a scheduled message to another time."""
    message_id = await _seen(request)
    body = decode.read_json(await decode.read_body(request, _SMALL), RescheduleBody)
    scheduled_at = moment_of(body.scheduled_at, "/scheduled_at")
    assert scheduled_at is not None
    count = await request.deps.control.reschedule(request.caller.tenant_id, message_id, scheduled_at, by=request.caller.actor)
    return as_json(answers.Changed(id=message_id, recipients=count))


def _id(request: Request) -> str:
    message_id = str(request.params["message_id"])
    if not ids.is_valid(message_id, "msg"):
        raise _not_found()
    return message_id


async def _seen(request: Request) -> str:
    """Return the id of a message that the caller may see: a key for some domains or streams has its own mail only."""
    who = request.caller.principal
    if who.domains or who.streams:
        await _load(request, lambda _conn, _row: None)
    return _id(request)


def _not_found() -> Refused:
    return Refused("not_found", "there is no such message")


async def _load(request: Request, more: Callable[[Connection, Row[Any]], T]) -> tuple[Row[Any], T]:
    """Read a message's row and what belongs to it, in one snapshot."""
    message_id, tenant_id = _id(request), request.caller.tenant_id

    def load(conn: Connection) -> tuple[Row[Any], T] | None:
        row = messages.get(conn, tenant_id, message_id)
        is_seen = row is not None and narrowing.sees_message(request.caller.principal, row.from_domain, row.stream)
        return (row, more(conn, row)) if row is not None and is_seen else None

    found = await request.deps.engine.read(load)
    if found is None:
        raise _not_found()
    return found


def _recipient_number(request: Request, recipient_id: str | None) -> int | None:
    if recipient_id is None:
        return None
    try:
        message_id, n = ids.recipient_of(recipient_id)
    except ValueError:
        raise invalid(Fault("recipient", "invalid_id", "give the id of a recipient of this message: rcp_…")) from None
    if message_id != _id(request):
        raise Refused("not_found", "this is no recipient of this message")
    return n


def _filter(query: dict[str, str], depth: int) -> messages.Filter:
    faults: list[Fault] = []
    if "status" in query and query["status"] not in frozenset(Status):
        faults.append(Fault("status", "unknown_status", f"the statuses are {', '.join(Status)}"))
    if "stream" in query and not NAME.fullmatch(query["stream"]):
        faults.append(Fault("stream", "unknown_stream", "a stream's name has small letters, digits, - and _"))
    since, until = _moment(query, "since", faults), _moment(query, "until", faults)
    address_key = _address_key(query, faults)
    if faults:
        raise invalid(*faults)
    return messages.Filter(
        status=query.get("status"),
        tag=query.get("tag"),
        address_key=address_key,
        stream=query.get("stream"),
        text=query.get("q"),
        since=since,
        until=until,
        depth=depth,
    )


def _moment(query: dict[str, str], name: str, faults: list[Fault]) -> int | None:
    try:
        return moment_of(query.get(name), name)
    except Refused as refusal:
        faults += refusal.faults
        return None


def _address_key(query: dict[str, str], faults: list[Fault]) -> str | None:
    if "recipient" not in query:
        return None
    try:
        return parse_address(query["recipient"]).key
    except InvalidAddress as error:
        faults.append(Fault("recipient", "invalid_address", str(error)))
        return None


_EXAMPLE = iso(1_795_485_600_000)
MESSAGE_ID = Parameter(
    name="message_id",
    place="path",
    description="the message's id",
    is_required=True,
    schema={"type": "string", "pattern": "^msg_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
)
_TIME = {"type": "string", "format": "date-time", "example": _EXAMPLE}
_LIST = (
    Parameter(
        name="status",
        place="query",
        description="only messages with a recipient in this status",
        schema={"type": "string", "enum": [*Status]},
    ),
    Parameter(name="tag", place="query", description="only messages with this tag", schema={"type": "string", "maxLength": 128}),
    Parameter(name="recipient", place="query", description="only messages to this address", schema={"type": "string", "maxLength": 254}),
    Parameter(name="stream", place="query", description="only messages of this stream", schema={"type": "string", "maxLength": 40}),
    Parameter(name="since", place="query", description="only messages accepted then or later", schema=_TIME),
    Parameter(name="until", place="query", description="only messages accepted before", schema=_TIME),
    Parameter(
        name="q",
        place="query",
        description="part of the subject, of From or of an address; searched in the newest messages only (limits.search_messages), since"
        " they are stored sealed; a whole address finds older mail to it too",
        schema={"type": "string", "maxLength": 1000},
    ),
    *paging.parameters("msg"),
)
_ONE = "/v1/messages/{message_id:str}"


def _endpoint(
    method: str, path: str, run: Any, name: str, summary: str, answer: Any, *codes: str, body: Any = None, more: tuple[Parameter, ...] = ()
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        run=run,
        name=name,
        scope=Scope.MESSAGES_READ if method == "GET" else Scope.MESSAGES_WRITE,
        summary=summary,
        tag="messages",
        body=body,
        answers={200: answer},
        parameters=(MESSAGE_ID, *more),
        codes=("not_found", *codes),
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/messages",
        run=list_messages,
        name="listMessages",
        scope=Scope.MESSAGES_READ,
        summary="List messages, the newest first",
        tag="messages",
        answers={200: answers.MessagePage},
        answer_headers=paging.LINK,
        parameters=_LIST,
        codes=("validation_failed",),
    ),
    _endpoint("GET", _ONE, get_message, "getMessage", "Read a message", answers.MessageAnswer),
    _endpoint(
        "PATCH",
        _ONE,
        reschedule,
        "rescheduleMessage",
        "Move a scheduled message",
        answers.Changed,
        "conflict",
        "validation_failed",
        "malformed_request",
        "payload_too_large",
        "unsupported_media_type",
        body=RescheduleBody,
    ),
    _endpoint("GET", _ONE + "/events", list_events, "listMessageEvents", "What happened to a message", answers.EventList),
    _endpoint("GET", _ONE + "/attempts", list_attempts, "listMessageAttempts", "Delivery attempts with transcripts", answers.AttemptList),
    _endpoint(
        "GET",
        _ONE + "/raw",
        get_raw,
        "getMessageSource",
        "The source of a message",
        "message/rfc822",
        "validation_failed",
        more=(
            Parameter(
                name="recipient",
                place="query",
                description="as the sandbox captured it for this recipient",
                schema={"type": "string", "pattern": "^rcp_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
            ),
        ),
    ),
    _endpoint("GET", _ONE + "/explain", explain, "explainMessage", "Where a message is, and why", answers.ExplanationAnswer),
    _endpoint("POST", _ONE + "/cancel", cancel, "cancelMessage", "Cancel what still waits", answers.Changed, "conflict"),
    _endpoint("POST", _ONE + "/retry", retry, "retryMessage", "Try again now", answers.Changed, "conflict"),
]
