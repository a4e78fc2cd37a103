"""
The shelf of MTA-STS policies: in memory for those who deliver, in the database for every process and every restart.

Arrives: policies that were fetched. Leaves: what is kept of a domain, without asking the database; policies fetched anew before they end.
What another process fetched is seen after `FOLLOW_S`. While the database is away, what is in memory holds.
Standards: RFC 8461 §3.3, §10.2 (refresh in time).
Not here: whether a policy holds and when a new one is there (egress.smtp.mta_sts), the SQL (store.tls_policies).
Bugs: none known.
"""

from typing import Final

from gatepost.clock import DAY, HOUR, SECOND, Clock, Instant
from gatepost.egress.smtp.mta_sts import MtaSts
from gatepost.observe import maillog
from gatepost.store import tls_policies
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.wire.mta_sts import KeptPolicy, Mode

FOLLOW_S: Final = 10.0
"""How often a process looks what others have fetched."""
REFRESH_S: Final = 60.0
"""How often it looks for policies that are due."""
_OVERLAP: Final = 60 * SECOND
"""Commits become visible late, and machines' clocks differ."""
_AT_ONCE: Final = 20
_CLAIM: Final = 10 * 60 * SECOND
_FORGET_AFTER: Final = 30 * DAY


class PolicyShelf:
    """Policies by domain; a `PolicyStore` for those who deliver."""

    def __init__(self, engine: Engine, clock: Clock, refresh_s: float) -> None:
        """
        Start empty: call `follow` before the first delivery.

        Args:
            refresh_s: A policy is fetched again after so long, or half of its own time.
        """
        self._engine = engine
        self._clock = clock
        self._refresh_ms = int(refresh_s * 1000)
        self._kept: dict[str, KeptPolicy] = {}
        self._seen_at: Instant = 0

    def find(self, domain: str) -> KeptPolicy | None:
        """Return what is kept of a domain; it may have expired."""
        return self._kept.get(domain)

    async def keep(self, kept: KeptPolicy) -> None:
        """Keep a policy; a database that is away does not keep it from counting. Total."""
        self._put(kept)
        try:
            await self._engine.write(lambda conn: tls_policies.keep(conn, kept, self._due(kept)))
        except StorageUnavailable as error:
            maillog.trouble("an MTA-STS policy could not be kept", domain=kept.domain, error=str(error))

    async def note_trouble(self, domain: str, detail: str, at: Instant) -> None:
        """Note, and tell operators, that a policy which holds cannot be fetched again (RFC 8461 §10.2). Total."""
        kept = self._kept.get(domain)
        if kept is None or kept.policy.mode is not Mode.NONE:
            maillog.trouble("an MTA-STS policy cannot be fetched again", domain=domain, error=detail)
        try:
            await self._engine.write(lambda conn: tls_policies.note_trouble(conn, domain, detail, at, at + HOUR))
        except StorageUnavailable as error:
            maillog.trouble("an MTA-STS policy's trouble could not be noted", domain=domain, error=str(error))

    async def follow(self) -> None:
        """
        Read what this and other processes have kept.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now, since = self._clock.now(), self._seen_at - _OVERLAP
        for state in await self._engine.read(lambda conn: tls_policies.changed_since(conn, since)):
            self._put(state.kept)
        self._seen_at = now

    async def refresh(self, sts: MtaSts) -> int:
        """
        Fetch policies again that are due, each by one process; return how many.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        domains = await self._engine.write(lambda conn: tls_policies.claim_refresh(conn, now, now + _CLAIM, _AT_ONCE))
        for domain in domains:
            await self._refresh(sts, domain, now)
        return len(domains)

    async def forget(self) -> None:
        """
        Drop policies that ended long ago.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        before = self._clock.now() - _FORGET_AFTER
        await self._engine.write(lambda conn: tls_policies.forget(conn, before))
        self._kept = {domain: kept for domain, kept in self._kept.items() if kept.expires_at >= before}

    async def _refresh(self, sts: MtaSts, domain: str, now: Instant) -> None:
        finding = await sts.refresh(domain)
        if finding.record_id is None:  # the record is gone: what is kept holds to its end, and is told of
            await self.note_trouble(domain, finding.detail, now)

    def _put(self, kept: KeptPolicy) -> None:
        known = self._kept.get(kept.domain)
        if known is None or known.fetched_at <= kept.fetched_at:
            self._kept[kept.domain] = kept

    def _due(self, kept: KeptPolicy) -> Instant:
        return kept.fetched_at + min(self._refresh_ms, kept.policy.max_age_s * 500)
