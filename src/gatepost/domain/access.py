"""
Who may do what: scopes, roles, and the principal that a request acts for.

A principal is an API key, an OAuth client, a person or the machine's own operator. What it may do is a set of scopes; a
person's come from their role in the tenant. Nothing here asks a database: doors and accept compare values.
Standards: RFC 6749 §3.3 (the syntax of scopes).
"""

import ipaddress
import re
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from gatepost.clock import Instant

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class KeyMode(StrEnum):
    """What a `test` principal sends never leaves the sandbox."""

    LIVE = "live"
    TEST = "test"


class Scope(StrEnum):
    """One thing that a principal may do."""

    MESSAGES_SEND = "messages:send"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"  # cancel, retry, reschedule
    DOMAINS_READ = "domains:read"
    DOMAINS_WRITE = "domains:write"
    SUPPRESSIONS_READ = "suppressions:read"
    SUPPRESSIONS_WRITE = "suppressions:write"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"  # how strictly content and recipients are looked at
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"  # API keys and OAuth clients
    PEOPLE_READ = "people:read"
    PEOPLE_WRITE = "people:write"
    STATS_READ = "stats:read"
    AUDIT_READ = "audit:read"
    ADMIN = "admin"  # everything inside the tenant
    OPERATOR = "operator"  # tenants, their limits and balances; nothing inside other tenants' mail


SCOPES = {
    Scope.MESSAGES_SEND: "send mail",
    Scope.MESSAGES_READ: "look at messages and where they are",
    Scope.MESSAGES_WRITE: "cancel, retry and reschedule messages",
    Scope.DOMAINS_READ: "look at senders' domains",
    Scope.DOMAINS_WRITE: "add, verify and remove senders' domains",
    Scope.SUPPRESSIONS_READ: "look at the suppression list",
    Scope.SUPPRESSIONS_WRITE: "change the suppression list",
    Scope.WEBHOOKS_READ: "look at webhooks",
    Scope.WEBHOOKS_WRITE: "change webhooks",
    Scope.KEYS_READ: "look at API keys and OAuth clients",
    Scope.KEYS_WRITE: "make, change and revoke API keys and OAuth clients",
    Scope.PEOPLE_READ: "look at the tenant's people",
    Scope.PEOPLE_WRITE: "invite and remove people, change their roles",
    Scope.POLICIES_READ: "look at how strictly input is looked at",
    Scope.POLICIES_WRITE: "change how strictly input is looked at",
    Scope.STATS_READ: "look at statistics and usage",
    Scope.AUDIT_READ: "read the audit log",
    Scope.ADMIN: "everything inside the tenant",
    Scope.OPERATOR: "tenants, their limits and balances",
}
"""What each scope allows, in words; `x:write` allows `x:read`, too."""

_TENANT_SCOPES = frozenset(Scope) - {Scope.OPERATOR}


@lru_cache(maxsize=512)
def widened(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Add what scopes imply: `admin` is every scope of a tenant, `x:write` reads too."""
    found = set(scopes)
    if Scope.ADMIN in found:
        found |= _TENANT_SCOPES
    for scope in scopes:
        noun, _, verb = scope.value.partition(":")
        if verb == "write":
            found.add(Scope(f"{noun}:read"))
    return frozenset(found)


class Role(StrEnum):
    """What a person is in a tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"


_VIEWER = frozenset({Scope.MESSAGES_READ, Scope.DOMAINS_READ, Scope.SUPPRESSIONS_READ, Scope.POLICIES_READ, Scope.STATS_READ})
_DEVELOPER = _VIEWER | {
    Scope.MESSAGES_SEND,
    Scope.MESSAGES_WRITE,
    Scope.SUPPRESSIONS_WRITE,
    Scope.WEBHOOKS_READ,
    Scope.WEBHOOKS_WRITE,
    Scope.KEYS_READ,
}
_ADMIN = _TENANT_SCOPES - {Scope.ADMIN}

ROLE_SCOPES = {
    Role.OWNER: _TENANT_SCOPES,
    Role.ADMIN: _ADMIN,
    Role.DEVELOPER: _DEVELOPER,
    Role.VIEWER: _VIEWER,
}
"""An admin does all that an owner does, but does not make or unmake owners, and makes no `admin` keys."""


class PrincipalKind(StrEnum):
    """What acts."""

    KEY = "key"
    CLIENT = "client"
    PERSON = "person"
    LOCAL = "local"  # the command line, or a visitor on this very machine


class Resource(StrEnum):
    """What limits count."""

    REQUESTS = "requests"
    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"


class Per(StrEnum):
    """The window of a limit. Up to the hour it slides; a day and a month are the calendar's, in UTC."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `amount` of a resource in a window; written `messages=1000/day`."""

    resource: Resource
    amount: int
    per: Per

    def __str__(self) -> str:
        return f"{self.resource}={self.amount}/{self.per}"


_LIMIT_FORM = re.compile(r"([a-z]+)=([0-9]{1,15})/([a-z]+)")


def parse_limit(text: str) -> Limit:
    """
    Read a limit as people write it: `messages=1000/day`.

    Raises:
        ValueError: It is none; the text says what one looks like.
    """
    found = _LIMIT_FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a limit such as messages=1000/day")
    resource, amount, per = found.groups()
    if resource not in set(Resource):
        raise ValueError(f"{text!r}: what can be limited is {', '.join(Resource)}")
    if per not in set(Per):
        raise ValueError(f"{text!r}: a limit is per {', '.join(Per)}")
    return Limit(resource=Resource(resource), amount=int(amount), per=Per(per))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """
    What narrows whoever acts; the default narrows nothing inside the tenant.

    Attributes:
        domains: Sender's domains it may use (lower-case A-labels); empty is every domain of the tenant.
        streams: Streams it may use; empty is every stream.
        networks: Where it may come from; empty is everywhere.
        limits: Its own limits, besides its tenant's.
        expires_at: When it ends; None is never.
    """

    scopes: frozenset[Scope] = frozenset({Scope.ADMIN})
    domains: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    limits: tuple[Limit, ...] = ()
    expires_at: Instant | None = None

    def fields(self) -> dict[str, Any]:
        """Return these by name, and nothing that a subclass adds: to give them to something else."""
        return {name: getattr(self, name) for name in _RESTRICTIONS}


_RESTRICTIONS = tuple(field.name for field in fields(Restrictions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal(Restrictions):
    """
    Who acts, resolved.

    Attributes:
        id: `key_…`, `oac_…` (OAuth client), `per_…` (person) or `local`.
        scopes: Already widened.
    """

    id: str
    kind: PrincipalKind
    tenant_id: str
    name: str
    mode: KeyMode = KeyMode.LIVE
    scopes: frozenset[Scope] = _TENANT_SCOPES

    def may(self, scope: Scope) -> bool:
        """Tell whether it has a scope."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who made a change, for the audit log."""

    kind: PrincipalKind
    id: str
    name: str
    peer: str = ""
    request_id: str = ""


GATEWAY = Actor(kind=PrincipalKind.LOCAL, id="local", name="gatepost")
"""The gateway itself: what it sets up at a start."""
