"""Deliverability scores: one row a day and domain. What a score is made of is JSON that pages read whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import Instant
from gatepost.policy.deliverability import Score
from gatepost.store.schema import deliverability_score, domain


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """
    A domain's score of one day.

    Attributes:
        day: `2026-11-24`, UTC.
        at: When it was last written.
    """

    domain_id: str
    tenant_id: str
    day: str
    at: Instant
    score: Score = field(repr=False)


def put(conn: Connection, rows: Sequence[ScoreRow]) -> None:
    """Write scores down; a day's later one takes the place of the earlier one. A domain that is gone by now gets none."""
    found = set(conn.execute(sa.select(domain.c.id).where(domain.c.id.in_([row.domain_id for row in rows]))).scalars())
    values = [_values(row) for row in sorted(rows, key=lambda row: row.domain_id) if row.domain_id in found]
    if values:
        insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        statement = insert(deliverability_score)
        changed = {name: statement.excluded[name] for name in ("tenant_id", "at", "score", "report")}
        conn.execute(statement.on_conflict_do_update(index_elements=["domain_id", "day"], set_=changed), values)


def of_domain(conn: Connection, domain_id: str, since: str) -> list[ScoreRow]:
    """
    Return a domain's scores, the oldest first.

    Args:
        since: The first day.
    """
    columns = deliverability_score.c
    rows = conn.execute(
        sa.select(deliverability_score).where(columns.domain_id == domain_id, columns.day >= since).order_by(columns.day)
    ).mappings()
    return [_read(row) for row in rows]


def last_before(conn: Connection, domain_ids: Sequence[str], day: str, since: str) -> dict[str, ScoreRow]:
    """
    Return each domain's last score up to a day, itself included.

    Args:
        since: Older ones do not count.
    """
    columns = deliverability_score.c
    newest = (
        sa.select(columns.domain_id, sa.func.max(columns.day).label("day"))
        .where(columns.domain_id.in_(domain_ids), columns.day <= day, columns.day >= since)
        .group_by(columns.domain_id)
        .subquery()
    )
    joined = sa.and_(newest.c.domain_id == columns.domain_id, newest.c.day == columns.day)
    rows = conn.execute(sa.select(deliverability_score).join(newest, joined)).mappings()
    return {row["domain_id"]: _read(row) for row in rows}


def purge(conn: Connection, before: str) -> None:
    """Forget days before this one, and domains that are gone."""
    columns = deliverability_score.c
    is_gone = ~sa.exists().where(domain.c.id == columns.domain_id)
    conn.execute(sa.delete(deliverability_score).where(sa.or_(columns.day < before, is_gone)))


def _values(row: ScoreRow) -> dict[str, Any]:
    return {
        "domain_id": row.domain_id, "day": row.day, "tenant_id": row.tenant_id, "at": row.at, "score": row.score.score,
        "report": msgspec.to_builtins(row.score),
    }  # fmt: skip


def _read(row: Any) -> ScoreRow:
    score = msgspec.convert(row["report"], Score)
    return ScoreRow(domain_id=row["domain_id"], tenant_id=row["tenant_id"], day=row["day"], at=row["at"], score=score)
