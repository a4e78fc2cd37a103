"""A tenant's limits, price and balance, for the operator."""

from typing import Annotated

from msgspec import Meta, Struct

from gatepost import ids
from gatepost.clock import iso
from gatepost.domain.access import Limit, Scope, parse_limit
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Request, Run, as_json
from gatepost.http.v1.bodies import Body
from gatepost.http.v1.limits import BalanceAnswer, balance_of
from gatepost.http.v1.tenants import TENANT_ID
from gatepost.mime.checks import text_faults
from gatepost.store.limits import BalanceEntry
from gatepost.tenants.metering import Metering, micros_of, money

_SMALL = 64 * 1024
_MONEY = r"^[+-]?[0-9]{1,10}(\.[0-9]{1,6})?$"


class TenantLimitsBody(Body):
    """The limits that a tenant has from now on, all of them."""

    limits: Annotated[list[str], Meta(max_length=20, description="such as messages=1000/day", examples=[["messages=1000/day"]])]


class TenantBalanceBody(Body):
    """What to change of a tenant's account; what is not named stays."""

    add: (
        Annotated[str, Meta(pattern=_MONEY, description="to add to the balance; negative takes off; the first makes it prepaid")] | None
    ) = None
    price_per_1000: Annotated[str, Meta(pattern=_MONEY, description="what 1,000 recipients cost")] | None = None
    note: Annotated[str, Meta(max_length=200, description="what it is for")] = ""


class TenantLimitsAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="tenant_limits"):
    """The limits of a tenant."""

    tenant_id: str
    limits: list[str]


class BalanceEntryAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="balance_entry"):
    """Something added to a balance, or taken off it."""

    id: str
    at: str
    amount: str
    note: str
    actor_id: str


class TenantBalanceAnswer(Struct, kw_only=True, frozen=True, tag_field="object", tag="tenant_balance"):
    """A tenant's account with the newest entries of its balance."""

    tenant_id: str
    account: BalanceAnswer
    entries: list[BalanceEntryAnswer]


async def get_limits(request: Request) -> Answer:
    """Return a tenant's limits."""
    return _limits(*await _metering(request).limits(_id(request)))


async def put_limits(request: Request) -> Answer:
    """Set a tenant's limits, in place of those that it had."""
    body = decode.read_json(await decode.read_body(request, _SMALL), TenantLimitsBody)
    wanted = _read(body.limits)
    found = await _metering(request).change_limits(_id(request), wanted, request.caller.actor, is_whole=True)
    if request.deps.limits is not None:
        await request.deps.limits.refresh()
    return _limits(*found)


async def get_balance(request: Request) -> Answer:
    """Return a tenant's account."""
    return await _balance(request)


async def change_balance(request: Request) -> Answer:
    """Add to a tenant's balance, or set its price."""
    body = decode.read_json(await decode.read_body(request, _SMALL), TenantBalanceBody)
    if faults := text_faults("/note", body.note, 200) if body.note else []:
        raise invalid(*faults)
    add = None if body.add is None else micros_of(body.add, "/add")
    price = None if body.price_per_1000 is None else micros_of(body.price_per_1000, "/price_per_1000")
    if price is not None and price < 0:
        raise invalid(Fault("/price_per_1000", "out_of_range", "a price is not negative"))
    await _metering(request).change_account(_id(request), request.caller.actor, add_micros=add, price_micros=price, note=body.note)
    if request.deps.limits is not None:
        await request.deps.limits.refresh()
    return await _balance(request)


async def _balance(request: Request) -> Answer:
    tenant_id, account, entries = await _metering(request).account(_id(request))
    written = [_entry(one) for one in entries]
    return as_json(TenantBalanceAnswer(tenant_id=tenant_id, account=balance_of(account), entries=written))


def _entry(one: BalanceEntry) -> BalanceEntryAnswer:
    return BalanceEntryAnswer(id=one.id, at=iso(one.at), amount=money(one.micros), note=one.note, actor_id=one.actor_id)


def _read(texts: list[str]) -> list[Limit]:
    found, faults = [], []
    for n, text in enumerate(texts):
        try:
            found.append(parse_limit(text))
        except ValueError as error:
            faults.append(Fault(f"/limits/{n}", "invalid_limit", str(error)))
    if faults:
        raise invalid(*faults)
    return found


def _limits(tenant_id: str, limits: tuple[Limit, ...]) -> Answer:
    return as_json(TenantLimitsAnswer(tenant_id=tenant_id, limits=[str(limit) for limit in limits]))


def _metering(request: Request) -> Metering:
    return Metering(request.deps.engine, request.deps.clock)


def _id(request: Request) -> str:
    tenant_id = str(request.params["tenant_id"])
    if not ids.is_valid(tenant_id, "ten"):
        raise Refused("not_found", "there is no such tenant")
    return tenant_id


_BODY_CODES = ("not_found", "validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")


def _endpoint(method: str, path: str, run: Run, name: str, summary: str, answer: type, body: type | None = None) -> Endpoint:
    return Endpoint(
        method=method,
        path=f"/v1/tenants/{{tenant_id:str}}/{path}",
        run=run,
        name=name,
        scope=Scope.OPERATOR,
        summary=summary,
        tag="tenants",
        body=body,
        answers={200: answer},
        parameters=(TENANT_ID,),
        codes=_BODY_CODES if body else ("not_found",),
    )


ENDPOINTS = [
    _endpoint("GET", "limits", get_limits, "getTenantLimits", "Read a tenant's limits", TenantLimitsAnswer),
    _endpoint("PUT", "limits", put_limits, "setTenantLimits", "Set a tenant's limits", TenantLimitsAnswer, TenantLimitsBody),
    _endpoint("GET", "balance", get_balance, "getTenantBalance", "Read a tenant's balance", TenantBalanceAnswer),
    _endpoint("POST", "balance", change_balance, "changeTenantBalance", "Change a balance", TenantBalanceAnswer, TenantBalanceBody),
]
