"""
DNS for delivery: which hosts take a domain's mail, and which addresses a host has.

Arrives: names. Leaves: answers that keep apart what must not be confused: no such domain, no such record, a domain
that takes no mail, and a resolver that failed, which is our trouble and never a bounce.
Cached by the records' TTL, within bounds; negative answers too. When the resolver fails, the last good answer is used
for up to a day.
Standards: RFC 5321 §5.1 (MX, implicit MX), RFC 7505 (null MX), RFC 2308 (negative caching).
Not here: the order in which hosts are tried (egress.smtp.plan), DNSSEC and TLSA (not built yet).
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, cast

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from gatepost.clock import Clock

MIN_TTL_S: Final = 30.0
MAX_TTL_S: Final = 3_600.0
NEGATIVE_TTL_S: Final = 60.0
FAILURE_TTL_S: Final = 5.0
STALE_S: Final = 86_400.0
CACHED_NAMES: Final = 20_000


@dataclass(frozen=True, slots=True)
class MxHosts:
    """The domain's mail hosts as (preference, name), in no order."""

    hosts: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class NullMx:
    """The domain says that it takes no mail (RFC 7505)."""


@dataclass(frozen=True, slots=True)
class NoMx:
    """The domain exists and has no MX: its own address is meant (RFC 5321 §5.1)."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """IP addresses as text; never empty."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoAddresses:
    """The name exists and has no address."""


@dataclass(frozen=True, slots=True)
class NoDomain:
    """There is no such name (NXDOMAIN)."""


@dataclass(frozen=True, slots=True)
class ResolverFailed:
    """No usable answer: SERVFAIL, a timeout, no resolver."""

    detail: str


@dataclass(frozen=True, slots=True)
class Texts:
    """TXT records, each with its strings joined; never empty."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoTexts:
    """The name exists and has no TXT record."""


MxAnswer = MxHosts | NullMx | NoMx | NoDomain | ResolverFailed
AddressAnswer = Addresses | NoAddresses | NoDomain | ResolverFailed
TextAnswer = Texts | NoTexts | NoDomain | ResolverFailed


class TextResolver(Protocol):
    """Answers about TXT records, for the checks of a sender's domain."""

    async def txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records. Total: failures are answers."""
        ...


class Resolver(Protocol):
    """Answers to the two questions of delivery."""

    async def mx(self, domain: str) -> MxAnswer:
        """Ask which hosts take mail for a domain (A-labels). Total: failures are answers."""
        ...

    async def addresses(self, host: str) -> AddressAnswer:
        """Ask for a host's addresses. Total: failures are answers."""
        ...


_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Known:
    answer: object
    fresh_until: float
    stale_until: float


class DnsResolver:
    """The real resolver: dnspython on the event loop, with a cache."""

    def __init__(self, *, server: str, timeout_s: float, clock: Clock, use_ipv6: bool = False) -> None:
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
        self._use_ipv6 = use_ipv6
        self._cache: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Future[object]] = {}
        self._resolver = _configured(server, timeout_s)

    async def mx(self, domain: str) -> MxAnswer:
        """Ask which hosts take mail for a domain. Total: failures are answers."""
        return await self._cached(("MX", domain.lower()), lambda: self._ask_mx(domain))

    async def addresses(self, host: str) -> AddressAnswer:
        """Ask for a host's addresses; an IP address is its own answer. Total: failures are answers."""
        if _is_ip(host):
            return Addresses((host,))
        return await self._cached(("A", host.lower()), lambda: self._ask_addresses(host))

    async def txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records, past the cache: whoever verifies a domain has just changed them. Total."""
        found = await self._ask(name, "TXT")
        if not isinstance(found, dns.resolver.Answer):
            return NoTexts() if isinstance(found, NoAddresses) else found
        return Texts(tuple(b"".join(record.strings).decode("utf-8", "replace") for record in found))

    async def _cached(self, key: tuple[str, str], ask: Callable[[], Awaitable[tuple[_Answer, float]]]) -> _Answer:
        known = self._cache.get(key)
        if known is not None and known.fresh_until > self._clock.monotonic():
            return cast("_Answer", known.answer)
        future: asyncio.Future[object] | None = self._asking.get(key)
        if future is None:
            # A task of its own: one caller's cancellation must not fail the others that wait for the same name.
            future = asyncio.ensure_future(self._refresh(key, ask))
            self._asking[key] = future
            future.add_done_callback(lambda _: self._asking.pop(key, None))
        return cast("_Answer", await asyncio.shield(future))

    async def _refresh(self, key: tuple[str, str], ask: Callable[[], Awaitable[tuple[_Answer, float]]]) -> object:
        answer, ttl_s = await ask()
        now = self._clock.monotonic()
        known = self._cache.get(key)
        if isinstance(answer, ResolverFailed):
            if known is not None and known.stale_until > now:
                known.fresh_until = now + FAILURE_TTL_S
                return known.answer
            self._remember(key, _Known(answer, now + FAILURE_TTL_S, now))
        else:
            self._remember(key, _Known(answer, now + ttl_s, now + STALE_S))
        return answer

    def _remember(self, key: tuple[str, str], known: _Known) -> None:
        self._cache[key] = known
        self._cache.move_to_end(key)
        if len(self._cache) > CACHED_NAMES:
            self._cache.popitem(last=False)

    async def _ask_mx(self, domain: str) -> tuple[MxAnswer, float]:
        found = await self._ask(domain, "MX")
        if not isinstance(found, dns.resolver.Answer):
            return (NoMx() if isinstance(found, NoAddresses) else found), NEGATIVE_TTL_S
        hosts = tuple((record.preference, record.exchange.to_text(omit_final_dot=True).lower()) for record in found)
        named = tuple((preference, host) for preference, host in hosts if host not in {".", "@", ""})
        return (MxHosts(named) if named else NullMx()), _ttl(found)

    async def _ask_addresses(self, host: str) -> tuple[AddressAnswer, float]:
        kinds = ["AAAA", "A"] if self._use_ipv6 else ["A"]
        answers = await asyncio.gather(*[self._ask(host, kind) for kind in kinds])
        found = [answer for answer in answers if isinstance(answer, dns.resolver.Answer)]
        if found:
            return Addresses(tuple(record.address for answer in found for record in answer)), min(_ttl(answer) for answer in found)
        failures = [answer for answer in answers if isinstance(answer, ResolverFailed)]
        missing = next((answer for answer in answers if not isinstance(answer, dns.resolver.Answer)), NoAddresses())
        return (failures[0] if failures else missing), NEGATIVE_TTL_S

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | NoAddresses | NoDomain | ResolverFailed:
        """Ask for one type of record; NODATA is NoAddresses here whatever the type."""
        if self._resolver is None:
            return ResolverFailed("no resolver is configured on this machine")
        try:
            question = dns.name.from_text(name if name.endswith(".") else name + ".")
            return await self._resolver.resolve(question, kind, lifetime=self._timeout_s, search=False)
        except dns.resolver.NXDOMAIN:
            return NoDomain()
        except dns.resolver.NoAnswer:
            return NoAddresses()
        except dns.exception.Timeout:
            return ResolverFailed(f"no answer about {name} {kind} within {self._timeout_s:g} s")
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return NoDomain()
        except (dns.exception.DNSException, OSError) as error:
            return ResolverFailed(f"{name} {kind}: {_reason(error)}")


def _configured(server: str, timeout_s: float) -> dns.asyncresolver.Resolver | None:
    if not server:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return None
    host, _, port = server.rpartition(":")
    address = str(ipaddress.ip_address(host.strip("[]")))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [address]
    resolver.port = int(port)
    resolver.timeout = max(0.2, timeout_s / 2)  # one lost datagram must not use up the whole time
    return resolver


def _ttl(answer: dns.resolver.Answer) -> float:
    ttl = answer.rrset.ttl if answer.rrset is not None else 0
    return min(max(float(ttl), MIN_TTL_S), MAX_TTL_S)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
