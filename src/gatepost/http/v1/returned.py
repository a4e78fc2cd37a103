"""
What came back and was put aside, for operators: `GET /v1/returned`, one with its source, read once more, forgotten.

Arrives: what an operator asks for. Leaves: who wrote, about what, and why it is here; its source only where it is asked for by itself, and
the audit log tells who did: it may quote people's mail.
Not here: putting aside (returns.loop), the work (returns.aside).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.http import paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.returns.aside import AsideRegister, heading_of
from gatepost.store.inbound import ASIDE, Aside

_SAFE = (
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"content-disposition", b"attachment"),
)


class ReturnedAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="returned"):
    """One thing that came back; who wrote and what it is about are as they stand in it, and nobody vouches for them."""

    id: str
    kind: Literal["mail", "hook"]
    status: Annotated[
        Literal["unread", "unmatched", "quarantined"],
        Meta(description="unread: nobody understood it; unmatched: it is of nobody known; quarantined: reading it failed again and again"),
    ]
    detail: Annotated[str, Meta(description="why it is here")]
    relay: Annotated[str | None, Meta(description="whose hook it is; null for mail")]
    received_at: str
    sender: Annotated[str, Meta(description="empty where it cannot be told")] = field(name="from")
    to: list[str]
    subject: str
    is_readable: Annotated[bool, Meta(description="false: it is too long for this list, or was sealed by a key that is gone")]


class ReturnedPage(Struct, kw_only=True, frozen=True):
    """What was put aside, the newest first; `waiting` things have come and are not read yet."""

    data: list[ReturnedAnswer]
    has_more: bool
    waiting: int


async def list_returned(request: Request) -> Answer:
    """List what was put aside."""
    query = request.query(*paging.NAMES, "status")
    cursor, state = paging.read(query, "inb"), query.get("status")
    if state is not None and state not in ASIDE:
        raise invalid(Fault("status", "unknown_status", f"there are {', '.join(ASIDE)}"))
    register = _register(request)
    rows = await register.list(cursor.limit + 1, state=state, after=cursor.after, before=cursor.before)
    rows, has_more = paging.trim(rows, cursor)
    waiting = (await register.counts()).get("waiting", 0)
    page = ReturnedPage(data=[write(row) for row in rows], has_more=has_more, waiting=waiting)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return one."""
    return as_json(write(await _register(request).find(_id(request))))


async def raw(request: Request) -> Answer:
    """Return one as it came; the audit log tells who looked."""
    found = await _register(request).source(_id(request), by=request.caller.actor)
    return Answer(200, found.body, b"message/rfc822" if found.kind == "mail" else b"application/octet-stream", _SAFE)


async def again(request: Request) -> Answer:
    """Let one be read once more."""
    await _register(request).work_again(_id(request), by=request.caller.actor)
    return NO_CONTENT


async def forget(request: Request) -> Answer:
    """Forget one."""
    await _register(request).forget(_id(request), by=request.caller.actor)
    return NO_CONTENT


def write(row: Aside) -> ReturnedAnswer:
    """Write what was put aside."""
    heading = heading_of(row)
    return ReturnedAnswer(
        id=row.id, kind="hook" if row.kind == "hook" else "mail", status=row.state, detail=row.detail,  # type: ignore[arg-type]
        relay=row.source or None, received_at=iso(row.received_at), sender=heading.sender, to=list(heading.to), subject=heading.subject,
        is_readable=row.is_open,
    )  # fmt: skip


def _register(request: Request) -> AsideRegister:
    return AsideRegister(request.deps.engine, request.deps.clock)


def _id(request: Request) -> str:
    return str(request.params["returned_id"])


_ONE = "/v1/returned/{returned_id:str}"
_ID = Parameter(name="returned_id", place="path", description="its id", is_required=True, schema={"type": "string", "maxLength": 100})
_STATUS = Parameter(
    name="status", place="query", description="only what is here for this reason", schema={"type": "string", "enum": list(ASIDE)}
)


def _endpoint(method: str, path: str, run: Any, name: str, summary: str, given: dict[int, Any], description: str = "") -> Endpoint:
    return Endpoint(
        method=method, path=path, run=run, name=name, summary=summary, tag="returned", answers=given, scope=Scope.OPERATOR,
        parameters=(_ID,), codes=("not_found",), description=description,
    )  # fmt: skip


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/returned",
        run=list_returned,
        name="listReturned",
        scope=Scope.OPERATOR,
        summary="List what came back and led to nothing",
        tag="returned",
        description="Mail that is no report, reports about nobody we know, what could not be worked on: the newest 500 of each, 30 days.",
        answers={200: ReturnedPage},
        answer_headers=paging.LINK,
        parameters=(*paging.parameters("inb"), _STATUS),
        codes=("validation_failed", "malformed_request"),
    ),
    _endpoint("GET", _ONE, get, "getReturned", "Read what came back", {200: ReturnedAnswer}),
    _endpoint(
        "GET", f"{_ONE}/raw", raw, "getReturnedSource", "Read its source", {200: ("message/rfc822", "application/octet-stream")},
        "As it came, untouched. The audit log tells who looked.",
    ),
    _endpoint("POST", f"{_ONE}/retry", again, "retryReturned", "Read it once more", {204: None}),
    _endpoint("DELETE", _ONE, forget, "removeReturned", "Forget it", {204: None}),
]  # fmt: skip
