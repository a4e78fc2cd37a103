"""
The ledger of relays' quotas, in the database.

Arrives: what couriers take of a quota, and what they sent. Leaves: rows of store.relay_use.
What is taken is written down before it is used; what was sent is written a moment later, since it is only for people to see.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from gatepost.clock import DAY, Clock, Instant
from gatepost.egress.pacing import LedgerAway, window_of
from gatepost.store import relay_use
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable

FLUSH_S = 1.0
_KEPT_DAYS = 400


class RelayLedger:
    """Implements `egress.pacing.Ledger`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Start with nothing unwritten."""
        self._engine = engine
        self._clock = clock
        self._sent: dict[tuple[str, str], int] = {}
        self._forgotten_on = ""

    async def take(self, relay: str, window: str, wanted: int, limit: int) -> int:
        """
        Write down that recipients of a window are taken; return how many there were, at most `wanted`.

        Raises:
            LedgerAway: The database cannot be used now.
        """
        try:
            return await self._engine.write(lambda conn: relay_use.take(conn, relay, window, wanted, limit))
        except StorageUnavailable as error:
            raise LedgerAway(str(error)) from error

    def note(self, relay: str, at: Instant, recipients: int) -> None:
        """Count what was sent on the day of an instant."""
        day, _ = window_of("day", at)
        self._sent[relay, day] = self._sent.get((relay, day), 0) + recipients

    async def flush(self) -> None:
        """
        Write down what was sent since the last time, and delete what is old once a day.

        Raises:
            StorageUnavailable: The database cannot be used now; it is kept for the next time.
        """
        sent, self._sent = self._sent, {}
        today, _ = window_of("day", self._clock.now())
        oldest, _ = window_of("day", self._clock.now() - _KEPT_DAYS * DAY)
        if not sent and self._forgotten_on == today:
            return
        try:
            await self._engine.write(lambda conn: _write(conn, sent, oldest))
            self._forgotten_on = today
        except StorageUnavailable:
            for key, recipients in sent.items():
                self._sent[key] = self._sent.get(key, 0) + recipients
            raise


def _write(conn: Connection, sent: Mapping[tuple[str, str], int], oldest: str) -> None:
    relay_use.count(conn, sent)
    relay_use.forget(conn, oldest)
