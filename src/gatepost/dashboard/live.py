"""
News for open pages, as server-sent events.

Arrives: a request of a page that stays open. Leaves: a line whenever something happened; pages then fetch what they show.
One look at the database a second serves all pages of a process.
Standards: HTML Living Standard §9.2 (server-sent events).
A stream ends after ten minutes, and at once when the process wants to stop: pages reconnect by themselves.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from gatepost.clock import Clock
from gatepost.dashboard.reads import Mark, mark
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable

_INTERVAL_S = 1.0
_HEARTBEAT_S = 10.0
_LIFETIME_S = 600.0


class Pulse:
    """The latest mark, read at most once a second for each thing that is watched."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._seen: dict[tuple[str | None, str | None], tuple[float, Mark]] = {}

    async def latest(self, tenant_id: str | None, message_id: str | None) -> Mark:
        """
        Return the latest mark of a tenant, or of one of its messages.

        Args:
            tenant_id: None is everybody's.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.monotonic()
        what = (tenant_id, message_id)
        known = self._seen.get(what)
        if known is not None and now - known[0] < _INTERVAL_S * 0.9:
            return known[1]
        found = await self._engine.read(lambda conn: mark(conn, tenant_id, message_id))
        self._seen = {key: value for key, value in self._seen.items() if now - value[0] < 2 * _INTERVAL_S}
        self._seen[what] = (now, found)
        return found

    async def stream(
        self, tenant_id: str | None, message_id: str | None, is_closing: Callable[[], bool], may_look: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """
        Yield an event at once and whenever the mark changes, and a comment when it is quiet for long.

        Args:
            is_closing: Tells that the process wants to stop.
            may_look: Tells that who opened the page is still signed in; asked every second.
        """
        yield b"retry: 2000\n\n"
        last: Mark | None = None
        started = spoke = self._clock.monotonic()
        while (now := self._clock.monotonic()) - started < _LIFETIME_S and not is_closing():
            try:
                if not await may_look():
                    return
                current = await self.latest(tenant_id, message_id)
            except StorageUnavailable:
                return  # the page says that it is not live any more, and comes again
            if current != last:
                last, spoke = current, now
                yield _event(current)
            elif now - spoke >= _HEARTBEAT_S:
                spoke = now
                yield b": quiet\n\n"
            await self._clock.sleep(_INTERVAL_S)


def _event(current: Mark) -> bytes:
    return b"event: pulse\ndata: " + msgspec.json.encode({"newest": current.newest, "event": current.event}) + b"\n\n"
