"""
An event as customers read it: in webhooks, over `GET /v1/events` and in the live stream, the same everywhere.

Arrives: an event with its message and address. Leaves: `{"type", "timestamp", "data"}`, equal each time it is written.
Not here: signing and sending (sending).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gatepost import ids
from gatepost.clock import iso
from gatepost.domain.event import EventType
from gatepost.store.hooks import Material

_ASIDE: Final = {
    EventType.DELIVERED: "delivery",
    EventType.SENT: "delivery",
    EventType.DEFERRED: "deferral",
    EventType.BOUNCED: "bounce",
    EventType.EXPIRED: "expiry",
}
"""Under which name an event's own details stand, where they are those of an attempt."""

_encode = msgspec.json.Encoder().encode


def payload(material: Material) -> dict[str, Any]:
    """Write one event."""
    event = material.event
    own = {name: iso(value) if name.endswith("_at") and isinstance(value, int) else value for name, value in event.data.items()}
    aside = _ASIDE.get(event.type)
    data = {**({aside: own} if aside else own), **_about(material)}
    return {"type": event.type, "timestamp": iso(event.at), "data": data}


def _about(material: Material) -> dict[str, Any]:
    """Say what the event is about; these names are never those of details."""
    event, message = material.event, material.message
    if event.message_id is None:
        return {}
    about: dict[str, Any] = {"message_id": event.message_id}
    if event.n is not None:
        about["recipient_id"] = ids.recipient_id(event.message_id, event.n)
        if material.address is not None:
            about["address"] = material.address
    if message is not None:
        about |= {
            "from": message.from_, "subject": message.subject, "tags": message.tags, "metadata": message.metadata, "stream": message.stream,
            "sandbox": bool(message.is_sandbox),
        }  # fmt: skip
    return about


def body_of(materials: Sequence[Material], *, is_batch: bool) -> bytes:
    """
    Write the body of a call.

    Args:
        is_batch: Events are written with their ids into a list, also a single one.
    """
    if not is_batch:
        return _encode(payload(materials[0]))
    events = [{"id": one.event.id, **payload(one)} for one in materials]
    return _encode({"type": "batch", "timestamp": events[-1]["timestamp"], "data": events})
