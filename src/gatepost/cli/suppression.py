"""`gatepost suppression`: addresses that no mail goes to."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, iso
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import STREAMS
from gatepost.store import facts, suppressions

_STREAM = click.Choice(list(STREAMS))


@click.group(name="suppression")
def command() -> None:
    """Add, list and remove suppressed addresses."""


@command.command()
@click.argument("address")
@click.option("--reason", default="manual", show_default=True, help="Why; told to whoever sends there.")
@click.option("--note", default="", help="For yourself.")
@click.option("--stream", type=_STREAM, help="Only mail of this stream; default is all mail.")
@store_options
@json_option
@failing_clearly
def add(address: str, *, reason: str, note: str, stream: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Suppress an address: messages to it are refused from now on."""

    async def work(store: Opened) -> Row[Any]:
        row = {
            "tenant_id": store.tenant_id, "address": _key_of(address), "stream": stream or suppressions.EVERY_STREAM, "id": ids.new("sup"),
            "reason": reason, "note": note, "created_at": store.clock.now(), "expires_at": None,
        }  # fmt: skip
        return await store.engine.write(lambda conn: _put(conn, row))

    row = run_with_store(data, flags, work)
    if as_json:
        print_json(_as_json(row))
    else:
        click.echo(f"{row.address} is suppressed ({row.reason}).")


@command.command(name="list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@store_options
@json_option
@failing_clearly
def list_suppressions(*, limit: int, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List suppressed addresses, the newest first."""

    async def work(store: Opened) -> list[Row[Any]]:
        return await store.engine.read(lambda conn: suppressions.page(conn, store.tenant_id, limit))

    rows = run_with_store(data, flags, work)
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    told = [(row.address, row.stream or "all", row.reason, row.note, moment(row.created_at), moment(row.expires_at)) for row in rows]
    print_table(("address", "stream", "reason", "note", "since", "until"), told)


@command.command()
@click.argument("address")
@click.option("--stream", type=_STREAM, help="Only this stream's suppression; default is all of them.")
@store_options
@json_option
@failing_clearly
def remove(address: str, *, stream: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Lift the suppressions of an address."""

    async def work(store: Opened) -> int:
        key, now = _key_of(address), store.clock.now()
        return await store.engine.write(lambda conn: _lift(conn, store.tenant_id, key, stream, now))

    count = run_with_store(data, flags, work)
    if as_json:
        print_json({"address": _key_of(address), "removed": count})
    else:
        click.echo(f"{_key_of(address)} may get mail again.")


def _key_of(address: str) -> str:
    try:
        return parse_address(address).key
    except InvalidAddress as error:
        raise invalid(Fault("/address", "invalid_address", str(error))) from None


def _put(conn: Connection, row: dict[str, Any]) -> Row[Any]:
    if suppressions.put(conn, row):
        data = {"address": row["address"], "stream": row["stream"] or None, "reason": row["reason"]}
        facts.insert_events(conn, [_event(EventType.SUPPRESSION_ADDED, row["tenant_id"], row["created_at"], data)])
    found = suppressions.get(conn, row["tenant_id"], row["address"], row["stream"])
    assert found is not None
    return found


def _lift(conn: Connection, tenant_id: str, key: str, stream: str | None, now: Instant) -> int:
    count = suppressions.remove(conn, tenant_id, key, stream)
    if not count:
        raise Refused("not_found", f"{key} is not suppressed")
    facts.insert_events(conn, [_event(EventType.SUPPRESSION_REMOVED, tenant_id, now, {"address": key, "stream": stream})])
    return count


def _event(kind: EventType, tenant_id: str, now: Instant, data: dict[str, Any]) -> Event:
    return Event(id=ids.new("evt"), type=kind, tenant_id=tenant_id, at=now, data=data)


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
