"""
The look at the queue: what came new, what is left of before, what has ended; and with it all that deliveries need.

Arrives: the shards that are ours, what is in memory, which sites want how many; what doors hand over. Leaves: recipients with their
messages and addresses, each marked as in flight.
A row that was just stored on this machine is mostly handed over with all that its delivery needs (store.handover), and is not read
at all; where it does not fit, its content is kept until its turn comes. Two ways lead to all others. What became due since the last
look is read from a cursor on, in every shard and lane, and a little from before it again, since commits come late. What did not fit
into memory is known as a flow that has more (backlog), and is read flow by flow.
A scan, one step in an index for each flow, finds all that have something due:
at the take-over of a shard, when a cursor meets more than it can read, and now and then to be sure.
Not here: lining up (loop), whose shards they are (ownership).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.dispatch.backlog import Backlog, Flow
from gatepost.dispatch.memory import BYTES_IN_MEMORY, Memory
from gatepost.dispatch.ports import Place
from gatepost.dispatch.waiting import Key
from gatepost.domain.message import Lane
from gatepost.domain.route import UNRESOLVED, shard_of
from gatepost.observe import maillog
from gatepost.store import flows, messages, sites, tenants
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.flows import Head, Wanted
from gatepost.store.handover import Handed
from gatepost.store.messages import Material, RecipientFacts
from gatepost.store.queue import Due

_MOST_NEW: Final = 1_000
"""Rows that a cursor reads at once; with more, a scan is cheaper."""
_MOST_LOADED: Final = 300
"""Recipients that one look takes, urgent ones apart: the next code waits for it."""
_OVERLAP_MS: Final = 1_000
"""A row is due before its commit: so far back a cursor reads again."""
_SHORT_OVERLAP_MS: Final = 200
_LONG_OVERLAP_MS: Final = 5_000
_LONG_OVERLAP_S: Final = 1.0
_MOST_KNOWN: Final = 500
"""Flows that a cursor passes over, because they are known to have more; with more of them it reads less far back."""
_MOST_KEPT: Final = 8 * 1024 * 1024
"""Bytes of what was handed over and waits for its turn, and what each is taken to have besides its content."""
_KEPT_EACH: Final = 2_000
_SCAN_FACTOR: Final = 50
"""A scan takes one part in so many of the time."""
_SCANS_S: Final = (1.0, 60.0)
_INLINE_SCAN_S: Final = 0.02
_EXPIRY_S: Final = 0.5
_LATE_EXPIRY_S: Final = 30.0
_MOST_EXPIRED: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the queue asks for: it runs on another thread."""

    places: Sequence[flows.Place]
    known: Sequence[int]
    wanted: Sequence[Wanted]
    scans: Sequence[int]
    expiring: Sequence[int]
    expiring_late: Sequence[int]
    now: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What it found."""

    new: Sequence[Due]
    more: Mapping[int, Sequence[Due]]
    heads: Sequence[Head]
    expired: Sequence[Due]
    paused: frozenset[str]
    suspended: frozenset[str]
    scan_s: float


@dataclass(slots=True, kw_only=True)
class Claim:
    """
    What a look took into memory.

    Attributes:
        expired: Rows whose end has come.
        in_the_way: Shards and lanes in which mail of suspended tenants is due.
        is_cut: There is more to be read at once.
    """

    rows: list[Due] = field(default_factory=list)
    expired: list[Due] = field(default_factory=list)
    materials: Mapping[str, Material] = field(default_factory=dict)
    addresses: Mapping[Key, RecipientFacts] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    in_the_way: set[tuple[int, int]] = field(default_factory=set)
    is_cut: bool = False


class Claiming:
    """The looks of one process."""

    def __init__(self, engine: Engine, clock: Clock, memory: Memory, backlog: Backlog, is_open: Callable[[Place], bool]) -> None:
        """
        Args:
            is_open: Tells whether a site gets something at all for now.
        """
        self._engine = engine
        self._clock = clock
        self._memory = memory
        self._backlog = backlog
        self._is_open = is_open
        self._epochs: dict[int, int] = {}
        self._cursors: dict[tuple[int, int], Instant] = {}
        self._first = 0
        self._scans: set[int] = set()
        self._scan_due = self._overlap_due = self._expiry_due = self._late_expiry_due = float("-inf")
        self._scanning: asyncio.Task[None] | None = None
        self._scan_s = 0.0
        self._kept: dict[str, Handed] = {}
        self._kept_bytes = 0
        self.paused: frozenset[str] = frozenset()
        self._suspended: frozenset[str] = frozenset()

    def rescan(self) -> None:
        """Look for everything that is due at the next look: something came about that no cursor sees."""
        self._scans |= set(self._epochs)

    def meet(self, due: Due, place: Place, due_at: Instant) -> bool:
        """Learn that a row lies somewhere else now; return whether that is in a shard of ours."""
        shard = shard_of(*place)
        if shard in self._epochs:
            self._backlog.note(flows.flow_of(shard, due.lane, *place, due.tenant_id), place, due.tenant_id, due_at)
            return True
        return False

    async def look(self, epochs: Mapping[int, int], shards: Sequence[int]) -> Claim:
        """
        Take what is due into memory, as far as it fits.

        Args:
            epochs: Of all shards that are ours.
            shards: Those that may be read.

        Raises:
            StorageUnavailable: Nothing was taken.
        """
        self._own(epochs, shards)
        claim = Claim()
        await self._read(claim, shards)
        if not claim.rows and self._backlog.is_hungry:  # a scan found something: it need not wait for the next look
            await self._read(claim, shards)
        self._pass_over_suspended(claim)
        await self._load(claim)
        return claim

    def take(self, messages: Sequence[Handed], shards: Collection[int]) -> Claim:
        """
        Take what is handed over into memory, as far as it fits; the rest is read from the queue when its turn comes.

        Args:
            shards: Those that may be read.
        """
        claim, rows = Claim(suspended=self._suspended), list[Due]()
        materials, addresses = dict[str, Material](), dict[Key, RecipientFacts]()
        for message in messages:
            mine = [row for row in message.rows if row.shard in shards and row.shard in self._epochs and self._memory.is_new(row)]
            if mine:
                rows += mine
                materials[message.id] = message.material()
                addresses |= message.addresses()
        claim.materials, claim.addresses = materials, addresses
        self._take_new(claim, rows)
        if len(claim.rows) < len(rows):
            taken = {row.message_id for row in claim.rows}
            self._keep([message for message in messages if message.id in materials and message.id not in taken])
        return claim

    def forget_kept(self) -> None:
        """Forget what was handed over and waits for its turn: it changes in the database."""
        self._kept.clear()
        self._kept_bytes = 0

    def _keep(self, messages: Sequence[Handed]) -> None:
        """Keep what does not fit yet: its turn comes soon, and then only its rows have to be read."""
        for message in messages:
            if message.id not in self._kept:  # counted once, however often it comes
                self._kept[message.id] = message
                self._kept_bytes += len(message.data) + _KEPT_EACH
        while self._kept_bytes > _MOST_KEPT:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(self._kept.pop(oldest).data) + _KEPT_EACH

    async def _read(self, claim: Claim, shards: Sequence[int]) -> None:
        picked = self._backlog.pick(min(self._memory.room, _MOST_LOADED), self._wants, shards)
        look = self._plan(shards, picked, self._clock.now())
        self._memory.left.clear()
        try:
            found = await self._engine.read(lambda conn: read(conn, look))
        except BaseException:
            self._backlog.feed_all()
            self._scans |= set(look.scans)
            raise
        claim.suspended = self._suspended = found.suspended
        if found.paused != self.paused:
            self.paused = found.paused
            self._backlog.feed_all()
        self._note_scanned(found.heads, found.scan_s, look.scans)
        claim.is_cut = self._advance(look, found.new)
        self._take_more(claim, picked, found.more, look.now)
        self._take_new(claim, found.new)
        self._expire(claim, found.expired)

    def _wants(self, place: Place) -> int:
        return self._memory.wants(place) if self._is_open(place) else 0

    def _own(self, epochs: Mapping[int, int], shards: Collection[int]) -> None:
        """Start afresh with shards that came, forget those that went."""
        if self._epochs == epochs:
            return
        came = {shard for shard, epoch in epochs.items() if self._epochs.get(shard) != epoch}
        start = self._clock.now()
        self._cursors = {(shard, lane): at for (shard, lane), at in self._cursors.items() if shard in epochs and shard not in came}
        self._cursors |= {(shard, int(lane)): start for lane in Lane for shard in sorted(came)}
        self._backlog.keep(epochs.keys() - came)
        self._scans = (self._scans | came) & epochs.keys()
        self._epochs = dict(epochs)

    def _plan(self, shards: Collection[int], picked: Sequence[tuple[Flow, int]], now: Instant) -> Look:
        moment = self._clock.monotonic()
        known = self._backlog.ids() if len(self._backlog) <= _MOST_KNOWN else []
        back = _OVERLAP_MS if known or not self._backlog else _SHORT_OVERLAP_MS
        if moment >= self._overlap_due:
            self._overlap_due, back = moment + _LONG_OVERLAP_S, _LONG_OVERLAP_MS
        if moment >= self._scan_due or (self._backlog.has_left_out and not self._backlog.is_hungry):
            self._begin_scan(shards, moment)
        scans = sorted(self._scans & set(shards))
        self._scans -= set(scans)
        expiring: Sequence[int] = ()
        if moment >= self._expiry_due:
            self._expiry_due, expiring = moment + _EXPIRY_S, sorted(shards)
        late: Sequence[int] = ()
        if moment >= self._late_expiry_due:
            self._late_expiry_due, late = moment + _LATE_EXPIRY_S, sorted(shards)
        return Look(
            places=self._places(shards, back),
            known=known,
            wanted=[Wanted(flow.id, flow.since, size + flow.met) for flow, size in picked],
            scans=scans,
            expiring=expiring,
            expiring_late=late,
            now=now,
        )

    def _places(self, shards: Collection[int], back: int) -> list[flows.Place]:
        """List what cursors read: lane by lane, each time from another shard on, in case that it is too much for one look."""
        ordered = sorted(shards)
        self._first = (self._first + 1) % max(len(ordered), 1)
        ordered = ordered[self._first :] + ordered[: self._first]
        return [flows.Place(shard, int(lane), self._cursors[shard, lane] - back) for lane in Lane for shard in ordered]

    def _begin_scan(self, shards: Collection[int], moment: float) -> None:
        """Scan all shards: with this look where that is quick, else beside it, so that no code waits for it."""
        self._scan_due = moment + min(max(self._scan_s * _SCAN_FACTOR, _SCANS_S[0]), _SCANS_S[1])
        if self._scan_s <= _INLINE_SCAN_S:
            self._scans |= set(shards)
        elif self._scanning is None or self._scanning.done():
            self._scanning = asyncio.ensure_future(self._scan(sorted(shards)))

    async def _scan(self, shards: Sequence[int]) -> None:
        now = self._clock.now()
        try:
            heads, seconds = await self._engine.read(lambda conn: _timed_heads(conn, shards, now))
        except StorageUnavailable:
            return  # the looks say so
        except Exception as error:  # noqa: BLE001 - the next scan is due soon
            maillog.crashed("scan", error)
            return
        self._note_scanned(heads, seconds, shards)

    def _note_scanned(self, heads: Sequence[Head], seconds: float, shards: Sequence[int]) -> None:
        if not shards:
            return
        if len(shards) * 2 >= len(self._epochs):
            self._scan_s = seconds
        self._backlog.has_left_out = False
        for head in heads:
            if flows.shard_of(head.flow) in self._epochs:
                self._backlog.note(head.flow, (head.pool, head.site), head.tenant_id, head.due_at)

    def _advance(self, look: Look, new: Sequence[Due]) -> bool:
        """Move the cursors on; return whether there was too much for one look."""
        is_cut = len(new) >= _MOST_NEW
        last = (new[-1].shard, new[-1].lane) if is_cut else None
        for place in look.places:
            key = (place.shard, place.lane)
            if key in self._cursors:
                self._cursors[key] = look.now
            if key == last:
                # the scan finds what it did not get to; the places behind it stay as they are
                self._scans.add(place.shard)
                break
        return is_cut

    def _take_more(self, claim: Claim, picked: Sequence[tuple[Flow, int]], more: Mapping[int, Sequence[Due]], now: Instant) -> None:
        for flow, size in picked:
            rows = more[flow.id]
            fresh = [row for row in rows if not self._memory.knows(row)]
            left = [row for row in rows if (row.message_id, row.n) in self._memory.left]
            is_all = len(rows) < size + flow.met
            flow.met = len(rows) - len(fresh)
            untaken = self._take(claim, fresh)
            if untaken is not None:
                flow.since = untaken.due_at
            elif is_all:
                self._backlog.done(flow)
            else:
                flow.reach = min(flow.reach * 2, _MOST_LOADED)
                flow.since = min(rows[-1].due_at, now - _LONG_OVERLAP_MS)
            if left:  # most are gone from the queue; one that was let go is read the next time
                self._note(left[0], flow.id)

    def _take_new(self, claim: Claim, new: Sequence[Due]) -> None:
        by_flow: dict[int, list[Due]] = {}
        for row in new:
            if not self._memory.knows(row):
                by_flow.setdefault(flows.of_row(row), []).append(row)
        for flow_id, rows in by_flow.items():
            untaken: Due | None = rows[0]
            # what is known to have more has to come in its order
            if flow_id not in self._backlog:
                untaken = self._take(claim, rows)
            if untaken is not None:
                self._note(untaken, flow_id)

    def _take(self, claim: Claim, rows: Sequence[Due]) -> Due | None:
        """Take rows of one flow, as far as they fit; return the first that did not."""
        if not rows:
            return None
        first = rows[0]
        if first.tenant_id in claim.suspended or first.site in self.paused:
            return first
        if not first.site.startswith(UNRESOLVED) and not self._is_open((first.pool, first.site)):
            return first
        reserved: list[Due] = []
        for row in rows:
            if not self._memory.fits(row, len(reserved)) or (row.lane != Lane.CODES and len(claim.rows) >= _MOST_LOADED):
                break
            reserved.append(row)
            claim.rows.append(row)
        self._memory.remember(reserved)
        return rows[len(reserved)] if len(reserved) < len(rows) else None

    def _note(self, row: Due, flow_id: int) -> None:
        self._backlog.note(flow_id, (row.pool, row.site), row.tenant_id, row.due_at)

    def _pass_over_suspended(self, claim: Claim) -> None:
        """Name where suspended tenants' mail lies; it is put aside, and found again should that not be done to the end."""
        for flow in self._backlog.of_tenants(claim.suspended):
            claim.in_the_way.add((flows.shard_of(flow.id), flow.lane))
            self._backlog.done(flow)

    def _expire(self, claim: Claim, rows: Sequence[Due]) -> None:
        ended = [
            row
            for row in {(row.message_id, row.n): row for row in rows}.values()
            if not self._memory.knows(row) and row.tenant_id not in claim.suspended
        ]
        claim.expired += ended
        self._memory.remember(ended)

    async def _load(self, claim: Claim) -> None:
        """Read what deliveries need; what cannot be read now stays in the queue."""
        if not claim.rows and not claim.expired:
            return
        now = self._clock.now()
        # who takes a domain can be looked up without its mail: its name stands in the row
        message_ids = list(dict.fromkeys(row.message_id for row in claim.rows if not row.site.startswith(UNRESOLVED)))
        ended = [row for row in claim.rows if row.expires_at <= now and row.site.startswith(UNRESOLVED)]
        expired_ids = list(dict.fromkeys(row.message_id for row in [*claim.expired, *ended]))
        if not message_ids and not expired_ids:
            return
        kept = [message for message_id in message_ids if (message := self._kept.pop(message_id, None)) is not None]
        materials, addresses = {message.id: message.material() for message in kept}, dict[Key, RecipientFacts]()
        for message in kept:
            self._kept_bytes -= len(message.data) + _KEPT_EACH
            addresses |= message.addresses()
        claim.materials, claim.addresses = materials, addresses
        unread = [message_id for message_id in message_ids if message_id not in materials] if kept else message_ids
        if not unread and not expired_ids:
            return
        try:
            read_materials, read_addresses = await self._engine.read(lambda conn: _load(conn, unread, expired_ids))
        except BaseException:
            self.leave(claim.rows)
            self._memory.forget(claim.expired)
            raise
        materials |= read_materials
        addresses |= read_addresses

    def leave(self, rows: Sequence[Due]) -> None:
        """Forget recipients that were not delivered: they are still in the queue, and wait there."""
        self._memory.forget(rows)
        for row in rows:
            self._note(row, flows.of_row(row))


def _load(
    conn: Connection, message_ids: Sequence[str], expired_ids: Sequence[str]
) -> tuple[dict[str, Material], dict[Key, RecipientFacts]]:  # fmt: skip
    found = messages.materials(conn, message_ids, BYTES_IN_MEMORY // 2)
    return found, messages.addresses(conn, list(dict.fromkeys([*found, *expired_ids])))


def _timed_heads(conn: Connection, shards: Sequence[int], now: Instant) -> tuple[list[Head], float]:
    started = time.perf_counter()
    return flows.heads(conn, shards, now), time.perf_counter() - started


def read(conn: Connection, look: Look) -> Found:
    """Look at the queue once."""
    heads, seconds = _timed_heads(conn, look.scans, look.now) if look.scans else ([], 0.0)
    expired = flows.expired(conn, look.expiring, look.now, _MOST_EXPIRED) if look.expiring else []
    if look.expiring_late:
        expired += flows.expired_late(conn, look.expiring_late, look.now, _MOST_EXPIRED)
    return Found(
        new=flows.since(conn, look.places, look.now, _MOST_NEW, look.known),
        more=flows.of_flows(conn, look.wanted, look.now),
        heads=heads,
        expired=expired,
        paused=frozenset(sites.paused(conn)),
        suspended=tenants.suspended(conn),
        scan_s=seconds,
    )
