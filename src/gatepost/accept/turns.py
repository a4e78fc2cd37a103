"""
Lets the event loop breathe: when many messages come in the same moment, only some are composed before others get a word in.

Arrives: requests that are about to compose a message. Leaves: their turn, in order.
Why: composing takes a fraction of a millisecond, and a thousand in a row keep a code waiting that came just behind them.
Not here: how many are let in at all (admission).
Bugs: none known.
"""

import asyncio
from collections import deque
from typing import Final

_AT_A_STRETCH: Final = 25


class Turns:
    """Gives out so many turns in one round of the event loop; who comes later waits for the next."""

    def __init__(self, at_a_stretch: int = _AT_A_STRETCH) -> None:
        self._at_a_stretch = self._left = at_a_stretch
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def take(self) -> None:
        """Wait for a turn; at once while there are few."""
        if self._left and not self._waiting:
            self._left -= 1
            self._count()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._count()
        await turn

    def _count(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_counting = False
        self._left = self._at_a_stretch
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its request was given up
                turn.set_result(None)
                self._left -= 1
        if self._waiting or self._left < self._at_a_stretch:
            self._count()
