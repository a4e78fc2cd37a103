"""
Where mail lands: `POST /v1/placement` begins a test, `GET` tells of tests and of their sum.

Not here: what a test is (placement).
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gatepost.clock import DAY, Instant, iso
from gatepost.domain import placement as domain
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.domain.placement import Outcome, PlacementCounts, PlacementResult, PlacementTest
from gatepost.http import decode, paging
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.bodies import Body, Mailbox, MessageBody
from gatepost.http.v1.sending import SENDING_CODES
from gatepost.http.v1.submission import moment_of, submission_of
from gatepost.placement.sending import SUBJECT, TEXT
from gatepost.store import placement
from gatepost.tenants import narrowing

_BYTES = 2 * 1024 * 1024
_SPAN = 30 * DAY
OutcomeName = Literal["waiting", "inbox", "spam", "missing", "unknown"]


class PlacementBody(Body):
    """A test to begin: its mail goes to the gateway's own mailboxes at providers."""

    sender: Mailbox = field(name="from")
    subject: Annotated[str, Meta(max_length=998)] = SUBJECT
    text: str | None = None
    html: str | None = None
    stream: Annotated[str, Meta(max_length=100)] = "transactional"
    seeds: Annotated[list[str], Meta(min_length=1, max_length=100, description="some of the seeds; null is all")] | None = None


class PlacementResultAnswer(Struct, kw_only=True, frozen=True):
    """One seed; `unknown` was not measured, and detail says why."""

    seed: str
    provider: str
    message_id: str | None
    outcome: OutcomeName
    detail: str
    folder: str
    found_at: str | None
    after_s: float | None
    authserv_id: str
    spf: str | None
    dkim: str | None
    dmarc: str | None


class PlacementAnswer(Struct, kw_only=True, frozen=True):
    """A test."""

    id: str
    sender: str = field(name="from")
    domain: str
    subject: str
    status: Literal["running", "finished"]
    created_at: str
    deadline_at: str
    finished_at: str | None
    results: list[PlacementResultAnswer]
    object: str = "placement_test"


class PlacementPage(Struct, kw_only=True, frozen=True):
    """Tests, the newest first."""

    data: list[PlacementAnswer]
    has_more: bool


class PlacementCountsAnswer(Struct, kw_only=True, frozen=True):
    """Counts and shares (0 to 1, null while nothing was measured); unknown results are in no share."""

    inbox: int
    spam: int
    missing: int
    unknown: int
    inbox_rate: float | None
    spam_rate: float | None
    missing_rate: float | None
    median_s: float | None


class PlacementSummaryAnswer(Struct, kw_only=True, frozen=True):
    """Where mail landed, together and by provider."""

    domain: str | None
    start: str
    end: str
    tests: int
    total: PlacementCountsAnswer
    providers: dict[str, PlacementCountsAnswer]


async def begin(request: Request) -> Answer:
    """Begin a test; its results are there later."""
    deps = request.deps
    body = decode.read_json(await decode.read_body(request, _BYTES), PlacementBody)
    if deps.placement is None:
        raise Refused("conflict", "this gateway has no seeds: its operator names them in the settings as [seeds.NAME]")
    deps.placement.check(body.seeds)
    text = TEXT if body.text is None and body.html is None else body.text
    message = MessageBody(
        sender=body.sender, to=["seed@invalid.invalid"], subject=body.subject, text=text, html=body.html, stream=body.stream
    )  # fmt: skip
    submission = submission_of(message, deps.settings.limits, deps.clock.now())
    test = await deps.placement.begin(request.caller, submission, body.seeds)
    assert test is not None
    return as_json(answer_of(test), 202)


async def list_tests(request: Request) -> Answer:
    """List tests, the newest first."""
    query = request.query(*paging.NAMES, "domain")
    cursor, tenant_id = paging.read(query, "plc"), request.caller.tenant_id
    names = narrowing.domains_of(request.caller.principal, query.get("domain"))
    rows = await request.deps.engine.read(
        lambda conn: placement.page(conn, tenant_id, cursor.limit + 1, domains=names, after=cursor.after, before=cursor.before)
    )
    rows, has_more = paging.trim(rows, cursor)
    page = PlacementPage(data=[answer_of(row) for row in rows], has_more=has_more)
    return as_json(page, headers=paging.links(request, query, cursor, rows, has_more=has_more))


async def get(request: Request) -> Answer:
    """Return one test with its results."""
    test_id, tenant_id = request.params["placement_id"], request.caller.tenant_id
    test = await request.deps.engine.read(lambda conn: placement.get(conn, tenant_id, test_id))
    names = narrowing.domains_of(request.caller.principal)
    if test is None or (names is not None and test.domain not in names):
        raise Refused("not_found", "there is no such placement test")
    return as_json(answer_of(test))


async def summary(request: Request) -> Answer:
    """Sum results up by provider; of the last 30 days where nothing else is asked for."""
    query = request.query("domain", "start", "end")
    end = moment_of(query.get("end"), "end") or request.deps.clock.now() + 1
    start = moment_of(query.get("start"), "start")
    begins, name, tenant_id = end - _SPAN if start is None else start, query.get("domain"), request.caller.tenant_id
    names = narrowing.domains_of(request.caller.principal, name)
    found = await request.deps.engine.read(lambda conn: placement.summary(conn, tenant_id, names, begins, end))
    return as_json(summary_answer(found, name, begins, end))


def summary_answer(found: domain.PlacementSummary, name: str | None, start: Instant, end: Instant) -> PlacementSummaryAnswer:
    """Write a summary."""
    return PlacementSummaryAnswer(
        domain=name, start=iso(start), end=iso(end), tests=found.tests, total=_counts(found.total),
        providers={provider: _counts(counts) for provider, counts in found.providers},
    )  # fmt: skip


def answer_of(test: PlacementTest) -> PlacementAnswer:
    """Write a test."""
    return PlacementAnswer(
        id=test.id, sender=test.sender, domain=test.domain, subject=test.subject,
        status="running" if test.finished_at is None else "finished", created_at=iso(test.created_at), deadline_at=iso(test.deadline_at),
        finished_at=_iso(test.finished_at), results=[_result(one) for one in test.results],
    )  # fmt: skip


def _result(one: PlacementResult) -> PlacementResultAnswer:
    return PlacementResultAnswer(
        seed=one.seed, provider=one.provider, message_id=one.message_id, outcome=one.outcome.value, detail=one.detail, folder=one.folder,
        found_at=_iso(one.found_at), after_s=None if one.after_ms is None else one.after_ms / 1000, authserv_id=one.authserv_id,
        spf=one.spf, dkim=one.dkim, dmarc=one.dmarc,
    )  # fmt: skip


def _counts(counts: PlacementCounts) -> PlacementCountsAnswer:
    return PlacementCountsAnswer(
        inbox=counts.inbox, spam=counts.spam, missing=counts.missing, unknown=counts.unknown, inbox_rate=counts.rate(Outcome.INBOX),
        spam_rate=counts.rate(Outcome.SPAM), missing_rate=counts.rate(Outcome.MISSING),
        median_s=None if counts.median_ms is None else counts.median_ms / 1000,
    )  # fmt: skip


def _iso(at: Instant | None) -> str | None:
    return None if at is None else iso(at)


_DOMAIN = Parameter(name="domain", place="query", description="of this sender's domain only", schema={"type": "string", "maxLength": 253})
_TIMES = tuple(
    Parameter(name=name, place="query", description=text, schema={"type": "string", "format": "date-time"})
    for name, text in (("start", "of tests begun from then on; 30 days before the end"), ("end", "and before then; now"))
)
_ID = Parameter(name="placement_id", place="path", description="id of the test", is_required=True, schema={"type": "string"})

ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/placement",
        run=begin,
        name="beginPlacementTest",
        scope=Scope.MESSAGES_SEND,
        summary="Test where mail lands",
        tag="placement",
        description="Sends one message to each seed, and looks later whether it lies in the inbox, in spam or nowhere.",
        body=PlacementBody,
        answers={202: PlacementAnswer},
        codes=(*(code for code in SENDING_CODES if not code.startswith("idempotency")), "conflict", "quota_exceeded"),
    ),
    Endpoint(
        method="GET",
        path="/v1/placement",
        run=list_tests,
        name="listPlacementTests",
        scope=Scope.STATS_READ,
        summary="List placement tests",
        tag="placement",
        answers={200: PlacementPage},
        answer_headers=paging.LINK,
        parameters=(*paging.parameters("plc"), _DOMAIN),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET",
        path="/v1/placement/summary",
        run=summary,
        name="getPlacementSummary",
        scope=Scope.STATS_READ,
        summary="Sum up where mail landed",
        tag="placement",
        answers={200: PlacementSummaryAnswer},
        parameters=(_DOMAIN, *_TIMES),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET",
        path="/v1/placement/{placement_id:str}",
        run=get,
        name="getPlacementTest",
        scope=Scope.STATS_READ,
        summary="Read a placement test",
        tag="placement",
        answers={200: PlacementAnswer},
        parameters=(_ID,),
        codes=("not_found",),
    ),
]
