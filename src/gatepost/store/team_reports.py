"""
Reports by mail to senders' teams: who wants which, and which period's are sent.

A report is claimed before it is sent: the row of its subscription and period, which one process alone can insert, in the transaction that
moves the subscription on to its next time. A claim that came to nothing is free again after a while, for some hours.
Addresses are sealed; a keyed hash keeps an address from being there twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.domain.team_report import ReportKind, ReportSubscription
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import report_sending, report_subscription

CLAIMED: Final = "claimed"
_PLAIN: Final = (
    "id", "tenant_id", "person_id", "zone", "hour", "weekday", "created_at", "changed_at", "next_at", "told_until", "ended_at", "ended_by",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """One report that this process has to send."""

    subscription_id: str
    period: str
    tries: int
    first_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one report."""

    period: str
    state: str
    at: Instant
    message_id: str | None
    detail: str


def insert(conn: Connection, made: ReportSubscription, address_key: str) -> None:
    """
    Add a subscription.

    Args:
        address_key: `Address.key`.

    Raises:
        sqlalchemy.exc.IntegrityError: The address has this report already, or had it.
    """
    row = {"address_hash": sealing.keyed_hash(conn, address_key), "kind": made.kind.value, **_changing(conn, made)}
    conn.execute(sa.insert(report_subscription), [row | {"id": made.id, "tenant_id": made.tenant_id, "created_at": made.created_at}])


def update(conn: Connection, changed: ReportSubscription) -> None:
    """Store a subscription's present state; tenant, kind and address stay."""
    conn.execute(sa.update(report_subscription).where(report_subscription.c.id == changed.id).values(**_changing(conn, changed)))


def delete(conn: Connection, subscription_id: str) -> None:
    """Remove a subscription with what was sent."""
    conn.execute(sa.delete(report_sending).where(report_sending.c.subscription_id == subscription_id))
    conn.execute(sa.delete(report_subscription).where(report_subscription.c.id == subscription_id))


def get(conn: Connection, subscription_id: str, tenant_id: str | None = None, *, is_locking: bool = False) -> ReportSubscription | None:
    """
    Return a subscription.

    Args:
        tenant_id: Whose it must be; None is anybody's.
        is_locking: Keep others from changing it until the transaction ends.
    """
    statement = sa.select(report_subscription).where(report_subscription.c.id == subscription_id)
    if tenant_id is not None:
        statement = statement.where(report_subscription.c.tenant_id == tenant_id)
    if is_locking and conn.dialect.name == "postgresql":
        statement = statement.with_for_update()
    row = conn.execute(statement).mappings().one_or_none()
    return None if row is None else _read(conn, row)


def of_address(conn: Connection, tenant_id: str, kind: ReportKind, address_key: str) -> ReportSubscription | None:
    """Return an address's subscription to a kind, which may have ended."""
    columns = report_subscription.c
    same = sa.and_(
        columns.tenant_id == tenant_id, columns.kind == kind.value, columns.address_hash == sealing.keyed_hash(conn, address_key)
    )  # fmt: skip
    row = conn.execute(sa.select(report_subscription).where(same)).mappings().one_or_none()
    return None if row is None else _read(conn, row)


def of_tenant(conn: Connection, tenant_id: str) -> list[ReportSubscription]:
    """List a tenant's subscriptions, the newest first; those that ended, too."""
    columns = report_subscription.c
    rows = conn.execute(sa.select(report_subscription).where(columns.tenant_id == tenant_id).order_by(columns.id.desc())).mappings()
    return [_read(conn, row) for row in rows]


def of_person(conn: Connection, person_id: str, tenant_id: str) -> list[ReportSubscription]:
    """List a person's own subscriptions in a tenant."""
    columns = report_subscription.c
    same = sa.and_(columns.person_id == person_id, columns.tenant_id == tenant_id)
    return [_read(conn, row) for row in conn.execute(sa.select(report_subscription).where(same).order_by(columns.id)).mappings()]


def due(conn: Connection, now: Instant, limit: int) -> list[ReportSubscription]:
    """List subscriptions whose time has come, who waits longest first."""
    columns = report_subscription.c
    statement = sa.select(report_subscription).where(columns.ended_at.is_(None), columns.next_at <= now)
    return [_read(conn, row) for row in conn.execute(statement.order_by(columns.next_at, columns.id).limit(limit)).mappings()]


def pass_over(conn: Connection, one: ReportSubscription, next_at: Instant) -> None:
    """Move a subscription on to its next time, unless somebody else did."""
    columns = report_subscription.c
    conn.execute(sa.update(report_subscription).where(columns.id == one.id, columns.next_at == one.next_at).values(next_at=next_at))


def claim(
    conn: Connection, one: ReportSubscription, period: str, owner: str, *, now: Instant, next_at: Instant, until: Instant
) -> Claim | None:  # fmt: skip
    """
    Claim a report, and move its subscription on; None when another process did.

    Args:
        next_at: When the next one is due.
        until: End of the period.
    """
    columns = report_subscription.c
    is_due = sa.and_(columns.id == one.id, columns.next_at == one.next_at, columns.ended_at.is_(None), columns.told_until < until)
    if not conn.execute(sa.update(report_subscription).where(is_due).values(next_at=next_at, told_until=until)).rowcount:
        return None
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    values = {
        "subscription_id": one.id, "period": period, "tenant_id": one.tenant_id, "state": CLAIMED, "owner": owner, "first_at": now,
        "claimed_at": now, "tries": 1, "message_id": None, "detail": "",
    }  # fmt: skip
    if not conn.execute(insert(report_sending).values(**values).on_conflict_do_nothing()).rowcount:
        return None
    return Claim(one.id, period, 1, now)


def abandoned(conn: Connection, claimed_before: Instant, limit: int) -> list[tuple[str, str]]:
    """List reports, by subscription and period, that somebody claimed and neither sent nor gave up."""
    columns = report_sending.c
    old = sa.and_(columns.state == CLAIMED, columns.claimed_at <= claimed_before)
    rows = conn.execute(sa.select(columns.subscription_id, columns.period).where(old).order_by(columns.claimed_at).limit(limit))
    return [(row.subscription_id, row.period) for row in rows]


def claim_again(conn: Connection, subscription_id: str, period: str, owner: str, now: Instant, claimed_before: Instant) -> Claim | None:
    """Take an abandoned report over; None when another process did."""
    columns = report_sending.c
    is_free = sa.and_(
        columns.subscription_id == subscription_id, columns.period == period, columns.state == CLAIMED, columns.claimed_at <= claimed_before
    )  # fmt: skip
    values = {"owner": owner, "claimed_at": now, "tries": columns.tries + 1}
    row = conn.execute(
        sa.update(report_sending).where(is_free).values(values).returning(columns.tries, columns.first_at)
    ).one_or_none()  # fmt: skip
    return None if row is None else Claim(subscription_id, period, row.tries, row.first_at)


def finish(conn: Connection, claim: Claim, owner: str, state: str, message_id: str | None, detail: str) -> bool:
    """Say what became of a report, unless the claim went to another process meanwhile; return whether it was still ours."""
    columns = report_sending.c
    is_ours = sa.and_(
        columns.subscription_id == claim.subscription_id, columns.period == claim.period, columns.owner == owner,
        columns.tries == claim.tries, columns.state == CLAIMED,
    )  # fmt: skip
    values = {"state": state, "message_id": message_id, "detail": detail}
    return bool(conn.execute(sa.update(report_sending).where(is_ours).values(**values)).rowcount)


def last_sent(conn: Connection, subscription_ids: Sequence[str]) -> dict[str, Sent]:
    """Return what became of the last report of each subscription."""
    columns = report_sending.c
    statement = sa.select(report_sending).where(columns.subscription_id.in_(subscription_ids)).order_by(columns.first_at, columns.period)
    return {
        row.subscription_id: Sent(period=row.period, state=row.state, at=row.claimed_at, message_id=row.message_id, detail=row.detail)
        for row in conn.execute(statement)
    }


def purge(conn: Connection, before: Instant) -> None:
    """Forget reports that were sent before an instant; `told_until` keeps them from being sent again."""
    conn.execute(sa.delete(report_sending).where(report_sending.c.first_at < before, report_sending.c.state != CLAIMED))


def token_of(conn: Connection, subscription_id: str) -> str:
    """Return what shows that somebody holds a mail of this subscription; without the master key nobody can make it."""
    return sealing.keyed_hash(conn, f"end the report {subscription_id}")


def _changing(conn: Connection, one: ReportSubscription) -> dict[str, Any]:
    sealed = sealing.seal(conn, one.address.encode(), tenant_id=one.tenant_id, place=_place(one.id), at=one.created_at)
    kept = ("person_id", "zone", "hour", "weekday", "changed_at", "next_at", "told_until", "ended_at", "ended_by")
    return {name: getattr(one, name) for name in kept} | {"sealed": sealed, "domains": list(one.domains)}


def _place(subscription_id: str) -> str:
    return f"report_subscription.sealed/{subscription_id}"


def _read(conn: Connection, row: Any) -> ReportSubscription:
    try:
        address = sealing.unseal(conn, row["sealed"], tenant_id=row["tenant_id"], place=_place(row["id"])).decode()
    except SealBroken as error:
        maillog.trouble("a stored report subscription cannot be opened", error=str(error))
        address = sealing.UNREADABLE
    return ReportSubscription(
        **{name: row[name] for name in _PLAIN}, kind=ReportKind(row["kind"]), address=address, domains=tuple(row["domains"])
    )  # fmt: skip
