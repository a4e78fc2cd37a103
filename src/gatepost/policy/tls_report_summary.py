"""
What TLS reports come to: which of our mail hosts senders could not reach with TLS, why, and what mends it.

Arrives: TLS reports. Leaves: a summary for each domain, with the causes by weight.
Standards: RFC 8460 §4.3 (result types), RFC 8461 (MTA-STS), RFC 7672 (DANE).
Not here: reading reports (wire.tls_report_reading).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gatepost.wire.tls_report_reading import TlsReport

_FIXES = {
    "starttls-not-supported": (
        "The host does not offer STARTTLS.",
        "Switch TLS on at {host}, or take it out of the MX records and the policy.",
    ),
    "certificate-host-mismatch": (
        "The certificate is for another name.",
        "Get a certificate for {host}, as the MX record and the policy name it.",
    ),
    "certificate-expired": (
        "The certificate has expired.",
        "Renew the certificate of {host}, and find out why that did not happen by itself.",
    ),
    "certificate-not-trusted": (
        "Senders do not trust the certificate.",
        "Serve {host}'s certificate with its whole chain, from an authority that all know.",
    ),
    "validation-failure": (
        "TLS could not be proved, for a reason that is not named.",
        "Look at {host} with a TLS test; see the reporter's words.",
    ),
    "tlsa-invalid": (
        "No TLSA record fits the certificate.",
        "Publish the TLSA record of the new key of {host} before the certificate changes, and wait for its time to live.",
    ),
    "dnssec-invalid": (
        "The DNSSEC proof of the records is broken.",
        "Mend the signatures or the DS record of {domain}.",
    ),
    "dane-required": (
        "The sender asks for DANE, and there are no usable TLSA records.",
        "Publish TLSA records for {host} in a signed zone.",
    ),
    "sts-policy-fetch-error": (
        "The MTA-STS policy could not be fetched.",
        "Serve https://mta-sts.{domain}/.well-known/mta-sts.txt with a valid certificate, without a redirect.",
    ),
    "sts-policy-invalid": (
        "The MTA-STS policy has faults.",
        "Mend the policy of {domain}: version, mode, mx and max_age, a line each.",
    ),
    "sts-webpki-invalid": (
        "The certificate of the policy's host is not valid.",
        "Renew the certificate of mta-sts.{domain}.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTrouble:
    """Sessions that failed alike at one host."""

    result_type: str
    host: str
    sessions: int
    problem: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSummary:
    """What senders met at one domain."""

    domain: str
    successful: int
    failed: int
    reporters: tuple[str, ...]
    troubles: tuple[TlsTrouble, ...]


def summarise_tls(reports: Iterable[TlsReport]) -> tuple[TlsSummary, ...]:
    """Sum reports up by domain, those with most failures first."""
    totals: dict[str, list[int]] = {}
    reporters: dict[str, dict[str, None]] = {}
    causes: dict[str, Counter[tuple[str, str]]] = {}
    for report in reports:
        for policy in report.policies:
            total = totals.setdefault(policy.domain, [0, 0])
            total[0] += policy.successful
            total[1] += policy.failed
            reporters.setdefault(policy.domain, {})[report.organization] = None
            for failure in policy.failures:
                causes.setdefault(policy.domain, Counter())[failure.result_type, failure.receiving_host] += failure.count
    found = [
        TlsSummary(
            domain=domain,
            successful=total[0],
            failed=total[1],
            reporters=tuple(reporters[domain])[:20],
            troubles=tuple(
                _trouble(domain, result, host, count) for (result, host), count in causes.get(domain, Counter()).most_common(20)
            ),
        )
        for domain, total in totals.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.failed, one.domain)))


def _trouble(domain: str, result: str, host: str, sessions: int) -> TlsTrouble:
    problem, fix = _FIXES.get(result, (f"The sender calls it {result or 'a failure'}.", "Look at {host} with a TLS test."))
    return TlsTrouble(
        result_type=result, host=host, sessions=sessions, problem=problem, fix=fix.format(host=host or "the mail host", domain=domain)
    )
