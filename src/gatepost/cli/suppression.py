"""`gatepost suppression`: addresses that no mail goes to."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.message import STREAMS
from gatepost.store import suppressions
from gatepost.tenants.suppressions import Suppression, Suppressions

_STREAM = click.Choice(list(STREAMS))


@click.group(name="suppression")
def command() -> None:
    """Add, list and remove suppressed addresses."""


@command.command()
@click.argument("address")
@click.option("--reason", default="manual", show_default=True, help="Why; told to whoever sends there.")
@click.option("--note", default="", help="For yourself.")
@click.option("--stream", type=_STREAM, help="Only mail of this stream; default is all mail.")
@tenant_option
@store_options
@json_option
@failing_clearly
def add(
    address: str, *, reason: str, note: str, stream: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool
) -> None:
    """Suppress an address: messages to it are refused from now on."""

    async def work(store: Opened) -> Row[Any]:
        wanted = Suppression(address=_parsed(address), reason=reason, stream=stream, note=note)
        return (await Suppressions(store.engine, store.clock).add(store.tenant_id, [wanted], by=store.actor)).rows[0]

    row = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(_as_json(row))
    else:
        click.echo(f"{row.address} is suppressed ({row.reason}).")


@command.command(name="list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@tenant_option
@store_options
@json_option
@failing_clearly
def list_suppressions(*, limit: int, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List suppressed addresses, the newest first."""

    async def work(store: Opened) -> list[Row[Any]]:
        return await store.engine.read(lambda conn: suppressions.page(conn, store.tenant_id, limit))

    rows = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    told = [(row.address, row.stream or "all", row.reason, row.note, moment(row.created_at), moment(row.expires_at)) for row in rows]
    print_table(("address", "stream", "reason", "note", "since", "until"), told)


@command.command()
@click.argument("address")
@click.option("--stream", type=_STREAM, help="Only this stream's suppression; default is all of them.")
@tenant_option
@store_options
@json_option
@failing_clearly
def remove(address: str, *, stream: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Lift the suppressions of an address."""

    async def work(store: Opened) -> int:
        return await Suppressions(store.engine, store.clock).lift(store.tenant_id, _parsed(address), stream, by=store.actor)

    count = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"address": _parsed(address).key, "removed": count})
    else:
        click.echo(f"{_parsed(address).key} may get mail again.")


def _parsed(address: str) -> Address:
    try:
        return parse_address(address)
    except InvalidAddress as error:
        raise invalid(Fault("/address", "invalid_address", str(error))) from None


def _as_json(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "address": row.address,
        "stream": row.stream or None,
        "reason": row.reason,
        "note": row.note,
        "created_at": iso(row.created_at),
        "expires_at": None if row.expires_at is None else iso(row.expires_at),
    }
