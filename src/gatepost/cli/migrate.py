"""`gatepost migrate`: the database's schema."""

import asyncio
from pathlib import Path
from typing import Any

import click

from gatepost.app.database import create_engine
from gatepost.cli.options import json_option, load, store_options
from gatepost.cli.output import failing_clearly, print_json
from gatepost.clock import SystemClock
from gatepost.store.opening import migrate, open_store


@click.command(name="migrate")
@store_options
@json_option
@failing_clearly
def command(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Bring the database's schema up to date; on an up-to-date one nothing changes."""
    before, after = asyncio.run(_migrate(data, flags))
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        click.echo(f"The schema is up to date ({after}).")
    else:
        click.echo(f"The schema is now {after} (was {before or 'empty'}).")


async def _migrate(data: Path, flags: dict[str, Any]) -> tuple[str | None, str]:
    engine = create_engine(load(data, flags))
    try:
        revisions = await engine.write(migrate)
        await open_store(engine, SystemClock())
        return revisions
    finally:
        await engine.close()
