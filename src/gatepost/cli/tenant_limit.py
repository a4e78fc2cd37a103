"""`gatepost tenant limit` and `gatepost tenant balance`: how much a tenant may send, and what it pays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.access import Limit, parse_limit
from gatepost.store.limits import Account, BalanceEntry
from gatepost.tenants.metering import Metering, micros_of, money, removal_of

_OFF = "=off"


@click.command(name="limit")
@click.argument("tenant")
@click.argument("limits", nargs=-1, metavar="[LIMIT]...")
@click.option("--remove", multiple=True, metavar="RESOURCE/PER", help="Remove a limit, such as messages/day. Repeatable.")
@store_options
@json_option
@failing_clearly
def limit(tenant: str, limits: tuple[str, ...], *, remove: tuple[str, ...], data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """
    Set limits of a tenant, such as messages=1000/day; without any, list them.

    messages, recipients, requests and bytes can be limited, per second, minute, hour, day and month. `messages=off` removes the limits of
    a resource, `messages=off/day` or `--remove messages/day` a single one. Running processes keep to it within two seconds.
    """
    removed = [removal_of(text) for text in remove] + [removal_of(text.replace(_OFF, "")) for text in limits if _OFF in text]
    wanted = [_limit(text) for text in limits if _OFF not in text]

    async def work(store: Opened) -> tuple[str, tuple[Limit, ...]]:
        metering = Metering(store.engine, store.clock)
        if not wanted and not removed:
            return await metering.limits(tenant)
        return await metering.change_limits(tenant, wanted, store.actor, removed=removed)

    tenant_id, found = run_with_store(data, flags, work)
    if as_json:
        print_json({"id": tenant_id, "limits": [str(one) for one in found]})
    elif found:
        print_table(("resource", "amount", "per"), [(one.resource.value, f"{one.amount:,}", one.per.value) for one in found])
    else:
        click.echo(f"{tenant_id} has no limits of its own.")


def _limit(text: str) -> Limit:
    try:
        return parse_limit(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="LIMIT") from None


@click.command(name="balance")
@click.argument("tenant")
@click.option("--add", metavar="AMOUNT", help="Add to the balance; the first time makes the tenant prepaid. Negative takes off.")
@click.option("--price", metavar="AMOUNT", help="What 1,000 recipients cost.")
@click.option("--note", default="", help="What it is for.")
@click.option("--end", "is_ended", is_flag=True, help="Let the tenant send without a balance again.")
@store_options
@json_option
@failing_clearly
def balance(
    tenant: str, *, add: str | None, price: str | None, note: str, is_ended: bool, data: Path, flags: dict[str, Any], as_json: bool
) -> None:
    """Show a tenant's prepaid balance; add to it; set what it pays."""
    add_micros = None if add is None else micros_of(add, "--add")
    price_micros = None if price is None else micros_of(price, "--price")
    if price_micros is not None and price_micros < 0:
        raise click.BadParameter("a price is not negative", param_hint="--price")

    async def work(store: Opened) -> tuple[str, Account, list[BalanceEntry]]:
        metering = Metering(store.engine, store.clock)
        if add_micros is not None or price_micros is not None or is_ended:
            await metering.change_account(
                tenant, store.actor, add_micros=add_micros, price_micros=price_micros, note=note[:200], is_ended=is_ended
            )
        return await metering.account(tenant)

    tenant_id, account, entries = run_with_store(data, flags, work)
    if as_json:
        print_json(_as_json(tenant_id, account, entries))
        return
    held = "not prepaid" if account.balance_micros is None else f"balance {money(account.balance_micros)}"
    click.echo(f"{tenant_id}: {held}, price of 1,000 recipients {money(account.price_micros)}.")
    if entries:
        print_table(("at", "amount", "note", "by"), [(moment(one.at), money(one.micros), one.note, one.actor_id) for one in entries])


def _as_json(tenant_id: str, account: Account, entries: Sequence[BalanceEntry]) -> dict[str, Any]:
    return {
        "id": tenant_id,
        "balance": None if account.balance_micros is None else money(account.balance_micros),
        "price_per_1000": money(account.price_micros),
        "entries": [
            {"id": one.id, "at": iso(one.at), "amount": money(one.micros), "note": one.note, "actor_id": one.actor_id} for one in entries
        ],
    }
