"""
Which relays' lists are looked at now, and by whom.

Arrives: the clock. Leaves: rounds, one relay's apart from the others'. Of several processes one does it, by a lease.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from gatepost.clock import Clock
from gatepost.observe import maillog
from gatepost.returns.relay_lists.rounds import RoundLost, Rounds
from gatepost.store import health, relay_lists
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.relay_lists import Stored

EVERY_S: Final = 5.0
_LEASE_MS: Final = 15 * 60_000
"""Longer than one call to a provider may take; it is renewed before each."""


class RelayListLoop:
    """The loop's work: `step` is called every few seconds in each door process."""

    def __init__(self, engine: Engine, clock: Clock, rounds: Mapping[str, Rounds], owner: str) -> None:
        """
        Args:
            rounds: By relay; those whose lists are looked at at all.
            owner: Name of this process.
        """
        self._engine = engine
        self._clock = clock
        self._rounds = rounds
        self._owner = owner
        self._running: dict[str, asyncio.Task[None]] = {}

    async def step(self) -> None:
        """
        Begin what is due; what runs goes on.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        if not self._rounds:
            return
        due, now = await self._engine.read(relay_lists.due), self._clock.now()
        for relay, rounds in self._rounds.items():
            if due.get(relay, 0) > now or relay in self._running:
                continue
            turn = Turn(self._engine, self._clock, relay, self._owner)
            if not await turn.mine():
                continue
            if (await self._engine.read(relay_lists.due)).get(relay, 0) > now:  # another process did it a moment ago
                await turn.let_go()
            else:
                self._running[relay] = asyncio.ensure_future(self._run(relay, rounds, turn))

    async def finish(self) -> None:
        """Wait for what runs; for tests."""
        await asyncio.gather(*self._running.values())

    async def close(self) -> None:
        """Stop what runs, so that another process can do it; what is not done is done the next time."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for rounds in self._rounds.values():
            await rounds.client.close()

    async def _run(self, relay: str, rounds: Rounds, turn: "Turn") -> None:
        try:
            await turn.do(rounds, is_full=False, is_accepted=False)
        except RoundLost:
            maillog.trouble("another process goes on with a relay's suppression list", relay=relay)
        except StorageUnavailable as error:
            maillog.trouble("a relay's suppression list is waiting for the database", relay=relay, error=str(error))
        except Exception as error:  # noqa: BLE001 - one relay's trouble must not end the others'
            maillog.crashed("relay list", error, relay=relay)
        finally:
            self._running.pop(relay, None)


class Turn:
    """A process's turn at one relay's list."""

    def __init__(self, engine: Engine, clock: Clock, relay: str, owner: str) -> None:
        self._engine = engine
        self._clock = clock
        self._task = f"list/{relay}"
        self._owner = f"{owner}/{self._task}"

    async def mine(self) -> bool:
        """
        Take the list, or keep it; tell whether it is this process's now.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        return await self._engine.write(lambda conn: health.hold(conn, self._task, self._owner, now, now + _LEASE_MS))

    async def do(self, rounds: Rounds, *, is_full: bool, is_accepted: bool) -> Stored:
        """
        Do a round, and let the list go.

        Raises:
            RoundLost: Another process has taken it over.
            StorageUnavailable: The database cannot be used now; the lease ends by itself.
        """
        rounds.keep = self.mine
        try:
            return await rounds.run(is_full=is_full, is_accepted=is_accepted)
        finally:
            await self.let_go()

    async def let_go(self) -> None:
        """
        Leave the list to others.

        Raises:
            StorageUnavailable: The database cannot be used now; the lease ends by itself.
        """
        await self._engine.write(lambda conn: health.let_go(conn, self._owner))
