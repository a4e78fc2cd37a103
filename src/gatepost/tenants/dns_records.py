"""
The DNS records of a sender's domain: what to publish, and what DNS says of it.

Arrives: a domain with its signing keys, and a resolver. Leaves: the records with what is known of each.
Standards: RFC 6376 §3.6 (DKIM records), RFC 7208 (SPF), RFC 7489 (DMARC).
Not here: what follows from it for the domain (domains), the resolver (net.dns).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gatepost.domain.tenant import DkimKey, Domain
from gatepost.net.dns import ResolverFailed, TextAnswer, TextResolver, Texts
from gatepost.wire.dkim import dns_record

Answers = Mapping[str, TextAnswer]
"""What DNS says, by name."""


class RecordStatus(StrEnum):
    """What is known of a DNS record; `unknown` when the resolver failed, `unchecked` when nobody asked."""

    PUBLISHED = "published"
    MISSING = "missing"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsRecord:
    """
    One record to publish.

    Attributes:
        name: The whole name, without the last dot.
        purpose: `dkim` (needed), `spf` or `dmarc` (advised).
    """

    type: str
    name: str
    value: str
    purpose: str
    status: str


async def look_up(resolver: TextResolver, domain: Domain, keys: Sequence[DkimKey]) -> Answers:
    """Ask DNS for the records of a domain."""
    names = [*[_dkim_name(key, domain.name) for key in keys], domain.name, f"_dmarc.{domain.name}"]
    answers = await asyncio.gather(*[resolver.txt(name) for name in names])
    return dict(zip(names, answers, strict=True))


def records(domain: Domain, keys: Iterable[DkimKey], hostname: str = "", answers: Answers | None = None) -> list[DnsRecord]:
    """
    List the DNS records of a domain.

    Args:
        answers: What DNS says, by name; None when it was not asked.
    """
    found = []
    for key in keys:
        name, value = dns_record(domain.name, key.selector, key.algorithm, key.public)
        status = RecordStatus.UNCHECKED if answers is None else status_of(key, domain.name, answers)
        found.append(DnsRecord(type="TXT", name=name, value=value, purpose="dkim", status=status.value))
    spf = f"v=spf1 a:{hostname} mx ~all" if "." in hostname else "v=spf1 mx ~all"
    for name, value, purpose in ((domain.name, spf, "spf"), (f"_dmarc.{domain.name}", "v=DMARC1; p=none", "dmarc")):
        status = RecordStatus.UNCHECKED if answers is None else _policy_status(answers.get(name), value.split(";")[0].split()[0])
        found.append(DnsRecord(type="TXT", name=name, value=value, purpose=purpose, status=status.value))
    return found


def status_of(key: DkimKey, domain: str, answers: Answers) -> RecordStatus:
    """Tell what is known of the record of a signing key."""
    answer = answers.get(_dkim_name(key, domain))
    if isinstance(answer, ResolverFailed):
        return RecordStatus.UNKNOWN
    if not isinstance(answer, Texts):
        return RecordStatus.MISSING
    return RecordStatus.PUBLISHED if any(_public_of(text) == key.public for text in answer.texts) else RecordStatus.DIFFERENT


def _dkim_name(key: DkimKey, domain: str) -> str:
    return dns_record(domain, key.selector, key.algorithm, key.public)[0]


def _public_of(text: str) -> str:
    """Read `p=` of a DKIM record (RFC 6376 §3.6.1); white space inside it does not count."""
    tags = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    return "".join(next((value for name, value in tags.items() if name.strip() == "p"), "").split())


def _policy_status(answer: TextAnswer | None, version: str) -> RecordStatus:
    if isinstance(answer, ResolverFailed):
        return RecordStatus.UNKNOWN
    texts = answer.texts if isinstance(answer, Texts) else ()
    count = sum(text.lower().startswith(version.lower()) for text in texts)
    if count > 1:  # RFC 7208 §4.5, RFC 7489 §6.6.3: several count as an error
        return RecordStatus.DIFFERENT
    return RecordStatus.PUBLISHED if count else RecordStatus.MISSING
