"""
`/reports/unsubscribe/TOKEN`: who gets a report by mail ends it, without signing in.

GET shows a page and changes nothing, since programs look at links in mail; POST ends the report, by the page's form or by a mail program's
one click. The token in the mail is all that it takes; a cookie changes nothing.
Standards: RFC 8058 §3.1, §3.2.
Not here: whose token it is (tenants.team_reports), the page's looks (preference_pages).
"""

from gatepost.domain.access import Actor, PrincipalKind
from gatepost.domain.errors import Refused
from gatepost.domain.team_report import RECEIVER, ReportSubscription
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request
from gatepost.http.public import preference_pages as pages
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.team_reports import LINK, TeamReports

_FORM_BYTES = 16 * 1024
_RETRY_S = 5
_KINDS = {"bounces": "Bounces, daily", "complaints": "Complaints, daily", "weekly": "Weekly report"}


async def show(request: Request) -> Answer:
    """Show what would be ended; changes nothing."""
    try:
        found = await _register(request).find(_token(request))
    except Refused:
        return pages.not_ours_page()
    except StorageUnavailable:
        return pages.busy_page(503, _RETRY_S)
    return _shown(found)


async def end(request: Request) -> Answer:
    """End a report."""
    await decode.read_bytes(request, _FORM_BYTES)  # whatever it says: the token and POST are what counts
    by = Actor(kind=PrincipalKind.LOCAL, id="receiver", name="the report's receiver", peer=request.peer, request_id=request.id)
    try:
        return _shown(await _register(request).unsubscribe(_token(request), by=by), is_news=True)
    except Refused:
        return pages.not_ours_page()
    except StorageUnavailable:
        return pages.busy_page(503, _RETRY_S)


def _shown(found: ReportSubscription, *, is_news: bool = False) -> Answer:
    facts = [("Report", _KINDS[found.kind.value])]
    if found.ended_at is not None:
        title = "The report has ended" if is_news or found.ended_by == RECEIVER else "The report has ended already"
        return pages.plain_page(title, ["It is not sent to you any more. On your account's page you can begin it again."], facts=facts)
    return pages.plain_page(
        "End this report?", ["Do you want this report no more?"], facts=facts, action="unsubscribe", button="End the report",
        kind="primary", note="Nothing has changed yet.",
    )  # fmt: skip


def _register(request: Request) -> TeamReports:
    deps = request.deps
    return TeamReports(deps.engine, deps.clock, deps.settings)


def _token(request: Request) -> str:
    return str(request.params["token"])[:200]


_PATH = LINK + "{token:str}"
_TOKEN = Parameter(name="token", place="path", description="as it stands in the mail", is_required=True)

ENDPOINTS = [
    Endpoint(
        method="GET", path=_PATH, run=show, name="showReportEnd", summary="Look at a report that can be ended", tag="reports",
        parameters=(_TOKEN,), answers={200: "text/html", 404: "text/html", 503: "text/html"}, is_public=True,
    ),
    Endpoint(
        method="POST", path=_PATH, run=end, name="endReport", summary="End a report by the link in its mail (RFC 8058)", tag="reports",
        parameters=(_TOKEN,), answers={200: "text/html", 404: "text/html", 503: "text/html"}, codes=("payload_too_large",), is_public=True,
    ),
]  # fmt: skip
