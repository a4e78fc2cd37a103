"""
Any mail that came back, read: the door to this package.

Arrives: the bytes of a mail, however broken. Leaves: a `Report`; it never raises, and what it cannot read is `other`.
Order: complaint, provider notice, delivery status, automatic answer, challenge, bounce in words, other. Fields that
programs write come before words; a mail that is none of these is nobody's failure.
Not here: whether the report may be believed, and what it changes.
"""

import logging

from gatepost.domain.feedback import Action, Kind, Report, ReportedRecipient
from gatepost.domain.outcome import Category
from gatepost.feedback.addresses import addresses_in
from gatepost.feedback.bounces import read_bounce
from gatepost.feedback.complaints import read_complaint
from gatepost.feedback.letter import Letter, open_letter
from gatepost.feedback.provider_notices import read_notice
from gatepost.feedback.recognition import is_answer, is_bounce, is_challenge, is_rejection, says_failure_in_subject
from gatepost.mime.parts import read_mail
from gatepost.policy.classify_rules import Rules

_POSITIVE = frozenset({Action.DELIVERED, Action.RELAYED, Action.EXPANDED})
_OTHER_REPORTS = frozenset({"disposition-notification", "tlsrpt"})


def read_report(content: bytes, rules: Rules | None = None) -> Report:
    """
    Say what a mail that came back is, and about whom.

    Args:
        rules: Rules to name reasons with; None takes those of this process.
    """
    try:
        return _read(open_letter(read_mail(content)), rules)
    except Exception as error:  # noqa: BLE001 - strangers write these mails; one that breaks us must not stop the others
        logging.getLogger(__name__).error("a mail could not be read: %s", type(error).__name__)  # noqa: TRY400 - a trace would show the mail
        return Report(kind=Kind.OTHER)


def _read(letter: Letter, rules: Rules | None) -> Report:
    if complaint := read_complaint(letter):
        return complaint
    if notice := read_notice(letter, rules):
        return notice
    if letter.mail.params.get("report-type", "").lower() in _OTHER_REPORTS or any(
        part.content_type == "message/disposition-notification" for part in letter.mail.parts
    ):
        return _bounce(letter, rules) if is_rejection(letter) else Report(kind=Kind.OTHER)
    if letter.has_status_part and letter.mail.content_type.startswith("multipart/"):
        return _bounce(letter, rules)
    bounce = is_bounce(letter)
    if is_challenge(letter) and not letter.statuses and not (bounce and says_failure_in_subject(letter)):
        return _answered(letter, Kind.CHALLENGE, Category.CHALLENGE, "challenge")
    if bounce:
        return _bounce(letter, rules)
    if is_answer(letter):
        return _answered(letter, Kind.AUTO_REPLY, Category.AUTO_REPLY, "auto-reply")
    return Report(kind=Kind.OTHER)


def _bounce(letter: Letter, rules: Rules | None) -> Report:
    recipients = _each_once(read_bounce(letter, rules))
    positive = bool(recipients) and all(one.action in _POSITIVE for one in recipients)
    fields = letter.statuses[0].fields if letter.statuses else {}
    return Report(
        kind=Kind.DELIVERED if positive else Kind.BOUNCE,
        recipients=recipients,
        reporter=fields.get("reporting-mta", "").rpartition(";")[2].strip()[:200],
        message_id=(letter.returned_first("message-id") or fields.get("x-original-message-id", "")).strip(" <>")[:998],
        envelope_id=fields.get("original-envelope-id", "")[:200],
        returned_fields=letter.returned,
    )


def _each_once(found: list[ReportedRecipient]) -> tuple[ReportedRecipient, ...]:
    out: dict[str, ReportedRecipient] = {}
    for one in found:
        out.setdefault(one.address.lower(), one)
    if len(out) > 1:
        out.pop("", None)
    return tuple(out.values())


def _answered(letter: Letter, kind: Kind, category: Category, rule: str) -> Report:
    """The one who answers is the recipient of the mail that was answered."""
    sender = next((one for name in ("from", "reply-to", "return-path") for one in addresses_in(letter.mail.first(name)[:2_000])), "")
    recipient = ReportedRecipient(address=sender, category=category, rule=rule)
    answered = letter.mail.first("in-reply-to").strip(" <>")[:998]
    return Report(kind=kind, recipients=(recipient,), message_id=answered, returned_fields=letter.returned)
