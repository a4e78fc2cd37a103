"""
Who may try a password: failures per peer, bounded in memory.

Arrives: peers' addresses, as they fail to authenticate. Leaves: yes or no.
Standards: OWASP ASVS V6.3.1 (brute force).
Not here: who may connect (net.peer), per-tenant limits (accept).
Bugs: counters are per process and are forgotten at a restart.
"""

from collections import OrderedDict
from typing import Final

from gatepost.net.peer import ConnectionCaps, Peer, parse_peer

__all__ = ["AuthThrottle", "ConnectionCaps", "Peer", "parse_peer"]

_MAX_PEERS: Final = 10_000


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
