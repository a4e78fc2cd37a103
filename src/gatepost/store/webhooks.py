"""
Webhooks, and how far each is: which process delivers, which events were looked at, since when it fails.

URLs, headers and secrets are sealed: whoever has them can call a tenant's server, or be believed by it.
Not here: the hooks themselves (hooks), who may change what (tenants.webhooks).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from gatepost.clock import Instant
from gatepost.domain.webhook import HookSecret, Webhook
from gatepost.store import feed, sealing
from gatepost.store.feed import Place
from gatepost.store.schema import hook, node, webhook, webhook_state

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_CHUNK = 2_000


class Standing(NamedTuple):
    """
    How a webhook is doing.

    Attributes:
        failing_since: Since when no call to it succeeded; None while they do.
        answered_at: When a call last succeeded.
        waiting: Hooks that wait, counted up to a bound.
    """

    failing_since: Instant | None
    answered_at: Instant | None
    waiting: int = 0


class Lease(NamedTuple):
    """Who delivers an enabled webhook; `changed_at` tells whether what is known of it is the newest."""

    webhook_id: str
    changed_at: Instant
    owner: str | None
    until: Instant


def insert(conn: Connection, made: Webhook) -> None:
    """Add a webhook; it is told of what is committed from now on."""
    conn.execute(sa.insert(webhook), [{"id": made.id, "tenant_id": made.tenant_id, "created_at": made.created_at, **_values(conn, made)}])
    place = feed.end(conn, made.tenant_id)
    state = {"webhook_id": made.id, "owner": None, "lease_until": 0, "feed": place.feed, "event_id": place.event_id, "seq": 0}
    conn.execute(sa.insert(webhook_state), [state])


def update(conn: Connection, changed: Webhook) -> None:
    """Write a webhook's new values; one that goes on after it failed begins with a clean slate."""
    conn.execute(sa.update(webhook).where(webhook.c.id == changed.id).values(**_values(conn, changed)))
    conn.execute(sa.update(webhook_state).where(webhook_state.c.webhook_id == changed.id).values(failing_since=None))


def disable(conn: Connection, webhook_id: str, reason: str, now: Instant) -> bool:
    """Switch a webhook off; return whether it was on."""
    is_on = sa.and_(webhook.c.id == webhook_id, webhook.c.disabled_at.is_(None))
    return bool(conn.execute(sa.update(webhook).where(is_on).values(disabled_at=now, disabled_reason=reason, changed_at=now)).rowcount)


def delete(conn: Connection, webhook_id: str) -> None:
    """Remove a webhook; its hooks, and its state last, follow by and by."""
    conn.execute(sa.delete(webhook).where(webhook.c.id == webhook_id))


def get(conn: Connection, webhook_id: str, tenant_id: str | None = None, *, is_locking: bool = False) -> Webhook | None:
    """
    Return a webhook.

    Args:
        tenant_id: Another tenant's is None.
        is_locking: Keep it from other writers until the transaction ends (SQLite has one writer anyway).

    Raises:
        SealBroken: It cannot be opened.
    """
    statement = sa.select(webhook).where(webhook.c.id == webhook_id)
    if tenant_id is not None:
        statement = statement.where(webhook.c.tenant_id == tenant_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).one_or_none()
    return None if row is None else _read(conn, row)


def changed_at(conn: Connection, webhook_id: str) -> Instant | None:
    """Return when a webhook was changed last; None when it is gone."""
    return conn.execute(sa.select(webhook.c.changed_at).where(webhook.c.id == webhook_id)).scalar_one_or_none()


def of_tenant(conn: Connection, tenant_id: str) -> list[Webhook]:
    """
    List a tenant's webhooks, the newest first.

    Raises:
        SealBroken: One cannot be opened.
    """
    rows = conn.execute(sa.select(webhook).where(webhook.c.tenant_id == tenant_id).order_by(webhook.c.id.desc()))
    return [_read(conn, row) for row in rows]


def standings(conn: Connection, webhook_ids: Collection[str]) -> Mapping[str, Standing]:
    """Tell how some webhooks are doing."""
    found = {}
    for row in conn.execute(sa.select(webhook_state).where(webhook_state.c.webhook_id.in_(webhook_ids))):
        waiting = sa.select(hook.c.seq).where(hook.c.webhook_id == row.webhook_id, hook.c.status == "waiting").limit(10_000).subquery()
        count = conn.execute(sa.select(sa.func.count()).select_from(waiting)).scalar_one()
        found[row.webhook_id] = Standing(row.failing_since, row.answered_at, count)
    return found


def leases(conn: Connection) -> list[Lease]:
    """List who delivers which webhook, of those that are on."""
    columns = (webhook.c.id, webhook.c.changed_at, webhook_state.c.owner, webhook_state.c.lease_until)
    joined = webhook.join(webhook_state, webhook_state.c.webhook_id == webhook.c.id)
    rows = conn.execute(sa.select(*columns).select_from(joined).where(webhook.c.disabled_at.is_(None)))
    return [Lease(*row) for row in rows]


def live_nodes(conn: Connection, since: Instant) -> list[str]:
    """List the dispatch processes that were heard of since an instant."""
    return list(conn.execute(sa.select(node.c.id).where(node.c.heartbeat_at >= since).order_by(node.c.id)).scalars())


def take(conn: Connection, webhook_ids: Collection[str], owner: str, live: Collection[str], now: Instant, until: Instant) -> None:
    """Take webhooks, or keep them: those that nobody holds, or whose owner is silent or gone."""
    state = webhook_state.c
    is_free = sa.or_(state.owner.is_(None), state.owner == owner, state.lease_until <= now, state.owner.not_in(live))
    statement = sa.update(webhook_state).where(state.webhook_id.in_(sorted(webhook_ids)), is_free)
    conn.execute(statement.values(owner=owner, lease_until=until))


def let_go(conn: Connection, owner: str, webhook_ids: Collection[str] | None = None) -> None:
    """Give webhooks back: some, or all of an owner."""
    condition: Any = webhook_state.c.owner == owner
    if webhook_ids is not None:
        condition = sa.and_(condition, webhook_state.c.webhook_id.in_(webhook_ids))
    conn.execute(sa.update(webhook_state).where(condition).values(owner=None, lease_until=0))


def held(conn: Connection, owner: str, webhook_ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return the states of those webhooks that a process still holds, and keep them so until the transaction ends."""
    state = webhook_state.c
    statement = sa.select(webhook_state).where(state.owner == owner, state.webhook_id.in_(webhook_ids)).order_by(state.webhook_id)
    if conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    return {row.webhook_id: row for row in conn.execute(statement)}


def lock(conn: Connection, webhook_id: str) -> Row[Any] | None:
    """Return a webhook's state, and keep it from its owner until the transaction ends."""
    statement = sa.select(webhook_state).where(webhook_state.c.webhook_id == webhook_id)
    if conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    return conn.execute(statement).one_or_none()


def go_on(conn: Connection, webhook_id: str, place: Place, seq: int) -> None:
    """Note which event was looked at last, and the number of the last hook."""
    here = webhook_state.c.webhook_id == webhook_id
    conn.execute(sa.update(webhook_state).where(here).values(feed=place.feed, event_id=place.event_id, seq=seq))


def note_answers(conn: Connection, states: Sequence[Row[Any]], succeeded: Collection[str], now: Instant) -> dict[str, Instant | None]:
    """
    Note how calls went.

    Args:
        states: Of the webhooks that were called.
        succeeded: Those to which a call succeeded.

    Returns:
        Since when each fails.
    """
    found: dict[str, Instant | None] = {}
    for state in states:
        here = webhook_state.c.webhook_id == state.webhook_id
        if state.webhook_id in succeeded:
            found[state.webhook_id] = None
            if state.failing_since is not None or state.answered_at is None or now - state.answered_at >= 1000:
                conn.execute(sa.update(webhook_state).where(here).values(failing_since=None, answered_at=now))
        else:
            since = found[state.webhook_id] = state.failing_since if state.failing_since is not None else now
            if state.failing_since is None:
                conn.execute(sa.update(webhook_state).where(here).values(failing_since=since))
    return found


def removed(conn: Connection) -> list[str]:
    """List webhooks that are gone and may have left hooks behind."""
    joined = webhook_state.outerjoin(webhook, webhook.c.id == webhook_state.c.webhook_id)
    return list(conn.execute(sa.select(webhook_state.c.webhook_id).select_from(joined).where(webhook.c.id.is_(None))).scalars())


def purge(conn: Connection, webhook_id: str, before: str) -> int:
    """
    Forget some of a webhook's hooks that are over, all of them by and by when it is gone itself; return how many.

    Args:
        before: Id of an event: hooks of older ones are not kept.
    """
    columns = hook.c
    is_there = conn.execute(sa.select(webhook.c.id).where(webhook.c.id == webhook_id)).first() is not None
    some = sa.select(columns.event_id).where(columns.webhook_id == webhook_id).limit(_CHUNK)
    if is_there:
        some = some.where(columns.event_id < before, columns.status != "waiting")
    count = conn.execute(sa.delete(hook).where(columns.webhook_id == webhook_id, columns.event_id.in_(some))).rowcount
    if not is_there and count < _CHUNK:
        conn.execute(sa.delete(webhook_state).where(webhook_state.c.webhook_id == webhook_id))
    return count


def _values(conn: Connection, made: Webhook) -> dict[str, Any]:
    secrets = [(one.text, one.until) for one in made.secrets]
    data = _encode((made.url, made.description, dict(made.headers), secrets))
    return {
        "sealed": sealing.seal(conn, data, tenant_id=made.tenant_id, place=f"webhook/{made.id}", at=made.changed_at),
        "events": list(made.events), "streams": list(made.streams), "batch_size": made.batch_size, "changed_at": made.changed_at,
        "disabled_at": made.disabled_at, "disabled_reason": made.disabled_reason,
    }  # fmt: skip


def _read(conn: Connection, row: Row[Any]) -> Webhook:
    url, description, headers, secrets = _decode(
        sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=f"webhook/{row.id}")
    )  # fmt: skip
    return Webhook(
        id=row.id, tenant_id=row.tenant_id, url=url, description=description, events=tuple(row.events), streams=tuple(row.streams),
        headers=headers, batch_size=row.batch_size, secrets=tuple(HookSecret(text=text, until=until) for text, until in secrets),
        created_at=row.created_at, changed_at=row.changed_at, disabled_at=row.disabled_at, disabled_reason=row.disabled_reason,
    )  # fmt: skip
