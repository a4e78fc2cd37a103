"""
Where is my mail, and why?

Arrives: a message's id.
Leaves: one sentence for each recipient, and the evidence: state, next attempt, the other side's words, what holds it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Clock, Instant, iso
from gatepost.domain.recipient import Status, message_status
from gatepost.settings import Settings
from gatepost.store import leases, messages, queue, sites, tenants
from gatepost.store.engine import Engine


class RecipientExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where one recipient stands.

    Attributes:
        holding: Why it is not being tried now: `scheduled`, `retry`, `tenant_suspended`, `site_paused`, `no_dispatcher`,
            `turn`; None when there is nothing more to do.
    """

    id: str
    n: int
    address: str
    status: str
    summary: str
    next_attempt_at: Instant | None
    attempts: int
    last_reply: str | None
    last_host: str | None
    site: str
    holding: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands."""

    message_id: str
    status: str
    summary: str
    recipients: list[RecipientExplanation]


async def explain(engine: Engine, settings: Settings, clock: Clock, tenant_id: str | None, message_id: str) -> Explanation | None:
    """
    Explain a message; None when the tenant has no such message.

    Args:
        tenant_id: None is the operator, who sees every message.

    Raises:
        StorageUnavailable: The database cannot be used now.
    """
    now = clock.now()
    return await engine.read(lambda conn: _explain(conn, settings, tenant_id, message_id, now))


def _explain(conn: Connection, settings: Settings, tenant_id: str | None, message_id: str, now: Instant) -> Explanation | None:
    message = messages.get(conn, tenant_id, message_id)
    if message is None:
        return None
    waiting = {row.n: row for row in queue.of_message(conn, message_id)}
    tenant = tenants.find_tenant(conn, message.tenant_id) if waiting else None
    held = _Held(
        suspended_at=tenant.suspended_at if tenant else None,
        paused=sites.paused(conn) if waiting else {},
        is_dispatched=not waiting or leases.is_any_valid(conn, now),
    )
    rows = messages.recipients_of(conn, [message_id])[message_id]
    told = [_recipient(message, row, waiting.get(row.n), held, now) for row in rows]
    status = message_status([Status(row.status) for row in rows])
    return Explanation(message_id=message_id, status=status.value, summary=_overall(told, status), recipients=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What may hold a recipient whose time has come."""

    suspended_at: Instant | None
    paused: dict[str, Instant]
    is_dispatched: bool


def _recipient(message: Row[Any], row: Row[Any], waits: queue.Due | None, held: _Held, now: Instant) -> RecipientExplanation:
    holding = None if waits is None else _holding(row, waits, held, now)
    summary = _ended(message, row) if waits is None or holding is None else _waiting(row, waits, holding, held, now)
    return RecipientExplanation(
        id=ids.recipient_id(row.message_id, row.n),
        n=row.n,
        address=row.address,
        status=row.status,
        summary=summary,
        next_attempt_at=waits.planned_at if waits and holding != "tenant_suspended" else None,
        attempts=row.attempts,
        last_reply=row.last_reply,
        last_host=row.last_host,
        site=row.site,
        holding=holding,
    )


def _holding(row: Row[Any], waits: queue.Due, held: _Held, now: Instant) -> str:
    if held.suspended_at is not None:
        return "tenant_suspended"
    if waits.site in held.paused:
        return "site_paused"
    if not held.is_dispatched:
        return "no_dispatcher"
    if waits.planned_at > now:
        return "scheduled" if row.status == Status.SCHEDULED.value else "retry"
    return "turn"


def _waiting(row: Row[Any], waits: queue.Due, holding: str, held: _Held, now: Instant) -> str:
    said = f" {row.last_host or 'The last attempt'} said: {row.last_reply}." if row.last_reply else ""
    until = waits.planned_at - now
    match holding:
        case "tenant_suspended":
            since = _span(now - (held.suspended_at or now))
            return f"Held: the tenant was suspended {since} ago; it goes on when the tenant is resumed.{said}"
        case "site_paused":
            return f"Held: deliveries to {waits.site} were paused {_span(now - held.paused[waits.site])} ago.{said}"
        case "no_dispatcher":
            return f"Waiting: no dispatch process is running.{said}"
        case "scheduled":
            return f"Scheduled for {iso(waits.planned_at)}, in {_span(until)}."
        case "retry":
            ends = f"; it expires in {_span(waits.expires_at - now)}" if waits.expires_at > now else ""
            return f"Deferred after {_times(row.attempts)}; the next attempt is in {_span(until)}{ends}.{said}"
        case _:
            return f"Due since {_span(-until)}: waiting for a free connection to {waits.site}, or being delivered now.{said}"


def _ended(message: Row[Any], row: Row[Any]) -> str:
    took = _span((row.final_at or row.updated_at) - (message.scheduled_at or message.created_at))
    host = row.last_host or "the next system"
    match Status(row.status):
        case Status.DELIVERED:
            return f"Delivered after {took}: {host} took it with {row.last_reply!r}."
        case Status.SENT:
            return f"Sent after {took}: the relay {host} took it with {row.last_reply!r}."
        case Status.BOUNCED:
            return f"Bounced ({row.reason}) after {_times(row.attempts)}: {row.last_reply}."
        case Status.SUPPRESSED:
            return f"Suppressed: not sent, because the address is on the suppression list ({row.reason})."
        case Status.EXPIRED:
            return f"Expired after {_times(row.attempts)}, {took} after it was due." + (
                f" Last answer: {row.last_reply}." if row.last_reply else ""
            )
        case Status.CANCELLED:
            return f"Cancelled after {_times(row.attempts)}."
        case _:
            return "Its delivery is being recorded at this moment."


def _overall(told: list[RecipientExplanation], status: Status) -> str:
    if len(told) == 1:
        return told[0].summary
    worst = next(one for one in told if one.status == status.value)
    same = sum(one.status == status.value for one in told)
    return f"{same} of {len(told)} recipients {'is' if same == 1 else 'are'} {status.value}. {worst.address}: {worst.summary}"


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _span(milliseconds: int) -> str:
    """Write a duration with one unit, or two above an hour."""
    if milliseconds < SECOND:
        return f"{max(milliseconds, 0)} ms"
    if milliseconds < MINUTE:
        return f"{milliseconds / SECOND:.0f} s"
    if milliseconds < HOUR:
        return f"{milliseconds / MINUTE:.0f} min"
    hours, rest = divmod(milliseconds, HOUR)
    if milliseconds < 2 * DAY:
        return f"{hours} h {rest // MINUTE} min"
    return f"{milliseconds // DAY} days {hours % 24} h"
