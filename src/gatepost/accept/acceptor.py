"""
The one door behind all doors: a submission becomes a stored message, or is refused.

Arrives: who asks (`Caller`) and what they want sent (`Submission`, `RawSubmission`).
Leaves: `Accepted`, after one fsync'd transaction that holds messages, recipients, queue rows, events and the
idempotency key; or `Refused`, and nothing took effect.
Not here: parsing JSON or SMTP (the doors), what a valid message looks like (mime), the transaction (committing).
Bugs: none known.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
import sqlalchemy as sa

from gatepost import ids
from gatepost.accept.answers import Accepted, AcceptedMessage, Idempotency, RefusedMessage
from gatepost.accept.committing import Item, Unit, answer_again, codes_of, commit
from gatepost.accept.handing import Handing
from gatepost.accept.lanes import lane_of, stream_of
from gatepost.accept.ports import Admission, Limits, Routing, Screening
from gatepost.accept.tracked import plan_tracking
from gatepost.accept.turns import Turns
from gatepost.clock import Clock, Instant
from gatepost.domain import route as routes
from gatepost.domain.access import Scope
from gatepost.domain.address import Address
from gatepost.domain.allowance import FREE, Unused, Wanted
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import DEFAULT_STREAM, STREAMS, Draft, Lane, RawSubmission, Source, Submission
from gatepost.domain.recipient import Status
from gatepost.domain.stream import Stream, window_as_dict
from gatepost.domain.tenant import Caller, DomainStatus
from gatepost.mime.adopt import adopt
from gatepost.mime.checks import check_submission
from gatepost.mime.compose import compose
from gatepost.observe import maillog, metrics
from gatepost.settings import Settings
from gatepost.store import messages
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.directory import Directory

_RETRY_AFTER_S = 5
_AT_A_STRETCH = 25

BatchMode = Literal["strict", "permissive"]
Sent = TypeVar("Sent", Submission, Draft)
_CODES_CLASS = "codes"
"""The retry schedule of the lane of codes."""


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
        handing: Handing | None = None,
        admission: Admission | None = None,
        screening: Screening | None = None,
        limits: Limits | None = None,
        node: str = "",
        system_of: Callable[[str], str | None] = lambda domain: domain,
        routing: Routing | None = None,
    ) -> None:
        """
        Args:
            hostname: Right side of Message-IDs that we make.
            on_committed: Called after each commit, to wake the dispatch loop.
            handing: Hands over what was committed in its place; None leaves it to be read.
            admission: Says whether there is room; None always has.
            screening: Looks at contents; None lets everything pass.
            limits: Counts; None has no limits.
            node: This machine's name, under which usage is counted.
            system_of: Names the mail system that takes a domain, from memory; None where it has to be found out later.
            routing: Chooses roads; None knows `egress.default_route` only.
        """
        self._admission = admission
        self._screening = screening
        self._limits = limits
        self._node = node
        self._system_of = system_of
        self._routing = routing
        self._supersede_ms = settings.routing.supersede_codes_s * 1000
        self._engine = engine
        self._blobs = blobs
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._hostname = hostname
        self._reports_from = (settings.bounce_messages.sender or f"MAILER-DAEMON@{hostname}").lower()
        self._on_committed = on_committed
        self._handing = handing
        self._commits: GroupCommit[Unit, Accepted] = GroupCommit(
            engine,
            commit,
            weight=lambda unit: len(unit.items),
            max_weight=250,
            linger_s=0.0005,
            urgency=_lane_of,
            urgencies=len(Lane),
        )
        self._turns = Turns()
        self._in_progress: set[tuple[str, str]] = set()

    async def submit(self, caller: Caller, submission: Submission, answered_as: Idempotency | None = None) -> Accepted:
        """
        Accept one message given as fields.

        Raises:
            Refused: With the code, the places and what to do.
        """
        streams = (submission.steering.stream,)
        await self._admit(streams, caller)
        try:
            item = await self._prepare(caller, submission)
            return await self._accept(caller, [item], answered_as, is_permissive=False)
        finally:
            self._leave(streams)

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
        streams = [one.steering.stream for one in submissions if isinstance(one, Submission)]
        await self._admit(streams, caller)
        try:
            return await self._submit_batch(caller, submissions, mode, answered_as)
        finally:
            self._leave(streams)

    async def _submit_batch(
        self, caller: Caller, submissions: Sequence[Submission | Refused], mode: BatchMode, answered_as: Idempotency | None
    ) -> Accepted:
        items: list[Item | RefusedMessage] = []
        for n, submission in enumerate(submissions, 1):
            if n % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)  # other clients' requests go between
            try:
                if isinstance(submission, Refused):
                    raise submission
                items.append(await self._prepare(caller, submission))
            except Refused as refusal:
                if refusal.code in {"storage_unavailable", "overloaded", "scanner_unavailable"}:
                    raise
                items.append(RefusedMessage(code=refusal.code, detail=refusal.detail, faults=list(refusal.faults)))
        if mode == "strict":
            _refuse_all_for_one(items)
        return await self._accept(caller, items, answered_as, is_permissive=mode == "permissive")

    async def submit_raw(
        self, caller: Caller, submission: RawSubmission, source: Source = Source.SMTP, answered_as: Idempotency | None = None
    ) -> AcceptedMessage:
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
        streams = (stream_of(submission),)
        await self._admit(streams, caller)
        try:
            item = await self._prepare_raw(caller, submission, source)
            key = item.draft.steering.idempotency_key
            if answered_as is None and key is not None:
                answered_as = Idempotency(key=key, request_hash=_hash_of_raw(submission))
            return await self._accept(caller, [item], answered_as, is_permissive=False)
        finally:
            self._leave(streams)

    async def validate(self, caller: Caller, submission: Submission) -> Sequence[Fault]:
        """
        Check a message as `submit` would, suppressions apart, and accept nothing.

        Returns:
            What its sender would be warned of.

        Raises:
            Refused: As `submit` would.
        """
        draft, warnings = await self._draft(caller, submission)
        route, others = self._routes(caller, draft)
        stream = self._directory.streams(caller.tenant_id)[draft.steering.stream]
        return [*warnings, *plan_tracking(draft, stream, {route, *others.values()}, self._settings.tracking, self._clock.now())[1]]

    async def drain(self) -> None:
        """Wait until everything handed over is committed."""
        await self._commits.drain()

    @property
    def is_pressed(self) -> bool:
        """True when `check` may refuse: then a door asks before it reads a request to its end."""
        return self._admission is not None and self._admission.is_pressed

    def check(self, streams: Collection[str], caller: Caller | None = None) -> None:
        """
        Ask whether messages of these streams would be let in now.

        Args:
            caller: Who sends them; without, streams that a tenant made count as bulk.

        Raises:
            Refused: overloaded or storage_unavailable, with Retry-After.
        """
        if self._admission is not None:
            self._admission.check(self._lane_of(streams, caller))

    @property
    def commit_s(self) -> float:
        """Average time of a commit."""
        return self._commits.commit_s

    def oldest_s(self, lane: Lane) -> float:
        """Return how long the longest waiting request of a lane has waited for its commit to begin."""
        return self._commits.oldest_s(lane)

    def _lane_of(self, streams: Collection[str], caller: Caller | None) -> Lane:
        return lane_of(streams, None if caller is None else self._directory.streams(caller.tenant_id))

    async def _admit(self, streams: Collection[str], caller: Caller) -> None:
        """Take messages in hand until `_leave`, if there is room; codes need not wait for their turn."""
        if self._admission is None:
            return
        self.check(streams, caller)
        self._admission.enter(len(streams))
        if self._lane_of(streams, caller) > Lane.CODES:
            try:
                await self._turns.take()
            except BaseException:
                self._leave(streams)
                raise

    def _leave(self, streams: Collection[str]) -> None:
        if self._admission is not None:
            self._admission.leave(len(streams))

    async def _prepare(self, caller: Caller, submission: Submission) -> Item:
        draft, warnings = await self._draft(caller, submission)
        return self._item(caller, draft, Source.HTTP, warnings)

    async def _draft(self, caller: Caller, submission: Submission) -> tuple[Draft, Sequence[Fault]]:
        now = self._clock.now()
        faults = check_submission(submission, self._settings.limits)
        faults += self._check_times(submission.steering.scheduled_at, submission.steering.expires_at, now)
        stream = await self._directory.stream(caller.tenant_id, submission.steering.stream)
        if all(fault.pointer != "/stream" for fault in faults):
            faults += self._stream_faults(stream, caller, "/stream")
        count = len(submission.to) + len(submission.cc) + len(submission.bcc)
        if faults:
            raise invalid(*faults)
        self._check_count(count)
        self._check_stream(caller, submission.steering.stream, "/stream")
        await self._check_sender(caller, submission.sender.address, "/from")
        assert stream is not None
        draft = compose(_in_stream(submission, stream), message_id=ids.new_message_id(), hostname=self._hostname, now=now)
        self._check_size(draft)
        return draft, await self._screen(caller, draft, submission)

    async def _prepare_raw(self, caller: Caller, submission: RawSubmission, source: Source) -> Item:
        limits = self._settings.limits
        if len(submission.content) > limits.message_bytes:
            raise Refused("payload_too_large", f"the message has {len(submission.content)} bytes; at most {limits.message_bytes} are taken")
        now = self._clock.now()
        self._check_count(len(submission.recipients))
        draft = adopt(submission, message_id=ids.new_message_id(), hostname=self._hostname, now=now, limits=limits)
        await self._stop_loops(caller, draft)
        faults = self._check_times(draft.steering.scheduled_at, draft.steering.expires_at, now)
        stream = await self._directory.stream(caller.tenant_id, draft.steering.stream)
        # what the content says wins; where it says nothing, the stream stands beside it, in a header of HTTP
        is_beside = draft.steering.stream == submission.steering.stream != DEFAULT_STREAM
        place = "Gatepost-Stream" if is_beside else "X-Gatepost-Stream"
        faults += self._stream_faults(stream, caller, place)
        if faults:
            raise invalid(*faults)
        assert stream is not None
        draft = _in_stream(draft, stream)
        await self._check_sender(caller, draft.header_from.address, "From")
        if draft.envelope_from is not None and draft.envelope_from.domain != draft.header_from.address.domain:
            await self._check_sender(caller, draft.envelope_from, "MAIL FROM")
        self._check_stream(caller, draft.steering.stream, place)
        return self._item(caller, draft, source, await self._screen(caller, draft))

    async def _stop_loops(self, caller: Caller, draft: Draft) -> None:
        """
        Refuse answers to our own reports, and what went to the same people through here before.

        Raises:
            Refused: mail_loop, storage_unavailable.
        """
        if any(str(one.address).lower() == self._reports_from for one in draft.recipients):
            raise Refused("mail_loop", f"nobody reads answers to {self._reports_from}")
        if not draft.earlier_ids:
            return
        to = [one.address.key for one in draft.recipients]
        try:
            is_round = await self._engine.read(lambda conn: messages.has_recipient(conn, caller.tenant_id, draft.earlier_ids, to))
        except StorageUnavailable as error:
            raise _unavailable() from error
        if is_round:
            detail = "the message went to the same recipient through this gateway before: it runs in a loop"
            raise Refused("mail_loop", detail, (Fault("Received", "mail_loop", detail),))

    async def _screen(self, caller: Caller, draft: Draft, submission: Submission | None = None) -> Sequence[Fault]:
        return () if self._screening is None else await self._screening.check(caller, draft, submission)

    def _item(self, caller: Caller, draft: Draft, source: Source, warnings: Sequence[Fault]) -> Item:
        try:
            stored = self._blobs.put(draft.content)
        except StorageUnavailable as error:
            raise _unavailable() from error
        stream = self._directory.streams(caller.tenant_id)[draft.steering.stream]
        draft = _in_window(draft, stream, self._clock.now())
        start = draft.steering.scheduled_at or self._clock.now()
        route, others = self._routes(caller, draft)
        tracked, told = plan_tracking(draft, stream, {route, *others.values()}, self._settings.tracking, self._clock.now())
        return Item(
            draft=draft,
            caller=caller,
            source=source,
            route=route,
            routes=others,
            systems=self._systems({route, *others.values()}, draft),
            stored=stored,
            warnings=[*warnings, *told] if told else warnings,
            tracked=tracked,
            expires_at=draft.steering.expires_at or start + self._lifetime_s(stream) * 1000,
            retry=self._retry(stream),
            window=window_as_dict(stream.window) if stream.window else None,
        )

    def _lifetime_s(self, stream: Stream) -> int:
        """Tell how long a message of a stream is worth something that says nothing itself."""
        retry = self._settings.retry
        of_lane = {Lane.CODES: retry.codes_ttl_s, Lane.TRANSACTIONAL: retry.transactional_ttl_s, Lane.BULK: retry.bulk_ttl_s}
        return min(stream.ttl_s or of_lane[stream.lane] or retry.max_age_s, retry.max_age_s)

    def _retry(self, stream: Stream) -> str | None:
        """Name a stream's retry schedule; None is the usual one."""
        if stream.retry is None and stream.lane is Lane.CODES and _CODES_CLASS in self._settings.retry.classes:
            return _CODES_CLASS
        return stream.retry

    def _routes(self, caller: Caller, draft: Draft) -> tuple[str, Mapping[str, str]]:
        """Choose the message's route, and those of recipients' domains that have another one."""
        if self._routing is None:
            return (routes.SANDBOX if caller.is_test else self._settings.egress.default_route), {}
        chosen = self._routing.choose(caller, draft, self._directory.streams(caller.tenant_id)[draft.steering.stream].route)
        return chosen.route, chosen.others

    def _systems(self, chosen: Collection[str], draft: Draft) -> dict[str, str]:
        """Name the mail systems of the recipients' domains, where the message goes to MX hosts first and they are known."""
        if all(routes.roads_of(route)[0].kind is not routes.RoadKind.MX for route in chosen):
            return {}
        domains = {recipient.address.domain for recipient in draft.recipients}
        return {domain: system for domain in domains if (system := self._system_of(domain)) is not None}

    def _check_times(self, scheduled_at: Instant | None, expires_at: Instant | None, now: Instant) -> list[Fault]:
        faults = []
        ahead_s = self._settings.limits.schedule_ahead_s
        if scheduled_at is not None and scheduled_at > now + ahead_s * 1000:
            faults.append(Fault("/scheduled_at", "too_far_ahead", f"a message may be scheduled at most {ahead_s // 86400} days ahead"))
        if expires_at is not None and expires_at <= max(now, scheduled_at or now):
            faults.append(Fault("/expires_at", "in_the_past", "the message would expire before it is sent"))
        return faults

    def _stream_faults(self, stream: Stream | None, caller: Caller, place: str) -> list[Fault]:
        if stream is not None:
            return []
        names = ", ".join(self._directory.streams(caller.tenant_id))
        return [Fault(place, "unknown_stream", f"there is no such stream; there are {names}")]

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

    def _check_stream(self, caller: Caller, stream: str, place: str) -> None:
        who = caller.principal
        if not who.may(Scope.MESSAGES_SEND):
            raise Refused("permission_denied", f"it needs the scope {Scope.MESSAGES_SEND.value}")
        if who.streams and stream not in who.streams:
            detail = f"this key may use only: {', '.join(sorted(who.streams))}"
            raise Refused("permission_denied", detail, (Fault(place, "stream_not_allowed", detail),))

    async def _check_sender(self, caller: Caller, sender: Address, pointer: str) -> None:
        allowed = caller.principal.domains
        if allowed and sender.domain not in allowed:
            detail = f"this key may send only from: {', '.join(sorted(allowed))}"
            raise Refused("permission_denied", detail, (Fault(pointer, "domain_not_allowed", detail),))
        domain = await self._directory.domain(caller.tenant_id, sender.domain)
        if domain is None or domain.status is not DomainStatus.VERIFIED:
            state = "is not verified yet" if domain else "is not one of this tenant's domains"
            raise Refused(
                "domain_not_verified", f"{sender.domain} {state}", (Fault(pointer, "domain_not_verified", f"{sender.domain} {state}"),)
            )

    async def _accept(
        self, caller: Caller, items: Sequence[Item | RefusedMessage], answered_as: Idempotency | None, *, is_permissive: bool
    ) -> Accepted:
        unit = Unit(
            tenant_id=caller.tenant_id, items=items, is_permissive=is_permissive, idempotency=answered_as, now=self._clock.now(),
            terms=FREE if self._limits is None else self._limits.terms(caller), node=self._node, supersede_ms=self._supersede_ms,
        )  # fmt: skip
        running = None if answered_as is None else (caller.tenant_id, answered_as.key)
        if running is not None:
            if running in self._in_progress:
                raise Refused("idempotency_in_progress", "the first request with this key has not been answered yet", retry_after_s=1)
            self._in_progress.add(running)
        started = self._clock.monotonic()
        try:
            accepted = await self._commit_within_limits(caller, unit)
        finally:
            if running is not None:
                self._in_progress.discard(running)
        self._tell(caller, items, accepted, started)
        return accepted

    async def _commit_within_limits(self, caller: Caller, unit: Unit) -> Accepted:
        if self._limits is None:
            return await self._commit(unit)
        try:
            reservation = await self._limits.reserve(caller, [_wanted(item) for item in unit.items if isinstance(item, Item)])
        except Refused:
            if (accepted := await self._replayed(unit)) is None:
                raise
            return accepted
        try:
            accepted = await self._commit(unit)
        except Exception:
            await reservation.cancel()
            raise
        if accepted.is_replay:
            await reservation.cancel()
        elif unused := _unused(unit.items, accepted.results):
            await reservation.give_back(unused)
        return accepted

    async def _replayed(self, unit: Unit) -> Accepted | None:
        """
        Answer a repeated request although a limit is reached: it uses nothing of it.

        Raises:
            Refused: idempotency_key_reused.
        """
        if unit.idempotency is None:
            return None
        try:
            return await self._engine.read(lambda conn: answer_again(conn, unit))
        except StorageUnavailable as error:
            raise _unavailable() from error

    async def _commit(self, unit: Unit) -> Accepted:
        try:
            return await self._commits.submit(unit)  # a client that goes away takes nothing back: the commit runs on
        except StorageUnavailable as error:
            raise _unavailable() from error
        except sa.exc.IntegrityError as error:
            if unit.idempotency is None:
                raise
            # another process committed the same key in the same moment: its answer is there now
            raise Refused("idempotency_in_progress", "another request with this key was just answered", retry_after_s=1) from error

    def _tell(self, caller: Caller, items: Sequence[Item | RefusedMessage], accepted: Accepted, started: float) -> None:
        if accepted.is_replay:
            maillog.replayed(request_id=caller.request_id, key_id=caller.principal.id)
            return
        if self._handing is None:
            self._on_committed()
        else:
            self._handing.add(accepted.handed, started, is_all=accepted.is_all_handed)
        metrics.accept_seconds.observe(self._clock.monotonic() - started)
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for item, result in zip(items, accepted.results, strict=True):
            if isinstance(item, Item) and isinstance(result, AcceptedMessage):
                count = len(result.recipients)
                kind = (item.source.value, item.draft.steering.stream)
                before = counts.get(kind, (0, 0))
                counts[kind] = (before[0] + 1, before[1] + count)
                maillog.accepted(
                    message_id=result.id,
                    request_id=caller.request_id,
                    tenant_id=caller.tenant_id,
                    key_id=caller.principal.id,
                    source=item.source.value,
                    stream=item.draft.steering.stream,
                    route=item.route,
                    recipients=count,
                    size_bytes=len(item.draft.content),
                    status=result.status,
                    **_warned(item),
                )
        for (source, stream), (count, people) in counts.items():
            metrics.accepted(source, stream, count, people)


def _in_stream(sent: Sent, stream: Stream) -> Sent:
    """Note the lane that the tenant's stream of this name has."""
    lane = sent.steering.lane
    if lane is stream.lane or (lane is None and STREAMS.get(stream.name, Lane.TRANSACTIONAL) is stream.lane):
        return sent
    return msgspec.structs.replace(sent, steering=msgspec.structs.replace(sent.steering, lane=stream.lane))


def _in_window(draft: Draft, stream: Stream, now: Instant) -> Draft:
    """Schedule a message for the next hour at which its stream may leave, if that is not now."""
    if stream.window is None:
        return draft
    wanted = draft.steering.scheduled_at or now
    opens = stream.window.next_at(wanted)
    if opens <= wanted:
        return draft
    return msgspec.structs.replace(draft, steering=msgspec.structs.replace(draft.steering, scheduled_at=opens))


def _unused(items: Sequence[Item | RefusedMessage], results: Sequence[AcceptedMessage | RefusedMessage]) -> list[Unused]:
    """Say what was reserved for suppressed recipients, and for messages of a batch that the commit refused."""
    found = []
    for item, result in zip(items, results, strict=True):
        if isinstance(item, RefusedMessage):
            continue
        domain, count = item.draft.header_from.address.domain, len(item.draft.recipients)
        if isinstance(result, RefusedMessage):
            found.append(Unused(domain=domain, messages=1, recipients=count, size_bytes=len(item.draft.content)))
        elif suppressed := sum(one.status == Status.SUPPRESSED.value for one in result.recipients):
            found.append(Unused(domain=domain, recipients=suppressed))
    return found


def _warned(item: Item) -> dict[str, list[str]]:
    """Return what the mail log tells of warnings; nothing, where there are none."""
    return {"warnings": codes_of(item.warnings)} if item.warnings else {}


def _wanted(item: Item) -> Wanted:
    draft = item.draft
    return Wanted(
        recipients=[recipient.address.key for recipient in draft.recipients],
        size_bytes=len(draft.content),
        stream=draft.steering.stream,
        lane=draft.lane,
        domain=draft.header_from.address.domain,
        route=item.route,
    )


def _lane_of(unit: Unit) -> int:
    """Return a request's place among those that wait for their commit."""
    return max((item.draft.lane for item in unit.items if isinstance(item, Item)), default=Lane.BULK)


def _unavailable() -> Refused:
    return Refused("storage_unavailable", "the database cannot be used now", retry_after_s=_RETRY_AFTER_S)


def _hash_of_raw(submission: RawSubmission) -> bytes:
    digest = hashlib.sha256(submission.content)
    digest.update(repr((str(submission.envelope_from), [str(one.address) for one in submission.recipients])).encode())
    return digest.digest()


def _refuse_all_for_one(items: Sequence[Item | RefusedMessage]) -> None:
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
    return [dataclasses.replace(fault, pointer=place + fault.pointer) for fault in refused.faults]
