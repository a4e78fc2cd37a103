"""
Reads a mail that came back: reports about domains are kept, reports about recipients become statements.

Arrives: a row of store.inbound. Leaves: statements; rows of store.domain_reports.
Standards: RFC 7489 §7.2 (aggregates), RFC 8460 §5 (TLS reports).
Not here: whom it is about (letters).
Bugs: reports of domains are not authenticated, so they only inform.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.statement import Statement
from gatepost.mime.parts import read_mail
from gatepost.observe import metrics
from gatepost.returns.aside import PutAside
from gatepost.returns.letters import read_letter
from gatepost.returns.listening import Desk, destination_of
from gatepost.store import domain_reports
from gatepost.store.engine import Engine
from gatepost.store.inbound import Claimed
from gatepost.wire.dmarc_report import parse_aggregate_report
from gatepost.wire.return_path import ReturnPaths
from gatepost.wire.tls_report_reading import parse_tls_report
from gatepost.wire.unpacking import Unreadable


@dataclass(frozen=True, slots=True)
class DomainReport:
    """A report about a domain."""

    kind: str
    domain: str
    id: str
    content: Any


class MailReader:
    """Reads mail, for one process."""

    def __init__(self, engine: Engine, paths: ReturnPaths) -> None:
        self._engine = engine
        self._paths = paths

    async def read(self, row: Claimed) -> Sequence[Statement]:
        """
        Read a row, in a thread: a large mail must not hold up the doors.

        Raises:
            PutAside: A person should look at it.
            StorageUnavailable: Reports may or may not be kept; reading it again completes it.
        """
        if row.details.get("mailbox"):
            return await self._read_office(row)
        desks = _desks(row.details["recipients"], self._paths, row.received_at)
        if Desk.DMARC in desks or Desk.TLS in desks:
            found = await asyncio.to_thread(read_domain_reports, row.body, desks)
            await self._engine.write(partial(_keep, found=found, now=row.received_at))
            if desks <= {Desk.DMARC, Desk.TLS}:
                if not found:
                    raise PutAside("unread", "it holds no DMARC or TLS report that can be read")
                return []
        return await asyncio.to_thread(read_letter, row.body, row.details["recipients"], self._paths, row.received_at)

    async def _read_office(self, row: Claimed) -> Sequence[Statement]:
        """Read mail of a mailbox that takes every kind of report (returns.mailbox)."""
        found = await asyncio.to_thread(read_domain_reports, row.body, {Desk.DMARC, Desk.TLS})
        if found:
            await self._engine.write(partial(_keep, found=found, now=row.received_at))
            return []
        return await asyncio.to_thread(read_letter, row.body, (), self._paths, row.received_at, is_office=True)


def _keep(conn: Connection, found: Sequence[DomainReport], now: Instant) -> None:
    for one in found:
        is_kept = domain_reports.put(conn, one.kind, one.domain, one.id, one.content, now)
        metrics.reports.labels(one.kind, "kept" if is_kept else "passed over").inc()


def _desks(recipients: Iterable[str], paths: ReturnPaths, at: Instant) -> set[Desk]:
    found = set()
    for text in recipients:
        try:
            destination = destination_of(paths, parse_address(text), at)
        except InvalidAddress:
            continue
        if destination is not None:
            found.add(destination.desk)
    return found


def read_domain_reports(content: bytes, desks: set[Desk]) -> list[DomainReport]:
    """Find the reports in a mail, of the kinds that were asked for; what is none is passed over."""
    found: list[DomainReport] = []
    for part in read_mail(content).parts:
        data = part.raw or part.text.encode()
        if Desk.DMARC in desks:
            found += _dmarc(data)
        if Desk.TLS in desks:
            found += _tls(data)
    return found


def _dmarc(data: bytes) -> list[DomainReport]:
    try:
        report = parse_aggregate_report(data)
    except Unreadable:
        return []
    name = report.policy.domain.lower().rstrip(".")
    return [DomainReport("dmarc", name, _id("dmarc", report.org_name, report.report_id, name, str(report.begins_s)), report)]


def _tls(data: bytes) -> list[DomainReport]:
    try:
        report = parse_tls_report(data)
    except Unreadable:
        return []
    names = dict.fromkeys(policy.domain.lower().rstrip(".") for policy in report.policies)
    same = ("tls", report.organization, report.report_id, str(report.begins_s))
    return [DomainReport("tls", name, _id(*same, name), report) for name in names]


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
