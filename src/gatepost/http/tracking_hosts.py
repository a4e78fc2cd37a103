"""
The hosts of pixels, links and pages serve nothing else.

Arrives: every request, behind the rules of encryption. Leaves: the same request; or 404, where somebody asks for the API or the
pages under a name that stands in mail to everybody. So no cookie and no key is ever sent there.
Not here: what is served (public.tracking).
"""

from collections.abc import Collection
from typing import Any, Final

from gatepost.domain.errors import Refused
from gatepost.http import exchange

_OPEN: Final = ("/t/", "/livez", "/readyz", "/robots.txt")


class TrackingHosts:
    """The application behind the rule."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        """
        Args:
            hosts: Names without ports, in small letters.
        """
        self._app = app
        self._hosts = frozenset(hosts)

    @property
    def state(self) -> Any:
        """The application's state."""
        return self._app.state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN) and _hosts_of(scope) & self._hosts:
            answer = exchange.refuse(Refused("not_found", "there is nothing at this path"), scope)
            await exchange.send_answer(answer, exchange.request_id(scope), send)
        else:
            await self._app(scope, receive, send)


def _hosts_of(scope: Any) -> set[str]:
    return {value.decode("latin-1").lower().partition(":")[0].rstrip(".") for name, value in scope["headers"] if name == b"host"}
