"""
What DNS can answer, as values that keep apart what must not be confused.

A name that does not exist, one without such a record, a domain that takes no mail, and a resolver that failed, which is our
trouble and never a bounce. `is_secure` says that DNSSEC vouches for the answer, and that the resolver is one we believe.
Standards: RFC 5321 §5.1 (MX), RFC 7505 (null MX), RFC 6698 (TLSA), RFC 6840 §5.8 (the AD bit).
Not here: asking (dns).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.wire.dane import Tlsa


@dataclass(frozen=True, slots=True)
class MxHosts:
    """
    The domain's mail hosts as (preference, name), in no order.

    Attributes:
        ttl_s: As the domain's owner set it.
    """

    hosts: tuple[tuple[int, str], ...]
    is_secure: bool = False
    ttl_s: float = field(default=3_600.0, compare=False)


@dataclass(frozen=True, slots=True)
class NullMx:
    """The domain says that it takes no mail (RFC 7505)."""

    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class NoMx:
    """The domain exists and has no MX: its own address is meant (RFC 5321 §5.1)."""

    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """
    IP addresses as text, in the order in which to try them; never empty.

    Attributes:
        name: The name at the end of the CNAMEs that were followed; empty where there were none.
    """

    addresses: tuple[str, ...]
    is_secure: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class NoAddresses:
    """The name exists and has no address."""

    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class NoDomain:
    """There is no such name (NXDOMAIN)."""

    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class ResolverFailed:
    """No usable answer: SERVFAIL, a timeout, no resolver."""

    detail: str


@dataclass(frozen=True, slots=True)
class Texts:
    """TXT records, each with its strings joined; never empty."""

    texts: tuple[str, ...]
    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class NoTexts:
    """The name exists and has no TXT record."""

    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class TlsaRecords:
    """TLSA records; never empty, and never of an answer that DNSSEC does not vouch for: those say nothing (RFC 7672 §2.2)."""

    records: "tuple[Tlsa, ...]"


@dataclass(frozen=True, slots=True)
class NoTlsa:
    """There is no TLSA record that counts."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names that a PTR or CNAME record leads to, lower-case, without last dot; never empty."""

    names: tuple[str, ...]
    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class NoNames:
    """The name exists and has no such record."""

    is_secure: bool = False


MxAnswer = MxHosts | NullMx | NoMx | NoDomain | ResolverFailed
AddressAnswer = Addresses | NoAddresses | NoDomain | ResolverFailed
TextAnswer = Texts | NoTexts | NoDomain | ResolverFailed
TlsaAnswer = TlsaRecords | NoTlsa | ResolverFailed
NameAnswer = Names | NoNames | NoDomain | ResolverFailed
