"""A row of the queue: work still to do for one recipient."""

from typing import NamedTuple

from gatepost.clock import Instant

HELD = 200_000_000_000_000
"""Added to the due time of a row that is held because its tenant is suspended; more than any real due time, and still a date."""

HELD_BY_HAND = 100_000_000_000_000
"""Added to the due time of a row that somebody holds; less than `HELD`, and more than any real due time too."""


class Due(NamedTuple):
    """A queue row."""

    shard: int
    lane: int
    due_at: Instant
    message_id: str
    n: int
    tenant_id: str
    pool: str
    site: str
    attempt: int
    retries: int
    expires_at: Instant
    tried: int = 0

    @property
    def is_held(self) -> bool:
        """True for a row that was put aside: its tenant is suspended, or somebody holds it."""
        return self.due_at >= HELD_BY_HAND

    @property
    def is_held_by_hand(self) -> bool:
        """True for a row that somebody holds."""
        return HELD_BY_HAND <= self.due_at < HELD

    @property
    def planned_at(self) -> Instant:
        """When it is due, or would be if it were not held."""
        return self.due_at % HELD_BY_HAND


COLUMNS = Due._fields
