"""
Writes the deliverability score of every domain down: one row a day, today's anew each time.

Arrives: the clock. Leaves: rows of `deliverability_score`. Several processes may run this; one of them works.
Not here: what a score is (policy.deliverability), where its facts come from (tenants.deliverability).
"""

from typing import Final

from gatepost.clock import DAY, SECOND, Clock, Instant
from gatepost.observe import maillog
from gatepost.policy.quota import day_of
from gatepost.settings import Deliverability as Options
from gatepost.store import health, scores, tenants
from gatepost.store.engine import Engine
from gatepost.store.scores import ScoreRow
from gatepost.tenants.deliverability import Deliverability

TASK: Final = "deliverability"
STEP_S: Final = 60.0
"""How often a process looks whether it is time."""
_SHORTEST_LEASE: Final = 5 * 60 * SECOND
_AT_ONCE: Final = 500


class ScoreKeeping:
    """The loop's work; one in each door process."""

    def __init__(self, engine: Engine, clock: Clock, deliverability: Deliverability, options: Options, owner: str) -> None:
        """
        Args:
            owner: Name of this process, new for every start.
        """
        self._engine = engine
        self._clock = clock
        self._deliverability = deliverability
        self._options = options
        self._owner = owner
        self._due_at: Instant = 0

    async def step(self) -> int:
        """
        Write scores down when it is time; return how many.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        if not self._options.every_s or now < self._due_at:
            return 0
        owners = sorted({one.tenant_id for one in await self._engine.read(tenants.domains)})
        if not owners or not await self._is_mine():
            return 0
        self._due_at = now + self._options.every_s * SECOND
        written = 0
        for tenant_id in owners:
            if not await self._is_mine():  # a long round outlives the lease
                break
            written += await self._write(tenant_id, now)
        keep = day_of(now - self._options.keep_days * DAY)
        await self._engine.write(lambda conn: scores.purge(conn, keep))
        return written

    async def close(self) -> None:
        """
        Let another process do it.

        Raises:
            StorageUnavailable: The database cannot be used now: the next owner waits for the lease's end.
        """
        await self._engine.write(lambda conn: health.let_go(conn, self._owner))

    async def _is_mine(self) -> bool:
        now = self._clock.now()
        # as long as a pause: when another process takes over, it is time again
        lease = max(self._options.every_s * SECOND, _SHORTEST_LEASE)
        return await self._engine.write(lambda conn: health.hold(conn, TASK, self._owner, now, now + lease))

    async def _write(self, tenant_id: str, now: Instant) -> int:
        try:
            measured = await self._deliverability.measure(tenant_id)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others from being measured
            maillog.crashed("deliverability scores", error, tenant_id=tenant_id)
            return 0
        rows = [
            ScoreRow(domain_id=one.domain.id, tenant_id=tenant_id, day=day_of(now), at=now, score=one.score) for one in measured
        ]  # fmt: skip
        for first in range(0, len(rows), _AT_ONCE):
            chunk = rows[first : first + _AT_ONCE]
            await self._engine.write(lambda conn, chunk=chunk: scores.put(conn, chunk))  # type: ignore[misc]
        return len(rows)
