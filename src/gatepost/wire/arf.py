"""
Complaints: the part of a feedback report that programs read.

Arrives: the text of a `message/feedback-report` part. Leaves: its fields as a frozen value.
Standards: RFC 5965 §3 (fields), §7.3 (types), RFC 6591 §3 (auth-failure), RFC 6692 (source port), draft types as written.
Not here: whom it is about (feedback.complaints), what is done about it.
Bugs: none known.
"""

import re
from dataclasses import dataclass, field

KNOWN_TYPES = frozenset(
    {"abuse", "fraud", "virus", "other", "not-spam", "opt-out", "opt-out-list", "auth-failure", "miscategorized", "dkim"}
)
"""RFC 5965 §7.3 and the IANA registry; `miscategorized` and `dkim` come from drafts that were in use."""

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60}) ?:(.*)")
_MAX_LINES = 1_000
_MAX_VALUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackReport:
    """
    The fields of one complaint.

    Attributes:
        feedback_type: Lower-case; `abuse` where none is said, which is what the report is then.
        recipients: Original-Rcpt-To, without angle brackets (RFC 5965 §3.2 allows several).
        removal: Removal-Recipient of opt-outs.
        auth_failure: What failed: adsp, bodyhash, revoked, signature, spf, dmarc (RFC 6591 §3.3).
        fields: Every value of every field, names in lower case.
    """

    feedback_type: str
    recipients: tuple[str, ...] = ()
    removal: tuple[str, ...] = ()
    mail_from: str = ""
    source_ip: str = ""
    reported_domains: tuple[str, ...] = ()
    user_agent: str = ""
    arrival: str = ""
    auth_failure: str = ""
    incidents: int = 1
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_feedback_report(text: str) -> FeedbackReport:
    """
    Read a feedback report; lines that are no fields are skipped, and nothing raises.

    Args:
        text: Lines ended by LF.
    """
    found: dict[str, list[str]] = {}
    last: list[str] | None = None
    for line in text.split("\n", _MAX_LINES)[:_MAX_LINES]:
        if not line.strip():
            last = None
        elif line[0] in " \t" and last:
            last[-1] = (last[-1] + " " + line.strip())[:4_000]
        elif match := _FIELD.match(line.strip()):
            last = found.setdefault(match[1].lower(), [])
            if len(last) < _MAX_VALUES:
                last.append(match[2].strip()[:4_000])
    return _report(found)


def _report(found: dict[str, list[str]]) -> FeedbackReport:
    def one(*names: str) -> str:
        return next((found[name][0] for name in names if found.get(name)), "")

    kind = one("feedback-type").lower().partition(";")[0].strip()
    incidents = one("incidents")
    return FeedbackReport(
        feedback_type=kind or "abuse",
        recipients=_addresses(found.get("original-rcpt-to", [])),
        removal=_addresses(found.get("removal-recipient", [])),
        mail_from=_address(one("original-mail-from")),
        source_ip=one("source-ip", "source").partition(" ")[0].strip("[]"),
        reported_domains=tuple(value.lower() for value in found.get("reported-domain", [])),
        user_agent=one("user-agent"),
        arrival=one("arrival-date", "received-date"),
        auth_failure=one("auth-failure").lower(),
        incidents=int(incidents) if incidents.isascii() and incidents.isdigit() and len(incidents) < 10 else 1,
        fields={name: tuple(values) for name, values in found.items()},
    )


def _addresses(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for value in values for part in value.split(",") if "@" in (address := _address(part))))


def _address(value: str) -> str:
    return value.rpartition(";")[2].strip().strip("<>").strip()[:320]
