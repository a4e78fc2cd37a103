"""
What is lifted here because a provider took it off its own list.

Arrives: a round that read the whole list, and saw some of what came from there before no more. Leaves: these suppressions lifted, each with
its event and its entry in the audit log; nothing that a person, or our own mail, said. More than is likely is left to a person.
A person lifting it is another thing: then what the provider said before does not count any more; here it may say it again.
Not here: when (rounds), what came from the list (store.relay_listed).
"""

import msgspec
from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.access import GATEWAY
from gatepost.domain.relay_list import ListState
from gatepost.observe import maillog, metrics
from gatepost.policy.list_entries import most_gone
from gatepost.returns.relay_lists.taking import Scope
from gatepost.store import relay_listed, suppressions
from gatepost.tenants.suppressions import lift_one


def begin(conn: Connection, scope: Scope, state: ListState) -> ListState:
    """Look how much is gone; hold it back when that is more than is likely and nobody has accepted it."""
    relay_listed.forget_ended(conn, scope.relay)
    listed, gone = relay_listed.counts(conn, scope.relay, state.full_at)
    if gone and not scope.is_accepted and gone > most_gone(listed):
        metrics.relay_list_entries.labels(scope.relay, "gone_held").inc(gone)
        maillog.trouble("a relay's suppression list lost more than is likely", relay=scope.relay, gone=gone, listed=listed)
        return msgspec.structs.replace(state, gone_held=gone, followed_at=state.full_at)
    return msgspec.structs.replace(state, gone_held=0)


def lift_some(conn: Connection, scope: Scope, state: ListState, limit: int, now: Instant) -> tuple[ListState, bool]:
    """Lift some of what is gone; return whether that was all."""
    rows = relay_listed.unseen(conn, scope.relay, state.full_at, limit)
    for tenant_id, address_hash, stream in rows:
        row = suppressions.by_hash(conn, tenant_id, address_hash, stream)
        if row is not None:
            lift_one(conn, row, GATEWAY, now, why=f"{scope.source} took it off its list")
        relay_listed.keep(conn, tenant_id, address_hash, stream)
    metrics.relay_list_entries.labels(scope.relay, "gone").inc(len(rows))
    is_all = len(rows) < limit
    return msgspec.structs.replace(state, gone=state.gone + len(rows), followed_at=state.full_at if is_all else state.followed_at), is_all
