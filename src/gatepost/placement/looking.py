"""
Finds the mail of placement tests: looks into each seed's folders until all is found or the time is over.

Arrives: tests that wait. Leaves: their results: where the mail lies, when it came, what the receiver says of SPF, DKIM and DMARC.
Only mail with the test's random marker counts. Mail is missing only when it was handed over and a look after the deadline found it nowhere;
whatever could not be measured is unknown. One process looks; each seed is one session, whatever the number of tests.
Standards: RFC 8601 (Authentication-Results).
Not here: sending (sending), the mailbox (net.imap).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gatepost.clock import MINUTE, SECOND, Clock, Instant
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.recipient import Status
from gatepost.mime.parts import first, read_fields
from gatepost.net.imap import Head, ImapAccount, ImapSession, ImapTrouble, open_mailbox
from gatepost.observe import maillog, metrics
from gatepost.placement.sending import MARKER
from gatepost.settings import Seed, Settings
from gatepost.store import health, messages, placement
from gatepost.store.engine import Engine
from gatepost.wire.authentication_results import read_verdicts

_AT_ONCE: Final = 4
_TESTS: Final = 50
_LEASE_MS: Final = 6 * MINUTE
_PATIENCE: Final = 10 * MINUTE
"""How long after the deadline a mailbox that cannot be read is waited for."""
_LOST_AFTER: Final = 2 * MINUTE
_GONE: Final = {Status.DELIVERED, Status.SENT}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A message that is looked for."""

    test: PlacementTest
    result: PlacementResult


class Looking:
    """The loop's work; `step` is called every second or so."""

    def __init__(
        self, engine: Engine, clock: Clock, settings: Settings, accounts: Mapping[str, ImapAccount], owner: str
    ) -> None:  # fmt: skip
        """
        Args:
            accounts: Of the seeds, by name.
            owner: Name of this process.
        """
        self._engine = engine
        self._clock = clock
        self._options = settings.placement
        self._seeds: Mapping[str, Seed] = settings.seeds
        self._accounts = accounts
        self._owner = owner
        self._due_at: Instant = 0
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def step(self) -> None:
        """
        Look for what is awaited, when it is time for it and this process's turn.

        Raises:
            StorageUnavailable: The database cannot be used now; it is looked again.
        """
        now = self._clock.now()
        if now < self._due_at or not await self._engine.read(placement.is_any_waiting):
            return
        self._due_at = now + int(self._options.every_s * SECOND)
        if not await self._engine.write(lambda conn: health.hold(conn, "placement", self._owner, now, now + _LEASE_MS)):
            return
        tests = await self._engine.read(lambda conn: placement.waiting(conn, _TESTS))
        wanted = [_Wanted(test, result) for test in tests for result in test.results if result.outcome is Outcome.WAITING]
        left = await self._without_lost(wanted)
        by_seed: dict[str, list[_Wanted]] = {}
        for one in left:
            by_seed.setdefault(one.result.seed, []).append(one)
        await asyncio.gather(*[self._look(name, group) for name, group in by_seed.items()])
        await self._engine.write(lambda conn: placement.finish(conn, self._clock.now()))

    async def _without_lost(self, wanted: Sequence[_Wanted]) -> list[_Wanted]:
        """Settle what will never arrive, and what nobody can look for."""
        known = [one.result.message_id for one in wanted if one.result.message_id is not None]
        states = await self._engine.read(lambda conn: _states(conn, known))
        left = []
        for one in wanted:
            why = self._lost(one, states)
            if why:
                await self._settle(one, replace(one.result, outcome=Outcome.UNKNOWN, detail=why))
            else:
                left.append(one)
        return left

    def _lost(self, one: _Wanted, states: Mapping[str, "_State"]) -> str:
        now, result = self._clock.now(), one.result
        if result.seed not in self._accounts:
            return "there is no such seed any more"
        if result.message_id is None:
            return "it was not sent" if now > one.test.created_at + _LOST_AFTER else ""
        state = states.get(result.message_id)
        if state is None:
            return "its message is gone"
        if state.is_sandbox:
            return "it stayed in the sandbox"
        if state.status in _GONE:
            return ""
        is_over = state.status in {Status.BOUNCED, Status.EXPIRED, Status.SUPPRESSED, Status.CANCELLED} or now >= one.test.deadline_at
        return f"it was not handed over: {state.status.value}" if is_over else ""

    async def _look(self, name: str, wanted: Sequence[_Wanted]) -> None:
        async with self._limit:
            begun_at = self._clock.now()
            try:
                async with open_mailbox(self._accounts[name], self._clock) as session:
                    found = await self._found(session, self._seeds[name], wanted)
            except ImapTrouble as error:
                await self._cannot_look(name, wanted, str(error))
                return
        for one in wanted:
            if (result := found.get(one.test.id)) is not None:
                await self._settle(one, result)
            elif begun_at >= one.test.deadline_at:
                await self._settle(one, replace(one.result, outcome=Outcome.MISSING, detail="it is in none of the folders"))

    async def _cannot_look(self, name: str, wanted: Sequence[_Wanted], why: str) -> None:
        maillog.trouble("a seed cannot be looked into", seed=name, error=why)
        now = self._clock.now()
        for one in wanted:
            if now >= one.test.deadline_at + _PATIENCE:
                await self._settle(one, replace(one.result, outcome=Outcome.UNKNOWN, detail=f"the mailbox cannot be read: {why}"))

    async def _found(self, session: ImapSession, seed: Seed, wanted: Sequence[_Wanted]) -> dict[str, PlacementResult]:
        spam = seed.spam or await session.junk_folders()
        found: dict[str, PlacementResult] = {}
        for folder, outcome in ((seed.inbox, Outcome.INBOX), *((name, Outcome.SPAM) for name in spam if name != seed.inbox)):
            await session.select(folder, is_readonly=not seed.remove)
            for one in wanted:
                if one.test.id not in found and (hit := await _find(session, one.test.marker)) is not None:
                    found[one.test.id] = self._result(one, seed, folder, outcome, hit[1])
                    if seed.remove:
                        await session.delete(hit[0])
        return found

    def _result(self, one: _Wanted, seed: Seed, folder: str, outcome: Outcome, head: Head) -> PlacementResult:
        now, begun_at = self._clock.now(), one.test.created_at
        at = now if head.arrived_at is None else min(max(head.arrived_at, begun_at), now)  # clocks differ, and servers round
        verdicts = read_verdicts(head.content, seed.authserv_id)
        said: dict[str, Any] = (
            {}
            if verdicts is None
            else {"authserv_id": verdicts.authserv_id, "spf": verdicts.spf, "dkim": verdicts.dkim, "dmarc": verdicts.dmarc}
        )
        return replace(one.result, outcome=outcome, folder=folder[:255], found_at=at, after_ms=at - begun_at, detail="", **said)

    async def _settle(self, one: _Wanted, result: PlacementResult) -> None:
        if await self._engine.write(lambda conn: placement.settle(conn, one.test.id, result)):
            metrics.placement_results.labels(result.seed, result.outcome.value).inc()
            maillog.placed(
                test_id=one.test.id, tenant_id=one.test.tenant_id, domain=one.test.domain, seed=result.seed, outcome=result.outcome.value,
                detail=result.detail or None,
            )  # fmt: skip


async def _find(session: ImapSession, marker: str) -> tuple[int, Head] | None:
    """Find the message with a marker; a server that finds others is not believed."""
    for uid in (await session.find(["HEADER", MARKER, marker]))[-3:]:
        head = await session.head(uid)
        if head is None:
            continue
        fields, _ = read_fields(head.content.decode("latin-1").replace("\r\n", "\n"))
        if first(fields, MARKER.lower()).strip() == marker:
            return uid, head
    return None


@dataclass(frozen=True, slots=True)
class _State:
    status: Status
    is_sandbox: bool


def _states(conn: Any, message_ids: Sequence[str]) -> dict[str, _State]:
    rows, sent = messages.recipients_of(conn, message_ids), messages.by_id(conn, message_ids)
    return {
        message_id: _State(Status(rows[message_id][0].status), sent[message_id].is_sandbox)
        for message_id in message_ids
        if rows.get(message_id) and message_id in sent
    }
