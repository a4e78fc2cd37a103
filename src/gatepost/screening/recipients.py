"""
Recipients' domains: do they take mail, are they a slip of the finger, a mailbox that is thrown away, a task?

Arrives: recipients with their places. Leaves: findings.
Standards: RFC 5321 §5.1 (MX, and the address where there is none), RFC 7505 (null MX).
DNS is asked about each domain of a message at once, for a second in all and a bounded number at a time in the process; who
does not answer, or says that it failed, refuses nothing.
Not here: how strict a tenant is (screener), the cache (net.dns).
"""

import asyncio
from collections.abc import Mapping, Sequence

from gatepost.domain.address import Address
from gatepost.domain.errors import Fault
from gatepost.domain.message import Draft, Submission
from gatepost.domain.screening import Finding, Policy, Strictness
from gatepost.net.dns import Addresses, MxHosts, NoAddresses, NoDomain, NoMx, NullMx, Resolver
from gatepost.policy.recipients import is_disposable, is_role
from gatepost.policy.typos import meant

Place = tuple[str, Address]


def places_of(draft: Draft, submission: Submission | None) -> list[Place]:
    """Return each recipient with its place: a pointer into the fields, or the name of SMTP's command."""
    if submission is None:
        return [("RCPT TO", recipient.address) for recipient in draft.recipients]
    fields = (("/to", submission.to), ("/cc", submission.cc), ("/bcc", submission.bcc))
    return [(f"{name}/{n}", box.address) for name, boxes in fields for n, box in enumerate(boxes)]


def examine(places: Sequence[Place], policy: Policy, disposable: frozenset[str]) -> list[Finding]:
    """Find what the addresses alone tell."""
    looks_at_typos = policy.typos is not Strictness.OFF
    looks_at_disposable = policy.disposable is not Strictness.OFF
    looks_at_roles = policy.roles is not Strictness.OFF
    found: list[Finding] = []
    for place, address in places:
        if looks_at_typos and (hint := meant(address.domain)) is not None:
            found.append(
                Finding("typos", Fault(place, "domain_typo", f"{address.domain}: did you mean {hint}?", f"{address.local}@{hint}"))
            )
        if looks_at_disposable and is_disposable(address.domain, disposable):
            found.append(Finding("disposable", Fault(place, "disposable_domain", f"{address.domain} gives out mailboxes to throw away")))
        if looks_at_roles and is_role(address.local):
            found.append(Finding("roles", Fault(place, "role_address", f"{address.local}@ is a task, not a person")))
    return found


class DomainCheck:
    """Asks DNS whether domains take mail."""

    def __init__(self, resolver: Resolver, *, timeout_s: float, concurrency: int) -> None:
        """
        Ask nothing yet.

        Args:
            timeout_s: For all questions about one message.
        """
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(concurrency)

    async def examine(self, places: Sequence[Place]) -> list[Finding]:
        """Find the recipients whose domain takes no mail."""
        domains = {address.domain for _, address in places}
        tasks = {domain: asyncio.ensure_future(self._trouble(domain)) for domain in domains}
        _, late = await asyncio.wait(tasks.values(), timeout=self._timeout_s)
        for task in late:
            task.cancel()
        troubles = {domain: task.result() for domain, task in tasks.items() if task not in late}
        return [finding for place, address in places if (finding := _finding(place, address, troubles)) is not None]

    async def _trouble(self, domain: str) -> tuple[str, str] | None:
        """Say why a domain takes no mail; None where it does, or where nobody knows."""
        async with self._places:
            answer = await self._resolver.mx(domain)
            match answer:
                case NullMx():
                    return "null_mx", "says that it takes no mail"
                case NoDomain():
                    return "no_such_domain", "does not exist"
                case NoMx():
                    found = await self._resolver.addresses(domain)
                    return ("no_mail_server", "has no mail server") if isinstance(found, NoAddresses | NoDomain) else None
                case MxHosts(hosts):
                    return await self._unreachable(hosts)
                case _:
                    return None

    async def _unreachable(self, hosts: Sequence[tuple[int, str]]) -> tuple[str, str] | None:
        for _, host in sorted(hosts)[:5]:
            found = await self._resolver.addresses(host)
            if isinstance(found, Addresses) or not isinstance(found, NoAddresses | NoDomain):
                return None
        return ("no_mail_server", "names mail servers that do not exist") if len(hosts) <= 5 else None


def _finding(place: str, address: Address, troubles: Mapping[str, tuple[str, str] | None]) -> Finding | None:
    trouble = troubles.get(address.domain)
    if trouble is None:
        return None
    code, why = trouble
    hint = meant(address.domain)
    detail = f"{address.domain} {why}" + (f": did you mean {hint}?" if hint else "")
    return Finding("recipient_domains", Fault(place, code, detail, f"{address.local}@{hint}" if hint else ""))
