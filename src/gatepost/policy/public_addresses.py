"""
Which addresses belong to the public Internet, and may be called because a stranger asks for it.

Arrives: an IP address. Leaves: yes or no. Addresses that carry another one inside (NAT64, 6to4, Teredo, ISATAP, IPv4-mapped)
are never public here: what they lead to is somebody else's decision.
Standards: IANA's special-purpose address registries (RFC 6890, RFC 8190), RFC 6052, RFC 3056, RFC 4380, RFC 5214.
Not here: names, which lead to addresses (net.http_client).
Bugs: none known.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from gatepost.domain.access import Network

_FOUR: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
            "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
_GLOBAL_SIX: Final = ipaddress.IPv6Network("2000::/3")
_SIX: Final = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)  # fmt: skip
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""The upper half of an interface identifier that holds an IPv4 address."""


@lru_cache(maxsize=1024)
def is_public(address: str) -> bool:
    """Tell whether an address is a host of the public Internet; what is no address is not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not any(found in network for network in _FOUR)
    if found.scope_id is not None or found not in _GLOBAL_SIX or any(found in network for network in _SIX):
        return False
    return found.is_global and (int(found) >> 32) & 0xFFFF_FFFF not in _ISATAP


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address is in one of some networks; an IPv4 address inside an IPv6 one is not taken out."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)
