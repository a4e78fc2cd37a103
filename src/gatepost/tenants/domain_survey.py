"""
Everything that DNS says of a sender's domain, asked at once.

Arrives: a domain with its keys, who sends for it, and a resolver. Leaves: `DomainFacts`.
Not here: what the facts mean (policy.domain_checks), when to ask and what follows (domain_health).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from gatepost.clock import Instant
from gatepost.domain.route import RoadKind, roads_of
from gatepost.domain.tenant import DkimKey, Domain, DomainStatus
from gatepost.net.dns import NoDomain, NoTexts, TextAnswer, Texts
from gatepost.net.lookup import Found, Looked, Lookup, settle
from gatepost.net.mta_sts_fetch import PolicyUnavailable
from gatepost.policy.domain_checks import DomainFacts, KeyFacts
from gatepost.settings import Settings
from gatepost.tenants.dns_records import status_of
from gatepost.tenants.source_health import Sender, reply_of
from gatepost.wire import dmarc, spf
from gatepost.wire.dkim import dns_record
from gatepost.wire.mta_sts import Policy, find_record
from gatepost.wire.questions import Reply
from gatepost.wire.spf import Verdict

_REPORT_DOMAINS: Final = 5
_INCLUDES: Final = {
    "smtp.office365.com": "spf.protection.outlook.com", "smtp.gmail.com": "_spf.google.com", "smtp-relay.gmail.com": "_spf.google.com",
}  # fmt: skip
"""Smarthosts that keep the envelope's sender, with the SPF record that they ask their customers to include."""


class Registry(Protocol):
    """Knows when registrations of domains end; nobody asks one yet."""

    async def expires_at(self, domain: str) -> Instant | None:
        """Return when a domain's registration ends; None when it is not known."""
        ...


class Policies(Protocol):
    """Fetches MTA-STS policies."""

    async def fetch(self, domain: str) -> Policy:
        """
        Fetch a domain's policy.

        Raises:
            PolicyUnavailable: There is none that counts.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """
    How mail leaves by default.

    Attributes:
        senders: Addresses of ours that mail to MX hosts leaves from.
        includes: The SPF record that a relay wants included, where that is known, by the relay's name.
    """

    has_direct_road: bool = True
    has_relay_road: bool = False
    senders: tuple[Sender, ...] = ()
    includes: Mapping[str, str] = field(default_factory=dict)


def ways_of(settings: Settings, senders: Sequence[Sender]) -> Ways:
    """
    Tell how mail leaves by the default route.

    Args:
        senders: Addresses of ours.
    """
    roads = roads_of(settings.egress.default_route)
    used = {road.name for road in roads if road.kind is RoadKind.RELAY}
    hosts = {name: urlsplit(relay.url).hostname or "" for name, relay in settings.relays.items() if name in used}
    is_direct = any(road.kind is RoadKind.MX for road in roads)
    return Ways(
        has_direct_road=is_direct, has_relay_road=bool(used), senders=tuple(senders) if is_direct else (),
        includes={name: _INCLUDES[host] for name, host in hosts.items() if host in _INCLUDES},
    )  # fmt: skip


async def survey(
    lookup: Lookup,
    domain: Domain,
    keys: Sequence[DkimKey],
    *,
    now: Instant,
    ways: Ways,
    envelope_domain: str = "",
    registry: Registry | None = None,
    policies: Policies | None = None,
) -> DomainFacts:
    """
    Ask DNS about a domain. Total: what is not answered is said so in the facts.

    Args:
        keys: The keys whose records are looked for.
        envelope_domain: Domain of the reverse-path; empty is the domain itself.
        policies: Fetches MTA-STS policies, for verified domains only: nobody else's word makes us ask a host. None fetches none.
    """
    name, envelope = domain.name, envelope_domain or domain.name
    found, walked, own, replies = await asyncio.gather(
        settle(spf.survey(envelope), lookup), settle(dmarc.discover(name), lookup), _keys(lookup, name, keys), _replies(lookup, name)
    )  # fmt: skip
    mx, sts, tls_reports, address = replies
    policy, trouble = await _policy(policies, domain, sts)
    return DomainFacts(
        name=name, now=now, keys=own, spf=found, dmarc=walked, envelope_domain=envelope, mx=mx, has_address=bool(address), sts=sts,
        sts_policy=policy, sts_trouble=trouble, tls_reports=tls_reports, relay_includes=ways.includes,
        senders=await _senders(lookup, envelope, ways.senders),
        has_direct_road=ways.has_direct_road, has_relay_road=ways.has_relay_road,
        takes_reports=await _consents(lookup, walked),
        envelope_organization=walked.organization if envelope == name else (await settle(dmarc.discover(envelope), lookup)).organization,
        expires_at=None if registry is None else await registry.expires_at(walked.organization or name),
    )  # fmt: skip


async def _policy(policies: Policies | None, domain: Domain, sts: Reply) -> tuple[Policy | None, str]:
    if policies is None or domain.status is not DomainStatus.VERIFIED or sts is None or find_record(sts) is None:
        return None, ""
    try:
        return await policies.fetch(domain.name), ""
    except PolicyUnavailable as error:
        return None, str(error)[:300]


async def _replies(lookup: Lookup, name: str) -> list[Reply]:
    """Ask for MX, MTA-STS, TLS reporting and address."""
    questions = ((name, "MX"), (f"_mta-sts.{name}", "TXT"), (f"_smtp._tls.{name}", "TXT"), (name, "A"))
    return [reply_of(looked) for looked in await asyncio.gather(*[lookup.records(*question) for question in questions])]


async def _keys(lookup: Lookup, domain: str, keys: Sequence[DkimKey]) -> tuple[KeyFacts, ...]:
    names = [dns_record(domain, key.selector, key.algorithm, key.public)[0] for key in keys]
    answers = dict(zip(names, map(_texts, await asyncio.gather(*[lookup.records(name, "TXT") for name in names])), strict=True))
    return tuple(
        KeyFacts(selector=key.selector, algorithm=key.algorithm, status=status_of(key, domain, answers).value, name=name)
        for key, name in zip(keys, names, strict=True)
    )


def _texts(looked: Looked) -> TextAnswer:
    if not isinstance(looked, Found):
        return looked
    if looked.values:
        return Texts(looked.values)
    return NoTexts() if looked.exists else NoDomain()


async def _senders(lookup: Lookup, envelope: str, senders: Sequence[Sender]) -> dict[str, Verdict]:
    walks = [spf.check_host(one.address, envelope, sender=f"postmaster@{envelope}", helo=one.hostname) for one in senders]
    verdicts = await asyncio.gather(*[settle(walk, lookup) for walk in walks])
    return dict(zip([one.address for one in senders], verdicts, strict=True))


async def _consents(lookup: Lookup, found: dmarc.Discovery) -> dict[str, bool | None]:
    if found.record is None:
        return {}
    asked = found.record.report_domains[:_REPORT_DOMAINS]
    told = [await settle(dmarc.allows_reports(found.found_at, one, found.organization), lookup) for one in asked]
    return dict(zip(asked, told, strict=True))
