"""What accept answers, to whatever door: plain values that can be kept for a replay of the request."""

from dataclasses import dataclass

import msgspec

from gatepost.domain.errors import Fault, Refused
from gatepost.store.handover import Handed


class AcceptedRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient at accept."""

    id: str
    address: str
    kind: str
    status: str
    reason: str | None = None


class AcceptedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """
    A message that is stored.

    Attributes:
        warnings: What its sender should know of, although it was taken.
    """

    id: str
    status: str
    is_sandbox: bool
    recipients: list[AcceptedRecipient]
    warnings: list[Fault] = msgspec.field(default_factory=list)


class RefusedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a permissive batch that was not stored; the shape in which a refusal is kept for replays."""

    code: str
    detail: str
    faults: list[Fault] = msgspec.field(default_factory=list)

    def as_refusal(self) -> Refused:
        """Return the refusal itself."""
        return Refused(self.code, self.detail, tuple(self.faults))


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """
    The answer to a request.

    Attributes:
        results: One per message of the request, in order.
        is_replay: The request took effect earlier and this is its answer (same idempotency key).
        handed: What dispatch may have without reading it from the queue.
        is_all_handed: Nothing else was stored that is due.
    """

    results: list[AcceptedMessage | RefusedMessage]
    is_replay: bool = False
    handed: list[Handed] = []
    is_all_handed: bool = False


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`Accepted` as the idempotency table keeps it; unions need a tag to be read back."""

    messages: list[AcceptedMessage | None]
    refusals: list[RefusedMessage | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """An idempotency key with the hash of the request that it stands for."""

    key: str
    request_hash: bytes
