"""
Actions on the queue with their progress, and the rows that they are about.

An action is done shard by shard; how far each is stands in a row of its own, written together with what was done.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.queue_action import Filter, Kind, QueueAction, filter_of
from gatepost.domain.route import SHARDS, road_at
from gatepost.store import messages
from gatepost.store.queue_row import COLUMNS, HELD, HELD_BY_HAND, Due
from gatepost.store.schema import message, message_tag, queue, queue_action, queue_action_shard, recipient

Place = tuple[int, Instant, str, int]
"""Lane, due time, message, number: where a shard was left."""

START: Place = (-1, 0, "", -1)


class Progress(NamedTuple):
    """How far a shard is."""

    place: Place
    changed: int
    is_finished: bool


def insert(conn: Connection, action: QueueAction) -> None:
    """Add an action."""
    row = {
        "id": action.id, "tenant_id": action.tenant_id, "kind": action.kind.value, "filter": action.filter.as_dict(),
        "route": action.route, "note": action.note, "actor_id": action.actor_id, "actor_name": action.actor_name,
        "created_at": action.created_at, "finished_at": None,
    }  # fmt: skip
    conn.execute(sa.insert(queue_action), [row])


def latest(conn: Connection, tenant_id: str | None, limit: int = 100, *, action_id: str | None = None) -> list[QueueAction]:
    """
    List actions, the newest first.

    Args:
        tenant_id: Only this tenant's; None is all.
        action_id: Only this one.
    """
    statement = sa.select(queue_action).order_by(queue_action.c.created_at.desc(), queue_action.c.id.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(queue_action.c.tenant_id == tenant_id)
    if action_id is not None:
        statement = statement.where(queue_action.c.id == action_id)
    return _with_changed(conn, conn.execute(statement).all())


def unfinished(conn: Connection) -> list[QueueAction]:
    """List the actions that are being done, the oldest first."""
    rows = conn.execute(sa.select(queue_action).where(queue_action.c.finished_at.is_(None)).order_by(queue_action.c.created_at))
    return _with_changed(conn, rows.all())


def _with_changed(conn: Connection, rows: Sequence[Any]) -> list[QueueAction]:
    ids = [row.id for row in rows]
    columns = queue_action_shard.c
    counted = sa.select(columns.action_id, sa.func.sum(columns.changed)).where(columns.action_id.in_(ids)).group_by(columns.action_id)
    changed = {action_id: int(count) for action_id, count in conn.execute(counted)} if ids else {}
    return [
        QueueAction(
            id=row.id, tenant_id=row.tenant_id, kind=Kind(row.kind), filter=filter_of(row.filter), route=row.route, note=row.note,
            actor_id=row.actor_id, actor_name=row.actor_name, created_at=row.created_at, changed=changed.get(row.id, 0),
            finished_at=row.finished_at,
        )
        for row in rows
    ]  # fmt: skip


def progress(conn: Connection, action_id: str) -> dict[int, Progress]:
    """Return how far an action is in the shards that were begun."""
    rows = conn.execute(sa.select(queue_action_shard).where(queue_action_shard.c.action_id == action_id))
    return {row.shard: Progress(_place(row.place), row.changed, row.finished_at is not None) for row in rows}


def _place(found: Sequence[Any]) -> Place:
    lane, due_at, message_id, n = found
    return lane, due_at, message_id, n


def advance(conn: Connection, action_id: str, shard: int, place: Place, changed: int, finished_at: Instant | None) -> None:
    """Write down how far a shard is; `changed` more recipients were reached."""
    here = sa.and_(queue_action_shard.c.action_id == action_id, queue_action_shard.c.shard == shard)
    values = {"place": list(place), "changed": queue_action_shard.c.changed + changed, "finished_at": finished_at}
    if not conn.execute(sa.update(queue_action_shard).where(here).values(**values)).rowcount:
        row = {"action_id": action_id, "shard": shard, "place": list(place), "changed": changed, "finished_at": finished_at}
        conn.execute(sa.insert(queue_action_shard), [row])


def finish(conn: Connection, action_id: str, now: Instant) -> bool:
    """End an action if it is done in every shard; return whether it was by this."""
    columns = queue_action_shard.c
    done = (
        sa.select(sa.func.count()).select_from(queue_action_shard).where(columns.action_id == action_id, columns.finished_at.is_not(None))
    )
    if conn.execute(done).scalar_one() < SHARDS:
        return False
    ended = sa.update(queue_action).where(queue_action.c.id == action_id, queue_action.c.finished_at.is_(None)).values(finished_at=now)
    return bool(conn.execute(ended).rowcount)


def candidates(
    conn: Connection, action: QueueAction, shard: int, place: Place, limit: int
) -> tuple[list[tuple[Due, bool]], bool]:  # fmt: skip
    """
    Read rows of a shard that an action may be about, in their order.

    Returns:
        Rows, each with whether it matches what the database cannot tell; and whether there may be more.
    """
    columns = [queue.c[name] for name in COLUMNS]
    key = sa.tuple_(queue.c.lane, queue.c.due_at, queue.c.message_id, queue.c.n)
    statement = (
        sa.select(*columns)
        .where(queue.c.shard == shard, key > sa.tuple_(*[sa.literal(one) for one in place]), *_conditions(action))
        .order_by(queue.c.lane, queue.c.due_at, queue.c.message_id, queue.c.n)
        .limit(limit)
    )
    rows = [Due._make(row) for row in conn.execute(statement)]
    return list(zip(rows, _matching(conn, action.filter, rows), strict=True)), len(rows) >= limit


def count(conn: Connection, action: QueueAction, most: int) -> tuple[int, bool]:
    """
    Count what an action would reach.

    Args:
        most: So many rows are looked at, at most, where recipients' addresses have to be opened.

    Returns:
        The number, and whether it is exact.
    """
    if action.filter.recipient is None and action.filter.route is None:
        return int(conn.execute(sa.select(sa.func.count()).select_from(queue).where(*_conditions(action))).scalar_one()), True
    rows = [Due._make(row) for row in conn.execute(sa.select(*[queue.c[name] for name in COLUMNS]).where(*_conditions(action)).limit(most))]
    return sum(_matching(conn, action.filter, rows)), len(rows) < most


def _conditions(action: QueueAction) -> list[sa.ColumnElement[bool]]:
    """Say in SQL what an action is about; mail that was accepted after it is not."""
    wanted = action.filter
    conditions: list[sa.ColumnElement[bool]] = []
    if action.kind is Kind.RELEASE:
        conditions.append(queue.c.due_at.between(HELD_BY_HAND, HELD - 1))
    elif action.kind is Kind.HOLD:
        conditions.append(queue.c.due_at < HELD_BY_HAND)
    if action.tenant_id is not None:
        conditions.append(queue.c.tenant_id == action.tenant_id)
    if wanted.site is not None:
        conditions.append(queue.c.site == wanted.site)
    inner = [message.c.id == queue.c.message_id, message.c.created_at < min(action.created_at + 1, wanted.before or action.created_at + 1)]
    if action.kind is Kind.REROUTE:
        inner.append(message.c.is_sandbox.is_(sa.false()))
    if wanted.stream is not None:
        inner.append(message.c.stream == wanted.stream)
    if wanted.sender is not None:
        inner.append(message.c.from_domain == wanted.sender)
    if wanted.tag is not None:
        tags = message_tag.c
        tagged = sa.select(sa.literal(1)).where(
            tags.tenant_id == queue.c.tenant_id, tags.tag == wanted.tag, tags.message_id == message.c.id
        )
        inner.append(tagged.exists())
    conditions.append(sa.select(sa.literal(1)).select_from(message).where(*inner).exists())
    return conditions


def _matching(conn: Connection, wanted: Filter, rows: Sequence[Due]) -> list[bool]:
    """Tell of each row whether it matches what SQL cannot see: its road, and its recipient's domain, which is sealed."""
    matches = [wanted.route is None or str(road_at(row.pool, row.site)) == wanted.route for row in rows]
    if wanted.recipient is None:
        return matches
    ids = list(dict.fromkeys(row.message_id for row, is_match in zip(rows, matches, strict=True) if is_match))
    found = messages.addresses(conn, ids)
    domains = [fact.address.rpartition("@")[2] if (fact := found.get((row.message_id, row.n))) else "" for row in rows]
    return [is_match and domain == wanted.recipient for is_match, domain in zip(matches, domains, strict=True)]


def unchanged(conn: Connection, rows: Sequence[Due]) -> list[Due]:
    """Return those rows that are still exactly where they were, and keep them so until the transaction ends."""
    found: set[tuple[int, int, Instant, str, int]] = set()
    columns = (queue.c.shard, queue.c.lane, queue.c.due_at, queue.c.message_id, queue.c.n)
    for start in range(0, len(rows), 250):
        keys = [(row.message_id, row.n) for row in rows[start : start + 250]]
        statement = sa.select(*columns).where(sa.tuple_(queue.c.message_id, queue.c.n).in_(keys))
        if conn.dialect.name == "postgresql":
            statement = statement.with_for_update()
        found |= {(shard, lane, due_at, message_id, n) for shard, lane, due_at, message_id, n in conn.execute(statement)}
    return [row for row in rows if (row.shard, row.lane, row.due_at, row.message_id, row.n) in found]


def set_routes(conn: Connection, rows: Sequence[Due], route: str) -> None:
    """Give recipients a route of their own."""
    statement = (
        sa.update(recipient)
        .where(recipient.c.message_id == sa.bindparam("b_message_id"), recipient.c.n == sa.bindparam("b_n"))
        .values(route=sa.bindparam("b_route"))
    )
    if rows:
        conn.execute(statement, [{"b_message_id": row.message_id, "b_n": row.n, "b_route": route} for row in rows])


def holder(conn: Connection, row: Due) -> QueueAction | None:
    """Find the action that holds a row: the newest one that was about it."""
    for action in latest(conn, None, 200):
        if action.kind is Kind.HOLD and action.tenant_id in {None, row.tenant_id} and _was_about(conn, action, row):
            return action
    return None


def _was_about(conn: Connection, action: QueueAction, row: Due) -> bool:
    wanted = QueueAction(
        id=action.id, tenant_id=action.tenant_id, kind=Kind.CANCEL, filter=action.filter, route=None, note="", actor_id="", actor_name="",
        created_at=action.created_at,
    )  # fmt: skip
    here = sa.select(queue.c.n).where(queue.c.message_id == row.message_id, queue.c.n == row.n, *_conditions(wanted))
    return conn.execute(here).first() is not None and _matching(conn, action.filter, [row])[0]
