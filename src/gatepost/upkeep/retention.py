"""
Forgets what nobody needs any more, once an hour: each kind by its own setting.

Arrives: the settings, the clock. Leaves: fewer rows. What has an owner of its own is forgotten by it: scores (upkeep.scores), unusual
changes (upkeep.unusual), counts (upkeep.rollups), hooks (webhooks.loop).
Not here: messages and what happened to them, which are kept until there is a retention of mail; the audit log, which is whole or worthless.
"""

from typing import Final

from sqlalchemy import Connection

from gatepost.clock import DAY, Instant
from gatepost.settings import Settings
from gatepost.store import (
    domain_reports,
    engagement,
    idempotency,
    inbound,
    mailboxes,
    placement,
    relay_listed,
    reports,
    suppressions,
    systems,
    team_reports,
    tokens,
)

MAIL_WAITS_DAYS: Final = 61
"""Mail may be scheduled and retried for so long before it leaves with links and pixels, whose time begins then."""
_REPORTS_SENT_DAYS: Final = 100


def forget(conn: Connection, settings: Settings, now: Instant) -> None:
    """Forget what is old; safe to run at any time, by several processes."""
    idempotency.purge(conn, now)
    tokens.purge(conn, now)
    systems.purge(conn, now)
    reports.purge(conn, now)
    feedback = settings.feedback
    inbound.purge(conn, now - settings.inbound.keep_days * DAY)
    domain_reports.purge(conn, now - feedback.keep_reports_days * DAY)
    suppressions.purge(conn, now - feedback.keep_ended_days * DAY, now - feedback.keep_lifted_days * DAY)
    relay_listed.purge(conn)
    mailboxes.purge(conn, now)
    engagement.purge(conn, now, settings.tracking.days + MAIL_WAITS_DAYS)
    placement.purge(conn, now, settings.placement.keep_days)
    team_reports.purge(conn, now - _REPORTS_SENT_DAYS * DAY)
