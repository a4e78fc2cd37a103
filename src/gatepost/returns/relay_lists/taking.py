"""
What a page of a provider's list does to our own list, in one transaction with how far the list is read.

Arrives: entries. Leaves: suppressions whose source is `relay:NAME`, each with its event; counts.
What a person lifted after the provider wrote it down stays lifted. More of a tenant's recipients than is likely is taken for an error
of somebody's, and left to a person. A complaint that a tenant's list has already is not held against another tenant.
Not here: reading the list (rounds), whom an entry concerns (policy.list_entries).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.event import Event, EventType
from gatepost.domain.relay_list import Entry, ListState, Why
from gatepost.domain.route import SANDBOX
from gatepost.observe import maillog, metrics
from gatepost.policy.list_entries import BRAKE_DAYS, REASONS, UNWANTED, latest, meant, most_of
from gatepost.policy.suppressing import SuppressRules
from gatepost.store import facts, relay_listed, relay_lists, sealing, suppressions, usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    Whom a relay's list may concern.

    Attributes:
        is_accepted: A person wants all of it, however much it is.
    """

    relay: str
    tenant_ids: Sequence[str]
    is_accepted: bool = False

    @property
    def source(self) -> str:
        """What stands with a suppression that comes from there."""
        return f"relay:{self.relay}"


@dataclass(frozen=True, slots=True)
class _Found:
    entry: Entry
    key: str
    address_hash: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    tenant_id: str
    stream: str
    found: _Found

    @property
    def reason(self) -> str:
        return REASONS[self.found.entry.why]


def take(conn: Connection, scope: Scope, entries: Sequence[Entry], state: ListState, rules: SuppressRules, now: Instant) -> ListState:
    """
    Take a page's entries; safe to run again.

    Returns:
        The state with what was counted.
    """
    found = _found(conn, entries)
    relay_listed.see(conn, scope.relay, [(one.address_hash, REASONS[one.entry.why]) for one in found], state.began_at)
    mailed = relay_lists.mailed(conn, scope.relay, scope.tenant_ids, _until(found, now))
    unwanted = _unwanted(conn, scope, found, now)
    wanted: list[_Wanted] = []
    nobody = known = 0
    for one in found:
        concerned = meant(one.entry, mailed.get(one.address_hash, ()))
        if not concerned:
            nobody += 1
        elif one.entry.why is not Why.BOUNCES and one.key in unwanted:
            known += 1  # a hook, or the person, said whose mail it was
        else:
            wanted += [_Wanted(tenant_id, stream, one) for tenant_id, stream in concerned]
    kept, lifted = _without_lifted(conn, wanted, now)
    fresh = _without_known(conn, kept, now)
    allowed, state = _braked(conn, scope, fresh, state, now)
    taken = _suppress(conn, scope, allowed, rules, state.began_at, now)
    counted = {
        "taken": taken, "known": known + len(kept) - len(fresh), "nobody": nobody, "lifted": lifted,
        "invalid": len(entries) - len(found),
    }  # fmt: skip
    for name, number in counted.items():
        if number:
            metrics.relay_list_entries.labels(scope.relay, name).inc(number)
    return msgspec.structs.replace(state, **{name: getattr(state, name) + number for name, number in counted.items()})


def _found(conn: Connection, entries: Sequence[Entry]) -> list[_Found]:
    """Read the addresses; what is none is left out, and so is what stands there twice."""
    found: dict[tuple[str, Why], _Found] = {}
    for entry in entries:
        try:
            key = parse_address(entry.address).key
        except InvalidAddress:
            continue
        found.setdefault((key, entry.why), _Found(entry, key, sealing.keyed_hash(conn, key)))
    return list(found.values())


def _until(found: Sequence[_Found], now: Instant) -> Mapping[str, Instant]:
    until: dict[str, Instant] = {}
    for one in found:
        until[one.address_hash] = max(until.get(one.address_hash, 0), latest(one.entry, now))
    return until


def _unwanted(conn: Connection, scope: Scope, found: Sequence[_Found], now: Instant) -> frozenset[str]:
    """Name the addresses that some tenant knows already not to want its mail."""
    keys = [one.key for one in found if one.entry.why is not Why.BOUNCES]
    pairs = [(tenant_id, key) for key in dict.fromkeys(keys) for tenant_id in scope.tenant_ids]
    known = suppressions.matching(conn, pairs, now)
    return frozenset(key for (_, key), rows in known.items() if any(reason in UNWANTED for _, reason in rows))


def _without_lifted(conn: Connection, wanted: Sequence[_Wanted], now: Instant) -> tuple[list[_Wanted], int]:
    lifted = suppressions.lifted_at(conn, [(one.tenant_id, one.found.address_hash) for one in wanted])
    kept, used = [], []
    for one in wanted:
        key = (one.tenant_id, one.found.address_hash)
        at = lifted.get(key)
        if at is None or (one.found.entry.at is not None and one.found.entry.at > at):
            kept.append(one)
        else:
            used.append(key)
    suppressions.use_lifts(conn, list(dict.fromkeys(used)), now)
    return kept, len(wanted) - len(kept)


def _without_known(conn: Connection, wanted: Sequence[_Wanted], now: Instant) -> list[_Wanted]:
    known = suppressions.matching(conn, [(one.tenant_id, one.found.key) for one in wanted], now)
    fresh = []
    for one in wanted:
        streams = {stream for stream, _ in known.get((one.tenant_id, one.found.key), ())}
        if suppressions.EVERY_STREAM not in streams and one.stream not in streams:
            fresh.append(one)
    return fresh


def _braked(
    conn: Connection, scope: Scope, wanted: Sequence[_Wanted], state: ListState, now: Instant
) -> tuple[list[_Wanted], ListState]:  # fmt: skip
    """Leave out tenants of which more would be suppressed in a day than is likely."""
    is_new_day = now - state.counted_at >= DAY
    counts = {} if is_new_day else dict(state.counts)
    by_tenant: dict[str, list[_Wanted]] = {}
    for one in wanted:
        by_tenant.setdefault(one.tenant_id, []).append(one)
    allowed, held = [], dict(state.held)
    for tenant_id, ones in by_tenant.items():
        number = counts.get(tenant_id, 0) + len(ones)
        if not scope.is_accepted and number > most_of(_recipients(conn, tenant_id, now)):
            held[tenant_id] = held.get(tenant_id, 0) + len(ones)
            metrics.relay_list_entries.labels(scope.relay, "held").inc(len(ones))
            continue
        counts[tenant_id] = number
        allowed += ones
    counted_at = now if is_new_day else state.counted_at
    return allowed, msgspec.structs.replace(state, counts=counts, counted_at=counted_at, held=held)


def _recipients(conn: Connection, tenant_id: str, now: Instant) -> int:
    first, last = (datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d") for at in (now - BRAKE_DAYS * DAY, now))
    return sum(int(row.recipients) for row in usage.by_day(conn, first, last, tenant_id) if row.route != SANDBOX)


def _suppress(
    conn: Connection, scope: Scope, wanted: Sequence[_Wanted], rules: SuppressRules, began_at: Instant, now: Instant
) -> int:  # fmt: skip
    events, taken = [], []
    for one in sorted(wanted, key=lambda each: (each.tenant_id, each.found.address_hash, each.stream)):
        row: dict[str, Any] = {
            "tenant_id": one.tenant_id, "address": one.found.key, "stream": one.stream, "id": ids.new("sup"), "reason": one.reason,
            "source": scope.source, "note": "", "created_at": now, "expires_at": rules.expires_at(one.reason, now),
        }  # fmt: skip
        if not suppressions.put_found(conn, row):
            continue
        taken.append((one.tenant_id, one.found.address_hash, one.stream, one.reason))
        data = {"address": one.found.key, "stream": one.stream or None, "reason": one.reason, "source": scope.source}
        events.append(Event(id=ids.new("evt"), type=EventType.SUPPRESSION_ADDED, tenant_id=one.tenant_id, at=now, data=data))
        metrics.suppressions_found.labels(one.reason).inc()
        maillog.suppressed(
            address=one.found.key, tenant_id=one.tenant_id, reason=one.reason, stream=one.stream or None, source=scope.source
        )  # fmt: skip
    facts.insert_events(conn, events)
    relay_listed.note(conn, scope.relay, taken, began_at)
    return len(taken)
