"""
The audit log: who changed what.

A tenant reads its own entries; what belongs to the gateway itself is for the operator.
Not here: the chain of hashes (store.audit), which only the operator can check: it runs over all tenants.
"""

import re
from typing import Any

from msgspec import Struct
from sqlalchemy import Row

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.http import paging
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.submission import moment_of
from gatepost.store import audit
from gatepost.store.audit import Wanted

_FILTERS = ("action", "actor", "object", "since", "until")
_ACTION = r"^[a-z_]{1,40}\.[a-z_]{0,40}$"


class ActorAnswer(Struct, kw_only=True, frozen=True):
    """Who did it: an API key, an OAuth client, a person, or somebody at the gateway's own command line."""

    kind: str
    id: str
    name: str


class AuditEntryAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="audit_entry"):
    """One change; secrets are masked, addresses shortened."""

    id: str
    at: str
    action: str
    object_id: str
    actor: ActorAnswer
    peer: str
    request_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Struct, kw_only=True, frozen=True):
    """Entries of the audit log, the newest first."""

    data: list[AuditEntryAnswer]
    has_more: bool


async def list_entries(request: Request) -> Answer:
    """List the tenant's own entries, the newest first."""
    return await _list(request, tenant_id=request.caller.tenant_id)


async def list_of_gateway(request: Request) -> Answer:
    """List the entries that belong to no tenant, the newest first."""
    return await _list(request, tenant_id=None)


async def _list(request: Request, tenant_id: str | None) -> Answer:
    query = request.query(*_FILTERS, *paging.NAMES)
    cursor = paging.read(query, "aud")
    wanted = _wanted(query, tenant_id)
    rows = await request.deps.engine.read(lambda conn: audit.page(conn, wanted, cursor.limit + 1, cursor.after, cursor.before))
    rows, has_more = paging.trim(rows, cursor)
    page = AuditPage(data=[_written(row) for row in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


def _wanted(query: dict[str, str], tenant_id: str | None) -> Wanted:
    faults: list[Fault] = []
    if "action" in query and not re.match(_ACTION, query["action"]):
        faults.append(Fault("action", "invalid_action", "give an action such as key.created, or domain. for all that happened to domains"))
    times: dict[str, int | None] = {}
    for name in ("since", "until"):
        try:
            times[name] = moment_of(query.get(name), name)
        except Refused as refusal:
            faults += refusal.faults
    if faults:
        raise invalid(*faults)
    return Wanted(
        tenant_id=tenant_id,
        is_gateway=tenant_id is None,
        action=query.get("action"),
        actor_id=query.get("actor"),
        object_id=query.get("object"),
        since=times["since"],
        until=times["until"],
    )


def _written(row: Row[Any]) -> AuditEntryAnswer:
    return AuditEntryAnswer(
        id=row.id,
        at=iso(row.at),
        action=row.action,
        object_id=row.object_id,
        actor=ActorAnswer(kind=row.actor_kind, id=row.actor_id, name=row.actor_name),
        peer=row.peer,
        request_id=row.request_id,
        before=row.before,
        after=row.after,
    )


def _query(name: str, description: str, **schema: Any) -> Parameter:
    return Parameter(name=name, place="query", description=description, schema={"type": "string", **schema})


_TIME = {"format": "date-time", "example": iso(1_795_485_600_000)}
_PARAMETERS = (
    _query("action", "only this action; with a dot at its end, all of a kind", pattern=_ACTION),
    _query("actor", "only what this key, client or person did", maxLength=1000),
    _query("object", "only what was done to the object with this id", maxLength=1000),
    _query("since", "only entries of then or later", **_TIME),
    _query("until", "only entries before", **_TIME),
    *paging.parameters("aud"),
)


def _endpoint(path: str, run: Any, name: str, scope: Scope, summary: str) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        run=run,
        name=name,
        scope=scope,
        summary=summary,
        tag="audit",
        answers={200: AuditPage},
        answer_headers=paging.LINK,
        parameters=_PARAMETERS,
        codes=("validation_failed",),
    )


ENDPOINTS = [
    _endpoint("/v1/audit", list_entries, "listAuditEntries", Scope.AUDIT_READ, "Who changed what"),
    _endpoint("/v1/audit/gateway", list_of_gateway, "listGatewayAuditEntries", Scope.OPERATOR, "Who changed what of the gateway itself"),
]
