"""
Mail that was just stored, handed to whoever delivers it: what a look at the queue would read, without the reading.

Arrives: what accept has committed. Leaves: bytes for a socket of this machine, and from these bytes what `queue` and `messages`
would have read.
It is a hint, like the bell: it may be lost. Only the queue counts, so whoever takes something from here must own its shard, must not
have had it before, and must be asked in time: what comes late may have been read, delivered and forgotten meanwhile.
Not here: the way (net.bell), who hands over (accept.handing), who takes it (dispatch.claiming).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gatepost.clock import Instant
from gatepost.domain.stats import Labels
from gatepost.store.messages import Material, RecipientFacts
from gatepost.store.queue import Due

LARGEST: Final = 48 * 1024
"""Bytes of a stored body up to which a message is handed over; larger ones are read from the database."""

LATEST_S: Final = 1.0
"""What was stored longer ago is read from the queue."""


class Handed(msgspec.Struct, frozen=True, array_like=True):
    """
    One message's recipients that are due now. Its fields are those of `Material` that a wire can have, since they are decoded by type.

    Attributes:
        rows: Of the queue.
        facts: Of the same recipients, in the same order: notify, address, ORCPT, route.
    """

    id: str
    tenant_id: str
    created_at: Instant
    source: str
    from_domain: str
    is_8bit: bool
    is_smtputf8: bool
    route: str
    encoding: str
    data: bytes
    envelope_from: str
    options: dict[str, Any]
    labels: Labels
    rows: list[Due]
    facts: list[tuple[str | None, str, str | None, str | None]]

    def material(self) -> Material:
        """Return the message as `messages.materials` would."""
        return Material(
            self.id, self.tenant_id, self.created_at, self.source, self.from_domain, self.is_8bit, self.is_smtputf8, self.route,
            self.encoding, self.data, self.envelope_from, self.options, None, self.labels,
        )  # fmt: skip

    def addresses(self) -> dict[tuple[str, int], RecipientFacts]:
        """Return its recipients as `messages.addresses` would."""
        return {
            (self.id, row.n): RecipientFacts(self.id, row.n, notify, address, orcpt, None, route)
            for row, (notify, address, orcpt, route) in zip(self.rows, self.facts, strict=True)
        }


class _Load(msgspec.Struct, frozen=True, array_like=True):
    """Some messages, and since when they may be in the queue, by the machine's monotonic clock."""

    since_s: float
    messages: Sequence[Handed]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Load).decode


def packed(messages: Sequence[Handed], since_s: float) -> bytes:
    """
    Write messages for another process.

    Args:
        since_s: Before the first of them was stored, by the machine's monotonic clock.
    """
    return _encode(_Load(since_s, messages))


def unpacked(data: bytes, now_s: float) -> Sequence[Handed] | None:
    """Read messages that another process has written; None when they come too late, or make no sense."""
    try:
        load = _decode(data)
    except msgspec.DecodeError:
        return None
    return load.messages if 0 <= now_s - load.since_s <= LATEST_S else None
