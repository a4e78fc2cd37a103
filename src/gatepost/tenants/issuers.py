"""
Access tokens of outside issuers, as far as the settings trust them.

Arrives: a token that names another issuer. Leaves: who acts with it, in the tenant and within the scopes that the
settings allow; or `BadToken`.
An issuer's keys are fetched when they are first needed, and again after ten minutes or when a token names a key that is
not among them, at most once a minute. While that fails the old ones are good for a day. Nothing in a token says where keys
come from.
Standards: RFC 7517 (key sets), RFC 9068, RFC 8725 §3.8 to §3.12.
Not here: signatures (wire.jwt), asking over HTTP (net.json_client).
Bugs: such a token cannot be revoked here; make them short-lived. That it was used is not noted anywhere.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gatepost.clock import MINUTE, Clock, Instant
from gatepost.domain.access import KeyMode, Principal, PrincipalKind, Scope, widened
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import DEFAULT_TENANT
from gatepost.net.json_client import FetchFailed, get_json
from gatepost.observe import maillog
from gatepost.settings import InvalidSettings, Issuer
from gatepost.store.restrictions import networks_of
from gatepost.tenants.directory import Directory
from gatepost.wire import jwt
from gatepost.wire.jwt import BadToken, Parsed, VerifyingKey

_FRESH_S: Final = 600.0
_RETRY_S: Final = 60.0
_STALE_S: Final = 86_400.0
_RECHECK: Final = 5 * MINUTE
_TIMEOUT_S: Final = 5.0
_LONGEST_SUBJECT: Final = 200


@dataclass(frozen=True, slots=True)
class OutsideToken:
    """
    A token of an outside issuer with a good signature.

    Attributes:
        recheck_at: The signature must be looked at again then: the issuer may have dropped its key.
    """

    who: Principal
    ends_at: Instant
    recheck_at: Instant

    def principal(self, now: Instant) -> Principal:
        """
        Return who acts with it now.

        Raises:
            Refused: authentication_failed: it has ended.
        """
        if now >= self.ends_at:
            raise Refused("authentication_failed", "the token has expired")
        return self.who


class TrustedIssuer:
    """One outside issuer."""

    def __init__(self, name: str, settings: Issuer, directory: Directory, clock: Clock) -> None:
        """
        Raises:
            InvalidSettings: A scope is unknown, or `jwks_file` holds no public keys.
        """
        self.settings = settings
        self._name = name
        self._directory = directory
        self._clock = clock
        self._networks = networks_of(settings.networks)
        self._most = widened(_scopes(f"oauth.issuers.{name}.max_scopes", settings.max_scopes))
        self._words = {word: _scopes(f"oauth.issuers.{name}.scopes.{word}", texts) for word, texts in settings.scopes.items()}
        self._keys: Sequence[VerifyingKey] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        if settings.jwks_file:
            self._keys = _read_file(name, settings.jwks_file)

    async def verify(self, text: str, parsed: Parsed) -> OutsideToken:
        """
        Check a token that names this issuer.

        Raises:
            BadToken: It is not this issuer's, has ended, or gives nothing here.
        """
        jwt.check_type(parsed.header, self.settings.typ)
        claims = jwt.verify(text, parsed.header, await self._keys_for(parsed.header))
        now = self._clock.now()
        ends_at = jwt.check_times(claims, now)
        if claims.get("iss") != self.settings.url:
            raise BadToken("its iss is another one")
        jwt.check_audience(claims, [self.settings.audience])
        return OutsideToken(self._principal(claims), ends_at, min(ends_at, now + _RECHECK))

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        tenant = self._directory.tenant_named(self.settings.tenant)
        if tenant is None:
            raise BadToken("the tenant that its issuer is set up for is not there")
        subject = claims.get("sub", claims.get("client_id"))
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise BadToken("it does not say who acts")
        scopes = self._scopes_of(claims)
        if tenant.name != DEFAULT_TENANT:
            scopes -= {Scope.OPERATOR}  # as for keys and clients (grants.check_operator)
        if not scopes:
            raise BadToken("it has no scope that counts here")
        return Principal(
            id=f"{self._name}:{subject}",
            kind=PrincipalKind.CLIENT,
            tenant_id=tenant.id,
            name=subject,
            mode=KeyMode(self.settings.mode),
            scopes=scopes,
            domains=frozenset(self.settings.domains),
            networks=self._networks,
        )

    def _scopes_of(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        value = claims.get(self.settings.scope_claim)
        words = value.split() if isinstance(value, str) else value
        found: set[Scope] = set()
        for word in words if isinstance(words, list) else ():
            if not isinstance(word, str):
                continue
            if self._words:
                found |= self._words.get(word, frozenset())
            elif word in _KNOWN:
                found.add(Scope(word))
        return widened(frozenset(found)) & self._most

    async def _keys_for(self, header: Mapping[str, Any]) -> Sequence[VerifyingKey]:
        if self.settings.jwks_file:
            return self._keys
        now_s = self._clock.monotonic()
        age_s = now_s - self._fetched_at
        if age_s > _STALE_S or not jwt.knows(header, self._keys):
            await self._renew()
        elif age_s > _FRESH_S and now_s - self._tried_at > _RETRY_S and self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())  # the old ones serve meanwhile
            self._renewal.add_done_callback(self._renewed)
        return self._keys if self._clock.monotonic() - self._fetched_at <= _STALE_S else ()

    def _renewed(self, _task: "asyncio.Task[None]") -> None:
        self._renewal = None

    async def _renew(self) -> None:
        """Fetch the keys, unless that was tried a moment ago."""
        async with self._lock:
            if self._clock.monotonic() - self._tried_at <= _RETRY_S:
                return
            self._tried_at = self._clock.monotonic()
            try:
                self._keys = jwt.read_keys(await get_json(self.settings.jwks_url, timeout_s=_TIMEOUT_S))
            except (FetchFailed, ValueError) as error:
                maillog.trouble("the keys of an issuer cannot be fetched", issuer=self._name, error=str(error)[:200])
                return
            self._fetched_at = self._clock.monotonic()


_KNOWN = frozenset(scope.value for scope in Scope)


def _scopes(option: str, texts: Sequence[str]) -> frozenset[Scope]:
    if unknown := set(texts) - _KNOWN:
        raise InvalidSettings(f"{option}: there is no scope {', '.join(sorted(unknown))}")
    return frozenset(Scope(text) for text in texts)


def _read_file(name: str, path: str) -> Sequence[VerifyingKey]:
    try:
        return jwt.read_keys(msgspec.json.decode(Path(path).read_bytes()))
    except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise InvalidSettings(f"oauth.issuers.{name}.jwks_file: {error}") from error
