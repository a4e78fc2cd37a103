"""
Connections per source and site: at most so many at once, kept a moment for the next message; in all, so many are kept.

Arrives: who connects where, and how many connections that may be. Leaves: an idle session, or the right to open a connection;
each is given back by `release`. A connection counts until it is closed: in use, idle, and while it says QUIT.
Not here: what a session does (session), which host it leads to (courier), how many are allowed (dispatch.shaping).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from gatepost.egress.smtp.session import Session

_MOST_IDLE: Final = 200
"""Idle connections in all: with more, the oldest is closed. Each has memory here and a place at the other end."""

Key = tuple[str, str]
"""A source's name and a site: what has its own connections."""


Fits = Callable[[Session], bool]
"""Whether a session that is open will do."""
_Waiter = tuple[asyncio.Future[Session | None], Fits | None]


class _Place:
    """One key's connections: `open` counts those in use, idle and closing (`closing` of them); waiters are served in order of arrival."""

    __slots__ = ("closing", "idle", "limit", "open", "waiters")

    def __init__(self, limit: int) -> None:
        self.open = 0
        self.closing = 0
        self.limit = limit
        self.idle: list[Session] = []
        self.waiters: deque[_Waiter] = deque()


class Pool:
    """The connections of one courier."""

    def __init__(self, *, connections_per_site: int, messages_per_connection: int, idle_s: float) -> None:
        """
        Start empty.

        Args:
            connections_per_site: Where `acquire` names no other number.
            messages_per_connection: Where `release` names no other number.
            idle_s: How long an unused connection is kept; 0 keeps none.
        """
        self._limit = connections_per_site
        self._messages = messages_per_connection
        self._idle_s = idle_s
        self._places: dict[Key, _Place] = {}
        self._resting: dict[Session, Key] = {}
        """Idle sessions of all keys, the longest idle first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, key: Key, limit: int | None = None, fits: Fits | None = None) -> Session | None:
        """
        Take an idle session, or the right to open a connection (None); wait while neither is there.

        Args:
            limit: Connections at once from now on; None is the pool's own number.
            fits: Says which sessions will do; None takes every one.

        Raises:
            asyncio.CancelledError: The caller was cancelled; nothing was taken.
        """
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(self._limit)
        place.limit = limit or self._limit
        if (session := self._idle(key, place, fits)) is not None:
            return session
        if place.open < place.limit:
            place.open += 1
            return None
        if place.idle:  # none of them will do: the oldest makes room
            self._end_one(place.idle[0])
        return await self._wait(key, place, fits)

    def _idle(self, key: Key, place: _Place, fits: Fits | None) -> Session | None:
        unfit: list[Session] = []
        found: Session | None = None
        while place.idle and found is None:
            session = place.idle.pop()  # the most recent: the least likely to have been closed meanwhile
            del self._resting[session]
            if not session.is_usable:
                place.open -= 1
            elif place.open - place.closing > place.limit:
                self._end(key, place, session)
            elif fits is None or fits(session):
                found = session
            else:
                unfit.append(session)
        for session in reversed(unfit):
            place.idle.append(session)
            self._resting[session] = key
        return found

    async def _wait(self, key: Key, place: _Place, fits: Fits | None) -> Session | None:
        waiter: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()
        place.waiters.append((waiter, fits))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(key, waiter.result())
            else:
                place.waiters.remove((waiter, fits))
            raise

    def release(self, key: Key, session: Session | None, messages: int | None = None) -> None:
        """
        Give back what `acquire` gave, or the session that was opened instead.

        Args:
            session: None, or one that is closed, when there is no connection to keep.
            messages: After so many a connection is closed; None is the pool's own number.
        """
        place = self._places[key]
        if session is None:
            self._free(key, place)
        elif (
            session.transactions >= (messages or self._messages)
            or self._is_closed
            or place.open - place.closing > place.limit
            or not session.is_usable
        ):
            self._end(key, place, session)
        elif _is_waited_for(place):
            waiter, fits = place.waiters[0]
            if fits is None or fits(session):
                place.waiters.popleft()
                waiter.set_result(session)
            else:  # it makes room for one that will do
                self._end(key, place, session)
        elif self._idle_s > 0:
            self._put_aside(key, place, session)
        else:
            self._end(key, place, session)

    def _end(self, key: Key, place: _Place, session: Session) -> None:
        """Close a connection; the other side counts it until it is gone, and so do we."""
        session.quit()
        if session.transport is None or session.ended.done():
            self._free(key, place)
        else:
            place.closing += 1
            session.ended.add_done_callback(lambda _: self._closed(key, place))

    def _closed(self, key: Key, place: _Place) -> None:
        place.closing -= 1
        self._free(key, place)

    def _free(self, key: Key, place: _Place) -> None:
        """One connection less; whoever waits may open another."""
        if place.open <= place.limit and _is_waited_for(place):
            waiter, _ = place.waiters.popleft()
            waiter.set_result(None)
            return
        place.open -= 1
        if not place.open and self._places.get(key) is place and not place.waiters:
            del self._places[key]

    def _put_aside(self, key: Key, place: _Place, session: Session) -> None:
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        place.idle.append(session)
        self._resting[session] = key
        if len(self._resting) > _MOST_IDLE:
            self._end_one(next(iter(self._resting)))
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_s, self._end_idle)

    def _end_one(self, session: Session) -> None:
        """Close an idle connection."""
        key = self._resting.pop(session)
        place = self._places[key]
        place.idle.remove(session)
        self._end(key, place, session)

    def _end_idle(self) -> None:
        """Close what has been idle for long enough; one timer serves all connections."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        before = loop.time() - self._idle_s
        while self._resting:
            session = next(iter(self._resting))
            if session.is_usable and session.idle_since > before:
                self._sweep = loop.call_at(session.idle_since + self._idle_s, self._end_idle)
                return
            self._end_one(session)

    async def close(self) -> None:
        """Say QUIT on idle connections and wait for their ends; those in use end when they are released."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        ending = list(self._resting)
        for session in ending:
            self._end_one(session)
        if ending:
            await asyncio.wait([session.ended for session in ending], timeout=3)


def _is_waited_for(place: _Place) -> bool:
    """Tell whether somebody waits, and leave them first in the line."""
    while place.waiters and place.waiters[0][0].done():
        place.waiters.popleft()
    return bool(place.waiters)
