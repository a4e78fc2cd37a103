"""
What receivers report of a domain: `GET /v1/domains/{domain}/dmarc` and `/tls-reports`.

Not here: how reports come (returns.mail), what they come to (tenants.domain_reports).
"""

import msgspec
from msgspec import Struct

from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, invalid
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1.domains import DOMAIN, which
from gatepost.tenants.domain_reports import DomainReports

_MOST_SOURCES = 500


class DmarcAdvice(Struct, kw_only=True, frozen=True):
    """One cause of failures and what mends it."""

    code: str
    messages: int
    problem: str
    fix: str


class DmarcSource(Struct, kw_only=True, frozen=True):
    """Mail of one address in the name of the domain, as receivers saw it."""

    source_ip: str
    header_from: str
    messages: int
    passed: int
    failed: int
    dkim_aligned: int
    spf_aligned: int
    dispositions: dict[str, int]
    reporters: list[str]
    is_ours: bool
    advice: list[DmarcAdvice]


class DmarcAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="dmarc_summary"):
    """DMARC aggregates of some days, summed up by source; those with most failures first."""

    domain: str
    days: int
    reports: int
    messages: int
    passed: int
    sources: list[DmarcSource]


class TlsTroubleAnswer(Struct, kw_only=True, frozen=True):
    """Sessions that failed alike at one host."""

    result_type: str
    host: str
    sessions: int
    problem: str
    fix: str


class TlsReportsAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="tls_summary"):
    """What senders met when they brought mail to the domain (RFC 8460)."""

    domain: str
    days: int
    reports: int
    successful: int
    failed: int
    reporters: list[str]
    troubles: list[TlsTroubleAnswer]


async def dmarc(request: Request) -> Answer:
    """Sum DMARC reports up."""
    days = _days(request)
    found = await _reports(request).dmarc(request.caller.tenant_id, await which(request), days)
    sources = [msgspec.convert({**msgspec.to_builtins(one), "failed": one.failed}, DmarcSource) for one in found.sources[:_MOST_SOURCES]]
    return as_json(
        DmarcAnswer(
            domain=found.domain.name, days=days, reports=found.reports, messages=found.messages, passed=found.passed, sources=sources
        )
    )  # fmt: skip


async def tls_reports(request: Request) -> Answer:
    """Sum TLS reports up."""
    days = _days(request)
    view = await _reports(request).tls(request.caller.tenant_id, await which(request), days)
    found = view.summary
    told = [] if found is None else [msgspec.convert(msgspec.to_builtins(one), TlsTroubleAnswer) for one in found.troubles]
    return as_json(
        TlsReportsAnswer(
            domain=view.domain.name, days=days, reports=view.reports, successful=found.successful if found else 0,
            failed=found.failed if found else 0, reporters=list(found.reporters) if found else [], troubles=told,
        )
    )  # fmt: skip


def _days(request: Request) -> int:
    text = request.query("days").get("days", "30")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 90):
        raise invalid(Fault("days", "invalid_value", "from 1 to 90"))
    return int(text)


def _reports(request: Request) -> DomainReports:
    deps = request.deps
    return DomainReports(deps.engine, deps.clock, deps.settings, deps.domains)


_DAYS = Parameter(
    name="days", place="query", description="of the last so many days",
    schema={"type": "integer", "minimum": 1, "maximum": 90, "default": 30},
)  # fmt: skip
_CODES = ("not_found", "conflict", "validation_failed")

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/domains/{domain:str}/dmarc",
        run=dmarc,
        name="getDmarcSummary",
        scope=Scope.DOMAINS_READ,
        summary="Who sends in the domain's name, and why it fails",
        tag="domains",
        description="From DMARC aggregate reports that came to dmarc@ at inbound.bounce_domain.",
        answers={200: DmarcAnswer},
        parameters=(DOMAIN, _DAYS),
        codes=_CODES,
    ),
    Endpoint(
        method="GET",
        path="/v1/domains/{domain:str}/tls-reports",
        run=tls_reports,
        name="getTlsReportSummary",
        scope=Scope.DOMAINS_READ,
        summary="What senders met at the domain's mail servers",
        tag="domains",
        description="From TLS reports (RFC 8460) that came to tlsrpt@ at inbound.bounce_domain.",
        answers={200: TlsReportsAnswer},
        parameters=(DOMAIN, _DAYS),
        codes=_CODES,
    ),
]
