"""Actions on mail that waits: ask for one, look how far it is. The work is done in tenants.queue_actions and by dispatch."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from gatepost.clock import iso
from gatepost.domain.access import PrincipalKind, Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.queue_action import Filter, Kind, QueueAction
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body
from gatepost.mime.checks import text_faults
from gatepost.tenants import narrowing
from gatepost.tenants.queue_actions import QueueActions

_SMALL = 64 * 1024
Domain = Annotated[str, Meta(min_length=1, max_length=255)]


class QueueFilterBody(Body):
    """Which mail: all that is given must match."""

    site: Annotated[str, Meta(min_length=1, max_length=255, description="mail system, such as google or relay:main")] | None = None
    stream: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    sender: Annotated[str, Meta(min_length=1, max_length=255, description="domain of the From address")] | None = None
    recipient: Annotated[str, Meta(min_length=1, max_length=255, description="domain of the recipient's address")] | None = None
    route: Annotated[str, Meta(min_length=1, max_length=200, description="the road that it is on now, such as mx")] | None = None
    older_than_s: Annotated[int, Meta(ge=0, le=31_536_000, description="accepted so long ago or longer")] | None = None


class QueueActionBody(Body):
    """An action on mail that waits."""

    action: Annotated[str, Meta(pattern="^(hold|release|reroute|cancel)$", description="hold, release, reroute or cancel")]
    filter: QueueFilterBody
    route: Annotated[str, Meta(min_length=1, max_length=200, description="the new route, of a reroute")] | None = None
    note: Annotated[str, Meta(max_length=200, description="why, for whoever finds it held")] = ""
    dry_run: Annotated[bool, Meta(description="only count what it would reach")] = False


class QueueActionAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="queue_action"):
    """An action, and how many recipients it has reached; finished when it has been everywhere."""

    id: str
    action: str
    filter: dict[str, Any]
    route: str | None
    note: str
    by: str
    changed: int
    created_at: str
    finished_at: str | None


class QueueCountAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="queue_count"):
    """How many recipients an action would reach; where their addresses have to be opened, perhaps only of a part."""

    count: int
    is_exact: bool


class QueueActionList(Struct, kw_only=True, frozen=True, tag_field="object", tag="list"):
    """The newest actions."""

    data: list[QueueActionAnswer]


async def ask(request: Request) -> Answer:
    """Ask for an action."""
    body = decode.read_json(await decode.read_body(request, _SMALL), QueueActionBody)
    caller, actions = request.caller, _actions(request)
    if faults := text_faults("/note", body.note, 200):
        raise invalid(*faults)
    kind, wanted = Kind(body.action), _filter(request, body.filter)
    if wanted == Filter():
        raise invalid(Fault("/filter", "required", "name at least one thing that the mail must have"))
    wanted = narrowing.own_mail(caller.principal, wanted)
    if body.dry_run:
        count, is_exact = await actions.count(caller.tenant_id, kind, wanted, by=caller.actor)
        return as_json(QueueCountAnswer(count=count, is_exact=is_exact))
    who = caller.principal
    is_operator = who.may(Scope.OPERATOR) or who.kind is PrincipalKind.LOCAL
    if caller.is_test:
        raise Refused("permission_denied", "a test key changes nothing of mail that leaves")
    made = await actions.ask(caller.tenant_id, kind, wanted, by=caller.actor, route=body.route, note=body.note, is_operator=is_operator)
    return as_json(_written(made), 202)


async def list_actions(request: Request) -> Answer:
    """List the newest actions."""
    newest = await _actions(request).list(request.caller.tenant_id)
    return as_json(QueueActionList(data=[_written(one) for one in newest if narrowing.sees_action(request.caller.principal, one.filter)]))


async def get(request: Request) -> Answer:
    """Return an action."""
    found = await _actions(request).get(request.caller.tenant_id, request.params["action_id"])
    if not narrowing.sees_action(request.caller.principal, found.filter):
        raise Refused("not_found", "there is no such action")
    return as_json(_written(found))


def _actions(request: Request) -> QueueActions:
    return QueueActions(request.deps.engine, request.deps.clock, request.deps.settings)


def _filter(request: Request, body: QueueFilterBody) -> Filter:
    before = None if body.older_than_s is None else request.deps.clock.now() - body.older_than_s * 1000
    return Filter(
        site=_lower(body.site), stream=body.stream, tag=body.tag, sender=_lower(body.sender), recipient=_lower(body.recipient),
        route=body.route, before=before,
    )  # fmt: skip


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _written(action: QueueAction) -> QueueActionAnswer:
    shown = action.filter.as_dict()
    if "before" in shown:
        shown["before"] = iso(shown["before"])
    return QueueActionAnswer(
        id=action.id, action=action.kind.value, filter=shown, route=action.route, note=action.note, by=action.actor_id,
        changed=action.changed, created_at=iso(action.created_at), finished_at=iso(action.finished_at) if action.finished_at else None,
    )  # fmt: skip


_ID = Parameter(name="action_id", place="path", description="the action", is_required=True, schema={"type": "string", "maxLength": 64})

ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/queue/actions",
        run=ask,
        name="askQueueAction",
        scope=Scope.MESSAGES_WRITE,
        summary="Hold, release, reroute or cancel mail that waits",
        tag="queue",
        description="All recipients that wait and match the filter, of mail that was accepted until now. It is done in the background; "
        "what is being delivered at this moment is left alone until that is over. With `dry_run` it only counts.",
        body=QueueActionBody,
        answers={200: QueueCountAnswer, 202: QueueActionAnswer},
        codes=("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type", "conflict"),
    ),
    Endpoint(
        method="GET",
        path="/v1/queue/actions",
        run=list_actions,
        name="listQueueActions",
        scope=Scope.MESSAGES_READ,
        summary="List the newest actions on the queue",
        tag="queue",
        answers={200: QueueActionList},
    ),
    Endpoint(
        method="GET",
        path="/v1/queue/actions/{action_id:str}",
        run=get,
        name="getQueueAction",
        scope=Scope.MESSAGES_READ,
        summary="See how far an action is",
        tag="queue",
        parameters=(_ID,),
        answers={200: QueueActionAnswer},
        codes=("not_found",),
    ),
]
