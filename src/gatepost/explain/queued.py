"""
What waits, by site, and why it waits there: for the queue's table and page.

Arrives: whose queue. Leaves: a row for each site that has mail or is paused, the fullest first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.flow import FlowState
from gatepost.explain.waiting import Surroundings, Told, holds
from gatepost.store import leases, queue, roads, shaping, sites
from gatepost.store.queue_row import HELD_BY_HAND


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """
    One site.

    Attributes:
        due: Recipients whose time has come.
        later: Recipients that wait for their time, or are held.
        tried: Recipients that were tried before.
        first_due_at: The earliest of those that are not held; None where all are.
        cause: Stable code of what holds what is due there; empty where nothing does.
        in_use: Connections, and `limit` how many there may be; None where its owner wrote nothing lately.
    """

    site: str
    due: int = 0
    later: int = 0
    tried: int = 0
    first_due_at: Instant | None = None
    paused_at: Instant | None = None
    cause: str = ""
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    in_use: int | None = None
    limit: int | None = None


def site_views(conn: Connection, tenant_id: str | None, now: Instant) -> list[SiteView]:
    """
    Sum the queue up by site.

    Args:
        tenant_id: None is everybody's queue, with the sites that are paused and have nothing.
    """
    counts = queue.counts_by_site(conn, now, tenant_id)
    paused = sites.paused(conn)
    names = [site for site, *_ in counts]
    around = Surroundings(
        now=now,
        paused=paused,
        is_dispatched=leases.is_any_valid(conn, now),
        flows=shaping.states(conn, sites=names) if names else (),
        roads=roads.views(conn, now),
        shows_signals=tenant_id is None,
    )
    found = [_view(site, due, later, tried, first, around) for site, due, later, tried, first in counts]
    if tenant_id is None:
        found += [_view(site, 0, 0, 0, HELD_BY_HAND, around) for site in sorted(set(paused) - set(names))]
    return found


def _view(site: str, due: int, later: int, tried: int, first: Instant, around: Surroundings) -> SiteView:
    told = holds(site, around) or Told(cause="", sentence="")
    fresh: list[FlowState] = [one for one in around.flows if one.site == site and one.is_fresh(around.now)]
    return SiteView(
        site=site,
        due=due,
        later=later,
        tried=tried,
        first_due_at=first if first < HELD_BY_HAND else None,
        paused_at=around.paused.get(site),
        cause=told.cause,
        sentence=told.sentence,
        evidence=told.evidence,
        in_use=sum(one.in_use for one in fresh) if fresh else None,
        limit=sum(one.connections for one in fresh) if fresh else None,
    )
