"""
Actions on the queue, done in the shards that this process owns: hold, release, reroute, cancel.

Arrives: actions that somebody asked for (tenants.queue_actions). Leaves: rows held, let go, moved or gone, chunk by chunk,
each in one transaction under the fence together with how far the shard is; another owner goes on from there.
What waits in memory is taken out of it first. What is being delivered at this moment is left alone: the shard is not done
before that is settled, and then it is looked at again.
Not here: which rows (store.queue_actions), what one message's owner can do (control).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.dispatch.memory import Memory
from gatepost.dispatch.waiting import Group, Key
from gatepost.domain.event import Event, EventType
from gatepost.domain.queue_action import Kind, QueueAction
from gatepost.domain.recipient import WAITING, Status
from gatepost.domain.route import roads_of, shard_of
from gatepost.observe import maillog
from gatepost.settle import domain_of
from gatepost.store import counting, facts, leases, messages, queue, queue_actions
from gatepost.store.engine import Engine
from gatepost.store.queue import HELD_BY_HAND, Due
from gatepost.store.queue_actions import START, Place

_CHUNK: Final = 500
_CHUNKS_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What was read of one shard."""

    shard: int
    rows: Sequence[Due]
    busy: Sequence[Due]
    place: Place
    is_last: bool


class Acting:
    """Does actions, for one process."""

    def __init__(
        self, engine: Engine, clock: Clock, owner: str, max_age_s: int, memory: Memory,
        let_go: Callable[[Sequence[Group], frozenset[Key]], None], on_moved: Callable[[Due, tuple[str, str], Instant], None],
        system_of: Callable[[str], str | None],
    ) -> None:  # fmt: skip
        """
        Args:
            max_age_s: `retry.max_age_s`: mail whose end its sender did not choose gets the time back that it was held.
            let_go: Called with groups that were taken out of memory, and the recipients that are about to change.
            on_moved: Called with a row, its new place and its new due time.
            system_of: Names the mail system that takes a domain, from memory.
        """
        self._engine = engine
        self._clock = clock
        self._owner = owner
        self._max_age_ms = max_age_s * 1000
        self._memory = memory
        self._let_go = let_go
        self._on_moved = on_moved
        self._system_of = system_of

    async def step(self, epochs: Mapping[int, int]) -> bool:
        """
        Go on with what is asked for; return whether there is more to do at once.

        Raises:
            StorageUnavailable: It goes on later.
        """
        for _ in range(_CHUNKS_AT_ONCE):
            actions = await self._engine.read(queue_actions.unfinished)
            if not actions:
                return False
            if not any([await self._do(action, epochs) for action in actions]):
                return False
        return True

    async def _do(self, action: QueueAction, epochs: Mapping[int, int]) -> bool:
        """Do a chunk; return whether something was reached."""
        busy = frozenset(self._memory.in_flight) - self._waiting()
        pieces = await self._engine.read(lambda conn: _read(conn, action, sorted(epochs), busy))
        keys = frozenset((row.message_id, row.n) for piece in pieces for row in piece.rows)
        taken = [group for site in self._memory.sites.values() for group in site.take_any(keys)]
        self._let_go(taken, keys)
        # between reading and here a worker may have begun with one of them
        pieces = [_without(piece, self._memory.in_flight) for piece in pieces]
        now = self._clock.now()
        moved = await self._engine.write(lambda conn: self._write(conn, action, pieces, epochs, now))
        for row, place, due_at in moved:
            self._on_moved(row, place, due_at)
        return any(piece.rows for piece in pieces)

    def _waiting(self) -> frozenset[Key]:
        return frozenset(key for site in self._memory.sites.values() for key in site.recipients())

    def _write(
        self, conn: Connection, action: QueueAction, pieces: Sequence[_Piece], epochs: Mapping[int, int], now: Instant
    ) -> list[tuple[Due, tuple[str, str], Instant]]:
        valid = leases.fenced(conn, self._owner, [piece.shard for piece in pieces])
        moved = []
        for piece in pieces:
            if valid.get(piece.shard) != epochs.get(piece.shard):
                continue
            rows = queue_actions.unchanged(conn, piece.rows)
            moved += self._apply(conn, action, rows, now)
            queue_actions.advance(conn, action.id, piece.shard, piece.place, len(rows), now if piece.is_last else None)
        if queue_actions.finish(conn, action.id, now):
            maillog.lifecycle("queue action done", action=action.kind.value, id=action.id, node=self._owner)
        return moved

    def _apply(
        self, conn: Connection, action: QueueAction, rows: Sequence[Due], now: Instant
    ) -> list[tuple[Due, tuple[str, str], Instant]]:  # fmt: skip
        if not rows:
            return []
        match action.kind:
            case Kind.HOLD:
                queue.move(conn, [(row, row.due_at + HELD_BY_HAND, row.expires_at) for row in rows])
                return []
            case Kind.RELEASE:
                return self._release(conn, rows, now)
            case Kind.REROUTE:
                return self._reroute(conn, rows, action.route or "", now)
            case Kind.CANCEL:
                _cancel(conn, rows, action, now)
                return []

    def _release(self, conn: Connection, rows: Sequence[Due], now: Instant) -> list[tuple[Due, tuple[str, str], Instant]]:
        lasting = queue.lasting(conn, sorted({row.message_id for row in rows}), self._max_age_ms)
        moves = []
        for row in rows:
            late = max(now - row.planned_at, 0)
            moves.append((row, max(row.planned_at, now), row.expires_at + (late if row.message_id in lasting else 0)))
        queue.move(conn, moves)
        return [(row, (row.pool, row.site), due_at) for row, due_at, _ in moves]

    def _reroute(self, conn: Connection, rows: Sequence[Due], route: str, now: Instant) -> list[tuple[Due, tuple[str, str], Instant]]:
        road = roads_of(route)[0]
        found = messages.addresses(conn, list(dict.fromkeys(row.message_id for row in rows)))
        made, moved, sites = [], [], []
        for row in rows:
            fact = found.get((row.message_id, row.n))
            domain = domain_of(fact.address) if fact else ""
            site = road.site_of(domain, self._system_of(domain))
            due_at = max(row.due_at, now)
            made.append(
                {**row._asdict(), "pool": road.pool, "site": site, "shard": shard_of(road.pool, site), "due_at": due_at, "tried": 0}
            )
            moved.append((row, (road.pool, site), due_at))
            sites.append((row.message_id, row.n, site))
        queue.delete(conn, rows)
        queue.insert(conn, made)
        queue_actions.set_routes(conn, rows, route)
        messages.set_sites(conn, sites)
        return moved


def _read(conn: Connection, action: QueueAction, shards: Sequence[int], busy: frozenset[Key]) -> list[_Piece]:
    """Read a chunk: of as many shards as it takes."""
    known = queue_actions.progress(conn, action.id)
    pieces: list[_Piece] = []
    room = _CHUNK
    for shard in shards:
        before = known.get(shard)
        if before is not None and before.is_finished:
            continue
        pieces.append(_piece(conn, action, shard, before.place if before else START, busy, room))
        room -= len(pieces[-1].rows)
        if room <= 0:
            break
    return pieces


def _piece(conn: Connection, action: QueueAction, shard: int, start: Place, busy: frozenset[Key], room: int) -> _Piece:
    found, has_more = queue_actions.candidates(conn, action, shard, start, room + len(busy))
    matching = [row for row, is_match in found if is_match and not _is_there(action, row)]
    running = [row for row in matching if (row.message_id, row.n) in busy]
    place = start
    for row, _ in found:
        if running and (row.message_id, row.n) in busy:
            break  # the next chunk begins with it again
        place = _place_of(row)
    rows = [row for row in matching if (row.message_id, row.n) not in busy]
    return _Piece(shard=shard, rows=rows, busy=running, place=place, is_last=not has_more and not running)


def _is_there(action: QueueAction, row: Due) -> bool:
    """Tell whether a row is already where a reroute would bring it."""
    if action.kind is not Kind.REROUTE:
        return False
    road = roads_of(action.route or "")[0]
    return road.pool == row.pool and road.site_of("", row.site) == row.site and not row.tried


def _without(piece: _Piece, in_flight: Mapping[Key, Any]) -> _Piece:
    """Leave out what is in flight after all; its shard is looked at again from the beginning."""
    rows = [row for row in piece.rows if (row.message_id, row.n) not in in_flight]
    if len(rows) == len(piece.rows):
        return piece
    return _Piece(shard=piece.shard, rows=rows, busy=piece.busy, place=START, is_last=False)


def _place_of(row: Due) -> Place:
    return row.lane, row.due_at, row.message_id, row.n


def _cancel(conn: Connection, rows: Sequence[Due], action: QueueAction, now: Instant) -> None:
    recipients = messages.recipients_of(conn, dict.fromkeys(row.message_id for row in rows))
    wanted = {(row.message_id, row.n) for row in rows}
    found = [one for many in recipients.values() for one in many if (one.message_id, one.n) in wanted and Status(one.status) in WAITING]
    queue.delete(conn, rows)
    messages.update_recipients(conn, [_cancelled(one, now) for one in found])
    counting.count(conn, [counting.Change(one.message_id, one.n, ("cancelled",)) for one in found], now)
    facts.insert_events(
        conn,
        [
            Event(
                id=ids.new("evt"), type=EventType.CANCELLED, tenant_id=one.tenant_id, at=now, message_id=one.message_id, n=one.n,
                data={"reason": "queue_action", "by": action.id},
            )
            for one in found
        ],
    )  # fmt: skip


def _cancelled(one: Any, now: Instant) -> dict[str, Any]:
    return {
        "b_message_id": one.message_id, "b_n": one.n, "tenant_id": one.tenant_id, "status": Status.CANCELLED.value, "reason": None,
        "attempts": one.attempts, "last_reply": one.last_reply, "last_host": one.last_host, "updated_at": now, "final_at": now,
    }  # fmt: skip
