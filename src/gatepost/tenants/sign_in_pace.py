"""
How fast one may guess: a delay that grows with each failure, and never locks out who is at home.

Arrives: whose account is tried, from which network, and from which known device, if from one.
Leaves: how long to wait before the next guess is looked at.
Failures are counted by account and network; a device that its owner has signed in with before has a count of its own,
whose delay stays short, and is touched by nobody else's guesses. Beyond a hundred failures the account as a whole, known
devices aside, is looked at once in ten seconds: guessing from many networks gains nothing.
A guess is counted before it is looked at, so that many at the same moment are many.
Not here: what a guess costs (passwords). Bugs: each door process counts for itself, and forgets when it ends.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from gatepost.clock import SECOND, Clock, Instant

_MAX_COUNTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How one kind of count slows down.

    Attributes:
        free: Failures without any delay.
        first_s: The first delay; each further failure doubles it.
        longest_s: It grows no longer than this.
        forget_s: After so long without a failure all is forgotten.
    """

    free: int
    first_s: float
    longest_s: float
    forget_s: float

    def delay_ms(self, failures: int) -> int:
        """Return how long to wait after so many failures."""
        beyond = failures - self.free
        return 0 if beyond < 0 else int(min(self.longest_s, self.first_s * 2 ** min(beyond, 30)) * SECOND)


NETWORK = Pace(free=5, first_s=1, longest_s=900, forget_s=24 * 3600)
ACCOUNT = Pace(free=100, first_s=10, longest_s=10, forget_s=3600)
DEVICE = Pace(free=10, first_s=1, longest_s=30, forget_s=3600)
CODE_NETWORK = Pace(free=5, first_s=2, longest_s=900, forget_s=24 * 3600)
CODE_ACCOUNT = Pace(free=20, first_s=10, longest_s=900, forget_s=24 * 3600)
"""Codes have six digits: of them far fewer may be tried, also from many networks."""


@dataclass(slots=True)
class _Count:
    failures: int
    at: Instant
    open_at: Instant


@dataclass(frozen=True, slots=True)
class Guess:
    """One guess under way; it counts as a failure until it is known to be right."""

    counts: tuple[tuple[str, Pace], ...]


class Pacing:
    """The counts of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def begin(self, account: str, peer: str, device: str | None, *, is_code: bool = False) -> Guess | float:
        """
        Ask to make a guess; return it, or how many seconds to wait.

        Args:
            account: Hash of the e-mail address, or the person's id; there need be none.
            device: Id of the known device that it comes from.
            is_code: It is a code of an authenticator, not a password.
        """
        guess = Guess(_counts_of(account, peer, device, is_code=is_code))
        now = self._clock.now()
        wait_ms = max(self._wait_ms(name, pace, now) for name, pace in guess.counts)
        if wait_ms > 0:
            return wait_ms / SECOND
        for name, pace in guess.counts:
            self._count(name, pace, now)
        return guess

    def succeeded(self, guess: Guess) -> None:
        """Forget the failures of this network or device, and take back what was counted for the account."""
        own, *shared = guess.counts
        self._counts.pop(own[0], None)
        for name, _ in shared:
            if (count := self._counts.get(name)) is not None:
                count.failures -= 1

    def _wait_ms(self, name: str, pace: Pace, now: Instant) -> int:
        count = self._counts.get(name)
        if count is None or now - count.at > pace.forget_s * SECOND:
            return 0
        return count.open_at - now

    def _count(self, name: str, pace: Pace, now: Instant) -> None:
        count = self._counts.pop(name, None)
        if count is None or now - count.at > pace.forget_s * SECOND:
            count = _Count(0, now, now)
        count.failures += 1
        count.at = now
        count.open_at = now + pace.delay_ms(count.failures)
        self._counts[name] = count
        while len(self._counts) > _MAX_COUNTS:
            self._make_room(now)

    def _make_room(self, now: Instant) -> None:
        """Forget the count that was touched longest ago; of the oldest few, one that holds nobody back."""
        oldest = [name for name, _ in zip(self._counts, range(64), strict=False)]
        free = next((name for name in oldest if self._counts[name].open_at <= now), oldest[0])
        del self._counts[free]


def _counts_of(account: str, peer: str, device: str | None, *, is_code: bool) -> tuple[tuple[str, Pace], ...]:
    kind = "code" if is_code else "password"
    if device is not None:
        return ((f"{kind} {account} device {device}", DEVICE),)
    return (
        (f"{kind} {account} from {network_of(peer)}", CODE_NETWORK if is_code else NETWORK),
        (f"{kind} {account}", CODE_ACCOUNT if is_code else ACCOUNT),
    )


def network_of(peer: str) -> str:
    """Return the network that one visitor can be assumed to own: one IPv4 address, an IPv6 /56."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 56), strict=False))
    return str(address)
