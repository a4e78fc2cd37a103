"""
Why a recipient that waits is not being delivered at this moment.

Arrives: its queue row, and what is known of its tenant, site and road. Leaves: a cause with a stable code, one sentence, and the
evidence. No I/O. The first cause that holds is told: what stops everything comes before what stops only this mail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatepost.clock import Instant, iso
from gatepost.domain.flow import FlowState
from gatepost.domain.recipient import Status
from gatepost.domain.route import DEFAULT_POOL, UNRESOLVED, RoadKind, road_at
from gatepost.explain.words import span, times
from gatepost.store.queue_row import Due
from gatepost.store.roads import RoadView
from gatepost.store.systems import KnownSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """
    A cause.

    Attributes:
        cause: Stable code.
        evidence: Facts by name; times as ISO 8601.
    """

    cause: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    What may hold a recipient, whatever it is.

    Attributes:
        paused: Sites that an operator stopped, and since when.
        flows: What owners wrote down of sources at the sites in question.
        roads: What is known of roads, by their names.
        ahead: For a recipient (by number) how many rows of its tenant go to its site before it, counted to a bound.
        failing: Domains about which DNS does not answer.
        held_by: Who holds what is held by hand, and why; empty where nobody knows any more.
        shows_signals: Tell what a site said to whom it held back: it may have been another tenant's mail.
    """

    now: Instant
    suspended_at: Instant | None = None
    paused: Mapping[str, Instant] = field(default_factory=dict)
    is_dispatched: bool = True
    flows: Sequence[FlowState] = ()
    roads: Mapping[str, RoadView] = field(default_factory=dict)
    ahead: Mapping[int, int] = field(default_factory=dict)
    failing: Mapping[str, KnownSystem] = field(default_factory=dict)
    held_by: str = ""
    shows_signals: bool = False


MOST_AHEAD = 10_000
_ANY = ""
"""In place of a pool: every one."""


def why(status: str, row: Due, attempts: int, said: str, around: Surroundings) -> Told:
    """
    Explain a recipient that waits.

    Args:
        said: What the last attempt's other side said, as a sentence after a blank; empty before the first.
    """
    for look in (_stopped, _planned, _road, _site):
        found = look(status, row, attempts, around)
        if found is not None:
            return Told(cause=found.cause, sentence=found.sentence + said, evidence=found.evidence)
    return _turn(row, said, around)


def holds(site: str, around: Surroundings) -> Told | None:
    """Explain what holds everything that is due at a site, from any pool; None where nothing does."""
    row = Due(0, 0, around.now, "", 0, "", _ANY, site, 1, 0, around.now)
    return _stopped("", row, 0, around) or _road("", row, 0, around) or _site("", row, 0, around)


def _stopped(_status: str, row: Due, _attempts: int, around: Surroundings) -> Told | None:
    now = around.now
    if around.suspended_at is not None:
        sentence = f"Held: the tenant was suspended {span(now - around.suspended_at)} ago; it goes on when the tenant is resumed."
        return Told(cause="tenant_suspended", sentence=sentence, evidence={"since": iso(around.suspended_at)})
    if row.is_held_by_hand:
        by = around.held_by or "somebody"
        return Told(cause="held", sentence=f"Held by {by}; it goes on when it is released.", evidence={"by": around.held_by or None})
    if row.site in around.paused:
        since = around.paused[row.site]
        sentence = f"Held: deliveries to {row.site} were paused {span(now - since)} ago."
        return Told(cause="site_paused", sentence=sentence, evidence={"site": row.site, "since": iso(since)})
    if not around.is_dispatched:
        return Told(cause="no_dispatcher", sentence="Waiting: no dispatch process is running.")
    return None


def _planned(status: str, row: Due, attempts: int, around: Surroundings) -> Told | None:
    """Explain what is not due yet."""
    until = row.planned_at - around.now
    if until <= 0:
        return None
    evidence: dict[str, Any] = {"until": iso(row.planned_at)}
    if status == Status.SCHEDULED.value:
        return Told(cause="scheduled", sentence=f"Scheduled for {iso(row.planned_at)}, in {span(until)}.", evidence=evidence)
    if row.site.startswith(UNRESOLVED):
        domain = row.site.removeprefix(UNRESOLVED)
        known = around.failing.get(domain)
        since = "" if known is None or known.failing_since is None else f" since {iso(known.failing_since)}"
        again = f"it is asked again in {span(until)}. No attempt is counted."
        sentence = f"Waiting: DNS does not say where mail for {domain} goes{since}; {again}"
        if known is not None and known.failing_since is not None:
            evidence |= {"since": iso(known.failing_since), "detail": known.detail}
        return Told(cause="dns_failing", sentence=sentence, evidence={"domain": domain, **evidence})
    ends = f"; it expires in {span(row.expires_at - around.now)}" if row.expires_at > around.now else ""
    if attempts == 0:
        return Told(cause="send_window", sentence=f"Waiting for its stream's hours of sending, in {span(until)}{ends}.", evidence=evidence)
    sentence = f"Deferred after {times(attempts)}; the next attempt is in {span(until)}{ends}."
    return Told(cause="retry", sentence=sentence, evidence={**evidence, "attempts": attempts, "expires_at": iso(row.expires_at)})


def _road(_status: str, row: Due, _attempts: int, around: Surroundings) -> Told | None:
    road = road_at(row.pool or DEFAULT_POOL, row.site)
    view = around.roads.get(str(road))
    if view is None or not view.is_shut(around.now):
        return None
    name = "the way to MX hosts" if road.kind is RoadKind.MX else f"the relay {road.name}"
    evidence = {"road": str(road), "reason": view.reason, "since": view.since and iso(view.since)}
    if view.state == "disabled":
        words = f" ({view.reason})" if view.reason else ""
        sentence = f"Waiting: {name} was switched off {_ago(view.since, around.now)}{words}, and no other road of its route is open."
        return Told(cause="road_disabled", sentence=sentence, evidence=evidence)
    again = f"; it is tried again in {span(view.retry_at - around.now)}" if view.retry_at is not None else ""
    sentence = f"Waiting: {name} has been failing since {_ago(view.since, around.now)} ({view.reason}){again}, and no other road is open."
    return Told(cause="breaker_open", sentence=sentence, evidence={**evidence, "until": view.retry_at and iso(view.retry_at)})


def _named(site: str) -> str:
    """Name a site as people know it: a relay by its name in the settings."""
    road = road_at(DEFAULT_POOL, site)
    return f"the relay {road.name}" if road.kind is RoadKind.RELAY else site


def _ago(since: Instant | None, now: Instant) -> str:
    return "a moment ago" if since is None else f"{span(now - since)} ago"


def _site(_status: str, row: Due, _attempts: int, around: Surroundings) -> Told | None:
    """Explain by what the site's owner wrote down; where several sources may be used, by the one that holds least."""
    known = [one for one in around.flows if one.site == row.site and row.pool in {_ANY, one.pool}]
    flows = [one for one in known if _holds(one, around.now) is not None]
    if not flows or len(flows) < len(known):
        return None
    flow = min(flows, key=lambda one: one.suspended_until)
    cause = _holds(flow, around.now) or ""
    evidence: dict[str, Any] = {"site": row.site, "source": flow.source, "limit": flow.connections, "in_use": flow.in_use}
    signal = flow.signal_text if around.shows_signals else ""
    if signal:
        evidence |= {"signal": signal, "signal_at": iso(flow.signal_at), "rule": flow.signal_id}
    if flow.suspended_until > around.now:
        evidence["until"] = iso(flow.suspended_until)
        again = f"; it goes on in {span(flow.suspended_until - around.now)}"
        asked = f" It said: {signal}." if signal else ""
        return Told(cause=cause, sentence=f"Waiting: {flow.detail or f'{row.site} is suspended'}{again}.{asked}", evidence=evidence)
    if flow.warm_up_cap is not None:
        evidence |= {"warm_up_cap": flow.warm_up_cap, "warm_up_used": flow.warm_up_used}
    if flow.rate_limit is not None:
        evidence |= {"rate_limit": flow.rate_limit, "rate": flow.rate}
    return Told(cause=cause, sentence=f"Waiting for {_named(row.site)}: {flow.detail or cause.replace('_', ' ')}.", evidence=evidence)


def _holds(flow: FlowState, now: Instant) -> str | None:
    """Tell by what a source holds mail back now, if it does."""
    if flow.suspended_until > now:
        return flow.cause or "site_suspended"
    return flow.cause if flow.cause and flow.is_fresh(now) else None


def _turn(row: Due, said: str, around: Surroundings) -> Told:
    ahead = around.ahead.get(row.n, 0)
    due = span(around.now - row.planned_at)
    evidence = {"site": row.site, "due_since": iso(row.planned_at), "ahead": ahead}
    if row.site.startswith(UNRESOLVED):
        domain = row.site.removeprefix(UNRESOLVED)
        return Told(
            cause="resolving", sentence=f"Due since {due}: DNS is being asked where mail for {domain} goes.{said}", evidence=evidence
        )
    if ahead > 1:
        many = f"more than {MOST_AHEAD}" if ahead >= MOST_AHEAD else str(ahead)
        sentence = f"Due since {due}: {many} messages of this tenant to {_named(row.site)} go before it; tenants take turns there.{said}"
        return Told(cause="tenant_turn", sentence=sentence, evidence=evidence)
    sentence = f"Due since {due}: waiting for a free connection to {_named(row.site)}, or being delivered now.{said}"
    return Told(cause="turn", sentence=sentence, evidence=evidence)
