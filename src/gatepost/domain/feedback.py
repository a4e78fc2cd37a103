"""
What a mail that came back says: bounce, complaint, automatic answer.

Leaves the readers in `feedback`. Nothing here is believed: a report is words of a stranger until its return path or
report address, which carries our own token, says which message it is about (THREATS 42).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from gatepost.domain.outcome import Category
from gatepost.domain.severity import SEVERITY, Severity


class Kind(StrEnum):
    """What sort of mail it is."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    CHALLENGE = "challenge"
    DELIVERED = "delivered"
    OTHER = "other"


class Action(StrEnum):
    """What was done with a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRecipient:
    """
    One recipient of the report.

    Attributes:
        address: As the report names it; empty where it names none.
        original_address: The one that was sent to, where the report says it is another.
        rule: Id of the rule that found the category.
        detail: What the other side said, at most 1,000 characters.
        severity_said: Set where the report says more than its category does, such as not-spam.
    """

    address: str
    category: Category
    rule: str
    original_address: str = ""
    smtp_code: int | None = None
    enhanced_code: str | None = None
    action: Action = Action.NONE
    detail: str = field(default="", repr=False)
    remote_host: str = ""
    severity_said: Severity | None = None

    @property
    def severity(self) -> Severity:
        """How grave it is for the address."""
        return self.severity_said or SEVERITY[self.category]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    A mail that came back, read.

    Attributes:
        feedback_type: Of a complaint: abuse, fraud, virus, not-spam, opt-out, auth-failure, other.
        reporter: The host or program that wrote it.
        message_id: Message-ID of the mail that it is about, without angle brackets; empty where it is not there.
        envelope_id: ENVID that the sender gave (RFC 3461 §4.4).
        source_ip: Where that mail came from, as a complaint says.
        returned_fields: Header of the mail that it is about, as far as it came back.
    """

    kind: Kind
    recipients: tuple[ReportedRecipient, ...] = ()
    feedback_type: str = ""
    reporter: str = ""
    message_id: str = ""
    envelope_id: str = ""
    source_ip: str = ""
    returned_fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
