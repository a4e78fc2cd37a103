"""
DNS for delivery: which hosts take a domain's mail, which addresses a host has, and what else a domain says of itself.

Arrives: names. Leaves: answers that keep apart what must not be confused (dns_answers).
Cached by the records' TTL, within bounds; negative answers too. When the resolver fails, the last good answer is used
for up to a day. Verification of a domain asks past the cache: its owner has just changed it.
Standards: RFC 5321 §5.1 (MX, implicit MX), RFC 7505 (null MX), RFC 2308 (negative caching), RFC 6698 (TLSA).
Not here: the question itself (dns_asking), remembering (dns_cache), the order of MX hosts (egress.smtp.plan), which mail
system takes a domain (policy.sites).
"""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from gatepost.clock import Clock
from gatepost.net.dns_answers import (
    AddressAnswer,
    Addresses,
    MxAnswer,
    MxHosts,
    NameAnswer,
    Names,
    NoAddresses,
    NoDomain,
    NoMx,
    NoNames,
    NoTexts,
    NoTlsa,
    NullMx,
    ResolverFailed,
    TextAnswer,
    Texts,
    TlsaAnswer,
    TlsaRecords,
)
from gatepost.net.dns_asking import Asking, Failure, Found, Missing, bounded
from gatepost.net.dns_cache import STALE_S, AnswerCache, Fresh
from gatepost.net.families import Families

__all__ = [
    "STALE_S", "AddressAnswer", "Addresses", "DnsResolver", "FullResolver", "KnownTexts", "MxAnswer", "MxHosts", "NameAnswer", "Names",
    "NoAddresses", "NoDomain", "NoMx", "NoNames", "NoTexts", "NoTlsa", "NullMx", "PolicyResolver", "Resolver", "ResolverFailed",
    "TextAnswer", "TextResolver", "Texts", "TlsaAnswer", "TlsaRecords",
]  # fmt: skip

A = TypeVar("A")


class TextResolver(Protocol):
    """Answers about TXT records, for the checks of a sender's domain."""

    async def txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records, as they are this moment. Total: failures are answers."""
        ...


class Resolver(Protocol):
    """Answers to the two questions of delivery."""

    async def mx(self, domain: str) -> MxAnswer:
        """Ask which hosts take mail for a domain (A-labels). Total: failures are answers."""
        ...

    async def addresses(self, host: str) -> AddressAnswer:
        """Ask for a host's addresses. Total: failures are answers."""
        ...


class KnownTexts(TextResolver, Protocol):
    """Answers about TXT records that need not be of this moment, too."""

    async def known_txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records, remembered for their TTL. Total."""
        ...


class PolicyResolver(Resolver, Protocol):
    """Answers to what TLS has to fulfil, too."""

    async def tlsa(self, host: str, port: int) -> TlsaAnswer:
        """Ask for the TLSA records of a host's port that DNSSEC vouches for. Total."""
        ...

    async def is_secure_alias(self, name: str) -> bool:
        """Tell whether a name is an alias, and DNSSEC vouches for that, whatever it leads to (RFC 7672 §2.2.2). Total."""
        ...


class FullResolver(PolicyResolver, KnownTexts, Protocol):
    """Answers to every question that Gatepost has."""

    async def ptr(self, address: str) -> NameAnswer:
        """Ask which names an IP address has. Total."""
        ...

    async def family(self, host: str, kind: Literal["A", "AAAA"]) -> AddressAnswer:
        """Ask for a host's addresses of one family, whichever are used for delivery. Total."""
        ...


class DnsResolver:
    """
    The real resolver: dnspython on the event loop, with a cache.

    Attributes:
        families: What is known of IPv6 and IPv4 from here; who connects tells it.
    """

    def __init__(self, *, server: str, timeout_s: float, clock: Clock, use_ipv6: bool = False, trust_ad: str = "auto") -> None:
        """
        Set up without asking anything.

        Args:
            server: `host:port` of the resolver, the host an IP address; empty is the system's configuration.
            timeout_s: For one answer, all tries included.
            use_ipv6: Whether `addresses` has IPv6 addresses too.
            trust_ad: When the resolver is believed about DNSSEC: `always`, `never`, `auto` when it is on this machine.

        Raises:
            ValueError: `server` is not an IP address with a port.
        """
        self._asking = Asking(server=server, timeout_s=timeout_s, trust_ad=trust_ad)
        self._cache = AnswerCache(clock)
        self._use_ipv6 = use_ipv6
        self.families = Families(clock)

    async def mx(self, domain: str) -> MxAnswer:
        """Ask which hosts take mail for a domain. Total: failures are answers."""
        return await self._cached(domain, "MX", _mx)

    async def addresses(self, host: str) -> AddressAnswer:
        """Ask for a host's addresses, in the order to try them; an IP address is its own answer. Total: failures are answers."""
        if not self._use_ipv6 or _is_ip(host):
            return await self.family(host, "A")
        six, four = await asyncio.gather(self.family(host, "AAAA"), self.family(host, "A"))
        return self._both(six, four)

    async def family(self, host: str, kind: Literal["A", "AAAA"]) -> AddressAnswer:
        """Ask for a host's addresses of one family; an IP address is its own answer. Total."""
        if _is_ip(host):
            return Addresses((host,))
        return await self._cached(host, kind, _addresses)

    async def txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records, past the cache: whoever verifies a domain has just changed them. Total."""
        return _texts(await self._asking.ask(name, "TXT"), name)

    async def known_txt(self, name: str) -> TextAnswer:
        """Ask for a name's TXT records, remembered for their TTL. Total."""
        return await self._cached(name, "TXT", _texts)

    async def tlsa(self, host: str, port: int) -> TlsaAnswer:
        """Ask for the TLSA records of a host's port that DNSSEC vouches for. Total."""
        return await self._cached(f"_{port}._tcp.{host}", "TLSA", _tlsa)

    async def is_secure_alias(self, name: str) -> bool:
        """Tell whether a name is an alias, and DNSSEC vouches for that, whatever it leads to. Total."""
        answer = await self._cached(name, "CNAME", _names)
        return isinstance(answer, Names) and answer.is_secure

    async def ptr(self, address: str) -> NameAnswer:
        """Ask which names an IP address has; a text that is none has no names. Total."""
        if not _is_ip(address):
            return NoDomain()
        return await self._cached(ipaddress.ip_address(address).reverse_pointer, "PTR", _names)

    async def _cached(self, name: str, kind: str, read: Callable[[Found | Missing | Failure, str], A]) -> A:
        lower = name.lower()
        # that there was no TLSA record must not be believed while nobody can say: then mail waits (RFC 7672 §2.1.2)
        stale_s = 0.0 if kind == "TLSA" else STALE_S

        async def ask() -> Fresh[A]:
            found = await self._asking.ask(lower, kind)
            match found:
                case Found():
                    return Fresh(read(found, lower), bounded(found.ttl_s), stale_s=stale_s)
                case Missing():
                    return Fresh(read(found, lower), found.ttl_s, stale_s=stale_s)
                case Failure():
                    return Fresh(read(found, lower), 0.0, is_failure=True)

        return await self._cache.get((kind, lower), ask)

    def _both(self, six: AddressAnswer, four: AddressAnswer) -> AddressAnswer:
        """Join the two families: what was found counts, even if the other half failed."""
        found = [answer for answer in (six, four) if isinstance(answer, Addresses)]
        if not found:
            return six if isinstance(six, ResolverFailed) else four
        return Addresses(
            self.families.ordered([address for answer in found for address in answer.addresses]),
            is_secure=all(answer.is_secure for answer in found),
            name=found[0].name,
        )


def _mx(found: Found | Missing | Failure, name: str) -> MxAnswer:
    if isinstance(found, Found):
        named = tuple(host for host in found.records if host[1] != ".")
        return MxHosts(named, found.is_secure, found.ttl_s) if named else NullMx(found.is_secure)
    if isinstance(found, Missing):
        return NoMx(found.is_secure) if found.is_name else NoDomain(found.is_secure)
    return ResolverFailed(found.detail)


def _addresses(found: Found | Missing | Failure, name: str) -> AddressAnswer:
    if isinstance(found, Found):
        canonical = "" if found.canonical == name.removesuffix(".") else found.canonical
        return Addresses(found.records, found.is_secure, canonical)
    if isinstance(found, Missing):
        return NoAddresses(found.is_secure) if found.is_name else NoDomain(found.is_secure)
    return ResolverFailed(found.detail)


def _texts(found: Found | Missing | Failure, name: str) -> TextAnswer:
    if isinstance(found, Found):
        return Texts(tuple(b"".join(record.strings).decode("utf-8", "replace") for record in found.records), found.is_secure)
    if isinstance(found, Missing):
        return NoTexts(found.is_secure) if found.is_name else NoDomain(found.is_secure)
    return ResolverFailed(found.detail)


def _tlsa(found: Found | Missing | Failure, name: str) -> TlsaAnswer:
    if isinstance(found, Failure):
        return ResolverFailed(found.detail)
    if isinstance(found, Missing) or not found.is_secure:
        return NoTlsa()
    from gatepost.wire.dane import Tlsa  # noqa: PLC0415 - doors ask for none

    return TlsaRecords(tuple(Tlsa(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in found.records))


def _names(found: Found | Missing | Failure, name: str) -> NameAnswer:
    if isinstance(found, Found):
        return Names(tuple(record.target.to_text(omit_final_dot=True).lower() for record in found.records), found.is_secure)
    if isinstance(found, Missing):
        return NoNames(found.is_secure) if found.is_name else NoDomain(found.is_secure)
    return ResolverFailed(found.detail)


def _is_ip(text: str) -> bool:
    if ":" not in text and text[-1:].isalpha():
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
