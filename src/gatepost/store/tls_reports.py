"""
Results of TLS sessions by day, and which day's reports are sent.

A report is claimed before it is sent: a row by day and domain, which one process alone can insert. A claim that came to nothing is free
again after a while.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.store.schema import tls_report, tls_result
from gatepost.wire.tls_report import Counted, PolicyKind, ReportedFailure, ReportedPolicy, TlsFailure

CLAIMED = "claimed"


@dataclass(frozen=True, slots=True)
class Claim:
    """One report that this process has to send."""

    day: str
    domain: str
    tries: int


def add(conn: Connection, counted: Sequence[Counted]) -> None:
    """Add counts to a day's."""
    if not counted:
        return
    # sorted: two processes that write the same rows must not wait for each other
    rows = sorted((_row(one) for one in counted), key=lambda row: (row["day"], row["domain"], row["id"]))
    statement = _insert(conn)(tls_result)
    total = tls_result.c.sessions + statement.excluded.sessions
    conn.execute(statement.on_conflict_do_update(index_elements=["day", "domain", "id"], set_={"sessions": total}), rows)


def of(conn: Connection, day: str, domain: str) -> list[Counted]:
    """Return the counts of one day and domain."""
    table = tls_result.c
    rows = conn.execute(sa.select(tls_result).where(table.day == day, table.domain == domain).order_by(table.id))
    return [_counted(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def waiting(conn: Connection, today: str, since: str, claimed_before: Instant, limit: int) -> list[tuple[str, str]]:
    """Return days and domains that have results and no report yet; of those that are being sent only abandoned ones."""
    result, report = tls_result.c, tls_report.c
    is_done = sa.exists().where(
        report.day == result.day,
        report.domain == result.domain,
        sa.or_(report.state != CLAIMED, report.claimed_at > claimed_before),
    )
    found = (
        sa.select(result.day, result.domain)
        .where(result.day < today, result.day >= since, ~is_done)
        .distinct()
        .order_by(result.day, result.domain)
        .limit(limit)
    )
    return [(row.day, row.domain) for row in conn.execute(found)]


def claim(conn: Connection, day: str, domain: str, owner: str, now: Instant, claimed_before: Instant) -> Claim | None:
    """
    Claim a report; None when another process has it, or it is done.

    Args:
        claimed_before: A claim that is older was abandoned.
    """
    statement = _insert(conn)(tls_report).values(
        day=day, domain=domain, state=CLAIMED, owner=owner, claimed_at=now, tries=1, sent_to=[], detail=""
    )
    is_free = sa.and_(tls_report.c.state == CLAIMED, tls_report.c.claimed_at <= claimed_before)
    again = {"owner": owner, "claimed_at": now, "tries": tls_report.c.tries + 1}
    row = conn.execute(
        statement.on_conflict_do_update(index_elements=["day", "domain"], set_=again, where=is_free).returning(tls_report.c.tries)
    ).one_or_none()
    return None if row is None else Claim(day, domain, row.tries)


def finish(conn: Connection, claim: Claim, owner: str, state: str, sent_to: Sequence[str], detail: str) -> bool:
    """Say what became of a report, unless the claim went to another process meanwhile; return whether it was still ours."""
    table = tls_report.c
    is_ours = sa.and_(table.day == claim.day, table.domain == claim.domain, table.owner == owner, table.tries == claim.tries)
    values = {"state": state, "sent_to": list(sent_to), "detail": detail}
    return bool(conn.execute(sa.update(tls_report).where(is_ours).values(**values)).rowcount)


def sent(conn: Connection, day: str) -> dict[str, tuple[str, list[str], str]]:
    """Return state, receivers and detail of a day's reports by domain."""
    rows = conn.execute(sa.select(tls_report).where(tls_report.c.day == day).order_by(tls_report.c.domain))
    return {row.domain: (row.state, row.sent_to, row.detail) for row in rows}


def forget(conn: Connection, results_before: str, reports_before: str) -> None:
    """Drop what is older than the given days."""
    conn.execute(sa.delete(tls_result).where(tls_result.c.day < results_before))
    conn.execute(sa.delete(tls_report).where(tls_report.c.day < reports_before))


def _row(one: Counted) -> dict[str, Any]:
    policy = {"kind": one.policy.kind.value, "text": one.policy.text, "hosts": one.policy.hosts}
    failure = None if one.failure is None else msgspec.to_builtins(one.failure)
    name = hashlib.sha256(msgspec.json.encode([policy, failure])).hexdigest()[:32]
    return {"day": one.day, "domain": one.policy.domain, "id": name, "policy": policy, "failure": failure, "sessions": one.sessions}


def _counted(row: Any) -> Counted:
    policy, failure = row["policy"], row["failure"]
    return Counted(
        day=row["day"],
        policy=ReportedPolicy(
            domain=row["domain"], kind=PolicyKind(policy["kind"]), text=tuple(policy["text"]), hosts=tuple(policy["hosts"])
        ),
        failure=None if failure is None else ReportedFailure(**{**failure, "result": TlsFailure(failure["result"])}),
        sessions=row["sessions"],
    )


def _insert(conn: Connection) -> Any:
    return postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
