"""
Who looks: of several processes one, by a lease that ends when its owner is silent.

Arrives: a task's name. Leaves: whether this process does it now.
"""

from gatepost.clock import SECOND, Clock
from gatepost.store import health
from gatepost.store.engine import Engine


class Turn:
    """A process's turn at a task."""

    def __init__(self, engine: Engine, clock: Clock, task: str, owner: str, lease_s: float) -> None:
        """
        Args:
            owner: Name of the process; another one at each start.
            lease_s: How long the task stays with a process that says nothing any more.
        """
        self._engine = engine
        self._clock = clock
        self._task = task
        self._owner = owner
        self._lease = int(lease_s * SECOND)

    async def mine(self) -> bool:
        """
        Take the task, or keep it.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        return await self._engine.write(lambda conn: health.hold(conn, self._task, self._owner, now, now + self._lease))
