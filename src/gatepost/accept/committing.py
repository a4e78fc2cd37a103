"""
The one transaction of accept: the requests of many callers, each all or nothing, in multi-row inserts.

Arrives: units, one per request, checked and composed.
Leaves: rows of messages, bodies, recipients, queue, events and idempotency keys; an answer or a refusal for each unit.
What can only be known here is decided here: who is suppressed, which idempotency keys were used before, whose cap is
reached and who cannot pay.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from gatepost import ids
from gatepost.accept import capping
from gatepost.accept.answers import Accepted, AcceptedMessage, AcceptedRecipient, Idempotency, Kept, RefusedMessage
from gatepost.accept.capping import Capped, Caps
from gatepost.accept.charging import Charge, Till, open_till
from gatepost.accept.superseding import Superseding, look_back
from gatepost.accept.tracked import OPTION, TrackedDraft
from gatepost.clock import DAY, Instant
from gatepost.domain import route as routes
from gatepost.domain.address import Mailbox
from gatepost.domain.allowance import FREE, Terms
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import Draft, EnvelopeRecipient, Source
from gatepost.domain.recipient import Status
from gatepost.domain.stats import Labels
from gatepost.domain.tenant import Caller
from gatepost.egress.sandbox import BEHAVIOURS
from gatepost.store import engagement, facts, idempotency, messages, queue, suppressions
from gatepost.store.blobs import Stored
from gatepost.store.counting import Deltas, tags_text
from gatepost.store.handover import LARGEST, Handed
from gatepost.store.queue import Due

IDEMPOTENCY_LIFETIME = DAY
_NO_REASONS: Mapping[int, str] = {}
_QUEUED, _SCHEDULED, _SUPPRESSED = Status.QUEUED.value, Status.SCHEDULED.value, Status.SUPPRESSED.value
_COUNTERS = {
    (False, False): ("accepted",),
    (False, True): ("accepted", "suppressed"),
    (True, False): ("messages", "accepted"),
    (True, True): ("messages", "accepted", "suppressed"),
}
"""What a recipient is counted as: the first one stands for its message; whether it is suppressed."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A draft with all that committing it needs."""

    draft: Draft
    caller: Caller
    source: Source
    route: str
    stored: Stored
    expires_at: Instant
    warnings: Sequence[Fault] = ()
    systems: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Mail systems that take the recipients' domains, as far as they are known."""
    retry: str | None = None
    """Name of its retry schedule."""
    window: Mapping[str, Any] | None = None
    """Hours at which it may leave, as JSON."""
    routes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Routes of recipients' domains that have another one than the message."""
    tracked: TrackedDraft | None = None
    """What is tracked of it; None is nothing."""

    def route_of(self, n: int) -> str:
        """Return the route of a recipient."""
        return self.routes.get(self.draft.recipients[n].address.domain, self.route) if self.routes else self.route


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What one request wants committed, all of it or (permissive) all that is good."""

    tenant_id: str
    items: Sequence[Item | RefusedMessage]
    is_permissive: bool = False
    idempotency: Idempotency | None = None
    now: Instant = 0
    terms: Terms = FREE
    node: str = ""
    supersede_ms: int = 0


@dataclass(slots=True)
class _Rows:
    """The rows of one transaction, collected for multi-row inserts."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    recipients: list[dict[str, Any]] = field(default_factory=list)
    queue: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    superseding: Superseding = field(default_factory=Superseding)
    deltas: Deltas = field(default_factory=Deltas)
    links: list[tuple[str, str, Sequence[str], Instant]] = field(default_factory=list)


def commit(conn: Connection, units: Sequence[Unit]) -> list[Accepted | Exception]:
    """Commit the units of many requests; each gets its answer or its refusal."""
    now = max(unit.now for unit in units)
    known = idempotency.find(conn, [_key_of(unit) for unit in units if unit.idempotency], now)
    suppressed = suppressions.matching(conn, _addresses(units), now)
    rows = _Rows()
    seen: set[tuple[str, bytes]] = set()
    new = [unit for unit in units if unit.idempotency is None or _key_of(unit) not in known]
    rows.superseding = look_back(conn, _drafts(new), now, units[0].supersede_ms)
    capped = _capped(new, suppressed)
    caps = capping.take(conn, capped.values(), now)
    till = open_till(conn, units[0].node, [unit.tenant_id for unit in new if unit.terms.is_prepaid])
    counts = _Counts(capped, caps, till)
    answers = [_answer(unit, known, seen, suppressed, rows, counts) for unit in units]
    caps.close(conn)
    till.close(conn)
    _insert(conn, rows, now)
    return answers


@dataclass(frozen=True, slots=True)
class _Counts:
    """What is counted of a transaction; `capped` by the draft's id."""

    capped: Mapping[str, Capped]
    caps: Caps
    till: Till


def _drafts(units: Sequence[Unit]) -> list[tuple[str, Draft]]:
    return [(unit.tenant_id, item.draft) for unit in units for item in unit.items if isinstance(item, Item)]


def _capped(units: Sequence[Unit], suppressed: Mapping[tuple[str, str], list[tuple[str, str]]]) -> dict[str, Capped]:
    """Find the messages that caps concern."""
    found = {}
    for unit in units:
        if unit.terms.per_recipient:
            for item in unit.items:
                if isinstance(item, Item) and (amount := unit.terms.per_recipient.get(item.draft.lane)):
                    found[item.draft.id] = Capped(item.draft, amount, _counting(item, _reasons(item, suppressed)))
    return found


def _counting(item: Item, why: Mapping[int, str]) -> Sequence[int]:
    """Number the recipients that count against a cap: persons, and only those who would get the message."""
    if item.route != routes.SANDBOX:
        return range(len(item.draft.recipients)) if not why else [n for n in range(len(item.draft.recipients)) if n not in why]
    return [
        n
        for n, recipient in enumerate(item.draft.recipients)
        if n not in why and recipient.address.local.partition("+")[0].lower() not in BEHAVIOURS
    ]


def _key_of(unit: Unit) -> tuple[str, bytes]:
    assert unit.idempotency is not None
    return unit.tenant_id, hashlib.sha256(unit.idempotency.key.encode()).digest()


def _addresses(units: Sequence[Unit]) -> list[tuple[str, str]]:
    wanted = {
        (unit.tenant_id, recipient.address.key)
        for unit in units
        for item in unit.items
        if isinstance(item, Item)
        for recipient in item.draft.recipients
    }
    return list(wanted)


def _answer(
    unit: Unit,
    known: Mapping[tuple[str, bytes], idempotency.Answered],
    seen: set[tuple[str, bytes]],
    suppressed: Mapping[tuple[str, str], list[tuple[str, str]]],
    rows: _Rows,
    counts: _Counts,
) -> Accepted | Exception:
    if unit.idempotency is None:
        return _store(unit, suppressed, rows, counts)
    key = _key_of(unit)
    if (earlier := known.get(key)) is not None:
        return _replay(unit.idempotency, earlier)
    if key in seen:
        return Refused("idempotency_in_progress", "the first request with this key has not been answered yet", retry_after_s=1)
    seen.add(key)
    answer = _store(unit, suppressed, rows, counts)
    if isinstance(answer, Accepted):
        rows.answers.append(
            {
                "tenant_id": unit.tenant_id,
                "key_hash": key[1],
                "request_hash": unit.idempotency.request_hash,
                "response": _keep(answer),
                "expires_at": unit.now + IDEMPOTENCY_LIFETIME,
            }
        )
    return answer


def answer_again(conn: Connection, unit: Unit) -> Accepted | None:
    """
    Answer a request that was answered before; None when it was not. Reads only.

    Raises:
        Refused: idempotency_key_reused: that was another request.
    """
    assert unit.idempotency is not None
    key = _key_of(unit)
    earlier = idempotency.find(conn, [key], unit.now).get(key)
    answer = None if earlier is None else _replay(unit.idempotency, earlier)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _keep(answer: Accepted) -> str:
    kept = Kept(
        messages=[result if isinstance(result, AcceptedMessage) else None for result in answer.results],
        refusals=[result if isinstance(result, RefusedMessage) else None for result in answer.results],
    )
    return msgspec.json.encode(kept).decode()


def _replay(asked: Idempotency, earlier: idempotency.Answered) -> Accepted | Exception:
    if earlier.request_hash != asked.request_hash:
        return Refused("idempotency_key_reused", "the key was used within the last 24 hours for a request with another content")
    kept = msgspec.json.decode(earlier.response, type=Kept)
    results = [message or refusal for message, refusal in zip(kept.messages, kept.refusals, strict=True)]
    return Accepted(results=[result for result in results if result is not None], is_replay=True)


def _store(unit: Unit, suppressed: Mapping[tuple[str, str], list[tuple[str, str]]], rows: _Rows, counts: _Counts) -> Accepted | Exception:
    """Collect the rows of a unit; nothing is collected when it is refused."""
    reasons = [_reasons(item, suppressed) if isinstance(item, Item) else {} for item in unit.items]
    results: list[AcceptedMessage | RefusedMessage] = []
    counted: list[Capped] = []
    for n, (item, why) in enumerate(zip(unit.items, reasons, strict=True)):
        if isinstance(item, RefusedMessage):
            results.append(item)
            continue
        capped = counts.capped.get(item.draft.id)
        refusal = _all_suppressed(item, why)
        if refusal is None and capped is not None:
            refusal = counts.caps.refuse(capped, partial(_pointers, item))
        if refusal is None:
            counted += [] if capped is None else [capped]
            results.append(_accepted(item, why))
        elif unit.is_permissive:
            results.append(RefusedMessage(code=refusal.code, detail=refusal.detail))
        else:
            counts.caps.restore(counted)
            return _placed(refusal, n) if len(unit.items) > 1 else refusal
    charges = _charges(unit, results, reasons)
    if (refusal := counts.till.refuse(unit.tenant_id, sum([charge.cost_micros for charge in charges]))) is not None:
        counts.caps.restore(counted)
        return refusal
    for charge in charges:
        counts.till.charge(unit.tenant_id, charge, unit.now)
    handed = []
    is_all_handed = True
    for item, result, why in zip(unit.items, results, reasons, strict=True):
        if isinstance(item, Item) and isinstance(result, AcceptedMessage):
            one = _collect(item, result, why, unit.now, rows)
            handed += [] if one is None else [one]
            is_all_handed &= one is not None
    return Accepted(results=results, handed=handed, is_all_handed=is_all_handed)


def _charges(unit: Unit, results: Sequence[AcceptedMessage | RefusedMessage], reasons: Sequence[Mapping[int, str]]) -> list[Charge]:
    """Charge messages by the first roads of their recipients: that is what they are expected to cost; one charge for each road."""
    sums: dict[str, list[int]] = {}
    for item, result, why in zip(unit.items, results, reasons, strict=True):
        if isinstance(item, Item) and isinstance(result, AcceptedMessage):
            message, size_bytes = 1, len(item.draft.content)
            for road, count in _counts_of(item, why).items():
                found = sums.setdefault(road, [0, 0, 0, 0])
                found[0] += message
                found[1] += count
                found[2] += size_bytes
                found[3] += unit.terms.cost_micros(road, count)
                message = size_bytes = 0
    return [
        Charge(route=road, messages=messages, recipients=recipients, size_bytes=size_bytes, cost_micros=cost)
        for road, (messages, recipients, size_bytes, cost) in sums.items()
    ]


def _counts_of(item: Item, why: Mapping[int, str]) -> Mapping[str, int]:
    if not item.routes:
        return {_road(item.route): len(item.draft.recipients) - len(why)}
    return Counter(_road(item.route_of(n)) for n in range(len(item.draft.recipients)) if n not in why)


@lru_cache(maxsize=10_000)
def _road(route: str) -> str:
    return str(routes.roads_of(route)[0])


def _all_suppressed(item: Item, why: Mapping[int, str]) -> Refused | None:
    if len(why) < len(item.draft.recipients):
        return None
    return Refused("all_recipients_suppressed", "every recipient is on the suppression list", _suppression_faults(item, why))


def _placed(refusal: Refused, n: int) -> Refused:
    """Say which message of several a refusal is about."""
    faults = tuple(replace(fault, pointer=f"/messages/{n}{fault.pointer}") for fault in refusal.faults)
    return Refused(refusal.code, f"message {n}: {refusal.detail}", faults, refusal.retry_after_s)


def _reasons(item: Item, suppressed: Mapping[tuple[str, str], list[tuple[str, str]]]) -> Mapping[int, str]:
    """Map the numbers of suppressed recipients to the reason."""
    if not suppressed:
        return _NO_REASONS
    found = {}
    for n, recipient in enumerate(item.draft.recipients):
        for stream, reason in suppressed.get((item.caller.tenant_id, recipient.address.key), ()):
            if stream in {suppressions.EVERY_STREAM, item.draft.steering.stream}:
                found[n] = reason
    return found


def _suppression_faults(item: Item, why: Mapping[int, str]) -> tuple[Fault, ...]:
    places = _pointers(item)
    return tuple(
        Fault(places[n], "suppressed", f"{recipient.address} is suppressed: {why[n]}") for n, recipient in enumerate(item.draft.recipients)
    )


def _pointers(item: Item) -> dict[int, str]:
    """Say where each recipient stands in the request."""
    kinds: dict[str, int] = {}
    places = {}
    for n, recipient in enumerate(item.draft.recipients):
        place = kinds.get(recipient.kind.value, 0)
        kinds[recipient.kind.value] = place + 1
        places[n] = f"/{recipient.kind.value}/{place}"
    return places


def _accepted(item: Item, why: Mapping[int, str]) -> AcceptedMessage:
    waiting = _SCHEDULED if item.draft.steering.scheduled_at is not None else _QUEUED
    recipients = [
        AcceptedRecipient(
            id=ids.recipient_id(item.draft.id, n),
            address=str(recipient.address),
            kind=recipient.kind.value,
            status=_SUPPRESSED if n in why else waiting,
            reason=why.get(n),
        )
        for n, recipient in enumerate(item.draft.recipients)
    ]
    return AcceptedMessage(
        id=item.draft.id,
        status=waiting,  # at least one of them waits: otherwise it would be refused
        is_sandbox=item.route == routes.SANDBOX,
        recipients=recipients,
        warnings=list(item.warnings),
    )


def _collect(item: Item, result: AcceptedMessage, why: Mapping[int, str], now: Instant, rows: _Rows) -> Handed | None:
    """Collect the rows of a message; return what dispatch needs of it, if it is due and may be handed over."""
    draft, steering, tenant_id = item.draft, item.draft.steering, item.caller.tenant_id
    lane = int(draft.lane)
    row = _message_row(item, lane, now)
    rows.messages.append(row)
    if item.tracked is not None and item.tracked.links:
        rows.links.append((tenant_id, draft.id, item.tracked.links, item.tracked.links_end_at))
    rows.bodies.append({"message_id": draft.id, "encoding": item.stored[0], "data": item.stored[1]})
    kind = EventType.SCHEDULED if steering.scheduled_at is not None else EventType.ACCEPTED
    rows.events.append(
        Event(
            id=ids.new("evt"),
            type=kind,
            tenant_id=tenant_id,
            at=now,
            message_id=draft.id,
            data=_told(item),
        )
    )
    dues: list[Due] = []
    facts: list[tuple[str | None, str, str | None, str | None]] = []
    labels = Labels(draft.header_from.address.domain, steering.stream, tags_text(steering.tags), "", now)
    for n, (recipient, told) in enumerate(zip(draft.recipients, result.recipients, strict=True)):
        own = item.route_of(n)
        route = own if n in why else rows.superseding.route(draft, tenant_id, n, own)
        road = routes.roads_of(route)[0]
        site = road.site_of(recipient.address.domain, item.systems.get(recipient.address.domain))
        own_route = route if route != item.route else None
        rows.recipients.append(_recipient_row(item, n, recipient, told, site, now, own_route))
        rows.deltas.add(tenant_id, labels, str(road), "", "", now, _COUNTERS[n == 0, n in why])
        if n in why:
            data = {"reason": why[n]}
            rows.events.append(
                Event(id=ids.new("evt"), type=EventType.SUPPRESSED, tenant_id=tenant_id, at=now, message_id=draft.id, n=n, data=data)
            )
        else:
            due_at, shard = steering.scheduled_at or now, routes.shard_of(road.pool, site)
            dues.append(Due(shard, lane, due_at, draft.id, n, tenant_id, road.pool, site, 1, 0, item.expires_at))
            facts.append((recipient.notify, told.address, recipient.orcpt, own_route))
    rows.queue += [due._asdict() for due in dues]
    if steering.scheduled_at is not None or item.stored[0] != "zstd" or len(item.stored[1]) > LARGEST:
        return None
    return Handed(
        draft.id, tenant_id, now, row["source"], row["from_domain"], draft.is_8bit, draft.is_smtputf8, item.route, item.stored[0],
        item.stored[1], row["envelope_from"], row["options"], labels, dues, facts,
    )  # fmt: skip


def _told(item: Item) -> dict[str, Any]:
    told: dict[str, Any] = {"source": item.source.value, "recipients": len(item.draft.recipients)}
    if item.warnings:
        told["warnings"] = codes_of(item.warnings)
    return told


def codes_of(warnings: Sequence[Fault]) -> list[str]:
    """Return what may stand in events and logs of warnings: their codes, never their words."""
    return sorted({warning.code for warning in warnings})


def _message_row(item: Item, lane: int, now: Instant) -> dict[str, Any]:
    draft, steering = item.draft, item.draft.steering
    wanted = {
        "ret": draft.ret,
        "envid": draft.envid,
        "require_tls": steering.requires_tls,
        "requiretls": steering.needs_requiretls,
        "retry": item.retry,
        "window": item.window,
        "tls_optional": steering.ignores_tls_policy and not steering.requires_tls,
        OPTION: item.tracked and item.tracked.options,
    }
    options = {name: value for name, value in wanted.items() if value}
    return {
        "id": draft.id,
        "tenant_id": item.caller.tenant_id,
        "created_at": now,
        "stream": steering.stream,
        "lane": lane,
        "source": item.source.value,
        "key_id": item.caller.principal.id,
        "envelope_from": str(draft.envelope_from or ""),
        "from_": _shown(draft.header_from),
        "from_domain": draft.header_from.address.domain,
        "subject": draft.subject,
        "message_id_header": draft.message_id_header,
        "size_bytes": len(draft.content),
        "is_8bit": draft.is_8bit,
        "is_smtputf8": draft.is_smtputf8,
        "is_sandbox": item.route == routes.SANDBOX,
        "route": item.route,
        "tags": list(steering.tags),
        "metadata": steering.metadata,
        "scheduled_at": steering.scheduled_at,
        "expires_at": item.expires_at,
        "options": options,
    }


def _recipient_row(
    item: Item, n: int, recipient: EnvelopeRecipient, told: AcceptedRecipient, site: str, now: Instant, route: str | None
) -> dict[str, Any]:  # fmt: skip
    is_suppressed = told.status == _SUPPRESSED
    return {
        "message_id": item.draft.id,
        "n": n,
        "tenant_id": item.caller.tenant_id,
        "address": told.address,
        "address_key": recipient.address.key,
        "kind": told.kind,
        "site": site,
        "status": told.status,
        "reason": told.reason,
        "attempts": 0,
        "last_reply": None,
        "last_host": None,
        "updated_at": now,
        "final_at": now if is_suppressed else None,
        "notify": recipient.notify,
        "orcpt": recipient.orcpt,
        "route": route,
    }


def _shown(mailbox: Mailbox) -> str:
    return f"{mailbox.name} <{mailbox.address}>" if mailbox.name else str(mailbox.address)


def _insert(conn: Connection, rows: _Rows, now: Instant) -> None:
    if rows.messages:
        messages.insert(conn, rows.messages, rows.bodies, rows.recipients)
        queue.insert(conn, rows.queue)
        facts.insert_events(conn, rows.events + rows.superseding.finish(conn, now))
        rows.deltas.write(conn)
        if rows.links:
            engagement.put_links(conn, rows.links)
    idempotency.insert(conn, rows.answers, now)
