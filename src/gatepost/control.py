"""
What a person can do with mail that is stored: cancel, retry, reschedule a message; pause and resume a site.

Arrives: tenant, message, wish; who wishes it.
Leaves: recipients in their new states with their events and the audit log's entry, in one transaction; or `Refused`.
Bugs: a recipient whose delivery is running at this very moment can be cancelled and still be delivered; its status then
ends as `delivered`, which is the truth.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain import route as routes
from gatepost.domain.access import Actor
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import Event, EventType
from gatepost.domain.recipient import TRANSITIONS, WAITING, Status
from gatepost.domain.stats import LEFT
from gatepost.settings import Settings
from gatepost.store import audit, counting, facts, messages, queue, sites
from gatepost.store.engine import Engine


class Control:
    """Changes to stored messages. No tenant (None) is the operator, who reaches every message."""

    def __init__(self, engine: Engine, settings: Settings, clock: Clock, on_changed: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._on_changed = on_changed

    async def cancel(self, tenant_id: str | None, message_id: str, *, by: Actor) -> int:
        """
        Cancel every recipient that still waits; return how many.

        Raises:
            Refused: not_found; conflict when none waits any more.
        """
        now = self._clock.now()
        return await self._engine.write(lambda conn: _cancel(conn, tenant_id, message_id, by, now))

    async def retry(self, tenant_id: str | None, message_id: str, *, by: Actor) -> int:
        """
        Try now: bring forward what is deferred, and give failed, expired and cancelled recipients another chance.

        Raises:
            Refused: not_found; conflict when nothing can be retried.
        """
        now = self._clock.now()
        expires_at = now + self._settings.retry.max_age_s * 1000
        count = await self._engine.write(lambda conn: _retry(conn, tenant_id, message_id, by, now, expires_at))
        self._on_changed()
        return count

    async def reschedule(self, tenant_id: str | None, message_id: str, scheduled_at: Instant, *, by: Actor) -> int:
        """
        Move a scheduled message to another time; return how many recipients moved.

        Raises:
            Refused: not_found; conflict when it is not scheduled; validation_failed when the time is too far ahead.
        """
        now = self._clock.now()
        ahead_s = self._settings.limits.schedule_ahead_s
        if scheduled_at > now + ahead_s * 1000:
            raise invalid(Fault("/scheduled_at", "too_far_ahead", f"a message may be scheduled at most {ahead_s // 86400} days ahead"))
        count = await self._engine.write(lambda conn: _reschedule(conn, tenant_id, message_id, max(scheduled_at, now), by, now))
        self._on_changed()
        return count

    async def record_view(self, tenant_id: str, message_id: str, *, by: Actor) -> None:
        """
        Record that somebody looks at the content of real mail, before they see it.

        Raises:
            StorageUnavailable: It cannot be recorded now: nothing may be shown.
        """
        now = self._clock.now()
        change = audit.Change(action="message.content_viewed", object_id=message_id, tenant_id=tenant_id)
        await self._engine.write(lambda conn: audit.append(conn, by, change, now))

    async def pause_site(self, site: str, note: str, *, by: Actor) -> None:
        """
        Stop deliveries to a site; mail for it waits.

        Raises:
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        await self._engine.write(lambda conn: _pause(conn, site, note, by, now))

    async def resume_site(self, site: str, *, by: Actor) -> bool:
        """
        Start deliveries to a site again; return whether it was paused.

        Raises:
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        was_paused = await self._engine.write(lambda conn: _resume(conn, site, by, now))
        self._on_changed()
        return was_paused


def _pause(conn: Connection, site: str, note: str, by: Actor, now: Instant) -> None:
    sites.pause(conn, site, now, note)
    audit.append(conn, by, audit.Change(action="site.paused", object_id=site, tenant_id=None, after={"note": note}), now)


def _resume(conn: Connection, site: str, by: Actor, now: Instant) -> bool:
    was_paused = sites.resume(conn, site)
    if was_paused:
        audit.append(conn, by, audit.Change(action="site.resumed", object_id=site, tenant_id=None), now)
    return was_paused


def _found(conn: Connection, tenant_id: str | None, message_id: str) -> tuple[Row[Any], list[Row[Any]]]:
    message = messages.get(conn, tenant_id, message_id)
    if message is None:
        raise Refused("not_found", "there is no such message")
    return message, messages.recipients_of(conn, [message_id])[message_id]


def _state(row: Row[Any], status: Status, now: Instant, *, is_final: bool) -> dict[str, Any]:
    return {
        "b_message_id": row.message_id,
        "b_n": row.n,
        "tenant_id": row.tenant_id,
        "status": status.value,
        "reason": None,
        "attempts": row.attempts,
        "last_reply": row.last_reply,
        "last_host": row.last_host,
        "updated_at": now,
        "final_at": now if is_final else None,
    }


def _event(kind: EventType, message: Row[Any], n: int | None, now: Instant, **data: Any) -> Event:
    return Event(id=ids.new("evt"), type=kind, tenant_id=message.tenant_id, at=now, message_id=message.id, n=n, data=data)


def _record(
    conn: Connection, by: Actor, action: str, message: Row[Any], now: Instant, before: dict[str, Any] | None, after: dict[str, Any]
) -> None:  # fmt: skip
    change = audit.Change(action=action, object_id=message.id, tenant_id=message.tenant_id, before=before, after=after)
    audit.append(conn, by, change, now)


def _cancel(conn: Connection, tenant_id: str | None, message_id: str, by: Actor, now: Instant) -> int:
    message, recipients = _found(conn, tenant_id, message_id)
    waiting = _locked(conn, message_id)
    rows = [row for row in recipients if row.n in waiting and Status(row.status) in WAITING]
    if not rows:
        raise Refused("conflict", "no recipient waits any more: nothing was cancelled")
    queue.delete(conn, [waiting[row.n] for row in rows])
    messages.update_recipients(conn, [_state(row, Status.CANCELLED, now, is_final=True) for row in rows])
    counting.count(conn, [counting.Change(message_id, row.n, ("cancelled",)) for row in rows], now)
    facts.insert_events(conn, [_event(EventType.CANCELLED, message, row.n, now) for row in rows])
    _record(conn, by, "message.cancelled", message, now, None, {"recipients": len(rows)})
    return len(rows)


def _locked(conn: Connection, message_id: str) -> dict[int, queue.Due]:
    """Return a message's queue rows by recipient number, safe from a settle that runs at the same time."""
    return {row.n: row for row in queue.of_message(conn, message_id, is_locking=True)}


def _retry(conn: Connection, tenant_id: str | None, message_id: str, by: Actor, now: Instant, expires_at: Instant) -> int:
    message, recipients = _found(conn, tenant_id, message_id)
    waiting = _locked(conn, message_id)
    rows = [row for row in recipients if _can_retry(row, waiting, now)]
    if not rows:
        raise Refused("conflict", "no recipient can be retried: all were delivered, are suppressed, or are due already")
    queue.delete(conn, [waiting[row.n] for row in rows if row.n in waiting])
    queue.insert(conn, [_due_now(message, row, waiting.get(row.n), now, expires_at) for row in rows])
    messages.update_recipients(conn, [_state(row, Status.QUEUED, now, is_final=False) for row in rows])
    counting.count(conn, [counting.Change(message_id, row.n, _left_by_retry(row)) for row in rows], now)
    facts.insert_events(conn, [_event(EventType.RETRIED, message, row.n, now) for row in rows])
    _record(conn, by, "message.retried", message, now, None, {"recipients": len(rows)})
    return len(rows)


def _left_by_retry(row: Row[Any]) -> list[str]:
    status = Status(row.status)
    return ["retried", LEFT[status]] if status in LEFT else ["retried"]


def _can_retry(row: Row[Any], waiting: dict[int, queue.Due], now: Instant) -> bool:
    status = Status(row.status)
    if status in WAITING:
        # what is due already may be on its way at this moment: moving it would send it twice
        return status is Status.DEFERRED and row.n in waiting and waiting[row.n].due_at > now
    return Status.QUEUED in TRANSITIONS[status]


def _due_now(message: Row[Any], row: Row[Any], waits: queue.Due | None, now: Instant, expires_at: Instant) -> dict[str, Any]:
    if waits is not None:
        return {**waits._asdict(), "due_at": now}
    # the delivery of a cancelled recipient may still be running: its attempt number stays free for it
    attempt = row.attempts + (2 if row.status == Status.CANCELLED.value else 1)
    return {
        "shard": routes.shard_of(routes.DEFAULT_POOL, row.site),
        "lane": message.lane,
        "due_at": now,
        "message_id": message.id,
        "n": row.n,
        "tenant_id": message.tenant_id,
        "pool": routes.DEFAULT_POOL,
        "site": row.site,
        "attempt": attempt,
        "retries": 0,
        "expires_at": expires_at,
        "tried": 0,
    }


def _reschedule(conn: Connection, tenant_id: str | None, message_id: str, scheduled_at: Instant, by: Actor, now: Instant) -> int:
    message, recipients = _found(conn, tenant_id, message_id)
    waiting = _locked(conn, message_id)
    rows = [row for row in recipients if row.status == Status.SCHEDULED.value and row.n in waiting and waiting[row.n].due_at > now]
    if not rows:
        raise Refused("conflict", "the message is not scheduled any more: its time cannot be changed")
    lifetime = message.expires_at - (message.scheduled_at or message.created_at)
    queue.delete(conn, [waiting[row.n] for row in rows])
    queue.insert(conn, [{**waiting[row.n]._asdict(), "due_at": scheduled_at, "expires_at": scheduled_at + lifetime} for row in rows])
    messages.reschedule(conn, message_id, scheduled_at, scheduled_at + lifetime)
    facts.insert_events(conn, [_event(EventType.SCHEDULED, message, None, now, scheduled_at=scheduled_at)])
    _record(conn, by, "message.rescheduled", message, now, {"scheduled_at": message.scheduled_at}, {"scheduled_at": scheduled_at})
    return len(rows)
