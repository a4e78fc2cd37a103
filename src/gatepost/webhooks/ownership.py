"""
Which webhooks this process delivers.

Once a second it looks who holds which; every third of a lease it renews its own, takes what is free and by rendezvous hash
its own, and gives back what is another's once nothing of it is in flight. A process whose row among the nodes is gone
holds nothing any more, so that its supervisor need not know of webhooks.
Not here: the fence when results are written (store.webhooks.held), the queue's shards (dispatch.ownership).
"""

import zlib
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.store import webhooks
from gatepost.store.engine import Engine
from gatepost.store.webhooks import Lease

_LOOK_S: Final = 1.0


class HookOwnership:
    """
    The webhooks of one process.

    Attributes:
        owned: By id, with the instant of the last change of each.
        draining: Those of them that another process should have.
    """

    def __init__(self, engine: Engine, clock: Clock, node_id: str, lease_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._lease_s = lease_s
        self._looked_at = self._renewed_at = self._safe_until = float("-inf")
        self.node_id = node_id
        self.owned: dict[str, Instant] = {}
        self.draining: set[str] = set()

    @property
    def is_safe(self) -> bool:
        """Tell whether enough of the leases is left to begin something."""
        return self._clock.monotonic() < self._safe_until

    async def step(self, busy: frozenset[str]) -> bool:
        """
        Look, and renew when it is time; return whether it looked.

        Args:
            busy: Webhooks of which something is in flight: they are given back later.

        Raises:
            StorageUnavailable: Nothing changed; the leases run on.
        """
        started, now = self._clock.monotonic(), self._clock.now()
        if started - self._looked_at < _LOOK_S:
            return False
        leases, nodes = await self._engine.read(lambda conn: self._look(conn, now))
        self._looked_at = started
        desired = {one.webhook_id for one in leases if _favourite(one.webhook_id, nodes) == self.node_id}
        is_old = bool(self.owned) and started - self._renewed_at >= self._lease_s / 3
        mine = {one.webhook_id for one in leases if one.owner == self.node_id and one.until > now}
        surplus = mine - desired - busy
        missing = {one.webhook_id for one in leases if one.webhook_id in desired and _is_free(one, nodes, now)}
        if is_old or surplus or missing:
            leases = await self._engine.write(lambda conn: self._renew(conn, desired | (mine & busy), surplus, nodes, now))
            self._renewed_at = started
            # counted from before the transaction: the database counts from there too
            self._safe_until = started + self._lease_s - min(5.0, self._lease_s / 3)
        self.owned = {one.webhook_id: one.changed_at for one in leases if one.owner == self.node_id and one.until > now}
        self.draining = self.owned.keys() - desired
        return True

    async def release(self) -> None:
        """
        Give everything back at once.

        Raises:
            StorageUnavailable: The leases will end by themselves.
        """
        had, self.owned, self._safe_until = bool(self.owned), {}, float("-inf")
        if had:
            await self._engine.write(lambda conn: webhooks.let_go(conn, self.node_id))

    def _look(self, conn: Connection, now: Instant) -> tuple[list[Lease], list[str]]:
        leases = webhooks.leases(conn)
        nodes = webhooks.live_nodes(conn, now - int(self._lease_s * 1000)) if leases else []
        return leases, sorted({*nodes, self.node_id})

    def _renew(
        self, conn: Connection, wanted: set[str], surplus: set[str], nodes: Sequence[str], now: Instant
    ) -> list[Lease]:  # fmt: skip
        if surplus:
            webhooks.let_go(conn, self.node_id, surplus)
        if wanted:
            webhooks.take(conn, wanted, self.node_id, nodes, now, now + int(self._lease_s * 1000))
        return webhooks.leases(conn)


def _is_free(lease: Lease, nodes: Sequence[str], now: Instant) -> bool:
    return lease.owner is None or lease.until <= now or lease.owner not in nodes


def _favourite(webhook_id: str, nodes: Sequence[str]) -> str:
    """Rendezvous hashing: when a process comes or goes, only its own share moves."""
    return max(nodes, key=lambda node: (zlib.crc32(f"{node}/{webhook_id}".encode()), node))
