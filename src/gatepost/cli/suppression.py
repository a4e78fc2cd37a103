"""`gatepost suppression`: addresses that no mail goes to."""

import sys
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.stream import DEFAULTS
from gatepost.store import streams, suppressions
from gatepost.tenants import suppression_files as files
from gatepost.tenants.suppressions import Suppression, Suppressions

_STREAM = click.STRING


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


@command.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="Default is what the file's name ends with, else csv.")
@tenant_option
@store_options
@json_option
@failing_clearly
def export_list(*, file: Path, form: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Write the suppression list to FILE, or to standard output."""
    kind = _kind(file, form)

    async def work(store: Opened) -> list[Row[Any]]:
        return await Suppressions(store.engine, store.clock).take_away(store.tenant_id, None, sys.maxsize, by=store.actor)

    rows = run_with_store(data, flags, work, tenant)
    with click.open_file(str(file), "w", encoding="utf-8", atomic=str(file) != "-") as out:
        out.write(files.heading(kind) + files.written(rows, kind))
    if as_json and str(file) != "-":
        print_json({"file": str(file), "exported": len(rows)})
    elif str(file) != "-":
        click.echo(f"{len(rows)} suppressions are in {file}.")


@command.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="Default is what the file's name ends with, else csv.")
@click.option("--reason", default="imported", show_default=True, help="Of lines that give none.")
@click.option("--skip-invalid", is_flag=True, help="Leave faulty lines out; else a faulty line refuses the file.")
@tenant_option
@store_options
@json_option
@failing_clearly
def import_list(
    *, file: Path, form: str | None, reason: str, skip_invalid: bool, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool
) -> None:
    """Add FILE to the suppression list: CSV with a heading, or JSON Lines; exports of other systems too."""
    with click.open_file(str(file), "rb") as source:
        content = source.read()

    async def work(store: Opened) -> dict[str, int]:
        known = {**DEFAULTS, **await store.engine.read(lambda conn: streams.of_tenant(conn, store.tenant_id))}
        try:
            read = files.read_list(content, _kind(file, form), known, reason)
        except files.NoList as error:
            raise Refused("malformed_request", str(error)) from None
        if read.faults and not skip_invalid:
            raise invalid(*read.faults)
        added = await Suppressions(store.engine, store.clock).add_in_parts(store.tenant_id, read.suppressions, by=store.actor)
        return {"added": added, "renewed": len(read.suppressions) - added, "skipped": read.faulty}

    told = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(told)
    else:
        click.echo(f"{told['added']} addresses are new, {told['renewed']} were suppressed already, {told['skipped']} lines were left out.")


def _kind(file: Path, form: str | None) -> str:
    is_lines = form == "jsonl" or (form is None and file.suffix in {".jsonl", ".ndjson"})
    return files.JSON_LINES if is_lines else files.CSV


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
        "source": row.source or None,
        "note": row.note,
        "created_at": iso(row.created_at),
        "expires_at": None if row.expires_at is None else iso(row.expires_at),
    }
