"""
Where is my mail, and why?

Arrives: a message's id.
Leaves: for the message and each of its recipients a cause with a stable code, one sentence, and the evidence: state, next attempt,
the other side's words, what holds it.
Not here: which cause it is (waiting, ended).
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Clock, Instant, iso
from gatepost.domain.recipient import Status, message_status
from gatepost.domain.route import UNRESOLVED
from gatepost.explain.ended import how
from gatepost.explain.waiting import MOST_AHEAD, Surroundings, Told, why
from gatepost.store import flows, leases, messages, queue, queue_actions, roads, shaping, sites, systems, tenants
from gatepost.store.engine import Engine


class RecipientExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where one recipient stands.

    Attributes:
        cause: Stable code: the status of what has ended; else what it waits for, such as `scheduled`, `retry`, `site_suspended`,
            `rate_reached`, `warm_up_cap`, `breaker_open`, `dns_failing`, `held`, `tenant_suspended`, `site_paused`, `tenant_turn`,
            `no_dispatcher`, `turn`.
        evidence: Facts that the sentence is made of, by name; times as ISO 8601.
    """

    id: str
    n: int
    address: str
    status: str
    cause: str
    sentence: str
    evidence: dict[str, Any]
    next_attempt_at: Instant | None
    attempts: int
    last_reply: str | None
    last_host: str | None
    site: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands; cause and sentence are those of the recipient that is worst off."""

    message_id: str
    status: str
    cause: str
    sentence: str
    recipients: list[RecipientExplanation]


async def explain(engine: Engine, clock: Clock, tenant_id: str | None, message_id: str) -> Explanation | None:
    """
    Explain a message; None when the tenant has no such message.

    Args:
        tenant_id: None is the operator, who sees every message.

    Raises:
        StorageUnavailable: The database cannot be used now.
    """
    now = clock.now()
    return await engine.read(lambda conn: _explain(conn, tenant_id, message_id, now))


def _explain(conn: Connection, tenant_id: str | None, message_id: str, now: Instant) -> Explanation | None:
    message = messages.get(conn, tenant_id, message_id)
    if message is None:
        return None
    waiting = {row.n: row for row in queue.of_message(conn, message_id)}
    around = _surroundings(conn, message.tenant_id, waiting, now, shows_signals=tenant_id is None)
    rows = messages.recipients_of(conn, [message_id])[message_id]
    told = [_recipient(message, row, waiting.get(row.n), around) for row in rows]
    status = message_status([Status(row.status) for row in rows]).value
    worst = next(one for one in told if one.status == status)
    return Explanation(message_id=message_id, status=status, cause=worst.cause, sentence=_overall(told, worst), recipients=told)


def _surroundings(conn: Connection, tenant_id: str, waiting: dict[int, queue.Due], now: Instant, *, shows_signals: bool) -> Surroundings:
    """Look up what may hold mail; nothing where none waits."""
    if not waiting:
        return Surroundings(now=now)
    tenant = tenants.find_tenant(conn, tenant_id)
    due = [row for row in waiting.values() if row.planned_at <= now and not row.site.startswith(UNRESOLVED)]
    unknown = sorted({row.site.removeprefix(UNRESOLVED) for row in waiting.values() if row.site.startswith(UNRESOLVED)})
    return Surroundings(
        now=now,
        suspended_at=tenant.suspended_at if tenant else None,
        paused=sites.paused(conn),
        is_dispatched=leases.is_any_valid(conn, now),
        flows=shaping.states(conn, sites=sorted({row.site for row in due})) if due else (),
        roads=roads.views(conn, now) if due else {},
        shows_signals=shows_signals,
        failing=systems.failing(conn, unknown) if unknown else {},
        held_by=_holder(conn, waiting),
        ahead={row.n: flows.ahead(conn, row, MOST_AHEAD) for row in due},
    )


def _holder(conn: Connection, waiting: dict[int, queue.Due]) -> str:
    """Say who holds what is held by hand, when, and why; empty where nobody knows any more."""
    held = next((row for row in waiting.values() if row.is_held_by_hand), None)
    action = queue_actions.holder(conn, held) if held is not None else None
    if action is None:
        return ""
    return f"{action.actor_name or action.actor_id} since {iso(action.created_at)}" + (f" ({action.note})" if action.note else "")


def _recipient(message: Row[Any], row: Row[Any], waits: queue.Due | None, around: Surroundings) -> RecipientExplanation:
    if waits is None:
        told = Told(cause=row.status, sentence=how(message, row))
    else:
        said = f" {row.last_host or 'The last attempt'} said: {row.last_reply}." if row.last_reply else ""
        told = why(row.status, waits, row.attempts, said, around)
    return RecipientExplanation(
        id=ids.recipient_id(row.message_id, row.n),
        n=row.n,
        address=row.address,
        status=row.status,
        cause=told.cause,
        sentence=told.sentence,
        evidence=dict(told.evidence),
        next_attempt_at=waits.planned_at if waits and told.cause not in {"tenant_suspended", "held"} else None,
        attempts=row.attempts,
        last_reply=row.last_reply,
        last_host=row.last_host,
        site=row.site,
    )


def _overall(told: list[RecipientExplanation], worst: RecipientExplanation) -> str:
    if len(told) == 1:
        return worst.sentence
    same = sum(one.status == worst.status for one in told)
    return f"{same} of {len(told)} recipients {'is' if same == 1 else 'are'} {worst.status}. {worst.address}: {worst.sentence}"
