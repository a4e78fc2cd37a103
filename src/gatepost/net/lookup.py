"""
DNS for looking after things: any kind of record of any name, as text.

Arrives: names. Leaves: `Found` with the records and how long they hold, or that the resolver failed, which says nothing about the
name. Asked afresh, unless the caller is content with an answer that still holds: a look at a domain shall see what was changed a
minute ago, while blocklists want to be asked seldom.
Standards: RFC 2308 (negative caching).
Not here: DNS for delivery, with its own cache and its last good answers (dns).
Bugs: none known.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from gatepost.clock import Clock
from gatepost.net.dns import ResolverFailed
from gatepost.wire.questions import Walk

T = TypeVar("T")

_NEGATIVE_TTL_S: Final = 300.0
_LEAST_TTL_S: Final = 60.0
_MOST_TTL_S: Final = 86_400.0
_KEPT: Final = 5_000
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What a name has of a kind.

    Attributes:
        values: The records as text; TXT strings joined, names without their last dot, an MX as `10 mx.example.net`. Empty when
            there are none.
        exists: False when there is no such name (NXDOMAIN).
    """

    values: tuple[str, ...] = ()
    ttl_s: float = 0.0
    exists: bool = True


Looked = Found | ResolverFailed


class Lookup(Protocol):
    """Answers about any name."""

    async def records(self, name: str, kind: str, *, may_be_kept: bool = False) -> Looked:
        """
        Ask for a name's records.

        Args:
            kind: TXT, A, AAAA, MX or PTR.
            may_be_kept: An answer from before will do while its TTL runs.
        """
        ...


class DnsLookup:
    """The real one: dnspython on the event loop."""

    def __init__(self, *, server: str, timeout_s: float, clock: Clock) -> None:
        """
        Set up without asking anything.

        Args:
            server: `host:port` of the resolver, the host an IP address; empty is the system's configuration.
            timeout_s: For one answer, all tries included.

        Raises:
            ValueError: `server` is not an IP address with a port.
        """
        self._timeout_s = timeout_s
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[Found, float]] = OrderedDict()
        self._resolver = _configured(server, timeout_s)
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def records(self, name: str, kind: str, *, may_be_kept: bool = False) -> Looked:
        """Ask for a name's records; see `Lookup.records`. Total: failures are answers."""
        key = name.lower(), kind
        if may_be_kept and (kept := self._kept.get(key)) is not None and kept[1] > self._clock.monotonic():
            return kept[0]
        async with self._room:
            found = await self._ask(name, kind)
        if may_be_kept and isinstance(found, Found):
            self._kept[key] = found, self._clock.monotonic() + min(max(found.ttl_s, _LEAST_TTL_S), _MOST_TTL_S)
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    async def _ask(self, name: str, kind: str) -> Looked:
        if self._resolver is None:
            return ResolverFailed("no resolver is configured on this machine")
        try:
            question = dns.name.from_text(name.rstrip(".") + ".")
            answer = await self._resolver.resolve(question, kind, lifetime=self._timeout_s, search=False)
        except (dns.resolver.NXDOMAIN, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return Found(exists=False, ttl_s=_NEGATIVE_TTL_S)
        except dns.resolver.NoAnswer:
            return Found(ttl_s=_NEGATIVE_TTL_S)
        except dns.exception.Timeout:
            return ResolverFailed(f"no answer about {name} {kind} within {self._timeout_s:g} s")
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return ResolverFailed(f"{name} {kind}: {' '.join(str(error).split())[:200] or type(error).__name__}")
        return Found(values=tuple(_text(record) for record in answer), ttl_s=float(answer.rrset.ttl if answer.rrset is not None else 0))


async def settle(walk: "Walk[T]", lookup: Lookup) -> T:
    """Answer the questions of code that asks none itself, until it ends."""
    try:
        question = next(walk)
        while True:
            found = await lookup.records(question.name, question.kind)
            question = walk.send(found.values if isinstance(found, Found) else None)
    except StopIteration as end:
        result: T = end.value
        return result


def _text(record: object) -> str:
    strings = getattr(record, "strings", None)
    if strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    preference, name = getattr(record, "preference", None), getattr(record, "exchange", None) or getattr(record, "target", None)
    if isinstance(name, dns.name.Name):
        shown = name.to_text(omit_final_dot=True).lower()
        shown = "." if shown in {"@", "."} else shown
        return shown if preference is None else f"{preference} {shown}"
    return str(record)


def _configured(server: str, timeout_s: float) -> dns.asyncresolver.Resolver | None:
    if not server:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return None
    host, _, port = server.rpartition(":")
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [str(ipaddress.ip_address(host.strip("[]")))]
    resolver.port = int(port)
    resolver.timeout = max(0.2, timeout_s / 2)  # one lost datagram must not use up the whole time
    return resolver
