"""`gatepost unusual`: rates that left their own history, and when they came back."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.unusual import UnusualChange
from gatepost.store import unusual


@click.group(name="unusual")
def command() -> None:
    """List rates that left their own history."""


@command.command(name="list")
@click.option("--all", "is_all", is_flag=True, help="Also those that are over.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000))
@tenant_option
@store_options
@json_option
@failing_clearly
def list_unusual(*, is_all: bool, limit: int, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List what is unusual, the newest first."""

    async def work(store: Opened) -> list[UnusualChange]:
        is_open = None if is_all else True
        return await store.engine.read(lambda conn: unusual.page(conn, store.tenant_id, limit, is_open=is_open))

    found = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    if not found:
        click.echo("Nothing is unusual.")
        return
    rows = [
        (one.metric, f"{one.scope} {one.name}".strip(), moment(one.opened_at), moment(one.closed_at) or "it lasts", one.detail, one.advice)
        for one in found
    ]  # fmt: skip
    print_table(("what", "where", "since", "until", "seen", "what to do"), rows)


def _as_json(one: UnusualChange) -> dict[str, Any]:
    return {
        "id": one.id, "metric": one.metric, "scope": one.scope, "name": one.name, "span": one.span, "opened_at": iso(one.opened_at),
        "seen_at": iso(one.seen_at), "closed_at": None if one.closed_at is None else iso(one.closed_at), "expected": one.expected,
        "seen": one.seen, "recipients": one.part, "of": one.whole, "detail": one.detail, "advice": one.advice,
    }  # fmt: skip
