"""
What tells senders' teams, in a door process: scores written down, unusual changes, reports by mail.

Arrives: the settings, the acceptor. Leaves: loops. Several door processes may run them; each work has one owner at a time.
Not here: the work (upkeep.scores, upkeep.unusual, upkeep.team_reports).
"""

from collections.abc import Awaitable, Callable

from gatepost.accept import Acceptor
from gatepost.accept.answers import AcceptedMessage, Idempotency
from gatepost.app.base import Base
from gatepost.domain.message import Submission
from gatepost.domain.tenant import Caller
from gatepost.ids import new
from gatepost.settings import InvalidSettings
from gatepost.tenants.deliverability import Deliverability
from gatepost.tenants.domain_health import DomainHealth
from gatepost.upkeep import scores, unusual
from gatepost.upkeep.scores import ScoreKeeping
from gatepost.upkeep.unusual import UnusualWatch


def tell_teams(base: Base, acceptor: Acceptor, health: DomainHealth) -> Callable[[], Awaitable[None]]:
    """
    Begin; return what lets other processes do it at the end.

    Raises:
        InvalidSettings: `reports.sender` is no address.
    """
    owner, settings = new("node"), base.settings
    measuring = Deliverability(base.engine, base.clock, health, settings)
    keeping = ScoreKeeping(base.engine, base.clock, measuring, settings.deliverability, owner)
    watch = UnusualWatch(base.engine, base.clock, settings.unusual, owner)
    if settings.deliverability.every_s:
        base.repeat("deliverability scores", scores.STEP_S, keeping.step)
    if settings.unusual.every_s:
        base.repeat("unusual changes", unusual.STEP_S, watch.step)
    if settings.reports.sender:
        _send_reports(base, acceptor, owner)
    return watch.close  # by the owner's name, whatever it holds


def _send_reports(base: Base, acceptor: Acceptor, owner: str) -> None:
    from gatepost.upkeep import team_reports  # noqa: PLC0415 - most gateways send none

    async def submit(caller: Caller, submission: Submission, key: str) -> str:
        accepted = await acceptor.submit(caller, submission, Idempotency(key=key, request_hash=team_reports.key_hash(key)))
        message = accepted.results[0]
        assert isinstance(message, AcceptedMessage)
        return message.id

    try:
        sending = team_reports.TeamReportSending(
            engine=base.engine, clock=base.clock, options=base.settings.reports, directory=base.directory, submit=submit, owner=owner,
            pages=base.settings.dashboard.url,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidSettings(str(error)) from error
    base.repeat("team reports", team_reports.STEP_S, sending.step)
