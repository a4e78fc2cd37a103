"""
What receivers report of a domain: DMARC aggregates and TLS reports, kept for a quarter.

Only of domains that a tenant verified, each report once, so many a day: anybody may write to the address that takes them.
What a report says is sealed. Not here: what it comes to (policy.dmarc_summary, policy.tls_report_summary).
"""

from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY, Instant
from gatepost.observe import maillog
from gatepost.store import sealing
from gatepost.store.errors import SealBroken
from gatepost.store.schema import domain, domain_report

T = TypeVar("T")

MOST_A_DAY: Final = 200
MOST_READ: Final = 1_000


def put(conn: Connection, kind: str, about: str, report_id: str, report: Any, now: Instant) -> bool:
    """
    Keep a report; return whether it is new, and of a domain that is known.

    Args:
        kind: `dmarc` or `tls`.
        about: The domain, in small letters.
        report_id: The same for the same report.
        report: A value that msgspec can encode.
    """
    is_known = sa.select(domain.c.id).where(domain.c.name == about, domain.c.status == "verified").limit(1)
    columns = domain_report.c
    today = sa.select(sa.func.count()).where(columns.domain == about, columns.kind == kind, columns.received_at > now - DAY)
    if conn.execute(is_known).first() is None or conn.execute(today).scalar_one() >= MOST_A_DAY:
        return False
    sealed = sealing.seal(conn, msgspec.msgpack.encode(report), tenant_id=sealing.GATEWAY, place=f"domain_report/{report_id}", at=now)
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    row = {"id": report_id, "kind": kind, "domain": about, "received_at": now, "sealed": sealed}
    return bool(conn.execute(insert(domain_report).values(**row).on_conflict_do_nothing()).rowcount)


def since(conn: Connection, kind: str, about: str, at: Instant, form: type[T]) -> list[T]:
    """Return the reports that came since then, the newest first, a thousand at most."""
    columns = domain_report.c
    statement = sa.select(columns.id, columns.sealed).where(columns.domain == about, columns.kind == kind, columns.received_at >= at)
    found = []
    for report_id, sealed in conn.execute(statement.order_by(columns.received_at.desc()).limit(MOST_READ)):
        try:
            opened = sealing.unseal(conn, sealed, tenant_id=sealing.GATEWAY, place=f"domain_report/{report_id}")
        except SealBroken as error:
            maillog.trouble("a stored report cannot be opened", error=str(error))
            continue
        found.append(msgspec.msgpack.decode(opened, type=form))
    return found


def purge(conn: Connection, before: Instant) -> None:
    """Remove reports that came before an instant."""
    conn.execute(sa.delete(domain_report).where(domain_report.c.received_at < before))
