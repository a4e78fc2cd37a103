"""
What mail costs, and what of it there was: counted and paid in the transaction that stores it.

Arrives: the messages of a transaction. Leaves: a refusal for who cannot pay, one row of usage for each tenant, day and
route, balances lowered. A charge without its mail, or mail without its charge, cannot be.
Not here: prices and top-ups (tenants.metering).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.errors import Refused
from gatepost.policy.quota import day_of
from gatepost.store import limits, usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What the messages of a request use of one road; recipients are those that they are queued for."""

    route: str
    recipients: int
    size_bytes: int
    cost_micros: int
    messages: int


@dataclass(slots=True)
class Till:
    """The charges of one transaction."""

    node: str
    balances: dict[str, int]
    spent: dict[str, int] = field(default_factory=dict)
    used: dict[usage.Where, usage.Used] = field(default_factory=dict)

    def refuse(self, tenant_id: str, cost_micros: int) -> Refused | None:
        """Say no to who cannot pay so much on top of what was charged before."""
        balance = self.balances.get(tenant_id)
        if balance is None or cost_micros <= balance - self.spent.get(tenant_id, 0):
            return None
        return Refused("insufficient_balance", "the balance does not cover this request")

    def charge(self, tenant_id: str, charge: Charge, now: Instant) -> None:
        """Count messages, and what they cost."""
        used = self.used.setdefault(usage.Where(tenant_id, day_of(now), charge.route, self.node), usage.Used())
        used.messages += charge.messages
        used.recipients += charge.recipients
        used.bytes += charge.size_bytes
        used.cost_micros += charge.cost_micros
        if tenant_id in self.balances:
            self.spent[tenant_id] = self.spent.get(tenant_id, 0) + charge.cost_micros

    def close(self, conn: Connection) -> None:
        """Write it down."""
        limits.take_of_balances(conn, self.spent)
        usage.count(conn, self.used)


def open_till(conn: Connection, node: str, prepaid: Iterable[str]) -> Till:
    """Open the till of a transaction; balances of prepaid tenants are locked until its end."""
    tenants = set(prepaid)
    return Till(node=node, balances=limits.locked_balances(conn, tenants) if tenants else {})
