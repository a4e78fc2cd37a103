"""
Our own access tokens: issued, verified, revoked; and the keys that sign them.

A token is a JWT that names its client and its scopes; whether the client may still act is asked of the directory at each
request. Keys are Ed25519, sealed in the database. A new one is made when the newest is old enough, by the first process
that sees it; it signs from ten minutes later on, so that others who keep our key set have it by then, and verifies until
the last token that it signed has ended.
A revoked token is known to every process within a second.
Standards: RFC 9068 (JWT access tokens), RFC 7519, RFC 8037 (EdDSA), RFC 7009 (revocation).
Not here: who may have a token (authorization), the tokens of other issuers (issuers), JWTs (wire.jwt).
Bugs: while the database is away, tokens revoked meanwhile are taken until they end.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE, Clock, Instant
from gatepost.domain.access import GATEWAY, Actor, Principal, Scope, widened
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.store import audit, tokens
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.tokens import TokenKey
from gatepost.tenants.directory import Directory, HeldClient
from gatepost.tenants.second_look import SecondLook
from gatepost.wire import jwt
from gatepost.wire.jwt import BadToken, Parsed, VerifyingKey

TYP = "at+jwt"
_PUBLISH_AHEAD = 10 * MINUTE
_LONGEST_LIFETIME = DAY
_SCOPES = {scope.value: scope for scope in Scope}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new token."""

    text: str
    expires_in_s: int
    scopes: frozenset[Scope]


class OwnToken:
    """A token of ours with a good signature; `principal` says whether it may act now."""

    __slots__ = ("_held", "_principal", "_tokens", "claims", "client_id", "ends_at", "id", "scopes")

    def __init__(self, tokens_: "Tokens", claims: Mapping[str, Any], ends_at: Instant) -> None:
        """
        Raises:
            BadToken: A claim is missing.
        """
        self._tokens = tokens_
        self.claims = claims
        self.ends_at = ends_at
        self.id = _text_of(claims, "jti")
        self.client_id = _text_of(claims, "client_id")
        self.scopes = frozenset(_SCOPES[word] for word in _text_of(claims, "scope").split() if word in _SCOPES)
        self._held: HeldClient | None = None
        self._principal: Principal | None = None

    @property
    def recheck_at(self) -> Instant:
        """When its signature must be looked at again: never, it has ended by then."""
        return self.ends_at

    def principal(self, now: Instant) -> Principal:
        """
        Return who acts with it now.

        Raises:
            Refused: authentication_failed: it has ended, it or its client was revoked.
        """
        held = self._tokens.holder(self, now)
        if held is None:
            raise Refused("authentication_failed", "the token has expired or was revoked")
        if self._principal is None or held is not self._held:  # new, or the client was changed
            scopes = held.principal.scopes & widened(self.scopes)
            self._held, self._principal = held, dataclasses.replace(held.principal, scopes=scopes)
        return self._principal


class Tokens:
    """The access tokens that this gateway issues; one for all doors of a process."""

    def __init__(self, engine: Engine, clock: Clock, directory: Directory, *, issuer: str, lifetime_s: int, rotation_days: int) -> None:
        """
        Args:
            issuer: Our name as an issuer; stands in `iss` and `aud`.
        """
        self.issuer = issuer
        self._engine = engine
        self._clock = clock
        self._directory = directory
        self._lifetime_s = lifetime_s
        self._rotation = rotation_days * DAY
        self._keys: dict[str, tuple[TokenKey, VerifyingKey]] = {}
        self._private: dict[str, Mapping[str, Any]] = {}
        self._revoked: frozenset[str] = frozenset()
        self._looks = SecondLook(clock, self._load)

    async def issue(self, client: HeldClient, scopes: frozenset[Scope]) -> Issued:
        """
        Make a token for a client.

        Args:
            scopes: A part of the client's.

        Raises:
            StorageUnavailable: There is no key at hand, and the database cannot be used now.
        """
        key = await self._signing_key()
        private = self._private.get(key.id) or await self._load_private(key.id)
        now_s = self._clock.now() // 1000
        claims = {
            "iss": self.issuer,
            "sub": client.client.id,
            "aud": self.issuer,
            "client_id": client.client.id,
            "iat": now_s,
            "exp": now_s + self._lifetime_s,
            "jti": ids.new("tok"),
            "scope": " ".join(sorted(scopes)),
        }
        return Issued(text=jwt.sign(claims, typ=TYP, kid=key.id, private_jwk=private), expires_in_s=self._lifetime_s, scopes=scopes)

    async def verify(self, text: str, parsed: Parsed) -> OwnToken:
        """
        Check a token that says it is ours.

        Raises:
            BadToken: It is not, it has ended, or it is meant for something else.
        """
        jwt.check_type(parsed.header, TYP)
        kid = parsed.header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None and isinstance(kid, str) and ids.is_valid(kid, "tkey") and await self._looks.after_miss():
            key = self._keys.get(kid)
        now = self._clock.now()
        if key is None or now >= key[0].expires_at:
            raise BadToken("no known key signed it")
        claims = jwt.verify(text, parsed.header, [key[1]])
        ends_at = jwt.check_times(claims, now)
        jwt.check_audience(claims, [self.issuer])
        if claims.get("iss") != self.issuer:
            raise BadToken("its iss is not this gateway")
        found = OwnToken(self, claims, ends_at)
        await self._directory.find_client(found.client_id)  # it may have been made a moment ago
        return found

    def holder(self, token: OwnToken, now: Instant) -> HeldClient | None:
        """Return the client that acts with a token now; None when it may not."""
        if now >= token.ends_at or token.id in self._revoked:
            return None
        held = self._directory.client(token.client_id)
        return held if held is not None and now < held.until else None

    async def revoke(self, token: OwnToken, by: Actor, tenant_id: str) -> None:
        """
        Take a token no more; other processes know within a second.

        Args:
            tenant_id: Whose audit log tells of it.

        Raises:
            StorageUnavailable: It may be taken still.
        """
        now = self._clock.now()
        await self._engine.write(lambda conn: _revoke(conn, token, by, tenant_id, now))
        self._revoked |= {token.id}
        maillog.changed("token_revoked", client_id=token.client_id, token_id=token.id)

    async def public_keys(self) -> list[Mapping[str, Any]]:
        """
        Return our key set; the first key is made when it is first asked for.

        Raises:
            StorageUnavailable: There is no key at hand, and the database cannot be used now.
        """
        await self._signing_key()
        now = self._clock.now()
        return [key.public_jwk for key, _ in self._keys.values() if now < key.expires_at]

    async def refresh(self) -> None:
        """
        Read keys and revoked tokens anew.

        Raises:
            StorageUnavailable: Those that are known stay.
        """
        await self._looks.look()

    async def _load(self) -> None:
        now = self._clock.now()
        keys, self._revoked = await self._engine.read(lambda conn: (tokens.keys(conn, now), tokens.revoked(conn, now)))
        self._keys = {key.id: self._keys.get(key.id) or (key, _readable(key)) for key in keys}

    async def _signing_key(self) -> TokenKey:
        """Return the key that signs now; make one when there is none or a new one is due."""
        found = self._choose()
        if found is None or self._is_due():
            await self.refresh()
            if self._is_due():
                await self._make_key()
            found = self._choose()
        if found is None:
            raise StorageUnavailable("there is no key that signs tokens")
        return found

    def _is_due(self) -> bool:
        newest = max((key.created_at for key, _ in self._keys.values()), default=None)
        return newest is None or newest + self._rotation <= self._clock.now()

    def _choose(self) -> TokenKey | None:
        """Choose the newest key that others have had time to see; at the very start the only one."""
        now = self._clock.now()
        usable = [key for key, _ in self._keys.values() if key.expires_at >= now + self._lifetime_s * 1000]
        seen = [key for key in usable if key.created_at + _PUBLISH_AHEAD <= now]
        if seen:
            return max(seen, key=lambda key: (key.created_at, key.id))
        return min(usable, key=lambda key: (key.created_at, key.id), default=None)

    async def _make_key(self) -> None:
        now = self._clock.now()
        key_id = ids.new("tkey")
        private, public = jwt.generate_key(key_id)
        ends_at = now + self._rotation + _PUBLISH_AHEAD + _LONGEST_LIFETIME + HOUR
        made = TokenKey(id=key_id, algorithm="EdDSA", public_jwk=public, created_at=now, expires_at=ends_at)
        raw = msgspec.json.encode(private)
        if await self._engine.write(lambda conn: _add_key(conn, made, raw, now - self._rotation, now)):
            maillog.changed("token_key_made", key_id=key_id)
        await self.refresh()

    async def _load_private(self, key_id: str) -> Mapping[str, Any]:
        raw = await self._engine.read(lambda conn: tokens.private_of(conn, key_id))
        if raw is None:
            raise StorageUnavailable("the key that signs tokens is gone")
        private: dict[str, Any] = msgspec.json.decode(raw)
        self._private[key_id] = private
        return private


def _revoke(conn: Connection, token: OwnToken, by: Actor, tenant_id: str, now: Instant) -> None:
    if tokens.spend(conn, token.id, token.ends_at):
        audit.append(conn, by, audit.Change(action="access_token.revoked", object_id=token.id, tenant_id=tenant_id), now)


def _add_key(conn: Connection, made: TokenKey, private: bytes, due_before: Instant, now: Instant) -> bool:
    if not tokens.add_key_if_due(conn, made, private, due_before):
        return False
    change = audit.Change(action="signing_key.created", object_id=made.id, tenant_id=None, after={"algorithm": made.algorithm})
    audit.append(conn, GATEWAY, change, now)
    return True


def _readable(key: TokenKey) -> VerifyingKey:
    return jwt.read_keys({"keys": [dict(key.public_jwk)]})[0]


def _text_of(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > 2000:
        raise BadToken(f"its {name} is no text")
    return value
