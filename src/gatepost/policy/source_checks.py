"""
What receivers see of an address that mail leaves from: its names in DNS, and blocklists.

Arrives: answers of DNS (`SourceFacts`). Leaves: checks. Pure.
A blocklist's answer counts only inside 127.0.0.0/8. Answers outside of it come from a resolver that rewrites, or a domain that was
sold; 127.0.0.1 and 127.255.255.0/24 say that the question was refused, not that the address is listed.
Standards: RFC 5782 (DNS blocklists), RFC 1912 §2.1 (forward-confirmed names), RFC 5321 §4.1.4 (EHLO names).
Not here: asking (tenants.source_health).
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatepost.domain.health import Check, CheckStatus
from gatepost.wire.questions import Reply

_LISTS = ipaddress.ip_network("127.0.0.0/8")
_REFUSALS: Final = (ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("127.255.255.0/24"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """
    What is known of an address.

    Attributes:
        hostname: The EHLO name that it uses.
        names: What it is called (PTR); None when DNS failed.
        forward: Addresses of each of these names, and of the EHLO name; None when DNS failed.
        listings: Answer of each blocklist; None when DNS failed.
    """

    address: str
    hostname: str
    names: Reply = ()
    forward: Mapping[str, Reply] = field(default_factory=dict)
    listings: Mapping[str, Reply] = field(default_factory=dict)


def list_name(address: str, zone: str) -> str:
    """
    Name the record under which a blocklist holds an address (RFC 5782 §2.1, §2.4).

    Raises:
        ValueError: It is no IP address.
    """
    reverse = ipaddress.ip_address(address).reverse_pointer
    return f"{reverse.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone.strip('.')}"


def may_be_listed(address: str) -> bool:
    """Tell whether it makes sense to ask blocklists: nobody else ever sees a private address."""
    found = ipaddress.ip_address(address)
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
    return not (
        found.is_loopback or found.is_link_local or found.is_unspecified or any(found in ipaddress.ip_network(one) for one in private)
    )


def examine(facts: SourceFacts) -> list[Check]:
    """Make every check of an address."""
    return [_reverse(facts), _ehlo(facts), *_listings(facts)]


def _reverse(facts: SourceFacts) -> Check:
    if facts.names is None:
        return Check(id="source_ptr", status=CheckStatus.UNKNOWN, detail=f"DNS does not answer about the name of {facts.address}")
    wanted = facts.hostname if "." in facts.hostname else "its EHLO name"
    if not facts.names:
        advice = f"ask whoever gave you the address to publish a PTR record that names {wanted}"
        return Check(id="source_ptr", status=CheckStatus.FAILED, detail=f"{facts.address} has no name (PTR)", advice=advice, is_broken=True)
    if any(_leads_back(facts, name) for name in facts.names):
        return Check(id="source_ptr", status=CheckStatus.OK, detail=f"{facts.address} is {facts.names[0]}, which leads back to it")
    if any(facts.forward.get(name) is None for name in facts.names):
        return Check(id="source_ptr", status=CheckStatus.UNKNOWN, detail=f"DNS does not answer about {facts.names[0]}")
    advice = f"publish an address record {facts.names[0]} {'AAAA' if ':' in facts.address else 'A'} {facts.address}"
    detail = f"{facts.address} is called {facts.names[0]}, but that name does not lead back to it"
    return Check(id="source_ptr", status=CheckStatus.FAILED, detail=detail, advice=advice, is_broken=True)


def _ehlo(facts: SourceFacts) -> Check:
    if "." not in facts.hostname:
        return Check(
            id="source_ehlo", status=CheckStatus.FAILED, detail=f"{facts.hostname or 'nothing'} is no full host name",
            advice="set egress.hostname to the name that the address has in DNS",
        )  # fmt: skip
    if facts.forward.get(facts.hostname) is None:
        return Check(id="source_ehlo", status=CheckStatus.UNKNOWN, detail=f"DNS does not answer about {facts.hostname}")
    if _leads_back(facts, facts.hostname):
        return Check(id="source_ehlo", status=CheckStatus.OK, detail=f"the EHLO name {facts.hostname} is {facts.address}")
    advice = f"publish an address record {facts.hostname} {'AAAA' if ':' in facts.address else 'A'} {facts.address}"
    detail = f"the EHLO name {facts.hostname} does not lead to {facts.address}"
    return Check(id="source_ehlo", status=CheckStatus.WARNING, detail=detail, advice=advice)


def _leads_back(facts: SourceFacts, name: str) -> bool:
    address = ipaddress.ip_address(facts.address)
    return any(ipaddress.ip_address(one) == address for one in facts.forward.get(name) or ())


def _listings(facts: SourceFacts) -> Iterator[Check]:
    if not facts.listings:
        detail = "no blocklist is asked" if may_be_listed(facts.address) else f"{facts.address} is private: others see another one"
        yield Check(id="source_listing", status=CheckStatus.NOT_APPLICABLE, detail=detail)
        return
    listed = [zone for zone, reply in facts.listings.items() if _is_listing(reply)]
    useless = [zone for zone, reply in facts.listings.items() if not _is_answer(reply)]
    if listed:
        codes = ", ".join(f"{zone} ({', '.join(sorted(facts.listings[zone] or ())[:3])})" for zone in listed)
        yield Check(
            id="source_listing", status=CheckStatus.FAILED, detail=f"{facts.address} is on {codes}", is_broken=True,
            advice=f"find out why at the list's own page, stop it, then ask for removal; until then send from another address: {listed[0]}",
        )  # fmt: skip
    elif len(useless) == len(facts.listings):
        advice = "ask by a resolver of your own: lists refuse those that many share (dns.server)"
        yield Check(id="source_listing", status=CheckStatus.UNKNOWN, detail=f"no list answers: {', '.join(useless)}", advice=advice)
    else:
        asked = [zone for zone in facts.listings if zone not in useless]
        more = f"; {', '.join(useless)} did not answer" if useless else ""
        yield Check(id="source_listing", status=CheckStatus.OK, detail=f"{facts.address} is not on {', '.join(asked)}{more}")


def _is_answer(reply: Reply) -> bool:
    """Tell whether a blocklist answered at all."""
    if reply is None:
        return False
    found = [ipaddress.ip_address(one) for one in reply]
    return all(one in _LISTS and not any(one in refusal for refusal in _REFUSALS) for one in found)


def _is_listing(reply: Reply) -> bool:
    return bool(reply) and _is_answer(reply)
