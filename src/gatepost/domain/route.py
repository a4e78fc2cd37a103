"""
Routes: the ways out of the house. `sandbox`, `mx`, or a relay's name.

A site is what shares a budget at the other end: the recipient's domain for `mx`, `relay:NAME` for a relay, `sandbox`.
"""

import zlib

SANDBOX = "sandbox"
MX = "mx"
SHARDS = 64
"""Number of shards of the queue; fixed in the schema's first release, a power of two."""

DEFAULT_POOL = "default"


def site_of(route: str, domain: str) -> str:
    """Name the site that a recipient's domain belongs to on a route."""
    if route == MX:
        return domain
    if route == SANDBOX:
        return SANDBOX
    return f"relay:{route}"


def shard_of(pool: str, site: str) -> int:
    """Map a site to its shard. The same on every machine and in every release: rows in the queue rely on it."""
    return zlib.crc32(f"{pool}\0{site}".encode()) % SHARDS
