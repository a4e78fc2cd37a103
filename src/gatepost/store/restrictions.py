"""
What narrows a key or an OAuth client, as columns; both tables have the same ones.

Not here: what the restrictions mean (domain.access).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row

from gatepost.domain.access import Limit, Network, Restrictions, Scope

_SCOPES = {scope.value: scope for scope in Scope}


def columns_of(one: Restrictions) -> dict[str, Any]:
    """Write restrictions as columns."""
    return {
        "scopes": texts(one.scopes),
        "domains": texts(one.domains),
        "streams": texts(one.streams),
        "networks": texts(one.networks),
        "limits": [msgspec.to_builtins(limit) for limit in one.limits],
        "expires_at": one.expires_at,
    }


def fields_of(row: Row[Any]) -> Mapping[str, Any]:
    """Read restrictions from a row. A scope that this release does not know gives nothing."""
    return {
        "scopes": frozenset(_SCOPES[text] for text in row.scopes if text in _SCOPES),
        "domains": frozenset(row.domains),
        "streams": frozenset(row.streams),
        "networks": networks_of(row.networks),
        "limits": tuple(msgspec.convert(limit, Limit) for limit in row.limits),
        "expires_at": row.expires_at,
    }


def texts(values: Iterable[Any]) -> list[str]:
    """Write values as sorted texts."""
    return sorted(str(value) for value in values)


def networks_of(values: Iterable[str]) -> tuple[Network, ...]:
    """Read networks."""
    return tuple(ipaddress.ip_network(text) for text in values)
