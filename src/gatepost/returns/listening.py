"""
Who may send what to the gateway's own addresses, and that it is kept before the sender hears 250.

Arrives: recipients and messages from the SMTP door of `inbound.listen`. Leaves: rows in store.inbound; refusals.
Addresses: return paths with our token, `abuse`, `fbl`, `postmaster`, `dmarc` and `tlsrpt`, all at our return-path domains.
Nobody else is known here: a stranger's mail is refused while its sender is connected, so it is never bounced (RFC 5321 §6.2).
Standards: RFC 5321 §4.5.1 (postmaster), §6.3 (loops), RFC 2142 (names of offices).
Not here: the dialogue (wire.smtp_server), what a message means (letters).
Bugs: rates are counted per process and are forgotten at a restart.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn

from gatepost.clock import MINUTE, Clock, Instant
from gatepost.domain.access import Principal, PrincipalKind
from gatepost.domain.address import Address
from gatepost.domain.errors import Refused
from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import Caller
from gatepost.net.peer import parse_peer
from gatepost.policy import gcra
from gatepost.store import inbound
from gatepost.store.engine import Engine
from gatepost.store.inbound import Arrived
from gatepost.wire.return_path import ReturnPaths, ReturnToken

_MOST_HOPS: Final = 100
_MOST_PEERS: Final = 10_000
_RECEIVED: Final = re.compile(rb"^Received:", re.IGNORECASE | re.MULTILINE)


class Desk(StrEnum):
    """What an address of ours is for."""

    RETURN = "return"
    OFFICE = "office"
    DMARC = "dmarc"
    TLS = "tls"


_DESKS: Final = {
    "abuse": Desk.OFFICE, "fbl": Desk.OFFICE, "postmaster": Desk.OFFICE, "dmarc": Desk.DMARC, "tlsrpt": Desk.TLS, "tls-rpt": Desk.TLS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Destination:
    """An address of ours; `token` says whom a return path stands for."""

    desk: Desk
    token: ReturnToken | None = None


def destination_of(paths: ReturnPaths, address: Address, now: Instant) -> Destination | None:
    """Tell what an address is for; None when it is not ours."""
    if address.domain not in paths.domains:
        return None
    desk = _DESKS.get(address.local.lower())
    if desk is not None:
        return Destination(desk)
    token = paths.read(address.local, now)
    return None if token is None else Destination(Desk.RETURN, token)


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that is on disk."""

    message_id: str


class Listening:
    """What the SMTP door asks, in the place of the acceptor and of the authenticator."""

    def __init__(self, engine: Engine, clock: Clock, paths: ReturnPaths, *, per_minute: int) -> None:
        """
        Args:
            per_minute: Messages that one peer may send in a minute; loopback may send more.
        """
        self._engine = engine
        self._clock = clock
        self._paths = paths
        self._per_minute = per_minute
        self._levels: OrderedDict[int, gcra.Level] = OrderedDict()

    def why_not_to(self, address: Address) -> str | None:
        """Say why there is no such recipient here; None when there is."""
        known = destination_of(self._paths, address, self._clock.now())
        return None if known is not None else "No such mailbox here; return paths end after some time"

    async def submit_raw(self, caller: Caller, submission: RawSubmission) -> Kept:
        """
        Keep a message; returns when it is on disk.

        Raises:
            Refused: mail_loop, rate_limited; storage_unavailable, when it may or may not be on disk.
        """
        self._count(caller.peer)
        head = submission.content.partition(b"\r\n\r\n")[0]
        if len(_RECEIVED.findall(head)) > _MOST_HOPS:
            raise Refused("mail_loop", f"the message came through more than {_MOST_HOPS} servers")
        details: dict[str, Any] = {
            "sender": "" if submission.envelope_from is None else str(submission.envelope_from),
            "recipients": [str(one.address) for one in submission.recipients],
            "peer": caller.peer,
        }
        arrived, now = Arrived(kind="mail", details=details, body=submission.content), self._clock.now()
        return Kept(await self._engine.write(lambda conn: inbound.put(conn, arrived, now)))

    def _count(self, peer: str) -> None:
        known = parse_peer(peer)
        if known.is_loopback:
            return
        now, level = self._clock.now(), self._levels.pop(known.group, gcra.EMPTY)
        wait = gcra.wait_ms(level, self._per_minute, MINUTE, 1, now)
        if wait == 0:
            level = gcra.taken(level, self._per_minute, MINUTE, 1, now)
        self._levels[known.group] = level
        if len(self._levels) > _MOST_PEERS:
            self._levels.popitem(last=False)
        if wait:
            raise Refused("rate_limited", "too many messages from there", retry_after_s=-(-wait // 1000))

    # Nobody shows a key here: everybody may knock, for our own addresses only.

    async def prove(self, _secret: str) -> NoReturn:
        """
        Refuse: nobody has a key for this door.

        Raises:
            Refused: authentication_failed.
        """
        raise Refused("authentication_failed")

    def trusted(self, _peer: str) -> "Listening":
        """Let everybody speak."""
        return self

    def check(self, _proof: Any, _peer: str) -> Principal:
        """Return who is at the door: a stranger without any right."""
        return _STRANGER


_STRANGER: Final = Principal(id="inbound", kind=PrincipalKind.LOCAL, tenant_id="", name="inbound", scopes=frozenset())
