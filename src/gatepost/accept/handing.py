"""
Hands over what was just stored to the dispatch processes of this machine, so that they need not read it again.

Arrives: messages that are committed. Leaves: for each dispatch process a few datagrams, all that came in one round of the event loop
together; or a ring of the bell where something has to be read from the queue.
Not here: what is handed over (store.handover), the sockets (net.bell).
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from gatepost.store.handover import Handed, packed

_BYTES_AT_ONCE: Final = 64 * 1024
"""Of bodies in a datagram; one may have about 200 KB."""


class Bell(Protocol):
    """The way to the dispatch processes."""

    def ring(self) -> None:
        """Say that the queue should be looked at."""
        ...

    def owner(self, shard: int) -> str | None:
        """Name the process of this machine that owns a shard; None when nobody here does."""
        ...

    def hand(self, owner: str, data: bytes) -> bool:
        """Send one of them something; return whether it has it."""
        ...


class Handing:
    """The way of one door's mail to dispatch."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._waiting: list[Handed] = []
        self._is_due = False
        self._must_ring = False
        self._since_s = float("inf")

    def add(self, messages: Sequence[Handed], since_s: float, *, is_all: bool) -> None:
        """
        Hand over messages at the end of this round of the event loop.

        Args:
            since_s: Before they were stored, by the machine's monotonic clock.
            is_all: Nothing else was stored that is due.
        """
        self._waiting += messages
        self._must_ring |= not is_all
        self._since_s = min(self._since_s, since_s)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        waiting, self._waiting = self._waiting, []
        must_ring, self._must_ring = self._must_ring, False
        since_s, self._since_s = self._since_s, float("inf")
        by_owner: dict[str, list[Handed]] = {}
        for message in waiting:
            for owner in {self._bell.owner(row.shard) for row in message.rows}:
                if owner is None:
                    must_ring = True
                else:
                    by_owner.setdefault(owner, []).append(message)
        for owner, messages in by_owner.items():
            for part in _divided(messages):
                must_ring |= not self._bell.hand(owner, packed(part, since_s))
        if must_ring:
            self._bell.ring()


def _divided(messages: Sequence[Handed]) -> Iterator[list[Handed]]:
    """Divide messages into what one datagram takes."""
    part: list[Handed] = []
    size = 0
    for message in messages:
        if part and size + len(message.data) > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.data) + 500 + 300 * len(message.rows)
    if part:
        yield part
