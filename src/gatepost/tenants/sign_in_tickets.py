"""
Signed statements that a browser keeps for us: what a sign-in has to remember between two requests, and known devices.

So nobody who is not signed in makes us write anything. A ticket is of one kind, ends, and is bound to what else the
request must bring: a session, a cookie, a person. Its key comes from the master key, so every process of the gateway
knows it. One that may be used once is written down when it is used (`spent_token`).
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.store import sealing, tokens
from gatepost.store.engine import Engine

_MAX_LENGTH = 3_000


class _Statement(msgspec.Struct, frozen=True):
    kind: str
    binding: str
    id: str
    expires_at: Instant
    data: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A ticket that is genuine, of the right kind, in time, and in the right hands."""

    id: str
    expires_at: Instant
    data: dict[str, str] = field(repr=False)

    def spend(self, conn: Connection) -> bool:
        """Use it up, in the transaction of what it was for; return False when it was used before."""
        return tokens.spend(conn, f"ticket:{self.id}", self.expires_at)


class Tickets:
    """Makes and reads tickets."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._key = b""

    async def make(self, kind: str, binding: str, lifetime_ms: int, **data: str) -> str:
        """
        Make a ticket.

        Args:
            binding: What must come with it; only a hash of it stands inside.

        Raises:
            StorageUnavailable: The key cannot be read now.
        """
        statement = _Statement(kind, _hash(binding), secrets.token_urlsafe(12), self._clock.now() + lifetime_ms, data)
        payload = _encode(msgspec.json.encode(statement))
        return f"{payload}.{_encode(hmac.digest(await self._secret(), payload.encode(), 'sha256'))}"

    async def read(self, text: str, kind: str, binding: str) -> Ticket | None:
        """
        Read a ticket; None for one that is not genuine, is over, is of another kind, or is in other hands.

        Raises:
            StorageUnavailable: The key cannot be read now.
        """
        payload, _, mac = text.partition(".")
        if not payload or len(text) > _MAX_LENGTH or not text.isascii():
            return None
        if not hmac.compare_digest(mac.encode(), _encode(hmac.digest(await self._secret(), payload.encode(), "sha256")).encode()):
            return None
        found = msgspec.json.decode(_decode(payload), type=_Statement)
        is_right = found.kind == kind and hmac.compare_digest(found.binding, _hash(binding)) and found.expires_at > self._clock.now()
        return Ticket(id=found.id, expires_at=found.expires_at, data=found.data) if is_right else None

    async def _secret(self) -> bytes:
        if not self._key:
            self._key = await self._engine.write(_derive)
        return self._key


def _derive(conn: Connection) -> bytes:
    return hashlib.sha256("".join(sealing.keyed_hash(conn, f"key of sign-in tickets {n}") for n in (1, 2)).encode()).digest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> Any:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
