"""
How grave a category is for an address: what the suppression list is told.

Arrives: a category. Leaves: its severity. One table, so that delivery and what comes back later agree.
Not here: choosing the category (policy.classify), acting on it (suppressions).
"""

from enum import StrEnum

from gatepost.domain.outcome import Category


class Severity(StrEnum):
    """What a category says about the recipient's address."""

    HARD = "hard"
    """The address is gone: suppress it now."""
    SOFT = "soft"
    """It may work again: count."""
    BLOCK = "block"
    """Our sending is the problem: never suppress the recipient."""
    COMPLAINT = "complaint"
    """The person does not want this mail: suppress the address."""
    INFO = "info"
    """Nothing to do."""


SEVERITY: dict[Category, Severity] = {
    Category.INVALID_RECIPIENT: Severity.HARD,
    Category.INVALID_DOMAIN: Severity.HARD,
    Category.MAILBOX_INACTIVE: Severity.SOFT,
    Category.MAILBOX_FULL: Severity.SOFT,
    Category.MESSAGE_TOO_LARGE: Severity.SOFT,
    Category.SPAM_CONTENT: Severity.BLOCK,
    Category.CONTENT_REJECTED: Severity.BLOCK,
    Category.MALWARE: Severity.BLOCK,
    Category.REPUTATION_BLOCK: Severity.BLOCK,
    Category.AUTH_FAILURE: Severity.BLOCK,
    Category.POLICY_REJECTED: Severity.BLOCK,
    Category.RELAY_DENIED: Severity.BLOCK,
    Category.RATE_LIMITED: Severity.SOFT,
    Category.NETWORK: Severity.SOFT,
    Category.EXPIRED: Severity.SOFT,
    Category.REMOTE_SYSTEM: Severity.SOFT,
    Category.SUPPRESSED: Severity.HARD,
    Category.AUTO_REPLY: Severity.INFO,
    Category.CHALLENGE: Severity.INFO,
    Category.COMPLAINT: Severity.COMPLAINT,
    Category.DELIVERED: Severity.INFO,
    Category.UNDETERMINED: Severity.SOFT,
}
"""One severity for each category; of one message all recipients of a category have the same."""
