"""
Why mail was refused: the one classifier, for replies at delivery and for mail that comes back later.

Arrives: a reply and the command it answered; or what a report says about one recipient, best statement first.
Leaves: a category, the id of the rule that found it, and the codes that were read.
The rules are data, in `classify.toml`; an operator's file goes over them (`feedback.rules_file`).
Standards: RFC 3463 and the IANA registry of enhanced status codes, RFC 5321 §4.2.2.
Not here: whether the recipient is tried again (that is the reply code's first digit); reading reports (feedback).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gatepost.domain.outcome import Category, Reply
from gatepost.domain.severity import Severity
from gatepost.policy.classify_rules import Evidence, Rule, Rules, boilerplate, shipped_rules
from gatepost.policy.classify_text import MAX_TEXT, comparable, reply_code, status_code

NO_RULE = "none"
"""Rule id where none matched."""

_MAX_STATEMENTS = 8
_OUR_DOMAIN = "sender domain"
_THEIR_DOMAIN = "their-domain"
_BEFORE_RECIPIENTS = frozenset({"greeting", "ehlo", "tls", "auth", "mail"})
_PERMANENT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    Something that a report says about one recipient.

    Attributes:
        text: As it was written.
        status: The Status field, where there is one; a code within the text is believed before it.
        stage: The command that was answered, where it is known.
        action: failed, delayed; empty where nothing is said.
        senders: Addresses in lower case, of the one whose mail came back: what is said about them is said about the sender.
        our_domains: Domains in lower case, of the same and not the recipient's: what is said about them is said about the sender.
        their_domain: The recipient's, in lower case.
    """

    text: str
    status: str = ""
    stage: str = ""
    host: str = ""
    action: str = ""
    senders: frozenset[str] = frozenset()
    our_domains: frozenset[str] = frozenset()
    their_domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a recipient's statements came to; codes are None where none was read, severity is where the category says it."""

    category: Category
    rule: str
    smtp_code: int | None = None
    enhanced_code: str | None = None
    severity: Severity | None = None


def use_rules(rules: Rules | None) -> None:
    """Take other rules for this process, such as `load_rules(settings.feedback.rules_file)`; None takes the shipped ones."""
    _Active.rules = rules
    _classify.cache_clear()


def active_rules() -> Rules:
    """Give the rules that this process uses."""
    return _Active.rules or shipped_rules()


class _Active:
    rules: Rules | None = None


def classify(reply: Reply, stage: str) -> tuple[Category, str]:
    """
    Name the reason of a refusal and the rule that found it.

    Args:
        stage: The command answered: `greeting`, `ehlo`, `tls`, `auth`, `mail`, `rcpt`, `data` or `content`.
    """
    return _classify(reply.code, reply.enhanced or "", reply.text, stage)


def stated_severity(rule: str) -> Severity | None:
    """Give the severity that a rule states itself, such as soft for what proves nothing; None is its category's own."""
    return active_rules().stated.get(rule)


@lru_cache(maxsize=4_096)
def _classify(code: int, enhanced: str, text: str, stage: str) -> tuple[Category, str]:
    rule = _rule_for(active_rules(), Evidence(text=comparable(text), code=code, status=enhanced, stage=stage), early=_is_early(code, stage))
    return (rule.category, rule.id) if rule else (Category.UNDETERMINED, NO_RULE)


def judge(statements: Sequence[Statement], rules: Rules | None = None) -> Judgement:
    """
    Name the reason for which mail to one recipient came back.

    The first statement that says enough counts; where all are weak, the first weak one does. Codes come from the first
    statements that have any. Who was refused before a recipient was named (RFC 5321 §3.3) has learned nothing about the
    recipient: what stands further down then never means that it is gone.

    Args:
        statements: Best first: what the other server said, then what the report's writer says, then what stands around it.
    """
    weak: Rule | None = None
    refused_early = False
    evidence = [_evidence(statement) for statement in statements[:_MAX_STATEMENTS]]
    code = next((one.code for one in evidence if one.code), None)
    status = next((one.status for one in evidence if one.status), None)
    for one in evidence:
        refused_early = refused_early or _is_early(one.code, one.stage)
        rule = _rule_for(rules or active_rules(), one, early=refused_early)
        if rule is not None and not rule.weak:
            return Judgement(category=rule.category, rule=rule.id, smtp_code=code, enhanced_code=status, severity=rule.severity)
        weak = weak or rule
    if weak is None:
        return Judgement(category=Category.UNDETERMINED, rule=NO_RULE, smtp_code=code, enhanced_code=status)
    return Judgement(category=weak.category, rule=weak.id, smtp_code=code, enhanced_code=status, severity=weak.severity)


def _is_early(code: int, stage: str) -> bool:
    return code >= _PERMANENT and stage in _BEFORE_RECIPIENTS


def _rule_for(rules: Rules, evidence: Evidence, *, early: bool) -> Rule | None:
    return rules.first_harmless(evidence) if early else rules.first(evidence)


def _without_boilerplate(text: str) -> str:
    for words in boilerplate():
        text = text.replace(words, " ")
    return text


def _with_names(statement: Statement) -> str:
    text = statement.text[:MAX_TEXT]
    lowered = text.lower()
    for address in statement.senders:
        at = lowered.find(address)
        while at >= 0:
            text = text[:at] + " sender " + text[at + len(address) :]
            lowered = text.lower()
            at = lowered.find(address, at)
    for domain in statement.our_domains:
        text = _with_domain_named(text, domain, _OUR_DOMAIN)
    return _with_domain_named(text, statement.their_domain, _THEIR_DOMAIN) if statement.their_domain else text


def _with_domain_named(text: str, domain: str, name: str) -> str:
    """Put words in the place of a domain where it stands alone: not in an address, a host's name or a URL."""
    lowered = text.lower()
    at = lowered.find(domain)
    while at >= 0:
        end = at + len(domain)
        before, after = lowered[at - 1 : at], lowered[end : end + 1]
        if not (before.isalnum() or (before and before in "@.-/_=")) and not (after.isalnum() or (after and after in "-_/")):
            text = text[:at] + name + text[end:]
            lowered, end = text.lower(), at + len(name)
        at = lowered.find(domain, end)
    return text


@lru_cache(maxsize=64)
def _evidence(statement: Statement) -> Evidence:
    code = reply_code(statement.text)
    said, given = status_code(statement.text, code), status_code(statement.status) or ""
    status = said if said and not (said.endswith(".0.0") and given) else given
    return Evidence(
        text=_without_boilerplate(comparable(_with_names(statement))),
        code=code or 0,
        status=status or "",
        stage=statement.stage,
        host=statement.host,
        action=statement.action,
        is_report=True,
    )
