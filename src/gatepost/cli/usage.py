"""`gatepost usage`: what was accepted, by day, tenant and route."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.tenants.metering import COLUMNS, Metering, as_csv, money, span_of


@click.group(name="usage")
def command() -> None:
    """Show what was accepted, and what it cost."""


@command.command()
@store_options
@tenant_option
@click.option("--from", "first", metavar="DAY", help="The first day, such as 2026-11-01; the default is the first of this month.")
@click.option("--to", "last", metavar="DAY", help="The last day; the default is today. Days are UTC.")
@click.option("--csv", "is_csv", is_flag=True, help="Print CSV.")
@json_option
@failing_clearly
def export(
    *, data: Path, flags: dict[str, Any], tenant: str | None, first: str | None, last: str | None, is_csv: bool, as_json: bool
) -> None:
    """Export usage of a tenant, or of all; the audit log tells of it."""

    async def work(store: Opened) -> list[Row[Any]]:
        span = span_of(first, last, store.clock.now(), ("--from", "--to"))
        return await Metering(store.engine, store.clock).export(span, store.tenant_id if store.is_tenant_named else None, store.actor)

    rows = run_with_store(data, flags, work, tenant)
    if is_csv:
        click.echo(as_csv(rows), nl=False)
    elif as_json:
        print_json([{**{name: getattr(row, name) for name in COLUMNS[:-1]}, "cost": money(row.cost_micros)} for row in rows])
    else:
        print_table(COLUMNS, [(*[getattr(row, name) for name in COLUMNS[:-1]], money(row.cost_micros)) for row in rows])
