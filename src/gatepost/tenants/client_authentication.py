"""
How an OAuth client proves itself: by its secret, or by an assertion that it signs.

Arrives: what a request to the token endpoint showed, and the address that it comes from.
Leaves: the client; or `OAuthRefused` with an error of RFC 6749 §5.2.
Secrets are compared by their SHA-256, in constant time, and with something even where there is no such client. An
assertion is good once: its id is spent in the database, for all processes.
Failures are throttled by where they come from, never by client: nobody can lock a client out. Even from a throttled
address a right secret works, since comparing costs nothing and a secret has 190 bits; what is refused there is more
checking of signatures, and long words about why.
Standards: RFC 6749 §2.3, RFC 7523 §2.2 and §3 (private_key_jwt), RFC 7521 §4.2, RFC 9700 §2.5.
Not here: forms and headers (http.public.oauth), what the client gets (authorization).
Bugs: throttling is counted in each process for itself.
"""

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gatepost import ids
from gatepost.clock import HOUR, Clock, Instant
from gatepost.observe import maillog
from gatepost.store import tokens
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory, HeldClient
from gatepost.tenants.keys import hash_secret
from gatepost.wire import jwt
from gatepost.wire.jwt import BadToken

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_NOBODY: Final = hash_secret("nobody has this secret")
_LONGEST_ASSERTION: Final = HOUR
_MAX_FAILURES: Final = 30
_WINDOW_S: Final = 60.0
_MAX_PEERS: Final = 10_000
_LONGEST: Final = 300


@dataclass(eq=False)
class OAuthRefused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """
    A request to the token endpoint or its neighbours is refused.

    Attributes:
        error: A word of RFC 6749 §5.2.
        status: HTTP status.
        retry_after_s: Seconds after which trying again makes sense.
    """

    error: str
    detail: str
    status: int = 400
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    What a client showed to prove itself.

    Attributes:
        client_id: None when only an assertion names it.
    """

    client_id: str | None = None
    secret: str | None = None
    assertion: str | None = None


class FailureThrottle:
    """Counts failed proofs by address, and remembers which clients proved themselves from where."""

    def __init__(self) -> None:
        self._failures: OrderedDict[int | str, tuple[int, float]] = OrderedDict()
        self._good: OrderedDict[tuple[int | str, str], None] = OrderedDict()

    def is_throttled(self, peer: str, now_s: float) -> bool:
        """Tell whether too many failures came from there in the last minute."""
        count, since_s = self._failures.get(_group(peer), (0, 0.0))
        return count >= _MAX_FAILURES and now_s < since_s + _WINDOW_S

    def failed(self, peer: str, now_s: float) -> None:
        """Count a failure; the address that was quiet longest is forgotten first."""
        group = _group(peer)
        count, since_s = self._failures.pop(group, (0, now_s))
        self._failures[group] = (count + 1, since_s) if now_s < since_s + _WINDOW_S else (1, now_s)
        if len(self._failures) > _MAX_PEERS:
            self._failures.popitem(last=False)

    def succeeded(self, peer: str, client_id: str) -> None:
        """Remember that a client proved itself from there."""
        known = (_group(peer), client_id)
        self._good.pop(known, None)
        self._good[known] = None
        if len(self._good) > _MAX_PEERS:
            self._good.popitem(last=False)

    def is_known(self, peer: str, client_id: str) -> bool:
        """Tell whether a client proved itself from there before."""
        return (_group(peer), client_id) in self._good


class ClientAuthentication:
    """Proves clients; one for a process."""

    def __init__(self, engine: Engine, clock: Clock, directory: Directory, audiences: Sequence[str]) -> None:
        """
        Args:
            audiences: What an assertion may name as its audience: our names.
        """
        self._engine = engine
        self._clock = clock
        self._directory = directory
        self._audiences = audiences
        self._throttle = FailureThrottle()

    async def authenticate(self, shown: Shown, peer: str) -> HeldClient:
        """
        Return the client that proved itself.

        Raises:
            OAuthRefused: invalid_client; temporarily_unavailable when too many failures came from there.
            StorageUnavailable: The database cannot be used now.
        """
        is_throttled = self._throttle.is_throttled(peer, self._clock.monotonic())
        found = await self._by_assertion(shown, peer, is_throttled) if shown.assertion is not None else await self._by_secret(shown)
        if found is not None:
            self._throttle.succeeded(peer, found.client.id)
            return found
        self._throttle.failed(peer, self._clock.monotonic())
        if is_throttled:
            raise OAuthRefused("temporarily_unavailable", "too many failed attempts came from this address", 429, int(_WINDOW_S))
        maillog.security("client_refused", source="http", peer=peer, client_id=_printable(shown.client_id))
        raise OAuthRefused("invalid_client", "the client is unknown, revoked or expired, or what it showed is wrong", 401)

    async def _by_secret(self, shown: Shown) -> HeldClient | None:
        held = await self._usable(shown.client_id)
        digest, now = hash_secret(shown.secret or ""), self._clock.now()
        secrets = held.secrets if held is not None else ()
        is_right = False
        for stored, until in (*secrets, (_NOBODY, 0), (_NOBODY, 0))[:2]:  # always two comparisons
            is_right |= hmac.compare_digest(digest, stored) and now < until
        return held if is_right else None

    async def _by_assertion(self, shown: Shown, peer: str, is_throttled: bool) -> HeldClient | None:  # noqa: FBT001
        text = shown.assertion or ""
        try:
            parsed = jwt.parse(text)
            client_id = parsed.claims.get("sub")
            if not isinstance(client_id, str) or (shown.client_id is not None and shown.client_id != client_id):
                return None
            held = await self._usable(client_id)
            if held is None or held.client.jwks is None or (is_throttled and not self._throttle.is_known(peer, client_id)):
                return None
            claims = jwt.verify(text, parsed.header, jwt.read_keys(held.client.jwks))
            ends_at = self._check_claims(claims, client_id)
            return held if await self._spend(client_id, str(claims["jti"]), ends_at) else None
        except (BadToken, ValueError) as bad:
            maillog.security("assertion_refused", source="http", peer=peer, why=str(bad)[:200])
            return None

    def _check_claims(self, claims: Any, client_id: str) -> Instant:
        now = self._clock.now()
        ends_at = jwt.check_times(claims, now)
        if ends_at > now + _LONGEST_ASSERTION:
            raise BadToken("it lives longer than an hour")
        jwt.check_audience(claims, self._audiences)
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise BadToken("its iss and sub are not the client")
        if not isinstance(claims.get("jti"), str) or not 0 < len(claims["jti"]) <= _LONGEST:
            raise BadToken("it has no jti")
        return ends_at

    async def _spend(self, client_id: str, jti: str, ends_at: Instant) -> bool:
        spent = "a:" + hashlib.sha256(f"{client_id} {jti}".encode("utf-8", "surrogatepass")).hexdigest()
        if not await self._engine.write(lambda conn: tokens.spend(conn, spent, ends_at)):
            raise BadToken("it was used before")
        return True

    async def _usable(self, client_id: str | None) -> HeldClient | None:
        """Find a client that is not over; a name that cannot be one costs no look into the database."""
        if client_id is None or not ids.is_valid(client_id, "oac"):
            return None
        held = await self._directory.find_client(client_id)
        return held if held is not None and self._clock.now() < held.until else None


def _group(peer: str) -> int | str:
    """Return what counts as one address: an IPv4 address, or the /64 that one IPv6 site has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return int(address) if address.version == 4 else -(int(address) >> 64) - 1


def _printable(text: str | None) -> str | None:
    return text if text is None or ids.is_valid(text, "oac") else "(not a client's id)"
