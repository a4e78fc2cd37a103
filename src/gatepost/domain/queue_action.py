"""
What can be done with mail that waits, all of it that a filter matches: hold, release, reroute, cancel.

Not here: doing it (dispatch.acting), asking for it (tenants.queue_actions).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gatepost.clock import Instant


class Kind(StrEnum):
    """What is done."""

    HOLD = "hold"
    RELEASE = "release"
    REROUTE = "reroute"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which mail: all that is given must match; what is None matches everything.

    Attributes:
        site: The mail system that it waits for, such as `google`, `example.net` or `relay:main`.
        sender: Domain of the From address.
        recipient: Domain of the recipient's address.
        route: The road that it is on, such as `mx` or a relay's name.
        before: Accepted before this instant.
    """

    site: str | None = None
    stream: str | None = None
    tag: str | None = None
    sender: str | None = None
    recipient: str | None = None
    route: str | None = None
    before: Instant | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAction:
    """
    One action on the queue.

    Attributes:
        tenant_id: Whose mail; None is everybody's.
        route: The new route of a reroute.
        changed: Recipients that it has reached so far.
        finished_at: None while it is being done.
    """

    id: str
    tenant_id: str | None
    kind: Kind
    filter: Filter
    route: str | None
    note: str
    actor_id: str
    actor_name: str
    created_at: Instant
    changed: int = 0
    finished_at: Instant | None = None


def filter_of(values: Mapping[str, Any]) -> Filter:
    """Read a filter from what `as_dict` wrote."""
    return Filter(**values)
