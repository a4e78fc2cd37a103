"""
What a verdict of the SMTP client means for a recipient.

Arrives: a `Verdict` and the facts of the exchange. Leaves: an `Outcome`.
Standards: RFC 5321 §4.2.1 (first digit), §4.5.3.1.10 (552 for too many recipients), RFC 1047 (break after the final dot).
Not here: what becomes of the recipient (settle).
"""

from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Reply, Unknown
from gatepost.policy.classify import classify, stated_severity
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict

_FAILED: dict[Fault, Category] = {
    Fault.TOO_LARGE: Category.MESSAGE_TOO_LARGE,
    Fault.NEEDS_SMTPUTF8: Category.INVALID_RECIPIENT,
    Fault.BAD_ADDRESS: Category.INVALID_RECIPIENT,
    Fault.NO_REQUIRETLS: Category.POLICY_REJECTED,
}
_BEFORE_MAIL = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH})


def outcome_of(verdict: Verdict, exchange: Exchange, *, is_relay: bool) -> Outcome:
    """
    Turn a verdict into an outcome.

    Args:
        is_relay: The host is a smarthost of ours. What it holds against us, and not against the mail, is then a fault
            in our settings: it defers and costs no attempt, where another's server would fail the mail.
    """
    if verdict.reply is not None:
        return _from_reply(verdict.reply, verdict.stage, exchange, is_relay=is_relay)
    if verdict.fault is Fault.UNSURE:
        return Unknown(exchange=exchange, detail=verdict.detail)
    if verdict.fault in _FAILED:
        return Failed(exchange=exchange, category=_FAILED[verdict.fault], detail=verdict.detail)
    if verdict.fault is Fault.UNRESOLVED or verdict.fault is Fault.PROXY_FAILED:
        return Deferred(exchange=exchange, category=Category.NETWORK, detail=verdict.detail, counts=False)
    if verdict.fault is Fault.NO_AUTH or (verdict.fault is Fault.NO_TLS and is_relay):
        return Deferred(exchange=exchange, category=Category.AUTH_FAILURE, detail=verdict.detail, counts=False)
    return Deferred(exchange=exchange, category=Category.NETWORK, detail=verdict.detail)


def _from_reply(reply: Reply, stage: Stage, exchange: Exchange, *, is_relay: bool) -> Outcome:
    if stage is Stage.CONTENT and reply.code // 100 == 2:
        return Delivered(exchange=exchange, reply=reply, final=not is_relay)
    category, rule = classify(reply, stage.value)
    detail = str(reply)
    if is_relay and (stage in _BEFORE_MAIL or reply.code in {530, 535}):
        is_ours = stage is Stage.AUTH or reply.code in {530, 535}
        return Deferred(
            exchange=exchange, category=Category.AUTH_FAILURE if is_ours else category, detail=detail, reply=reply, counts=not is_ours
        )
    if reply.code // 100 == 5 and not _is_too_many(reply, stage):
        return Failed(exchange=exchange, category=category, detail=detail, reply=reply, severity=stated_severity(rule))
    return Deferred(exchange=exchange, category=category, detail=detail, reply=reply)


def _is_too_many(reply: Reply, stage: Stage) -> bool:
    """True for the 552 that old servers say instead of 452: those recipients go in a later transaction."""
    return stage is Stage.RCPT and reply.code == 552 and reply.enhanced in {None, "5.5.3"}
