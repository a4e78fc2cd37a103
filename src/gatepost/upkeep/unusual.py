"""
Looks for what is unusual in what happens to mail, and writes it down.

Arrives: the clock, counts. Leaves: rows of `unusual_change`, an event `sending.unusual` when one is found and `sending.usual` when it is
over, a line in the mail log, a metric. Several processes may run this; one of them works.
Of each tenant that sends enough what happens now is read; history only of what stands out by itself, and of what is open.
The same thing seen from several sides (a site, a domain, its stream, its relay, the whole tenant; an hour, the day that it is in) is told
once, from the narrowest. A site is the narrowest only where it is the cause: not when all of a domain's mail goes there, nor when several
sites are unusual at once because their mail has something else in common.
Not here: what is unusual (policy.unusual), counts (store.rollups).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, HOUR, SECOND, Clock, Instant
from gatepost.domain.event import Event, EventType
from gatepost.domain.stats import Counts, Dimension, Step
from gatepost.domain.unusual import UnusualChange
from gatepost.observe import maillog, metrics
from gatepost.policy import unusual as rules
from gatepost.policy.unusual import CLOSES_AT, OPENS_AT, RULES, WINDOWS, Finding, Metric, Sample, Window
from gatepost.settings import Unusual as Options
from gatepost.store import facts, health, rollups, unusual
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable

TASK: Final = "unusual"
STEP_S: Final = 30.0
"""How often a process looks whether it is time."""
HISTORY: Final = 35 * DAY
_SHORTEST_LEASE: Final = 2 * 60 * SECOND
_MOST_LOOKED_AT: Final = 200
_SILENT: Final = 2 * DAY
"""An open change that nothing was seen of for so long, since there is no mail, is over."""
_LIVE: Final = ("live",)
_SAME_THING: Final = 1.25
_WEEK_H: Final = 7 * 24
SITE: Final = "site"
_NO_SITES: Final = frozenset({"", "*"})
"""Mail of which it is not known yet where it goes, and the sites beyond the bound: neither is a place."""
_NARROWER: Final = 0.8
"""A site with more of a domain's recipients than this is the domain, seen from another side."""
_SCOPES: Final[tuple[tuple[str, Dimension | None], ...]] = (
    (SITE, Dimension.SITE), ("domain", Dimension.DOMAIN), ("stream", Dimension.STREAM), ("relay", Dimension.RELAY), ("tenant", None),
)  # fmt: skip
"""The narrowest first."""
_RANK: Final = {scope: n for n, (scope, _) in enumerate(_SCOPES)}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Whose rate it is."""

    tenant_id: str
    scope: str
    name: str


@dataclass(frozen=True, slots=True)
class _Key:
    place: Place
    metric: Metric
    window: Window


Seen = Mapping[tuple[Place, Window], Counts]
Told = dict[tuple[Metric, Window], list[tuple[str, str, float]]]
"""Scope, name and excess of what is told already."""


class UnusualWatch:
    """The loop's work; one in each door process."""

    def __init__(self, engine: Engine, clock: Clock, options: Options, owner: str) -> None:
        """
        Args:
            owner: Name of this process, new for every start.
        """
        self._engine = engine
        self._clock = clock
        self._options = options
        self._owner = owner
        self._due_at: Instant = 0

    async def step(self) -> int:
        """
        Look when it is time; return how many changes were opened or closed.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        if not self._options.every_s or now < self._due_at:
            return 0
        lasting = await self._engine.read(unusual.still_open)
        busy = await self._engine.read(lambda conn: _busy(conn, now, self._options.least_recipients))
        tenants = sorted({*busy, *(one.tenant_id for one in lasting)})
        if not tenants or not await self._is_mine(now):  # an idle gateway writes nothing
            self._due_at = now + self._options.every_s * SECOND if not tenants else self._due_at
            return 0
        self._due_at = now + self._options.every_s * SECOND
        changes = 0
        for tenant_id in tenants:
            if not await self._is_mine(self._clock.now()):  # a long round outlives the lease
                break
            changes += await self._look_at(tenant_id, [one for one in lasting if one.tenant_id == tenant_id], now)
        keep = now - self._options.keep_days * DAY
        await self._engine.write(lambda conn: unusual.purge(conn, keep))
        return changes

    async def close(self) -> None:
        """
        Let another process look.

        Raises:
            StorageUnavailable: The database cannot be used now: the next owner waits for the lease's end.
        """
        await self._engine.write(lambda conn: health.let_go(conn, self._owner))

    async def _is_mine(self, now: Instant) -> bool:
        lease = max(self._options.every_s * SECOND, _SHORTEST_LEASE)
        return await self._engine.write(lambda conn: health.hold(conn, TASK, self._owner, now, now + lease))

    async def _look_at(self, tenant_id: str, lasting: Sequence[UnusualChange], now: Instant) -> int:
        try:
            seen, before = await self._engine.read(lambda conn: _read(conn, tenant_id, now))
            return await self._look(seen, self._candidates(seen, before, lasting), lasting, now)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others from being looked at
            maillog.crashed("unusual changes", error, tenant_id=tenant_id)
            return 0

    def _candidates(self, seen: Seen, before: Seen, lasting: Sequence[UnusualChange]) -> list[_Key]:
        """Choose whose history is worth reading: what stands out by itself, the most recipients first; and what lasts."""
        found = {}
        for place, window in {*seen, *before}:
            counts, earlier = seen.get((place, window), Counts()), before.get((place, window), Counts())
            for metric in Metric:
                if window in WINDOWS[metric] and self._stands_out(metric, place, counts, earlier):
                    found[_Key(place, metric, window)] = max(counts.accepted, counts.ended, earlier.accepted)
        chosen = sorted(found, key=lambda key: -found[key])
        if len(chosen) > _MOST_LOOKED_AT:
            maillog.trouble("more rates stand out than are looked at", found=len(chosen), looked_at=_MOST_LOOKED_AT)
        kept = dict.fromkeys(chosen[:_MOST_LOOKED_AT])
        for one in lasting:
            kept[_key_of(one)] = None
        return sorted(kept, key=lambda key: (_RANK[key.place.scope], key.place.name, key.metric, key.window is Window.DAY))

    def _stands_out(self, metric: Metric, place: Place, counts: Counts, earlier: Counts) -> bool:
        now, then = rules.sample_of(metric, counts), rules.sample_of(metric, earlier)
        if metric is Metric.VOLUME:
            return place.scope in {"domain", "tenant"} and (
                (then.part >= self._options.least_recipients and now.part * 2 <= then.part)
                or (now.part >= self._options.least_recipients and now.part >= 2 * then.part)
            )
        rule = RULES[metric]
        if now.whole < max(rule.least_whole, self._options.least_recipients):
            return False
        if rule.is_good:
            return then.rate >= rule.least_rate and now.rate * rule.factor <= then.rate
        return now.rate >= rule.least_rate and now.part >= rule.least_excess

    async def _look(self, seen: Seen, wanted: Sequence[_Key], lasting: Sequence[UnusualChange], now: Instant) -> int:
        open_by_key = {_key_of(one): one for one in lasting}
        told = await self._told(wanted[0].place.tenant_id, now) if wanted else {}
        findings = await self._judged(seen, wanted, open_by_key, now)
        unfit = _unfit_sites(findings, open_by_key.keys())
        changes = 0
        for key in wanted:
            finding, lasts = findings.get(key), open_by_key.get(key)
            sample = rules.sample_of(key.metric, seen.get((key.place, key.window), Counts()))
            if finding is not None:
                excess, place = _excess(finding), key.place
                if lasts is None and (key in unfit or _is_told(place, excess, told.get((key.metric, key.window), ()))):
                    continue  # the same thing, seen from another side
                for window in Window:
                    told.setdefault((key.metric, window), []).append((place.scope, place.name, excess))
                changes += await self._found(key, finding, lasts, now)
            elif lasts is not None and (rules.can_say(key.metric, sample) or now - lasts.seen_at >= _SILENT):
                changes += await self._over(lasts, now)
        return changes

    async def _judged(
        self, seen: Seen, wanted: Sequence[_Key], lasting: Mapping[_Key, UnusualChange], now: Instant
    ) -> dict[_Key, Finding]:  # fmt: skip
        histories: dict[Place, list[Counts]] = {}
        findings = {}
        for key in wanted:
            if key.place not in histories:
                histories[key.place] = await self._engine.read(lambda conn, place=key.place: _history(conn, place, now))  # type: ignore[misc]
            sample = rules.sample_of(key.metric, seen.get((key.place, key.window), Counts()))
            history, rhythm = _spans(histories[key.place], key.metric, key.window)
            threshold = CLOSES_AT if key in lasting else OPENS_AT
            finding = rules.judge(key.metric, key.window, sample, history, rhythm, threshold=threshold)
            if finding is not None:
                findings[key] = finding
        return findings

    async def _told(self, tenant_id: str, now: Instant) -> Told:
        """Return how much is told already: what lasts; and for the day, what was over in it."""
        told: Told = defaultdict(list)
        for one in await self._engine.read(lambda conn: unusual.within(conn, tenant_id, now - DAY, now + 1)):
            side = (one.scope, one.name, _excess(one))
            told[Metric(one.metric), Window.DAY].append(side)
            if one.closed_at is None:
                told[Metric(one.metric), Window.HOUR].append(side)
        return told

    async def _found(self, key: _Key, finding: Finding, lasts: UnusualChange | None, now: Instant) -> int:
        if lasts is not None:
            is_worse = abs(finding.seen - finding.expected) > abs(lasts.seen - lasts.expected)
            changed = replace(lasts, seen_at=now, **(_numbers(finding) if is_worse else {}))
            await self._engine.write(lambda conn: unusual.see(conn, changed))
            return 0
        place = key.place
        found = UnusualChange(
            id=ids.new("unc"), tenant_id=place.tenant_id, metric=key.metric.value, scope=place.scope, name=place.name,
            span=key.window.value, opened_at=now, seen_at=now, **_numbers(finding),
        )  # fmt: skip

        def write(conn: Connection) -> bool:
            if not unusual.open_change(conn, found):
                return False
            facts.insert_events(conn, [_event(EventType.SENDING_UNUSUAL, found, now)])
            return True

        if not await self._engine.write(write):
            return 0
        metrics.unusual_changes.labels(found.metric, "found").inc()
        maillog.unusual("found", **_logged(found), detail=found.detail, advice=found.advice)
        return 1

    async def _over(self, lasts: UnusualChange, now: Instant) -> int:
        def write(conn: Connection) -> bool:
            if not unusual.close_change(conn, lasts.id, now):
                return False
            facts.insert_events(conn, [_event(EventType.SENDING_USUAL, replace(lasts, closed_at=now), now)])
            return True

        if not await self._engine.write(write):
            return 0
        metrics.unusual_changes.labels(lasts.metric, "over").inc()
        maillog.unusual("over", **_logged(lasts), lasted_s=(now - lasts.opened_at) // SECOND)
        return 1


def _busy(conn: Connection, now: Instant, least: int) -> list[str]:
    """List the tenants that sent enough lately, or a week ago, for anything to be said of them."""
    found = set()
    end = now - now % rollups.FINEST
    for start in (end - DAY, end - 8 * DAY):
        rows = rollups.read(
            conn, tenant=None, start=start, end=start + DAY, group_by=(Dimension.TENANT,), where={rollups.MODE: _LIVE}, has_bounces=False,
            has_waits=False,
        )  # fmt: skip
        found |= {row.key[0] for row in rows if max(row.counts.accepted, row.counts.ended, row.counts.attempted) >= least}
    return sorted(found)


def _read(conn: Connection, tenant_id: str, now: Instant) -> tuple[Seen, Seen]:
    """Read what a tenant's mail met lately, from every side, and in the day a week before."""
    end = now - now % rollups.FINEST
    seen: dict[tuple[Place, Window], Counts] = {}
    before: dict[tuple[Place, Window], Counts] = {}
    for scope, dimension in _SCOPES:
        for start, last, window, into in (
            (end - HOUR, end, Window.HOUR, seen), (end - DAY, end, Window.DAY, seen), (end - 8 * DAY, end - 7 * DAY, Window.DAY, before),
        ):  # fmt: skip
            by = () if dimension is None else (dimension,)
            for row in rollups.read(
                conn, tenant=tenant_id, start=start, end=last, group_by=by, where={rollups.MODE: _LIVE}, has_waits=False
            ):  # fmt: skip
                name = "".join(row.key)
                if scope != SITE or name not in _NO_SITES:
                    into[Place(tenant_id, scope, name), window] = row.counts
    return seen, before


def _history(conn: Connection, place: Place, now: Instant) -> list[Counts]:
    """Return the hours before this one, the newest first; hours without mail are empty."""
    end = now - now % HOUR
    where: dict[str, Sequence[str]] = {rollups.MODE: _LIVE}
    dimension = dict(_SCOPES)[place.scope]
    if dimension is not None:
        where[dimension.value] = (place.name,)
    rows = rollups.read(conn, tenant=place.tenant_id, start=end - HISTORY, end=end, where=where, step=Step.HOUR, has_waits=False)
    by_hour = {row.at: row.counts for row in rows}
    empty = Counts()
    return [by_hour.get(end - (n + 1) * HOUR, empty) for n in range(HISTORY // HOUR)]


def _spans(hours: Sequence[Counts], metric: Metric, window: Window) -> tuple[list[Sample], list[Sample]]:
    """
    Cut a history into spans as long as the one that is looked at, and choose those at the same time of the week.

    What is looked at ends now; the spans before it end with whole hours. A time before the first mail is no history.
    """
    samples = [rules.sample_of(metric, counts) for counts in hours]
    first = max((n for n, one in enumerate(samples) if one.part or one.whole), default=-1) + 1
    samples = samples[:first]
    if window is Window.HOUR:
        around = [n for week in range(1, 6) for n in (week * _WEEK_H - 1, week * _WEEK_H, week * _WEEK_H + 1)]
        return samples[1:], [samples[n] for n in around if n < len(samples)]
    days = [_added(samples[n : n + 24]) for n in range(24, len(samples) - 23, 24)]
    return days, [days[n] for n in range(6, len(days), 7)]


def _is_told(place: Place, excess: float, sides: Sequence[tuple[str, str, float]]) -> bool:
    """Tell whether this much is told from another side; two domains, or two sites, are two things."""
    return any((scope != place.scope or name == place.name) and excess <= _SAME_THING * other for scope, name, other in sides)


def _unfit_sites(findings: Mapping[_Key, Finding], lasting: Collection[_Key]) -> set[_Key]:
    """Choose the sites that are not the cause of what is seen there."""
    unfit: set[_Key] = set()
    for sites in _by_window(key for key in findings if key.place.scope == SITE and key not in lasting):
        wider = [
            findings[key] for key in findings
            if key.place.scope != SITE and (key.metric, key.window) == (sites[0].metric, sites[0].window)
        ]  # fmt: skip
        together = sum(_excess(findings[key]) for key in sites)
        if len(sites) > 1 and any(together <= _SAME_THING * _excess(one) for one in wider):
            unfit.update(sites)
            continue
        for key in sites:
            site = findings[key]
            if any(_excess(site) <= _SAME_THING * _excess(one) and site.whole > _NARROWER * one.whole for one in wider):
                unfit.add(key)
    return unfit


def _by_window(keys: Iterable[_Key]) -> list[list[_Key]]:
    found: dict[tuple[Metric, Window], list[_Key]] = defaultdict(list)
    for key in keys:
        found[key.metric, key.window].append(key)
    return list(found.values())


def _added(samples: Sequence[Sample]) -> Sample:
    return Sample(sum(one.part for one in samples), sum(one.whole for one in samples))


def _key_of(one: UnusualChange) -> _Key:
    return _Key(Place(one.tenant_id, one.scope, one.name), Metric(one.metric), Window(one.span))


def _excess(one: Finding | UnusualChange) -> float:
    """Return how many recipients it is about beyond what is usual."""
    return abs(one.part - (one.expected * one.whole if one.whole else one.expected))


def _numbers(finding: Finding) -> dict[str, Any]:
    return {
        "expected": finding.expected, "seen": finding.seen, "part": finding.part, "whole": finding.whole, "detail": finding.detail,
        "advice": finding.advice,
    }  # fmt: skip


def _event(kind: EventType, one: UnusualChange, now: Instant) -> Event:
    names = ("metric", "scope", "name", "span", "expected", "seen", "part", "whole", "detail", "advice")
    data = {"change_id": one.id, **{name: getattr(one, name) for name in names}}
    if kind is EventType.SENDING_USUAL:
        data["lasted_s"] = (now - one.opened_at) // SECOND
    return Event(id=ids.new("evt"), type=kind, tenant_id=one.tenant_id, at=now, data=data)


def _logged(one: UnusualChange) -> dict[str, str]:
    return {"tenant_id": one.tenant_id, "change_id": one.id, "metric": one.metric, "scope": one.scope, "name": one.name, "span": one.span}
