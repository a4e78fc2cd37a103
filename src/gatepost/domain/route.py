"""
Roads and routes: the ways out of the house, and their order.

A road is one way out: `sandbox`, `mx` (straight to recipients' servers, from the default pool of source addresses),
`mx:POOL`, or a relay's name. A route is one or more roads in order of preference, written `main,mx`; a message keeps the
route that was chosen for it when it was accepted, and a recipient's queue row says by pool and site which road is next.
A site is what shares a budget at the other end: the mail system that takes the recipient's domain on a road to MX hosts,
`relay:NAME` for a relay, `sandbox`. While nobody knows yet which system takes a domain, its site is `?DOMAIN`.
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

SANDBOX = "sandbox"
MX = "mx"
SHARDS = 64
"""Number of shards of the queue; fixed in the schema's first release, a power of two."""

DEFAULT_POOL = "default"
UNRESOLVED = "?"
"""Before a domain: the site of recipients whose mail system is not known yet."""
_RELAY = "relay:"


class RoadKind(StrEnum):
    """What a road leads to."""

    SANDBOX = "sandbox"
    MX = "mx"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Road:
    """
    One way out.

    Attributes:
        name: The pool of a road to MX hosts, the relay's name; empty for the sandbox.
    """

    kind: RoadKind
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case RoadKind.SANDBOX:
                return SANDBOX
            case RoadKind.RELAY:
                return self.name
            case RoadKind.MX:
                return MX if self.name == DEFAULT_POOL else f"{MX}:{self.name}"

    @property
    def courier(self) -> str:
        """Name of the courier that goes this way: `sandbox`, `mx`, or the relay's name."""
        return self.name if self.kind is RoadKind.RELAY else self.kind.value

    @property
    def pool(self) -> str:
        """Pool that its queue rows name."""
        return self.name if self.kind is RoadKind.MX else DEFAULT_POOL

    def site_of(self, domain: str, system: str | None = None) -> str:
        """
        Name the site of a recipient's domain on this road.

        Args:
            system: The mail system that takes the domain; None when it has still to be found out.
        """
        match self.kind:
            case RoadKind.SANDBOX:
                return SANDBOX
            case RoadKind.RELAY:
                return _RELAY + self.name
            case RoadKind.MX:
                return system or UNRESOLVED + domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Where connections to MX hosts come from.

    Attributes:
        address: Local address to connect from; empty lets the system choose.
        hostname: EHLO name; empty is `egress.hostname`.
        proxy: `socks5://[user:password@]host:port` whose address it is; empty connects from this machine.
    """

    name: str
    address: str = ""
    hostname: str = ""
    proxy: str = ""


DEFAULT_SOURCE = Source(name="default")


@lru_cache(maxsize=10_000)
def roads_of(route: str) -> tuple[Road, ...]:
    """Read a route: roads divided by commas."""
    return tuple(_road(text) for part in route.split(",") if (text := part.strip()))


def _road(text: str) -> Road:
    if text == SANDBOX:
        return Road(RoadKind.SANDBOX)
    if text == MX:
        return Road(RoadKind.MX, DEFAULT_POOL)
    if text.startswith(f"{MX}:"):
        return Road(RoadKind.MX, text.removeprefix(f"{MX}:"))
    return Road(RoadKind.RELAY, text)


@lru_cache(maxsize=10_000)
def road_at(pool: str, site: str) -> Road:
    """Tell which road a queue row's pool and site stand for."""
    if site == SANDBOX:
        return Road(RoadKind.SANDBOX)
    if site.startswith(_RELAY):
        return Road(RoadKind.RELAY, site.removeprefix(_RELAY))
    return Road(RoadKind.MX, pool)


@lru_cache(maxsize=10_000)
def shard_of(pool: str, site: str) -> int:
    """Map a site to its shard. The same on every machine and in every release: rows in the queue rely on it."""
    return zlib.crc32(f"{pool}\0{site}".encode()) % SHARDS
