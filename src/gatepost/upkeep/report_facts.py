"""
Reads what reports to senders' teams are made of.

Arrives: a subscription, a period. Leaves: counts of it and of what it is compared with, by domain and receiving system, scores, what was
unusual. Only real mail counts, not what stayed in the sandbox.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from gatepost.clock import DAY, Instant
from gatepost.domain.stats import Counts, Dimension
from gatepost.domain.team_report import ReportKind, ReportSubscription
from gatepost.domain.tenant import Tenant
from gatepost.policy.deliverability import Score
from gatepost.policy.quota import day_of
from gatepost.policy.report_periods import Period
from gatepost.policy.team_letters import DomainFacts, Facts
from gatepost.store import rollups, scores, tenants, unusual

_LIVE: Final = ("live",)
_SCORE_IS_GOOD: Final = 3 * DAY
"""A score that is older at a period's end says nothing of it."""


def read(conn: Connection, one: ReportSubscription, tenant: Tenant, period: Period) -> Facts:
    """
    Read the facts of a report.

    Args:
        tenant: Whose mail it tells of.
    """
    where: dict[str, Sequence[str]] = {rollups.MODE: _LIVE}
    if one.domains:
        where[Dimension.DOMAIN.value] = one.domains
    by_domain = _by(conn, one, Dimension.DOMAIN, where, period.start, period.end)
    before = _by(conn, one, Dimension.DOMAIN, where, period.before, period.before_end)
    sites = {} if one.kind is ReportKind.WEEKLY else _by(conn, one, Dimension.SITE, where, period.start, period.end)
    return Facts(
        kind=one.kind, of=_whose(one, tenant), zone=one.zone, period=period, now=_sum(by_domain), before=_sum(before),
        domains=_domains(conn, one, period, by_domain, before), sites=sorted(sites.items()),
        unusual=[
            found for found in unusual.within(conn, one.tenant_id, period.start, period.end)
            if not one.domains or (found.scope == "domain" and found.name in one.domains)
        ],
    )  # fmt: skip


def _by(
    conn: Connection, one: ReportSubscription, side: Dimension, where: dict[str, Sequence[str]], start: Instant, end: Instant
) -> dict[str, Counts]:  # fmt: skip
    return {row.key[0]: row.counts for row in rollups.read(conn, tenant=one.tenant_id, start=start, end=end, group_by=(side,), where=where)}


def _sum(found: dict[str, Counts]) -> Counts:
    total = Counts()
    for counts in found.values():
        total = total + counts
    return total


def _domains(
    conn: Connection, one: ReportSubscription, period: Period, now: dict[str, Counts], before: dict[str, Counts]
) -> list[DomainFacts]:  # fmt: skip
    ids = {domain.name: domain.id for domain in tenants.domains(conn, one.tenant_id)}
    # the day that ends with the period; what stands there was last written before it was over, or a day before
    at_end = _scores(conn, list(ids.values()), period.end)
    at_start = _scores(conn, list(ids.values()), period.start)
    names = sorted({*now, *before} | (set(one.domains) & ids.keys()))
    return [
        DomainFacts(
            name=name, now=now.get(name, Counts()), before=before.get(name, Counts()), score=at_end.get(ids.get(name, "")),
            earlier=at_start.get(ids.get(name, "")),
        )
        for name in names
    ]  # fmt: skip


def _scores(conn: Connection, domain_ids: Sequence[str], at: Instant) -> dict[str, Score]:
    found = scores.last_before(conn, domain_ids, day_of(at - 1), day_of(at - _SCORE_IS_GOOD))
    return {domain_id: row.score for domain_id, row in found.items()}


def _whose(one: ReportSubscription, tenant: Tenant) -> str:
    if len(one.domains) == 1:
        return one.domains[0]
    return tenant.name if not one.domains else f"{tenant.name}, {len(one.domains)} domains"
