"""What is unusual over HTTP: rates that left their own history, and when they came back."""

from typing import Annotated

from msgspec import Meta, Struct

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.unusual import UnusualChange
from gatepost.http import paging
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.store import unusual
from gatepost.tenants import narrowing

_STATES = {"open": True, "closed": False, "all": None}


class UnusualAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="unusual_change"):
    """One change. `expected` and `seen` are rates from 0 to 1; of a volume, recipients."""

    id: str
    metric: Annotated[str, Meta(description="bounces, blocks, complaints, deferrals, unsubscribes, opens or volume")]
    scope: Annotated[str, Meta(description="tenant, domain, stream, relay or site")]
    name: Annotated[str, Meta(description="which one; empty for the whole tenant")]
    span: Annotated[str, Meta(description="over how long it is seen: hour or day")]
    opened_at: str
    seen_at: str
    closed_at: str | None
    expected: float
    seen: float
    recipients: Annotated[int, Meta(description="that it is about, at its worst")]
    of: Annotated[int, Meta(description="of so many; 0 for a volume")]
    detail: str
    advice: str


class UnusualPage(Struct, kw_only=True, frozen=True):
    """Changes, the newest first."""

    data: list[UnusualAnswer]
    has_more: bool


async def list_unusual(request: Request) -> Answer:
    """List changes."""
    query = request.query(*paging.NAMES, "state")
    cursor = paging.read(query, "unc")
    state = query.get("state", "open")
    if state not in _STATES:
        raise invalid(Fault("state", "unknown_status", f"there are {', '.join(_STATES)}"))
    tenant_id, scopes = request.caller.tenant_id, narrowing.changes_of(request.caller.principal)
    rows = await request.deps.engine.read(
        lambda conn: unusual.page(
            conn, tenant_id, cursor.limit + 1, after=cursor.after, before=cursor.before, is_open=_STATES[state], scopes=scopes
        )
    )
    shown, has_more = paging.trim(rows, cursor)
    page = UnusualPage(data=[write(one) for one in shown], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, shown, has_more=has_more))


def write(one: UnusualChange) -> UnusualAnswer:
    """Write a change."""
    return UnusualAnswer(
        id=one.id, metric=one.metric, scope=one.scope, name=one.name, span=one.span, opened_at=iso(one.opened_at), seen_at=iso(one.seen_at),
        closed_at=None if one.closed_at is None else iso(one.closed_at), expected=one.expected, seen=one.seen, recipients=one.part,
        of=one.whole, detail=one.detail, advice=one.advice,
    )  # fmt: skip


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/unusual",
        run=list_unusual,
        name="listUnusualChanges",
        scope=Scope.STATS_READ,
        summary="List what is unusual",
        tag="stats",
        description="Rates, and how much is sent, against their own history; `sending.unusual` and `sending.usual` are the events of it."
        " A key that is restricted to domains, or to streams, sees theirs only.",
        answers={200: UnusualPage},
        answer_headers=paging.LINK,
        parameters=(
            *paging.parameters("unc"),
            Parameter(
                name="state", place="query", description="what lasts, what is over, or both",
                schema={"type": "string", "enum": list(_STATES), "default": "open"},
            ),
        ),
        codes=("validation_failed", "malformed_request"),
    )
]  # fmt: skip
