"""
Which MTA-STS policy holds for a domain now.

Arrives: a domain. Leaves: the policy that holds, found in what is kept or fetched anew, and what went wrong on the way.
A policy that is kept holds to its end, whatever DNS and the policy host say meanwhile: who can take records away, or break connections,
must not take away encryption (RFC 8461 §10.2). A policy that cannot be fetched is asked for again after five minutes.
Standards: RFC 8461 §3.1, §3.3, §5.1.
Not here: asking (net), what a policy means for a host (tls_policy), keeping (whoever gives `PolicyStore`).
Bugs: none known.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from gatepost.clock import Clock, Instant
from gatepost.net.dns import KnownTexts, Texts
from gatepost.net.mta_sts_fetch import PolicyUnavailable, Trouble
from gatepost.wire.mta_sts import KeptPolicy, Policy, find_record

PAUSE_S: Final = 300.0
"""After a failed fetch the policy host is left alone for so long (RFC 8461 §3.3)."""
_REMEMBERED: Final = 10_000


class PolicyStore(Protocol):
    """Policies that were fetched, by this process or another; they outlive it."""

    def find(self, domain: str) -> KeptPolicy | None:
        """Return what is kept of a domain, from memory; it may have expired."""
        ...

    async def keep(self, kept: KeptPolicy) -> None:
        """Keep a policy. Total."""
        ...

    async def note_trouble(self, domain: str, detail: str, at: Instant) -> None:
        """Note that a policy that is kept could not be fetched again. Total."""
        ...


class Fetcher(Protocol):
    """The way to policy hosts."""

    async def fetch(self, domain: str) -> Policy:
        """
        Fetch a domain's policy.

        Raises:
            PolicyUnavailable: There is none that counts.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StsFinding:
    """
    What holds for a domain.

    Attributes:
        kept: The policy; None where the domain has none that holds.
        record_id: As DNS has it now; None without a record, and where DNS was not asked or did not answer.
        trouble: Why a policy that DNS announces could not be had.
    """

    kept: KeptPolicy | None = None
    record_id: str | None = None
    trouble: Trouble | None = None
    detail: str = ""


class MtaSts:
    """Finds policies."""

    def __init__(self, *, resolver: KnownTexts, fetcher: Fetcher, store: PolicyStore, clock: Clock) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._store = store
        self._clock = clock
        self._failed: dict[str, tuple[str, float, StsFinding]] = {}
        self._running: dict[str, asyncio.Task[StsFinding]] = {}

    async def find(self, domain: str, *, is_fresh: bool = False) -> StsFinding:
        """
        Find the policy that holds for a domain; a new one is fetched where its record's id is new. Total.

        Args:
            is_fresh: Ask DNS even where its answer is known, as is due before mail is given up (RFC 8461 §5.1).
        """
        running = self._running.get(domain)
        if running is None:
            # a task of its own: one caller's cancellation must not fail the others that wait for the same domain
            running = self._running[domain] = asyncio.ensure_future(self._find(domain, is_fresh=is_fresh))
            running.add_done_callback(lambda _: self._running.pop(domain, None))
        return await asyncio.shield(running)

    async def refresh(self, domain: str) -> StsFinding:
        """Fetch a domain's policy again, whether its id is new or not: so its time begins anew (RFC 8461 §10.2). Total."""
        record_id = await self._record_id(domain, is_fresh=True)
        if record_id is None:
            return StsFinding(kept=self._valid(domain), detail="there is no record at _mta-sts." + domain)
        return await self._fetch(domain, record_id)

    async def _find(self, domain: str, *, is_fresh: bool) -> StsFinding:
        record_id = await self._record_id(domain, is_fresh=is_fresh)
        kept = self._valid(domain)
        if record_id is None or (kept is not None and kept.record_id == record_id):
            return StsFinding(kept=kept, record_id=record_id)
        failed = self._failed.get(domain)
        if failed is not None and failed[0] == record_id and failed[1] > self._clock.monotonic():
            return StsFinding(kept=kept, record_id=record_id, trouble=failed[2].trouble, detail=failed[2].detail)
        return await self._fetch(domain, record_id)

    async def _record_id(self, domain: str, *, is_fresh: bool) -> str | None:
        ask = self._resolver.txt if is_fresh else self._resolver.known_txt
        answer = await ask(f"_mta-sts.{domain}")
        return find_record(answer.texts) if isinstance(answer, Texts) else None

    async def _fetch(self, domain: str, record_id: str) -> StsFinding:
        try:
            policy = await self._fetcher.fetch(domain)
        except PolicyUnavailable as error:
            return await self._without(domain, record_id, error)
        kept = KeptPolicy(domain=domain, record_id=record_id, policy=policy, fetched_at=self._clock.now())
        self._failed.pop(domain, None)
        await self._store.keep(kept)
        return StsFinding(kept=kept, record_id=record_id)

    async def _without(self, domain: str, record_id: str, error: PolicyUnavailable) -> StsFinding:
        finding = StsFinding(kept=self._valid(domain), record_id=record_id, trouble=error.trouble, detail=str(error))
        if len(self._failed) >= _REMEMBERED:
            self._failed.clear()
        self._failed[domain] = record_id, self._clock.monotonic() + PAUSE_S, finding
        if finding.kept is not None:
            await self._store.note_trouble(domain, str(error), self._clock.now())
        return finding

    def _valid(self, domain: str) -> KeptPolicy | None:
        kept = self._store.find(domain)
        return kept if kept is not None and kept.expires_at > self._clock.now() else None
