"""
Which flows have due rows in the queue that are not in memory.

A flow is one tenant's mail for one site in one lane (store.flows). Its rows are read in order, when its site has room and
its turn has come; until then it costs nothing, however many rows it has. A flow that is not known here has all its due rows
in memory: what comes new may go there at once.
Not here: reading (claiming), the turn inside memory (waiting).
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gatepost.clock import Instant
from gatepost.dispatch.ports import Place
from gatepost.dispatch.waiting import QUANTUM
from gatepost.domain.message import Lane
from gatepost.domain.route import UNRESOLVED
from gatepost.store import flows

_MOST: Final = 20_000
"""Flows known at once; more are found by a later scan."""
_MOST_ASKED: Final = 1_000
"""Sites that are asked at once how many they want: of ten thousand that want nothing, the loop notices little."""
_SHARE_OF_BULK: Final = 5
"""One part in so many of a site's room goes to bulk mail, when other mail waits too."""


@dataclass(slots=True)
class Flow:
    """
    One that has more.

    Attributes:
        since: No row that is not in memory is due earlier.
        met: Rows that the last reading found in memory already: the next one reads so many more.
        reach: Rows to be read at once: few at first, since nobody knows how many there are.
    """

    id: int
    place: Place
    tenant_id: str
    since: Instant
    met: int = 0
    reach: int = 4

    @property
    def lane(self) -> int:
        """Its lane."""
        return flows.lane_of(self.id)


class Backlog:
    """The flows of one process's shards that have more."""

    def __init__(self) -> None:
        self._flows: dict[int, Flow] = {}
        self._by_place: dict[Place, dict[int, Flow]] = {}
        self._hungry: dict[Place, None] = {}
        self.has_left_out = False

    def __len__(self) -> int:
        """Number of flows known."""
        return len(self._flows)

    def __contains__(self, flow_id: int) -> bool:
        """Whether a flow is known to have more."""
        return flow_id in self._flows

    def ids(self) -> list[int]:
        """List the flows known."""
        return list(self._flows)

    def has(self, place: Place) -> bool:
        """Tell whether a site has more in the queue."""
        return place in self._by_place

    @property
    def is_hungry(self) -> bool:
        """Whether a site that has more may have room for it."""
        return bool(self._hungry)

    def note(self, flow_id: int, place: Place, tenant_id: str, due_at: Instant) -> None:
        """Learn that a flow has a row that is not in memory."""
        flow = self._flows.get(flow_id)
        if flow is not None:
            flow.since = min(flow.since, due_at)
            return
        if len(self._flows) >= _MOST and flows.lane_of(flow_id) != Lane.CODES:
            self.has_left_out = True
            return
        self._flows[flow_id] = self._by_place.setdefault(place, {})[flow_id] = Flow(flow_id, place, tenant_id, due_at)
        self._hungry[place] = None

    def done(self, flow: Flow) -> None:
        """All of a flow that is due is in memory."""
        self._flows.pop(flow.id, None)
        if (others := self._by_place.get(flow.place)) is not None:
            others.pop(flow.id, None)
            if not others:
                del self._by_place[flow.place]
                self._hungry.pop(flow.place, None)

    def feed(self, place: Place) -> bool:
        """Say that a site has room; return whether it has more."""
        if place in self._by_place:
            self._hungry[place] = None
            return True
        return False

    def feed_all(self) -> None:
        """Let every site be asked again: what held some of them may be over."""
        self._hungry |= dict.fromkeys(self._by_place)

    def keep(self, shards: Collection[int]) -> None:
        """Forget the flows of other shards."""
        for flow in [flow for flow in self._flows.values() if flows.shard_of(flow.id) not in shards]:
            self.done(flow)

    def of_tenants(self, tenant_ids: Collection[str]) -> list[Flow]:
        """List the flows of some tenants."""
        return [flow for flow in self._flows.values() if flow.tenant_id in tenant_ids] if tenant_ids else []

    def pick(self, room: int, wants: Callable[[Place], int], shards: Collection[int]) -> list[tuple[Flow, int]]:
        """
        Choose what to read: sites take turns, and in a site its tenants do.

        Args:
            room: Recipients at most, urgent ones apart.
            wants: Tells how many a site has room for; one that wants none is asked again after `feed`.
            shards: Those that may be read.

        Returns:
            Flows, with how many rows of each.
        """
        picked: list[tuple[Flow, int]] = []
        least = room // max(len(self._hungry), 1)
        for place in list(islice(self._hungry, _MOST_ASKED)):
            if room <= 0:
                break
            del self._hungry[place]
            wanted = wants(place)
            of_place = self._by_place.get(place)
            if wanted <= 0 or not of_place:
                continue
            chosen = [(flow, size) for flow, size in _divide(of_place, wanted, least) if flows.shard_of(flow.id) in shards]
            picked += chosen
            # mail whose site is not known yet is spread over as many places as domains: most have but one
            room -= len(chosen) if place[1].startswith(UNRESOLVED) else sum(size for _, size in chosen)
            self._hungry[place] = None  # behind the others: it is asked again with what it has then
        return picked


def _divide(of_place: dict[int, Flow], wanted: int, least: int) -> Iterator[tuple[Flow, int]]:
    """Divide a site's room among its flows: codes first, then by lane, in a lane by turns."""
    lanes: list[list[Flow]] = [[] for _ in Lane]
    for flow in of_place.values():
        lanes[flow.lane].append(flow)
    parts = _parts([bool(lane) for lane in lanes], wanted)
    for lane, part in zip(lanes, parts, strict=True):
        yield from _in_turn(of_place, lane, part, least)


def _parts(has: Iterable[bool], wanted: int) -> tuple[int, int, int]:
    has_codes, has_transactional, has_bulk = has
    bulk = max(wanted // _SHARE_OF_BULK, QUANTUM) if has_transactional else wanted
    return (wanted if has_codes else 0, wanted, bulk if has_bulk else 0)


def _in_turn(of_place: dict[int, Flow], lane: list[Flow], part: int, least: int) -> Iterator[tuple[Flow, int]]:
    each = max(part // max(len(lane), 1), QUANTUM)
    for flow in lane:
        if part <= 0:
            return
        of_place[flow.id] = of_place.pop(flow.id)  # to the end
        size = min(each, part, max(flow.reach, least))
        yield flow, size
        part -= size
