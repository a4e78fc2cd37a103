"""
Questions for numbers, as the API, the command line and the pages ask them.

Arrives: texts of a request, and what the asker may see. Leaves: rows with the metrics that were asked for; CSV.
Standards: RFC 4180 (CSV). Cells that a spreadsheet would take for a formula are quoted with an apostrophe (OWASP, CSV injection).
Not here: the sums (store.rollups), what is counted when (domain.stats).
"""

import csv
import datetime as dt
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection

from gatepost.clock import DAY, Instant, iso, parse_iso
from gatepost.domain.access import Restrictions
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.stats import Counted, Counts, Dimension, Step
from gatepost.store import rollups
from gatepost.store.rollups import FINEST, MODE
from gatepost.tenants.metering import cell_of

OFFERED: Final = tuple(one for one in Dimension if one is not Dimension.TEMPLATE)
"""What can be asked for; mail is counted by template once there are templates."""
_NO_TEMPLATES: Final = "there are no templates yet, so there are no numbers by template"
MOST_ROWS: Final = 10_000
_LONGEST: Final = 3_700 * DAY
_DEFAULT: Final = 7 * DAY
_MOST_VALUES: Final = 50
_TIMES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_COUNTS: Final = (
    "messages", "accepted", "suppressed", "sent", "delivered", "deferred", "bounced", "expired", "cancelled", "retried", "complained",
    "opened", "opens", "clicked", "clicks", "unsubscribed", "machine_opens", "machine_clicks", "attempted", "reached", "failed",
)  # fmt: skip
_RATES: Final = (
    "delivery_rate", "deferral_rate", "bounce_rate", "complaint_rate", "open_rate", "click_rate", "unsubscribe_rate",
)  # fmt: skip
BOUNCES: Final = "bounces"
TIMES: Final = "time_to_deliver_ms"
METRICS: Final = (*_COUNTS, *_RATES, BOUNCES, TIMES)
"""What can be asked for, in the order in which it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    What is asked.

    Attributes:
        where: Values that count, by dimension or `mode`; a dimension that is missing counts whatever its value.
        is_everybody: Every tenant's numbers, for an operator.
    """

    start: Instant
    end: Instant
    group_by: tuple[Dimension, ...] = ()
    step: Step | None = None
    zone: str = "UTC"
    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    metrics: tuple[str, ...] = METRICS
    is_everybody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """
    The answer.

    Attributes:
        rows: By step; without steps those with most mail first.
        total: Of everything; recipients with several tags count once.
        has_more: There are more rows than are told.
    """

    rows: Sequence[Counted]
    total: Counts
    has_more: bool = False


def parse(query: Mapping[str, str], now: Instant, place_of: Callable[[str], str] = str) -> Question:
    """
    Read a question.

    Args:
        query: `from`, `to`, `group_by`, `step`, `time_zone`, `metrics`, `mode`, and values of dimensions; several have commas between.
        place_of: Writes the name of a parameter as it stands in a fault.

    Raises:
        Refused: validation_failed.
    """
    faults: list[Fault] = []

    def fault(name: str, code: str, detail: str) -> None:
        faults.append(Fault(place_of(name), code, detail))

    zone = query.get("time_zone", "UTC")
    if not _is_zone(zone):
        fault("time_zone", "unknown_time_zone", "give a name of the IANA list, such as Europe/Berlin")
        zone = "UTC"
    end = _instant(query.get("to"), zone)
    start = _instant(query.get("from"), zone)
    if query.get("to") and end is None:
        fault("to", "invalid_time", "give a day such as 2026-11-24, or a time with its offset")
    if query.get("from") and start is None:
        fault("from", "invalid_time", "give a day such as 2026-11-24, or a time with its offset")
    end = now - now % FINEST + FINEST if end is None else end
    start = end - _DEFAULT if start is None else start
    if end - now > _LONGEST:
        fault("to", "out_of_range", "it is at most ten years from now")
    elif not 0 <= end - start <= _LONGEST or start < 0:
        fault("from", "out_of_range", "it begins before it ends, and is at most ten years long")
    by = _words(query.get("group_by", ""))
    if Dimension.TEMPLATE in by:
        fault("group_by", "not_available", _NO_TEMPLATES)
    if unknown := [one for one in by if one not in set(Dimension)]:
        fault("group_by", "unknown_dimension", f"{unknown[0][:40]!r} is none of {', '.join(OFFERED)}")
    step = query.get("step") or None
    if step is not None and step not in set(Step):
        fault("step", "unknown_step", f"give one of {', '.join(Step)}")
    metrics = _words(query.get("metrics", ""))
    if unknown := [one for one in metrics if one not in METRICS]:
        fault("metrics", "unknown_metric", f"{unknown[0][:40]!r} is none of {', '.join(METRICS)}")
    mode = query.get("mode", "all")
    if mode not in {"all", "live", "sandbox"}:
        fault("mode", "unknown_mode", "give live, sandbox or all")
    where: dict[str, Collection[str]] = {} if mode == "all" else {MODE: [mode]}
    for one in Dimension:
        if one is not Dimension.TENANT and (values := _words(query.get(one.value, ""))):
            where[one.value] = values
            if one is Dimension.TEMPLATE:
                fault(one.value, "not_available", _NO_TEMPLATES)
            if len(values) > _MOST_VALUES:
                fault(one.value, "out_of_range", f"give at most {_MOST_VALUES} values")
    if faults:
        raise invalid(*faults)
    return Question(
        start=start, end=end, group_by=tuple(dict.fromkeys(Dimension(one) for one in by)), step=None if step is None else Step(step),
        zone=zone, where=where, metrics=tuple(one for one in METRICS if one in metrics) or METRICS,
    )  # fmt: skip


def narrowed(question: Question, who: Restrictions) -> Question:
    """Leave only what somebody may see: who may use some domains or streams sees their numbers only."""
    where = dict(question.where)
    for name, allowed in ((Dimension.DOMAIN.value, who.domains), (Dimension.STREAM.value, who.streams)):
        if allowed:
            where[name] = sorted(allowed & set(where[name])) if name in where else sorted(allowed)
    return replace(question, where=where)


def of_everybody(question: Question, *, may: bool) -> Question:
    """
    Ask for every tenant's numbers.

    Raises:
        Refused: permission_denied.
    """
    if not may:
        raise Refused("permission_denied", "only an operator sees every tenant's numbers")
    return replace(question, is_everybody=True)


def answer(conn: Connection, question: Question, tenant_id: str) -> Answered:
    """
    Answer a question.

    Raises:
        Refused: validation_failed: what was asked for does not go together, or is too much.
    """
    fields: dict[str, Any] = {
        "tenant": None if question.is_everybody else tenant_id, "start": question.start, "end": question.end, "where": question.where,
        "has_bounces": BOUNCES in question.metrics, "has_waits": TIMES in question.metrics,
    }  # fmt: skip
    try:
        rows = rollups.read(conn, **fields, group_by=question.group_by, step=question.step, zone=question.zone)
        [total] = rollups.read(conn, **fields) if question.group_by or question.step else rows
    except ValueError as error:
        raise invalid(Fault("step" if "steps" in str(error) else "group_by", "conflicting", str(error))) from None
    if question.step is None:
        rows.sort(key=lambda row: (-max(row.counts.attempted, row.counts.accepted), row.key))
    return Answered(rows=rows[:MOST_ROWS], total=total.counts, has_more=len(rows) > MOST_ROWS)


def values(counts: Counts, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of some counts: numbers, None for a rate of nothing, bounces by category, times by percentile."""
    return {name: _value(counts, name) for name in metrics}


def _value(counts: Counts, name: str) -> Any:
    if name == BOUNCES:
        return dict(sorted(counts.bounces.items()))
    if name == TIMES:
        return {part: counts.wait_ms(share) for part, share in _TIMES.items()}
    value = getattr(counts, name)
    return round(value, 6) if isinstance(value, float) else value


def as_csv(question: Question, rows: Sequence[Counted]) -> str:
    """Write rows as CSV with a heading; bounces have a column for each category that occurs."""
    categories = sorted({category for row in rows for category in row.counts.bounces}) if BOUNCES in question.metrics else []
    plain = [name for name in question.metrics if name not in {BOUNCES, TIMES}]
    times = list(_TIMES) if TIMES in question.metrics else []
    head = (["from"] if question.step else []) + [one.value for one in question.group_by] + plain
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head + [f"bounced_{category}" for category in categories] + [f"time_to_deliver_{part}_ms" for part in times])
    for row in rows:
        cells: list[Any] = [] if row.at is None else [iso(row.at)]
        cells += [cell_of(value) for value in row.key]
        cells += ["" if (value := _value(row.counts, name)) is None else value for name in plain]
        cells += [row.counts.bounces.get(category, 0) for category in categories]
        cells += [row.counts.wait_ms(_TIMES[part]) if sum(row.counts.waits) else "" for part in times]
        writer.writerow(cells)
    return text.getvalue()


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a path, a folder, nothing
        return False
    return bool(name)


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _instant(text: str | None, zone: str) -> Instant | None:
    """Read a day, which begins in a zone, or a time; None when it is neither."""
    if not text or len(text) > 40:
        return None
    try:
        if len(text) == len("2026-11-24"):
            return int(dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), ZoneInfo(zone)).timestamp() * 1000)
        return parse_iso(text)
    except (ValueError, OverflowError):
        return None
