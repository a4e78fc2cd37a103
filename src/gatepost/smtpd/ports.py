"""
What the SMTP door needs from the rest of the house, as protocols.

Not here: their implementations (accept, tenants), which the composition root hands in.
"""

from typing import Any, Protocol

from gatepost.domain.access import Principal
from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import Caller

Proof = Any
"""What an authenticator gives out and takes back; the door does not look into it."""


class AcceptedMessage(Protocol):
    """A message that is safely stored."""

    @property
    def message_id(self) -> str:
        """Its identifier, `msg_…`."""
        ...


class Acceptor(Protocol):
    """The one place where mail is accepted."""

    async def submit_raw(self, caller: Caller, submission: RawSubmission, /) -> AcceptedMessage:
        """
        Store a message; returns after the commit.

        Raises:
            Refused: The message is not wanted.
        """
        ...


class Authenticator(Protocol):
    """Who asks; see `tenants.authentication`."""

    async def prove(self, secret: str, /) -> Proof:
        """
        Find out what was shown.

        Raises:
            Refused: authentication_failed.
        """
        ...

    def trusted(self, peer: str, /) -> Proof | None:
        """Return the proof of clients that act without AUTH because of where they come from."""
        ...

    def check(self, proof: Proof, peer: str, /) -> Principal:
        """
        Return who acts with a proof now.

        Raises:
            Refused: It was revoked or has ended since, its tenant is suspended, or it may not be used from there.
        """
        ...


class OnEvent(Protocol):
    """Where the door tells what happened; fields are never secrets or content."""

    def __call__(self, name: str, /, **fields: object) -> None:
        """Take one event."""
        ...
