"""
One question to the resolver: over UDP, over TCP when the answer does not fit, again when a datagram is lost.

Arrives: a name and a type. Leaves: the records with their TTL and whether DNSSEC vouches for them, or why there are none.
DNSSEC is the resolver's work: it is asked to validate (EDNS with DO, and AD: RFC 6840 §5.7), and its AD bit is believed only
from a resolver that we trust. One that does not know EDNS is asked without.
Standards: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS), RFC 4035, RFC 6840 §5.8.
Not here: remembering (dns_cache), what records mean (dns).
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver

CONCURRENCY: Final = 200
"""Questions that may be open at once; others wait for their turn, which does not count against their time."""

MIN_TTL_S: Final = 30.0
MAX_TTL_S: Final = 3_600.0
NEGATIVE_TTL_S: Final = 60.0
"""Of an answer that says nothing about it (RFC 2308 §5)."""
MAX_NEGATIVE_TTL_S: Final = 900.0
_PAYLOAD: Final = 1_232
_TRIES: Final = 3
"""A lost datagram must not use up the whole time."""
_WITHOUT_EDNS = frozenset({"FORMERR", "NOTIMP", "BADVERS"})


@dataclass(frozen=True, slots=True)
class Found:
    """
    Records of the type that was asked for.

    Attributes:
        records: As dnspython has them.
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
        self._resolver = _configured(server, timeout_s)
        self._trusts_ad = trust_ad == "always" or (trust_ad == "auto" and _is_local(self._resolver))
        self._turns = asyncio.Semaphore(CONCURRENCY)
        self._use_edns()

    def _use_edns(self) -> None:
        if self._resolver is not None:
            self._resolver.use_edns(0, dns.flags.DO, _PAYLOAD)
            self._resolver.flags = dns.flags.RD | dns.flags.AD

    async def ask(self, name: str, kind: str) -> Found | Missing | Failure:
        """Ask for one type of record. Total."""
        if self._resolver is None:
            return Failure("no resolver is configured on this machine")
        try:
            question = dns.name.from_text(name if name.endswith(".") else name + ".")
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape, UnicodeError):
            return Missing(is_name=False, ttl_s=MAX_NEGATIVE_TTL_S, is_secure=False)
        async with self._turns:
            try:
                return await self._resolve(self._resolver, question, kind)
            except dns.resolver.NoNameservers as error:
                if not _knows_no_edns(error) or self._resolver.edns < 0:
                    return Failure(f"{name} {kind}: {_reason(error)}")
                self._resolver.use_edns(-1)
            except dns.exception.Timeout:
                return Failure(f"no answer about {name} {kind} within {self._timeout_s:g} s")
            except (dns.exception.DNSException, OSError, ValueError) as error:
                return Failure(f"{name} {kind}: {_reason(error)}")
        return await self.ask(name, kind)

    async def _resolve(self, resolver: dns.asyncresolver.Resolver, question: dns.name.Name, kind: str) -> Found | Missing:
        try:
            answer = await resolver.resolve(question, kind, lifetime=self._timeout_s, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as error:
            response: dns.message.Message = error.response(question)  # type: ignore[no-untyped-call]
            return Missing(is_name=False, ttl_s=_negative_ttl(response), is_secure=self._is_secure(response))
        is_secure = self._is_secure(answer.response)
        if answer.rrset is None:
            return Missing(is_name=True, ttl_s=_negative_ttl(answer.response), is_secure=is_secure)
        ttl_s = float(answer.chaining_result.minimum_ttl)
        canonical = answer.canonical_name.to_text(omit_final_dot=True).lower()
        return Found(tuple(answer.rrset), ttl_s, is_secure, canonical)

    def _is_secure(self, response: dns.message.Message) -> bool:
        return self._trusts_ad and bool(response.flags & dns.flags.AD)


def bounded(ttl_s: float) -> float:
    """Keep a TTL within bounds: not asked again with every message, and no mistake of an owner's kept for days."""
    return min(max(ttl_s, MIN_TTL_S), MAX_TTL_S)


def _configured(server: str, timeout_s: float) -> dns.asyncresolver.Resolver | None:
    if not server:
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return None
    else:
        host, _, port = server.rpartition(":")
        address = str(ipaddress.ip_address(host.strip("[]")))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [address]
        resolver.port = int(port)
    resolver.timeout = max(0.2, timeout_s / _TRIES)
    return resolver


def _is_local(resolver: dns.asyncresolver.Resolver | None) -> bool:
    servers: Sequence[Any] = resolver.nameservers if resolver is not None else ()
    return bool(servers) and all(isinstance(one, str) and ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in servers)


def _negative_ttl(response: dns.message.Message) -> float:
    """Return how long there is nothing: the SOA's own TTL or its minimum, whichever is less (RFC 2308 §5)."""
    for rrset in response.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return min(max(float(min(rrset.ttl, rrset[0].minimum)), MIN_TTL_S), MAX_NEGATIVE_TTL_S)
    return NEGATIVE_TTL_S


def _knows_no_edns(error: dns.resolver.NoNameservers) -> bool:
    return any(str(entry[3]) in _WITHOUT_EDNS for entry in error.kwargs.get("errors", ()))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
