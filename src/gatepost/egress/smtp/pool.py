"""
Connections per site: at most so many at once, kept a moment for the next message.

Arrives: a site's name. Leaves: an idle session, or the right to open a connection; each is given back by `release`.
Not here: what a session does (session), which host it leads to (courier).
"""

import asyncio
from collections import deque

from gatepost.egress.smtp.session import Session


class _Site:
    """One site's connections: `open` counts those in use and idle; waiters are served in order of arrival."""

    __slots__ = ("idle", "open", "waiters")

    def __init__(self) -> None:
        self.open = 0
        self.idle: list[Session] = []
        self.waiters: deque[asyncio.Future[Session | None]] = deque()


class Pool:
    """The connections of one courier."""

    def __init__(self, *, connections_per_site: int, messages_per_connection: int, idle_s: float) -> None:
        """
        Start empty.

        Args:
            idle_s: How long an unused connection is kept; 0 keeps none.
        """
        self._limit = connections_per_site
        self._messages = messages_per_connection
        self._idle_s = idle_s
        self._sites: dict[str, _Site] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, site: str) -> Session | None:
        """
        Take an idle session of the site, or the right to open a connection (None); wait while neither is there.

        Raises:
            asyncio.CancelledError: The caller was cancelled; nothing was taken.
        """
        place = self._sites.get(site)
        if place is None:
            place = self._sites[site] = _Site()
        while place.idle:
            session = place.idle.pop()  # the most recent: the least likely to have been closed meanwhile
            if session.is_usable:
                return session
            place.open -= 1
        if place.open < self._limit:
            place.open += 1
            return None
        return await self._wait(site, place)

    async def _wait(self, site: str, place: _Site) -> Session | None:
        waiter: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()
        place.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(site, waiter.result())
            else:
                place.waiters.remove(waiter)
            raise

    def release(self, site: str, session: Session | None) -> None:
        """
        Give back what `acquire` gave, or the session that was opened instead.

        Args:
            session: None, or one that is closed, when there is no connection to keep.
        """
        place = self._sites[site]
        if session is not None and (session.transactions >= self._messages or self._is_closed or not session.is_usable):
            session.quit()
            session = None
        while place.waiters:
            waiter = place.waiters.popleft()
            if not waiter.done():
                waiter.set_result(session)
                return
        if session is not None and self._idle_s > 0:
            self._put_aside(place, session)
            return
        if session is not None:
            session.quit()
        place.open -= 1
        if not place.open:
            self._sites.pop(site, None)

    def _put_aside(self, place: _Site, session: Session) -> None:
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        place.idle.append(session)
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        """Close what has been idle for long enough; one timer serves all connections."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        before = loop.time() - self._idle_s
        oldest = None
        for site, place in list(self._sites.items()):
            kept = [session for session in place.idle if session.is_usable and session.idle_since > before]
            for session in place.idle:
                if session not in kept:
                    session.quit()
                    place.open -= 1
            place.idle = kept
            if not place.open:
                del self._sites[site]
            oldest = min([s.idle_since for s in kept] + ([oldest] if oldest is not None else []), default=None)
        if oldest is not None:
            self._sweep = loop.call_at(oldest + self._idle_s, self._end_idle)

    async def close(self) -> None:
        """Say QUIT on idle connections and wait for their ends; those in use end when they are released."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        ending = [session for place in self._sites.values() for session in place.idle]
        for place in self._sites.values():
            place.open -= len(place.idle)
            place.idle = []
        for session in ending:
            session.quit()
        if ending:
            await asyncio.wait([session.ended for session in ending], timeout=3)
