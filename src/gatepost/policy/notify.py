"""
Whether a sender is told by mail what became of a recipient.

Arrives: what the sender asked for (NOTIFY), where the message came from, what happened. Leaves: the action to tell, or None.
Standards: RFC 3461 §4.1 (NOTIFY), §5.2 (who tells when the next system does or does not), RFC 3464 §2.3.3.
Not here: composing (mime.dsn_compose); the null sender, which is never told anything (bounce_messages).
"""

from collections.abc import Collection
from dataclasses import dataclass

from gatepost.clock import Instant
from gatepost.domain.message import Source
from gatepost.domain.notice import Action
from gatepost.domain.recipient import Status

_NEVER = "NEVER"
_FAILURES = frozenset({Status.BOUNCED, Status.EXPIRED, Status.SUPPRESSED})
"""What was accepted and will not be delivered; who is suppressed already at the door is refused there."""
_SUCCESSES = frozenset({Status.SENT, Status.DELIVERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyRules:
    """
    What the operator decided.

    Attributes:
        default: Doors whose mail gets a report of failure when it does not say what it wants.
        delay_ms: A delay is told once mail is late by so much.
    """

    default: Collection[str]
    delay_ms: int

    def may_tell(self, status: Status, notify: str | None, source: str) -> bool:
        """
        Tell quickly whether a report is worth a thought; most mail needs none.

        Args:
            source: Empty when it is not known here.
        """
        if notify is None:
            return status in _FAILURES and (not source or source in self.default)
        return notify != _NEVER

    def may_ask(self, source: str) -> bool:
        """Tell whether a report may be due for mail that came by a door: it can say NOTIFY there, or gets one without."""
        return source == Source.SMTP.value or source in self.default

    def action(
        self, status: Status, notify: str | None, source: str, *, late_ms: Instant, is_final: bool, is_passed_on: bool
    ) -> Action | None:  # fmt: skip
        """
        Decide what to tell.

        Args:
            late_ms: Time since the message was due first.
            is_final: Whoever took the message is the recipient's own system, and sends no reports itself: the sandbox.
            is_passed_on: The next system took over the duty to report.
        """
        if source == Source.DSN.value:
            return None
        wanted = frozenset((notify or "").split(",")) if notify is not None else self._unasked(source)
        if status in _FAILURES:
            return Action.FAILED if "FAILURE" in wanted else None
        if status in _SUCCESSES and "SUCCESS" in wanted and not is_passed_on:
            return Action.DELIVERED if is_final else Action.RELAYED
        if status is Status.DEFERRED and "DELAY" in wanted and late_ms >= self.delay_ms:
            return Action.DELAYED
        return None

    def _unasked(self, source: str) -> frozenset[str]:
        return frozenset({"FAILURE"}) if source in self.default else frozenset()
