"""
Who asks, at every door alike: a secret or an access token becomes a principal, or is refused.

Arrives: what a client showed (HTTP Bearer, the AUTH password, OAUTHBEARER) or that it showed nothing and comes from a
trusted network; and the address that it comes from.
Leaves: the `Principal`; or a `Refused`: authentication_failed (unknown, revoked, expired), tenant_suspended,
permission_denied (an address outside of the key's networks).
First something is proven (`prove`), which is worth keeping for a connection's length; then the proof is checked (`check`)
at each request, against the snapshot of the directory: what was revoked, suspended or has ended since is refused.
Unknown and wrong secrets take the same path: form, SHA-256, one look into a hash table.
Standards: RFC 6750 (Bearer), RFC 9700 §2.2.
Not here: reading headers and SASL (the doors), how tokens are verified (token_verifier), scopes (the doors, accept).
"""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gatepost.clock import Clock, Instant
from gatepost.domain.access import Network, Principal
from gatepost.domain.errors import Refused
from gatepost.store import last_use
from gatepost.store.engine import Engine
from gatepost.store.last_use import LastUse
from gatepost.tenants.directory import Directory
from gatepost.tenants.keys import hash_secret, looks_like_key

_LONGEST_TOKEN = 8192
_COUNTED = ("key_", "oac_")


@dataclass(frozen=True, slots=True)
class KeyProof:
    """A key's secret was shown: its hash."""

    digest: bytes


class TokenProof(Protocol):
    """An access token was shown, and its signature is good."""

    def principal(self, now: Instant) -> Principal:
        """
        Return who acts with it now.

        Raises:
            Refused: authentication_failed: it has ended, it or its client was revoked.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrustProof:
    """A client comes from a network that a key trusts."""

    principal_id: str


Proof = KeyProof | TokenProof | TrustProof


class TokenVerifier(Protocol):
    """Knows good tokens."""

    async def verify(self, text: str) -> TokenProof:
        """
        Check a token's form, signature and claims.

        Raises:
            Refused: authentication_failed.
        """
        ...


@dataclass(eq=False)
class RefusedPrincipal(Refused):
    """Somebody who is known is refused; the doors' logs say who."""

    principal_id: str = ""


class Authenticator:
    """The only place where somebody becomes a principal; one for all doors of a process."""

    def __init__(
        self, directory: Directory, clock: Clock, tokens: TokenVerifier | None = None, bound: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """
        Args:
            tokens: Verifies access tokens; without it there are only keys.
            bound: Principals that may act only with one of these client certificates, by their SHA-256 fingerprints.
        """
        self._bound = bound or {}
        self._directory = directory
        self._clock = clock
        self._tokens = tokens
        self._uses: dict[str, tuple[Instant, str]] = {}

    async def authenticate(self, secret: str, peer: str, certificate: str | None = None) -> Principal:
        """
        Return who acts with a key or an access token.

        Args:
            peer: The address that the client comes from.
            certificate: Fingerprint of the certificate that the client showed.

        Raises:
            Refused: authentication_failed, tenant_suspended or permission_denied.
        """
        return self.check(await self.prove(secret), peer, certificate)

    async def prove(self, secret: str) -> Proof:
        """
        Find out what was shown; whether it may act now is for `check` to say.

        Raises:
            Refused: authentication_failed.
        """
        if looks_like_key(secret):
            digest = hash_secret(secret)
            if await self._directory.find(digest) is not None:
                return KeyProof(digest)
        elif self._tokens is not None and secret.count(".") == 2 and len(secret) <= _LONGEST_TOKEN:
            return await self._tokens.verify(secret)
        raise _unknown()

    def trusted(self, peer: str) -> TrustProof | None:
        """Return the proof that an SMTP client has by coming from a trusted network; keys that have ended trust nobody."""
        address = _address(peer)
        if address is None:
            return None
        now = self._clock.now()
        for network, held in self._directory.trusting():
            if now < held.until and address in network:
                return TrustProof(held.principal.id)
        return None

    def check(self, proof: Proof, peer: str, certificate: str | None = None) -> Principal:
        """
        Return who acts with a proof now.

        Raises:
            Refused: authentication_failed when it was revoked or has ended since, tenant_suspended or permission_denied.
        """
        now = self._clock.now()
        principal = self._resolve(proof, peer, now)
        if self._directory.is_suspended(principal.tenant_id):
            raise _refused("tenant_suspended", "nothing is taken from this tenant until it is resumed", principal)
        if principal.networks and not is_inside(peer, principal.networks):
            raise _refused("permission_denied", "this key may not be used from this address", principal)
        if (wanted := self._bound.get(principal.id)) is not None and certificate not in wanted:
            raise _refused("permission_denied", "this key needs its client certificate, over HTTPS", principal)
        self._uses[principal.id] = (now, peer)
        return principal

    async def write_uses(self, engine: Engine) -> None:
        """
        Write down which keys and clients were used since the last time.

        Raises:
            StorageUnavailable: They are written the next time.
        """
        taken, self._uses = self._uses, {}
        uses = {who: LastUse(*use) for who, use in taken.items() if who.startswith(_COUNTED)}
        try:
            if uses:
                await engine.write(lambda conn: last_use.note(conn, uses))
        except BaseException:
            self._uses = {**{who: taken[who] for who in uses}, **self._uses}
            raise

    def _resolve(self, proof: Proof, peer: str, now: Instant) -> Principal:
        if isinstance(proof, KeyProof):
            held = self._directory.held(proof.digest)
            if held is None:
                raise _unknown()
            if now >= held.until:
                raise _refused("authentication_failed", "the key has expired", held.principal)
            return held.principal
        if isinstance(proof, TrustProof):
            return self._resolve_trust(proof, peer, now)
        return proof.principal(now)

    def _resolve_trust(self, proof: TrustProof, peer: str, now: Instant) -> Principal:
        address = _address(peer)
        for network, held in self._directory.trusting():
            if held.principal.id == proof.principal_id and now < held.until and address is not None and address in network:
                return held.principal
        raise Refused("authentication_required", "this network is no longer trusted")


def _unknown() -> Refused:
    return Refused("authentication_failed", "the key or token is unknown, incomplete, revoked or has expired")


def _refused(code: str, detail: str, principal: Principal) -> Refused:
    return RefusedPrincipal(code, detail, principal_id=principal.id)


@lru_cache(maxsize=4096)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a peer's address; an IPv4 address mapped into IPv6 is the IPv4 address."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_inside(peer: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an address is in one of some networks."""
    address = _address(peer)
    return address is not None and any(address in network for network in networks)
