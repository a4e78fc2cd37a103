"""
Senders' domains on pages: how each is, what to publish, what to mend next.

Arrives: a tenant's domains and what is known of their health. Leaves: the list, and one page for each; looking again is a form.
Not here: the looking (tenants.domain_health), adding and removing domains, which the API and the command line do.
"""

from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost import ids
from gatepost.dashboard import score_view
from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.tenants.deliverability import Deliverability

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_TITLES: Final = {
    "dkim": "DKIM keys",
    "spf": "SPF",
    "spf_lookups": "SPF lookups",
    "spf_senders": "SPF names our addresses",
    "dmarc": "DMARC",
    "dmarc_policy": "DMARC policy",
    "dmarc_reports": "DMARC reports",
    "dmarc_alignment": "DMARC alignment",
    "mx": "Replies",
    "mta_sts": "MTA-STS",
    "tls_rpt": "TLS reports",
    "registration": "Registration",
    "source_ptr": "Name of the address",
    "source_ehlo": "EHLO name",
    "source_listing": "Blocklists",
}
_LOOKS: Final = {
    "ok": ("delivered", "ok"),
    "passed": ("delivered", "kept"),
    "warning": ("deferred", "could be better"),
    "failed": ("bounced", "failed"),
    "broken": ("bounced", "broken"),
    "unknown": ("queued", "not known"),
    "not_applicable": ("cancelled", "does not apply"),
    "verified": ("delivered", "verified"),
    "pending": ("deferred", "pending"),
    "published": ("delivered", "published"),
    "missing": ("bounced", "missing"),
    "different": ("bounced", "different"),
    "unchecked": ("queued", "not looked at"),
}
"""Colour and word of each result; the colours are those of messages."""
_PROVIDERS: Final = {"gmail": "Gmail", "yahoo": "Yahoo", "microsoft": "Microsoft"}


class DomainPages:
    """The pages about senders' domains."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List the tenant's domains with their health."""
        found = await self._deps.domain_health.overview(viewer_of(request).caller.tenant_id)
        return self._shell.page(request, "domains.html", domains=found, looks=_LOOKS)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one domain."""
        tenant_id, named = viewer_of(request).caller.tenant_id, domain_id(request)
        found = await self._deps.domain_health.get(tenant_id, named)
        view = await self._deps.domains.get(tenant_id, named)
        measuring = Deliverability(self._deps.engine, self._deps.clock, self._deps.domain_health, self._deps.settings)
        trend = await measuring.trend(tenant_id, named, score_view.SHOWN_DAYS)
        return self._shell.page(
            request, "domain.html", health=found, score=score_view.view(trend), records=view.records, titles=_TITLES, looks=_LOOKS,
            providers=_PROVIDERS, looked=request.query_params.get("done") == "looked",
        )  # fmt: skip

    async def look(self, request: AnyRequest) -> Response[Any]:
        """Look at a domain again."""
        named = domain_id(request)
        await self._deps.domain_health.get(viewer_of(request).caller.tenant_id, named, is_fresh=True)
        return Redirect(f"/domains/{named}?done=looked", status_code=303)


def domain_id(request: AnyRequest) -> str:
    """
    Return the id in the path.

    Raises:
        Refused: not_found: it can be none.
    """
    given = str(request.path_params["domain"])
    if not ids.is_valid(given, "dom"):
        raise Refused("not_found", "there is no such domain")
    return given


PAGES = (
    Page(method="GET", path="/domains", run=DomainPages.listing, scope=Scope.DOMAINS_READ),
    Page(method="GET", path="/domains/{domain:str}", run=DomainPages.show, scope=Scope.DOMAINS_READ),
    Page(method="POST", path="/domains/{domain:str}/look", run=DomainPages.look, scope=Scope.DOMAINS_WRITE),
)
