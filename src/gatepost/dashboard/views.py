"""
What the templates show: rows of the store turned into values made for a page.

Arrives: rows of messages, recipients, attempts, events. Leaves: list rows and timelines. Pure; no I/O.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Row

from gatepost.clock import Instant
from gatepost.domain.event import EventType
from gatepost.domain.recipient import TRANSITIONS, WAITING, Status, message_status
from gatepost.domain.route import SANDBOX
from gatepost.explain import RecipientExplanation

_CURL_BODY_BYTES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """
    One message in the list.

    Attributes:
        to: The first recipient's address.
        others: Number of further recipients.
        breakdown: How many recipients have which status, for a tooltip.
    """

    id: str
    status: str
    subject: str
    sender: str
    to: str
    others: int
    breakdown: str
    tags: list[str]
    stream: str
    is_sandbox: bool
    created_at: Instant
    scheduled_at: Instant | None

    @property
    def sender_name(self) -> str:
        """The sender's name, or the address where there is none."""
        return self.sender.rpartition(" <")[0] or self.sender


def list_row(message: Row[Any], recipients: Sequence[Row[Any]]) -> ListRow:
    """Make a list row."""
    return ListRow(
        id=message.id,
        status=status_of(recipients),
        subject=message.subject,
        sender=message.from_,
        to=recipients[0].address if recipients else "",
        others=max(0, len(recipients) - 1),
        breakdown=breakdown(recipients),
        tags=message.tags,
        stream=message.stream,
        is_sandbox=message.is_sandbox,
        created_at=message.created_at,
        scheduled_at=message.scheduled_at if any(row.status == Status.SCHEDULED for row in recipients) else None,
    )


def status_of(recipients: Sequence[Row[Any]]) -> str:
    """Sum a message's recipients up in one word."""
    return message_status([Status(row.status) for row in recipients]).value if recipients else Status.QUEUED.value


def breakdown(recipients: Sequence[Row[Any]]) -> str:
    """Say how many recipients have which status: `2 delivered, 1 bounced`."""
    counts: dict[str, int] = {}
    for row in recipients:
        counts[row.status] = counts.get(row.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One step of a recipient's timeline.

    Attributes:
        kind: Decides icon and colour: a recipient status, `accepted` or `retried`.
        facts: Short facts on one line, such as route, host and TLS.
        reply: The other side's words.
        took_ms: How long an attempt took.
        key: Names the step's transcript on the page.
    """

    at: Instant
    kind: str
    title: str
    facts: tuple[str, ...] = ()
    reply: str = ""
    took_ms: int | None = None
    transcript: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientView:
    """A recipient with its timeline."""

    n: int
    address: str
    kind: str
    status: str
    sentence: str
    next_attempt_at: Instant | None
    cause: str
    steps: tuple[Step, ...]


def recipient_view(
    recipient: Row[Any], told: RecipientExplanation, message: Row[Any], attempts: Sequence[Row[Any]], events: Sequence[Row[Any]]
) -> RecipientView:
    """Make one recipient's view of its own attempts and of the events of the message."""
    own = [_attempt_step(row) for row in attempts if row.n == recipient.n]
    mine = [row for row in events if row.n in {None, recipient.n}]
    steps = own + [step for row in mine if (step := _event_step(row, message, has_attempts=bool(own)))]
    return RecipientView(
        n=recipient.n,
        address=recipient.address,
        kind=recipient.kind,
        status=recipient.status,
        sentence=told.sentence,
        next_attempt_at=told.next_attempt_at,
        cause=told.cause,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
    )


_OUTCOMES = {
    "delivered": (Status.DELIVERED.value, "delivered"),
    "deferred": (Status.DEFERRED.value, "deferred"),
    "failed": (Status.BOUNCED.value, "bounced"),
    "unknown": (Status.DEFERRED.value, "unknown: no answer after the content"),
}


def _attempt_step(row: Row[Any]) -> Step:
    kind, word = _OUTCOMES[row.outcome]
    is_remote = row.route != SANDBOX
    host = row.host or ("no host reached" if is_remote else "")
    tls = (row.tls or "without TLS") if is_remote and row.host else ""
    policy = f"TLS by {row.tls_policy}" if is_remote and row.tls_policy not in {None, "opportunistic"} else ""
    facts = (row.route, "" if host.startswith(SANDBOX) else host, row.peer or "", tls, policy, row.category or "")
    reply = " ".join(str(part) for part in (row.code, row.enhanced, row.reply) if part) or row.detail or ""
    return Step(
        at=row.started_at,
        kind=kind,
        title=f"Attempt {row.number}: {word}",
        facts=tuple(fact for fact in facts if fact),
        reply=reply,
        took_ms=row.finished_at - row.started_at,
        transcript=row.transcript,
        key=f"{row.n}-{row.number}",
    )


_SOURCES = {"http": "over HTTP", "smtp": "over SMTP", "dsn": "a bounce message of ours"}
_EVENTS = {
    EventType.CANCELLED: (Status.CANCELLED.value, "Cancelled"),
    EventType.RETRIED: ("retried", "Retry asked for"),
    EventType.SUPPRESSED: (Status.SUPPRESSED.value, "Suppressed"),
    EventType.EXPIRED: (Status.EXPIRED.value, "Expired"),
    EventType.BOUNCED: (Status.BOUNCED.value, "Bounced"),
}

_ENGAGED = {EventType.OPENED: "Opened", EventType.CLICKED: "Clicked", EventType.UNSUBSCRIBED: "Unsubscribed"}


def _event_step(row: Row[Any], message: Row[Any], *, has_attempts: bool) -> Step | None:
    """Turn an event into a step; None for events that an attempt already tells."""
    if row.type == EventType.ACCEPTED or (row.type == EventType.SCHEDULED and "source" in row.data):
        door = _SOURCES.get(message.source, message.source)
        return Step(at=row.at, kind="accepted", title="Accepted", facts=(door, f"stream {message.stream}"))
    if row.type == EventType.SCHEDULED:
        return Step(at=row.at, kind=Status.SCHEDULED.value, title="Moved to another time")
    if row.type == EventType.BOUNCED and has_attempts:
        return None  # the attempt says it, with the other side's words
    if row.type == EventType.NOTIFIED:
        return Step(at=row.at, kind="retried", title=f"Sender told by mail: {row.data['action']}", facts=(row.data["report_id"],))
    if row.type in _ENGAGED:
        who, url = str(row.data.get("class", "human")), row.data.get("url") if message.is_sandbox else None
        facts = tuple(str(fact) for fact in (None if who == "human" else who, url) if fact)
        return Step(at=row.at, kind="accepted", title=_ENGAGED[EventType(row.type)], facts=facts)
    if row.type not in _EVENTS:
        return None
    kind, title = _EVENTS[EventType(row.type)]
    return Step(at=row.at, kind=kind, title=title, facts=tuple(str(row.data[name]) for name in ("reason",) if row.data.get(name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What may be done with a message: the number of recipients each action would reach."""

    retry: int
    cancel: int


def offers(recipients: Sequence[Row[Any]]) -> Offers:
    """Count the recipients that can be retried and cancelled; `control` decides in the end."""
    statuses = [Status(row.status) for row in recipients]
    retry = sum(status is Status.DEFERRED or (status not in WAITING and Status.QUEUED in TRANSITIONS[status]) for status in statuses)
    return Offers(retry=retry, cancel=sum(status in WAITING for status in statuses))


def curl_for(message: Row[Any], recipients: Sequence[Row[Any]], base_url: str, *, text: str, html: str) -> str:
    """
    Write the command that sends the like of a message again; files are left out, and long bodies too.

    Bcc recipients become bcc recipients again; the key is read from a variable, never written.
    """
    fields: dict[str, Any] = {"from": message.from_}
    for kind in ("to", "cc", "bcc"):
        if addresses := [row.address for row in recipients if row.kind == kind]:
            fields[kind] = addresses
    fields["subject"] = message.subject
    bodies: Mapping[str, str] = {"text": text, "html": html}
    short = {name: body for name, body in bodies.items() if body and len(body) <= _CURL_BODY_BYTES}
    fields.update(short or {"text": "…"})
    if message.tags:
        fields["tags"] = message.tags
    if message.stream != "transactional":
        fields["stream"] = message.stream
    body = msgspec.json.encode(fields).decode()
    url = shlex.quote(f"{base_url}/v1/messages")
    return f'curl {url} \\\n  -H "Authorization: Bearer $GATEPOST_KEY" \\\n  --json {shlex.quote(body)}'
