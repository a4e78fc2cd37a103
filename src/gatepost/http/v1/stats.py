"""
Numbers of mail: counts, rates and times, over any time, divided by what is asked for.

Arrives: a question as query parameters. Leaves: JSON, or CSV to who asks for that.
Not here: what the words mean (tenants.stats, domain.stats).
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.stats import Dimension, Step
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.store import audit
from gatepost.tenants import stats
from gatepost.tenants.stats import METRICS, OFFERED, Answered, Question

_DIMENSIONS = tuple(one.value for one in OFFERED if one is not Dimension.TENANT)
_NAMES = ("from", "to", "group_by", "step", "time_zone", "metrics", "mode", "tenant", "template", *_DIMENSIONS)
"""`template` is read, so that its refusal says why."""


class StatsRow(Struct, kw_only=True, frozen=True, rename={"from_": "from"}):
    """One group's numbers; `from` is the beginning of its step, in UTC, where time is divided."""

    group: dict[str, str]
    from_: str | None = None
    metrics: dict[str, Any]


class StatsAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="stats", rename={"from_": "from"}):
    """Numbers; `total` is of everything that was asked for, undivided."""

    from_: str
    to: str
    time_zone: str
    step: str | None
    group_by: list[str]
    data: list[StatsRow]
    total: dict[str, Any]
    has_more: bool


async def show(request: Request) -> Answer:
    """Answer a question for numbers."""
    query = request.query(*_NAMES)
    deps, caller = request.deps, request.caller
    question = stats.narrowed(stats.parse(query, deps.clock.now()), caller.principal)
    if "tenant" in query:
        question = _of_everybody(question, query["tenant"], may=caller.principal.may(Scope.OPERATOR))
    if "text/csv" not in (request.header(b"accept") or ""):
        return as_json(_written(question, await deps.engine.read(lambda conn: stats.answer(conn, question, caller.tenant_id))))
    now = deps.clock.now()

    def export(conn: Connection) -> Answered:
        found = stats.answer(conn, question, caller.tenant_id)
        told = {"from": iso(question.start), "to": iso(question.end), "rows": len(found.rows)}
        change = audit.Change(action="stats.exported", object_id=caller.tenant_id, tenant_id=caller.tenant_id, after=told)
        audit.append(conn, caller.actor, change, now)
        return found

    text = stats.as_csv(question, (await deps.engine.write(export)).rows)
    name = f'attachment; filename="stats-{iso(question.start)[:10]}-{iso(question.end)[:10]}.csv"'
    return Answer(200, text.encode(), b"text/csv; charset=utf-8; header=present", [(b"content-disposition", name.encode())])


def _of_everybody(question: Question, tenant: str, *, may: bool) -> Question:
    if tenant != "*":
        raise invalid(Fault("tenant", "unknown_value", "give * for every tenant's numbers; without it they are your own"))
    return stats.of_everybody(question, may=may)


def _written(question: Question, found: Answered) -> StatsAnswer:
    names = [one.value for one in question.group_by]
    return StatsAnswer(
        from_=iso(question.start),
        to=iso(question.end),
        time_zone=question.zone,
        step=None if question.step is None else question.step.value,
        group_by=names,
        data=[
            StatsRow(
                group=dict(zip(names, row.key, strict=True)),
                from_=None if row.at is None else iso(row.at),
                metrics=stats.values(row.counts, question.metrics),
            )
            for row in found.rows
        ],
        total=stats.values(found.total, question.metrics),
        has_more=found.has_more,
    )


def _parameter(name: str, description: str, **schema: Any) -> Parameter:
    return Parameter(name=name, place="query", description=description, schema={"type": "string", "maxLength": 4_000, **schema})


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/stats",
        run=show,
        name="showStats",
        scope=Scope.STATS_READ,
        summary="Numbers of mail",
        tag="stats",
        description="Counts are exact to the last commit and belong to the time when something happened. A key that is restricted to"
        " domains or streams sees theirs only. With `Accept: text/csv` the answer is CSV, and the audit log tells of the export.",
        parameters=(
            _parameter("from", "the first instant, or a day; seven days before the end if not given; rounded down to five minutes"),
            _parameter("to", "the first instant that does not count, or a day; now if not given"),
            _parameter("group_by", f"what to divide by, with commas between: {', '.join(OFFERED)}"),
            _parameter("step", "divides time, too", enum=[one.value for one in Step]),
            _parameter("time_zone", "zone of days, weeks and months, such as Europe/Berlin", default="UTC"),
            _parameter("metrics", f"what to tell, with commas between; everything if not given: {', '.join(METRICS)}"),
            _parameter("mode", "live leaves out what went to the sandbox", enum=["all", "live", "sandbox"], default="all"),
            _parameter("tenant", "* is every tenant's numbers, for operators"),
            *(_parameter(name, f"only this {name}, or one of these with commas between") for name in _DIMENSIONS),
        ),
        answers={200: (StatsAnswer, "text/csv")},
        codes=("validation_failed",),
    )
]
