"""
Mail that waits for an address which was suppressed meanwhile is ended; it does not go out.

Arrives: addresses that were noted when they were suppressed (store.suppression_due). Leaves: their recipients in the shards that this
process owns, settled as suppressed under the fence, each with its event; senders who want to know are told by mail.
What waits in memory is taken out of it first. What is on the network at this moment cannot be called back: when it comes
back deferred, the next look ends it.
Not here: who is suppressed (suppressing, tenants.suppressions), what is accepted (accept).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from gatepost.bounce_messages import BounceMessages
from gatepost.clock import SECOND, Clock, Instant
from gatepost.dispatch.delivering import tell
from gatepost.dispatch.memory import Memory
from gatepost.dispatch.waiting import Group, Key
from gatepost.domain.event import EventType
from gatepost.domain.outcome import Category
from gatepost.domain.recipient import Status
from gatepost.settle import Decision, Result, new_event_id, settle
from gatepost.store import messages, queue_actions, suppression_due
from gatepost.store.engine import Engine
from gatepost.store.suppression_due import RACE_MS, Noted, Waiting

_AT_ONCE: Final = 500
"""Addresses that are looked at in one step."""
_MOST: Final = 5_000
_REST_MS: Final = 2 * SECOND
"""How long an address is left alone of which nothing could be ended here: others own its mail, or it is on the network."""

Found = Mapping[tuple[str, str], Sequence[Waiting]]


class Ending:
    """Ends what waits in vain, for one process."""

    def __init__(
        self, engine: Engine, clock: Clock, owner: str, memory: Memory, let_go: Callable[[Group], None], reports: BounceMessages | None
    ) -> None:
        """
        Args:
            let_go: Called with groups that were taken out of memory: they are in the queue still.
            reports: Tells senders by mail; None tells nobody.
        """
        self._engine = engine
        self._clock = clock
        self._owner = owner
        self._memory = memory
        self._let_go = let_go
        self._reports = reports
        self._resting: dict[Noted, Instant] = {}

    async def step(self, epochs: Mapping[int, int]) -> int:
        """
        Look at what was suppressed; return how many recipients were ended.

        Raises:
            StorageUnavailable: It is done the next time.
        """
        now = self._clock.now()
        noted = await self._engine.read(lambda conn: suppression_due.due(conn, now, _MOST))
        if not noted:
            return 0
        self._resting = {one: until for one, until in self._resting.items() if until > now}
        chosen = [one for one in noted if one not in self._resting][:_AT_ONCE]
        if not chosen:
            return 0
        found, names = await self._engine.read(lambda conn: _find(conn, chosen, now))
        mine = self._take(found, epochs)
        ended = await self._engine.write(lambda conn: self._end(conn, chosen, found, mine, names, epochs, now))
        tell(ended)
        done = {(one.due.message_id, one.due.n) for one in ended}
        for one in chosen:
            if any(_key(each) not in done for each in found.get((one.tenant_id, one.address_hash), ())):
                self._resting[one] = now + _REST_MS
        return len(ended)

    def _take(self, found: Found, epochs: Mapping[int, int]) -> list[Waiting]:
        """Take out of memory what waits in line there; leave what a worker has begun with, and what is others'."""
        mine = [one for many in found.values() for one in many if one.due.shard in epochs]
        keys = frozenset(_key(one) for one in mine) & self._memory.in_flight.keys()
        if keys:
            for site in list(self._memory.sites.values()):
                for group in site.take_any(keys):
                    self._let_go(group)
                self._memory.drop_if_empty(site)
        return [one for one in mine if _key(one) not in self._memory.in_flight]

    def _end(
        self, conn: Connection, chosen: Sequence[Noted], found: Found, mine: Sequence[Waiting], names: Mapping[Key, str],
        epochs: Mapping[int, int], now: Instant,
    ) -> list[Result]:  # fmt: skip
        there = set(queue_actions.unchanged(conn, [one.due for one in mine]))
        results = [_result(one, epochs[one.due.shard], names.get(_key(one), ""), now) for one in mine if one.due in there]
        settled = settle(conn, results, self._owner, self._reports)
        ended = [result for result, one in zip(results, settled, strict=True) if not one.is_fenced]
        done = {(one.due.message_id, one.due.n) for one in ended}
        clear = [one for one in chosen if all(_key(each) in done for each in found.get((one.tenant_id, one.address_hash), ()))]
        suppression_due.finish(conn, [one for one in clear if now >= one.created_at + RACE_MS])
        for one in clear:
            if now < one.created_at + RACE_MS:
                suppression_due.look_again(conn, [one], one.created_at + RACE_MS)
        return ended


def _find(conn: Connection, chosen: Sequence[Noted], now: Instant) -> tuple[Found, Mapping[Key, str]]:
    found = suppression_due.waiting(conn, [(one.tenant_id, one.address_hash) for one in chosen], now)
    return found, messages.addresses_at(conn, [_key(one) for many in found.values() for one in many])


def _key(one: Waiting) -> Key:
    return one.due.message_id, one.due.n


def _result(one: Waiting, epoch: int, address: str, now: Instant) -> Result:
    detail = f"5.7.1 the address was suppressed while the message waited: {one.reason}"
    data = {"reason": one.reason, "category": Category.SUPPRESSED.value, "attempt": one.due.attempt - 1, "detail": detail}
    decision = Decision(
        status=Status.SUPPRESSED, reason=one.reason, event=EventType.SUPPRESSED, data=data, retries=one.due.retries
    )  # fmt: skip
    return Result(due=one.due, epoch=epoch, outcome=None, decision=decision, event_id=new_event_id(), at=now, address=address)
