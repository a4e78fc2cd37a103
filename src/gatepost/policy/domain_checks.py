"""
What is right and wrong with the DNS of a sender's domain.

Arrives: what DNS says (`DomainFacts`). Leaves: one check for each thing that receivers look at, with evidence and advice. Pure.
A check whose question DNS did not answer is unknown, never failed: trouble of a resolver is no trouble of the domain.
Standards: RFC 6376, RFC 8463 (DKIM), RFC 7208 (SPF), RFC 9989 (DMARC), RFC 7505 (null MX), RFC 8461 (MTA-STS), RFC 8460 (TLS-RPT).
Not here: asking (tenants.domain_health), source addresses (source_checks), providers' rules (compliance).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatepost.clock import DAY, Instant
from gatepost.domain.health import Check, CheckStatus
from gatepost.wire import mta_sts, spf
from gatepost.wire.dmarc import Discovery, is_aligned
from gatepost.wire.questions import Reply
from gatepost.wire.spf import SpfResult, Survey, Verdict

_MANY_LOOKUPS: Final = 9
_EXPIRES_SOON: Final = 30 * DAY
_TLS_REPORTS = re.compile(r"v=TLSRPTv1\s*;\s*rua\s*=\s*(?:mailto:[^\s,;]+@[^\s,;]+|https://[^\s,;]+)", re.IGNORECASE)

OK, WARNING, FAILED, UNKNOWN, ABSENT = (
    CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.UNKNOWN, CheckStatus.NOT_APPLICABLE
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """
    One DKIM key of ours.

    Attributes:
        status: `published`, `missing`, `different` (another key stands there) or `unknown`.
    """

    selector: str
    algorithm: str
    status: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFacts:
    """
    What is known of a domain.

    Attributes:
        keys: The keys that sign; or, while none does, those that wait for their records.
        senders: What SPF says of each address that our mail comes from.
        has_direct_road: Mail goes straight to recipients' servers, from addresses of ours.
        has_relay_road: Mail goes by a relay.
        relay_includes: The SPF record that a relay asks its customers to include, by the relay's name.
        takes_reports: Whether each other domain wants the DMARC reports that are sent to it; None when DNS failed.
        envelope_domain: Domain of the reverse-path of our mail from this domain.
        envelope_organization: Its organizational domain.
        mx: Hosts as `10 mx.example.net`; None when DNS failed.
        has_address: It has an address of its own, which counts as an MX.
        sts_policy: What `mta-sts.NAME` serves, where it was asked; `sts_trouble` says why there is none.
        expires_at: When its registration ends; None when nobody knows.
    """

    name: str
    now: Instant
    keys: tuple[KeyFacts, ...] = ()
    spf: Survey
    senders: Mapping[str, Verdict] = field(default_factory=dict)
    has_direct_road: bool = True
    has_relay_road: bool = False
    relay_includes: Mapping[str, str] = field(default_factory=dict)
    dmarc: Discovery
    takes_reports: Mapping[str, bool | None] = field(default_factory=dict)
    envelope_domain: str
    envelope_organization: str
    mx: Reply = ()
    has_address: bool = False
    sts: Reply = ()
    sts_policy: mta_sts.Policy | None = None
    sts_trouble: str = ""
    tls_reports: Reply = ()
    expires_at: Instant | None = None


def examine(facts: DomainFacts) -> list[Check]:
    """Make every check."""
    found = [_dkim(facts), *_spf(facts), *_dmarc(facts), _alignment(facts), _mx(facts), _sts(facts), _tls_reports(facts)]
    return [*found, _registration(facts)] if facts.expires_at is not None else found


def _dkim(facts: DomainFacts) -> Check:
    def check(status: CheckStatus, detail: str, advice: str = "", *, is_broken: bool = False) -> Check:
        return Check(id="dkim", status=status, detail=detail, advice=advice, is_broken=is_broken)

    if not facts.keys:
        return check(FAILED, "no key signs for this domain", f"make new ones: gatepost domain rotate {facts.name}")
    bad = [key for key in facts.keys if key.status in {"missing", "different"}]
    shown = ", ".join(f"{key.selector} {key.status}" for key in facts.keys)
    advice = "publish our keys as TXT records at " + ", ".join(key.name for key in bad) if bad else ""
    if bad and any(key.algorithm.startswith("rsa") for key in bad):
        return check(FAILED, f"receivers find no key for our signatures: {shown}", advice, is_broken=True)
    if any(key.status == "unknown" for key in facts.keys):
        return check(UNKNOWN, f"DNS does not answer: {shown}")
    if bad:
        return check(WARNING, f"one of two signatures cannot be verified: {shown}", advice)
    return check(OK, f"the records are ours: {shown}")


def _spf(facts: DomainFacts) -> Iterator[Check]:
    found = facts.spf
    if found.result is SpfResult.TEMPERROR:
        yield Check(id="spf", status=UNKNOWN, detail=found.problem)
        return
    if found.result is SpfResult.NONE:
        yield Check(
            id="spf", status=FAILED, detail="there is no SPF record",
            advice=f"publish a TXT record at {facts.name} that begins with v=spf1; the domain's page proposes one",
        )  # fmt: skip
        return
    if found.result is SpfResult.PERMERROR:
        yield Check(id="spf", status=FAILED, detail=found.problem, advice="receivers treat it as no record: mend it", is_broken=True)
        return
    yield _spf_ending(found)
    yield _spf_cost(found)
    yield _spf_senders(facts)


def _spf_ending(found: Survey) -> Check:
    if found.ending == "pass":
        return Check(
            id="spf", status=FAILED, detail="it ends with +all: anybody may send in this name", advice="end it with ~all", is_broken=True
        )
    if found.ending in {"", "neutral"}:
        return Check(id="spf", status=WARNING, detail="it says nothing about other senders", advice="end it with ~all")
    return Check(id="spf", status=OK, detail=f"one record, which ends with {'-all' if found.ending == 'fail' else '~all'}")


def _spf_cost(found: Survey) -> Check:
    detail = f"{found.lookups} of {spf.LOOKUPS} lookups, {found.voids} of {spf.VOID_LOOKUPS} without an answer"
    if found.lookups > spf.LOOKUPS or found.voids > spf.VOID_LOOKUPS:
        advice = "receivers stop there with an error: take out includes of senders that are not used any more"
        return Check(id="spf_lookups", status=FAILED, detail=detail, advice=advice, is_broken=True)
    if found.lookups >= _MANY_LOOKUPS:
        return Check(id="spf_lookups", status=WARNING, detail=detail, advice="one more include can break it")
    return Check(id="spf_lookups", status=OK, detail=detail)


def _spf_senders(facts: DomainFacts) -> Check:
    """Is our own mail within the record: the addresses that we send from, and the relays whose records are known?"""
    refused = [address for address, verdict in facts.senders.items() if verdict.result not in {SpfResult.PASS, SpfResult.TEMPERROR}]
    outside = {relay: name for relay, name in facts.relay_includes.items() if name not in facts.spf.includes}
    if refused or outside:
        told = [f"{address} gets {facts.senders[address].result}" for address in refused]
        told += [f"{name}, which mail by the relay {relay} needs, is not included" for relay, name in outside.items()]
        wanted = [f"ip{6 if ':' in address else 4}:{address}" for address in refused] + [f"include:{name}" for name in outside.values()]
        return Check(
            id="spf_senders", status=FAILED, detail="; ".join(told), advice=f"add to the record: {' '.join(dict.fromkeys(wanted))}"
        )
    if not facts.senders and not facts.relay_includes:
        return _unknown_senders(facts)
    if any(verdict.result is SpfResult.TEMPERROR for verdict in facts.senders.values()):
        return Check(id="spf_senders", status=UNKNOWN, detail="DNS does not answer")
    return Check(id="spf_senders", status=OK, detail=f"passes for {', '.join([*facts.senders, *facts.relay_includes])}")


def _unknown_senders(facts: DomainFacts) -> Check:
    if facts.has_direct_road:
        advice = "set watch.addresses to the public addresses that mail leaves from"
        return Check(id="spf_senders", status=UNKNOWN, detail="it is not known here from which addresses mail leaves", advice=advice)
    if facts.has_relay_road:
        advice = "ask the relay's provider whether its SPF record is to be included"
        return Check(id="spf_senders", status=UNKNOWN, detail="it is not known here from which addresses the relay sends", advice=advice)
    return Check(id="spf_senders", status=ABSENT, detail="mail goes to the sandbox: nothing leaves")


def _dmarc(facts: DomainFacts) -> Iterator[Check]:
    found = facts.dmarc
    if found.is_failed:
        yield Check(id="dmarc", status=UNKNOWN, detail=found.problem)
        return
    if found.record is None:
        advice = f"publish a TXT record at _dmarc.{facts.name}: v=DMARC1; p=none; rua=mailto:an-address-of-yours"
        detail = found.problem or "there is no DMARC record"
        yield Check(id="dmarc", status=FAILED, detail=detail, advice=advice, is_broken=bool(found.problem))
        return
    where = f"the record stands at _dmarc.{found.found_at}"
    if found.problem:
        yield Check(id="dmarc", status=FAILED, detail=f"{found.problem}; {where}", advice="mend the domain's own record", is_broken=True)
    elif found.record.troubles:
        yield Check(id="dmarc", status=WARNING, detail=f"{where}, but: {'; '.join(found.record.troubles)}", advice="mend the record")
    else:
        yield Check(id="dmarc", status=OK, detail=where)
    yield _dmarc_policy(found)
    yield _dmarc_reports(facts)


def _dmarc_policy(found: Discovery) -> Check:
    assert found.record is not None
    if found.record.is_testing:
        return Check(id="dmarc_policy", status=WARNING, detail=f"p={found.policy}, but receivers are asked not to act on it")
    if found.policy == "none":
        advice = "when the reports show no mail of yours that fails, ask for p=quarantine, later p=reject"
        return Check(
            id="dmarc_policy", status=WARNING, detail="p=none: others may send in this name, and it is only counted", advice=advice
        )
    return Check(id="dmarc_policy", status=OK, detail=f"p={found.policy}")


def _dmarc_reports(facts: DomainFacts) -> Check:
    record = facts.dmarc.record
    assert record is not None
    if not record.report_domains:
        advice = "add rua=mailto:an-address-of-yours, or nobody will tell you of failures"
        return Check(id="dmarc_reports", status=WARNING, detail="nobody gets reports", advice=advice)
    refusing = [name for name, takes in facts.takes_reports.items() if takes is False]
    if refusing:
        wanted = f"{facts.dmarc.found_at}._report._dmarc.{refusing[0]}"
        detail = f"reports go to {', '.join(refusing)}, which does not say that it takes them"
        return Check(id="dmarc_reports", status=WARNING, detail=detail, advice=f"it has to publish a TXT record at {wanted}: v=DMARC1;")
    return Check(id="dmarc_reports", status=OK, detail=f"reports go to {', '.join(record.report_domains)}")


def _alignment(facts: DomainFacts) -> Check:
    """
    Does mail from this domain pass DMARC?

    Our signatures name the domain itself, which is aligned however strict its record is; the envelope may not be.
    """
    record = facts.dmarc.record
    is_strict = record.is_spf_strict if record is not None else False
    envelope_is = is_aligned(facts.name, facts.envelope_domain, facts.dmarc.organization, facts.envelope_organization, is_strict=is_strict)
    passes_spf = bool(facts.senders) and all(verdict.result is SpfResult.PASS for verdict in facts.senders.values())
    by_dkim = any(key.status == "published" for key in facts.keys)
    by_spf = envelope_is and passes_spf
    told = f"DKIM signs as {facts.name}" if by_dkim else "no DKIM key of ours is published"
    told += f"; the envelope's domain {facts.envelope_domain} is {'' if envelope_is else 'not '}aligned"
    told += "" if not envelope_is or not facts.senders else f" and {'passes' if passes_spf else 'does not pass'} SPF"
    if by_dkim:
        return Check(id="dmarc_alignment", status=OK, detail=told)
    if by_spf:
        return Check(id="dmarc_alignment", status=WARNING, detail=told, advice="publish the DKIM keys: forwarded mail fails without them")
    if any(key.status == "unknown" for key in facts.keys) or (envelope_is and not facts.senders):
        return Check(id="dmarc_alignment", status=UNKNOWN, detail=told)
    policy = facts.dmarc.policy
    told += f"; receivers will {policy} this mail (p={policy})" if policy in {"quarantine", "reject"} else ""
    return Check(id="dmarc_alignment", status=FAILED, detail=told, advice="publish the DKIM keys of this domain")


def _mx(facts: DomainFacts) -> Check:
    if facts.mx is None:
        return Check(id="mx", status=UNKNOWN, detail="DNS does not answer about its mail hosts")
    hosts = [host.split()[-1] for host in facts.mx]
    if hosts in ([], ["."]):
        if not hosts and facts.has_address:
            return Check(id="mx", status=WARNING, detail="it has no MX: its own address takes its mail", advice="publish an MX record")
        detail = "it says that it takes no mail (null MX)" if hosts else "no host takes its mail"
        advice = "receivers distrust senders that nobody can answer: publish an MX record"
        return Check(id="mx", status=FAILED, detail=detail, advice=advice)
    return Check(id="mx", status=OK, detail=f"mail comes in at {', '.join(sorted(hosts)[:3])}")


def _sts(facts: DomainFacts) -> Check:
    if facts.sts is None:
        return Check(id="mta_sts", status=UNKNOWN, detail="DNS does not answer")
    if mta_sts.find_record(facts.sts) is not None:
        return _sts_policy(facts)
    if any(text.lower().startswith("v=stsv1") for text in facts.sts):
        advice = f"mend the TXT record at _mta-sts.{facts.name}: v=STSv1; id=…"
        return Check(id="mta_sts", status=WARNING, detail="the MTA-STS record is malformed, or there are several", advice=advice)
    return Check(id="mta_sts", status=ABSENT, detail="not published; it protects mail that comes in")


def _sts_policy(facts: DomainFacts) -> Check:
    """Say what the policy behind a record is worth: one that nobody can fetch protects nothing, one that names other hosts stops mail."""
    told, policy = "senders are asked to use TLS (MTA-STS)", facts.sts_policy
    if facts.sts_trouble:
        advice = f"serve https://mta-sts.{facts.name}/.well-known/mta-sts.txt with a valid certificate, or take the TXT record away"
        return Check(id="mta_sts", status=WARNING, detail=f"its policy cannot be fetched: {facts.sts_trouble}", advice=advice)
    if policy is None:
        return Check(id="mta_sts", status=OK, detail=told)
    if policy.mode is mta_sts.Mode.NONE:
        return Check(id="mta_sts", status=OK, detail="its MTA-STS policy asks nothing of senders (mode: none)")
    missing = sorted(host for one in facts.mx or () if not policy.allows(host := one.split()[-1].rstrip(".")))
    if missing:
        effect = "gets no mail from senders who heed it" if policy.mode is mta_sts.Mode.ENFORCE else "would get none, were it enforced"
        advice = f"name every mail host in the policy, and give the TXT record at _mta-sts.{facts.name} a new id"
        detail = f"its policy does not name {', '.join(missing[:3])}, which {effect}"
        return Check(id="mta_sts", status=WARNING, detail=detail, advice=advice)
    return Check(id="mta_sts", status=OK, detail=f"{told}; mode: {policy.mode.value}")


def _tls_reports(facts: DomainFacts) -> Check:
    if facts.tls_reports is None:
        return Check(id="tls_rpt", status=UNKNOWN, detail="DNS does not answer")
    found = [text for text in facts.tls_reports if text.lower().startswith("v=tlsrptv1")]
    if not found:
        return Check(id="tls_rpt", status=ABSENT, detail="not published; reports would tell of failures of TLS")
    if len(found) > 1 or not _TLS_REPORTS.match(found[0]):
        advice = f"mend the TXT record at _smtp._tls.{facts.name}: v=TLSRPTv1; rua=mailto:…"
        return Check(id="tls_rpt", status=WARNING, detail="the TLS reporting record is malformed, or there are several", advice=advice)
    return Check(id="tls_rpt", status=OK, detail="failures of TLS are reported")


def _registration(facts: DomainFacts) -> Check:
    assert facts.expires_at is not None
    days = (facts.expires_at - facts.now) // DAY
    if facts.expires_at <= facts.now:
        return Check(id="registration", status=FAILED, detail="the domain's registration has ended", advice="renew it", is_broken=True)
    if facts.expires_at - facts.now < _EXPIRES_SOON:
        return Check(id="registration", status=WARNING, detail=f"the domain's registration ends in {days} days", advice="renew it")
    return Check(id="registration", status=OK, detail=f"the domain is registered for {days} more days")
