"""
Who a request really comes from, when a reverse proxy of ours stands between.

Arrives: an ASGI scope with the connection's own address.
Leaves: the same scope with the client's address and scheme in it, where a trusted proxy says so; everything behind reads
`client` and `scheme` of the scope, and nothing else.
Standards: RFC 9110 §7.6.3 warns of such fields; X-Forwarded-For and -Proto have no standard, RFC 7239 §4 the same order.
Why from the right: a proxy appends whom it saw; what stands further left was said by that one, and may be a lie.
Not here: who counts as this very machine (auth): any forwarding header means that it is not.
Bugs: `Forwarded` (RFC 7239) is not read.
"""

from collections.abc import Iterable
from typing import Any, Final

from gatepost.net.peer import is_in, networks, parse_peer

_MAX_HOPS: Final = 20
_SCHEMES: Final = frozenset({"http", "https"})


class Proxies:
    """The reverse proxies that are believed."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """
        Args:
            trusted: Networks in CIDR notation.

        Raises:
            ValueError: One is none.
        """
        self._trusted = networks(trusted)

    def includes(self, host: str) -> bool:
        """Tell whether an address is a trusted proxy's."""
        try:
            return bool(self._trusted) and is_in(parse_peer(host), self._trusted)
        except ValueError:
            return False

    def resolve(self, scope: Any) -> None:
        """Put the client's address and scheme in a scope, if the connection is a trusted proxy's."""
        client = scope.get("client")
        if not self._trusted or not client or not self.includes(str(client[0])):
            return
        host = self._client_of(_listed(scope, b"x-forwarded-for"))
        if host is not None:
            scope["client"] = (host, 0)
        schemes = _listed(scope, b"x-forwarded-proto")
        if schemes and schemes[-1].lower() in _SCHEMES:
            scope["scheme"] = schemes[-1].lower()

    def _client_of(self, hops: list[str]) -> str | None:
        """Return the last address that is no proxy of ours; what is no address ends the search, for its writer is not to be believed."""
        found = None
        for text in reversed(hops[-_MAX_HOPS:]):
            try:
                peer = parse_peer(_without_port(text))
            except ValueError:
                break
            found = peer.name
            if not is_in(peer, self._trusted):
                break
        return found


def _listed(scope: Any, name: bytes) -> list[str]:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
