"""
One round with a relay's list: read what is new into ours, tell the provider what is new of ours.

Arrives: a client, options. Leaves: pages taken, each committed with the cursor behind it, so that another process goes on from there.
Rounds read what is new since the last one, and once a week everything. A cursor that the provider does not know any more begins
its part anew. What we tell is read from our list in the order in which it was written, a little late, since transactions that run
may still come in between.
Not here: which relays, and when (loop).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import SECOND, Clock, Instant
from gatepost.domain.relay_list import ListState, Why
from gatepost.egress.relays.list_client import ListUnavailable, RelayListClient
from gatepost.egress.relays.provider_list import ListPage
from gatepost.observe import maillog, metrics
from gatepost.policy.list_entries import OVERLAP, WHY, is_time_for_all, next_round, next_try
from gatepost.policy.suppressing import SuppressRules
from gatepost.returns.relay_lists import leaving
from gatepost.returns.relay_lists.taking import Scope, take
from gatepost.store import relay_lists, suppressions, tenants
from gatepost.store.engine import Engine
from gatepost.store.relay_lists import Stored

_MOST_PAGES: Final = 5_000
_LATE: Final = 30 * SECOND
_AT_ONCE: Final = 500
_MOST_TOLD: Final = 10_000
"""Addresses that one round tells; the rest waits for the next one, which begins at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """
    What the operator wants of a relay's list.

    Attributes:
        pushes: What the provider is told.
        removes: The provider is told what was lifted.
        follows: What the provider took off its list is lifted here, where it came from there.
        tenants: Names or ids of those whom the account is for; empty is everybody.
    """

    pulls: bool = True
    pushes: frozenset[Why] = frozenset()
    removes: bool = False
    follows: bool = False
    every_ms: int = 3_600_000
    tenants: Sequence[str] = ()


class RoundLost(Exception):  # noqa: N818
    """Another process has taken the list over: it goes on from what is written down."""


async def _alone() -> bool:
    return True


@dataclass(slots=True)
class Rounds:
    """
    The rounds of one relay.

    Attributes:
        keep: Called before each step; tells whether the list is still this process's.
    """

    engine: Engine
    clock: Clock
    client: RelayListClient
    wishes: Wishes
    rules: SuppressRules = field(default_factory=SuppressRules)
    keep: Callable[[], Awaitable[bool]] = _alone

    async def run(self, *, is_full: bool = False, is_accepted: bool = False) -> Stored:
        """
        Do a round, or go on with the one that was begun; return how far the list is.

        What goes wrong with the provider is written down, with the time of the next try; it is not raised.

        Args:
            is_full: Read everything, from the beginning.
            is_accepted: Take all that is found, however much of a tenant's recipients it is.

        Raises:
            RoundLost: Another process does it.
            StorageUnavailable: It goes on from where it is.
        """
        relay = self.client.name
        stored = await self.engine.read(lambda conn: relay_lists.get(conn, relay))
        known = await self.engine.read(partial(_scope, relay=relay, wanted=self.wishes.tenants))
        scope = replace(known, is_accepted=is_accepted)
        state, cursor = stored.state, stored.cursor
        try:
            if self.wishes.pulls:
                state, cursor = self._begin(state, cursor, is_full=is_full or is_accepted)
                state = await self._pull(state, cursor, scope)
                state = await self._follow(state, scope)
            state, is_done = await self._push(state, scope)
            state = await self._lift(state, scope)
        except ListUnavailable as error:
            return await self._failed(error)
        now = self.clock.now()
        due_at = next_round(self.wishes.every_ms, is_incremental=self.client.is_incremental, now=now) if is_done else now
        state = msgspec.structs.replace(state, failures=0, error="")
        await self._save(state, "", due_at)
        metrics.relay_list_synced.labels(relay).set(now / 1000)
        if state.held:
            held = sum(state.held.values())
            maillog.trouble("a relay's suppression list would suppress too many of a tenant's recipients", relay=relay, held=held)
        return Stored(relay, due_at, state, "")

    def _begin(self, state: ListState, cursor: str, *, is_full: bool) -> tuple[ListState, str]:
        if state.began_at and not is_full:
            return state, cursor
        now = self.clock.now()
        is_all = is_full or not state.done_at or is_time_for_all(
            full_at=state.full_at, is_incremental=self.client.is_incremental, now=now
        )  # fmt: skip
        since = 0 if is_all else max(state.done_at - OVERLAP, 1)
        begun = msgspec.structs.replace(
            state, part=0, pages=0, since=since, began_at=now, seen=0, taken=0, known=0, nobody=0, lifted=0, invalid=0, held={},
            is_cut=False,
        )  # fmt: skip
        return begun, ""

    async def _pull(self, state: ListState, cursor: str, scope: Scope) -> ListState:
        while state.part < len(self.client.parts):
            await self._check()
            page = await self._page(state, cursor)
            is_over = not page.cursor or page.cursor == cursor or state.pages >= _MOST_PAGES
            if state.pages >= _MOST_PAGES:
                state = msgspec.structs.replace(state, is_cut=True)
                maillog.trouble("a relay's suppression list has no end", relay=scope.relay, pages=state.pages)
            following = "" if is_over else page.cursor
            state = await self.engine.write(partial(self._take, scope=scope, page=page, state=state, cursor=following, is_over=is_over))
            cursor = following
        return msgspec.structs.replace(
            state, part=0, began_at=0, done_at=state.began_at, full_at=state.full_at if state.since else state.began_at
        )  # fmt: skip

    async def _follow(self, state: ListState, scope: Scope) -> ListState:
        """Lift what is not on the whole list any more, once after each full round."""
        if not self.wishes.follows or state.is_cut or state.full_at <= state.followed_at:
            return state
        state = await self.engine.write(lambda conn: leaving.begin(conn, scope, msgspec.structs.replace(state, gone=0)))
        is_done = state.followed_at == state.full_at
        while not is_done:
            await self._check()
            now, before = self.clock.now(), state
            state, is_done = await self.engine.write(
                lambda conn, before=before, now=now: self._lift_some(conn, scope, before, now)  # type: ignore[misc]
            )
        return state

    def _lift_some(self, conn: Connection, scope: Scope, state: ListState, now: Instant) -> tuple[ListState, bool]:
        found, is_done = leaving.lift_some(conn, scope, state, _AT_ONCE, now)
        relay_lists.put(conn, scope.relay, found, "", now, now)
        return found, is_done

    async def _page(self, state: ListState, cursor: str) -> ListPage:
        part = self.client.parts[state.part]
        try:
            return await self.client.read(part, cursor, state.since)
        except ListUnavailable as error:
            if not cursor or not error.is_final:
                raise
        return await self.client.read(part, "", state.since)  # it knows the cursor no more

    def _take(
        self, conn: Connection, scope: Scope, page: ListPage, state: ListState, cursor: str, *, is_over: bool
    ) -> ListState:  # fmt: skip
        now = self.clock.now()
        found = take(conn, scope, page.entries, state, self.rules, now)
        found = msgspec.structs.replace(
            found, seen=found.seen + page.seen, pages=found.pages + 1, part=found.part + is_over
        )  # fmt: skip
        relay_lists.put(conn, scope.relay, found, cursor, now, now)
        return found

    async def _push(self, state: ListState, scope: Scope) -> tuple[ListState, bool]:
        """Tell what is new of ours; return whether nothing is left to tell."""
        wanted = self.wishes.pushes & frozenset(self.client.takes)
        told = 0
        while wanted and told < _MOST_TOLD:
            await self._check()
            before = self.clock.now() - _LATE
            rows = await self.engine.read(partial(suppressions.added_after, after=state.told_after, before=before, limit=_AT_ONCE))
            if not rows:
                return state, True
            now, whom = self.clock.now(), frozenset(scope.tenant_ids)
            for why in sorted(wanted):
                addresses = [
                    row.address
                    for row in rows
                    if WHY.get(row.reason) is why and row.tenant_id in whom and row.source != scope.source
                    and (row.expires_at is None or row.expires_at > now) and "@" in row.address
                ]  # fmt: skip
                sent = await self._tell(scope, why, list(dict.fromkeys(addresses)))
                state = msgspec.structs.replace(state, told=state.told + sent)
            told += len(rows)
            state = msgspec.structs.replace(state, told_after=rows[-1].id)
            await self._save(state, "", self.clock.now())
        return state, not wanted

    async def _tell(self, scope: Scope, why: Why, addresses: Sequence[str]) -> int:
        if not addresses:
            return 0
        try:
            await self.client.put(why, addresses)
        except ListUnavailable as error:
            if not error.is_final or len(addresses) == 1:
                if error.is_final:  # this one, or all: one that is refused must not keep the others from being told
                    metrics.relay_list_entries.labels(scope.relay, "refused").inc()
                    maillog.trouble("a relay does not take an address on its suppression list", relay=scope.relay, error=str(error))
                    return 0
                raise
            half = len(addresses) // 2
            return await self._tell(scope, why, addresses[:half]) + await self._tell(scope, why, addresses[half:])
        metrics.relay_list_entries.labels(scope.relay, "told").inc(len(addresses))
        return len(addresses)

    async def _lift(self, state: ListState, scope: Scope) -> ListState:
        """Tell what a person lifted, unless another tenant of the account suppresses it still."""
        if not self.wishes.removes:
            return state
        if not state.lifted_after:  # what was lifted before this was wanted is left alone
            return msgspec.structs.replace(state, lifted_after=ids.lower_bound("sup", self.clock.now()))
        before = self.clock.now() - _LATE
        while rows := await self.engine.read(partial(suppressions.lifts_after, after=state.lifted_after, before=before, limit=_AT_ONCE)):
            await self._check()
            for row_id, tenant_id, address in rows:
                if address and tenant_id in scope.tenant_ids and not await self._is_suppressed(scope, address):
                    await self.client.remove(address)
                    metrics.relay_list_entries.labels(scope.relay, "lifted_there").inc()
                    state = msgspec.structs.replace(state, lifted_there=state.lifted_there + 1)
                state = msgspec.structs.replace(state, lifted_after=row_id)
            await self._save(state, "", self.clock.now())
        return state

    async def _check(self) -> None:
        if not await self.keep():
            raise RoundLost

    async def _is_suppressed(self, scope: Scope, address: str) -> bool:
        now = self.clock.now()
        return await self.engine.read(lambda conn: suppressions.is_suppressed_anywhere(conn, scope.tenant_ids, address, now))

    async def _failed(self, error: ListUnavailable) -> Stored:
        relay, now = self.client.name, self.clock.now()
        stored = await self.engine.read(lambda conn: relay_lists.get(conn, relay))
        failures = stored.state.failures + 1
        state = msgspec.structs.replace(stored.state, failures=failures, error=str(error)[:500])
        due_at = next_try(self.wishes.every_ms, failures, error.wait_s, now)
        await self._save(state, stored.cursor, due_at)
        metrics.relay_list_entries.labels(relay, "failed").inc()
        maillog.trouble("a relay's suppression list cannot be read or told", relay=relay, error=str(error), failures=failures)
        return Stored(relay, due_at, state, stored.cursor)

    async def _save(self, state: ListState, cursor: str, due_at: Instant) -> None:
        now = self.clock.now()
        await self.engine.write(lambda conn: relay_lists.put(conn, self.client.name, state, cursor, due_at, now))


def _scope(conn: Connection, relay: str, wanted: Sequence[str]) -> Scope:
    users = relay_lists.users(conn, relay)
    if wanted:
        named = {one: tenants.by_name(conn, one) or one for one in wanted}
        users = [one for one in users if one in set(named.values())]
    return Scope(relay=relay, tenant_ids=users)
