"""
Mailjet's event API.

Believed: HTTP basic authentication, user:password in `hook.secret`, as in the URL that Mailjet was given; it signs nothing.
Source: https://dev.mailjet.com/email/guides/webhooks/.
"""

from collections.abc import Mapping
from typing import Any, Final

from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import Occurrence, SharedSecretHook, judged, text

_EVENTS: Final[Mapping[str, Said]] = {
    "sent": Said.DELIVERED,
    "bounce": Said.BOUNCED,
    "blocked": Said.BOUNCED,
    "spam": Said.COMPLAINED,
    "open": Said.OPENED,
    "click": Said.CLICKED,
    "unsub": Said.UNSUBSCRIBED,
}
_ERRORS: Final[Mapping[str, Category]] = {
    "user unknown": Category.INVALID_RECIPIENT,
    "mailbox inactive": Category.MAILBOX_INACTIVE,
    "quota exceeded": Category.MAILBOX_FULL,
    "blacklisted": Category.REPUTATION_BLOCK,
    "invalid domain": Category.INVALID_DOMAIN,
    "no mail host": Category.INVALID_DOMAIN,
    "relay/access denied": Category.RELAY_DENIED,
    "greylisted": Category.RATE_LIMITED,
    "sender blocked": Category.REPUTATION_BLOCK,
    "content blocked": Category.SPAM_CONTENT,
    "policy issue": Category.POLICY_REJECTED,
    "system issue": Category.REMOTE_SYSTEM,
    "protocol issue": Category.REMOTE_SYSTEM,
    "connection issue": Category.NETWORK,
    "duplicate in campaign": Category.POLICY_REJECTED,
    "preblocked": Category.SUPPRESSED,
    "spam preblocked": Category.SUPPRESSED,
    "bad or empty template": Category.CONTENT_REJECTED,
    "error in template language": Category.CONTENT_REJECTED,
    "typofix": Category.INVALID_DOMAIN,
}
"""By `error`."""


class MailjetHook(SharedSecretHook):
    """The hook of one account."""

    wanted = "user:password of the endpoint's URL"

    def occurrence(self, found: dict[str, Any]) -> Occurrence | None:
        """Read one event."""
        return _occurrence(found)


def _occurrence(found: dict[str, Any]) -> Occurrence | None:
    kind = text(found, "event", most=40)
    said = _EVENTS.get(kind)
    if said is None:
        return None
    category, rule, reply = None, "", None
    if said is Said.BOUNCED:
        error = text(found, "error", most=60)
        is_hard = found.get("hard_bounce") is True and not error
        own = _ERRORS.get(error.lower(), Category.INVALID_RECIPIENT if is_hard else Category.UNDETERMINED)
        told = judged(text(found, "comment"), otherwise=own, rule=f"mailjet.{error}")
        category, rule, reply = told.category, told.rule, told.reply
        if own is Category.SUPPRESSED:
            category, rule = own, f"mailjet.{error}"
    elif said is Said.COMPLAINED:
        category = Category.COMPLAINT
    message_id, address = text(found, "MessageID", most=100), text(found, "email", most=320)
    return Occurrence(
        event_id=f"{kind}/{message_id}/{address}/{text(found, 'time')}", said=said, provider_ids=(message_id,) if message_id else (),
        address=address, category=category, rule=rule, reply=reply,
        detail={"user_agent": agent} if (agent := text(found, "agent", most=300)) else {},
    )  # fmt: skip
