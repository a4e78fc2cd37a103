"""
Who may connect and who may try a password: counters per peer, bounded in memory.

Arrives: peers' addresses, as they connect, leave and fail to authenticate.
Leaves: yes or no.
Standards: OWASP ASVS V6.3.1 (brute force).
Not here: per-tenant limits (accept).
Bugs: counters are per process and are forgotten at a restart.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_PEERS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    A client's address with what is asked of it for every connection; computed once, for `ipaddress` is slow.

    Attributes:
        name: The address as text.
        group: What counts as one peer: an IPv4 address, or the /64 that one IPv6 site has.
    """

    address: IpAddress
    name: str
    group: int
    is_loopback: bool


@lru_cache(maxsize=1_024)
def parse_peer(host: str) -> Peer:
    """
    Read a socket's peer address; an IPv4 address mapped into IPv6 is the IPv4 address.

    Raises:
        ValueError: Not an IP address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    group = int(address) if address.version == 4 else -(int(address) >> 64) - 1
    return Peer(address=address, name=str(address), group=group, is_loopback=address.is_loopback)


class ConnectionCaps:
    """
    Count open connections, in all and per peer.

    Args:
        max_per_peer: Holds outside loopback only.
    """

    def __init__(self, max_total: int, max_per_peer: int) -> None:
        self._max_total = max_total
        self._max_per_peer = max_per_peer
        self._total = 0
        self._by_peer: dict[int, int] = {}

    def enter(self, peer: Peer) -> bool:
        """Count a connection in; False when there are too many, and then it is not counted."""
        group = peer.group
        count = self._by_peer.get(group, 0)
        if self._total >= self._max_total or (count >= self._max_per_peer and not peer.is_loopback):
            return False
        self._total += 1
        self._by_peer[group] = count + 1
        return True

    def leave(self, peer: Peer) -> None:
        """Count a connection out that `enter` let in."""
        group = peer.group
        self._total -= 1
        self._by_peer[group] -= 1
        if not self._by_peer[group]:
            del self._by_peer[group]


class AuthThrottle:
    """
    Lock a peer out after too many failed authentications.

    Args:
        max_failures: Failures within a lockout's time that lock.
        lockout_s: How long, counted from the last failure.
    """

    def __init__(self, max_failures: int = 20, lockout_s: float = 60.0) -> None:
        self._max_failures = max_failures
        self._lockout_s = lockout_s
        self._failures: OrderedDict[int, tuple[int, float]] = OrderedDict()

    def is_locked(self, peer: Peer, now_s: float) -> bool:
        """Tell whether this peer must wait, whatever key it brings."""
        count, last_s = self._failures.get(peer.group, (0, 0.0))
        return count >= self._max_failures and now_s < last_s + self._lockout_s

    def failed(self, peer: Peer, now_s: float) -> None:
        """Count a failure; one that is older than the lockout no longer counts. The longest quiet peer is forgotten first."""
        group = peer.group
        count, last_s = self._failures.pop(group, (0, now_s))
        self._failures[group] = (count + 1 if now_s < last_s + self._lockout_s else 1, now_s)
        if len(self._failures) > _MAX_PEERS:
            self._failures.popitem(last=False)
