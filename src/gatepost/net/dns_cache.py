"""
Answers remembered: as long as they are good, and for a day as what to say while the resolver fails.

Arrives: a key, and how to ask. Leaves: the answer; questions about one name are asked once, however many wait for it.
While a remembered answer is good enough to fall back on, nobody waits longer than two seconds for a fresher one.
Standards: RFC 2308 (negative caching), RFC 8767 (serving stale answers).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from gatepost.clock import Clock

FAILURE_TTL_S: Final = 5.0
STALE_S: Final = 86_400.0
CACHED_NAMES: Final = 20_000
_PATIENCE_S: Final = 1.8
"""RFC 8767 §5, client response timer."""

Key = tuple[str, str]
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[A]):
    """
    What asking came to.

    Attributes:
        is_failure: Nobody could say; the last good answer counts on, where there is one.
        stale_s: How long it counts on.
    """

    answer: A
    ttl_s: float
    is_failure: bool = False
    stale_s: float = STALE_S


@dataclass(slots=True)
class _Known:
    answer: object
    fresh_until: float
    stale_until: float


class AnswerCache:
    """Answers by question, the least used forgotten first."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._asking: dict[Key, asyncio.Future[object]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Fresh[A]]]) -> A:
        """Return the answer to a question, asking only when it is not known."""
        known = self._known.get(key)
        if known is not None and known.fresh_until > self._clock.monotonic():
            self._known.move_to_end(key)
            return cast("A", known.answer)
        future: asyncio.Future[object] | None = self._asking.get(key)
        if future is None:
            # A task of its own: one caller's cancellation must not fail the others that wait for the same name.
            future = asyncio.ensure_future(self._refresh(key, ask))
            self._asking[key] = future
            future.add_done_callback(lambda _: self._asking.pop(key, None))
        if known is not None and known.stale_until > self._clock.monotonic():
            await asyncio.wait([future], timeout=_PATIENCE_S)
            if not future.done():
                return cast("A", known.answer)
        return cast("A", await asyncio.shield(future))

    async def _refresh(self, key: Key, ask: Callable[[], Awaitable[Fresh[A]]]) -> object:
        fresh = await ask()
        now = self._clock.monotonic()
        known = self._known.get(key)
        if not fresh.is_failure:
            self._remember(key, _Known(fresh.answer, now + fresh.ttl_s, now + fresh.stale_s))
        elif known is not None and known.stale_until > now:
            known.fresh_until = now + FAILURE_TTL_S
            return known.answer
        else:
            self._remember(key, _Known(fresh.answer, now + FAILURE_TTL_S, now))
        return fresh.answer

    def _remember(self, key: Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > CACHED_NAMES:
            self._known.popitem(last=False)
