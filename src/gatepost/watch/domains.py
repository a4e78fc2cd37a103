"""
Looks at domains whose turn it is, and at the addresses that mail leaves from.

Arrives: the clock. Leaves: what tenants.domain_health and tenants.source_health find.
Several processes may run this; one of them works.
"""

import asyncio
from typing import Final

from gatepost.clock import SECOND, Clock
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.settings import Watch
from gatepost.store import health
from gatepost.store.engine import Engine
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.source_health import SourceHealth
from gatepost.watch.tasks import Turn

_EVERY_S: Final = 5.0
_LEASE_S: Final = 60.0
_AT_A_TIME: Final = 200


class DomainWatch:
    """The loop's work; `step` is called every second, and looks into the database every five."""

    def __init__(self, engine: Engine, clock: Clock, domains: DomainHealth, sources: SourceHealth, settings: Watch, owner: str) -> None:
        self._engine = engine
        self._clock = clock
        self._domains = domains
        self._sources = sources
        self._settings = settings
        self._owner = owner
        self._turn = Turn(engine, clock, "domains", owner, _LEASE_S)
        self._due_at = 0.0
        self._sources_due_at = 0

    async def step(self) -> int:
        """
        Look at what is due; return how many domains that were.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        if not self._settings.domains_every_s or self._clock.monotonic() < self._due_at:
            return 0
        self._due_at = self._clock.monotonic() + _EVERY_S
        now = self._clock.now()
        due = await self._engine.read(lambda conn: health.due_domains(conn, now, _AT_A_TIME))
        is_time_for_sources = now >= self._sources_due_at
        if not (due or is_time_for_sources) or not await self._turn.mine():  # an idle gateway writes nothing
            return 0
        if is_time_for_sources:
            self._sources_due_at = now + self._settings.domains_every_s * SECOND
            await self._sources.look()
        for first in range(0, len(due), self._settings.concurrency):
            if not await self._turn.mine():  # a long round outlives the lease
                break
            await asyncio.gather(*[self._look(*one) for one in due[first : first + self._settings.concurrency]])
        return len(due)

    async def close(self) -> None:
        """
        Let another process look.

        Raises:
            StorageUnavailable: The database cannot be used now: the next owner waits for the lease's end.
        """
        await self._engine.write(lambda conn: health.let_go(conn, self._owner))

    async def _look(self, tenant_id: str, domain_id: str) -> None:
        try:
            await self._domains.look(tenant_id, domain_id)
        except Refused:  # it was removed meanwhile
            return
        except Exception as error:  # noqa: BLE001 - one domain's trouble must not keep the others from being looked at
            maillog.crashed("watch domain", error, domain_id=domain_id)
