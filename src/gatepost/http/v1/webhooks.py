"""A tenant's webhooks: make, list, change, try and remove them; read what was sent, and send it again. The work is in tenants.webhooks."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from sqlalchemy import Row

from gatepost.clock import Instant, iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.webhook import MOST_IN_BATCH, HookStatus, Webhook
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body, Moment
from gatepost.http.v1.submission import moment_of
from gatepost.tenants.webhooks import OVERLAP_S, Range, View, WebhookRegister

_SMALL = 64 * 1024

Url = Annotated[str, Meta(description="https://…; http:// only into `webhooks.allow_networks`", examples=["https://acme.example/hook"])]
Description = Annotated[str, Meta(max_length=200)]
Kinds = Annotated[
    list[str],
    Meta(min_length=1, max_length=100, description="types, families as `recipient.*`, or `*`", examples=[["recipient.bounced"]]),
]
StreamNames = Annotated[list[str], Meta(max_length=100, description="only events of messages in these streams; empty is every event")]
HookHeaders = Annotated[
    dict[str, str], Meta(max_length=10, description="sent with every call: Authorization, X-API-Key and the like, X-Webhook-…")
]
BatchSize = Annotated[int, Meta(ge=1, le=MOST_IN_BATCH, description="events in one call at most; from 2 on the body is a batch")]


class WebhookBody(Body):
    """A new webhook."""

    url: Url
    events: Kinds = field(default_factory=lambda: ["*"])
    streams: StreamNames = field(default_factory=list)
    headers: HookHeaders = field(default_factory=dict)
    batch_size: BatchSize = 1
    description: Description = ""


class WebhookChangeBody(Body):
    """What to change of a webhook; what is left out stays."""

    url: Url | UnsetType = UNSET
    events: Kinds | UnsetType = UNSET
    streams: StreamNames | UnsetType = UNSET
    headers: HookHeaders | UnsetType = UNSET
    batch_size: BatchSize | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: Annotated[bool, Meta(description="true goes on where it stopped")] | UnsetType = UNSET


class RotationBody(Body):
    """How a secret is replaced."""

    overlap_s: Annotated[int, Meta(ge=0, le=30 * 86400, description="so long calls are signed with both secrets")] = OVERLAP_S


class ReplayBody(Body):
    """Which deliveries are sent again; those that wait are left as they are."""

    since: Annotated[Moment, Meta(description="events from then on")] | None = None
    until: Annotated[Moment, Meta(description="events before then")] | None = None
    status: Annotated[Literal["failed"], Meta(description="only those that were given up")] | None = None


class WebhookAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="webhook"):
    """A webhook; headers are shown without their values."""

    id: str
    url: str
    description: str
    events: list[str]
    streams: list[str]
    header_names: list[str]
    batch_size: int
    enabled: bool
    disabled_at: str | None
    disabled_reason: str | None
    failing_since: str | None
    answered_at: str | None
    waiting: Annotated[int, Meta(description="events that wait to be sent, counted up to 10,000")]
    created_at: str
    changed_at: str


class MadeWebhookAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="webhook_secret"):
    """A webhook's id with its new secret, which is shown this once."""

    id: str
    secret: str
    url: str
    events: list[str]
    created_at: str


class WebhookPage(Struct, kw_only=True, frozen=True):
    """Webhooks, the newest first."""

    data: list[WebhookAnswer]
    has_more: bool


class DeliveryAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="delivery"):
    """One event on its way to one webhook; `id` is the event's, which stands in `webhook-id`."""

    id: str
    type: str
    message_id: str | None
    status: Literal["waiting", "delivered", "failed"]
    attempts: int
    next_attempt_at: str | None
    tried_at: str | None
    status_code: int | None
    latency_ms: int | None
    answer: Annotated[str, Meta(description="of a failure: the beginning of the answer, or why there was none")] | None
    created_at: str


class DeliveryPage(Struct, kw_only=True, frozen=True):
    """Deliveries, those of the newest events first."""

    data: list[DeliveryAnswer]
    has_more: bool


class ReplayAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="replay"):
    """How many events are sent again."""

    count: int


class TestAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="webhook_test"):
    """A test is on its way."""

    event_id: str


async def create(request: Request) -> Answer:
    """Make a webhook."""
    body = decode.read_json(await decode.read_body(request, _SMALL), WebhookBody)
    caller = request.caller
    made = await _register(request).create(caller.tenant_id, _values(body), by=caller.actor, maker=caller.principal)
    return as_json(_with_secret(made), 201)


async def list_webhooks(request: Request) -> Answer:
    """List the webhooks."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "whk")
    views = await _register(request).every(request.caller.tenant_id)
    rows, has_more = paging.trim(paging.slice_of(views, cursor, lambda view: view.id), cursor)
    page = WebhookPage(data=[_written(view) for view in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return a webhook."""
    return as_json(_written(await _register(request).get(request.caller.tenant_id, _id(request))))


async def change(request: Request) -> Answer:
    """Change a webhook."""
    body = decode.read_json(await decode.read_body(request, _SMALL), WebhookChangeBody)
    caller, register = request.caller, _register(request)
    await register.change(caller.tenant_id, _id(request), _values(body), by=caller.actor, maker=caller.principal)
    return as_json(_written(await register.get(caller.tenant_id, _id(request))))


async def delete(request: Request) -> Answer:
    """Remove a webhook."""
    await _register(request).delete(request.caller.tenant_id, _id(request), by=request.caller.actor)
    return NO_CONTENT


async def test(request: Request) -> Answer:
    """Send a test."""
    event_id = await _register(request).test(request.caller.tenant_id, _id(request), by=request.caller.actor)
    return as_json(TestAnswer(event_id=event_id), 202)


async def rotate(request: Request) -> Answer:
    """Give a webhook a new secret."""
    raw = await decode.read_body(request, _SMALL) if request.header(b"content-type") is not None else b"{}"
    body = decode.read_json(raw or b"{}", RotationBody)
    made = await _register(request).rotate(request.caller.tenant_id, _id(request), body.overlap_s, by=request.caller.actor)
    return as_json(_with_secret(made))


async def list_deliveries(request: Request) -> Answer:
    """List what was sent, or waits."""
    query = request.query(*paging.NAMES, "status")
    cursor = paging.read(query, "evt")
    status = query.get("status")
    if status is not None and status not in set(HookStatus):
        raise invalid(Fault("status", "unknown_status", f"there are {', '.join(HookStatus)}"))
    rows = await _register(request).deliveries(
        request.caller.tenant_id, _id(request), cursor.limit + 1, after=cursor.after, before=cursor.before,
        status=HookStatus(status) if status else None,
    )  # fmt: skip
    shown, has_more = paging.trim(rows, cursor)
    page = DeliveryPage(data=[_delivery(row) for row in shown], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, shown, has_more=has_more))


async def replay_one(request: Request) -> Answer:
    """Send one event again."""
    caller = request.caller
    row = await _register(request).replay_one(caller.tenant_id, _id(request), str(request.params["event_id"]), by=caller.actor)
    return as_json(_delivery(row), 202)


async def replay(request: Request) -> Answer:
    """Send many events again."""
    body = decode.read_json(await decode.read_body(request, _SMALL), ReplayBody)
    wanted = Range(since=moment_of(body.since, "/since"), until=moment_of(body.until, "/until"), only_failed=body.status is not None)
    if wanted == Range():
        raise invalid(Fault("/since", "required", 'say which: since, until, or "status": "failed"'))
    count = await _register(request).replay(request.caller.tenant_id, _id(request), wanted, by=request.caller.actor)
    return as_json(ReplayAnswer(count=count), 202)


def _register(request: Request) -> WebhookRegister:
    deps = request.deps
    return WebhookRegister(deps.engine, deps.clock, deps.settings)


def _id(request: Request) -> str:
    return str(request.params["webhook_id"])


def _values(body: WebhookBody | WebhookChangeBody) -> dict[str, Any]:
    return {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}


def _with_secret(made: Webhook) -> MadeWebhookAnswer:
    return MadeWebhookAnswer(
        id=made.id, secret=made.secrets[0].text, url=made.url, events=list(made.events), created_at=iso(made.created_at)
    )  # fmt: skip


def _written(view: View) -> WebhookAnswer:
    webhook, standing = view.webhook, view.standing
    return WebhookAnswer(
        id=webhook.id, url=webhook.url, description=webhook.description, events=list(webhook.events), streams=list(webhook.streams),
        header_names=sorted(webhook.headers), batch_size=webhook.batch_size, enabled=webhook.disabled_at is None,
        disabled_at=_moment(webhook.disabled_at), disabled_reason=webhook.disabled_reason or None,
        failing_since=_moment(standing.failing_since), answered_at=_moment(standing.answered_at), waiting=standing.waiting,
        created_at=iso(webhook.created_at), changed_at=iso(webhook.changed_at),
    )  # fmt: skip


def _moment(at: Instant | None) -> str | None:
    return None if at is None else iso(at)


_FAR: Instant = 10**14
"""A hook that is due then waits for another one."""


def _delivery(row: Row[Any]) -> DeliveryAnswer:
    is_waiting = row.status == HookStatus.WAITING
    return DeliveryAnswer(
        id=row.id, type=row.type, message_id=row.message_id, status=row.status, attempts=row.attempts,
        next_attempt_at=iso(row.due_at) if is_waiting and row.due_at < _FAR else None, tried_at=_moment(row.tried_at),
        status_code=row.code, latency_ms=row.latency_ms, answer=row.answer, created_at=iso(row.created_at),
    )  # fmt: skip


_ONE = "/v1/webhooks/{webhook_id:str}"
_BODY_CODES: Sequence[str] = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_ID = Parameter(
    name="webhook_id", place="path", description="the webhook's id", is_required=True,
    schema={"type": "string", "minLength": 1, "maxLength": 40},
)  # fmt: skip
_EVENT_ID = Parameter(
    name="event_id", place="path", description="the event's id", is_required=True,
    schema={"type": "string", "minLength": 1, "maxLength": 40},
)  # fmt: skip
_STATUS = Parameter(
    name="status", place="query", description="only deliveries that are so",
    schema={"type": "string", "enum": [one.value for one in HookStatus]},
)  # fmt: skip

ENDPOINTS = [
    Endpoint(
        method="POST", path="/v1/webhooks", run=create, name="makeWebhook", scope=Scope.WEBHOOKS_WRITE, summary="Make a webhook",
        tag="webhooks", body=WebhookBody, answers={201: MadeWebhookAnswer}, codes=(*_BODY_CODES, "conflict"),
        description="It is told of what happens from now on, signed as Standard Webhooks 1.0 asks. The secret is shown this once.",
    ),
    Endpoint(
        method="GET", path="/v1/webhooks", run=list_webhooks, name="listWebhooks", scope=Scope.WEBHOOKS_READ, summary="List webhooks",
        tag="webhooks", answers={200: WebhookPage}, answer_headers=paging.LINK, parameters=paging.parameters("whk"),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET", path=_ONE, run=get, name="getWebhook", scope=Scope.WEBHOOKS_READ, summary="Read a webhook", tag="webhooks",
        parameters=(_ID,), answers={200: WebhookAnswer}, codes=("not_found",),
    ),
    Endpoint(
        method="PATCH", path=_ONE, run=change, name="changeWebhook", scope=Scope.WEBHOOKS_WRITE, summary="Change a webhook",
        tag="webhooks", parameters=(_ID,), body=WebhookChangeBody, answers={200: WebhookAnswer}, codes=(*_BODY_CODES, "not_found"),
    ),
    Endpoint(
        method="DELETE", path=_ONE, run=delete, name="removeWebhook", scope=Scope.WEBHOOKS_WRITE, summary="Remove a webhook",
        tag="webhooks", parameters=(_ID,), answers={204: None}, codes=("not_found",), description="Its log goes with it.",
    ),
    Endpoint(
        method="POST", path=f"{_ONE}/test", run=test, name="testWebhook", scope=Scope.WEBHOOKS_WRITE, summary="Send a webhook a test",
        tag="webhooks", parameters=(_ID,), answers={202: TestAnswer}, codes=("not_found", "conflict"),
        description="An event `webhook.test`, whatever types it wants; how it went stands in its deliveries.",
    ),
    Endpoint(
        method="POST", path=f"{_ONE}/rotate-secret", run=rotate, name="rotateWebhookSecret", scope=Scope.WEBHOOKS_WRITE,
        summary="Give a webhook a new secret", tag="webhooks", parameters=(_ID,), body=RotationBody, is_body_optional=True,
        answers={200: MadeWebhookAnswer}, codes=(*_BODY_CODES, "not_found"),
        description="For a while calls carry two signatures, by the new secret and by the old one.",
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/deliveries", run=list_deliveries, name="listWebhookDeliveries", scope=Scope.WEBHOOKS_READ,
        summary="List what was sent to a webhook", tag="webhooks", parameters=(_ID, *paging.parameters("evt"), _STATUS),
        answers={200: DeliveryPage}, answer_headers=paging.LINK, codes=("not_found", "validation_failed"),
    ),
    Endpoint(
        method="POST", path=f"{_ONE}/deliveries/{{event_id:str}}/replay", run=replay_one, name="replayWebhookDelivery",
        scope=Scope.WEBHOOKS_WRITE, summary="Send one event again", tag="webhooks", parameters=(_ID, _EVENT_ID),
        answers={202: DeliveryAnswer}, codes=("not_found", "conflict"),
    ),
    Endpoint(
        method="POST", path=f"{_ONE}/replay", run=replay, name="replayWebhook", scope=Scope.WEBHOOKS_WRITE,
        summary="Send a time range, or all that failed, again", tag="webhooks", parameters=(_ID,), body=ReplayBody,
        answers={202: ReplayAnswer}, codes=(*_BODY_CODES, "not_found", "conflict"),
        description="Events keep their ids, so that a consumer which has one already can tell; each message's come in order.",
    ),
]  # fmt: skip
