"""Who uses the gateway: tenants, their API keys, domains and DKIM keys, as the doors and the dispatch loop see them."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from gatepost.clock import Instant

DEFAULT_TENANT = "default"
"""Name of the tenant that exists from the first start."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class KeyMode(StrEnum):
    """`test` keys never leave the sandbox."""

    LIVE = "live"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret: only a hash of that is stored."""

    id: str
    tenant_id: str
    name: str
    mode: KeyMode
    hint: str
    created_at: Instant
    trust_networks: tuple[Network, ...] = ()
    revoked_at: Instant | None = None


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
    """Who asks: the key behind a request, resolved, with where it came from."""

    key: ApiKey
    peer: str
    request_id: str

    @property
    def tenant_id(self) -> str:
        """The tenant that the key belongs to."""
        return self.key.tenant_id

    @property
    def is_test(self) -> bool:
        """True for keys whose mail always goes to the sandbox."""
        return self.key.mode is KeyMode.TEST
