"""
What a provider's file offers: calls out of a batch, verdicts out of answers. No I/O.

Leaves: `Provider`, the protocol; `Call`; and how a batch's recipients are shared out over calls of an API that wants fields.
Not here: sending (courier), the tables' words (verdict).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

from gatepost.clock import Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.egress.courier import Batch, BatchRecipient
from gatepost.egress.relays.verdict import Verdict
from gatepost.mime.letter import Correspondent, Letter
from gatepost.net.http_client import HttpAnswer, HttpRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and whom it reaches."""

    request: HttpRequest
    recipients: tuple[BatchRecipient, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What a provider says of our account when it is asked.

    Attributes:
        verdict: ACCEPTED when the key is good.
        quota_left: Recipients that may still be sent in the provider's own period; None where it does not tell.
    """

    verdict: Verdict
    quota_left: int | None = None
    detail: str = ""


class Provider(Protocol):
    """One provider's API."""

    @property
    def is_idempotent(self) -> bool:
        """True where a call may be repeated: the provider knows it by its key and sends nothing twice."""
        ...

    def calls(self, batch: Batch, now: Instant) -> list[Call]:
        """
        Write the requests for a batch; each recipient is in exactly one.

        Raises:
            Unreadable: The message cannot be taken apart.
        """
        ...

    def read(self, call: Call, answer: HttpAnswer, now: Instant) -> Verdict | Mapping[int, Verdict]:
        """Say what an answer means: for all recipients of the call, or for each by its number."""
        ...

    def question(self, now: Instant) -> HttpRequest:
        """Write a request that tells whether the key is good, and sends nothing."""
        ...

    def standing(self, answer: HttpAnswer, now: Instant) -> Standing:
        """Read the answer to `question`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One call's recipients as its fields have them; `bcc` is shown to nobody."""

    recipients: tuple[BatchRecipient, ...]
    to: tuple[Correspondent, ...]
    cc: tuple[Correspondent, ...] = ()
    bcc: tuple[Correspondent, ...] = field(default=(), repr=False)


def shares(letter: Letter, recipients: Sequence[BatchRecipient], most: int) -> list[Share]:
    """
    Share recipients out over calls of an API that mails everybody whom its fields name.

    One call where the batch holds everybody whom To and Cc show: these see each other as the sender meant it, and who is in
    neither is blind-copied. Otherwise (some were sent to before, or by another road) a call for each, who then sees only
    themselves: naming the others would mail them again.

    Args:
        most: Recipients that one call takes.
    """
    by_key = {_key(one.address): one for one in recipients}
    shown = [*letter.to, *letter.cc]
    names = {_key(one.address): one.name for one in reversed(shown)}
    is_whole = bool(letter.to) and len(by_key) == len(recipients) <= most and all(_key(one.address) in by_key for one in shown)
    if not is_whole:
        return [Share(recipients=(one,), to=(Correspondent(one.address, names.get(_key(one.address), "")),)) for one in recipients]

    def wire(people: Sequence[Correspondent], known: set[str]) -> tuple[Correspondent, ...]:
        found = {key: Correspondent(by_key[key].address, one.name) for one in people if (key := _key(one.address)) not in known}
        known.update(found)
        return tuple(found.values())

    known: set[str] = set()
    to, cc = wire(letter.to, known), wire(letter.cc, known)
    bcc = tuple(Correspondent(one.address) for key, one in by_key.items() if key not in known)
    return [Share(recipients=tuple(recipients), to=to, cc=cc, bcc=bcc)]


def singles(letter: Letter, recipients: Sequence[BatchRecipient]) -> list[Share]:
    """Give each recipient a call of its own, who then sees only themselves in To."""
    return shares(letter, recipients, 0) if len(recipients) > 1 else shares(letter, recipients, 1)


def chunks(recipients: Sequence[BatchRecipient], size: int) -> list[tuple[BatchRecipient, ...]]:
    """Cut recipients into pieces of at most `size`."""
    return [tuple(recipients[at : at + size]) for at in range(0, len(recipients), size)]


def call_key(batch: Batch, recipients: Sequence[BatchRecipient]) -> UUID:
    """Name a call by its message and recipients, the same at every attempt: a provider that knows it sends nothing twice."""
    return uuid5(NAMESPACE_URL, f"gatepost:{batch.message_id}:{','.join(str(one.n) for one in recipients)}")


def _key(address: str) -> str:
    try:
        return parse_address(address).key
    except InvalidAddress:
        return address.lower()
