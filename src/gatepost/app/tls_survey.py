"""
What TLS would have to fulfil on the way to a domain: the same questions that a delivery asks, for a person to read.

Arrives: a domain. Leaves: its MTA-STS policy, each mail host with what it has to fulfil, one sentence. Nothing is connected to but DNS and
the policy host; a policy that is fetched is kept, as with a delivery.
"""

from typing import Literal

import msgspec

from gatepost.app.tls import OutgoingTls
from gatepost.clock import Instant, iso
from gatepost.egress.courier import Batch
from gatepost.egress.smtp.mta_sts import StsFinding
from gatepost.egress.smtp.plan import Hosts, Undeliverable, Unresolved, plan_mx
from gatepost.egress.smtp.tls_policy import Check, DomainPolicy, HostPolicy, HostRefused
from gatepost.net.dns import Resolver
from gatepost.wire.smtp_client import TlsLevel

CheckName = Literal["nothing", "authorities", "tlsa"]


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """
    One mail host.

    Attributes:
        policy: As attempts tell it: `opportunistic`, `dane`, `sts:enforce`, `sts:testing`.
        is_tls_required: Nothing is sent in plain text.
        check: What its certificate is checked against; for `sts:testing` a failure is only reported.
        problem: Why nothing would be sent to it.
    """

    host: str
    policy: str
    is_tls_required: bool = False
    check: CheckName = "nothing"
    tlsa: list[str] = msgspec.field(default_factory=list)
    problem: str | None = None


class StsView(msgspec.Struct, frozen=True, kw_only=True):
    """
    A domain's MTA-STS policy.

    Attributes:
        record_id: As DNS announces it now; None without a record.
        trouble: Why the policy that is announced could not be had.
    """

    record_id: str | None
    mode: str | None = None
    hosts: list[str] = msgspec.field(default_factory=list)
    max_age_s: int | None = None
    fetched_at: Instant | None = None
    expires_at: Instant | None = None
    trouble: str | None = None


class TlsSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """
    What would happen.

    Attributes:
        is_secure: DNSSEC vouches for the mail hosts.
        problem: Why there is no mail host.
    """

    domain: str
    summary: str
    is_secure: bool
    mta_sts: StsView | None
    hosts: list[HostView]
    problem: str | None = None


async def survey(tls: OutgoingTls, resolver: Resolver, domain: str) -> TlsSurvey:
    """Ask what a domain asks of those who send to it. Total."""
    finding = await tls.sts.find(domain, is_fresh=True)
    known = await tls.policies.learn(domain)
    plan = plan_mx(domain, await resolver.mx(domain), lambda _: None)
    match plan:
        case Hosts(names=names):
            hosts, problem = [await _host(tls, known, name) for name in names], None
        case Undeliverable(detail=detail) | Unresolved(detail=detail):
            hosts, problem = [], detail
    return TlsSurvey(
        domain=domain, summary=_summary(domain, known, hosts, problem), is_secure=known.is_secure, mta_sts=_sts(finding), hosts=hosts,
        problem=problem,
    )  # fmt: skip


async def _host(tls: OutgoingTls, known: DomainPolicy, host: str) -> HostView:
    nothing = Batch(
        message_id="", route="mx", site=known.domain, domain=known.domain, envelope_from="", recipients=(), content=b""
    )  # fmt: skip
    policy = await tls.policies.for_host(known, host, nothing)
    match policy:
        case HostRefused(name=name, detail=detail):
            return HostView(host=host, policy=name, is_tls_required=True, problem=detail)
        case HostPolicy():
            check: CheckName = policy.check.value
            is_required = policy.level is TlsLevel.MUST
            return HostView(host=host, policy=policy.name, is_tls_required=is_required, check=check, tlsa=[str(one) for one in policy.tlsa])


def _sts(finding: StsFinding) -> StsView | None:
    if finding.kept is None:
        return None if finding.record_id is None else StsView(record_id=finding.record_id, trouble=finding.detail or None)
    kept = finding.kept
    return StsView(
        record_id=finding.record_id, mode=kept.policy.mode.value, hosts=list(kept.policy.hosts), max_age_s=kept.policy.max_age_s,
        fetched_at=kept.fetched_at, expires_at=kept.expires_at, trouble=finding.detail or None,
    )  # fmt: skip


def _summary(domain: str, known: DomainPolicy, hosts: list[HostView], problem: str | None) -> str:
    if problem is not None:
        return f"nothing can be sent to {domain}: {problem}"
    usable = [host for host in hosts if host.problem is None]
    if not usable:
        return f"mail to {domain} waits: {hosts[0].problem}"
    if any(host.policy == "dane" and host.check == Check.TLSA.value for host in usable):
        return f"mail to {domain} goes only over TLS that its TLSA records vouch for (DANE)"
    if known.is_enforced and known.sts is not None:
        return f"mail to {domain} goes only over verified TLS, by its MTA-STS policy of {iso(known.sts.fetched_at)}"
    if known.sts is not None:
        return f"mail to {domain} goes over TLS where it can; its MTA-STS policy is being tested"
    return f"mail to {domain} goes over TLS where it is offered; nothing demands it"
