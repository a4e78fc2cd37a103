"""
Which shards this process may work on.

Every third of a lease one transaction says that we live, extends our leases, takes what is free and by rendezvous hash
ours, and gives back what is somebody else's once nothing of it is in flight.
Not here: the fence at settle (settle, store.leases).
"""

import zlib
from collections.abc import Sequence

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.route import SHARDS
from gatepost.observe import maillog, metrics
from gatepost.store import leases
from gatepost.store.engine import Engine


class Ownership:
    """The leases of one dispatch process."""

    def __init__(self, engine: Engine, clock: Clock, node_id: str, host: str, pid: int, lease_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._node_id = node_id
        self._host = host
        self._pid = pid
        self._lease_s = lease_s
        self._safe_until = float("-inf")
        self._due = float("-inf")
        self.epochs: dict[int, int] = {}
        self.draining: set[int] = set()

    @property
    def node_id(self) -> str:
        """The name of this process, as it stands in the leases."""
        return self._node_id

    def is_due(self) -> bool:
        """Tell whether the leases want to be renewed."""
        return self._clock.monotonic() >= self._due

    def is_safe(self, shard: int) -> bool:
        """
        Tell whether a new delivery from a shard may start: enough of its lease is left to finish and settle it.

        A process that was frozen past its lease finds out here, before it touches the network.
        """
        return shard in self.epochs and self._clock.monotonic() < self._safe_until

    def claimable(self) -> list[int]:
        """List the shards whose due rows may be read."""
        if self._clock.monotonic() >= self._safe_until:
            return []
        return [shard for shard in self.epochs if shard not in self.draining]

    async def step(self, busy: frozenset[int]) -> None:
        """
        Renew, take and give back.

        Args:
            busy: Shards of which something is in memory: they are given back later.

        Raises:
            StorageUnavailable: Nothing changed; the leases run on.
        """
        started, now = self._clock.monotonic(), self._clock.now()
        epochs, desired, taken_over = await self._engine.write(lambda conn: self._renew(conn, now, busy))
        if taken_over:
            metrics.shards_taken_over.inc(taken_over)
        if len(epochs) != len(self.epochs) or taken_over:
            maillog.lifecycle("shards", node=self._node_id, owned=len(epochs), taken_over=taken_over)
        self.epochs = epochs
        self.draining = set(epochs) - set(desired)
        metrics.shards_owned.labels(self._node_id).set(len(epochs))
        # counted from before the transaction: the database counts from there too
        self._safe_until = started + self._lease_s - min(5.0, self._lease_s / 3)
        self._due = started + self._lease_s / 3

    def _renew(self, conn: Connection, now: Instant, busy: frozenset[int]) -> tuple[dict[int, int], list[int], int]:
        expires_at = now + int(self._lease_s * 1000)
        leases.heartbeat(conn, self._node_id, self._host, self._pid, now)
        nodes = leases.live_nodes(conn, now - int(self._lease_s * 1000))
        desired = [shard for shard in range(SHARDS) if _favourite(shard, nodes) == self._node_id]
        held = leases.renew(conn, self._node_id, expires_at)
        surplus = set(held) - set(desired) - busy
        if surplus:
            leases.release(conn, self._node_id, sorted(surplus))
        missing = [shard for shard in desired if shard not in held]
        taken_over = leases.take(conn, self._node_id, missing, now, expires_at) if missing else 0
        return leases.owned(conn, self._node_id), desired, taken_over

    async def release(self) -> None:
        """
        Give everything back at once, so that others need not wait for the leases to end.

        Raises:
            StorageUnavailable: They will end by themselves.
        """
        self.epochs = {}
        self._safe_until = float("-inf")
        await self._engine.write(lambda conn: leases.release(conn, self._node_id))


def _favourite(shard: int, nodes: Sequence[str]) -> str:
    """Rendezvous hashing: when a process comes or goes, only its own share moves."""
    return max(nodes, key=lambda node: (zlib.crc32(f"{node}/{shard}".encode()), node))
