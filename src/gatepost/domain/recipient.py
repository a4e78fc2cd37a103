"""
The states of a recipient, and the one table of what may follow what.

The database's CHECK constraint, the diagram in the documentation and a property test are all made from `TRANSITIONS`.
"""

from enum import StrEnum


class Status(StrEnum):
    """Where a recipient stands."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


WAITING = frozenset({Status.SCHEDULED, Status.QUEUED, Status.DEFERRED})
"""There is a queue row, and work still to do."""

TERMINAL = frozenset(Status) - WAITING
"""There is no queue row; only later news or a person's retry changes anything."""

_ENDS = frozenset({Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED, Status.DEFERRED})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.SCHEDULED: _ENDS | {Status.QUEUED, Status.SCHEDULED},
    Status.QUEUED: _ENDS | {Status.SCHEDULED},
    Status.DEFERRED: _ENDS | {Status.QUEUED, Status.SCHEDULED},
    Status.SENT: frozenset({Status.DELIVERED, Status.BOUNCED}),
    Status.DELIVERED: frozenset({Status.BOUNCED}),  # an asynchronous bounce after a 250
    Status.BOUNCED: frozenset({Status.QUEUED}),
    Status.EXPIRED: frozenset({Status.QUEUED}),
    Status.CANCELLED: frozenset({Status.QUEUED}),
    Status.SUPPRESSED: frozenset(),
}

_LEAST_FINISHED = (
    Status.DEFERRED, Status.QUEUED, Status.SCHEDULED, Status.BOUNCED, Status.EXPIRED,
    Status.CANCELLED, Status.SUPPRESSED, Status.SENT, Status.DELIVERED,
)  # fmt: skip


def message_status(statuses: list[Status]) -> Status:
    """
    Sum up a message's recipients in one word: the status that most needs attention.

    Work still to do comes before failures, failures before success, so `delivered` means every recipient.

    Raises:
        ValueError: No recipients.
    """
    present = set(statuses)
    for status in _LEAST_FINISHED:
        if status in present:
            return status
    raise ValueError("a message has at least one recipient")


class IllegalTransition(Exception):  # noqa: N818
    """A recipient was asked to become what it cannot become from where it is."""
