"""
What receivers report of a tenant's domains, summed up for the API and the pages.

Arrives: a domain of a tenant and a number of days. Leaves: who sent in its name and why that failed; what senders met at its hosts.
Not here: how reports come (returns.mail), the sums (policy.dmarc_summary, policy.tls_report_summary).
"""

from dataclasses import dataclass

from gatepost.clock import DAY, Clock, Instant
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import Domain, DomainStatus
from gatepost.policy.dmarc_summary import SourceSummary, summarise_reports
from gatepost.policy.tls_report_summary import TlsSummary, summarise_tls
from gatepost.settings import Settings
from gatepost.store import domain_reports
from gatepost.store.engine import Engine
from gatepost.tenants.domains import Domains
from gatepost.wire.dmarc_report import AggregateReport
from gatepost.wire.tls_report_reading import TlsReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcView:
    """DMARC aggregates of some days, those sources first of which most fails."""

    domain: Domain
    reports: int
    sources: tuple[SourceSummary, ...]

    @property
    def messages(self) -> int:
        """Messages that were reported."""
        return sum(one.messages for one in self.sources)

    @property
    def passed(self) -> int:
        """Those that DMARC vouches for."""
        return sum(one.passed for one in self.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsView:
    """TLS reports of some days; `summary` is None while none tells of the domain."""

    domain: Domain
    reports: int
    summary: TlsSummary | None


class DomainReports:
    """The reports on the domains of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, domains: Domains) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._domains = domains

    async def dmarc(self, tenant_id: str, named: str, days: int) -> DmarcView:
        """
        Sum DMARC aggregates up.

        Args:
            named: The domain's id or name.

        Raises:
            Refused: not_found; conflict while the domain is not verified.
            StorageUnavailable: The database cannot be used now.
        """
        domain, at = await self._about(tenant_id, named, days)
        reports = await self._engine.read(lambda conn: domain_reports.since(conn, "dmarc", domain.name, at, AggregateReport))
        ours = frozenset(self._settings.watch.addresses)
        return DmarcView(domain=domain, reports=len(reports), sources=tuple(summarise_reports(reports, ours)))

    async def tls(self, tenant_id: str, named: str, days: int) -> TlsView:
        """
        Sum TLS reports up; arguments and refusals are those of `dmarc`.

        Raises:
            Refused: not_found; conflict.
            StorageUnavailable: The database cannot be used now.
        """
        domain, at = await self._about(tenant_id, named, days)
        reports = await self._engine.read(lambda conn: domain_reports.since(conn, "tls", domain.name, at, TlsReport))
        found = next((one for one in summarise_tls(reports) if one.domain.lower().rstrip(".") == domain.name), None)
        return TlsView(domain=domain, reports=len(reports), summary=found)

    async def _about(self, tenant_id: str, named: str, days: int) -> tuple[Domain, Instant]:
        """Return the tenant's domain; of one that is not verified there is nothing to see."""
        domain = (await self._domains.get(tenant_id, named)).domain
        if domain.status is not DomainStatus.VERIFIED:
            raise Refused("conflict", "verify the domain first: reports tell of its mail")
        return domain, self._clock.now() - days * DAY
