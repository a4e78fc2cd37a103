"""How a recipient that waits no more ended."""

from typing import Any

from sqlalchemy import Row

from gatepost.domain.recipient import Status
from gatepost.explain.words import span, times


def how(message: Row[Any], row: Row[Any]) -> str:
    """Write one sentence."""
    took = span((row.final_at or row.updated_at) - (message.scheduled_at or message.created_at))
    host = row.last_host or "the next system"
    match Status(row.status):
        case Status.DELIVERED:
            return f"Delivered after {took}: {host} took it with {row.last_reply!r}."
        case Status.SENT:
            return f"Sent after {took}: the relay {host} took it with {row.last_reply!r}."
        case Status.BOUNCED:
            return f"Bounced ({row.reason}) after {times(row.attempts)}: {row.last_reply}."
        case Status.SUPPRESSED:
            return f"Suppressed: not sent, because the address is on the suppression list ({row.reason})."
        case Status.EXPIRED:
            return f"Expired after {times(row.attempts)}, {took} after it was due." + (
                f" Last answer: {row.last_reply}." if row.last_reply else ""
            )
        case Status.CANCELLED:
            return f"Cancelled after {times(row.attempts)}."
        case _:
            return "Its delivery is being recorded at this moment."
