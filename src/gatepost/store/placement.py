"""
Placement tests and their results; sender and subject are sealed.

`summary` is what a deliverability score is made of. Not here: sending and looking (placement).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, Instant
from gatepost.domain.placement import Outcome, PlacementCounts, PlacementResult, PlacementSummary, PlacementTest, count_results
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import placement_result, placement_test

_MOST_SUMMED: Final = 100_000
_RESULT: Final = tuple(PlacementResult.__slots__)


def insert(conn: Connection, test: PlacementTest, occasion: str | None = None) -> bool:
    """
    Begin a test; return False when its occasion has one already.

    Args:
        occasion: Of a test that is made once, whichever process makes it.
    """
    private = msgspec.msgpack.encode((test.sender, test.subject))
    row = {
        "id": test.id, "tenant_id": test.tenant_id, "domain": test.domain, "created_at": test.created_at, "deadline_at": test.deadline_at,
        "finished_at": test.finished_at, "marker": test.marker, "occasion": occasion,
        "sealed": sealing.seal(conn, private, tenant_id=test.tenant_id, place=f"placement_test/{test.id}", at=test.created_at),
    }  # fmt: skip
    make: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    if not conn.execute(make(placement_test).values(**row).on_conflict_do_nothing()).rowcount:
        return False
    conn.execute(sa.insert(placement_result), [{"test_id": test.id, **_values(one)} for one in test.results])
    return True


def has_occasion(conn: Connection, occasion: str) -> bool:
    """Tell whether an occasion has its test."""
    return conn.execute(sa.select(placement_test.c.id).where(placement_test.c.occasion == occasion)).first() is not None


def note_sent(conn: Connection, test_id: str, seed: str, message_id: str) -> None:
    """Note which message went to a seed."""
    same = sa.and_(placement_result.c.test_id == test_id, placement_result.c.seed == seed)
    conn.execute(sa.update(placement_result).where(same).values(message_id=message_id))


def settle(conn: Connection, test_id: str, result: PlacementResult) -> bool:
    """Write a result down where it is still awaited; return whether it was."""
    columns = placement_result.c
    same = sa.and_(columns.test_id == test_id, columns.seed == result.seed, columns.outcome == Outcome.WAITING.value)
    values = {name: value for name, value in _values(result).items() if name not in {"seed", "provider", "message_id"}}
    return bool(conn.execute(sa.update(placement_result).where(same).values(**values)).rowcount)


def finish(conn: Connection, now: Instant) -> None:
    """End the tests that await nothing more."""
    is_awaited = sa.exists().where(
        placement_result.c.test_id == placement_test.c.id, placement_result.c.outcome == Outcome.WAITING.value
    )  # fmt: skip
    conn.execute(sa.update(placement_test).where(placement_test.c.finished_at.is_(None), ~is_awaited).values(finished_at=now))


def is_any_waiting(conn: Connection) -> bool:
    """Tell whether a result is awaited."""
    waiting = placement_result.c.outcome == Outcome.WAITING.value
    return conn.execute(sa.select(placement_result.c.test_id).where(waiting).limit(1)).first() is not None


def waiting(conn: Connection, limit: int) -> list[PlacementTest]:
    """List tests that await results, the oldest first."""
    ids = sa.select(placement_result.c.test_id).where(placement_result.c.outcome == Outcome.WAITING.value).distinct()
    chosen = sa.select(placement_test).where(placement_test.c.id.in_(ids)).order_by(placement_test.c.id).limit(limit)
    return _opened(conn, conn.execute(chosen).all())


def get(conn: Connection, tenant_id: str, test_id: str) -> PlacementTest | None:
    """Return one test of a tenant."""
    chosen = sa.select(placement_test).where(placement_test.c.id == test_id, placement_test.c.tenant_id == tenant_id)
    found = _opened(conn, conn.execute(chosen).all())
    return found[0] if found else None


def page(
    conn: Connection, tenant_id: str, limit: int, *, domains: Collection[str] | None = None, after: str | None = None,
    before: str | None = None,
) -> list[PlacementTest]:  # fmt: skip
    """
    List a tenant's tests, the newest first.

    Args:
        domains: Only of these senders' domains; None is every one.
    """
    columns = placement_test.c
    chosen = sa.select(placement_test).where(columns.tenant_id == tenant_id)
    if domains is not None:
        chosen = chosen.where(columns.domain.in_(domains))
    if before is not None:
        return _opened(conn, conn.execute(chosen.where(columns.id > before).order_by(columns.id).limit(limit)).all()[::-1])
    if after is not None:
        chosen = chosen.where(columns.id < after)
    return _opened(conn, conn.execute(chosen.order_by(columns.id.desc()).limit(limit)).all())


def count_since(conn: Connection, tenant_id: str, since: Instant) -> int:
    """Count a tenant's tests."""
    columns = placement_test.c
    return int(conn.execute(sa.select(sa.func.count()).where(columns.tenant_id == tenant_id, columns.created_at > since)).scalar_one())


def summary(conn: Connection, tenant: str, domains: Collection[str] | None, start: Instant, end: Instant) -> PlacementSummary:
    """
    Sum up where mail landed, by provider and together; what is still awaited is left out.

    Args:
        tenant: Its id.
        domains: Some senders' domains; None is every one of the tenant.
        start: Of tests that were begun from then on,
        end: and before then.
    """
    test, result = placement_test.c, placement_result.c
    joined = placement_result.join(placement_test, test.id == result.test_id)
    chosen = sa.select(result.test_id, result.provider, result.outcome, result.after_ms).select_from(joined)
    is_then = sa.and_(test.created_at >= start, test.created_at < end)
    chosen = chosen.where(test.tenant_id == tenant, is_then, result.outcome != Outcome.WAITING.value)
    if domains is not None:
        chosen = chosen.where(test.domain.in_(domains))
    rows = conn.execute(chosen.order_by(test.created_at.desc()).limit(_MOST_SUMMED)).all()
    counted = count_results([(row.provider, Outcome(row.outcome), row.after_ms) for row in rows])
    return replace(counted, tests=len({row.test_id for row in rows}))


def by_day(
    conn: Connection, tenant: str, domains: Collection[str] | None, start: Instant, end: Instant
) -> dict[Instant, PlacementCounts]:  # fmt: skip
    """
    Sum up where mail landed, by the UTC day on which its test began; days without results are left out.

    Args:
        domains: As for `summary`.
    """
    test, result = placement_test.c, placement_result.c
    chosen = sa.select(test.created_at, result.provider, result.outcome, result.after_ms)
    chosen = chosen.select_from(placement_result.join(placement_test, test.id == result.test_id))
    is_then = sa.and_(test.created_at >= start, test.created_at < end)
    chosen = chosen.where(test.tenant_id == tenant, is_then, result.outcome != Outcome.WAITING.value)
    if domains is not None:
        chosen = chosen.where(test.domain.in_(domains))
    days: dict[Instant, list[tuple[str, Outcome, int | None]]] = {}
    for row in conn.execute(chosen.order_by(test.created_at.desc()).limit(_MOST_SUMMED)):
        days.setdefault(row.created_at - row.created_at % DAY, []).append((row.provider, Outcome(row.outcome), row.after_ms))
    return {day: count_results(found).total for day, found in days.items()}


def purge(conn: Connection, now: Instant, keep_days: int) -> None:
    """Forget old tests."""
    old = sa.select(placement_test.c.id).where(placement_test.c.created_at < now - keep_days * DAY)
    conn.execute(sa.delete(placement_result).where(placement_result.c.test_id.in_(old)))
    conn.execute(sa.delete(placement_test).where(placement_test.c.created_at < now - keep_days * DAY))


def _values(result: PlacementResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in _RESULT} | {"outcome": result.outcome.value}


def _opened(conn: Connection, rows: Sequence[Any]) -> list[PlacementTest]:
    chosen = sa.select(placement_result).where(placement_result.c.test_id.in_([row.id for row in rows]))
    results: dict[str, list[PlacementResult]] = {row.id: [] for row in rows}
    for one in conn.execute(chosen.order_by(placement_result.c.seed)).mappings():
        values = {name: one[name] for name in _RESULT} | {"outcome": Outcome(one["outcome"])}
        results[one["test_id"]].append(PlacementResult(**values))
    return [_test(conn, row, results[row.id]) for row in rows]


def _test(conn: Connection, row: Any, results: Sequence[PlacementResult]) -> PlacementTest:
    try:
        opened = sealing.unseal(conn, row.sealed, tenant_id=row.tenant_id, place=f"placement_test/{row.id}")
        sender, subject = msgspec.msgpack.decode(opened)
    except SealBroken as error:
        maillog.trouble("a stored placement test cannot be opened", error=str(error))
        sender, subject = sealing.UNREADABLE, sealing.UNREADABLE
    return PlacementTest(
        id=row.id, tenant_id=row.tenant_id, domain=row.domain, sender=sender, subject=subject, marker=row.marker, created_at=row.created_at,
        deadline_at=row.deadline_at, finished_at=row.finished_at, results=tuple(results),
    )  # fmt: skip
