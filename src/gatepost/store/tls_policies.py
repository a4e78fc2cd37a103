"""MTA-STS policies as they are kept, for all processes: they outlive restarts, DNS records and policy hosts."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store.schema import mta_sts_policy
from gatepost.wire.mta_sts import KeptPolicy, Mode, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """
    A policy with what became of the last tries to fetch it again.

    Attributes:
        changed_at: When this state was written.
        failing_since: Since when it cannot be fetched; None when the last try was good.
    """

    kept: KeptPolicy
    changed_at: Instant
    refresh_at: Instant
    failing_since: Instant | None
    error: str


def keep(conn: Connection, kept: KeptPolicy, refresh_at: Instant) -> None:
    """Keep a policy; one that was fetched later stays."""
    policy = kept.policy
    row = {
        "domain": kept.domain, "record_id": kept.record_id, "mode": policy.mode.value, "hosts": list(policy.hosts),
        "max_age_s": policy.max_age_s, "fetched_at": kept.fetched_at, "expires_at": kept.expires_at, "refresh_at": refresh_at,
        "changed_at": kept.fetched_at, "failing_since": None, "error": "",
    }  # fmt: skip
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(mta_sts_policy)
    new = {name: statement.excluded[name] for name in row if name != "domain"}
    is_newer = mta_sts_policy.c.fetched_at <= statement.excluded.fetched_at
    conn.execute(statement.on_conflict_do_update(index_elements=["domain"], set_=new, where=is_newer), [row])


def note_trouble(conn: Connection, domain: str, error: str, now: Instant, refresh_at: Instant) -> None:
    """Note that a policy could not be fetched again; it holds on."""
    table = mta_sts_policy.c
    conn.execute(
        sa.update(mta_sts_policy)
        .where(table.domain == domain)
        .values(failing_since=sa.func.coalesce(table.failing_since, now), error=error, changed_at=now, refresh_at=refresh_at)
    )


def changed_since(conn: Connection, at: Instant) -> list[PolicyState]:
    """Return the policies that were written since an instant."""
    rows = conn.execute(sa.select(mta_sts_policy).where(mta_sts_policy.c.changed_at >= at).order_by(mta_sts_policy.c.domain))
    return [_state(row) for row in rows]


def of(conn: Connection, domain: str) -> PolicyState | None:
    """Return what is kept of one domain."""
    row = conn.execute(sa.select(mta_sts_policy).where(mta_sts_policy.c.domain == domain)).one_or_none()
    return None if row is None else _state(row)


def claim_refresh(conn: Connection, now: Instant, until: Instant, limit: int) -> list[str]:
    """Return domains whose policy is due to be fetched again, and keep other processes off them for a while."""
    table = mta_sts_policy.c
    due = sa.select(table.domain).where(table.refresh_at <= now, table.expires_at > now).order_by(table.refresh_at).limit(limit)
    if conn.dialect.name == "postgresql":
        due = due.with_for_update(skip_locked=True)
    domains = [domain for (domain,) in conn.execute(due)]
    if domains:
        conn.execute(sa.update(mta_sts_policy).where(table.domain.in_(domains)).values(refresh_at=until))
    return domains


def forget(conn: Connection, before: Instant) -> int:
    """Drop policies that ended before an instant; return how many."""
    return conn.execute(sa.delete(mta_sts_policy).where(mta_sts_policy.c.expires_at < before)).rowcount


def _state(row: Row[Sequence[object]]) -> PolicyState:
    found = row._mapping  # noqa: SLF001 - SQLAlchemy's public name
    policy = Policy(mode=Mode(found["mode"]), hosts=tuple(found["hosts"]), max_age_s=found["max_age_s"])
    kept = KeptPolicy(domain=found["domain"], record_id=found["record_id"], policy=policy, fetched_at=found["fetched_at"])
    return PolicyState(
        kept=kept,
        changed_at=found["changed_at"],
        refresh_at=found["refresh_at"],
        failing_since=found["failing_since"],
        error=found["error"],
    )
