"""
Resend's webhooks, which Svix sends.

Believed: HMAC-SHA-256 over id, timestamp and body with the endpoint's secret (whsec_…) in `hook.secret`, within five minutes.
Source: https://resend.com/docs/dashboard/webhooks/event-types and https://docs.svix.com/receiving/verifying-payloads/how-manual.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gatepost.domain.outcome import Category
from gatepost.domain.statement import Said
from gatepost.returns.hooks.call import HookCall, NotBelieved, Occurrence, judged, objects_of, table, text
from gatepost.wire import hook_signature

_EVENTS: Final[Mapping[str, Said]] = {
    "email.delivered": Said.DELIVERED,
    "email.delivery_delayed": Said.DEFERRED,
    "email.bounced": Said.BOUNCED,
    "email.failed": Said.BOUNCED,
    "email.suppressed": Said.BOUNCED,
    "email.complained": Said.COMPLAINED,
    "email.opened": Said.OPENED,
    "email.clicked": Said.CLICKED,
}
_SUBTYPES: Final[Mapping[str, Category]] = {
    "NoEmail": Category.INVALID_RECIPIENT,
    "MailboxFull": Category.MAILBOX_FULL,
    "MessageTooLarge": Category.MESSAGE_TOO_LARGE,
    "ContentRejected": Category.CONTENT_REJECTED,
    "AttachmentRejected": Category.CONTENT_REJECTED,
    "Suppressed": Category.SUPPRESSED,
    "OnAccountSuppressionList": Category.SUPPRESSED,
}


class ResendHook:
    """The hook of one endpoint."""

    def __init__(self, secret: str) -> None:
        """
        Args:
            secret: whsec_ and base64.

        Raises:
            ValueError: It is none.
        """
        try:
            hook_signature.headers([secret], "", 0, b"")
        except ValueError:
            secret = ""
        if not secret:
            raise ValueError("hook.secret: give the webhook's signing secret, whsec_ and base64")
        self._secret = secret

    async def verify(self, call: HookCall) -> dict[str, str]:
        """Check the signature; return the call's id, which is the event's."""
        names = ("id", "timestamp", "signature")
        given = {f"webhook-{name}": call.headers.get(f"svix-{name}") or call.headers.get(f"webhook-{name}", "") for name in names}
        try:
            hook_signature.verify([self._secret], given, call.body, call.now_s)
        except hook_signature.WrongSignature as error:
            raise NotBelieved(str(error)) from None
        return {"id": given["webhook-id"][:200]}

    def read(self, body: bytes, details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """Read one event, about one recipient or several."""
        (found,) = objects_of(body)
        kind, data = text(found, "type"), table(found, "data")
        said = _EVENTS.get(kind)
        if said is None:
            return []
        category, rule, reply = None, "", None
        if said in {Said.BOUNCED, Said.DEFERRED}:
            category, rule, reply = _why(kind, data)
        elif said is Said.COMPLAINED:
            category = Category.COMPLAINT
        to, message_id = data.get("to"), text(data, "email_id", most=100)
        addresses = [str(one)[:320] for one in to[:50]] if isinstance(to, list) else [text(data, "to", most=320)]
        return [
            Occurrence(
                event_id=f"{details.get('id', '')}/{address}", said=said, provider_ids=(message_id,) if message_id else (), address=address,
                category=category, rule=rule, reply=reply,
            )
            for address in addresses
        ]  # fmt: skip


def _why(kind: str, data: dict[str, Any]) -> tuple[Category, str, Any]:
    bounce = table(data, "bounce")
    subtype = text(bounce, "subType", most=60)
    words = text(bounce, "message") or text(table(data, "failed"), "reason")
    if kind == "email.suppressed":
        return Category.SUPPRESSED, "resend.suppressed", judged(words).reply
    is_permanent = text(bounce, "type") == "Permanent"
    otherwise = _SUBTYPES.get(subtype, Category.INVALID_RECIPIENT if is_permanent and subtype == "General" else Category.UNDETERMINED)
    told = judged(words, otherwise=otherwise, rule=f"resend.{subtype}")
    if otherwise is Category.SUPPRESSED:
        return otherwise, f"resend.{subtype}", told.reply
    return told.category, told.rule, told.reply
