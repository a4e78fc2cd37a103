"""
TLS reports: which domains want them, what is counted, and the report itself.

Arrives: TXT records; counted results. Leaves: where to send reports; the report as JSON.
Standards: RFC 8460 §3 (record), §4 (report), §4.3 (result types).
Not here: counting (egress.smtp.tls_results), keeping (store.tls_reports), sending (upkeep.tls_reports).
Bugs: a report that is longer than its receiver takes is not split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote

import msgspec

_VERSION = re.compile(r"v=TLSRPTv1[ \t]*;[ \t]*")
_RUA = re.compile(r"rua[ \t]*=[ \t]*(.+)")
_MAX_PLACES: Final = 5
_MAX_FAILURES: Final = 1_000


class PolicyKind(StrEnum):
    """Which policy a session had to fulfil (RFC 8460 §4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


class TlsFailure(StrEnum):
    """What went wrong (RFC 8460 §4.3)."""

    NO_STARTTLS = "starttls-not-supported"
    NAME = "certificate-host-mismatch"
    NOT_TRUSTED = "certificate-not-trusted"
    EXPIRED = "certificate-expired"
    VALIDATION = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    STS_FETCH = "sts-policy-fetch-error"
    STS_INVALID = "sts-policy-invalid"
    STS_CERTIFICATE = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPolicy:
    """
    The policy that sessions are counted under.

    Attributes:
        text: The policy, line by line; the TLSA records of a host.
        hosts: The mail hosts that it is about.
    """

    domain: str
    kind: PolicyKind
    text: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFailure:
    """One way in which sessions failed."""

    result: TlsFailure
    host: str = ""
    sender_ip: str = ""
    receiver_ip: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Sessions of one day that ended alike; `failure` is None where they were as the policy asks."""

    day: str
    policy: ReportedPolicy
    failure: ReportedFailure | None
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports."""

    organization: str
    contact: str


def find_places(texts: Sequence[str]) -> tuple[str, ...]:
    """
    Find where a domain wants reports among the TXT records of `_smtp._tls.DOMAIN`: `mailto:` and `https:` URIs.

    Empty where there is not exactly one valid record (RFC 8460 §3).
    """
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) != 1:
        return ()
    for field in records[0].split(";")[1:]:
        found = _RUA.fullmatch(field.strip(" \t"))
        if found:
            places = [one.strip(" \t") for one in found[1].split(",")]
            return tuple(one for one in dict.fromkeys(places) if one.lower().startswith(("mailto:", "https:")))[:_MAX_PLACES]
    return ()


def mail_address(place: str) -> str | None:
    """Return the address in a `mailto:` URI; None for another URI. Options behind `?` are ignored."""
    scheme, _, rest = place.partition(":")
    return unquote(rest.partition("?")[0]) if scheme.lower() == "mailto" else None


def report_id(day: str, domain: str, sender_domain: str) -> str:
    """Return the report's identifier: the same for each try to send it."""
    return f"{day}_{domain}@{sender_domain}"


def file_name(day: str, domain: str, sender_domain: str, starts_s: int) -> str:
    """Return the file name that receivers expect (RFC 8460 §5.1)."""
    return f"{sender_domain}!{domain}!{starts_s}!{starts_s + 86_399}!{day.replace('-', '')}.json.gz"


def build_report(reporter: Reporter, day: str, domain: str, identifier: str, counted: Sequence[Counted]) -> bytes:
    """
    Write a day's report on one domain as JSON (RFC 8460 §4.4).

    Args:
        day: Such as `2026-11-24`; reports cover whole days in UTC.
    """
    by_policy: dict[ReportedPolicy, list[Counted]] = {}
    for one in counted:
        by_policy.setdefault(one.policy, []).append(one)
    report = {
        "organization-name": reporter.organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": reporter.contact,
        "report-id": identifier,
        "policies": [_policy(policy, found) for policy, found in by_policy.items()],
    }
    return msgspec.json.encode(report)


def _policy(policy: ReportedPolicy, counted: Sequence[Counted]) -> dict[str, Any]:
    told: dict[str, Any] = {"policy-type": policy.kind.value, "policy-domain": policy.domain}
    if policy.text:
        told["policy-string"] = policy.text
    if policy.hosts:
        told["mx-host"] = policy.hosts
    failed = [one for one in counted if one.failure is not None]
    summary = {
        "total-successful-session-count": sum(one.sessions for one in counted if one.failure is None),
        "total-failure-session-count": sum(one.sessions for one in failed),
    }
    return {"policy": told, "summary": summary, **({"failure-details": _failures(failed)} if failed else {})}


def _failures(failed: Sequence[Counted]) -> list[dict[str, Any]]:
    found = []
    for one in sorted(failed, key=lambda one: -one.sessions)[:_MAX_FAILURES]:
        failure = one.failure
        if failure is None:
            continue
        told = {
            "result-type": failure.result.value,
            "sending-mta-ip": failure.sender_ip,
            "receiving-mx-hostname": failure.host,
            "receiving-ip": failure.receiver_ip,
            "failed-session-count": one.sessions,
            "additional-information": failure.detail,
        }
        found.append({name: value for name, value in told.items() if value})
    return found
