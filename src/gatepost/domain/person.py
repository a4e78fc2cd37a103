"""
People, what they are in which tenant, and the sessions in which they look at the pages.

Secrets are here as they are stored: a password as its hash, recovery codes as hashes. None shows in a `repr`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gatepost.clock import Instant
from gatepost.domain.access import ROLE_SCOPES, Principal, PrincipalKind, Role, Scope, widened


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """
    Somebody who can sign in.

    Attributes:
        email: As they wrote it; the address is looked up by its hash.
        is_operator: Stands above tenants: their limits, their balances, the queue; not their mail.
        totp_secret: Base32 (RFC 4648 §6); empty without a second factor.
        totp_used_at: Number of the time step whose code was taken last: an older one is not taken again.
        recovery_hashes: Of the codes that are left.
    """

    id: str
    email: str
    name: str
    is_operator: bool = False
    password_hash: str | None = field(default=None, repr=False)
    totp_secret: str = field(default="", repr=False)
    totp_used_at: int | None = None
    recovery_hashes: tuple[str, ...] = field(default=(), repr=False)
    created_at: Instant
    disabled_at: Instant | None = None

    @property
    def has_totp(self) -> bool:
        """True when a code of an authenticator is asked for after the password."""
        return bool(self.totp_secret)

    @property
    def masked_email(self) -> str:
        """The address as it may stand in the audit log, which is not sealed."""
        local, _, domain = self.email.rpartition("@")
        return f"{local[:1]}***@{domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a person is in a tenant."""

    person_id: str
    tenant_id: str
    role: Role
    created_at: Instant


def scopes_of(role: Role | None, *, is_operator: bool) -> frozenset[Scope]:
    """Return what a person may do in a tenant in which they have a role, or none."""
    own = widened(ROLE_SCOPES[role]) if role is not None else frozenset()
    return own | {Scope.OPERATOR} if is_operator else own


def acts_as(person: Person, tenant_id: str, role: Role | None) -> Principal:
    """Return the principal that a person is in a tenant."""
    return Principal(
        id=person.id,
        kind=PrincipalKind.PERSON,
        tenant_id=tenant_id,
        name=person.masked_email,
        scopes=scopes_of(role, is_operator=person.is_operator),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """
    A key pair of a person's device (WebAuthn); the private half never leaves it.

    Attributes:
        id: Credential id, base64url.
        public_key: COSE (RFC 9052 §7).
        sign_count: Of the last signature; a smaller one later means that somebody copied the key.
    """

    id: str
    person_id: str
    name: str
    public_key: bytes = field(repr=False)
    sign_count: int
    created_at: Instant
    used_at: Instant | None = None


class SessionState(StrEnum):
    """What its owner has shown."""

    PASSWORD = "password"  # noqa: S105 - the second factor is still missing: it opens nothing but the form that asks for it
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    One browser in which somebody signed in.

    Attributes:
        tenant_id: The tenant that is looked at; None when they belong to none.
        proved_at: When a password or the like was last shown: changes that matter ask for a recent one.
    """

    id: str
    person_id: str
    tenant_id: str | None
    state: SessionState
    peer: str
    agent: str
    created_at: Instant
    proved_at: Instant
    seen_at: Instant
    expires_at: Instant


class Purpose(StrEnum):
    """What a one-time link is for."""

    SETUP = "setup"
    INVITATION = "invitation"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeLink:
    """
    A link that is used once; only a hash of its secret is stored.

    Attributes:
        email: For whom; empty when whoever has it may choose.
        person_id: Whose password it resets.
    """

    id: str
    purpose: Purpose
    email: str = ""
    is_operator: bool = False
    person_id: str | None = None
    tenant_id: str | None = None
    role: Role | None = None
    created_at: Instant
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """
    Everything about somebody who looks at a page, read at once.

    Attributes:
        roles: Their role by tenant.
        tenant_names: Names of these tenants.
    """

    person: Person
    session: Session
    roles: Mapping[str, Role]
    tenant_names: Mapping[str, str]

    @property
    def principal(self) -> Principal:
        """Who acts; in no tenant at all, nobody's mail is theirs."""
        tenant_id = self.session.tenant_id or ""
        return acts_as(self.person, tenant_id, self.roles.get(tenant_id))
