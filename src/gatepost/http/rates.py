"""
What is left of a caller's limits, in headers.

Arrives: limits with what is left of them. Leaves: `RateLimit-Policy` (each limit: amount and window) and `RateLimit` (each
limit: what is left, and the seconds until all of it is there again).
Standards: draft-ietf-httpapi-ratelimit-headers-10, RFC 9651 (lists of strings with integer parameters).
Not here: counting (tenants.limits), Retry-After (problems).
Bugs: caps per recipient are not told: what others sent to somebody is nobody's business.
"""

from collections.abc import Sequence

from gatepost.clock import Instant
from gatepost.domain.access import Resource
from gatepost.tenants.limits import Shown


def headers_of(limits: Sequence[Shown], now: Instant) -> list[tuple[bytes, bytes]]:
    """Write the headers; none where there is no limit."""
    if not limits:
        return []
    policies = ", ".join(f'"{_name(one)}";q={one.limit.amount};w={one.window_s}{_unit(one)}' for one in limits)
    left = ", ".join(f'"{_name(one)}";r={one.remaining};t={max(0, -(-(one.resets_at - now) // 1000))}' for one in limits)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", left.encode())]


def _name(one: Shown) -> str:
    return f"{one.kind}-{one.limit.resource}-{one.limit.per}"


def _unit(one: Shown) -> str:
    return ';qu="content-bytes"' if one.limit.resource is Resource.BYTES else ""
