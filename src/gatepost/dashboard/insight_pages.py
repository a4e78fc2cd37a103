"""
Insights: how mail fares, over one time for all that the page shows.

Arrives: a time, filters, what to divide by. Leaves: tiles beside those of the time before, charts, a table; CSV of it.
Not here: what is counted (domain.stats), the sums (store.rollups), geometry (charts).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from litestar import Response
from litestar.response import Redirect
from sqlalchemy import Connection

from gatepost.clock import DAY, HOUR, Instant, iso
from gatepost.dashboard import charts
from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.charts import Bar, Line
from gatepost.dashboard.forms import faults_of
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell, link
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.domain.stats import Counted, Counts, Dimension, Step
from gatepost.store import audit, rollups
from gatepost.tenants import stats
from gatepost.tenants.stats import Question

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

SPANS: Final = {"24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
_BY: Final = (Dimension.STREAM, Dimension.DOMAIN, Dimension.SITE, Dimension.RELAY, Dimension.SOURCE, Dimension.TAG)
_FEW: Final = ("accepted",)
_MOST_CHOICES: Final = 50
_MOST_SHOWN: Final = 100
_FILTERS: Final = ("time_zone", "domain", "stream", "mode")
ZONES: Final = (
    "UTC", "Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Bogota", "America/Chicago", "America/Denver",
    "America/Halifax", "America/Los_Angeles", "America/Mexico_City", "America/New_York", "America/Sao_Paulo", "America/Toronto",
    "Asia/Bangkok", "Asia/Dhaka", "Asia/Dubai", "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Karachi", "Asia/Kolkata", "Asia/Manila",
    "Asia/Seoul", "Asia/Shanghai", "Asia/Singapore", "Asia/Tehran", "Asia/Tokyo", "Australia/Adelaide", "Australia/Sydney",
    "Europe/Amsterdam", "Europe/Athens", "Europe/Berlin", "Europe/Istanbul", "Europe/Kyiv", "Europe/London", "Europe/Madrid",
    "Europe/Moscow", "Europe/Paris", "Europe/Rome", "Europe/Stockholm", "Europe/Warsaw", "Europe/Zurich", "Pacific/Auckland",
)  # fmt: skip
"""Time zones that are offered; any of IANA's list may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    One chart.

    Attributes:
        top: What stands at its upper edge, in words.
        legend: Kinds with their names.
        told: What it shows, for who does not see it.
    """

    title: str
    top: str
    legend: tuple[tuple[str, str], ...]
    told: str
    bars: Sequence[Bar] = ()
    lines: Sequence[Line] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the page shows."""

    total: Counts
    before: Counts
    steps: Sequence[Counted]
    rows: Sequence[Counted]
    domains: Sequence[str]
    streams: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What the address asks for.

    Attributes:
        given: As it stands there; what makes no sense is kept beside its fault.
        faults: What is wrong with which field; the question is then the one without it.
    """

    given: Mapping[str, str]
    question: Question
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def by(self) -> Dimension:
        """What the table is divided by."""
        return Dimension(self.given.get("by", Dimension.STREAM.value))

    def when(self, at: Instant) -> str:
        """Write an instant in the zone that was asked for: `2026-11-24 13:05`."""
        return f"{dt.datetime.fromtimestamp(at / 1000, ZoneInfo(self.question.zone)):%Y-%m-%d %H:%M}"


class InsightPages:
    """The page, and its table as a file."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell

    async def insights(self, request: AnyRequest) -> Response[Any]:
        """Show numbers of a time."""
        caller, now = viewer_of(request).caller, self._deps.clock.now()
        asked = read_asked(request.query_params, now)
        question = asked.question
        step = _step(question.end - question.start)

        def read(conn: Connection) -> Shown:
            everything = replace(question, where={name: one for name, one in question.where.items() if name == rollups.MODE})
            return _read(
                conn, stats.narrowed(question, caller.principal), stats.narrowed(everything, caller.principal), asked.by, step,
                caller.tenant_id,
            )  # fmt: skip

        shown = await self._deps.engine.read(read)
        return self._shell.page(
            request, "insights.html", status=422 if asked.faults else 200, shown=shown, query=asked.given, faults=asked.faults, spans=SPANS,
            by=asked.by, dimensions=_BY, start=question.start, end=question.end, step=step, charts=_charts(shown),
            bounces=_bounces(shown.total), most=_MOST_SHOWN, when=asked.when, last=min(question.end, now), zone=question.zone, zones=ZONES,
        )  # fmt: skip

    async def export(self, request: AnyRequest) -> Response[Any]:
        """Give the table as CSV; the audit log tells of it."""
        viewer, now = viewer_of(request), self._deps.clock.now()
        asked = read_asked(request.query_params, now)
        if asked.faults:  # the page says what is wrong
            return Redirect(link("/insights", **asked.given), status_code=303)
        question = replace(asked.question, group_by=(asked.by,), metrics=stats.METRICS)
        narrowed, caller = stats.narrowed(question, viewer.caller.principal), viewer.caller

        def work(conn: Connection) -> stats.Answered:
            found = stats.answer(conn, narrowed, caller.tenant_id)
            told = {"from": iso(question.start), "to": iso(question.end), "rows": len(found.rows)}
            change = audit.Change(action="stats.exported", object_id=caller.tenant_id, tenant_id=caller.tenant_id, after=told)
            audit.append(conn, caller.actor, change, now)
            return found

        text = stats.as_csv(question, (await self._deps.engine.write(work)).rows)
        name = f'attachment; filename="insights-{iso(question.start)[:10]}-{iso(question.end)[:10]}.csv"'
        return Response(content=text, media_type="text/csv; charset=utf-8; header=present", headers={"Content-Disposition": name})


def read_asked(params: Mapping[str, str], now: Instant) -> Asked:
    """Read what stands in the address: a choice that is none is as if it were not there, a field that makes no sense is told."""
    given = {name: value[:200] for name, value in params.items() if value}
    query: dict[str, str] = {name: given[name] for name in ("from", "to", *_FILTERS) if name in given}
    if not {"from", "to"} & query.keys():
        query["span"] = given["span"] if given.get("span") in SPANS else "7d"
    if query.get("mode") not in {"live", "sandbox"}:
        query.pop("mode", None)
    if given.get("by") in {one.value for one in _BY}:
        query["by"] = given["by"]
    try:
        return Asked(given=query, question=_question(query, now))
    except Refused as refusal:
        faults = faults_of(refusal)
        usable = {name: value for name, value in query.items() if name not in faults}
        if {"from", "to"} & faults.keys():
            usable = {"span": "7d", **{name: value for name, value in usable.items() if name not in {"from", "to"}}}
        return Asked(given=query, question=_question(usable, now), faults=faults)


def _question(query: Mapping[str, str], now: Instant) -> Question:
    found = stats.parse({name: value for name, value in query.items() if name not in {"span", "by"}}, now)
    if "span" not in query:
        return found
    zone = ZoneInfo(found.zone)
    if query["span"] == "24h":
        end = now - now % HOUR + HOUR
        return replace(found, start=end - DAY, end=end)
    last = dt.datetime.fromtimestamp(now / 1000, zone).date() + dt.timedelta(days=1)
    first = last - dt.timedelta(milliseconds=SPANS[query["span"]])
    return replace(found, start=_midnight(first, zone), end=_midnight(last, zone))


def _midnight(day: dt.date, zone: ZoneInfo) -> Instant:
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)


def _step(length: int) -> Step:
    for most, step in ((3 * HOUR, Step.FIVE_MINUTES), (8 * DAY, Step.HOUR), (200 * DAY, Step.DAY)):
        if length <= most:
            return step
    return Step.WEEK if length <= 3 * 366 * DAY else Step.MONTH


def _read(conn: Connection, question: Question, everything: Question, by: Dimension, step: Step, tenant_id: str) -> Shown:
    length = question.end - question.start
    span: dict[str, Any] = {"tenant": tenant_id, "start": question.start, "end": question.end, "where": question.where}
    [total] = rollups.read(conn, **span)
    [before] = rollups.read(conn, **{**span, "start": question.start - length, "end": question.start}, has_bounces=False)
    rows = stats.answer(conn, replace(question, group_by=(by,), metrics=(*_FEW, stats.TIMES)), tenant_id).rows
    choices = {
        one: [row.key[0] for row in stats.answer(conn, replace(everything, group_by=(one,), metrics=_FEW), tenant_id).rows]
        for one in (Dimension.DOMAIN, Dimension.STREAM)
    }
    steps = rollups.read(conn, **span, step=step, zone=question.zone, has_bounces=False)
    by_start = {row.at: row for row in steps}
    edges = rollups.edges_of(question.start, question.end, step, question.zone)
    return Shown(
        total=total.counts,
        before=before.counts,
        steps=[by_start.get(at) or Counted(key=(), at=at, counts=Counts()) for at in edges[:-1]],
        rows=rows,
        domains=sorted(choices[Dimension.DOMAIN][:_MOST_CHOICES]),
        streams=sorted(choices[Dimension.STREAM][:_MOST_CHOICES]),
    )


def _charts(shown: Shown) -> list[Chart]:
    counts = [row.counts for row in shown.steps]
    reached, failed = [one.reached for one in counts], [one.failed for one in counts]
    top = charts.top_of([a + b for a, b in zip(reached, failed, strict=True)])
    found = [
        Chart(
            title="Delivered and failed", top=f"{top:,.0f}", legend=(("delivered", "delivered"), ("bounced", "failed")),
            told=f"{sum(reached):,} recipients were delivered, {sum(failed):,} failed.",
            bars=charts.stacked([("delivered", reached), ("bounced", failed)], top),
        ),
        _rates(
            "Bounces and deferrals",
            [
                ("bounced", "bounced", [one.bounce_rate for one in counts]),
                ("deferred", "deferred at first", [one.deferral_rate for one in counts]),
            ],
        ),
        _times(counts),
    ]  # fmt: skip
    if any(one.opens or one.clicks for one in counts):
        opened, clicked = [one.opened for one in counts], [one.clicked for one in counts]
        top = charts.top_of([*map(float, opened), *map(float, clicked)])
        found.append(
            Chart(
                title="Opens and clicks", top=f"{top:,.0f}", legend=(("sent", "opened"), ("suppressed", "clicked")),
                told=f"{sum(opened):,} recipients opened, {sum(clicked):,} clicked for the first time.",
                lines=[charts.line("sent", opened, top), charts.line("suppressed", clicked, top)],
            )
        )  # fmt: skip
    return found


def _rates(title: str, series: Sequence[tuple[str, str, Sequence[float | None]]]) -> Chart:
    values = [value for _, _, line in series for value in line if value is not None]
    top = min(max(charts.top_of([value * 100 for value in values]) / 100, 0.01), 1.0) if values else 0.01
    told = ", ".join(f"{name} at most {max((value for value in line if value is not None), default=0.0):.1%}" for _, name, line in series)
    return Chart(
        title=title, top=f"{top:.1%}", legend=tuple((kind, name) for kind, name, _ in series), told=f"By step: {told}.",
        lines=[charts.line(kind, line, top) for kind, _, line in series],
    )  # fmt: skip


def _times(counts: Sequence[Counts]) -> Chart:
    half, most = [one.wait_ms(0.5) for one in counts], [one.wait_ms(0.95) for one in counts]
    top = charts.top_of([value / 1000 for value in (*half, *most) if value is not None]) * 1000
    largest = max((value for value in most if value is not None), default=0)
    return Chart(
        title="Time to deliver", top=words_of_time(top), legend=(("accent", "half"), ("deferred", "95 %")),
        told=f"95 % of a step’s recipients were delivered within {words_of_time(largest)} or less.",
        lines=[charts.line("accent", half, top), charts.line("deferred", most, top)],
    )  # fmt: skip


def words_of_time(milliseconds: float) -> str:
    """Write a length of time shortly: `800 ms`, `12 s`, `3.5 min`, `2 h`."""
    for unit, length in (("d", DAY), ("h", HOUR), ("min", 60_000), ("s", 1_000)):
        if milliseconds >= length:
            return f"{milliseconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{milliseconds:.0f} ms"


def _bounces(counts: Counts) -> list[tuple[str, int, float]]:
    """List the reasons of bounces with their part of the largest, for bars."""
    ordered = sorted(counts.bounces.items(), key=lambda item: (-item[1], item[0]))
    return [(name, count, count / ordered[0][1] * 100) for name, count in ordered]


PAGES = (
    Page(method="GET", path="/insights", run=InsightPages.insights, scope=Scope.STATS_READ),
    Page(method="GET", path="/insights/table.csv", run=InsightPages.export, scope=Scope.STATS_READ),
)
