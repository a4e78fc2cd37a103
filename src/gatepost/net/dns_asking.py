"""
One question to the resolver: over UDP, over TCP when the answer does not fit, again when a datagram is lost.

Arrives: a name and a type. Leaves: the records with their TTL and whether DNSSEC vouches for them, or why there are none.
DNSSEC is the resolver's work: it is asked to validate (EDNS with DO, and AD: RFC 6840 §5.7), and its AD bit is believed only
from a resolver that we trust. One that does not know EDNS is asked without.
Several servers are asked one after the other: the next one when one is silent or fails.
Standards: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS), RFC 4035, RFC 6840 §5.8.
Not here: sockets (dns_exchange), the bytes (wire.dns_message), remembering (dns_cache), what records mean (dns).
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import dns.exception
import dns.rcode
import dns.rdatatype
import dns.resolver

from gatepost.net.dns_exchange import Exchange
from gatepost.wire import dns_message
from gatepost.wire.dns_message import NOERROR, NXDOMAIN, MalformedMessage, Response

CONCURRENCY: Final = 200
"""Questions that may be open at once; others wait for their turn, which does not count against their time."""

MIN_TTL_S: Final = 30.0
MAX_TTL_S: Final = 3_600.0
NEGATIVE_TTL_S: Final = 60.0
"""Of an answer that says nothing about it (RFC 2308 §5)."""
MAX_NEGATIVE_TTL_S: Final = 900.0
_TRIES: Final = 3
"""A lost datagram must not use up the whole time."""
_PAUSES_S: Final = (0.1, 2.0)
"""Between rounds in which no server answered: at first, and at most."""
_WITHOUT_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})


@dataclass(frozen=True, slots=True)
class Found:
    """
    Records of the type that was asked for.

    Attributes:
        records: As `wire.dns_message.Response` has them.
        ttl_s: As the owner set it.
        canonical: Where CNAMEs led; the name itself, where there were none.
    """

    records: tuple[Any, ...]
    ttl_s: float
    is_secure: bool
    canonical: str


@dataclass(frozen=True, slots=True)
class Missing:
    """
    There are none.

    Attributes:
        is_name: Whether the name exists.
    """

    is_name: bool
    ttl_s: float
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Nobody could say."""

    detail: str


class Asking:
    """The way to the resolver."""

    def __init__(self, *, server: str, timeout_s: float, trust_ad: str = "auto") -> None:
        """
        Set up without asking anything.

        Args:
            server: `host:port` of the resolver, the host an IP address; empty is the system's configuration.
            timeout_s: For one answer, all tries included.
            trust_ad: `always`, `never`, or `auto`: when every server is on this machine.

        Raises:
            ValueError: `server` is not an IP address with a port.
        """
        self._timeout_s = timeout_s
        self._each_s = max(0.2, timeout_s / _TRIES)
        addresses = _servers(server)
        self._servers = [Exchange(host, port) for host, port in addresses]
        self._trusts_ad = trust_ad == "always" or (trust_ad == "auto" and _are_local([host for host, _ in addresses]))
        self._has_edns = True
        self._turns = asyncio.Semaphore(CONCURRENCY)

    async def ask(self, name: str, kind: str) -> Found | Missing | Failure:
        """Ask for one type of record. Total."""
        if not self._servers:
            return Failure("no resolver is configured on this machine")
        try:
            encoded = dns_message.encoded(name)
        except (dns.exception.DNSException, UnicodeError):
            return Missing(is_name=False, ttl_s=MAX_NEGATIVE_TTL_S, is_secure=False)
        async with self._turns:
            found = await self._answer(encoded, _kind(kind))
        if isinstance(found, str):
            return Failure(f"{name} {kind}: {found}")
        if found is None:
            return Failure(f"no answer about {name} {kind} within {self._timeout_s:g} s")
        is_secure = self._trusts_ad and found.is_authentic
        if found.records and found.rcode == NOERROR:
            return Found(found.records, found.ttl_s, is_secure, found.canonical)
        return Missing(is_name=found.rcode == NOERROR, ttl_s=_negative_ttl(found.negative_ttl_s), is_secure=is_secure)

    async def _answer(self, name: bytes, kind: int) -> Response | str | None:
        """Ask the servers in turn; return why all of them failed, if so, and None when no answer came in time."""
        loop = asyncio.get_running_loop()
        ends, pause = loop.time() + self._timeout_s, _PAUSES_S[0]
        servers, reasons = list(self._servers), list[str]()
        while servers:
            for server in list(servers):
                if (left := ends - loop.time()) <= 0:
                    return None
                found = await self._ask(server, name, kind, min(left, self._each_s))
                if isinstance(found, Response):
                    return found
                if found is not None:
                    servers.remove(server)
                    reasons.append(f"{server}: {found}")
            if servers:
                await asyncio.sleep(min(pause, max(ends - loop.time(), 0)))
                pause = min(pause * 2, _PAUSES_S[1])
        return "; ".join(reasons)

    async def _ask(self, server: Exchange, name: bytes, kind: int, timeout_s: float) -> Response | str | None:
        """Ask one server; return what is wrong with it, if something is, and None when it is silent."""
        has_edns = self._has_edns
        try:
            found = await server.ask(name, kind, timeout_s, has_edns=has_edns)
            if has_edns and found.rcode in _WITHOUT_EDNS:
                found = await server.ask(name, kind, timeout_s, has_edns=False)
                self._has_edns = self._has_edns and found.rcode in _WITHOUT_EDNS
        except TimeoutError:
            return None
        except (OSError, MalformedMessage) as error:
            return " ".join(str(error).split())[:200] or type(error).__name__
        return found if found.rcode in {NOERROR, NXDOMAIN} else dns.rcode.to_text(dns.rcode.Rcode.make(found.rcode))


@cache
def _kind(text: str) -> int:
    return int(dns.rdatatype.from_text(text))


def bounded(ttl_s: float) -> float:
    """Keep a TTL within bounds: not asked again with every message, and no mistake of an owner's kept for days."""
    return min(max(ttl_s, MIN_TTL_S), MAX_TTL_S)


def _servers(server: str) -> list[tuple[str, int]]:
    """
    Return whom to ask.

    Raises:
        ValueError: The setting is not an IP address with a port.
    """
    if not server:
        try:
            configured = dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return []
        return [(one, configured.port) for one in configured.nameservers if isinstance(one, str)]
    host, _, port = server.rpartition(":")
    return [(str(ipaddress.ip_address(host.strip("[]"))), int(port))]


def _are_local(hosts: Sequence[str]) -> bool:
    return bool(hosts) and all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in hosts)


def _negative_ttl(ttl_s: float | None) -> float:
    """Return how long there is nothing, as the zone says (RFC 2308 §5) and within bounds."""
    return NEGATIVE_TTL_S if ttl_s is None else min(max(ttl_s, MIN_TTL_S), MAX_NEGATIVE_TTL_S)
