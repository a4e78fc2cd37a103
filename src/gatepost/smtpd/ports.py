"""
What the SMTP door needs from the rest of the house, as protocols.

Not here: their implementations (accept, tenants), which the composition root hands in.
"""

import ipaddress
from typing import Protocol

from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import ApiKey, Caller


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


class Directory(Protocol):
    """Who the keys belong to."""

    async def authenticate(self, secret: str, /) -> ApiKey | None:
        """Find the live key with this secret, taking the same time whether there is one or not."""
        ...

    def trusted_key(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, /) -> ApiKey | None:
        """Find the key with which clients from an address act without AUTH."""
        ...


class OnEvent(Protocol):
    """Where the door tells what happened; fields are never secrets or content."""

    def __call__(self, name: str, /, **fields: object) -> None:
        """Take one event."""
        ...
