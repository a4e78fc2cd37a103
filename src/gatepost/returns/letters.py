"""
What a mail that came back says of our recipients, as far as it may be believed.

Arrives: a mail and the addresses of ours that it came to. Leaves: statements; none where nothing follows from it.
A mail at a return path speaks of the recipient in its token and of nobody else, whomever it names (THREATS 41, 42). At an
office, such as abuse, it speaks of the one recipient whose return path it quotes; without any it is only told in the log.
Standards: RFC 3464, RFC 5965 (§3.2: Original-Mail-From; the mail itself has its Return-Path).
Not here: reading (feedback), what follows (reported).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gatepost.clock import DAY, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.feedback import Action, Kind, Report, ReportedRecipient
from gatepost.domain.outcome import Category, Reply
from gatepost.domain.statement import About, Said, Statement
from gatepost.feedback.reading import read_report
from gatepost.mime.parts import read_mail
from gatepost.observe import maillog, metrics
from gatepost.returns.aside import PutAside
from gatepost.returns.listening import Desk, destination_of
from gatepost.wire.return_path import ReturnPaths, ReturnToken

BY: Final = "mail"
_CODES: Final = re.compile(r"\A\s*[245]\d\d[ -]+(?:[245]\.\d{1,3}\.\d{1,3}\s+)?")
"""What stands before a reply's own words."""
_SILENT: Final = frozenset({Kind.AUTO_REPLY, Kind.CHALLENGE, Kind.OTHER})
_ON_THE_WAY: Final = frozenset({Action.RELAYED, Action.EXPANDED})


def read_letter(
    content: bytes, recipients: Iterable[str], paths: ReturnPaths, received_at: Instant, *, is_office: bool = False
) -> list[Statement]:
    """
    Read a mail that came back.

    Args:
        recipients: Addresses that it came to.
        is_office: It lay in a mailbox for complaints, whatever its address.

    Raises:
        PutAside: A person should look at it: it is no report that can be read, or one about nobody we know.
    """
    report = read_report(content)
    statements: dict[str, Statement] = {}
    meant = _quoted_alone(content, paths, received_at) if is_office else _meant(content, recipients, paths, received_at)
    for token in meant:
        statement = _statement(report, token, received_at)
        if statement is not None:
            statements[f"{statement.id}/{token.n}"] = statement
    if not statements:
        metrics.reports.labels(BY, f"nothing to do: {report.kind.value}").inc()
        maillog.returned(kind=report.kind.value, feedback_type=report.feedback_type or None, reporter=report.reporter or None)
        if report.kind is Kind.OTHER:
            raise PutAside("unread", "it is neither a bounce nor a complaint nor an automatic answer that is known")
        if report.kind in {Kind.BOUNCE, Kind.COMPLAINT} and not meant:
            raise PutAside("unmatched", f"it is a {report.kind.value} and does not say of which of our messages")
    return list(statements.values())


def _meant(content: bytes, recipients: Iterable[str], paths: ReturnPaths, received_at: Instant) -> list[ReturnToken]:
    found: list[ReturnToken] = []
    for text in recipients:
        try:
            destination = destination_of(paths, parse_address(text), received_at)
        except InvalidAddress:
            continue
        if destination is None:
            continue
        if destination.desk is Desk.RETURN and destination.token is not None:
            found.append(destination.token)
        elif destination.desk is Desk.OFFICE:
            found += _quoted_alone(content, paths, received_at)
    return list(dict.fromkeys(found))


def _quoted_alone(content: bytes, paths: ReturnPaths, received_at: Instant) -> list[ReturnToken]:
    """Whoever quotes several return paths of ours proves nothing of any."""
    quoted = _quoted(content, paths, received_at)
    return quoted if len(quoted) == 1 else []


def _quoted(content: bytes, paths: ReturnPaths, received_at: Instant) -> list[ReturnToken]:
    tokens = paths.find(content.decode("latin-1"), received_at)
    if not tokens:
        for part in read_mail(content).parts:
            tokens |= paths.find(part.text, received_at)
    return sorted(tokens, key=lambda token: (token.message_id, token.n))


def _statement(report: Report, token: ReturnToken, received_at: Instant) -> Statement | None:
    if report.kind in _SILENT:
        return None
    one = _told_of(report.recipients)
    said = _said(report, one)
    if said is None:
        return None
    about = About(message_id=token.message_id, n=token.n)
    each = f"/{received_at // DAY}" if said is Said.DEFERRED else f"/{report.feedback_type}" if said is Said.COMPLAINED else ""
    detail = {"feedback_type": report.feedback_type} if report.feedback_type else {}
    if report.kind is Kind.COMPLAINT:
        return Statement(
            id=f"{BY}/{token.message_id}/{said}{each}", said=said, about=about, by=BY, at=received_at, category=Category.COMPLAINT,
            rule="" if one is None else one.rule, stated=None if one is None else one.severity_said, detail=detail,
        )  # fmt: skip
    return Statement(
        id=f"{BY}/{token.message_id}/{said}{each}", said=said, about=about, by=BY, at=received_at,
        category=Category.UNDETERMINED if one is None else one.category, rule="" if one is None else one.rule,
        stated=None if one is None else one.severity_said, reply=None if one is None else _reply(one),
        host="" if one is None else one.remote_host[:255],
    )  # fmt: skip


def _told_of(recipients: Sequence[ReportedRecipient]) -> ReportedRecipient | None:
    """Pick what is said of the one recipient; a report of several is about a list of theirs, and its mildest words count."""
    if len(recipients) < 2:
        return recipients[0] if recipients else None
    failed = [one for one in recipients if one.action not in {Action.DELIVERED, Action.RELAYED, Action.EXPANDED, Action.DELAYED}]
    same = {one.category for one in failed}
    return failed[0] if len(failed) == len(recipients) and len(same) == 1 else None


def _said(report: Report, one: ReportedRecipient | None) -> Said | None:
    if report.kind is Kind.COMPLAINT:
        return Said.UNSUBSCRIBED if report.feedback_type == "opt-out" else Said.COMPLAINED
    if report.kind is Kind.DELIVERED:
        is_there = all(each.action not in _ON_THE_WAY for each in report.recipients)
        return Said.DELIVERED if is_there else None
    if one is None and len(report.recipients) > 1:
        return None
    if one is not None and one.action is Action.DELAYED:
        return Said.DEFERRED
    return Said.BOUNCED


def _reply(one: ReportedRecipient) -> Reply | None:
    if not (one.smtp_code or one.enhanced_code or one.detail):
        return None
    text = _CODES.sub("", one.detail, count=1)
    return Reply(code=one.smtp_code or 0, enhanced=one.enhanced_code, text=text[:1_000])
