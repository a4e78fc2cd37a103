"""
TLS reports of others: what senders met when they wanted to speak TLS to us.

Arrives: JSON, plain or packed as gzip. Leaves: a `TlsReport`.
Standards: RFC 8460 §4.4 (schema), §4.3 (result types), §5.1 (gzip).
Bounded in size and depth; fields that are missing or of another type are left empty, since reports in the wild lack some.
Not here: writing one (tls_report), what failures mean (policy.tls_report_summary).
"""

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Final

from gatepost.wire.unpacking import MAX_UNPACKED, Unreadable, unpack

_MAX_POLICIES: Final = 1_000
_MAX_FAILURES: Final = 5_000
_MAX_LINES: Final = 100
_MAX_DEPTH: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReportFailure:
    """Sessions that failed alike; `result_type` as RFC 8460 §4.3 names it, or as the reporter does."""

    result_type: str
    count: int
    sending_ip: str = ""
    receiving_host: str = ""
    receiving_ip: str = ""
    receiving_helo: str = ""
    information: str = ""
    reason_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReportPolicy:
    """What was counted under one policy; `policy_type` is tlsa, sts or no-policy-found."""

    policy_type: str
    domain: str
    text: tuple[str, ...]
    hosts: tuple[str, ...]
    successful: int
    failed: int
    failures: tuple[TlsReportFailure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReport:
    """One report; `begins_s` and `ends_s` are seconds since 1970, 0 where they cannot be read."""

    organization: str
    contact: str
    report_id: str
    begins_s: int
    ends_s: int
    policies: tuple[TlsReportPolicy, ...]


def parse_tls_report(content: bytes, *, max_bytes: int = MAX_UNPACKED) -> TlsReport:
    """
    Read a report, packed or not.

    Raises:
        Unreadable: It is broken, too large, nested too deep, or no TLS report.
    """
    found = _object(unpack(content, max_bytes=max_bytes))
    policies = found.get("policies")
    if not isinstance(policies, list):
        raise Unreadable("not a TLS report: it has no list of policies")
    span = _table(found, "date-range")
    return TlsReport(
        organization=_text(found, "organization-name"),
        contact=_text(found, "contact-info"),
        report_id=_text(found, "report-id"),
        begins_s=_moment(_text(span, "start-datetime")),
        ends_s=_moment(_text(span, "end-datetime")),
        policies=tuple(_policy(one) for one in policies[:_MAX_POLICIES] if isinstance(one, dict)),
    )


def _object(content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8-sig", "replace")
    if _depth(text) > _MAX_DEPTH:
        raise Unreadable("the report is nested too deep")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the report is no JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("not a TLS report")
    return found


def _depth(text: str) -> int:
    """Count how deep brackets nest; those within texts count too, which only makes it stricter."""
    depth = deepest = 0
    for character in text:
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def _policy(one: dict[str, Any]) -> TlsReportPolicy:
    policy, summary = _table(one, "policy"), _table(one, "summary")
    failures = one.get("failure-details")
    listed = failures[:_MAX_FAILURES] if isinstance(failures, list) else []
    hosts = policy.get("mx-host")
    return TlsReportPolicy(
        policy_type=_text(policy, "policy-type"),
        domain=_text(policy, "policy-domain").lower(),
        text=_texts(policy.get("policy-string")),
        hosts=(hosts.lower(),) if isinstance(hosts, str) else _texts(hosts),
        successful=_count(summary, "total-successful-session-count"),
        failed=_count(summary, "total-failure-session-count"),
        failures=tuple(_failure(failure) for failure in listed if isinstance(failure, dict)),
    )


def _failure(one: dict[str, Any]) -> TlsReportFailure:
    return TlsReportFailure(
        result_type=_text(one, "result-type").lower(),
        count=_count(one, "failed-session-count"),
        sending_ip=_text(one, "sending-mta-ip"),
        receiving_host=_text(one, "receiving-mx-hostname").lower(),
        receiving_ip=_text(one, "receiving-ip"),
        receiving_helo=_text(one, "receiving-mx-helo"),
        information=_text(one, "additional-information"),
        reason_code=_text(one, "failure-reason-code"),
    )


def _table(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return value[:1_000] if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one[:1_000] for one in value[:_MAX_LINES] if isinstance(one, str)) if isinstance(value, list) else ()


def _count(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    return max(0, min(value, 10**12)) if isinstance(value, int) and not isinstance(value, bool) else 0


def _moment(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return 0
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()))
