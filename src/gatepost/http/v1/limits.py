"""
What a caller may still do, and what its tenant used: limits with what is left of them, the balance, usage by day.

Not here: setting any of it (tenant_limits), the headers that every answer carries (http.rates).
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row

from gatepost.clock import iso
from gatepost.domain.access import Scope
from gatepost.domain.message import Lane
from gatepost.domain.tenant import DomainStatus
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.store import limits as stored
from gatepost.store import tenants
from gatepost.tenants import narrowing
from gatepost.tenants.limits import Limits, Shown
from gatepost.tenants.metering import Metering, as_csv, money, span_of

_MOST_DOMAINS = 100


class LimitAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="limit"):
    """A limit; `kind` is whose it is: of this key, of the tenant, or of a sender's domain."""

    kind: str
    subject: str
    resource: str
    amount: int
    per: str
    remaining: int
    resets_at: str


class BalanceAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="balance"):
    """A prepaid balance and the price of 1,000 recipients, as decimal numbers; without a balance, mail is not prepaid."""

    balance: str | None
    price_per_1000: str


class LimitsAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="limits"):
    """What this key may still do; `per_recipient` is how many messages of a stream one person may get in an hour."""

    data: list[LimitAnswer]
    per_recipient: dict[str, int]
    account: BalanceAnswer


class UsageRow(Struct, kw_only=True, frozen=True, tag_field="object", tag="usage"):
    """What was accepted on a day by a route; recipients are those that mail was queued for."""

    day: str
    tenant_id: str
    route: str
    messages: int
    recipients: int
    bytes: int
    cost: str


class UsageAnswer(Struct, kw_only=True, frozen=True):
    """Usage by day and route; days are UTC."""

    data: list[UsageRow]


async def show(request: Request) -> Answer:
    """Say what the caller may still do."""
    request.query()
    deps, caller = request.deps, request.caller
    limits = deps.limits or Limits(deps.engine, deps.clock, deps.settings)
    await limits.refresh()

    def work(conn: Connection) -> tuple[stored.Account, list[str]]:
        found = [one.name for one in tenants.domains(conn, caller.tenant_id) if one.status is DomainStatus.VERIFIED]
        return stored.account(conn, caller.tenant_id), found

    account, domains = await deps.engine.read(work)
    usable = [name for name in domains if not caller.principal.domains or name in caller.principal.domains]
    left = await limits.remaining(caller, usable[:_MOST_DOMAINS])
    caps = limits.terms(caller).per_recipient
    return as_json(
        LimitsAnswer(
            data=[_limit(one) for one in left],
            per_recipient={Lane(lane).name.lower(): cap for lane, cap in caps.items()},
            account=balance_of(account),
        )
    )


def _limit(one: Shown) -> LimitAnswer:
    return LimitAnswer(
        kind=one.kind.value,
        subject=one.subject.removeprefix("domain:"),
        resource=one.limit.resource.value,
        amount=one.limit.amount,
        per=one.limit.per.value,
        remaining=one.remaining,
        resets_at=iso(one.resets_at),
    )


def balance_of(account: stored.Account) -> BalanceAnswer:
    """Write an account."""
    balance = None if account.balance_micros is None else money(account.balance_micros)
    return BalanceAnswer(balance=balance, price_per_1000=money(account.price_micros))


async def usage(request: Request) -> Answer:
    """Say what the tenant used; as CSV to who asks for that."""
    narrowing.check_everything(request.caller.principal, "usage")
    query = request.query("from", "to")
    span = span_of(query.get("from"), query.get("to"), request.deps.clock.now())
    metering, tenant_id = Metering(request.deps.engine, request.deps.clock), request.caller.tenant_id
    if "text/csv" in (request.header(b"accept") or ""):
        text = as_csv(await metering.export(span, tenant_id, request.caller.actor))
        name = f'attachment; filename="usage-{span.first}-{span.last}.csv"'
        return Answer(200, text.encode(), b"text/csv; charset=utf-8; header=present", [(b"content-disposition", name.encode())])
    return as_json(UsageAnswer(data=[_row(row) for row in await metering.usage(span, tenant_id)]))


def _row(row: Row[Any]) -> UsageRow:
    return UsageRow(
        day=row.day,
        tenant_id=row.tenant_id,
        route=row.route,
        messages=row.messages,
        recipients=row.recipients,
        bytes=row.bytes,
        cost=money(row.cost_micros),
    )


def _day(name: str, description: str) -> Parameter:
    return Parameter(name=name, place="query", description=description, schema={"type": "string", "format": "date"})


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/limits",
        run=show,
        name="showLimits",
        scope=Scope.MESSAGES_SEND,
        summary="What this key may still do",
        tag="limits",
        description="Counted over all machines of the gateway. A limit per second, minute or hour slides: after a burst of its whole "
        "amount it yields a share of it at a time; days and months are the calendar's, in UTC.",
        answers={200: LimitsAnswer},
        codes=("validation_failed",),
    ),
    Endpoint(
        method="GET",
        path="/v1/usage",
        run=usage,
        name="showUsage",
        scope=Scope.STATS_READ,
        summary="What was used, by day",
        tag="limits",
        description="With `Accept: text/csv` the answer is CSV, and the audit log tells of the export.",
        parameters=(_day("from", "the first day; the first of this month if not given"), _day("to", "the last day; today if not given")),
        answers={200: (UsageAnswer, "text/csv")},
        codes=("validation_failed",),
    ),
]
