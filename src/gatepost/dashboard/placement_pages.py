"""
Where mail lands, on pages: the share that came into inboxes, by provider and day by day; tests, each with what its mailboxes got.

Arrives: a time, a domain; a form that begins a test. Leaves: pages; a test.
Not here: what a test is (placement), sums (store.placement), geometry (charts).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Instant, iso
from gatepost.dashboard import charts
from gatepost.dashboard.access import AnyRequest, viewer_of
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.lists import Cursor, Slice, cut, read_cursor
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.address import InvalidAddress, parse_mailbox
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Steering, Submission
from gatepost.domain.placement import Outcome, PlacementCounts, PlacementSummary
from gatepost.store import placement, tenants
from gatepost.tenants import narrowing

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps
    from gatepost.placement.sending import PlacementTests

SPANS: Final = {"7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
_LOOKS: Final = {
    "waiting": ("queued", "waiting"),
    "inbox": ("delivered", "inbox"),
    "spam": ("deferred", "spam"),
    "missing": ("bounced", "missing"),
    "unknown": ("cancelled", "not measured"),
}
"""Colour and word of each outcome; the colours are those of messages."""
_TESTS: Final = 25
_SUBJECT: Final = "Placement test"
_TEXT: Final = "This mail was sent to a mailbox of our own, to see where our mail lands.\n"


class PlacementPages:
    """The pages about where mail lands."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """Show where mail landed, and the tests."""
        return await self._list(request)

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show one test."""
        test_id, caller = str(request.path_params["placement_id"]), viewer_of(request).caller
        found = None
        if ids.is_valid(test_id, "plc"):
            found = await self._deps.engine.read(lambda conn: placement.get(conn, caller.tenant_id, test_id))
        names = narrowing.domains_of(caller.principal)
        if found is None or (names is not None and found.domain not in names):
            raise Refused("not_found", "there is no such placement test")
        counts = {one: sum(result.outcome.value == one for result in found.results) for one in _LOOKS}
        return self._shell.page(request, "placement_test.html", test=found, looks=_LOOKS, counts=counts)

    async def begin(self, request: AnyRequest) -> Response[Any]:
        """Begin a test."""
        form = await read_form(request)
        try:
            test = await self._tests().begin(viewer_of(request).caller, _submission(form))
        except Refused as refusal:
            return await self._list(request, faults=faults_of(refusal), values=form, status=refusal.kind.status)
        assert test is not None
        return Redirect(f"/placement/{test.id}", status_code=303)

    async def _list(
        self, request: AnyRequest, *, faults: Mapping[str, str] | None = None, values: Mapping[str, str] | None = None, status: int = 200
    ) -> Response[Any]:
        viewer, query, now = viewer_of(request), request.query_params, self._deps.clock.now()
        span = query["span"] if query.get("span") in SPANS else "30d"
        domain, cursor = query.get("domain", "")[:253] or None, read_cursor(request, "plc", _TESTS)
        names = narrowing.domains_of(viewer.caller.principal, domain)
        end = now - now % DAY + DAY
        start, tenant_id = end - SPANS[span], viewer.caller.tenant_id

        def read(conn: Connection) -> tuple[PlacementSummary, dict[Instant, PlacementCounts], Slice, list[str]]:
            own = sorted(one.name for one in tenants.domains(conn, tenant_id))
            return (
                placement.summary(conn, tenant_id, names, start, end), placement.by_day(conn, tenant_id, names, start, end),
                _page(conn, tenant_id, names, cursor), own,
            )  # fmt: skip

        summary, days, page, domains = await self._deps.engine.read(read)
        every = [days.get(at, PlacementCounts()) for at in range(start, end, DAY)]
        streams = sorted(self._deps.directory.streams(tenant_id))
        return self._shell.page(
            request, "placement.html", status=status, summary=summary, bars=_bars(every), told=_told(every), page=page, looks=_LOOKS,
            query={"span": span, "domain": domain or ""}, spans=SPANS, domains=domains, streams=streams, start=start, first=iso(start)[:10],
            last=iso(now)[:10], seeds=[(name, seed.provider or seed.address.rpartition("@")[2]) for name, seed in self._seeds],
            can_begin=self._deps.placement is not None and viewer.may(Scope.MESSAGES_SEND), faults=faults or {},
            values={"from": "", "subject": "", "stream": "transactional", **(values or {})}, usual=_SUBJECT,
        )  # fmt: skip

    def _tests(self) -> "PlacementTests":
        if self._deps.placement is None:
            raise Refused("conflict", "this gateway has no seeds: its operator names them in the settings as [seeds.NAME]")
        return self._deps.placement

    @property
    def _seeds(self) -> list[tuple[str, Any]]:
        return sorted(self._deps.settings.seeds.items())


def _page(conn: Connection, tenant_id: str, names: Any, cursor: Cursor) -> Slice:
    rows = placement.page(conn, tenant_id, cursor.size + 1, domains=names, after=cursor.after, before=cursor.before)
    return cut(rows, cursor)


def _submission(form: Mapping[str, str]) -> Submission:
    """
    Make a test's mail of a form.

    Raises:
        Refused: validation_failed: its sender is none.
    """
    try:
        sender = parse_mailbox(form.get("from", "").strip())
    except InvalidAddress as error:
        raise invalid(Fault("/from", "invalid_address", str(error))) from None
    steering = Steering(stream=form.get("stream") or "transactional")
    return Submission(sender=sender, subject=form.get("subject", "").strip() or _SUBJECT, text=_TEXT, steering=steering)


def _bars(days: Sequence[PlacementCounts]) -> list[charts.Bar]:
    """Stack each day's shares: what did not come in is seen at the top, however few mailboxes there are."""
    shares = [
        (kind, [(one.rate(outcome) or 0.0) * 100 for one in days])
        for kind, outcome in (("delivered", Outcome.INBOX), ("deferred", Outcome.SPAM), ("bounced", Outcome.MISSING))
    ]
    return charts.stacked(shares, 100.0)


def _told(days: Sequence[PlacementCounts]) -> str:
    measured = sum(one.measured for one in days)
    inbox = sum(one.inbox for one in days)
    with_tests = sum(bool(one.measured) for one in days)
    return f"{inbox} of {measured} mails came into an inbox, on {with_tests} of {len(days)} days with tests."


PAGES = (
    Page(method="GET", path="/placement", run=PlacementPages.listing, scope=Scope.STATS_READ),
    Page(method="POST", path="/placement", run=PlacementPages.begin, scope=Scope.MESSAGES_SEND),
    Page(method="GET", path="/placement/{placement_id:str}", run=PlacementPages.show, scope=Scope.STATS_READ),
)
