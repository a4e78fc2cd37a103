"""Who uses the gateway: tenants, their API keys, domains and DKIM keys, as the doors and the dispatch loop see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from gatepost.clock import Instant
from gatepost.domain.access import Actor, KeyMode, Network, Principal, PrincipalKind, Restrictions, widened

__all__ = [
    "DEFAULT_TENANT", "ApiKey", "Caller", "Credential", "DkimKey", "Domain", "DomainStatus", "KeyMode", "Network", "OAuthClient", "Tenant",
]  # fmt: skip

DEFAULT_TENANT = "default"
"""Name of the tenant that exists from the first start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """
    One customer or team of the gateway; sees only its own.

    Attributes:
        suspended_at: From then on nothing is taken from it, and its queue is held.
    """

    id: str
    name: str
    created_at: Instant
    suspended_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential(Restrictions):
    """
    What a program acts with: an API key or an OAuth client, without its secret, of which only a hash is stored.

    Attributes:
        hint: The end of its secret; empty when it has none.
        previous_until: Until then the secret from before the last rotation is taken, too.
    """

    kind: ClassVar[PrincipalKind]

    id: str
    tenant_id: str
    name: str
    mode: KeyMode
    hint: str
    created_at: Instant
    revoked_at: Instant | None = None
    previous_until: Instant | None = None

    def is_over(self, now: Instant) -> bool:
        """Tell whether it was revoked or has ended."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now)

    def principal(self) -> Principal:
        """Return who acts with it; a client's token may have fewer scopes."""
        fields = {**self.fields(), "scopes": widened(self.scopes)}
        return Principal(id=self.id, kind=self.kind, tenant_id=self.tenant_id, name=self.name, mode=self.mode, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(Credential):
    """
    A key: its secret itself is shown at the doors.

    Attributes:
        trust_networks: SMTP clients from there act with this key without showing it.
    """

    kind = PrincipalKind.KEY

    trust_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient(Credential):
    """
    A program that gets access tokens for itself (RFC 6749 §4.4).

    Attributes:
        jwks: Public keys of a client that proves itself by signed assertions (RFC 7523); None for one with a secret only.
    """

    kind = PrincipalKind.CLIENT

    jwks: Mapping[str, Any] | None = None


class DomainStatus(StrEnum):
    """May a tenant send from this domain?"""

    PENDING = "pending"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """
    A sender's domain.

    Attributes:
        name: Lower-case A-labels.
        is_trusted: The operator vouched for it; DNS is not asked.
    """

    id: str
    tenant_id: str
    name: str
    status: DomainStatus
    is_trusted: bool
    created_at: Instant
    verified_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimKey:
    """
    One signing key of a domain.

    Attributes:
        algorithm: `rsa-sha256` or `ed25519-sha256` (RFC 8463).
        private_pem: PKCS#8, unencrypted.
        public: Base64 of the public key as it stands in DNS (`p=`).
        status: `pending` keys wait for their DNS record; `active` ones sign; `retired` ones stay published until mail
            signed with them has arrived.
    """

    id: str
    domain_id: str
    selector: str
    algorithm: str
    private_pem: str
    public: str
    status: str
    created_at: Instant

    def __repr__(self) -> str:
        return f"DkimKey({self.id}, {self.selector}, {self.algorithm}, {self.status})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the principal behind a request, with where it came from."""

    principal: Principal
    peer: str
    request_id: str

    @property
    def tenant_id(self) -> str:
        """The tenant that it belongs to."""
        return self.principal.tenant_id

    @property
    def is_test(self) -> bool:
        """True when its mail always goes to the sandbox."""
        return self.principal.mode is KeyMode.TEST

    @property
    def actor(self) -> Actor:
        """The caller as the audit log names it."""
        who = self.principal
        return Actor(kind=who.kind, id=who.id, name=who.name, peer=self.peer, request_id=self.request_id)
