"""
Complaints: a person, or a person's provider, says that mail was not wanted.

Arrives: a letter. Leaves: its recipients with the category `complaint` and the feedback type; None where it is none.
Standards: RFC 5965 (abuse, fraud, virus, not-spam, opt-out, other), RFC 6591 (auth-failure); Microsoft's JMRP mail, which
has no such part, by the header that JMRP documents.
Only abuse, fraud and opt-out ask for suppression: not-spam takes a complaint back, auth-failure and virus are about us.
Not here: provider hooks; proof that the report is genuine (its address carries our token).
"""

from gatepost.domain.feedback import Kind, Report, ReportedRecipient
from gatepost.domain.outcome import Category
from gatepost.domain.severity import Severity
from gatepost.feedback.addresses import addresses_in
from gatepost.feedback.letter import Letter
from gatepost.mime.parts import Fields, Part, first, read_fields
from gatepost.wire.arf import KNOWN_TYPES, FeedbackReport, parse_feedback_report

_SEVERITY = {"not-spam": Severity.INFO, "auth-failure": Severity.INFO, "dkim": Severity.INFO, "virus": Severity.BLOCK}
_RETURNED_NAMES = ("x-hmxmroriginalrecipient", "x-original-to", "x-rcpt-to", "envelope-to", "x-envelope-to", "delivered-to", "to")
_COMPLAINT_SUBJECT = (
    "complaint about message",
    "abuse report",
    "spam report",
    "feedback report",
    "feedback loop",
    "spam complaint",
    "abuse complaint",
)


def read_complaint(letter: Letter) -> Report | None:
    """Read a complaint; None where the letter is none."""
    part = next((part for part in letter.mail.parts if part.content_type == "message/feedback-report"), None)
    if part is not None:
        return _report(letter, parse_feedback_report(part.text))
    if letter.mail.params.get("report-type", "").lower() == "feedback-report":
        text = next((part.text for part in letter.mail.parts if "feedback-type" in part.text[:5_000].lower()), "")
        return _report(letter, parse_feedback_report(text))
    if _is_provider_complaint(letter):
        return _report(letter, FeedbackReport(feedback_type="abuse"), rule="complaint.jmrp")
    return None


def _is_provider_complaint(letter: Letter) -> bool:
    """Microsoft's JMRP sends the mail itself with X-HmXmrOriginalRecipient in it; others a mail with such a subject and the mail."""
    if first(letter.returned, "x-hmxmroriginalrecipient") or letter.mail.first("x-hmxmroriginalrecipient"):
        return True
    subject = letter.subject.lower()
    has_returned = any(part.is_returned for part in letter.mail.parts)
    return (
        has_returned
        and not letter.statuses
        and not subject.startswith(("re:", "fw:", "fwd:"))
        and any(words in subject for words in _COMPLAINT_SUBJECT)
    )


def _report(letter: Letter, found: FeedbackReport, rule: str = "") -> Report:
    kind = found.feedback_type if found.feedback_type in KNOWN_TYPES else "other"
    addresses = list(found.removal or found.recipients) or _about(letter)
    recipients = tuple(
        ReportedRecipient(
            address=address,
            category=Category.COMPLAINT,
            rule=rule or f"arf.{kind}",
            severity_said=_SEVERITY.get(kind),
            detail=found.user_agent[:200],
        )
        for address in addresses[:100] or [""]
    )
    return Report(
        kind=Kind.COMPLAINT,
        recipients=recipients,
        feedback_type=kind,
        reporter=found.user_agent[:200],
        message_id=letter.returned_first("message-id").strip(" <>")[:998],
        source_ip=found.source_ip[:45],
        returned_fields=letter.returned,
    )


def _about(letter: Letter) -> list[str]:
    """Find whom it is about in the message that came with it, where the reporter left the address in."""
    for fields in (letter.returned, *[_inner(part) for part in letter.mail.parts if part.content_type == "text/plain"]):
        written_to = addresses_in(first(fields, "to")[:4_000])
        if len(written_to) == 1 and not first(fields, _RETURNED_NAMES[0]):
            return written_to  # what we wrote comes before what the way added
        for name in _RETURNED_NAMES:
            if found := addresses_in(first(fields, name)[:4_000]):
                return found
    return []


def _inner(part: Part) -> Fields:
    return read_fields(part.text[:20_000])[0]
