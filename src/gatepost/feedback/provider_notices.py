"""
Notices that a provider mails as JSON: Amazon SES through SNS.

Arrives: a letter. Leaves: a report; None where there is no such notice in it.
Source: Amazon SES Developer Guide, "Amazon SNS notification contents" (bounce types and subtypes, complaint feedback types).
Not here: the same JSON over HTTP, where its signature is checked first (hooks).
"""

import json
from typing import Any

from gatepost.domain.feedback import Action, Kind, Report, ReportedRecipient
from gatepost.domain.outcome import Category
from gatepost.domain.severity import Severity
from gatepost.feedback.letter import Letter
from gatepost.policy.classify import Statement, judge
from gatepost.policy.classify_rules import Rules

_SUBTYPE = {
    "NoEmail": Category.INVALID_RECIPIENT, "Suppressed": Category.SUPPRESSED, "OnAccountSuppressionList": Category.SUPPRESSED,
    "MailboxFull": Category.MAILBOX_FULL, "MessageTooLarge": Category.MESSAGE_TOO_LARGE, "ContentRejected": Category.CONTENT_REJECTED,
    "AttachmentRejected": Category.CONTENT_REJECTED,
}  # fmt: skip
_MAX_JSON = 200_000
_MAX_RECIPIENTS = 200


def read_notice(letter: Letter, rules: Rules | None) -> Report | None:
    """Read a notice; None where the letter holds none."""
    for part in letter.mail.parts:
        text = part.text or part.raw[:_MAX_JSON].decode("utf-8", "replace")
        if '"notificationType"' in text or '\\"notificationType\\"' in text or '"eventType"' in text or '\\"eventType\\"' in text:
            found = _object(text)
            report = report_of(found, rules) if found else None
            if report is not None:
                return report
    return None


def _object(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0 or text.count("{") > 5_000 or text.count("[") > 5_000 or _depth(text) > 30:
        return None
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text[start : start + _MAX_JSON])
        inner = found.get("Message") if isinstance(found, dict) else None
        if isinstance(inner, str) and inner.lstrip().startswith("{") and _depth(inner) <= 30:
            found = json.loads(inner[:_MAX_JSON], strict=False)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text[:_MAX_JSON]:
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def report_of(found: dict[str, Any], rules: Rules | None) -> Report | None:
    """Read a notice that was decoded; None where it tells of no bounce, complaint or delivery."""
    kind = found.get("notificationType") or found.get("eventType")
    mail = _table(found, "mail")
    message_id = str(_table(mail, "commonHeaders").get("messageId") or mail.get("messageId") or "").strip(" <>")[:998]
    if kind == "Bounce":
        table = _table(found, "bounce")
        recipients = tuple(_bounced(table, one, rules) for one in _tables(table, "bouncedRecipients"))
        return Report(kind=Kind.BOUNCE, recipients=recipients, reporter=str(table.get("reportingMTA", ""))[:200], message_id=message_id)
    if kind == "Complaint":
        table = _table(found, "complaint")
        what = str(table.get("complaintFeedbackType") or "abuse")[:40]
        addresses = [str(one.get("emailAddress", ""))[:320] for one in _tables(table, "complainedRecipients")]
        said = {"not-spam": Severity.INFO, "auth-failure": Severity.INFO, "virus": Severity.BLOCK}.get(what)
        recipients = tuple(
            ReportedRecipient(address=one, category=Category.COMPLAINT, rule=f"ses.complaint.{what}", severity_said=said)
            for one in addresses
        )
        return Report(
            kind=Kind.COMPLAINT,
            recipients=recipients,
            feedback_type=what,
            reporter=str(table.get("userAgent", ""))[:200],
            message_id=message_id,
        )
    if kind == "Delivery":
        table = _table(found, "delivery")
        names = table.get("recipients")
        delivered = [str(one)[:320] for one in names[:_MAX_RECIPIENTS]] if isinstance(names, list) else []
        recipients = tuple(
            ReportedRecipient(address=one, category=Category.DELIVERED, rule="ses.delivery", action=Action.DELIVERED) for one in delivered
        )
        return Report(kind=Kind.DELIVERED, recipients=recipients, reporter=str(table.get("reportingMTA", ""))[:200], message_id=message_id)
    return None


def _bounced(table: dict[str, Any], one: dict[str, Any], rules: Rules | None) -> ReportedRecipient:
    diagnostic, status = str(one.get("diagnosticCode") or "")[:4_000], str(one.get("status") or "")[:20]
    found = judge([Statement(text=diagnostic, status=status)], rules)
    kind, subtype = str(table.get("bounceType") or ""), str(table.get("bounceSubType") or "")
    category, rule = found.category, found.rule
    if subtype in _SUBTYPE and (category is Category.UNDETERMINED or _SUBTYPE[subtype] is Category.SUPPRESSED):
        category, rule = _SUBTYPE[subtype], f"ses.{subtype}"
    elif category is Category.UNDETERMINED and kind == "Permanent":
        category, rule = Category.INVALID_RECIPIENT, "ses.Permanent"
    action = Action.DELAYED if one.get("action") == "delayed" else Action.FAILED
    return ReportedRecipient(
        address=str(one.get("emailAddress", ""))[:320], category=category, rule=rule, smtp_code=found.smtp_code,
        enhanced_code=found.enhanced_code, action=action, detail=diagnostic[:1_000],
    )  # fmt: skip


def _table(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _tables(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = found.get(name)
    return [one for one in value[:_MAX_RECIPIENTS] if isinstance(one, dict)] if isinstance(value, list) else []
