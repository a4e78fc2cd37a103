"""
What reports to senders' teams say: numbers against the week before, what to look at, the worst first.

Arrives: counts of a period and of the one that it is compared with, scores, what was unusual. Leaves: a letter, or nothing to tell.
No recipient's address stands in a letter: it leaves by mail, and may be forwarded.
Not here: how it looks (mime.team_letter), reading the facts (upkeep.report_facts).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gatepost.domain.outcome import Category
from gatepost.domain.stats import Counts
from gatepost.domain.team_report import Note, ReportKind, Table, TeamLetter
from gatepost.domain.unusual import UnusualChange
from gatepost.policy.deliverability import LEAST, SHOWN_POINTS, Score, compare, percent
from gatepost.policy.report_periods import Period
from gatepost.policy.report_words import count_tile, day_text, days_text, rate_tile, signed, some, wait_tile

_MOST_ROWS: Final = 10
_MOST_NOTES: Final = 6
_MOST_REASONS: Final = 3
_WORRYING_SCORE: Final = 80
_WORDS: Final[Mapping[str, str]] = {
    Category.INVALID_RECIPIENT: "no such mailbox", Category.INVALID_DOMAIN: "no such domain", Category.MAILBOX_INACTIVE: "mailbox inactive",
    Category.MAILBOX_FULL: "mailbox full", Category.MESSAGE_TOO_LARGE: "message too large", Category.SPAM_CONTENT: "taken for spam",
    Category.CONTENT_REJECTED: "content refused", Category.MALWARE: "taken for malware", Category.REPUTATION_BLOCK: "blocked: reputation",
    Category.AUTH_FAILURE: "authentication failed", Category.POLICY_REJECTED: "refused by policy", Category.RELAY_DENIED: "relaying denied",
    Category.RATE_LIMITED: "too much at once", Category.NETWORK: "network trouble", Category.EXPIRED: "time was over",
    Category.REMOTE_SYSTEM: "trouble of the receiving system", Category.UNDETERMINED: "no reason given",
}  # fmt: skip
_ADVICE: Final[Mapping[str, str]] = {
    Category.INVALID_RECIPIENT: "take these addresses out of your list; they are suppressed here already",
    Category.INVALID_DOMAIN: "look for slips of the finger where addresses are typed in",
    Category.MAILBOX_INACTIVE: "stop writing to who has not opened anything for months",
    Category.REPUTATION_BLOCK: "look for your addresses on blocklists, and send less there until mail is taken again",
    Category.AUTH_FAILURE: "look at the domain's page: a DKIM, SPF or DMARC record is missing or wrong",
    Category.SPAM_CONTENT: "look at what was sent, and to whom",
    Category.CONTENT_REJECTED: "look at links and attachments of what was refused",
    Category.POLICY_REJECTED: "read the replies: they say what the receiver wants",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFacts:
    """
    One sender's domain.

    Attributes:
        score: At the period's end; None where nobody wrote it down.
        earlier: At the end of the one before.
    """

    name: str
    now: Counts = field(default_factory=Counts)
    before: Counts = field(default_factory=Counts)
    score: Score | None = None
    earlier: Score | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What a letter is made of.

    Attributes:
        of: Whose report it is: the tenant's name, or the domains' that it is for.
        sites: Mail systems of recipients, with what happened there.
        unusual: What lasted at some time of the period.
    """

    kind: ReportKind
    of: str
    zone: str
    period: Period
    now: Counts
    before: Counts
    domains: Sequence[DomainFacts] = ()
    sites: Sequence[tuple[str, Counts]] = ()
    unusual: Sequence[UnusualChange] = ()


def write(facts: Facts) -> TeamLetter | None:
    """Write a letter; None when there is nothing to tell."""
    match facts.kind:
        case ReportKind.WEEKLY:
            return _weekly(facts)
        case ReportKind.BOUNCES:
            return _bounces(facts)
        case ReportKind.COMPLAINTS:
            return _complaints(facts)


def _weekly(facts: Facts) -> TeamLetter | None:
    now, before = facts.now, facts.before
    if not (now.accepted or now.ended or before.accepted or before.ended):
        return None
    notes = _notes(facts)
    rate = "" if now.delivery_rate is None else f" ({percent(now.delivery_rate)})"
    days = days_text(facts.period.first, facts.period.last)
    looks = f"{len(notes)} thing{'s' if len(notes) > 1 else ''} to look at" if notes else "nothing to worry about"
    tiles = [
        count_tile("Delivered", now.reached, before.reached, is_good=True),
        rate_tile("Delivery rate", now.delivery_rate, before.delivery_rate, is_good=True),
        rate_tile("Bounced", now.bounce_rate, before.bounce_rate),
        rate_tile("Complaints", now.complaint_rate, before.complaint_rate),
        rate_tile("Deferred at first", now.deferral_rate, before.deferral_rate),
    ]
    if now.opened or before.opened:
        tiles.append(rate_tile("Opened", now.open_rate, before.open_rate, is_good=True))
    elif now.wait_ms(0.95) is not None:
        tiles.append(wait_tile(now.wait_ms(0.95), before.wait_ms(0.95)))
    return TeamLetter(
        subject=f"{facts.of}: {now.reached:,} delivered{rate} in the week of {days}, {looks}",
        title=f"The week of {days}", period=_span(facts),
        preview=f"{now.reached:,} delivered{rate}, {now.bounced:,} bounced, {now.complained:,} complaints. {looks.capitalize()}.",
        lead=_sentence(now, before), tiles=tuple(tiles), notes=tuple(notes), tables=(*_domain_table(facts.domains), *_categories(now)),
        foot="Changes are against the week before.",
    )  # fmt: skip


def _bounces(facts: Facts) -> TeamLetter | None:
    now, before = facts.now, facts.before
    if not now.bounced:
        return None
    day, rate = day_text(facts.period.first), "" if now.bounce_rate is None else f" ({percent(now.bounce_rate)})"
    worst = max(now.bounces, key=lambda name: now.bounces[name])
    tiles = (
        count_tile("Bounced", now.bounced, before.bounced),
        rate_tile("Bounce rate", now.bounce_rate, before.bounce_rate),
        count_tile("Delivered", now.reached, before.reached, is_good=True),
    )
    notes = [_bounce_note(now, name) for name in sorted(now.bounces, key=lambda name: -now.bounces[name]) if name in _ADVICE]
    return TeamLetter(
        subject=f"{facts.of}: {some(now.bounced, 'bounce')}{rate} on {day}", title=f"Bounces on {day}", period=_span(facts),
        preview=f"Most of all: {_WORDS.get(worst, worst)}, {now.bounces[worst]:,}.",
        lead=f"{some(now.bounced, 'recipient')} bounced. Most of all: {_WORDS.get(worst, worst)}, {now.bounces[worst]:,}.",
        tiles=tiles, notes=(*notes[:_MOST_REASONS], *_unusual_notes(facts, {"bounces", "blocks"})),
        tables=(
            *_categories(now), *_parts("Senders", [(one.name, one.now) for one in facts.domains], "Bounced", lambda counts: counts.bounced),
            *_parts("Receiving systems", facts.sites, "Bounced", lambda counts: counts.bounced),
        ),
        foot="Changes are against the same day a week before. There is no such mail on days without bounces.",
    )  # fmt: skip


def _bounce_note(now: Counts, name: str) -> Note:
    share = percent(now.bounces[name] / now.bounced)
    return Note(f"{now.bounces[name]:,} × {_WORDS.get(name, name)}", f"{share} of the bounces", _ADVICE[name])


def _complaints(facts: Facts) -> TeamLetter | None:
    now, before = facts.now, facts.before
    if not (now.complained or now.unsubscribed):
        return None
    day = day_text(facts.period.first)
    rate = "" if now.complaint_rate is None or not now.complained else f" ({percent(now.complaint_rate)})"
    what = [some(now.complained, "complaint") + rate] if now.complained else []
    what += [some(now.unsubscribed, "unsubscription")] if now.unsubscribed else []
    tiles = (
        count_tile("Complaints", now.complained, before.complained),
        rate_tile("Complaint rate", now.complaint_rate, before.complaint_rate),
        count_tile("Unsubscribed", now.unsubscribed, before.unsubscribed),
    )
    notes = []
    if now.complaint_rate is not None and now.complaint_rate >= 0.001:
        text = f"{percent(now.complaint_rate)} of the mail was called unwanted; Gmail and Yahoo ask for less than 0.1 %, never 0.3 %"
        notes = [Note("More complaints than large receivers bear", text, "send only to who asked for it, and make leaving easy")]
    return TeamLetter(
        subject=f"{facts.of}: {' and '.join(what)} on {day}", title=f"Complaints on {day}", period=_span(facts),
        preview=f"{' and '.join(what)}.",
        lead=f"{' and '.join(what)}. Who complained or unsubscribed gets no more of that stream's mail.",
        tiles=tiles, notes=(*notes, *_unusual_notes(facts, {"complaints", "unsubscribes"})),
        tables=(
            *_parts("Senders", [(one.name, one.now) for one in facts.domains], "Complaints", lambda counts: counts.complained),
            *_parts("Receiving systems", facts.sites, "Complaints", lambda counts: counts.complained),
        ),
        foot="Changes are against the same day a week before. There is no such mail on days without complaints.",
    )  # fmt: skip


def _notes(facts: Facts) -> list[Note]:
    """Say what to look at: what is unusual now, domains that fell, domains that are low."""
    found = _unusual_notes(facts, None)
    for one in sorted(facts.domains, key=lambda one: _score_of(one.score)):
        note = _domain_note(one)
        if note is not None:
            found.append(note)
    return found[:_MOST_NOTES]


def _unusual_notes(facts: Facts, metrics: set[str] | None) -> list[Note]:
    found = []
    for one in facts.unusual:
        if metrics is None or one.metric in metrics:
            where = f"{one.scope} {one.name}" if one.name else "all of your mail"
            state = "it lasts" if one.closed_at is None or one.closed_at >= facts.period.end else "it is over"
            found.append(Note(f"Unusual: {one.metric} of {where}", f"{one.detail}; {state}", one.advice))
    return found


def _domain_note(one: DomainFacts) -> Note | None:
    if one.score is None or one.score.score is None or max(one.now.ended, one.now.attempted) < LEAST:
        return None
    changes = compare(one.earlier, one.score) if one.earlier is not None else ()
    was = one.earlier.score if one.earlier is not None else None
    fell = was is not None and one.score.score <= was - 3
    if not fell and one.score.score >= _WORRYING_SCORE:
        return None
    step = "" if was is None or was == one.score.score else f", {signed(f'{one.score.score - was:+d}')}"
    if fell and changes and changes[0].points < 0:
        reason, advice = f"{changes[0].component.value}: {changes[0].after} (before: {changes[0].before})", changes[0].advice
    else:
        worst = max(one.score.parts, key=lambda part: part.cost)
        reason, advice = (f"{worst.component.value}: {worst.reason}" if worst.cost >= SHOWN_POINTS else ""), worst.advice
    return Note(f"{one.name} has {one.score.score} of 100{step}", reason, advice)


def _score_of(score: Score | None) -> int:
    return 101 if score is None or score.score is None else score.score


def _domain_table(domains: Sequence[DomainFacts]) -> tuple[Table, ...]:
    """List the domains that sent, the worst score first."""
    sent = sorted((one for one in domains if one.now.ended or one.now.accepted), key=lambda one: (_score_of(one.score), -one.now.reached))
    if not sent:
        return ()
    rows = tuple(
        (one.name, f"{one.now.reached:,}", _percent(one.now.bounce_rate), _percent(one.now.complaint_rate), _score(one))
        for one in sent[:_MOST_ROWS]
    )  # fmt: skip
    return (Table("Domains, the worst first", ("Domain", "Delivered", "Bounced", "Complaints", "Score"), rows, _more(len(sent))),)


def _percent(rate: float | None) -> str:
    return "–" if rate is None else percent(rate)


def _score(one: DomainFacts) -> str:
    if one.score is None or one.score.score is None:
        return "–"
    was = one.earlier.score if one.earlier is not None else None
    return f"{one.score.score}" + (f" ({signed(f'{one.score.score - was:+d}')})" if was is not None and was != one.score.score else "")


def _categories(now: Counts) -> tuple[Table, ...]:
    ordered = sorted(now.bounces, key=lambda name: (-now.bounces[name], name))
    rows = tuple(
        (_WORDS.get(name, name), f"{now.bounces[name]:,}", percent(now.bounces[name] / now.bounced)) for name in ordered[:_MOST_ROWS]
    )  # fmt: skip
    return (Table("Why mail bounced", ("Reason", "Recipients", "Share"), rows, _more(len(ordered))),) if rows else ()


def _parts(title: str, found: Sequence[tuple[str, Counts]], heading: str, of: Callable[[Counts], int]) -> tuple[Table, ...]:
    """List who has most of something."""
    ordered = sorted(((name, of(counts), counts) for name, counts in found if of(counts)), key=lambda row: (-row[1], row[0]))
    rows = tuple(
        (name or "unknown", f"{count:,}", _percent(count / counts.ended if counts.ended >= count else None))
        for name, count, counts in ordered[:_MOST_ROWS]
    )  # fmt: skip
    return (Table(title, (title[:-1], heading, "Rate"), rows, _more(len(ordered))),) if rows else ()


def _more(count: int) -> str:
    return f"and {count - _MOST_ROWS:,} more" if count > _MOST_ROWS else ""


def _sentence(now: Counts, before: Counts) -> str:
    if not now.ended:
        return "No mail was delivered in this week."
    told = f"{now.reached:,} of {now.ended:,} recipients were reached"
    if not before.reached:
        return f"{told}. In the week before there was no mail."
    more = now.reached - before.reached
    return f"{told}, {abs(more):,} {'more' if more >= 0 else 'fewer'} than in the week before."


def _span(facts: Facts) -> str:
    first, last = facts.period.first, facts.period.last
    span = first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"
    return f"{span}, {facts.zone}"
