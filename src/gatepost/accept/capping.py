"""
Caps per recipient, taken where messages are stored: a form that mails codes must not become a bomb.

Arrives: what a transaction is about to store. Leaves: which of it a cap refuses, and the counts, in the same transaction: the
caps hold for all tenants, keys, doors and machines together, and over a restart.
A person is counted under all spellings of their mailbox (policy.mailbox), and known only by a keyed hash. Suppressed
recipients get nothing, so they are not counted.
Not here: limits of keys and tenants (tenants.limits), which were taken before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.access import Limit, Per, Resource
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.message import Draft, Lane
from gatepost.observe import maillog, metrics
from gatepost.policy.mailbox import mailbox_of
from gatepost.policy.quota import Meter
from gatepost.store import quota
from gatepost.store.sealing import keyring_of

_KIND = {lane: f"{lane.name.lower()}-per-recipient" for lane in Lane}
_Cap = tuple[int, int]
"""A lane and its amount."""


class Capped:
    """
    A message that caps concern.

    Attributes:
        cap: Its lane, and how many that allows in an hour.
        recipients: Numbers of those that count.
        mailboxes: The persons behind them.
    """

    __slots__ = ("cap", "draft", "mailboxes", "recipients")

    def __init__(self, draft: Draft, amount: int, recipients: Sequence[int]) -> None:
        self.draft = draft
        self.recipients = recipients
        self.cap: _Cap = int(draft.lane), amount
        self.mailboxes = {mailbox_of(draft.recipients[n].address.key) for n in recipients}


@dataclass(slots=True)
class Caps:
    """The caps of one transaction: what was taken for it, given out message by message."""

    now: Instant
    left: dict[_Cap, dict[str, int]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    waits: dict[tuple[_Cap, str], int] = field(default_factory=dict)

    def refuse(self, message: Capped, pointers: Callable[[], Mapping[int, str]]) -> Refused | None:
        """
        Use a message's share, or say who has had enough.

        Args:
            pointers: Tells by number of the recipient where it stands in the request.
        """
        if not message.mailboxes:
            return None
        left, hashes = self.left[message.cap], self.hashes
        full = {mailbox for mailbox in message.mailboxes if left[hashes[mailbox]] < 1}
        if full:
            return self._refusal(message, full, pointers())
        for mailbox in message.mailboxes:
            left[hashes[mailbox]] -= 1
        return None

    def restore(self, messages: Iterable[Capped]) -> None:
        """Take back the shares of messages that are not stored after all."""
        for message in messages:
            for mailbox in message.mailboxes:
                self.left[message.cap][self.hashes[mailbox]] += 1

    def _refusal(self, message: Capped, full: set[str], pointers: Mapping[int, str]) -> Refused:
        lane, amount = message.cap
        detail = f"this recipient gets at most {amount} {message.draft.steering.stream} messages in an hour, from all senders together"
        faults = [
            Fault(pointers.get(n, ""), "recipient_limit_reached", detail)
            for n in message.recipients
            if mailbox_of(message.draft.recipients[n].address.key) in full
        ]
        wait_ms = max(self.waits.get((message.cap, self.hashes[mailbox]), 0) for mailbox in full)
        metrics.limit_hits.labels("recipient", Lane(lane).name.lower(), Per.HOUR.value).inc()
        used_up = f"recipient {message.draft.steering.stream}={amount}/hour is used up"
        return Refused("rate_limited", used_up, tuple(faults), max(1, -(-wait_ms // 1000)))

    def close(self, conn: Connection) -> None:
        """Give back what refused messages did not use."""
        for cap, left in self.left.items():
            unused = {subject: count for subject, count in left.items() if count}
            if unused:
                quota.give_back(conn, _meter(cap), _KIND[Lane(cap[0])], unused, self.now)


def take(conn: Connection, messages: Iterable[Capped], now: Instant) -> Caps:
    """Take, in one step for all, what messages need of their recipients' caps."""
    caps, ring = Caps(now), keyring_of(conn)
    wanted: dict[_Cap, dict[str, int]] = {}
    for message in messages:
        counts = wanted.setdefault(message.cap, {})
        for mailbox in message.mailboxes:
            subject = caps.hashes.get(mailbox) or caps.hashes.setdefault(mailbox, ring.hash_text(conn, mailbox))
            counts[subject] = counts.get(subject, 0) + 1
    for cap, counts in sorted(wanted.items()):
        resource, meter = _KIND[Lane(cap[0])], _meter(cap)
        caps.left[cap] = granted = quota.admit(conn, meter, resource, counts, now)
        short = [subject for subject, count in counts.items() if granted[subject] < count]
        if short:
            waits = quota.wait_ms(conn, meter, resource, short, now)
            caps.waits |= {(cap, subject): wait for subject, wait in waits.items()}
            maillog.security("recipient_cap_reached", lane=Lane(cap[0]).name.lower(), recipients=len(short))
    return caps


def _meter(cap: _Cap) -> Meter:
    return Meter.of(Limit(resource=Resource.MESSAGES, amount=cap[1], per=Per.HOUR))
