"""
What TLS has to fulfil on the way to a domain's hosts.

Arrives: a domain, one of its mail hosts, what the message asks for. Leaves: a `HostPolicy`, or why nothing may be sent to that host; and
for a connection that is open already, whether it may carry a message.
DANE goes before MTA-STS, MTA-STS before what is opportunistic; a message that requires TLS asks for a verified certificate in any case.
A lookup of TLSA records that fails rules a host out for now: nothing is sent in plain text because DNS was broken (RFC 7672 §2.1.2).
What is known of a domain is kept for some minutes, so that a message on an open connection costs one look into a dictionary.
Standards: RFC 7672, RFC 8461 §2, §4, §5, RFC 8689.
Not here: chains and records (wire.dane), policies (mta_sts), connecting (courier).
Bugs: a smarthost's TLSA records are not looked at.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from gatepost.clock import Clock, iso
from gatepost.egress.courier import Batch
from gatepost.egress.smtp.mta_sts import MtaSts, StsFinding
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.net.dns import Addresses, MxAnswer, MxHosts, NoMx, PolicyResolver, ResolverFailed, TlsaRecords
from gatepost.wire import dane
from gatepost.wire.dane import Tlsa
from gatepost.wire.mta_sts import KeptPolicy, Mode
from gatepost.wire.smtp_client import TlsLevel
from gatepost.wire.tls_report import PolicyKind, ReportedFailure, ReportedPolicy, TlsFailure

KNOWN_S: Final = 300.0
"""How long what is known of a domain is not asked for again."""
_KNOWN_DOMAINS: Final = 20_000


class Check(Enum):
    """What a certificate is checked against."""

    NOTHING = "nothing"
    AUTHORITIES = "authorities"
    """The authorities that are trusted, and the host's name."""
    TLSA = "tlsa"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """
    What TLS has to fulfil at one host.

    Attributes:
        name: As attempts tell it: `opportunistic`, `required`, `dane`, `sts:enforce`, `sts:testing`.
        server_name: The name asked for in TLS (SNI), which a certificate is checked for.
        names: Further names that count under DANE.
        reported: Under which policy its sessions are counted.
    """

    name: str
    level: TlsLevel
    check: Check
    server_name: str
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    reported: ReportedPolicy | None = None

    @property
    def tries(self) -> tuple[tuple[TlsLevel, Check], ...]:
        """How to connect, one after the other while TLS fails: what is not demanded ends in plain text (RFC 7435 §3)."""
        if self.level is not TlsLevel.MAY:
            return ((self.level, self.check),)
        checked = ((TlsLevel.MAY, self.check),) if self.check is not Check.NOTHING else ()
        return (*checked, (TlsLevel.MAY, Check.NOTHING), (TlsLevel.NEVER, Check.NOTHING))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRefused:
    """
    Nothing may be sent to this host now.

    Attributes:
        is_resolver_failure: DNS did not say what the host has to fulfil.
    """

    name: str
    detail: str
    is_resolver_failure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """
    What a connection has shown when it was opened.

    Attributes:
        is_verified: Its certificate came from an authority that is trusted, and was for this host.
        is_dane: It was authenticated by TLSA records.
        was_asked_for_dane: The host's TLSA records were looked for, and what they demand was fulfilled.
    """

    host: str
    is_encrypted: bool = False
    is_verified: bool = False
    is_dane: bool = False
    was_asked_for_dane: bool = False
    offers_requiretls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPolicy:
    """
    What is known of a domain.

    Attributes:
        hosts: Its mail hosts; None where DNS did not say.
        is_secure: DNSSEC vouches for them.
        sts: The MTA-STS policy that holds, `enforce` or `testing`.
        until: By the monotonic clock, how long it is not asked for again.
    """

    domain: str
    hosts: frozenset[str] | None = None
    is_secure: bool = False
    sts: KeptPolicy | None = None
    until: float = 0.0

    @property
    def is_enforced(self) -> bool:
        """True where the MTA-STS policy is more than a test."""
        return self.sts is not None and self.sts.policy.mode is Mode.ENFORCE

    def asks_nothing(self, batch: Batch) -> bool:
        """Tell whether any connection to the site will do."""
        return batch.ignores_tls_policy or not (self.is_secure or self.is_enforced or batch.requires_tls)

    def is_met(self, proof: Proof, batch: Batch) -> bool:
        """Tell whether an open connection fulfils what is asked here; it may have been opened for another domain."""
        if self.asks_nothing(batch):
            return True
        if self.hosts is not None and proof.host not in self.hosts:
            return False
        is_authentic = proof.is_verified or proof.is_dane
        if batch.requires_tls and not (is_authentic and (proof.offers_requiretls or not batch.needs_requiretls)):
            return False
        if self.is_secure and not proof.was_asked_for_dane:
            return False
        is_theirs = self.sts is not None and proof.is_verified and self.sts.policy.allows(proof.host)
        return proof.is_dane or not self.is_enforced or is_theirs

    def name_for(self, proof: Proof, batch: Batch) -> str:
        """Name the policy that a message fulfils over an open connection."""
        if batch.ignores_tls_policy:
            return "opportunistic"
        if proof.is_dane and self.is_secure:
            return "dane"
        if self.sts is not None:
            return f"sts:{self.sts.policy.mode.value}"
        return "required" if batch.requires_tls else "opportunistic"

    def unmet(self, name: str | None, domain: str) -> str:
        """Say that no host fulfils a policy, and which policy that is."""
        if name == "dane":
            return f"no mail host of {domain} can be authenticated by its TLSA records"
        if self.sts is not None and name != "required":
            fetched = iso(self.sts.fetched_at)
            return f"no mail host of {domain} fulfils its MTA-STS policy (fetched {fetched}, {self.sts.policy.mode.value})"
        return f"no mail host of {domain} has the verified TLS that the message requires"


NO_POLICY: Final = DomainPolicy(domain="")
"""What is known where nothing is asked of anybody: on the way to a relay."""


def bare_policy(host: str, reported: ReportedPolicy | None = None) -> HostPolicy:
    """Return the policy that asks for nothing."""
    return HostPolicy(name="opportunistic", level=TlsLevel.MAY, check=Check.NOTHING, server_name=host, reported=reported)


def required(policy: HostPolicy) -> HostPolicy:
    """Demand a certificate that is verified, as a message does that requires TLS."""
    return replace(policy, name="required", level=TlsLevel.MUST, check=Check.AUTHORITIES)


class TlsPolicies:
    """Knows what domains ask for; one for all connections of a process."""

    def __init__(
        self, *, resolver: PolicyResolver, clock: Clock, port: int, sts: MtaSts | None, results: TlsResults, uses_dane: bool = True
    ) -> None:
        """
        Start knowing nothing.

        Args:
            port: Port of mail hosts: TLSA records are for a port.
            sts: None does not heed MTA-STS.
        """
        self._resolver = resolver
        self._clock = clock
        self._port = port
        self._sts = sts
        self._results = results
        self._uses_dane = uses_dane
        self._known: OrderedDict[str, DomainPolicy] = OrderedDict()

    def known(self, domain: str) -> DomainPolicy | None:
        """Return what is known of a domain, while it is fresh."""
        found = self._known.get(domain)
        return found if found is not None and found.until > self._clock.monotonic() else None

    async def learn(self, domain: str, *, is_fresh: bool = False) -> DomainPolicy:
        """
        Find out what a domain asks for. Total.

        Args:
            is_fresh: Look for a new MTA-STS policy even where DNS's answer is known.
        """
        answer, finding = await self._resolver.mx(domain), StsFinding()  # mostly known already: it was asked for the domain's site
        if self._sts is not None and _is_hostname(domain):
            finding = await self._sts.find(domain, is_fresh=is_fresh)
        if finding.trouble is not None:
            policy = ReportedPolicy(domain=domain, kind=PolicyKind.STS)
            self._results.note(policy, ReportedFailure(result=TlsFailure(finding.trouble.value), detail=finding.detail))
        known = _domain_policy(domain, answer, finding.kept, uses_dane=self._uses_dane)
        if not isinstance(answer, ResolverFailed):
            known = replace(known, until=self._until(finding.kept))
            self._known[domain] = known
            self._known.move_to_end(domain)
            if len(self._known) > _KNOWN_DOMAINS:
                self._known.popitem(last=False)
        return known

    async def for_host(self, domain: DomainPolicy, host: str, batch: Batch) -> HostPolicy | HostRefused:
        """Say what TLS has to fulfil at one of a domain's mail hosts. Total."""
        free = bare_policy(host, ReportedPolicy(domain=domain.domain, kind=PolicyKind.NONE))
        if batch.ignores_tls_policy:
            return free
        if domain.is_secure:
            found = await self._by_dane(domain, host)
            if isinstance(found, HostRefused) or (found is not None and found.check is Check.TLSA):
                return found
            if found is not None:  # no record can be used: encrypted in any case, and what else is asked for besides (RFC 7672 §2.2)
                free = replace(found, check=Check.NOTHING)
        if domain.sts is not None:
            return self._by_sts(domain, domain.sts, host, free, batch)
        return required(free) if batch.requires_tls else free

    def _by_sts(self, domain: DomainPolicy, sts: KeptPolicy, host: str, free: HostPolicy, batch: Batch) -> HostPolicy | HostRefused:
        name = f"sts:{sts.policy.mode.value}"
        reported = _reported_sts(sts)
        is_named = sts.policy.allows(host)
        if not is_named:
            self._results.note(
                reported, ReportedFailure(result=TlsFailure.VALIDATION, host=host, detail="the policy does not name this host")
            )
        if domain.is_enforced and not is_named:
            return HostRefused(name=name, detail=f"{host} is not among the hosts that the policy names")
        must = domain.is_enforced or batch.requires_tls or free.level is TlsLevel.MUST
        check = Check.AUTHORITIES if is_named or batch.requires_tls else Check.NOTHING
        return replace(free, name=name, level=TlsLevel.MUST if must else TlsLevel.MAY, check=check, reported=reported if is_named else None)

    async def _by_dane(self, domain: DomainPolicy, host: str) -> HostPolicy | HostRefused | None:
        """Look for TLSA records of a host (RFC 7672 §2.2); None where there are none that count."""
        answer = await self._resolver.addresses(host)
        if not isinstance(answer, Addresses):
            return None
        for base in await self._bases(host, answer):
            found = await self._resolver.tlsa(base, self._port)
            if isinstance(found, ResolverFailed):
                policy = ReportedPolicy(domain=domain.domain, kind=PolicyKind.TLSA, hosts=(host,))
                self._results.note(policy, ReportedFailure(result=TlsFailure.DNSSEC_INVALID, host=host, detail=found.detail))
                detail = f"DNS did not answer about the TLSA records of {host}: {found.detail}"
                return HostRefused(name="dane", detail=detail, is_resolver_failure=True)
            if isinstance(found, TlsaRecords):
                return self._dane_policy(domain, host, base, found.records)
        return None

    async def _bases(self, host: str, answer: Addresses) -> list[str]:
        """List the names under which TLSA records of a host may stand (RFC 7672 §2.2.2): where an alias leads to, then the alias."""
        if answer.is_secure:
            return [answer.name, host] if answer.name else [host]
        return [host] if answer.name and await self._resolver.is_secure_alias(host) else []

    def _dane_policy(self, domain: DomainPolicy, host: str, base: str, records: tuple[Tlsa, ...]) -> HostPolicy:
        usable = dane.usable(records)
        reported = ReportedPolicy(domain=domain.domain, kind=PolicyKind.TLSA, text=tuple(map(str, records)), hosts=(host,))
        if not usable:
            self._results.note(reported, ReportedFailure(result=TlsFailure.TLSA_INVALID, host=host, detail="no record can be used"))
        return HostPolicy(
            name="dane",
            level=TlsLevel.MUST,
            check=Check.TLSA if usable else Check.NOTHING,
            server_name=base,
            tlsa=usable,
            names=tuple(dict.fromkeys([base, host, domain.domain])),
            reported=reported,
        )

    def _until(self, kept: KeptPolicy | None) -> float:
        seconds = KNOWN_S
        if kept is not None:
            seconds = min(seconds, max((kept.expires_at - self._clock.now()) / 1000, 0.0))
        return self._clock.monotonic() + seconds


def _domain_policy(domain: str, answer: MxAnswer, kept: KeptPolicy | None, *, uses_dane: bool) -> DomainPolicy:
    names: frozenset[str] | None
    match answer:
        case MxHosts(hosts=hosts, is_secure=is_secure):
            names, is_signed = frozenset(host for _, host in hosts), is_secure
        case NoMx(is_secure=is_secure):  # its own address is meant
            names, is_signed = frozenset({domain}), is_secure
        case _:
            names, is_signed = None, False
    sts = kept if kept is not None and kept.policy.mode is not Mode.NONE else None
    return DomainPolicy(domain=domain, hosts=names, is_secure=is_signed and uses_dane, sts=sts)


def _reported_sts(kept: KeptPolicy) -> ReportedPolicy:
    policy = kept.policy
    lines = ["version: STSv1", f"mode: {policy.mode.value}", *[f"mx: {host}" for host in policy.hosts], f"max_age: {policy.max_age_s}"]
    return ReportedPolicy(domain=kept.domain, kind=PolicyKind.STS, text=tuple(lines), hosts=policy.hosts)


def _is_hostname(domain: str) -> bool:
    return "." in domain and not domain.startswith("[")
