"""
What accept asks of others before it stores a message, as protocols; the composition root hands in who answers.

Order: admission (is there room?), then each message is checked and composed, screening (is the content wanted?), limits
(may this caller send that much?), the commit. Whoever refuses raises a `Refused`, and nothing took effect.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gatepost.domain.allowance import Terms, Unused, Wanted
from gatepost.domain.errors import Fault
from gatepost.domain.message import Draft, Submission
from gatepost.domain.tenant import Caller


class Reservation(Protocol):
    """What was taken of limits for one request."""

    async def cancel(self) -> None:
        """Give it back: the request was a replay, or its commit failed."""
        ...

    async def give_back(self, unused: Sequence[Unused]) -> None:
        """Give back what turned out not to be needed: suppressed recipients, refused messages of a batch."""
        ...


class Limits(Protocol):
    """Rates and quotas; and the terms by which the commit counts caps per recipient and balances."""

    async def reserve(self, caller: Caller, wanted: Sequence[Wanted]) -> Reservation:
        """
        Take what a request needs of every limit that concerns it, or nothing.

        Raises:
            Refused: rate_limited or quota_exceeded, with Retry-After where waiting helps.
        """
        ...

    def terms(self, caller: Caller) -> Terms:
        """Return what the commit decides by: caps per recipient, the price, whether there must be a balance."""
        ...


class Chosen(Protocol):
    """The routes of one message."""

    @property
    def route(self) -> str:
        """Its own, for every recipient that has no other."""
        ...

    @property
    def others(self) -> Mapping[str, str]:
        """By recipient's domain, where it is another one."""
        ...


class Routing(Protocol):
    """Chooses the roads of mail."""

    def choose(self, caller: Caller, draft: Draft, default: str | None = None) -> Chosen:
        """
        Choose the routes of a message.

        Args:
            default: A route's name or roads for mail that no rule is for; None is `egress.default_route`.

        Raises:
            Refused: validation_failed: it asks for a route that it may not name.
        """
        ...


class Screening(Protocol):
    """Looks at what syntax cannot tell: domains without mail, attachments, spam and malware."""

    async def check(self, caller: Caller, draft: Draft, submission: Submission | None = None) -> Sequence[Fault]:
        """
        Look at a composed message.

        Args:
            submission: The fields that it was composed of; None where it came as finished MIME.

        Returns:
            What its sender is warned of.

        Raises:
            Refused: validation_failed, content_refused or scanner_unavailable, with the places.
        """
        ...


class Admission(Protocol):
    """Keeps the gateway standing when more comes than it can take."""

    def check(self, lane: int) -> None:
        """
        Let a message of a lane in, as far as there is room now; codes go last.

        Raises:
            Refused: overloaded or storage_unavailable, with Retry-After.
        """
        ...

    @property
    def is_pressed(self) -> bool:
        """True when somebody may be refused now: then it is worth asking before work is done."""
        ...

    def enter(self, messages: int) -> None:
        """Count messages that are in hand from now on."""
        ...

    def leave(self, messages: int) -> None:
        """Count messages out: they are stored, or refused for another reason."""
        ...
