"""
What became of everything that was accepted: the sink's files and the gateway's records against the clients' ledger.

Lost is a recipient of an accepted message that neither is at the sink nor has an end that its sender was told of. A
duplicate is one more copy of a message; it has the same Message-ID as the first, and a cause: a process that was killed
between the sink's answer and the commit of the result.
"""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from gatepost.store import messages
from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine
from tests.crash.clients import Ledger
from tests.crash.processes import Gateway, Sink

_TAG = re.compile(rb"^Subject: Crash (\S+)", re.MULTILINE)
_ID = re.compile(rb"^Message-ID: *(?:\n )?(<[^>]+>)", re.MULTILINE | re.IGNORECASE)
_RCPT = re.compile(rb"^X-Rcpt-Args: <([^>]+)>", re.MULTILINE)
_UNDONE = ("queued", "scheduled", "deferred")
_ENDS = ("recipient.sent", "recipient.delivered", "recipient.bounced", "recipient.expired", "message.cancelled")


@dataclass(slots=True)
class Arrived:
    """Copies of one message at the sink."""

    message_ids: set[str] = field(default_factory=set)
    by_recipient: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each recipient's copies came: one message may go in several transactions."""

    @property
    def extra(self) -> int:
        """Copies beyond the first."""
        return max(map(len, self.by_recipient.values()), default=1) - 1

    @property
    def repeated(self) -> set[tuple[float, float]]:
        """When a copy came, and when the next one to the same recipient did."""
        return {pair for times in self.by_recipient.values() for pair in pairwise(sorted(times))}


def arrivals(files: Sequence[Path]) -> dict[str, Arrived]:
    """Read the sink's files, by the tag that the client put into the subject."""
    found: dict[str, Arrived] = defaultdict(Arrived)
    for path in files:
        with path.open("rb") as file:
            head = file.read(16_384)
        tag, message_id = _TAG.search(head), _ID.search(head)
        assert tag is not None and message_id is not None, f"the sink has a message that nobody sent: {head[:500]!r}"
        one = found[tag[1].decode()]
        one.message_ids.add(message_id[1].decode())
        at = path.stat().st_mtime
        for match in _RCPT.findall(head):
            one.by_recipient[match.decode()].append(at)
    return dict(found)


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What is wrong, and how often; every list is empty when all is well."""

    accepted: int
    arrived: int
    lost: list[str] = field(default_factory=list)
    duplicates: int = 0
    by_excuse: Counter[float] = field(default_factory=Counter)
    longest_ms: float = 0.0
    unexplained: list[str] = field(default_factory=list)
    changed_ids: list[str] = field(default_factory=list)
    unfinished: int = 0
    without_one_end: int = 0
    refused_yet_arrived: int = 0
    damage: str = ""

    @property
    def most_at_one_excuse(self) -> int:
        """Duplicates of the kill that caused most."""
        return max(self.by_excuse.values(), default=0)

    def complaints(self) -> list[str]:
        """Say what breaks a promise."""
        found = [f"{len(self.lost)} lost: {self.lost[:5]}"] if self.lost else []
        found += [f"{len(self.changed_ids)} messages with two Message-IDs: {self.changed_ids[:5]}"] if self.changed_ids else []
        found += [f"{len(self.unexplained)} duplicates without a kill: {self.unexplained[:5]}"] if self.unexplained else []
        found += [f"{self.unfinished} recipients without an end"] if self.unfinished else []
        found += [f"{self.without_one_end} recipients that do not have exactly one final event"] if self.without_one_end else []
        return found + ([self.damage] if self.damage else [])


def drained(gateway: Gateway, seconds: float) -> bool:
    """Wait until the queue is empty; False when it is not in time."""
    return asyncio.run(_drained(gateway, seconds))


async def _drained(gateway: Gateway, seconds: float) -> bool:
    engine = create_engine(gateway.database_url, gateway.data)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not await _count(engine, "SELECT count(*) FROM queue"):
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await engine.close()


async def _count(engine: Engine, statement: str) -> int:
    return int(await engine.read(lambda conn: conn.execute(sa.text(statement)).scalar_one()))


def judge(gateway: Gateway, sink: Sink, ledger: Ledger, *, excuses: Sequence[float] = (), within_s: float = 1.0) -> Verdict:
    """
    Compare what was promised with what happened; call it when everything is quiet.

    Args:
        excuses: When a process that delivers was killed: a message that arrived shortly before may arrive again.
        within_s: How long before.
    """
    found = arrivals(sink.files())
    verdict = Verdict(accepted=len(ledger.accepted), arrived=len(found))
    missing: dict[str, list[str]] = {}
    for tag, mail in ledger.accepted.items():
        one = found.get(tag, Arrived())
        absent = [recipient for recipient in mail.recipients if recipient not in one.by_recipient]
        if absent:
            missing[tag] = absent
    for tag, one in found.items():
        if len(one.message_ids) > 1:
            verdict.changed_ids.append(tag)
        if one.extra:
            verdict.duplicates += one.extra
            _explain(tag, one, excuses, within_s, verdict)
    verdict.refused_yet_arrived = len(ledger.refused & found.keys())
    asyncio.run(_read_records(gateway, ledger, missing, verdict))
    return verdict


def _explain(tag: str, one: Arrived, excuses: Sequence[float], within_s: float, verdict: Verdict) -> None:
    """Every copy but a recipient's last needs a kill that came after it and before the next."""
    for earlier, later in sorted(one.repeated):
        causes = [kill for kill in excuses if earlier - 0.05 <= kill <= min(later, earlier + within_s)]
        if causes:
            verdict.by_excuse[causes[0]] += 1
            verdict.longest_ms = max(verdict.longest_ms, (causes[0] - earlier) * 1000)
        else:
            verdict.unexplained.append(tag)


def _states(conn: sa.Connection) -> dict[tuple[str, str], str]:
    """Map every message and address to the recipient's status."""
    wanted = list(conn.execute(sa.text("SELECT id FROM message")).scalars())
    found = {}
    for start in range(0, len(wanted), 500):
        for rows in messages.recipients_of(conn, wanted[start : start + 500]).values():
            found |= {(row.message_id, row.address): row.status for row in rows}
    return found


async def _read_records(gateway: Gateway, ledger: Ledger, missing: dict[str, list[str]], verdict: Verdict) -> None:
    engine = create_engine(gateway.database_url, gateway.data)
    try:
        states = await engine.read(_states)
        verdict.unfinished = sum(status in _UNDONE for status in states.values())
        ends = ", ".join(f"'{name}'" for name in _ENDS)
        per = f"SELECT r.message_id, r.n FROM recipient r LEFT JOIN event e ON e.message_id = r.message_id AND e.n = r.n AND e.type IN ({ends})"
        verdict.without_one_end = await _count(engine, f"SELECT count(*) FROM ({per} GROUP BY r.message_id, r.n HAVING count(e.id) <> 1) x")
        for tag, absent in missing.items():
            known = {
                address: status for message_id in ledger.accepted[tag].ids for (one, address), status in states.items() if one == message_id
            }
            # `sent` without a copy at the sink would be a lie; no row at all would be a lost message
            if any(known.get(address, "") not in {"bounced", "expired"} for address in absent):
                verdict.lost.append(f"{tag} ({', '.join(f'{a}: {known.get(a)}' for a in absent)})")
        if engine.dialect == "sqlite":
            result = await engine.read(lambda conn: conn.execute(sa.text("PRAGMA integrity_check")).scalar_one())
            verdict.damage = "" if result == "ok" else f"the database is damaged: {result}"
    finally:
        await engine.close()
