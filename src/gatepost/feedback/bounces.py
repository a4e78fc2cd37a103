"""
Mail that came back: who did not get it, and why.

Arrives: a letter that is a bounce. Leaves: its recipients, each with a category and the rule that found it.
Standards: RFC 3464 (fields before words), RFC 6533; letters without fields by what they share (free_text, transcript).
What is believed, best first: what the other server said (Diagnostic-Code, transcript), what the reporter writes beside the
address, the whole letter, its subject. A status alone is believed where no words say otherwise.
Not here: whether it is a bounce (recognition), what is done about it.
"""

import re
from dataclasses import replace

from gatepost.domain.feedback import Action, ReportedRecipient
from gatepost.domain.outcome import Category
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.feedback.addresses import addresses_in, find_addresses, is_servant
from gatepost.feedback.free_text import Named, name_recipients, text_about, text_above
from gatepost.feedback.letter import Letter
from gatepost.feedback.recognition import is_delay
from gatepost.feedback.transcript import Said, local_errors, read_transcript, stage_of
from gatepost.policy.classify import NO_RULE, Judgement, Statement, judge
from gatepost.policy.classify_rules import Rules
from gatepost.policy.classify_text import MAX_TEXT, reply_part
from gatepost.wire.dsn import DeliveryStatus, RecipientStatus

_POSITIVE = frozenset({Action.DELIVERED, Action.RELAYED, Action.EXPANDED})
_MAX_DETAIL = 1_000
_PARAGRAPH = re.compile(r"\n[ \t>]{0,20}\n")
_QUOTED_TO = re.compile(r"^[ \t>]{0,20}to:[ \t]{0,20}(\S.{0,400})$", re.IGNORECASE | re.MULTILINE)
_SHORT = 12
"""A paragraph of fewer characters says nothing: what is meant stands below it."""

_LASTING = frozenset({"words.null-mx", "enhanced.null-mx", "words.suppressed"})
_MANY = 15
"""From so many recipients on only what is said about each is looked at, not what stands around it."""

_MAX_FAILED = 100
_MAX_PREAMBLE = 4_000
_SOFTER = frozenset({Category.MAILBOX_INACTIVE, Category.MAILBOX_FULL, Category.MESSAGE_TOO_LARGE})
"""Reasons that a reporter gives above an address; they say more than the `user unknown` that a server says for all."""


def read_bounce(letter: Letter, rules: Rules | None) -> list[ReportedRecipient]:
    """List the recipients that a bounce is about; empty where it names none."""
    transcript = {said.address.lower(): said for said in read_transcript(letter.text)}
    known = [(status, one) for status in letter.statuses for one in status.recipients if one.address or one.diagnostic]
    if known:
        return [
            _from_status(letter, status, one, transcript, rules, alone=len(known) == 1, many=len(known) > _MANY) for status, one in known
        ]
    return _from_words(letter, transcript, rules)


def _from_status(
    letter: Letter,
    report: DeliveryStatus,
    one: RecipientStatus,
    transcript: dict[str, Said],
    rules: Rules | None,
    *,
    alone: bool,
    many: bool,
) -> ReportedRecipient:
    action = _action(one.action)
    address = one.address if "@" in one.address else _address_of(letter, one)
    if action in _POSITIVE:
        return ReportedRecipient(
            address=address,
            category=Category.DELIVERED,
            rule=f"dsn.{action}",
            original_address=_other(one),
            enhanced_code=one.status or None,
            action=action,
            detail=one.diagnostic[:_MAX_DETAIL],
            remote_host=one.remote,
        )
    statements = _statements(letter, one, transcript, action, alone=alone)
    found = judge(statements[:2] if many else statements, rules)
    found = found if many else _softened(letter, one.address, found, rules)
    found = _decided(one, found, rules)
    return _reported(address, found, one.diagnostic, action or Action.FAILED, one.remote, _other(one))


def _statements(letter: Letter, one: RecipientStatus, transcript: dict[str, Said], action: Action, *, alone: bool) -> list[Statement]:
    said = transcript.get(one.address.lower()) or (next(iter(transcript.values())) if alone and len(transcript) == 1 else None)
    beside = text_about(letter.text, one.address) or text_about(
        letter.text, one.fields.get("x-actual-recipient", "").rpartition(";")[2].strip(" <>")
    )
    stage = stage_of(one.diagnostic) or stage_of(beside) or (stage_of(letter.text) if alone else "")
    domains = _our_domains(letter, one.address)
    if said and said.replies and not stage_of(one.diagnostic):
        stage = said.replies[0][1] or stage

    def make(text: str, at: str = stage) -> Statement:
        return Statement(
            text=text,
            status=one.status,
            stage=at,
            host=one.remote,
            action=action.value,
            senders=_senders(letter, text, one.address),
            our_domains=domains,
            their_domain=_domain(one.address),
        )

    diagnostic = _exit_words(one.diagnostic) if one.diagnostic_type == "x-unix" else one.diagnostic
    out = [make(diagnostic)] if diagnostic or one.status else []
    if said:
        out.append(make(" ".join(text for text, _ in said.replies)))
    out += [make(words) for words in _beside(beside)]
    if alone:
        out += [make(local)] if (local := local_errors(letter.text)) else []
        out.append(make(letter.text))
    elif preamble := _preamble(letter):
        out.append(make(preamble))
    category = one.fields.get("x-powermta-bouncecategory", "")
    if category:
        out.append(make(category))
    return [*out, make(letter.subject)]


def _from_words(letter: Letter, transcript: dict[str, Said], rules: Rules | None) -> list[ReportedRecipient]:
    failed = addresses_in(letter.mail.first("x-failed-recipients")[:8_000])[:_MAX_FAILED]
    named = {one.address.lower(): one for one in name_recipients(letter.text, letter.strangers)}
    spoken = [said.address for said in transcript.values() if said.address]
    wanted = failed or list({one.lower(): one for one in [*[one.address for one in named.values() if one.rank == 1], *spoken]}.values())
    wanted = wanted or [one.address for one in named.values()]
    wanted = wanted or _returned_to(letter)
    if not wanted:
        return [_by_words(letter, "", None, None, rules, alone=True)]
    alone, many = len(wanted) == 1, len(wanted) > _MANY
    return [_by_words(letter, one, transcript.get(one.lower()), named.get(one.lower()), rules, alone=alone, many=many) for one in wanted]


def _preamble(letter: Letter) -> str:
    """Give what a letter says before it names anybody: it is said about all."""
    found = find_addresses(letter.text[:_MAX_PREAMBLE])
    others = [one for one in found if one.address.lower() not in letter.strangers]
    return letter.text[: others[0].start].strip() if others else ""


def _beside(text: str) -> list[str]:
    """Give what stands beside an address, closest first: its own paragraph, then all up to the next address."""
    paragraph = _PARAGRAPH.split(text.strip(), 1)[0]
    pieces = [reply_part(paragraph), reply_part(text), text] if len(paragraph) > _SHORT else [reply_part(text), text]
    return list(dict.fromkeys(piece for piece in pieces if piece))


def _by_words(
    letter: Letter, address: str, said: Said | None, named: Named | None, rules: Rules | None, *, alone: bool, many: bool = False
) -> ReportedRecipient:
    text = named.text if named else text_about(letter.text, address)
    action = Action.DELAYED if is_delay(letter) else Action.FAILED
    stage = stage_of(text) or (stage_of(letter.text) if alone else "")
    domains = _our_domains(letter, address)

    def make(words: str, at: str = stage) -> Statement:
        senders = _senders(letter, words, address)
        theirs = _domain(address)
        return Statement(text=words, stage=at, action=action.value, senders=senders, our_domains=domains, their_domain=theirs)

    out = [make(reply, at or stage) for reply, at in (said.replies[:3] if said else [])]
    out += [make(words) for words in _beside(text)]
    if alone or not out:
        out.append(make(letter.text))
    elif preamble := _preamble(letter):
        out.append(make(preamble))
    out.append(make(letter.subject))
    found = judge(out[:2] if many else out, rules)
    return _reported(address, _softened(letter, address, found, rules), out[0].text, action, "", "")


def _softened(letter: Letter, address: str, found: Judgement, rules: Rules | None) -> Judgement:
    """Prefer the reason that the reporter gives above an address to a server's `user unknown`."""
    if not found.rule.startswith("words.unknown") or not (above := text_above(letter.text, address)):
        return found
    reason = judge([Statement(text=above)], rules)
    if reason.category not in _SOFTER:
        return found
    return Judgement(category=reason.category, rule=reason.rule, smtp_code=found.smtp_code, enhanced_code=found.enhanced_code)


def _decided(one: RecipientStatus, found: Judgement, rules: Rules | None) -> Judgement:
    """
    Ask a third witness where code and words contradict each other: the reporter's own verdict (PowerMTA writes one).

    It read the same words, so it names the reason and proves nothing.
    """
    verdict = one.fields.get("x-powermta-bouncecategory", "")
    if not verdict or found.rule != "words.unknown-contradicted":
        return found
    third = judge([Statement(text=verdict)], rules)
    if third.rule == NO_RULE:
        return found
    severity = Severity.SOFT if SEVERITY[third.category] is Severity.HARD else third.severity
    return replace(third, smtp_code=found.smtp_code, enhanced_code=found.enhanced_code, severity=severity)


def _senders(letter: Letter, text: str, recipient: str) -> frozenset[str]:
    """Name the sender's addresses where a text speaks of them and not of the recipient."""
    lowered = text[:MAX_TEXT].lower()
    if not letter.senders or (recipient and recipient.lower() in lowered):
        return frozenset()
    return frozenset(one for one in letter.senders if one in lowered and one != recipient.lower())


def _our_domains(letter: Letter, recipient: str) -> frozenset[str]:
    """Name the domains of the sender, without the recipient's own: nobody can tell of whom a shared one is said."""
    return frozenset(domain for one in letter.senders if (domain := _domain(one)) and domain != _domain(recipient))


def _domain(address: str) -> str:
    domain = address.rpartition("@")[2].lower()
    return domain if "." in domain and "@" in address else ""


def _reported(address: str, found: Judgement, detail: str, action: Action, remote: str, other: str) -> ReportedRecipient:
    return ReportedRecipient(
        address=address,
        category=found.category,
        rule=found.rule,
        original_address=other,
        smtp_code=found.smtp_code,
        enhanced_code=found.enhanced_code,
        action=action,
        detail=" ".join(detail[: 2 * _MAX_DETAIL].split())[:_MAX_DETAIL],
        remote_host=remote,
        severity_said=_severity(found),
    )


def _severity(found: Judgement) -> Severity | None:
    """Soften what a code of class 4 says for good: a passing failure never suppresses, a null MX does (RFC 7505)."""
    if found.severity is not None:
        return found.severity
    is_passing = (found.enhanced_code or str(found.smtp_code or "")).startswith("4")
    return Severity.SOFT if is_passing and SEVERITY[found.category] is Severity.HARD and found.rule not in _LASTING else None


def _exit_words(diagnostic: str) -> str:
    """Put the exit status of a mailer into words (sysexits: 67 no user, 68 no host)."""
    number = diagnostic.strip().partition(" ")[0]
    return {"67": "user unknown", "68": "host unknown"}.get(number, f"unix exit {diagnostic}")


def _address_of(letter: Letter, one: RecipientStatus) -> str:
    """Find an address for a status without a whole one: a local name with the reporter's domain is no address yet."""
    candidates = [one.original, one.fields.get("x-actual-recipient", "").rpartition(";")[2].strip(" <>")]
    candidates += addresses_in(one.diagnostic[:1_000])
    candidates += [named.address for named in name_recipients(letter.text, letter.strangers)]
    candidates += _returned_to(letter)
    return next((address for address in candidates if "@" in address), one.address)


def _returned_to(letter: Letter) -> list[str]:
    """Take the recipients out of the header of the returned message: the last resort."""
    for name in ("x-failed-recipients", "x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "to"):
        found = [one for one in addresses_in(letter.returned_first(name)[:4_000]) if one.lower() not in letter.strangers or name == "to"]
        if found:
            return [one for one in found if not is_servant(one)][:20] or found[:20]
    quoted = [one for line in _QUOTED_TO.findall(letter.text) for one in addresses_in(line)]
    return [one for one in quoted if one.lower() not in letter.strangers][:20]


def _other(one: RecipientStatus) -> str:
    return one.original if one.original.lower() != one.final.lower() and one.final else ""


def _action(text: str) -> Action:
    return Action(text) if text in set(Action) else Action.FAILED if text.startswith("fail") else Action.NONE
