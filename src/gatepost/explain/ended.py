"""How a recipient that waits no more ended."""

from typing import Any

from sqlalchemy import Row

from gatepost.domain.recipient import Status
from gatepost.domain.route import DEFAULT_POOL, RoadKind, road_at
from gatepost.explain.words import span, times


def how(message: Row[Any], row: Row[Any]) -> str:
    """Write one sentence."""
    took = span((row.final_at or row.updated_at) - (message.scheduled_at or message.created_at))
    host = row.last_host or "the next system"
    match Status(row.status):
        case Status.DELIVERED:
            return f"Delivered after {took}: {host} took it with {row.last_reply!r}."
        case Status.SENT:
            return f"Sent after {took}: {_relay(row.site) or host} took it with {row.last_reply!r}."
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


def _relay(site: str) -> str:
    """Name the relay that a site stands for, as the settings do; empty where it is none."""
    road = road_at(DEFAULT_POOL, site)
    return f"the relay {road.name}" if road.kind is RoadKind.RELAY else ""
