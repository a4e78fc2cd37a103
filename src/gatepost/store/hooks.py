"""
Hooks: calls of webhooks that wait, and the log of those that were made.

An event is written in the transaction of what it tells of, and stays; a webhook's owner reads events in the order of their
commits and makes a hook of each that is wanted, in one transaction with the note how far it read. So nothing is on the way
of mail, no event is lost, and none is made a hook twice. Of one message's hooks only the oldest that waits has its turn:
the others are due never, until it is done with.
Every function that writes for an owner is called after `webhooks.held`, whose lock keeps two of them apart.
Not here: what a call says (webhooks.payload), webhooks themselves (webhooks).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.domain.webhook import NEVER, HookStatus, Webhook
from gatepost.observe import maillog
from gatepost.store import bulk, facts, feed, messages, sealing, webhooks
from gatepost.store.errors import SealBroken
from gatepost.store.feed import Place, Wanted
from gatepost.store.schema import event, hook, message, webhook, webhook_state
from gatepost.store.sealing import UNREADABLE, day_of_id

_ALL = Wanted()
_WAITING: Any = sa.literal_column("'waiting'")
"""As text, so that the indexes of what waits are used."""
_BELONGS = hook.c.webhook_id == sa.bindparam("b_webhook_id")


class Waiting(NamedTuple):
    """A hook whose turn it is."""

    event_id: str
    message_id: str | None
    attempts: int
    seq: int


class Material(NamedTuple):
    """What an event is told with; message and address where it has them."""

    event: Row[Any]
    message: Row[Any] | None
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One call's end, for one hook.

    Attributes:
        due_at: When to try again; None when it is over.
        code: Status of the answer; None when there was none.
        answer: What was answered, or why nothing was; empty for a success.
    """

    webhook_id: str
    tenant_id: str
    event_id: str
    message_id: str | None
    seq: int
    status: HookStatus
    attempts: int
    due_at: Instant | None
    tried_at: Instant
    code: int | None
    latency_ms: int
    answer: str = ""


def collect(conn: Connection, owned: Webhook, state: Row[Any], limit: int, now: Instant) -> bool:
    """
    Make hooks of the events that came since the last look.

    Args:
        state: Of the webhook, as `webhooks.held` returned it.
        limit: Events that are looked at.

    Returns:
        Whether there are more.
    """
    place = Place(state.feed, state.event_id)
    part = feed.after(conn, owned.tenant_id, place, _ALL, limit)
    if part.place == place:
        return False
    found = _of_ids(conn, part.ids) if part.ids else {}
    wanted = [row for event_id in part.ids if owned.wants((row := found[event_id]).type, row.stream)]
    _insert(conn, owned, state.seq, wanted, now)
    webhooks.go_on(conn, owned.id, part.place, state.seq + len(wanted))
    return part.has_more


def _of_ids(conn: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    joined = event.outerjoin(message, message.c.id == event.c.message_id)
    statement = sa.select(event.c.id, event.c.type, event.c.message_id, message.c.stream).select_from(joined)
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(ids), 500):
        found |= {row.id: row for row in conn.execute(statement.where(event.c.id.in_(ids[start : start + 500])))}
    return found


def add(conn: Connection, owned: Webhook, event_id: str, kind: str, now: Instant) -> None:
    """Make a hook of one event of no message, whatever the webhook wants, at once."""
    state = webhooks.lock(conn, owned.id)
    if state is not None:
        row = {"webhook_id": owned.id, "event_id": event_id, "tenant_id": owned.tenant_id, "type": kind, "message_id": None}
        bulk.insert(conn, hook, [row | _fresh(state.seq + 1, now, now)])
        conn.execute(sa.update(webhook_state).where(webhook_state.c.webhook_id == owned.id).values(seq=state.seq + 1))


def _insert(conn: Connection, owned: Webhook, seq: int, events: Sequence[Row[Any]], now: Instant) -> None:
    if not events:
        return
    busy = set(_first_of(conn, owned.id, {row.message_id for row in events if row.message_id}))
    rows = []
    for number, one in enumerate(events, seq + 1):
        due_at = NEVER if one.message_id in busy else now
        if one.message_id:
            busy.add(one.message_id)
        row = {"webhook_id": owned.id, "event_id": one.id, "tenant_id": owned.tenant_id, "type": one.type, "message_id": one.message_id}
        rows.append(row | _fresh(number, due_at, now))
    bulk.insert(conn, hook, rows)


def _fresh(seq: int, due_at: Instant, now: Instant) -> dict[str, Any]:
    return {
        "seq": seq, "status": HookStatus.WAITING.value, "due_at": due_at, "attempts": 0, "created_at": now, "tried_at": None, "code": None,
        "latency_ms": None, "answer_sealed": None,
    }  # fmt: skip


def _first_of(conn: Connection, webhook_id: str, message_ids: Iterable[str]) -> dict[str, int]:
    """Return the number of the first hook that waits, for each message that has any."""
    wanted, columns = sorted(message_ids), hook.c
    found: dict[str, int] = {}
    for start in range(0, len(wanted), 500):
        statement = sa.select(columns.message_id, sa.func.min(columns.seq)).where(
            columns.webhook_id == webhook_id, columns.status == _WAITING,
            columns.message_id.in_(wanted[start : start + 500]),
        )  # fmt: skip
        found |= {row[0]: row[1] for row in conn.execute(statement.group_by(columns.message_id))}
    return found


def due(conn: Connection, webhook_id: str, now: Instant, limit: int) -> list[Waiting]:
    """List hooks whose turn it is, those due longest first."""
    columns = hook.c
    statement = (
        sa.select(columns.event_id, columns.message_id, columns.attempts, columns.seq)
        .where(columns.webhook_id == webhook_id, columns.status == _WAITING, columns.due_at <= now)
        .order_by(columns.due_at, columns.seq)
        .limit(limit)
    )
    return [Waiting(*row) for row in conn.execute(statement)]


def ready(conn: Connection, webhook_ids: Sequence[str], now: Instant, since: str) -> dict[str, tuple[bool, bool]]:
    """
    Tell of each webhook whether there are events that it has no hooks for yet, and whether any hook is due.

    Args:
        since: Id of an event: older ones are not looked for, so that old partitions need not be looked into each time.
    """
    state, columns = webhook_state.c, hook.c
    is_due = sa.exists().where(columns.webhook_id == state.webhook_id, columns.status == _WAITING, columns.due_at <= now)
    is_new = sa.exists().where(
        event.c.tenant_id == webhook.c.tenant_id, event.c.id >= since, *feed.visible(conn),
        sa.tuple_(event.c.feed, event.c.id) > sa.tuple_(state.feed, state.event_id),
    )  # fmt: skip
    joined = webhook_state.join(webhook, webhook.c.id == state.webhook_id)
    statement = sa.select(state.webhook_id, is_new.label("is_new"), is_due.label("is_due")).select_from(joined)
    return {row[0]: (bool(row[1]), bool(row[2])) for row in conn.execute(statement.where(state.webhook_id.in_(webhook_ids)))}


def materials(conn: Connection, event_ids: Sequence[str]) -> dict[str, Material]:
    """Load what some events are told with; those that are not kept any more are left out."""
    rows = []
    for start in range(0, len(event_ids), 500):
        rows += facts.opened_events(conn, sa.select(event).where(event.c.id.in_(event_ids[start : start + 500])))
    about = messages.by_id(conn, {row.message_id for row in rows if row.message_id})
    addresses = messages.addresses_at(conn, {(row.message_id, row.n) for row in rows if row.message_id and row.n is not None})
    return {row.id: Material(row, about.get(row.message_id or ""), addresses.get((row.message_id or "", row.n))) for row in rows}


_FINISH = (
    sa.update(hook)
    .where(_BELONGS, hook.c.event_id == sa.bindparam("b_event_id"))
    .values({name: sa.bindparam(name) for name in ("status", "attempts", "due_at", "tried_at", "code", "latency_ms", "answer_sealed")})
)
_RELEASE = (
    sa.update(hook)
    .where(
        _BELONGS, hook.c.status == _WAITING, hook.c.message_id == sa.bindparam("b_message_id"),
        hook.c.seq == sa.bindparam("b_seq"), hook.c.due_at == sa.literal_column(str(NEVER)),
    )
    .values(due_at=sa.bindparam("due_at"))
)  # fmt: skip


_HOLD = sa.update(hook).where(_BELONGS, hook.c.event_id == sa.bindparam("b_event_id")).values(due_at=sa.bindparam("due_at"))


def finish(conn: Connection, results: Sequence[Result], now: Instant) -> int:
    """Write how calls ended; return how many hooks have their turn by that."""
    rows = [
        {
            "b_webhook_id": one.webhook_id, "b_event_id": one.event_id, "status": one.status.value, "attempts": one.attempts,
            "due_at": one.due_at if one.due_at is not None else one.tried_at, "tried_at": one.tried_at, "code": one.code,
            "latency_ms": one.latency_ms, "answer_sealed": _sealed(conn, one),
        }
        for one in results
    ]  # fmt: skip
    bulk.execute(conn, _FINISH, rows)
    by_webhook: dict[str, list[Result]] = defaultdict(list)
    for one in results:
        if one.message_id:
            by_webhook[one.webhook_id].append(one)
    freed: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    for webhook_id, some in by_webhook.items():
        first = _first_of(conn, webhook_id, {one.message_id for one in some if one.message_id})
        freed += [
            {"b_webhook_id": webhook_id, "b_message_id": message_id, "b_seq": first[message_id], "due_at": now}
            for message_id in {one.message_id for one in some if one.due_at is None and one.message_id in first}
        ]
        # an earlier one may have been asked for again meanwhile
        held += [
            {"b_webhook_id": webhook_id, "b_event_id": one.event_id, "due_at": NEVER}
            for one in some
            if one.due_at is not None and first.get(one.message_id or "", one.seq) < one.seq
        ]
    bulk.execute(conn, _RELEASE, freed)
    bulk.execute(conn, _HOLD, held)
    return len(freed)


def _sealed(conn: Connection, one: Result) -> bytes | None:
    if not one.answer:
        return None
    ring = sealing.keyring_of(conn)
    day = day_of_id(one.event_id)
    ring.prepare(conn, [(one.tenant_id, day)])
    return ring.seal(conn, one.answer.encode(), one.tenant_id, f"hook/{one.webhook_id}/{one.event_id}", day)


def replay(
    conn: Connection, webhook_id: str, now: Instant, *, event_id: str | None = None, since: str = "", until: str = "~",
    status: HookStatus | None = None,
) -> int:  # fmt: skip
    """
    Let hooks that are over be sent again; return how many.

    Args:
        event_id: Only this one.
        since: Id of an event: none before it.
        until: Id of an event: none from it on.
        status: Only those that ended so.
    """
    columns = hook.c
    if webhooks.lock(conn, webhook_id) is None:
        return 0
    here = [columns.webhook_id == webhook_id, columns.status != "waiting", columns.event_id >= since, columns.event_id < until]
    if event_id is not None:
        here.append(columns.event_id == event_id)
    if status is not None:
        here.append(columns.status == status.value)
    count = conn.execute(sa.update(hook).where(*here).values(status="waiting", due_at=now, attempts=0)).rowcount
    _order(conn, webhook_id)
    return count


def _order(conn: Connection, webhook_id: str) -> None:
    """Give only the first hook of each message its turn."""
    columns, other = hook.c, hook.alias("other")
    is_later = sa.exists().where(
        other.c.webhook_id == columns.webhook_id, other.c.message_id == columns.message_id,
        other.c.status == _WAITING, other.c.seq < columns.seq,
    )  # fmt: skip
    waiting = (columns.webhook_id == webhook_id, columns.status == _WAITING, columns.message_id.is_not(None))
    conn.execute(sa.update(hook).where(*waiting, columns.due_at < NEVER, is_later).values(due_at=NEVER))


def page(
    conn: Connection, webhook_id: str, limit: int, *, after: str | None = None, before: str | None = None, status: str | None = None
) -> list[Row[Any]]:
    """List hooks, the newest first; `answer` is what was answered, as far as it is kept."""
    columns = hook.c
    statement = sa.select(hook).where(columns.webhook_id == webhook_id)
    if status is not None:
        statement = statement.where(columns.status == status)
    if before is not None:
        rows = conn.execute(statement.where(columns.event_id > before).order_by(columns.event_id).limit(limit)).all()[::-1]
    else:
        if after is not None:
            statement = statement.where(columns.event_id < after)
        rows = list(conn.execute(statement.order_by(columns.event_id.desc()).limit(limit)))
    names = [column.name for column in columns if column.name != "answer_sealed"]
    return sealing.rows(
        [*names, "id", "answer"], [(*(getattr(row, name) for name in names), row.event_id, _answer(conn, row)) for row in rows]
    )


def count(conn: Connection, webhook_id: str, status: str, at_most: int) -> int:
    """Count a webhook's hooks of one kind, up to a number."""
    some = sa.select(hook.c.seq).where(hook.c.webhook_id == webhook_id, hook.c.status == status).limit(at_most).subquery()
    return int(conn.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def get(conn: Connection, webhook_id: str, event_id: str) -> Row[Any] | None:
    """Return one hook, as `page` does."""
    found = page(conn, webhook_id, 1, after=event_id + "~")
    return found[0] if found and found[0].event_id == event_id else None


def _answer(conn: Connection, row: Row[Any]) -> str | None:
    if row.answer_sealed is None:
        return None
    try:
        place = f"hook/{row.webhook_id}/{row.event_id}"
        return sealing.unseal(conn, row.answer_sealed, tenant_id=row.tenant_id, place=place).decode()
    except SealBroken as error:
        maillog.trouble("a webhook's answer cannot be opened", error=str(error))
        return UNREADABLE
