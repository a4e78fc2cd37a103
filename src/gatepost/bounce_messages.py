"""
Bounce messages: reports to the sender, by mail, of what became of a message (RFC 3461 to 3464).

Arrives: results that are being settled. Leaves: in the same transaction one new message for each fate that recipients of a message
share, queued like any other mail and sent from the null sender; and events on the message that is told of.
Nobody is told who did not submit mail here: the reverse-path was checked when the message was accepted, and its domain is its
tenant's own. The null sender is never told, and neither is a sender whose address is suppressed: no report leads to another.
Identifiers are made of what is told, so that the same fact is not told twice; a delay is told once.
Not here: what is worth telling (policy.notify), the words (mime.dsn_compose), signing (dispatch.delivering).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Instant
from gatepost.domain import route as routes
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import DEFAULT_STREAM, STREAMS, RecipientKind, Source
from gatepost.domain.notice import Action
from gatepost.domain.outcome import Delivered, Outcome, Reply, Unknown
from gatepost.domain.recipient import Status
from gatepost.domain.stats import Labels
from gatepost.mime.dsn_compose import Report, ReportedRecipient, Returned, compose_report
from gatepost.observe import maillog, metrics
from gatepost.policy.notify import NotifyRules
from gatepost.store import counting, facts, messages, queue, suppressions
from gatepost.store.blobs import Blobs
from gatepost.store.errors import SealBroken, StorageUnavailable
from gatepost.store.messages import Material, RecipientFacts
from gatepost.store.queue import Due

_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
_EXPIRED = "4.4.7"
_KEY_ID = "gateway"
"""Stands where other messages name the key that submitted them."""


class Decided(Protocol):
    """What was decided of a recipient; `settle.Decision` is one."""

    @property
    def status(self) -> Status: ...  # noqa: D102
    @property
    def data(self) -> dict[str, Any]: ...  # noqa: D102


class Told(Protocol):
    """A result that is being settled; `settle.Result` is one."""

    @property
    def due(self) -> Due: ...  # noqa: D102
    @property
    def outcome(self) -> Outcome | None: ...  # noqa: D102
    @property
    def decision(self) -> Decided: ...  # noqa: D102
    @property
    def at(self) -> Instant: ...  # noqa: D102
    @property
    def notify(self) -> str | None: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Case:
    """One recipient to tell of."""

    result: Told
    fact: RecipientFacts
    action: Action


class BounceMessages:
    """Writes reports, for one process."""

    def __init__(
        self, rules: NotifyRules, blobs: Blobs, *, hostname: str, sender: str = "", full_bytes: int = 1024 * 1024, lifetime_ms: int
    ) -> None:
        """
        Set up.

        Args:
            hostname: This gateway, as it calls itself to others.
            sender: Address that reports come from; empty is MAILER-DAEMON at `hostname`.
            full_bytes: A larger message is not returned whole.
            lifetime_ms: How long a report is tried.
        """
        self._rules = rules
        self._blobs = blobs
        self._hostname = hostname
        self._sender = sender or f"MAILER-DAEMON@{hostname}"
        self._full_bytes = full_bytes
        self._lifetime_ms = lifetime_ms

    def write(self, conn: Connection, results: Sequence[Told]) -> None:
        """
        Put into the queue what senders are to be told of results that are being settled.

        Args:
            results: Those that change a recipient's state, and are written in this transaction.
        """
        candidates = [one for one in results if self._rules.may_tell(one.decision.status, one.notify, one.source)]
        if not candidates:
            return
        unknown = list({one.due.message_id for one in candidates if not one.source})
        if unknown:  # expired before their turn: only here is it seen by which door they came
            doors = messages.sources(conn, unknown)
            silent = {message_id for message_id, door in doors.items() if not self._rules.may_ask(door)}
            candidates = [one for one in candidates if one.due.message_id not in silent]
        message_ids = list(dict.fromkeys(one.due.message_id for one in candidates))
        rows = {message_id: row for message_id in message_ids if (row := messages.get(conn, None, message_id)) is not None}
        known = messages.addresses(conn, [message_id for message_id, row in rows.items() if row.envelope_from])
        cases: dict[tuple[str, str], list[_Case]] = {}
        for result in candidates:
            fact, row = known.get((result.due.message_id, result.due.n)), rows.get(result.due.message_id)
            action = None if fact is None or fact.broken or row is None else self._action(result, fact, row)
            if fact is not None and action is not None:
                each = f"/{result.due.n}" if action is Action.DELAYED else ""  # told once: each on its own
                cases.setdefault((result.due.message_id, action.value + each), []).append(_Case(result, fact, action))
        if cases:
            materials = messages.materials(conn, list({message_id for message_id, _ in cases}), self._full_bytes * len(cases))
            for (message_id, _), same in cases.items():
                self._tell(conn, rows[message_id], materials.get(message_id), same)

    def _action(self, result: Told, fact: RecipientFacts, row: Any) -> Action | None:
        outcome = result.outcome
        return self._rules.action(
            result.decision.status,
            fact.notify,
            row.source,
            late_ms=result.at - (row.scheduled_at or row.created_at),
            is_final=isinstance(outcome, Delivered) and outcome.exchange.route == routes.SANDBOX,
            is_passed_on=outcome is not None and outcome.exchange.takes_dsn,
        )

    def _tell(self, conn: Connection, row: Any, material: Material | None, cases: Sequence[_Case]) -> None:
        action, at = cases[0].action, cases[0].result.at
        if action is Action.DELAYED:
            late_at = (row.scheduled_at or row.created_at) + self._rules.delay_ms
            report_id = ids.derived("msg", late_at, f"{row.id}/{action.value}/{cases[0].fact.n}")
            if messages.get(conn, None, report_id) is not None:
                return
        else:
            numbers = ",".join(f"{case.fact.n}.{case.result.due.attempt}" for case in cases)
            report_id = ids.derived("msg", at, f"{row.id}/{action.value}/{numbers}")
        if self._is_suppressed(conn, row, at):
            metrics.bounce_messages.labels("suppressed").inc()
            return
        try:
            returned = self._returned(row, material, action)
            recipients = [_reported(case, row) for case in cases]
            report = compose_report(
                action, returned, recipients, message_id=report_id, sender=self._sender, to=row.envelope_from,
                hostname=self._hostname, now=at,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the fate of the message counts, whatever is wrong with telling it
            maillog.crashed("bounce_message", error, message_id=row.id)
            return
        self._insert(conn, row, report_id, report, at)
        facts.insert_events(conn, [_event(case, row, report_id) for case in cases])
        metrics.bounce_messages.labels(action.value).inc()
        maillog.notified(message_id=row.id, report_id=report_id, action=action.value, recipients=len(cases))

    def _is_suppressed(self, conn: Connection, row: Any, now: Instant) -> bool:
        try:
            wanted = (row.tenant_id, parse_address(row.envelope_from).key)
        except InvalidAddress:
            return True
        streams = [stream for stream, _ in suppressions.matching(conn, [wanted], now).get(wanted, ())]
        return any(stream in {suppressions.EVERY_STREAM, DEFAULT_STREAM} for stream in streams)

    def _returned(self, row: Any, material: Material | None, action: Action) -> Returned:
        content = b""
        if material is not None and material.broken is None:
            try:
                content = self._blobs.get(material.encoding, material.data)
            except (StorageUnavailable, SealBroken) as error:
                maillog.trouble("a bounce message goes out without the message", message_id=row.id, error=str(error))
        # only of a failure may the sender have all of it back (RFC 3461 §4.3)
        is_whole = action is Action.FAILED and row.options.get("ret") == "FULL" and len(content) <= self._full_bytes
        return Returned(
            id=row.id, message_id_header=row.message_id_header, accepted_at=row.created_at, envid=row.options.get("envid"),
            content=content, is_whole=is_whole,
        )  # fmt: skip

    def _insert(self, conn: Connection, row: Any, report_id: str, report: Report, at: Instant) -> None:
        address = parse_address(row.envelope_from)
        encoding, data = self._blobs.put(report.content)
        road, lane = routes.roads_of(row.route)[0], int(STREAMS[DEFAULT_STREAM])
        site = road.site_of(address.domain)
        message = {
            "id": report_id, "tenant_id": row.tenant_id, "created_at": at, "stream": DEFAULT_STREAM, "lane": lane,
            "source": Source.DSN.value, "key_id": _KEY_ID, "envelope_from": "", "from_": report.from_,
            "from_domain": self._sender.rpartition("@")[2], "subject": report.subject, "message_id_header": report.message_id_header,
            "size_bytes": len(report.content), "is_8bit": not report.content.isascii(), "is_smtputf8": address.needs_smtputf8,
            "is_sandbox": row.is_sandbox, "route": row.route, "tags": [], "metadata": {}, "scheduled_at": None,
            "expires_at": at + self._lifetime_ms, "options": {},
        }  # fmt: skip
        recipient = {
            "message_id": report_id, "n": 0, "tenant_id": row.tenant_id, "address": str(address), "address_key": address.key,
            "kind": RecipientKind.TO.value, "site": site, "status": Status.QUEUED.value, "reason": None, "attempts": 0, "last_reply": None,
            "last_host": None, "updated_at": at, "final_at": None, "notify": None, "orcpt": None,
        }  # fmt: skip
        due = Due(
            shard=routes.shard_of(road.pool, site), lane=lane, due_at=at, message_id=report_id, n=0, tenant_id=row.tenant_id,
            pool=road.pool, site=site, attempt=1, retries=0, expires_at=at + self._lifetime_ms, tried=0,
        )  # fmt: skip
        messages.insert(conn, [message], [{"message_id": report_id, "encoding": encoding, "data": data}], [recipient])
        queue.insert(conn, [due._asdict()])
        told: Mapping[str, Any] = {"source": Source.DSN.value, "recipients": 1, "about": row.id}
        accepted = Event(
            id=ids.new("evt"), type=EventType.ACCEPTED, tenant_id=row.tenant_id, at=at, message_id=report_id, data=dict(told)
        )  # fmt: skip
        facts.insert_events(conn, [accepted])
        deltas = counting.Deltas()
        labels = Labels(message["from_domain"], DEFAULT_STREAM, "", "", at)
        deltas.add(row.tenant_id, labels, str(road), "", "", at, ("messages", "accepted"))
        deltas.write(conn)


def _event(case: _Case, row: Any, report_id: str) -> Event:
    return Event(
        id=ids.new("evt"), type=EventType.NOTIFIED, tenant_id=row.tenant_id, at=case.result.at, message_id=row.id, n=case.fact.n,
        data={"action": case.action.value, "report_id": report_id},
    )  # fmt: skip


def _reported(case: _Case, row: Any) -> ReportedRecipient:
    result, outcome = case.result, case.result.outcome
    reply = None if outcome is None or isinstance(outcome, Unknown) else outcome.reply
    detail = str(result.decision.data.get("detail") or "")
    own = f"x-gatepost; {detail}" if detail else ""
    diagnostic = f"smtp; {reply}" if reply is not None else own
    return ReportedRecipient(
        address=case.fact.address,
        orcpt=case.fact.orcpt,
        status=_status(case, reply, detail),
        diagnostic=diagnostic,
        remote=None if outcome is None else outcome.exchange.host,
        last_attempt_at=None if outcome is None else outcome.exchange.finished_at,
        retry_until=row.expires_at if case.action is Action.DELAYED else None,
    )


def _status(case: _Case, reply: Reply | None, detail: str) -> str:
    """Name the fate as RFC 3463 has it: as the other side did where its class fits, else as plainly as can be."""
    if case.result.decision.status is Status.EXPIRED:
        return _EXPIRED
    kind = {Action.FAILED: "5", Action.DELAYED: "4"}.get(case.action, "2")
    found = _STATUS.match(detail)
    given = (reply.enhanced if reply is not None else None) or (found[1] if found else None)
    return given if given and given[0] == kind else f"{kind}.0.0"
