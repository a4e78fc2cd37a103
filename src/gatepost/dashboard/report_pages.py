"""
What receivers report of a domain, on pages: DMARC aggregates by source with what mends their failures, TLS reports.

Arrives: a domain of the tenant. Leaves: pages over `tenants.domain_reports`.
"""

from typing import TYPE_CHECKING, Any, Final

from litestar import Response

from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.domain_pages import domain_id
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.tenants.domain_reports import DomainReports

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_DAYS: Final = ("7", "30", "90")
_MOST_SOURCES: Final = 200


class ReportPages:
    """The pages about reports on domains."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._reports = DomainReports(deps.engine, deps.clock, deps.settings, deps.domains)

    async def dmarc(self, request: AnyRequest) -> Response[Any]:
        """Show who sends in the domain's name, and why it fails."""
        tenant_id, days = viewer_of(request).caller.tenant_id, _days(request)
        view = await self._deps.domains.get(tenant_id, domain_id(request))
        found = await self._found(self._reports.dmarc(tenant_id, view.domain.id, days))
        inbound = self._deps.settings.inbound.bounce_domain
        return self._shell.page(
            request, "dmarc.html", domain=view.domain, found=found, days=days, spans=_DAYS, most_sources=_MOST_SOURCES,
            report_address=f"dmarc@{inbound}" if inbound else "",
        )  # fmt: skip

    async def tls(self, request: AnyRequest) -> Response[Any]:
        """Show what senders met at the domain's mail hosts."""
        tenant_id, days = viewer_of(request).caller.tenant_id, _days(request)
        view = await self._deps.domains.get(tenant_id, domain_id(request))
        found = await self._found(self._reports.tls(tenant_id, view.domain.id, days))
        inbound = self._deps.settings.inbound.bounce_domain
        return self._shell.page(
            request, "tls_reports.html", domain=view.domain, found=found, days=days, spans=_DAYS,
            report_address=f"tlsrpt@{inbound}" if inbound else "",
        )  # fmt: skip

    async def _found(self, asked: Any) -> Any:
        """Return what there is; None for a domain that is not verified, which the page says."""
        try:
            return await asked
        except Refused as refusal:
            if refusal.code != "conflict":
                raise
            return None


def _days(request: AnyRequest) -> int:
    text = request.query_params.get("days", "")
    return int(text) if text in _DAYS else 30


_ONE = "/domains/{domain:str}"
PAGES = (
    Page(method="GET", path=f"{_ONE}/dmarc", run=ReportPages.dmarc, scope=Scope.DOMAINS_READ),
    Page(method="GET", path=f"{_ONE}/tls-reports", run=ReportPages.tls, scope=Scope.DOMAINS_READ),
)
