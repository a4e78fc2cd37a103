"""
A second one-time code to the same person: it takes another road than the first, and the first is not sent any more.

Who asks for a code again did not get the first; the road that it took is the least likely one to bring the second. Only codes
of one tenant from the same sender's domain count, and only the window of `routing.supersede_codes_s`.
Arrives: the messages of a transaction. Leaves: what was sent before, a road order, cancelled recipients with their events.
Other lanes cost nothing here; a transaction with codes costs one look at an index.
Bugs: two codes to one person within the same transaction, some milliseconds apart, do not know of each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain import route as routes
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import Draft, Lane
from gatepost.domain.recipient import Status
from gatepost.store import codes, counting
from gatepost.store.codes import Earlier, Person

_WAITS = frozenset({Status.QUEUED.value, Status.DEFERRED.value})


@dataclass(slots=True)
class Superseding:
    """The codes of one transaction, and those before them."""

    found: Mapping[Person, Sequence[Earlier]] = field(default_factory=dict)
    over: dict[Earlier, str] = field(default_factory=dict)
    """What is not sent any more, and the message that took its place."""

    def route(self, draft: Draft, tenant_id: str, n: int, route: str) -> str:
        """Return the route of a recipient: the road of the code before last in it; and remember which code is over."""
        if not self.found or draft.lane is not Lane.CODES:
            return route
        before = [
            one
            for one in self.found.get((tenant_id, draft.recipients[n].address.key), ())
            if one.from_domain == draft.header_from.address.domain
        ]
        if not before or draft.steering.scheduled_at is not None:
            return route
        self.over |= {one: draft.id for one in before if one.status in _WAITS}
        return _without_first(route, before[-1].site)

    def finish(self, conn: Connection, now: Instant) -> list[Event]:
        """Cancel what is over; return the events of it."""
        gone = codes.cancel(conn, self.over, now)
        counting.count(conn, [counting.Change(one.message_id, one.n, ("cancelled",)) for one in gone], now)
        return [
            Event(
                id=ids.new("evt"),
                type=EventType.CANCELLED,
                tenant_id=one.tenant_id,
                at=now,
                message_id=one.message_id,
                n=one.n,
                data={"reason": "superseded", "by": self.over[one]},
            )
            for one in gone
        ]


def look_back(conn: Connection, drafts: Sequence[tuple[str, Draft]], now: Instant, window_ms: int) -> Superseding:
    """
    Find the codes that were sent before those of a transaction.

    Args:
        drafts: With their tenants.
        window_ms: 0 looks for nothing.
    """
    people = {
        (tenant_id, recipient.address.key) for tenant_id, draft in drafts if draft.lane is Lane.CODES for recipient in draft.recipients
    }
    return Superseding(codes.earlier(conn, people, now - window_ms) if people and window_ms else {})


def _without_first(route: str, site: str) -> str:
    """Move the road that leads to a site to the end."""
    roads = routes.roads_of(route)
    used = routes.road_at(routes.DEFAULT_POOL, site)
    same = next((road for road in roads if road == used), None)
    if same is None:  # the pool that the first one took is not known: any road to MX hosts counts
        same = next((road for road in roads if road.kind is used.kind is routes.RoadKind.MX), None)
    if same is None or len(roads) < 2:
        return route
    return ",".join(str(road) for road in (*(one for one in roads if one != same), same))
