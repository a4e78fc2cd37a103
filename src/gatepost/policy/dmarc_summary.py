"""
What DMARC reports come to: for each source, what passed, what did not, why, and what mends it.

Arrives: aggregate reports on a domain. Leaves: a summary for each source address and header domain, largest trouble first.
Standards: RFC 7489 §3.1 and RFC 9989 (alignment), RFC 7208 §2.6 and RFC 6376 §3.9 (results).
Not here: reading reports (wire.dmarc_report), which addresses are ours (an argument).
Bugs: what is aligned is told by names that end alike, since the receiver's own verdict already counts the rest.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gatepost.wire.dmarc_report import AggregateReport, DkimResult, ReportRecord, SpfResult

_FORWARDED = frozenset({"forwarded", "trusted_forwarder", "mailing_list", "local_policy"})
_MAX_ADVICE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """
    One cause of failures and what mends it.

    Attributes:
        code: Stable, snake_case.
        problem: One sentence.
        fix: What to do; empty where nothing is to be done.
    """

    code: str
    messages: int
    problem: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSummary:
    """
    Mail of one address in the name of one domain.

    Attributes:
        passed: Messages with DMARC pass: aligned DKIM, aligned SPF, or both.
        dispositions: Messages by what receivers did: none, quarantine, reject.
        is_ours: The address is one of those that were given as ours.
    """

    source_ip: str
    header_from: str
    messages: int
    passed: int
    dkim_aligned: int
    spf_aligned: int
    dispositions: dict[str, int]
    reporters: tuple[str, ...]
    is_ours: bool
    advice: tuple[Advice, ...]

    @property
    def failed(self) -> int:
        """Messages that DMARC does not vouch for."""
        return self.messages - self.passed


def summarise_reports(reports: Iterable[AggregateReport], our_addresses: Collection[str] = ()) -> tuple[SourceSummary, ...]:
    """
    Sum reports up by source, those with most failures first.

    Args:
        our_addresses: Addresses that mail is sent from on purpose, as text.
    """
    groups: dict[tuple[str, str], list[tuple[ReportRecord, AggregateReport]]] = {}
    for report in reports:
        for record in report.records:
            groups.setdefault((record.source_ip, record.header_from or report.policy.domain), []).append((record, report))
    found = [_summary(ip, domain, rows, ip in our_addresses) for (ip, domain), rows in groups.items()]
    return tuple(sorted(found, key=lambda one: (-one.failed, -one.messages, one.source_ip)))


def _summary(ip: str, domain: str, rows: list[tuple[ReportRecord, AggregateReport]], is_ours: bool) -> SourceSummary:  # noqa: FBT001
    dispositions: Counter[str] = Counter()
    causes: Counter[tuple[str, str, str]] = Counter()
    for record, report in rows:
        dispositions[record.disposition or "none"] += record.count
        for cause in _causes(record, domain, report, is_ours=is_ours):
            causes[cause] += record.count
    return SourceSummary(
        source_ip=ip,
        header_from=domain,
        messages=sum(record.count for record, _ in rows),
        passed=sum(record.count for record, _ in rows if record.dkim_aligned or record.spf_aligned),
        dkim_aligned=sum(record.count for record, _ in rows if record.dkim_aligned),
        spf_aligned=sum(record.count for record, _ in rows if record.spf_aligned),
        dispositions=dict(dispositions),
        reporters=tuple(dict.fromkeys(report.org_name for _, report in rows))[:20],
        is_ours=is_ours,
        advice=tuple(
            Advice(code=code, messages=count, problem=problem, fix=fix) for (code, problem, fix), count in causes.most_common(_MAX_ADVICE)
        ),
    )


def _causes(record: ReportRecord, domain: str, report: AggregateReport, *, is_ours: bool) -> list[tuple[str, str, str]]:
    if record.dkim_aligned and record.spf_aligned:
        return []
    if record.dkim_aligned:
        return [_spf_only(record, domain)]
    if any(kind in _FORWARDED for kind, _ in record.overrides):
        how = next(kind for kind, _ in record.overrides if kind in _FORWARDED).replace("_", " ")
        return [("forwarded", f"Receivers say that this mail came by way of others ({how}), which broke its proof.", "")]
    out = [*_dkim_causes(record, domain)]
    if not record.spf_aligned:
        out += _spf_causes(record, domain)
        if not is_ours and _is_foreign(record, domain):
            out = [_stranger(record, domain, report)]
    return out


def _dkim_causes(record: ReportRecord, domain: str) -> list[tuple[str, str, str]]:
    own = [one for one in record.dkim if _belongs(one.domain, domain)]
    if own:
        return [_own_signature(own[0], domain)]
    others = [one for one in record.dkim if one.result == "pass"]
    if others:
        name = others[0].domain
        fix = f"Let this sender sign with d={domain}: publish the selector that it gives you in {domain}."
        return [("dkim_not_aligned", f"It is signed, but in the name of {name}, not of {domain}.", fix)]
    if any(one.result and one.result != "none" for one in record.dkim):
        return [
            (
                "dkim_foreign_failed",
                f"It carries only signatures of other domains, and they fail; none is in the name of {domain}.",
                f"Let this sender sign with d={domain}.",
            )
        ]
    return [
        ("dkim_missing", "It carries no DKIM signature.", f"Send this mail through the gateway, or let this sender sign with d={domain}.")
    ]


def _own_signature(one: DkimResult, domain: str) -> tuple[str, str, str]:
    record = f"{one.selector or 'SELECTOR'}._domainkey.{one.domain}"
    if one.result in {"permerror", "temperror", "neutral"}:
        return (
            "dkim_key",
            f"The key for its signature could not be used ({one.result}).",
            f"Check the TXT record {record}: it must be there, whole, and hold the public key that belongs to the signing key.",
        )
    if one.result == "pass":
        return (
            "dkim_strict",
            f"It is signed as {one.domain}, but {domain} asks for the very same name.",
            f"Sign with d={domain}, or publish adkim=r.",
        )
    return (
        "dkim_broken",
        f"Its signature in the name of {one.domain} fails: the mail was changed after it was signed, or the key does not belong to it.",
        f"Compare the TXT record {record} with the signing key; if it is right, find what changes mail on its way.",
    )


def _spf_causes(record: ReportRecord, domain: str) -> list[tuple[str, str, str]]:
    found = record.spf[0] if record.spf else SpfResult(record.envelope_from, "none")
    name = found.domain or record.envelope_from or domain
    if not _belongs(name, domain):
        return [
            (
                "spf_not_aligned",
                f"Its return path is at {name}, which SPF proves nothing with for {domain}.",
                f"Use a return path under {domain}, such as bounce.{domain}.",
            )
        ]
    if found.result == "pass":
        return [
            (
                "spf_strict",
                f"SPF passes for {name}, but {domain} asks for the very same name.",
                f"Use a return path at {domain} itself, or publish aspf=r.",
            )
        ]
    if found.result in {"permerror", "temperror"}:
        return [
            (
                "spf_record",
                f"The SPF record of {name} could not be used ({found.result}).",
                f"Mend the record of {name}: one record only, at most ten names to look up, no faults in its words.",
            )
        ]
    if found.result in {"none", ""}:
        return [("spf_missing", f"{name} has no SPF record.", f"Publish one at {name} that names {record.source_ip}.")]
    mechanism = "ip6" if ":" in record.source_ip else "ip4"
    return [
        (
            "spf_unlisted",
            f"The SPF record of {name} does not name {record.source_ip} ({found.result}).",
            f"If it sends for you, add {mechanism}:{record.source_ip} to the record of {name}; if not, it forwards or forges.",
        )
    ]


def _spf_only(record: ReportRecord, domain: str) -> tuple[str, str, str]:
    code, problem, fix = _spf_causes(record, domain)[0]
    if code in {"spf_unlisted", "spf_not_aligned"}:
        return (
            "forwarded_or_unlisted",
            f"DKIM vouches for it; SPF does not: {problem[0].lower()}{problem[1:]}",
            "Nothing has to be done: this is what forwarding looks like. " + fix,
        )
    return code, problem, fix


def _stranger(record: ReportRecord, domain: str, report: AggregateReport) -> tuple[str, str, str]:
    weak = report.policy.p.lower() in {"", "none"}
    fix = f"If you know this sender, let it sign with d={domain} and use a return path there. If not, it uses your name without leave"
    return (
        "unknown_sender",
        f"Nothing in it is yours but the name {domain}: it is neither signed for it nor sent with its return path.",
        fix
        + (
            f": once your own mail passes, publish p=quarantine or p=reject, which {domain} does not yet."
            if weak
            else "; receivers are told to refuse it."
        ),
    )


def _is_foreign(record: ReportRecord, domain: str) -> bool:
    names = [one.domain for one in record.dkim] + [one.domain for one in record.spf] + [record.envelope_from]
    return not any(_belongs(name, domain) for name in names if name)


def _belongs(name: str, domain: str) -> bool:
    name, domain = name.rstrip("."), domain.rstrip(".")
    return bool(name) and (name == domain or name.endswith("." + domain) or (domain.endswith("." + name) and "." in name))
