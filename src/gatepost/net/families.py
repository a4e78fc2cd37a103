"""
IPv6 and IPv4: in which order a host's addresses are tried.

Both families take turns, IPv6 first (RFC 8305 §4). A family that turns out not to lead anywhere from here goes last for some
minutes: a machine without IPv6 must not lose the connection timeout with every host that has it.
Arrives: addresses; what became of connections. Leaves: addresses in order.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final

from gatepost.clock import Clock
from gatepost.domain.route import DEFAULT_SOURCE
from gatepost.net.dial import Dialer

_BROKEN_S: Final = 300.0
_SILENT: Final = 5
"""Addresses of one family that did not answer in a row, after which it counts as broken."""
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class Families:
    """What is known of the two families, for one process."""

    def __init__(self, clock: Clock) -> None:
        """Believe in both."""
        self._clock = clock
        self._broken_until: dict[bool, float] = {}
        self._silent: dict[bool, set[str]] = {True: set(), False: set()}

    def ordered(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Put addresses in the order in which to try them; those of one family stay as they are."""
        six, four = [one for one in addresses if ":" in one], [one for one in addresses if ":" not in one]
        if self.is_broken(is_six=True) and not self.is_broken(is_six=False):
            return (*four, *six)
        if self.is_broken(is_six=False) and not self.is_broken(is_six=True):
            return (*six, *four)
        return tuple(one for one in chain.from_iterable(zip_longest(six, four)) if one is not None)

    def is_broken(self, *, is_six: bool) -> bool:
        """Tell whether a family leads nowhere at present."""
        return self._broken_until.get(is_six, 0.0) > self._clock.monotonic()

    def worked(self, address: str) -> None:
        """Note a connection."""
        is_six = ":" in address
        self._silent[is_six].clear()
        self._broken_until.pop(is_six, None)

    def failed(self, address: str, error: OSError) -> None:
        """Note that there was no connection; a refusal is an answer, and shows that the way is good."""
        is_six = ":" in address
        if isinstance(error, TimeoutError):
            self._silent[is_six].add(address)
        if error.errno in _NO_WAY or len(self._silent[is_six]) >= _SILENT:
            self._broken_until[is_six] = self._clock.monotonic() + _BROKEN_S
            self._silent[is_six].clear()


class WatchingDialer:
    """A dialer that notes what becomes of connections to addresses."""

    def __init__(self, dialer: Dialer, families: Families) -> None:
        """Stand in front of a dialer."""
        self._dialer = dialer
        self._families = families

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any) -> None:
        """
        Connect a protocol; see `Dialer.connect`.

        Raises:
            OSError: No connection.
        """
        try:
            await self._dialer.connect(factory, host, port, **options)
        except ssl.SSLError:
            self._families.worked(host)
            raise
        except OSError as error:
            if not options.get("source", DEFAULT_SOURCE).proxy:  # what a proxy can reach says nothing of us
                self._families.failed(host, error)
            raise
        if not options.get("source", DEFAULT_SOURCE).proxy:
            self._families.worked(host)

    async def start_tls(
        self, protocol: asyncio.Protocol, transport: asyncio.Transport, tls: ssl.SSLContext, **options: Any
    ) -> asyncio.Transport:
        """
        Encrypt an open connection; see `Dialer.start_tls`.

        Raises:
            OSError: The handshake failed.
        """
        return await self._dialer.start_tls(protocol, transport, tls, **options)
