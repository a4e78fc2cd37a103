"""
The one door behind all doors: a submission becomes a stored message, or is refused.

Arrives: who asks (`Caller`) and what they want sent (`Submission`, `RawSubmission`).
Leaves: `Accepted`, after one fsync'd transaction that holds messages, recipients, queue rows, events and the
idempotency key; or `Refused`, and nothing took effect.
Not here: parsing JSON or SMTP (the doors), what a valid message looks like (mime), the SQL (store).
Bugs: none known.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Clock, Instant
from gatepost.domain import route as routes
from gatepost.domain.address import Address, Mailbox
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import STREAMS, Draft, EnvelopeRecipient, RawSubmission, Source, Submission
from gatepost.domain.recipient import Status, message_status
from gatepost.domain.tenant import Caller, DomainStatus
from gatepost.mime.checks import check_submission
from gatepost.mime.compose import adopt, compose
from gatepost.observe import maillog, metrics
from gatepost.settings import Settings
from gatepost.store import facts, idempotency, messages, queue, suppressions
from gatepost.store.blobs import Blobs, Stored
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.directory import Directory

IDEMPOTENCY_LIFETIME = DAY
_RETRY_AFTER_S = 5
_TOO_MUCH_WAITING = 20_000
"""Messages that wait for their commit before a door says it is overloaded."""


class AcceptedRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient at accept."""

    id: str
    address: str
    kind: str
    status: str
    reason: str | None = None


class AcceptedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is stored."""

    id: str
    status: str
    is_sandbox: bool
    recipients: list[AcceptedRecipient]


class RefusedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a permissive batch that was not stored; the shape in which a refusal is kept for replays."""

    code: str
    detail: str
    faults: list[Fault] = msgspec.field(default_factory=list)

    def as_refusal(self) -> Refused:
        """Return the refusal itself."""
        return Refused(self.code, self.detail, tuple(self.faults))


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """
    The answer to a request.

    Attributes:
        results: One per message of the request, in order.
        is_replay: The request took effect earlier and this is its answer (same idempotency key).
    """

    results: list[AcceptedMessage | RefusedMessage]
    is_replay: bool = False


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`Accepted` as the idempotency table keeps it; unions need a tag to be read back."""

    messages: list[AcceptedMessage | None]
    refusals: list[RefusedMessage | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """An idempotency key with the hash of the request that it stands for."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A draft with all that committing it needs."""

    draft: Draft
    caller: Caller
    source: Source
    route: str
    stored: Stored
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """What one request wants committed, all of it or (permissive) all that is good."""

    tenant_id: str
    items: Sequence[_Item | RefusedMessage]
    is_permissive: bool = False
    idempotency: Idempotency | None = None
    now: Instant = 0


@dataclass(slots=True)
class _Rows:
    """The rows of one transaction, collected for multi-row inserts."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    recipients: list[dict[str, Any]] = field(default_factory=list)
    queue: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)


BatchMode = Literal["strict", "permissive"]


class Acceptor:
    """Accepts messages for all doors of a process."""

    def __init__(
        self,
        *,
        engine: Engine,
        blobs: Blobs,
        directory: Directory,
        settings: Settings,
        clock: Clock,
        hostname: str,
        on_committed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            hostname: Right side of Message-IDs that we make.
            on_committed: Called after each commit, to wake the dispatch loop.
        """
        self._blobs = blobs
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._hostname = hostname
        self._on_committed = on_committed
        self._commits: GroupCommit[_Unit, Accepted] = GroupCommit(engine, _commit, weight=lambda unit: len(unit.items), max_weight=250, linger_s=0.0005)
        self._in_progress: set[tuple[str, str]] = set()

    async def submit(self, caller: Caller, submission: Submission, answered_as: Idempotency | None = None) -> Accepted:
        """
        Accept one message given as fields.

        Raises:
            Refused: With the code, the places and what to do.
        """
        item = await self._prepare(caller, submission)
        return await self._accept(caller, [item], answered_as, is_permissive=False)

    async def submit_batch(
        self, caller: Caller, submissions: Sequence[Submission | Refused], mode: BatchMode, answered_as: Idempotency | None = None
    ) -> Accepted:
        """
        Accept several messages in one transaction.

        Args:
            submissions: In order; a `Refused` stands for one that the door could not read.
            mode: `strict` accepts all or none; `permissive` accepts what is good.

        Raises:
            Refused: In strict mode the faults of all messages, with `/messages/N` before their pointers.
        """
        items: list[_Item | RefusedMessage] = []
        for submission in submissions:
            try:
                if isinstance(submission, Refused):
                    raise submission
                items.append(await self._prepare(caller, submission))
            except Refused as refusal:
                if refusal.code in {"storage_unavailable", "overloaded"}:
                    raise
                items.append(RefusedMessage(code=refusal.code, detail=refusal.detail, faults=list(refusal.faults)))
        if mode == "strict":
            _refuse_all_for_one(items)
        return await self._accept(caller, items, answered_as, is_permissive=mode == "permissive")

    async def submit_raw(self, caller: Caller, submission: RawSubmission, source: Source = Source.SMTP, answered_as: Idempotency | None = None) -> AcceptedMessage:
        """
        Accept one finished MIME message.

        The idempotency key may stand in the content (`X-Gatepost-Idempotency-Key`); content and envelope are then the
        request that it stands for.

        Raises:
            Refused: With the code, the places and what to do.
        """
        accepted = await self.submit_finished(caller, submission, source, answered_as)
        result = accepted.results[0]
        assert isinstance(result, AcceptedMessage)
        return result

    async def submit_finished(
        self, caller: Caller, submission: RawSubmission, source: Source = Source.SMTP, answered_as: Idempotency | None = None
    ) -> Accepted:
        """
        Accept one finished MIME message as `submit_raw` does; the answer also tells whether it is a replay.

        Raises:
            Refused: With the code, the places and what to do.
        """
        item = await self._prepare_raw(caller, submission, source)
        key = item.draft.steering.idempotency_key
        if answered_as is None and key is not None:
            answered_as = Idempotency(key=key, request_hash=_hash_of_raw(submission))
        return await self._accept(caller, [item], answered_as, is_permissive=False)

    async def validate(self, caller: Caller, submission: Submission) -> None:
        """
        Check a message as `submit` would, suppressions apart, and accept nothing.

        Raises:
            Refused: As `submit` would.
        """
        await self._draft(caller, submission)

    async def drain(self) -> None:
        """Wait until everything handed over is committed."""
        await self._commits.drain()

    async def _prepare(self, caller: Caller, submission: Submission) -> _Item:
        return self._item(caller, await self._draft(caller, submission), Source.HTTP)

    async def _draft(self, caller: Caller, submission: Submission) -> Draft:
        now = self._clock.now()
        faults = check_submission(submission, self._settings.limits)
        faults += self._check_times(submission.steering.scheduled_at, submission.steering.expires_at, now)
        count = len(submission.to) + len(submission.cc) + len(submission.bcc)
        if faults:
            raise invalid(*faults)
        self._check_count(count)
        await self._check_sender(caller, submission.sender.address, "/from")
        draft = compose(submission, message_id=ids.new_message_id(), hostname=self._hostname, now=now)
        self._check_size(draft)
        return draft

    async def _prepare_raw(self, caller: Caller, submission: RawSubmission, source: Source) -> _Item:
        limits = self._settings.limits
        if len(submission.content) > limits.message_bytes:
            raise Refused("payload_too_large", f"the message has {len(submission.content)} bytes; at most {limits.message_bytes} are taken")
        now = self._clock.now()
        self._check_count(len(submission.recipients))
        draft = adopt(submission, message_id=ids.new_message_id(), hostname=self._hostname, now=now, limits=limits)
        faults = self._check_times(draft.steering.scheduled_at, draft.steering.expires_at, now)
        if faults:
            raise invalid(*faults)
        await self._check_sender(caller, draft.header_from.address, "From")
        if draft.envelope_from is not None and draft.envelope_from.domain != draft.header_from.address.domain:
            await self._check_sender(caller, draft.envelope_from, "MAIL FROM")
        return self._item(caller, draft, source)

    def _item(self, caller: Caller, draft: Draft, source: Source) -> _Item:
        try:
            stored = self._blobs.put(draft.content)
        except StorageUnavailable as error:
            raise _unavailable() from error
        start = draft.steering.scheduled_at or self._clock.now()
        return _Item(
            draft=draft,
            caller=caller,
            source=source,
            route=routes.SANDBOX if caller.is_test else self._settings.egress.default_route,
            stored=stored,
            expires_at=draft.steering.expires_at or start + self._settings.retry.max_age_s * 1000,
        )

    def _check_times(self, scheduled_at: Instant | None, expires_at: Instant | None, now: Instant) -> list[Fault]:
        faults = []
        ahead_s = self._settings.limits.schedule_ahead_s
        if scheduled_at is not None and scheduled_at > now + ahead_s * 1000:
            faults.append(Fault("/scheduled_at", "too_far_ahead", f"a message may be scheduled at most {ahead_s // 86400} days ahead"))
        if expires_at is not None and expires_at <= max(now, scheduled_at or now):
            faults.append(Fault("/expires_at", "in_the_past", "the message would expire before it is sent"))
        return faults

    def _check_count(self, count: int) -> None:
        limit = self._settings.limits.recipients
        if count == 0:
            raise invalid(Fault("/to", "required", "a message needs at least one recipient"))
        if count > limit:
            raise Refused("too_many_recipients", f"the message has {count} recipients; at most {limit} are taken")

    def _check_size(self, draft: Draft) -> None:
        limit = self._settings.limits.message_bytes
        if len(draft.content) > limit:
            raise Refused("payload_too_large", f"the composed message has {len(draft.content)} bytes; at most {limit} are taken")

    async def _check_sender(self, caller: Caller, sender: Address, pointer: str) -> None:
        domain = await self._directory.domain(caller.tenant_id, sender.domain)
        if domain is None or domain.status is not DomainStatus.VERIFIED:
            state = "is not verified yet" if domain else "is not one of this tenant's domains"
            raise Refused("domain_not_verified", f"{sender.domain} {state}", (Fault(pointer, "domain_not_verified", f"{sender.domain} {state}"),))

    async def _accept(self, caller: Caller, items: Sequence[_Item | RefusedMessage], answered_as: Idempotency | None, *, is_permissive: bool) -> Accepted:
        if len(self._commits) > _TOO_MUCH_WAITING:
            raise Refused("overloaded", "too many messages wait to be stored", retry_after_s=1)
        unit = _Unit(tenant_id=caller.tenant_id, items=items, is_permissive=is_permissive, idempotency=answered_as, now=self._clock.now())
        running = None if answered_as is None else (caller.tenant_id, answered_as.key)
        if running is not None:
            if running in self._in_progress:
                raise Refused("idempotency_in_progress", "the first request with this key has not been answered yet", retry_after_s=1)
            self._in_progress.add(running)
        started = self._clock.monotonic()
        try:
            accepted = await self._commit(unit)
        finally:
            if running is not None:
                self._in_progress.discard(running)
        self._tell(caller, items, accepted, started)
        return accepted

    async def _commit(self, unit: _Unit) -> Accepted:
        try:
            # shielded: a client that goes away must not leave its idempotency key marked as free while the commit runs
            return await asyncio.shield(self._commits.submit(unit))
        except StorageUnavailable as error:
            raise _unavailable() from error
        except sa.exc.IntegrityError as error:
            if unit.idempotency is None:
                raise
            # another process committed the same key in the same moment: its answer is there now
            raise Refused("idempotency_in_progress", "another request with this key was just answered", retry_after_s=1) from error

    def _tell(self, caller: Caller, items: Sequence[_Item | RefusedMessage], accepted: Accepted, started: float) -> None:
        if accepted.is_replay:
            maillog.replayed(request_id=caller.request_id, key_id=caller.key.id)
            return
        self._on_committed()
        for item, result in zip(items, accepted.results, strict=True):
            if isinstance(item, _Item) and isinstance(result, AcceptedMessage):
                count = len(result.recipients)
                metrics.accepted(item.source.value, item.draft.steering.stream, count, self._clock.monotonic() - started)
                maillog.accepted(
                    message_id=result.id, request_id=caller.request_id, tenant_id=caller.tenant_id, key_id=caller.key.id, source=item.source.value,
                    stream=item.draft.steering.stream, route=item.route, recipients=count, size_bytes=len(item.draft.content), status=result.status,
                )  # fmt: skip


def _unavailable() -> Refused:
    return Refused("storage_unavailable", "the database cannot be used now", retry_after_s=_RETRY_AFTER_S)


def _hash_of_raw(submission: RawSubmission) -> bytes:
    digest = hashlib.sha256(submission.content)
    digest.update(repr((str(submission.envelope_from), [str(one.address) for one in submission.recipients])).encode())
    return digest.digest()


def _refuse_all_for_one(items: Sequence[_Item | RefusedMessage]) -> None:
    """Raise the refusal of a strict batch that holds a faulty message."""
    faults: list[Fault] = []
    for n, item in enumerate(items):
        if isinstance(item, RefusedMessage):
            faults += _moved(item, n)
    if faults:
        raise invalid(*faults)


def _moved(refused: RefusedMessage, n: int) -> list[Fault]:
    place = f"/messages/{n}"
    if not refused.faults:
        return [Fault(place, refused.code, refused.detail)]
    return [Fault(place + fault.pointer, fault.code, fault.detail) for fault in refused.faults]


def _commit(conn: Connection, units: Sequence[_Unit]) -> list[Accepted | Exception]:
    """Commit the units of many requests; each gets its answer or its refusal."""
    now = max(unit.now for unit in units)
    known = idempotency.find(conn, [_key_of(unit) for unit in units if unit.idempotency], now)
    suppressed = suppressions.matching(conn, _addresses(units), now)
    rows = _Rows()
    answers: list[Accepted | Exception] = []
    seen: set[tuple[str, bytes]] = set()
    for unit in units:
        answers.append(_answer(unit, known, seen, suppressed, rows))
    _insert(conn, rows, now)
    return answers


def _key_of(unit: _Unit) -> tuple[str, bytes]:
    assert unit.idempotency is not None
    return unit.tenant_id, hashlib.sha256(unit.idempotency.key.encode()).digest()


def _addresses(units: Sequence[_Unit]) -> list[tuple[str, str]]:
    wanted = {
        (unit.tenant_id, recipient.address.key)
        for unit in units
        for item in unit.items
        if isinstance(item, _Item)
        for recipient in item.draft.recipients
    }
    return list(wanted)


def _answer(
    unit: _Unit,
    known: Mapping[tuple[str, bytes], idempotency.Answered],
    seen: set[tuple[str, bytes]],
    suppressed: Mapping[tuple[str, str], list[tuple[str, str]]],
    rows: _Rows,
) -> Accepted | Exception:
    if unit.idempotency is None:
        return _store(unit, suppressed, rows)
    key = _key_of(unit)
    if (earlier := known.get(key)) is not None:
        return _replay(unit.idempotency, earlier)
    if key in seen:
        return Refused("idempotency_in_progress", "the first request with this key has not been answered yet", retry_after_s=1)
    seen.add(key)
    answer = _store(unit, suppressed, rows)
    if isinstance(answer, Accepted):
        rows.answers.append(
            {
                "tenant_id": unit.tenant_id, "key_hash": key[1], "request_hash": unit.idempotency.request_hash,
                "response": _keep(answer), "expires_at": unit.now + IDEMPOTENCY_LIFETIME,
            }
        )  # fmt: skip
    return answer


def _keep(answer: Accepted) -> str:
    kept = _Kept(
        messages=[result if isinstance(result, AcceptedMessage) else None for result in answer.results],
        refusals=[result if isinstance(result, RefusedMessage) else None for result in answer.results],
    )
    return msgspec.json.encode(kept).decode()


def _replay(asked: Idempotency, earlier: idempotency.Answered) -> Accepted | Exception:
    if earlier.request_hash != asked.request_hash:
        return Refused("idempotency_key_reused", "the key was used within the last 24 hours for a request with another content")
    kept = msgspec.json.decode(earlier.response, type=_Kept)
    results = [message or refusal for message, refusal in zip(kept.messages, kept.refusals, strict=True)]
    return Accepted(results=[result for result in results if result is not None], is_replay=True)


def _store(unit: _Unit, suppressed: Mapping[tuple[str, str], list[tuple[str, str]]], rows: _Rows) -> Accepted | Exception:
    """Collect the rows of a unit; nothing is collected when it is refused."""
    reasons = [_reasons(item, suppressed) if isinstance(item, _Item) else {} for item in unit.items]
    results: list[AcceptedMessage | RefusedMessage] = []
    for n, (item, why) in enumerate(zip(unit.items, reasons, strict=True)):
        if isinstance(item, RefusedMessage):
            results.append(item)
        elif len(why) < len(item.draft.recipients):
            results.append(_accepted(item, why))
        elif unit.is_permissive:
            results.append(RefusedMessage(code="all_recipients_suppressed", detail="every recipient is on the suppression list"))
        else:
            place = f"message {n}: " if len(unit.items) > 1 else ""
            return Refused("all_recipients_suppressed", f"{place}every recipient is on the suppression list", _suppression_faults(item, why))
    for item, result, why in zip(unit.items, results, reasons, strict=True):
        if isinstance(item, _Item) and isinstance(result, AcceptedMessage):
            _collect(item, result, why, unit.now, rows)
    return Accepted(results=results)


def _reasons(item: _Item, suppressed: Mapping[tuple[str, str], list[tuple[str, str]]]) -> dict[int, str]:
    """Map the numbers of suppressed recipients to the reason."""
    found = {}
    for n, recipient in enumerate(item.draft.recipients):
        for stream, reason in suppressed.get((item.caller.tenant_id, recipient.address.key), ()):
            if stream in {suppressions.EVERY_STREAM, item.draft.steering.stream}:
                found[n] = reason
    return found


def _suppression_faults(item: _Item, why: Mapping[int, str]) -> tuple[Fault, ...]:
    kinds: dict[str, int] = {}
    faults = []
    for n, recipient in enumerate(item.draft.recipients):
        place = kinds.get(recipient.kind.value, 0)
        kinds[recipient.kind.value] = place + 1
        faults.append(Fault(f"/{recipient.kind.value}/{place}", "suppressed", f"{recipient.address} is suppressed: {why[n]}"))
    return tuple(faults)


def _accepted(item: _Item, why: Mapping[int, str]) -> AcceptedMessage:
    waiting = Status.SCHEDULED if item.draft.steering.scheduled_at is not None else Status.QUEUED
    recipients = [
        AcceptedRecipient(
            id=ids.recipient_id(item.draft.id, n),
            address=str(recipient.address),
            kind=recipient.kind.value,
            status=(Status.SUPPRESSED if n in why else waiting).value,
            reason=why.get(n),
        )
        for n, recipient in enumerate(item.draft.recipients)
    ]
    return AcceptedMessage(
        id=item.draft.id,
        status=message_status([Status(recipient.status) for recipient in recipients]).value,
        is_sandbox=item.route == routes.SANDBOX,
        recipients=recipients,
    )


def _collect(item: _Item, result: AcceptedMessage, why: Mapping[int, str], now: Instant, rows: _Rows) -> None:
    draft, steering, tenant_id = item.draft, item.draft.steering, item.caller.tenant_id
    lane = int(STREAMS[steering.stream])
    rows.messages.append(_message_row(item, lane, now))
    rows.bodies.append({"message_id": draft.id, "encoding": item.stored[0], "data": item.stored[1]})
    kind = EventType.SCHEDULED if steering.scheduled_at is not None else EventType.ACCEPTED
    rows.events.append(
        Event(id=ids.new("evt"), type=kind, tenant_id=tenant_id, at=now, message_id=draft.id, data={"source": item.source.value, "recipients": len(draft.recipients)})
    )
    for n, (recipient, told) in enumerate(zip(draft.recipients, result.recipients, strict=True)):
        site = routes.site_of(item.route, recipient.address.domain)
        rows.recipients.append(_recipient_row(item, n, recipient, told, site, now))
        if n in why:
            data = {"reason": why[n]}
            rows.events.append(Event(id=ids.new("evt"), type=EventType.SUPPRESSED, tenant_id=tenant_id, at=now, message_id=draft.id, n=n, data=data))
        else:
            rows.queue.append(
                {
                    "shard": routes.shard_of(routes.DEFAULT_POOL, site), "lane": lane, "due_at": steering.scheduled_at or now, "message_id": draft.id,
                    "n": n, "tenant_id": tenant_id, "pool": routes.DEFAULT_POOL, "site": site, "attempt": 1, "retries": 0, "expires_at": item.expires_at,
                }
            )  # fmt: skip


def _message_row(item: _Item, lane: int, now: Instant) -> dict[str, Any]:
    draft, steering = item.draft, item.draft.steering
    options = {name: value for name, value in (("ret", draft.ret), ("envid", draft.envid)) if value}
    return {
        "id": draft.id, "tenant_id": item.caller.tenant_id, "created_at": now, "stream": steering.stream, "lane": lane, "source": item.source.value,
        "key_id": item.caller.key.id, "envelope_from": str(draft.envelope_from or ""), "from_": _shown(draft.header_from),
        "from_domain": draft.header_from.address.domain, "subject": draft.subject, "message_id_header": draft.message_id_header,
        "size_bytes": len(draft.content), "is_8bit": draft.is_8bit, "is_smtputf8": draft.is_smtputf8, "is_sandbox": item.route == routes.SANDBOX,
        "route": item.route, "tags": list(steering.tags), "metadata": steering.metadata, "scheduled_at": steering.scheduled_at,
        "expires_at": item.expires_at, "options": options,
    }  # fmt: skip


def _recipient_row(item: _Item, n: int, recipient: EnvelopeRecipient, told: AcceptedRecipient, site: str, now: Instant) -> dict[str, Any]:
    is_suppressed = told.status == Status.SUPPRESSED.value
    return {
        "message_id": item.draft.id, "n": n, "tenant_id": item.caller.tenant_id, "address": told.address, "address_key": recipient.address.key,
        "kind": told.kind, "site": site, "status": told.status, "reason": told.reason, "attempts": 0, "last_reply": None, "last_host": None,
        "updated_at": now, "final_at": now if is_suppressed else None, "notify": recipient.notify, "orcpt": recipient.orcpt,
    }  # fmt: skip


def _shown(mailbox: Mailbox) -> str:
    return f"{mailbox.name} <{mailbox.address}>" if mailbox.name else str(mailbox.address)


def _insert(conn: Connection, rows: _Rows, now: Instant) -> None:
    if rows.messages:
        messages.insert(conn, rows.messages, rows.bodies, rows.recipients)
        queue.insert(conn, rows.queue)
        facts.insert_events(conn, rows.events)
    idempotency.insert(conn, rows.answers, now)
