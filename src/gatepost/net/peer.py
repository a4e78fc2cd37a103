"""
Who is at the other end of a connection, and how many connections each may have.

Arrives: addresses as sockets and proxies name them. Leaves: `Peer` values; yes or no from `ConnectionCaps`.
Why groups: an IPv6 site has a /64 of addresses, so a cap on single addresses would be no cap.
Not here: what a door does with those it turns away (http, smtpd).
Bugs: counters are per process.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    Read a peer's address; an IPv4 address mapped into IPv6 is the IPv4 address.

    Raises:
        ValueError: Not an IP address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    group = int(address) if address.version == 4 else -(int(address) >> 64) - 1
    return Peer(address=address, name=str(address), group=group, is_loopback=address.is_loopback)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """
    Read addresses and networks in CIDR notation.

    Raises:
        ValueError: One is neither.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_in(peer: Peer, among: Iterable[Network]) -> bool:
    """Tell whether a peer is in one of some networks."""
    return any(peer.address in network for network in among)


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

    @property
    def is_full(self) -> bool:
        """True when nobody can be let in, whoever it is."""
        return self._total >= self._max_total

    def enter(self, peer: Peer, *, is_exempt: bool = False) -> bool:
        """
        Count a connection in; False when there are too many, and then it is not counted.

        Args:
            is_exempt: The cap per peer does not hold for it: it stands for many.
        """
        group = peer.group
        count = self._by_peer.get(group, 0)
        if self._total >= self._max_total or (count >= self._max_per_peer and not (peer.is_loopback or is_exempt)):
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
