"""
Limits, prices and balances as an operator sets them, and what was used as everybody reads it.

Arrives: changes, spans of days. Leaves: committed changes with their entries in the audit log; sums by day; CSV.
Standards: RFC 4180 (CSV). Cells that a spreadsheet would take for a formula are quoted with an apostrophe (OWASP, CSV injection).
Not here: counting against limits (limits), charging (accept.charging), the SQL (store).
"""

import csv
import datetime as dt
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row

from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor, Limit, Per, Resource
from gatepost.domain.errors import Fault, invalid
from gatepost.observe import maillog
from gatepost.policy.quota import MAX_AMOUNT, day_of
from gatepost.store import audit, limits, tenants, usage
from gatepost.store.engine import Engine
from gatepost.store.limits import Account, BalanceEntry

MICROS = 1_000_000
COLUMNS = ("day", "tenant_id", "route", "messages", "recipients", "bytes", "cost")
_LONGEST_SPAN = 400
_MOST_MONEY = 10**9
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Removal = tuple[Resource, Per | None]
"""A limit to remove; None is of every window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Days in UTC, the first and the last one included."""

    first: str
    last: str


class Metering:
    """What operators set, and what was used."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def limits(self, tenant: str) -> tuple[str, tuple[Limit, ...]]:
        """
        Return a tenant's id and its limits.

        Args:
            tenant: Its id or its name.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def work(conn: Connection) -> tuple[str, tuple[Limit, ...]]:
            tenant_id = tenants.named(conn, tenant).id
            return tenant_id, limits.limits_of(conn, tenant_id)

        return await self._engine.read(work)

    async def change_limits(
        self, tenant: str, wanted: Sequence[Limit], by: Actor, *, removed: Sequence[Removal] = (), is_whole: bool = False
    ) -> tuple[str, tuple[Limit, ...]]:
        """
        Set and remove limits of a tenant; every process keeps to them within two seconds.

        Args:
            is_whole: What is not wanted is removed.

        Returns:
            Its id and the limits that it has now.

        Raises:
            Refused: not_found, or validation_failed when two are for the same window or one is too large.
            StorageUnavailable: Nothing changed.
        """
        _check(wanted)
        now = self._clock.now()

        def work(conn: Connection) -> tuple[str, tuple[Limit, ...]]:
            tenant_id = _locked(conn, tenant)
            before = limits.limits_of(conn, tenant_id)
            kept = [] if is_whole else [limit for limit in before if not _is_among(limit, removed)]
            by_window = {(limit.resource, limit.per): limit for limit in [*kept, *wanted]}
            limits.put_limits(conn, tenant_id, by_window.values())
            after = limits.limits_of(conn, tenant_id)
            if after != before:
                change = audit.Change(
                    action="tenant.limits_changed", object_id=tenant_id, tenant_id=tenant_id, before=_told(before), after=_told(after)
                )
                audit.append(conn, by, change, now)
            return tenant_id, after

        tenant_id, after = await self._engine.write(work)
        maillog.changed("tenant_limits", tenant_id=tenant_id, limits=[str(limit) for limit in after], by=by.id)
        return tenant_id, after

    async def account(self, tenant: str) -> tuple[str, Account, list[BalanceEntry]]:
        """
        Return a tenant's id, its account, and the newest entries of its balance.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def work(conn: Connection) -> tuple[str, Account, list[BalanceEntry]]:
            tenant_id = tenants.named(conn, tenant).id
            return tenant_id, limits.account(conn, tenant_id), limits.entries(conn, tenant_id, 100)

        return await self._engine.read(work)

    async def change_account(
        self,
        tenant: str,
        by: Actor,
        *,
        add_micros: int | None = None,
        price_micros: int | None = None,
        note: str = "",
        is_ended: bool = False,
    ) -> tuple[str, Account]:
        """
        Add to a tenant's balance, set its price, or let it send without a balance.

        Args:
            add_micros: To add, or when negative to take off; the first time makes the tenant prepaid.
            price_micros: Of 1,000 recipients.
            is_ended: It is no longer prepaid.

        Returns:
            Its id and its account afterwards.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()

        def work(conn: Connection) -> tuple[str, Account]:
            tenant_id = _locked(conn, tenant)
            before = limits.account(conn, tenant_id)
            if price_micros is not None:
                limits.set_price(conn, tenant_id, price_micros)
            if add_micros is not None:
                limits.add_to_balance(conn, tenant_id, add_micros, note, by.id, now)
            if is_ended:
                limits.end_prepaid(conn, tenant_id)
            after = limits.account(conn, tenant_id)
            change = audit.Change(
                action="tenant.balance_changed", object_id=tenant_id, tenant_id=tenant_id, before=before._asdict(), after=after._asdict()
            )
            if after != before or add_micros is not None:
                audit.append(conn, by, change, now)
            return tenant_id, after

        tenant_id, after = await self._engine.write(work)
        maillog.changed("tenant_balance", tenant_id=tenant_id, by=by.id)
        return tenant_id, after

    async def usage(self, span: Span, tenant_id: str | None) -> list[Row[Any]]:
        """
        Sum up what was used, by day, tenant and route.

        Args:
            tenant_id: Whose; None is everybody's.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: usage.by_day(conn, span.first, span.last, tenant_id))

    async def export(self, span: Span, tenant_id: str | None, by: Actor) -> list[Row[Any]]:
        """
        Sum up what was used, to be taken away; the audit log tells of it.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def work(conn: Connection) -> list[Row[Any]]:
            rows = usage.by_day(conn, span.first, span.last, tenant_id)
            told = {"from": span.first, "to": span.last, "rows": len(rows)}
            change = audit.Change(action="usage.exported", object_id=tenant_id or "every tenant", tenant_id=tenant_id, after=told)
            audit.append(conn, by, change, now)
            return rows

        return await self._engine.write(work)


def as_csv(rows: Iterable[Row[Any]]) -> str:
    """Write usage as CSV with a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row.day, row.tenant_id, row.route, row.messages, row.recipients, row.bytes, money(row.cost_micros))
        writer.writerow([cell_of(cell) for cell in cells])
    return text.getvalue()


def cell_of(value: Any) -> str:
    """Write a cell so that no spreadsheet computes it (OWASP, CSV injection)."""
    text = str(value)
    is_number = isinstance(value, int) or text.replace(".", "", 1).removeprefix("-").isdigit()
    return f"'{text}" if text.startswith(_FORMULA) and not is_number else text


def money(micros: int) -> str:
    """Write an amount with at least two decimals: 280000 is `0.28`."""
    whole, part = divmod(abs(micros), MICROS)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{decimals}"


def micros_of(text: str, place: str) -> int:
    """
    Read an amount such as `10.00` or `0.28`.

    Args:
        place: Where it stands, for the fault.

    Raises:
        Refused: validation_failed: it is no number, too large, or finer than a millionth.
    """
    try:
        value = Decimal(text)
        micros = value * MICROS
        if value.is_finite() and abs(value) <= _MOST_MONEY and micros == int(micros):
            return int(micros)
    except (ArithmeticError, ValueError):
        pass
    raise invalid(Fault(place, "invalid_amount", "it is a number with at most six decimals, such as 10.00"))


def span_of(first: str | None, last: str | None, now: Instant, places: tuple[str, str] = ("from", "to")) -> Span:
    """
    Read a span of days; without one it is this month so far.

    Raises:
        Refused: validation_failed.
    """
    today = day_of(now)
    faults = [_day_fault(text, place) for text, place in zip((first, last), places, strict=True) if text is not None]
    if found := [fault for fault in faults if fault]:
        raise invalid(*found)
    last = last or today
    first = first or min(today, last)[:7] + "-01"
    days = (dt.date.fromisoformat(last) - dt.date.fromisoformat(first)).days
    if not 0 <= days <= _LONGEST_SPAN:
        raise invalid(Fault(places[0], "out_of_range", f"a span has at most {_LONGEST_SPAN} days, and begins before it ends"))
    return Span(first=first, last=last)


def _day_fault(text: str, place: str) -> Fault | None:
    try:
        if dt.date.fromisoformat(text).isoformat() == text:
            return None
    except ValueError:
        pass
    return Fault(place, "invalid_day", "it is a day such as 2026-11-24")


def removal_of(text: str) -> Removal:
    """
    Read which limit to remove: `messages/day`, or `messages` for every window.

    Raises:
        Refused: validation_failed.
    """
    resource, slash, per = text.strip().partition("/")
    try:
        return Resource(resource), Per(per) if slash else None
    except ValueError:
        detail = f"name a limit such as messages/day: {', '.join(Resource)} per {', '.join(Per)}"
        raise invalid(Fault("/limits", "invalid_limit", detail)) from None


def _locked(conn: Connection, tenant: str) -> str:
    """Return a tenant's id; changes at the same moment follow one another."""
    tenant_id = tenants.named(conn, tenant).id
    limits.lock(conn, tenant_id)
    return tenant_id


def _is_among(limit: Limit, removed: Sequence[Removal]) -> bool:
    return any(limit.resource is resource and per in (None, limit.per) for resource, per in removed)


def _check(wanted: Sequence[Limit]) -> None:
    faults = []
    seen: set[tuple[Resource, Per]] = set()
    for n, limit in enumerate(wanted):
        if limit.amount > MAX_AMOUNT:
            faults.append(Fault(f"/limits/{n}", "out_of_range", f"an amount is at most {MAX_AMOUNT}"))
        if (limit.resource, limit.per) in seen:
            faults.append(Fault(f"/limits/{n}", "duplicate", f"there are two limits of {limit.resource} per {limit.per}"))
        seen.add((limit.resource, limit.per))
    if faults:
        raise invalid(*faults)


def _told(found: Iterable[Limit]) -> dict[str, Any]:
    return {"limits": [str(limit) for limit in found]}
